"""`stavis synth`: a generated audiovisual benchmark with known ground truth."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stavis.cli import options as shared
from stavis.errors import StavisError, counted

_world = partial(typer.Option, rich_help_panel="The world")
_videos = partial(typer.Option, rich_help_panel="The videos")


def synth(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Data folder, in the published layout.")],
    videos: Annotated[int, _videos(help="Videos per database.")] = 20,
    seconds: Annotated[float, _videos(help="Duration of a video in seconds.")] = 8.0,
    size: Annotated[str, _videos(metavar="WxH", help="Frame size in pixels.")] = "320x240",
    frame_rate: Annotated[float, _videos(help="Frames per second.")] = 25.0,
    seed: Annotated[int, _videos(help="Random seed. Equal seeds give equal bytes.")] = 0,
    database: Annotated[
        str,
        _videos(help="Names of the databases to make, separated by commas, or 'all' for the published six."),
    ] = "DIEM",
    test_share: Annotated[float, _videos(help="Share of videos in each split's test list, up to 1/3.")] = 0.2,
    preset: Annotated[
        str, _world(help="How much sound reveals: mixed, sound-decides, sight-decides or unrelated.")
    ] = "mixed",
    sound_share: Annotated[
        float | None,
        _world(
            help="Share of the fixations that go to the sounding object because it sounds, 0 to 1. Default: as in the "
            "preset."
        ),
    ] = None,
    routes: Annotated[
        str | None,
        _world(
            metavar="ROUTE=WEIGHT,...",
            help="How the sounding object can be found, per shot: semantic (kind of sound), synchrony (its timing), "
            "sight (only this object is active), none (the sound is unrelated). Default: as in the preset.",
        ),
    ] = None,
    observers: Annotated[int, _world(help="Simulated observers per video.")] = 20,
    jobs: shared.JobsOption = None,
    quiet: shared.QuietOption = False,
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
        size=shared.parse_size("--size", size),
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
        f"{directory}: {counted(made, 'videos')} made, {videos * len(set(names)) - made} existed, in {', '.join(names)}"
    )


def _parse_routes(text: str) -> dict[str, float]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(weight) for name, weight in pairs}
    except ValueError:
        raise StavisError(f"--routes {text}: not ROUTE=WEIGHT,... as in semantic=0.7,sight=0.3") from None
