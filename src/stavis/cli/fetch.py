"""`stavis fetch`: the published data and weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stavis.fetching.fetch import PlannedPart


def fetch(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PART",
            help="What to fetch: datasets (the video frames), annotations (density maps and fixations), audio (waves),"
            " lists (which video is in which split), weights (published checkpoints). All five if none is named.",
            show_default=False,
        ),
    ] = None,
    databases: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Only these of AVAD, Coutrot_db1, Coutrot_db2, DIEM, ETMD_av, SumMe; several with commas or by"
            " giving the option again.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the published layout to fetch into.")
    ] = Path("data"),
    base_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Site to fetch from; archives are below URL/data.",
            show_default="http://cvsp.cs.ntua.gr/research/stavis",
        ),
    ] = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Another site of the same layout for what the first one does not give; may be given again.",
            show_default=False,
        ),
    ] = None,
    archives: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Unpack archives that are in DIR already, in the site's layout (DIR/video_frames/AVAD.tar.gz),"
            " and use no network.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be fetched, with sizes, and write nothing.")
    ] = False,
    keep_archives: Annotated[
        bool,
        typer.Option("--keep-archives", help="Keep downloaded archives, in DIR/.stavis-fetch/archives."),
    ] = False,
    accept_changed: Annotated[
        bool,
        typer.Option(
            "--accept-changed",
            help="Take an archive that is not the one which was fetched before (by its SHA-256).",
        ),
    ] = False,
    retries: Annotated[
        int, typer.Option(min=0, help="Further attempts in a row before a URL is given up.")
    ] = 5,
    retry_wait: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.0, help="Pause before the first retry; doubles each time."),
    ] = 1.0,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.001, help="Silence after which a connection counts as broken."),
    ] = 30.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Download and unpack the published videos, annotations and weights.

    A command that was interrupted goes on from there when it is run again; what is there already is not fetched twice.
    The archives are large; --dry-run tells how large.
    """
    from stavis.fetching import fetch as fetching
    from stavis.fetching.download import RetryPolicy
    from stavis.fetching.site import SITE

    patience = RetryPolicy(retries=retries, wait_seconds=retry_wait, timeout_seconds=timeout)
    names = parts or []
    chosen = [name for text in databases or [] for name in text.split(",") if name]
    if chosen and names and not {"datasets", "annotations", "audio"} & set(names) and not quiet:
        typer.echo(f"stavis: note: --databases does not matter for {' and '.join(names)}", err=True)
    site = SITE if base_url is None else base_url
    if dry_run:
        planned = fetching.plan(
            names,
            chosen,
            data,
            base_url=site,
            mirrors=mirror or (),
            archives_folder=archives,
            timeout_seconds=timeout,
        )
        _print_plan(planned, data)
        return
    fetched = fetching.fetch(
        names,
        chosen,
        data,
        base_url=site,
        mirrors=mirror or (),
        archives_folder=archives,
        keep_archives=keep_archives,
        accept_changed=accept_changed,
        patience=patience,
        quiet=quiet,
    )
    if not quiet:
        num_new = sum(part.is_new for part in fetched)
        typer.echo(
            f"{len(fetched)} parts in {data}: {num_new} fetched, {len(fetched) - num_new} there already"
        )


def _print_plan(planned: "list[PlannedPart]", data: Path) -> None:
    from rich.filesize import decimal

    for one in planned:
        if one.status == "missing":
            size = "size unknown" if one.num_bytes is None else decimal(one.num_bytes)
            here = f", {decimal(one.num_pending_bytes)} of it here" if one.num_pending_bytes else ""
            source = one.source if one.problem is None else one.problem
            typer.echo(f"{one.part.name}: {source}, {size}{here}")
        elif one.status == "foreign":
            typer.echo(f"{one.part.name}: there already, put there by other means; would be left as it is")
        elif one.status == "unpacked":
            typer.echo(f"{one.part.name}: unpacked by an interrupted call; would be moved into place")
        else:
            typer.echo(f"{one.part.name}: there already, from {one.source}")
    missing = [one for one in planned if one.status == "missing"]
    total = sum(one.num_bytes or 0 for one in missing)
    num_unknown = sum(one.num_bytes is None for one in missing)
    unknown = f" and {num_unknown} archives of unknown size" if num_unknown else ""
    typer.echo(f"{len(missing)} of {len(planned)} parts to fetch into {data}: {decimal(total)}{unknown}")
