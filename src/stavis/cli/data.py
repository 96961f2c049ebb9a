"""`stavis data`: checks a data folder and makes its frame cache."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stavis.cli import options as shared

if TYPE_CHECKING:
    from stavis.datasets.check import DataReport

SHOWN_PROBLEMS = 20  # of a kind

data = typer.Typer(
    name="data",
    help="Check a data folder; cache its frames for training.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


SplitOption = Annotated[int | None, typer.Option(min=1, help="Only this split's lists. Default: all splits.")]


@data.command()
def check(
    folder: shared.DataArgument,
    databases: shared.DatabasesOption = None,
    split: SplitOption = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Open every file: find broken ones, compare sizes and lengths.")
    ] = False,
    maps: Annotated[bool, typer.Option("--maps/--no-maps", help="Whether maps are needed.")] = True,
    audio: Annotated[bool, typer.Option("--audio/--no-audio", help="Whether WAV files are needed.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    jobs: shared.JobsOption = None,
    quiet: shared.QuietOption = False,
) -> None:
    """Compare what the fold lists name with what is there.

    The exit status is 1 if anything is missing or, with --deep, unreadable. Remarks (a video in the train and in the
    test list of a split, videos in no list, surplus files) do not count.
    """
    from stavis.datasets.check import check_data

    report = check_data(
        folder,
        databases=shared.split_names(databases),
        split=split,
        annotations=maps,
        audio=audio,
        deep=deep,
        jobs=jobs,
        quiet=quiet or json,
    )
    if json:
        import json as json_format

        typer.echo(json_format.dumps(report.to_json(), indent=1))
    else:
        _print_report(report, deep=deep)
    if not report.complete:
        raise typer.Exit(1)


@data.command()
def cache(
    folder: shared.DataArgument,
    databases: shared.DatabasesOption = None,
    split: SplitOption = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Cache folder. Default: DATA/frame_cache.")
    ] = None,
    maps: Annotated[
        bool,
        typer.Option("--maps/--no-maps", help="Cache density and fixation maps, too; training needs them."),
    ] = True,
    audio: Annotated[bool, typer.Option("--audio/--no-audio", help="Cache the audio, too.")] = True,
    quirks: shared.QuirksOption = "fixed",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Cache what is there, and list what is not.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report the size and write nothing.")] = False,
    jobs: shared.JobsOption = None,
    quiet: shared.QuietOption = False,
) -> None:
    """Decode frames, maps and audio once, at the network's input size, for training.

    Training reads them in a fraction of the time. An interrupted command resumes when it is run again, and files of the
    cache are only made again where a source file has changed.
    """
    from stavis.datasets.cache import cache_data, summarize

    result = cache_data(
        folder,
        databases=shared.split_names(databases),
        split=split,
        cache=cache,
        annotations=maps,
        audio=audio,
        quirks=quirks,
        allow_missing=allow_missing,
        dry_run=dry_run,
        jobs=jobs,
        quiet=quiet,
    )
    for problem in result.problems:
        typer.echo(f"stavis: warning: {problem.message}", err=True)
    if dry_run:
        typer.echo(f"{result.folder}: {summarize(result.missing)} to cache, of {summarize(result.files)}")
    elif not quiet:
        typer.echo(f"{result.folder}: complete, {summarize(result.files)}")


def _print_report(report: "DataReport", *, deep: bool) -> None:
    from stavis.runtime.progress import text_table

    right = ("videos", "waves", "frames", "density maps", "fixation maps")
    table = text_table("database", "split", "list", right=right, pad_edge=True)
    table.columns[1].justify = "right"
    for one in report.lists:
        of_frames = (one.num_frames, one.num_density_maps, one.num_fixation_maps)
        table.add_row(
            *(one.database, "all" if one.split is None else str(one.split), one.subset, f"{one.num_videos}"),
            _share(one.num_waves, one.num_videos),
            *(_share(num, one.num_listed_frames) for num in of_frames),
        )
    shared.table_console(120).print(table)

    shown: dict[str, int] = {}
    for problem in report.problems:
        shown[problem.kind] = shown.get(problem.kind, 0) + 1
        if shown[problem.kind] <= SHOWN_PROBLEMS:
            typer.echo(f"{'error' if problem.is_error else 'remark'}: {problem.message}")
    for kind, num in shown.items():
        if num > SHOWN_PROBLEMS:
            typer.echo(f"and {num - SHOWN_PROBLEMS} more of kind '{kind}'; --json lists all")
    opened = "every file was opened" if deep else "no file was opened; --deep does that"
    verdict = "nothing is missing" if report.complete else "not complete"
    typer.echo(f"{report.data_folder}: {verdict} ({opened})")


def _share(num: int, total: int) -> str:
    """What is there, "of" what should be where they differ."""
    return f"{num}" if num == total else f"[bold red]{num} of {total}[/]"
