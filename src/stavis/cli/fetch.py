"""`stavis fetch`: the published data and weights, and picture sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stavis.cli import options as shared
from stavis.errors import counted

if TYPE_CHECKING:
    from stavis.fetching.state import FetchedPart


def fetch(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PART",
            help="What to fetch: datasets (the video frames), annotations (density maps and fixations), audio (WAV "
            "files), lists (which video is in which split), weights (published checkpoints); all five by default. "
            "pictures: picture sets with gaze, from GitHub.",
        ),
    ] = None,
    databases: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Only these of AVAD, Coutrot_db1, Coutrot_db2, DIEM, ETMD_av, SumMe, and for pictures of osie, "
            "eyecrowd, scene500; comma-separated, or with the option repeated.",
        ),
    ] = None,
    data: Annotated[Path, typer.Option(metavar="DIR", help="Data folder to fetch into.")] = Path("data"),
    base_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Another site with the same paths as the original ones.",
            show_default="http://cvsp.cs.ntua.gr/research/stavis, https://github.com",
        ),
    ] = None,
    archives: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Unpack archives that are in DIR already (DIR/video_frames/AVAD.tar.gz), without any network.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be fetched, with sizes, and write nothing.")
    ] = False,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Keep downloaded archives, in DIR/.stavis-fetch/archives.")
    ] = False,
    accept_changed: Annotated[
        bool,
        typer.Option(
            "--accept-changed", help="Accept an archive whose content is not what was fetched before."
        ),
    ] = False,
    retries: Annotated[int, typer.Option(min=0, hidden=True)] = 5,
    timeout: Annotated[float, typer.Option(min=0.001, hidden=True)] = 30.0,
    quiet: shared.QuietOption = False,
) -> None:
    """Download and unpack the published videos, annotations and weights.

    An interrupted command resumes when it is run again, and what is there already is not fetched twice. The archives
    are large; --dry-run reports how large.
    """
    from stavis.fetching.fetch import fetch as fetch_parts

    chosen = shared.split_names(databases) or []
    if chosen and parts and not {"datasets", "annotations", "audio", "pictures"} & set(parts) and not quiet:
        typer.echo(f"stavis: note: --databases does not matter for {' and '.join(parts)}", err=True)
    fetched = fetch_parts(
        parts or [],
        databases=chosen,
        data=data,
        base_url=base_url,
        archives=archives,
        keep_archives=keep_archives,
        accept_changed=accept_changed,
        dry_run=dry_run,
        retries=retries,
        timeout_seconds=timeout,
        quiet=quiet,
    )
    if dry_run:
        _print_plan(fetched, data)
    elif not quiet:
        num_new = sum(part.status == "fetched" for part in fetched)
        typer.echo(
            f"{counted(len(fetched), 'parts')} in {data}: {num_new} fetched, {len(fetched) - num_new} there already"
        )


def _print_plan(planned: "list[FetchedPart]", data: Path) -> None:
    from rich.filesize import decimal

    states = {
        "foreign": "there already, put there by other means; would be left as it is",
        "unpacked": "unpacked by an interrupted call; would be moved into place",
    }
    missing = [one for one in planned if one.status == "missing"]
    for one in planned:
        text = states.get(one.status, f"there already, from {one.source}")
        if one in missing:
            size = "size unknown" if one.num_archive_bytes is None else decimal(one.num_archive_bytes)
            here = f", {decimal(one.num_pending_bytes)} of it here" if one.num_pending_bytes else ""
            text = f"{one.problem or one.source}, {size}{here}"
        typer.echo(f"{one.part.name}: {text}")
    num_unknown = sum(one.num_archive_bytes is None for one in missing)
    unknown = f" and {counted(num_unknown, 'archives')} of unknown size" if num_unknown else ""
    total = decimal(sum(one.num_archive_bytes or 0 for one in missing))
    typer.echo(f"{len(missing)} of {counted(len(planned), 'parts')} to fetch into {data}: {total}{unknown}")
