"""`stavis evaluate`: scores of predictions as the published protocol defines them, and comparison of evaluations."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stavis.cli import options as shared
from stavis.errors import StavisError, counted

if TYPE_CHECKING:
    from stavis.evaluation.baselines import Baseline
    from stavis.evaluation.summary import Evaluation


def evaluate(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="With --compare: folders of evaluations, the reference first.", metavar="FOLDER"),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Data folder in the published layout.")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            "-p",
            help="Folder of maps: the published layout, or numbered images, an .npz or a video file per video.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of this evaluation.")] = None,
    databases: Annotated[
        list[str] | None,
        typer.Option(help="Databases; repeat, or use commas. Default: all with predictions."),
    ] = None,
    split: shared.SplitOption = "all",
    protocol: Annotated[
        Literal["stavis", "cross-video", "tuebingen", "challenge", "dhf1k", "msu"],
        typer.Option(
            help="Published layout, by the negatives of the shuffled AUC: stavis: other frames of the video; "
            "cross-video: other videos; tuebingen: other videos, exact ROC. Other layouts: challenge (AIM 2024, "
            "NTIRE 2026, CrowdSAL), dhf1k, msu (MSU benchmark)."
        ),
    ] = "stavis",
    quirks: Annotated[
        Literal["reference", "fixed"] | None,
        typer.Option(
            help="reference: as the published code does; fixed: as it is meant to (docs/protocols.md). Default: "
            "reference in the published layout, else fixed."
        ),
    ] = None,
    first_frame: Annotated[
        int | None,
        typer.Option(min=1, help="First scored frame, from 1. Default: 9 in the published layout, else 1."),
    ] = None,
    stride: Annotated[int, typer.Option(min=1, help="Score only every N-th frame, from the first on.")] = 1,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="Also score center, uniform, train-mean, shuffled or inter-observer on all frames; repeat, or use "
            "commas."
        ),
    ] = None,
    references: Annotated[
        bool,
        typer.Option(
            help="Score the center prior, another video's density and, where observers are known, inter-observer "
            "beside the predictions, on some frames of each video."
        ),
    ] = True,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out videos without maps; the tables say so.")
    ] = False,
    jobs: shared.JobsOption = None,
    shard: Annotated[
        str | None, typer.Option(help="i/n: score only the i-th of n shares of the videos; then use --merge.")
    ] = None,
    ray: shared.RayOption = None,
    merge: Annotated[bool, typer.Option("--merge", help="Only average what the shares have scored.")] = False,
    frame_format: Annotated[
        Literal["csv", "parquet"],
        typer.Option("--format", help="parquet: write frames.parquet in addition to frames.csv."),
    ] = "csv",
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html.")] = True,
    compare: Annotated[bool, typer.Option("--compare", help="Compare evaluations A B ...")] = False,
    overwrite: shared.OverwriteOption = False,
    quiet: shared.QuietOption = False,
) -> None:
    """Score saliency maps of the test videos frame by frame, as the published MATLAB code does.

    Writes scores.json, tables (Markdown, LaTeX), frames.csv, videos.csv and report.html to OUTPUT. When repeated, it
    resumes with the videos that are not finished.

    stavis evaluate --compare A B reports how B's scores differ from A's, with confidence intervals.
    """
    if compare:
        _compare(folders or [], output, quiet)
        return
    if folders:
        raise StavisError(f"{folders[0]}: folders are allowed only with --compare")
    if data is None or output is None:
        raise StavisError("--data and --output are needed; --compare A B needs neither")
    baselines = _parse_baselines(baseline)
    if predictions is None and not baselines:
        raise StavisError("nothing to score: give --predictions, --baseline or both")
    if ray is not None and (merge or shard):
        raise StavisError("--ray does all shares and averages them; leave out --shard and --merge")
    if merge and shard:
        raise StavisError("--shard and --merge are two steps; give one of them")

    # Videos are distributed to processes; threads of each would only compete. Before numpy is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    from stavis.datasets.fold_lists import parse_share
    from stavis.evaluation.evaluate import Options, evaluate_share
    from stavis.evaluation.evaluate import evaluate as score

    options = Options(
        databases=shared.split_names(databases),
        split=shared.split_number(split),
        protocol=protocol,
        quirks=quirks,
        first_frame=None if first_frame is None else first_frame - 1,
        stride=stride,
        baselines=baselines,
        references=references,
        allow_missing=allow_missing,
        overwrite=overwrite,
    )
    if shard:
        with shared.checked():
            share = parse_share(shard)
        num = evaluate_share(share, predictions, data, output, jobs=jobs, quiet=quiet, **options)
        if not quiet:
            typer.echo(
                f"share {share[0]} of {share[1]}: {counted(num, 'videos')} scored, the others were finished; when all "
                "shares are, run the command with --merge instead of --shard",
                err=True,
            )
        return
    evaluation = score(
        predictions,
        data,
        output,
        merge=merge,
        ray=ray,
        parquet=frame_format == "parquet",
        report=report,
        jobs=jobs,
        quiet=quiet,
        **options,
    )
    if quiet:
        for database, group in evaluation.databases.get("predictions", {}).items():
            for note in group.notes:
                typer.echo(f"{database}: {note}", err=True)
    else:
        _show(output, evaluation, report)


def _show(output: Path, evaluation: "Evaluation", report: bool) -> None:
    from stavis.evaluation import tables

    rows = tables.score_rows(evaluation)
    console = shared.table_console(120)
    console.print(tables.terminal_table(rows, tables.ordered_metrics(evaluation.metrics), console.width))
    if categories := tables.category_rows(evaluation):
        metrics = tables.ordered_metrics(evaluation.metrics)
        console.print(tables.terminal_table(categories, metrics, console.width, "category"))
    for line in tables.remark_lines(rows):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for database in evaluation.skipped_databases:
        typer.echo(f"{database}: no predictions, left out", err=True)
    typer.echo(f"{output / ('report.html' if report else 'scores.json')}", err=True)


def _parse_baselines(texts: list[str] | None) -> list["Baseline"]:
    from stavis.evaluation.baselines import BASELINES

    names = shared.split_names(texts) or []
    for name in names:
        if name not in BASELINES:
            raise StavisError(f"unknown baseline {name!r}; allowed: {', '.join(BASELINES)}")
    return [baseline for baseline in BASELINES if baseline in names]


def _compare(folders: list[Path], output: Path | None, quiet: bool) -> None:
    from stavis.evaluation.compare import (
        LEGEND,
        compare_all,
        database_table,
        read_evaluation,
        video_table,
        write_comparison,
    )

    if len(folders) < 2:
        raise StavisError("--compare needs two folders of evaluations or more: stavis evaluate --compare A B")
    comparisons = compare_all([read_evaluation(folder) for folder in folders])
    if output is not None:
        write_comparison(output, comparisons)
    if quiet:
        return
    console = shared.table_console(240)
    for comparison in comparisons:
        console.print(video_table(comparison))
    console.print(database_table(comparisons))
    console.print(LEGEND, markup=False, highlight=False, soft_wrap=True)
    for comparison in comparisons:
        if comparison.only_in_one:
            num = len(comparison.only_in_one)
            typer.echo(
                f"{comparison.after.folder}: {counted(num, 'videos')} in only one of the two, left out",
                err=True,
            )
