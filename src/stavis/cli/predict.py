"""`stavis predict`: saliency maps, overlays and numbers for any video."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stavis.cli.options import DEFAULT, WEIGHTS_HELP, ModalityName

if TYPE_CHECKING:
    from stavis.model import Modality
    from stavis.prediction.folder import FolderResult, FolderSettings


class EdgeRule(StrEnum):
    REPEAT = "repeat"
    REFERENCE = "reference"


class QuirkRule(StrEnum):
    FIXED = "fixed"
    REFERENCE = "reference"


class EngineChoice(StrEnum):
    AUTO = "auto"
    PLAIN = "plain"
    TORCH = "torch"
    OPENVINO = "openvino"


class PrecisionChoice(StrEnum):
    FLOAT32 = "float32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


ENGINE_HELP = (
    "What runs the network; all give the same maps. auto takes OpenVINO where it is there and worth it."
)
PRECISION_HELP = (
    "float32: exact. Faster approximations: bf16 and int8 on CPUs that have them, bf16 and fp16 on GPUs; how near they "
    "come is in docs/performance.md."
)

BATCH_SIZE_HELP = (
    "Clips that go through the network at once. By default 1 on a CPU, where more do not help; 8 on a GPU."
)


class MapSize(StrEnum):
    VIDEO = "video"
    NETWORK = "network"


class MapValues(StrEnum):
    STRETCHED = "stretched"
    PROBABILITY = "probability"


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Videos, folders of videos or of numbered pictures, or patterns.", metavar="INPUT"
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the results, one folder a video.")
    ] = Path("stavis-output"),
    weights: Annotated[str, typer.Option("--weights", "-w", help=WEIGHTS_HELP)] = DEFAULT,
    modality: Annotated[
        ModalityName | None,
        typer.Option(help="Which network to take from a published .pth; found from its name by default."),
    ] = None,
    fetch: Annotated[
        bool,
        typer.Option("--fetch", help="Download weights published-1, -2 or -3 first, if they are not there."),
    ] = False,
    outputs: Annotated[
        str,
        typer.Option(
            help="What to write, separated by commas: maps (PNG), npz (probabilities), published (pred_sal_*.jpg), "
            "video (gray), overlay; or all.",
            rich_help_panel="What is written",
        ),
    ] = "maps,overlay",
    map_size: Annotated[
        MapSize,
        typer.Option(
            help="Size of the PNG maps: the video's, or 112x112.", rich_help_panel="What is written"
        ),
    ] = MapSize.VIDEO,
    map_bits: Annotated[
        int, typer.Option(help="Bits of a pixel of the PNG maps: 8 or 16.", rich_help_panel="What is written")
    ] = 8,
    map_values: Annotated[
        MapValues,
        typer.Option(
            help="PNG maps: each stretched to the full range, or probabilities.",
            rich_help_panel="What is written",
        ),
    ] = MapValues.STRETCHED,
    color_bar: Annotated[
        bool, typer.Option(help="Overlay: a color bar.", rich_help_panel="What is written")
    ] = True,
    contour: Annotated[
        float,
        typer.Option(
            help="Overlay: outline this share of the picture, the most salient; 0.2 is a good choice.",
            rich_help_panel="What is written",
        ),
    ] = 0.0,
    peak: Annotated[
        bool,
        typer.Option(
            "--peak", help="Overlay: ring the most salient point.", rich_help_panel="What is written"
        ),
    ] = False,
    stride: Annotated[
        int,
        typer.Option(
            min=1,
            help="Compute every N-th frame only; the maps between are linear in between.",
            rich_help_panel="Frames",
        ),
    ] = 1,
    edges: Annotated[
        EdgeRule,
        typer.Option(
            help="First and last frames: repeated around the ends, or treated (left out) as published.",
            rich_help_panel="Frames",
        ),
    ] = EdgeRule.REPEAT,
    quirks: Annotated[
        QuirkRule,
        typer.Option(
            help="'reference' does everything as the published test run, oddities included.",
            rich_help_panel="Frames",
        ),
    ] = QuirkRule.FIXED,
    start: Annotated[
        float | None,
        typer.Option(
            min=0, help="Begin at this time, in seconds.", metavar="SECONDS", rich_help_panel="Frames"
        ),
    ] = None,
    end: Annotated[
        float | None,
        typer.Option(
            min=0, help="End at this time, in seconds.", metavar="SECONDS", rich_help_panel="Frames"
        ),
    ] = None,
    frame_rate: Annotated[
        float | None,
        typer.Option(
            help="Frames per second of a folder of pictures.", metavar="FPS", rich_help_panel="Frames"
        ),
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="Take the sound from this file instead.", rich_help_panel="Sound")
    ] = None,
    audio_stream: Annotated[
        int | None,
        typer.Option(
            min=0, help="Which sound stream, from 0; the default one if not given.", rich_help_panel="Sound"
        ),
    ] = None,
    silent: Annotated[
        bool, typer.Option("--silent", help="Predict as if there were no sound.", rich_help_panel="Sound")
    ] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel="Running")
    ] = "auto",
    engine: Annotated[
        EngineChoice, typer.Option(help=ENGINE_HELP, rich_help_panel="Running")
    ] = EngineChoice.AUTO,
    precision: Annotated[
        PrecisionChoice, typer.Option(help=PRECISION_HELP, rich_help_panel="Running")
    ] = PrecisionChoice.FLOAT32,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help=BATCH_SIZE_HELP, rich_help_panel="Running"),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", min=1, help="Videos worked on at the same time.", rich_help_panel="Running"
        ),
    ] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Redo what is finished.", rich_help_panel="Running")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress; errors only.", rich_help_panel="Running")
    ] = False,
) -> None:
    """Predict where people look in videos.

    Every video gets a folder below --output with summary.json, frames.csv, timeline.png and the chosen outputs.
    Run again, it skips what is finished.
    """
    from stavis.errors import StavisError
    from stavis.fetching.fetch import fetch_published
    from stavis.maps.overlay import OverlayStyle
    from stavis.media.inputs import find_videos, name_folders
    from stavis.prediction.folder import FolderSettings
    from stavis.prediction.options import PredictOptions
    from stavis.prediction.outputs import MapFormat, parse_output_kinds

    if map_bits not in (8, 16):
        raise StavisError(f"--map-bits is {map_bits}; allowed: 8, 16")
    if not 0 <= contour < 1:
        raise StavisError(f"--contour is {contour}; allowed: 0 (none) up to, not including, 1")
    if frame_rate is not None and not 0 < frame_rate <= 1000:
        raise StavisError(f"--frame-rate is {frame_rate}; allowed: above 0, up to 1000")
    if start is not None and end is not None and end <= start:
        raise StavisError(f"--end {end} is not after --start {start}")
    if audio is not None and not audio.is_file():
        raise StavisError(f"{audio}: no such file (--audio)")
    if audio is not None and silent:
        raise StavisError("--audio and --silent exclude each other")
    settings = FolderSettings(
        options=PredictOptions(
            stride=stride,
            edges=edges.value,
            quirks=quirks.value,
            batch_size=batch_size,
            engine=engine.value,
            precision=precision.value,
            frame_rate=frame_rate,
            audio_path=audio,
            audio_stream=audio_stream,
            silent=silent,
            start_seconds=start,
            end_seconds=end,
        ),
        kinds=parse_output_kinds(outputs),
        map_format=MapFormat(map_size.value, map_bits, map_values.value),  # type: ignore[arg-type]
        style=OverlayStyle(color_bar, contour, peak),
    )
    names = name_folders(find_videos(inputs))
    if fetch:
        fetch_published(weights, modality.value if modality else None, quiet=quiet)
    run_predictions(
        [(video, output / name) for video, name in names.items()],
        settings,
        weights=weights,
        modality=modality.value if modality else None,
        device=device,
        jobs=jobs,
        overwrite=overwrite,
        quiet=quiet,
    )


def run_predictions(
    tasks: "list[tuple[Path, Path]]",
    settings: "FolderSettings",
    *,
    weights: str,
    modality: "Modality | None",
    device: str,
    jobs: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Predicts videos into their folders, in this process or several; what fails is told when the rest is done.

    Raises:
        StavisError: The weights cannot be loaded, or a video failed.
    """
    from stavis.errors import StavisError

    plan = _Plan(weights, modality, device, settings, overwrite)
    failures = (
        _run_one_by_one(plan, tasks, quiet) if jobs == 1 else _run_in_parallel(plan, tasks, jobs, quiet)
    )
    if failures and len(tasks) == 1:
        raise StavisError(failures[0])
    if failures:
        for failure in failures:
            _say(f"failed: {failure}")
        raise StavisError(f"{len(failures)} of {len(tasks)} inputs failed, listed above; the rest is done")


