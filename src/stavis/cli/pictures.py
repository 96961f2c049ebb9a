"""`stavis prepare-pictures`: picture sets with gaze from their original repositories."""

from pathlib import Path
from typing import Annotated

import typer

from stavis.cli import options as shared


def prepare_pictures(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Copies of the repositories of OSIE, EyeCrowd or Scene500, as `stavis fetch pictures` unpacks them.",
            metavar="FOLDER",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for pictures/ and fixations.npz; sets are added to it."),
    ],
    longest_side: Annotated[
        int, typer.Option(min=1, help="Reduce pictures to this longest side, in pixels.")
    ] = 320,
    quiet: shared.QuietOption = False,
) -> None:
    """Import picture sets with gaze, as used to train the default weights.

    Example: stavis prepare-pictures data/picture_sets/osie data/picture_sets/eyecrowd -o pictures
    """
    from stavis.preparation.pictures import prepare_pictures as import_sets

    for imported in import_sets(folders, output, longest_side=longest_side, quiet=quiet):
        if not quiet:
            typer.echo(str(imported))
