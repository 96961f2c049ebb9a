"""`stavis evaluate`: scores of predictions as the published protocol gives them, and their comparison."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stavis.cli.predict import QuirkRule
from stavis.cli.test import SplitChoice

if TYPE_CHECKING:
    from stavis.evaluation.baselines import Baseline
    from stavis.evaluation.summary import Summary


class ProtocolChoice(StrEnum):
    STAVIS = "stavis"
    CROSS_VIDEO = "cross-video"
    TUEBINGEN = "tuebingen"


class FrameFormat(StrEnum):
    CSV = "csv"
    PARQUET = "parquet"


def evaluate(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            help="With --compare: folders of evaluations, the one to compare with first.", metavar="FOLDER"
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Data folder in the published layout.")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            "-p",
            help="Folder of maps: the published layout, or numbered images, an .npz or a video for each video.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of this evaluation.")] = None,
    databases: Annotated[
        list[str] | None,
        typer.Option(
            help="Which; give it several times, or names with commas. All that have predictions by default."
        ),
    ] = None,
    split: Annotated[SplitChoice, typer.Option(help="Which split's test videos.")] = SplitChoice.ALL,
    protocol: Annotated[
        ProtocolChoice,
        typer.Option(
            help="Negatives of the shuffled AUC: stavis: other frames of the video. cross-video: other videos. "
            "tuebingen: other videos, exact ROC."
        ),
    ] = ProtocolChoice.STAVIS,
    quirks: Annotated[
        QuirkRule,
        typer.Option(
            help="Which pixels of a frame are not its negatives. reference: those that equal 1, as published. "
            "fixed: all that are fixated."
        ),
    ] = QuirkRule.REFERENCE,
    first_frame: Annotated[
        int,
        typer.Option(min=1, help="The first frame that is scored, from 1. The published ones begin with 9."),
    ] = 9,
    stride: Annotated[
        int,
        typer.Option(min=1, help="Score every N-th frame only, from the first on; also of the baselines."),
    ] = 1,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="Also score center, uniform, train-mean or inter-observer; several times, or with commas."
        ),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out videos without maps; said in the tables.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Processes. One a processor by default.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="i/n: score the i-th of n shares of the videos only; then --merge.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Only average what the shares have scored.")] = False,
    frame_format: Annotated[
        FrameFormat, typer.Option("--format", help="parquet: write frames.parquet beside frames.csv.")
    ] = FrameFormat.CSV,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html.")] = True,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare the evaluations in A B ... instead of making one.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Score anew what is finished.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress and no table; errors only.")
    ] = False,
) -> None:
    """Score saliency maps of the test videos, frame by frame, as the published MATLAB code does.

    Writes scores.json, tables (Markdown, LaTeX), frames.csv, videos.csv and report.html to OUTPUT. Run again, it goes
    on with the videos that are not finished.

    stavis evaluate --compare A B shows how B's scores differ from A's, with intervals.
    """
    from stavis.errors import StavisError

    if compare:
        _compare(folders or [], output, quiet)
        return
    if folders:
        raise StavisError(f"{folders[0]}: folders are given with --compare only")
    if data is None or output is None:
        raise StavisError("--data and --output are needed; --compare A B needs neither")

    # Videos are spread over processes; threads of each would only wait for one another. Before numpy is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    from stavis.evaluation.evaluate import run
    from stavis.evaluation.plan import EvaluationSettings, make_plan
    from stavis.evaluation.record import claim
    from stavis.evaluation.summary import summarize, write_summary
    from stavis.evaluation.tables import write_tables
    from stavis.runtime.workers import default_jobs

    settings = EvaluationSettings(protocol.value, quirks.value, first_frame - 1, stride)
    share = _parse_shard(shard)
    if merge and shard:
        raise StavisError("--shard and --merge are two steps; give one of them")
    plan = make_plan(
        data,
        predictions,
        output,
        settings,
        databases=_split_names(databases),
        split=None if split is SplitChoice.ALL else int(split.value),
        baselines=_parse_baselines(baseline),
        allow_missing=allow_missing,
    )
    record = claim(output, data, predictions, settings, overwrite=overwrite)
    if not merge:
        num_scored = run(plan, jobs=jobs or default_jobs(), shard=share, overwrite=overwrite, quiet=quiet)
        if share[1] > 1:
            if not quiet:
                typer.echo(
                    f"share {share[0]} of {share[1]}: {num_scored} videos scored, the others were finished; when all "
                    "shares are, run the command with --merge instead of --shard",
                    err=True,
                )
            return
    summary = summarize(plan, record)
    write_summary(output, summary, parquet=frame_format is FrameFormat.PARQUET)
    write_tables(output, summary)
    if report:
        from stavis.evaluation.report import write_report

        write_report(output / "report.html", summary, data)
    if not quiet:
        _show(output, summary, report)


def _show(output: Path, summary: "Summary", report: bool) -> None:
    from rich.console import Console

    from stavis.evaluation.tables import remark_lines, score_rows, terminal_table

    rows = score_rows(summary)
    console = Console()
    # A table cut to a narrow pipe would lose digits.
    if not console.is_terminal:
        console = Console(width=120)
    console.print(terminal_table(rows, console.width))
    for line in remark_lines(rows):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for database in summary.skipped_databases:
        typer.echo(f"{database}: no predictions, left out", err=True)
    typer.echo(f"{output / ('report.html' if report else 'scores.json')}", err=True)


def _split_names(texts: list[str] | None) -> list[str] | None:
    return [name.strip() for text in texts for name in text.split(",") if name.strip()] if texts else None


def _parse_baselines(texts: list[str] | None) -> list["Baseline"]:
    from stavis.errors import StavisError
    from stavis.evaluation.baselines import BASELINES

    names = _split_names(texts) or []
    for name in names:
        if name not in BASELINES:
            raise StavisError(f"unknown baseline {name!r}; allowed: {', '.join(BASELINES)}")
    return [baseline for baseline in BASELINES if baseline in names]


def _parse_shard(text: str | None) -> tuple[int, int]:
    from stavis.errors import StavisError

    if text is None:
        return 1, 1
    number, _, total = text.partition("/")
    if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise StavisError(f"--shard is {text!r}; i/n is allowed, with i from 1 to n: 2/8")
    return int(number), int(total)


def _compare(folders: list[Path], output: Path | None, quiet: bool) -> None:
    from rich.console import Console

    from stavis.errors import StavisError
    from stavis.evaluation.compare import (
        LEGEND,
        compare,
        database_table,
        read_evaluation,
        video_table,
        write_comparison,
    )

    if len(folders) < 2:
        raise StavisError("--compare needs two folders of evaluations or more: stavis evaluate --compare A B")
    first, *others = [read_evaluation(folder) for folder in folders]
    comparisons = [compare(first, other) for other in others]
    if output is not None:
        write_comparison(output, comparisons)
    if quiet:
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=240)
    for comparison in comparisons:
        console.print(video_table(comparison))
    console.print(database_table(comparisons))
    console.print(LEGEND, markup=False, highlight=False, soft_wrap=True)
    for comparison in comparisons:
        if comparison.only_in_one:
            num = len(comparison.only_in_one)
            typer.echo(
                f"{comparison.after.folder}: {num} videos are in one of the two only, left out", err=True
            )