@dataclass(frozen=True)
class _Plan:
    """What a worker process needs to know."""

    weights: str
    modality: "Modality | None"
    device: str
    settings: "FolderSettings"
    overwrite: bool


class _Worker:
    """A loaded network with what to do with it."""

    def __init__(self, plan: _Plan) -> None:
        from dataclasses import replace

        from stavis.engine import EngineFactory
        from stavis.runtime.allocator import use_one_arena
        from stavis.weights.names import load_network

        use_one_arena()
        self.plan = plan
        self.network = load_network(plan.weights, modality=plan.modality, device=plan.device)
        self.settings = replace(plan.settings, weights=self.network.name, weights_sha256=self.network.sha256)
        options = plan.settings.options
        self.make_engine = EngineFactory(
            self.network.model, options.engine, options.precision, keep_model=False
        )

    def run(self, video: Path, folder: Path, quiet: bool) -> "FolderResult | str":
        """One video's result, or in one line why there is none."""
        from stavis.errors import StavisError
        from stavis.prediction.folder import predict_to_folder

        try:
            return predict_to_folder(
                self.network.model,
                video,
                folder,
                self.settings,
                overwrite=self.plan.overwrite,
                quiet=quiet,
                make_engine=self.make_engine,
            )
        except StavisError as error:
            return str(error)
        except OSError as error:
            return f"{error.filename or folder}: {error.strerror or error}"


