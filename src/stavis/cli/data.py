"""`stavis data`: check a data folder, and make its frame cache."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from stavis.datasets.check import DataReport, ListSummary

SHOWN_PROBLEMS = 20  # of a kind

data = typer.Typer(
    name="data",
    help="Check a data folder; cache its frames for training.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


DataFolder = Annotated[
    Path, typer.Argument(metavar="DATA", help="Data folder in the published layout (docs/data.md).")
]
Databases = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="Only these databases; several with commas or by giving the option again. All that have fold lists by"
        " default.",
        show_default=False,
    ),
]
Split = Annotated[
    int | None,
    typer.Option(min=1, help="Only the lists of this split. All splits by default.", show_default=False),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="Processes. As many as there are processors by default.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


@data.command()
def check(
    folder: DataFolder,
    databases: Databases = None,
    split: Split = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Open every file: finds broken ones, compares sizes and lengths.")
    ] = False,
    maps: Annotated[
        bool, typer.Option("--maps/--no-maps", help="Whether density and fixation maps are needed.")
    ] = True,
    audio: Annotated[bool, typer.Option("--audio/--no-audio", help="Whether waves are needed.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    jobs: Jobs = None,
    quiet: Quiet = False,
) -> None:
    """Compare what the fold lists name with what is there.

    Exits with status 1 if anything is missing, or, with --deep, unreadable. Remarks (a video in the train and the test
    list of a split, videos in no list, surplus files) do not count.
    """
    from stavis.datasets.check import check_data

    report = check_data(
        folder,
        databases=_split_names(databases),
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
    folder: DataFolder,
    databases: Databases = None,
    split: Split = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where the cache lies. DATA/frame_cache by default.", show_default=False
        ),
    ] = None,
    maps: Annotated[
        bool, typer.Option("--maps/--no-maps", help="Density and fixation maps, too; training needs them.")
    ] = True,
    audio: Annotated[bool, typer.Option("--audio/--no-audio", help="Sound, too.")] = True,
    quirks: Annotated[
        Literal["fixed", "reference"],
        typer.Option(help="For which kind of run: see docs/reproduction.md. Changes the sound alone."),
    ] = "fixed",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Cache what is there and list what is not.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell the size and write nothing.")] = False,
    jobs: Jobs = None,
    quiet: Quiet = False,
) -> None:
    """Decode frames, maps and sound once, at the network's size, for training.

    Training reads them in a fraction of the time. Interrupted, the command goes on from there when it is run again;
    what is cached already is made anew only where a source file has changed.
    """
    from stavis.clips.preprocess import Preprocessing
    from stavis.datasets.cache import FrameCache, default_cache_folder, plan_cache, summarize
    from stavis.datasets.check import count_more
    from stavis.datasets.layout import Layout
    from stavis.datasets.quirks import Quirks
    from stavis.errors import StavisError

    target = default_cache_folder(folder) if cache is None else cache
    frame_cache = FrameCache(target, Layout(folder), Preprocessing(), Quirks.named(quirks))
    files, problems = plan_cache(
        frame_cache, databases=_split_names(databases), split=split, maps=maps, audio=audio
    )
    for problem in problems if allow_missing else []:
        typer.echo(f"stavis: warning: {problem.message}", err=True)
    if problems and not allow_missing:
        raise StavisError(
            f"{problems[0].message}{count_more(len(problems))} (`stavis data check {folder}` lists all; "
            "--allow-missing goes on without)"
        )
    missing = frame_cache.missing(files)
    if dry_run:
        typer.echo(f"{target}: {summarize(missing)} to cache, of {summarize(files)}")
        return
    frame_cache.build(missing, jobs=jobs, quiet=quiet)
    if not quiet:
        typer.echo(f"{target}: complete, {summarize(files)}")


def _split_names(databases: list[str] | None) -> list[str] | None:
    if databases is None:
        return None
    return [name.strip() for text in databases for name in text.split(",") if name.strip()]


def _print_report(report: "DataReport", *, deep: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("database")
    table.add_column("split", justify="right")
    table.add_column("list")
    for name in ("videos", "waves", "frames", "density maps", "fixation maps"):
        table.add_column(name, justify="right")
    for summary in report.lists:
        table.add_row(*_row(summary))
    console = Console()
    # In a pipe a table has the width that it needs.
    Console(width=None if console.is_terminal else 120, highlight=False).print(table)

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


def _row(summary: "ListSummary") -> list[str]:
    frames = summary.num_listed_frames
    cells = [summary.database, "all" if summary.split is None else str(summary.split), summary.subset]
    cells.append(f"{summary.num_videos}")
    cells.append(_share(summary.num_waves, summary.num_videos))
    cells += [
        _share(num, frames)
        for num in (summary.num_frames, summary.num_density_maps, summary.num_fixation_maps)
    ]
    return cells


def _share(num: int, total: int) -> str:
    """What is there of what should be, the latter told where they differ."""
    return f"{num}" if num == total else f"[bold red]{num} of {total}[/]"
