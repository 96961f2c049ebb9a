"""`stavis submit`: checked submissions to challenges."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from stavis.cli import options as shared
from stavis.errors import counted


def submit(
    kind: Annotated[
        Literal["challenge", "dhf1k"],
        typer.Argument(
            help="challenge: AIM 2024, NTIRE 2026, CrowdSAL. dhf1k: DHF1K.", metavar="challenge|dhf1k"
        ),
    ],
    predictions: Annotated[Path, typer.Option("--predictions", "-p", help="Folder of predictions.")],
    data: Annotated[Path, typer.Option("--data", help="Folder of the test set.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="ZIP file to write.")],
    quiet: shared.QuietOption = False,
) -> None:
    """Check the predictions of a test set and write them as a submission.

    Every video and frame must have a gray map that is not constant. If anything is wrong, all problems are listed,
    nothing is written, and the exit status is 1.
    """
    from stavis.evaluation.submission import make_submission

    submission = make_submission(kind, predictions, data, output, quiet=quiet)
    for problem in submission.problems:
        typer.echo(problem, err=True)
    if submission.output is None:
        typer.echo(f"{counted(len(submission.problems), 'problems')}; nothing written", err=True)
        raise typer.Exit(1)
    if not quiet:
        typer.echo(
            f"{submission.output}: {counted(submission.num_videos, 'videos')}, "
            f"{counted(submission.num_frames, 'maps')}",
            err=True,
        )
