"""`stavis synth`: a generated audiovisual benchmark with known ground truth."""

from pathlib import Path
from typing import Annotated

import typer

from stavis.cli.options import JobsOption, QuietOption

_WORLD = "The world"
_VIDEOS = "The videos"


def synth(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Data folder, in the published layout.")],
    videos: Annotated[int, typer.Option(help="Videos per database.", rich_help_panel=_VIDEOS)] = 20,
    seconds: Annotated[
        float, typer.Option(help="Duration of a video in seconds.", rich_help_panel=_VIDEOS)
    ] = 8.0,
    size: Annotated[
        str, typer.Option(metavar="WxH", help="Frame size in pixels.", rich_help_panel=_VIDEOS)
    ] = "320x240",
    frame_rate: Annotated[float, typer.Option(help="Frames per second.", rich_help_panel=_VIDEOS)] = 25.0,
    seed: Annotated[
        int, typer.Option(help="Random seed. Equal seeds give equal bytes.", rich_help_panel=_VIDEOS)
    ] = 0,
    database: Annotated[
        str,
        typer.Option(
            help="Names of the databases to make, separated by commas, or 'all' for the published six.",
            rich_help_panel=_VIDEOS,
        ),
    ] = "DIEM",
    test_share: Annotated[
        float,
        typer.Option(
            help="Share of the videos in the test list of each split, up to 1/3.", rich_help_panel=_VIDEOS
        ),
    ] = 0.2,
    preset: Annotated[
        str,
        typer.Option(
            help="How much sound reveals: mixed, sound-decides, sight-decides or unrelated.",
            rich_help_panel=_WORLD,
        ),
    ] = "mixed",
    sound_share: Annotated[
        float | None,
        typer.Option(
            help="Share of the fixations that go to the sounding object because it sounds, 0 to 1. Default: as in the "
            "preset.",
            rich_help_panel=_WORLD,
        ),
    ] = None,
    routes: Annotated[
        str | None,
        typer.Option(
            metavar="ROUTE=WEIGHT,...",
            help="How the sounding object can be found, per shot: semantic (kind of sound), synchrony (its timing), "
            "sight (only this object is active), none (the sound is unrelated). Default: as in the preset.",
            rich_help_panel=_WORLD,
        ),
    ] = None,
    observers: Annotated[
        int, typer.Option(help="Simulated observers per video.", rich_help_panel=_WORLD)
    ] = 20,
    jobs: JobsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Generate videos with sound and simulated observers, in the published layout.

    The ground truth (what sounds when, where everything is) goes to DIR/truth. A repeated run makes what is missing.
    See docs/synthetic.md.
    """
    from stavis.datasets.layout import DATABASES
    from stavis.runtime.workers import default_jobs
    from stavis.synthetic import Settings, write_databases

    names = list(DATABASES) if database == "all" else [name.strip() for name in database.split(",")]
    settings = Settings(
        preset=preset,
        sound_share=sound_share,
        routes=None if routes is None else _parse_routes(routes),
        seconds=seconds,
        size=_parse_size(size),
        frame_rate=frame_rate,
        num_observers=observers,
        seed=seed,
    )
    made = write_databases(
        directory,
        list(dict.fromkeys(names)),
        settings,
        num_videos=videos,
        test_share=test_share,
        jobs=default_jobs() if jobs is None else jobs,
        quiet=quiet,
    )
    typer.echo(
        f"{directory}: {made} videos made, {videos * len(set(names)) - made} existed, in {', '.join(names)}"
    )


def _parse_size(text: str) -> tuple[int, int]:
    from stavis.errors import StavisError

    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise StavisError(f"--size {text}: not WIDTHxHEIGHT in pixels, as in 320x240") from None
    return width, height


def _parse_routes(text: str) -> dict[str, float]:
    from stavis.errors import StavisError

    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(weight) for name, weight in pairs}
    except ValueError:
        raise StavisError(f"--routes {text}: not ROUTE=WEIGHT,... as in semantic=0.7,sight=0.3") from None