def _run_one_by_one(plan: _Plan, tasks: list[tuple[Path, Path]], quiet: bool) -> list[str]:
    worker = _Worker(plan)
    if not quiet:
        _say(f"weights: {worker.network.name}")
    for warning in worker.network.warnings:
        _say(f"warning: {warning}")
    failures = []
    for video, folder in tasks:
        result = worker.run(video, folder, quiet)
        _report(video, result, quiet)
        if isinstance(result, str):
            failures.append(result)
    return failures


def _run_in_parallel(plan: _Plan, tasks: list[tuple[Path, Path]], jobs: int, quiet: bool) -> list[str]:
    import multiprocessing
    import os
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from stavis.runtime.progress import track
    from stavis.weights.names import describe_weights

    if not quiet:
        _say(f"weights: {describe_weights(plan.weights)}")
    jobs = min(jobs, len(tasks))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    failures = []
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(plan, threads)
    ) as pool:
        futures = {pool.submit(_run_in_worker, video, folder): video for video, folder in tasks}
        with track("videos", len(tasks), unit="videos", quiet=quiet) as advance:
            for future in as_completed(futures):
                result = future.result()
                _report(futures[future], result, quiet)
                if isinstance(result, str):
                    failures.append(result)
                advance()
    return failures


_plan: _Plan | None = None
_worker: _Worker | None = None


def _start_worker(plan: _Plan, threads: int) -> None:
    import torch

    global _plan
    torch.set_num_threads(threads)
    _plan = plan


def _run_in_worker(video: Path, folder: Path) -> "FolderResult | str":
    from stavis.errors import StavisError

    global _worker
    assert _plan is not None
    if _worker is None:
        # Here and not in the initializer, whose errors a pool reports as a broken pool, without their text.
        try:
            _worker = _Worker(_plan)
        except (StavisError, OSError) as error:
            return str(error)
    return _worker.run(video, folder, quiet=True)


def _report(video: Path, result: "FolderResult | str", quiet: bool) -> None:
    if isinstance(result, str):
        return
    for warning in result.warnings:
        _say(f"warning: {warning}")
    if quiet:
        return
    if result.skipped:
        _say(f"{video}: finished before, in {result.folder}")
    else:
        rate = result.num_frames / result.seconds
        _say(f"{video}: {result.num_frames} frames, {rate:.1f} a second, in {result.folder}")


def _say(text: str) -> None:
    typer.echo(text, err=True)
