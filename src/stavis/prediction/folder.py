"""The folder of results that one video gets: written beside it, renamed when whole, skipped when finished."""

import json
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stavis import media
from stavis.engine import MakeEngine
from stavis.errors import StavisError
from stavis.maps.overlay import OverlayStyle
from stavis.model import STAViS
from stavis.prediction.frame_statistics import FrameStatistics, measure
from stavis.prediction.options import PredictOptions
from stavis.prediction.outputs import (
    OUTPUT_NAMES,
    MapFolder,
    MapFormat,
    Output,
    OutputKind,
    OverlayVideo,
    ProbabilityArchive,
    PublishedMaps,
    SaliencyVideo,
)
from stavis.prediction.predict import PredictedFrame, expected_frames, predict_frames
from stavis.prediction.sound import describe_sound, find_sound
from stavis.prediction.timeline import Thumbnails, audio_levels, draw_timeline
from stavis.runtime.prefetch import prefetch
from stavis.runtime.progress import track
from stavis.version import __version__

PREDICTED_AHEAD = 1  # frames predicted before they are written, so that the network and the encoders overlap


@dataclass(frozen=True)
class FolderSettings:
    """Everything that decides what is in a result folder.

    Attributes:
        options: How the video is predicted.
        kinds: Which outputs are written besides `summary.json`, `frames.csv` and `timeline.png`.
        map_format: How `maps` are written.
        style: What the overlay shows.
        weights: What the network's weights are called, for the summary.
        weights_sha256: Of the file that they came from; None for untrained ones.
    """

    options: PredictOptions
    kinds: tuple[OutputKind, ...]
    map_format: MapFormat = field(default_factory=MapFormat)
    style: OverlayStyle = field(default_factory=OverlayStyle)
    weights: str = ""
    weights_sha256: str | None = None

    def identity(self) -> dict[str, Any]:
        """What must be alike for a finished result to stand: all but the choice of outputs and of speed."""
        options = asdict(self.options)
        del options["batch_size"], options["engine"]
        options["audio_path"] = None if self.options.audio_path is None else str(self.options.audio_path)
        return {
            "options": options,
            "map_format": asdict(self.map_format),
            "overlay_style": asdict(self.style),
            "weights_sha256": self.weights_sha256,
        }


@dataclass(frozen=True)
class FolderResult:
    """What became of one video.

    Attributes:
        folder: Its result folder.
        num_frames: How many of its frames got a map.
        seconds: What it took; 0 if it was finished before.
        skipped: It was finished before.
        warnings: What was odd about the video, in words.
    """

    folder: Path
    num_frames: int
    seconds: float = 0.0
    skipped: bool = False
    warnings: tuple[str, ...] = ()


def predict_to_folder(
    model: STAViS,
    video: Path,
    folder: Path,
    settings: FolderSettings,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    make_engine: MakeEngine | None = None,
) -> FolderResult:
    """Predicts one video and writes its result folder.

    Everything is written into a hidden folder beside `folder` and moved in place at the end, so that a result is
    either whole or absent. A finished result of the same settings is left alone; outputs that it lacks are added.

    Raises:
        StavisError: The video cannot be read, or `folder` holds results of other settings and `overwrite` is off.
        OSError: The results cannot be written.
    """
    finished = None if overwrite else _finished_summary(folder, video, settings)
    missing = settings.kinds if finished is None else _missing_kinds(finished, folder, settings.kinds)
    if finished is not None and not missing:
        return FolderResult(folder, int(finished["num_frames"]), skipped=True)
    began = time.monotonic()
    partial = folder.parent / f".{folder.name}.partial"
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        with collect_warnings() as warnings:
            rows, info = _write_outputs(model, video, partial, settings, missing, quiet, make_engine)
        seconds = time.monotonic() - began
        earlier: list[OutputKind] = finished["outputs"] if finished is not None else []
        summary = {
            "stavis": __version__,
            "input": str(video),
            "input_size_bytes": _size(video),
            "weights": settings.weights,
            "modality": model.config.modality,
            "depth": model.config.depth,
            **settings.identity(),
            "outputs": [kind for kind in OUTPUT_NAMES if kind in {*earlier, *missing}],
            "num_frames": len(rows),
            "width": info.width,
            "height": info.height,
            "frame_rate": float(info.frame_rate),
            "sound": describe_sound(info, settings.options),
            "seconds": round(seconds, 3),
            "warnings": list(warnings),
        }
        summary |= _overall(rows)
        (partial / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        _move_in_place(partial, folder, keep=finished is not None)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return FolderResult(folder, len(rows), seconds, warnings=tuple(warnings))


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collects what this package's modules warn of while the block runs, each thing once."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() not in messages:
                messages.append(record.getMessage())

    logger = logging.getLogger("stavis")
    handler = Collector(level=logging.WARNING)
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _write_outputs(
    model: STAViS,
    video: Path,
    partial: Path,
    settings: FolderSettings,
    kinds: tuple[OutputKind, ...],
    quiet: bool,
    make_engine: MakeEngine | None,
) -> tuple[list[FrameStatistics], media.VideoInfo]:
    options = settings.options
    info = media.probe(video, audio_stream=options.audio_stream, frame_rate=options.frame_rate)
    rows: list[FrameStatistics] = []
    thumbnails = Thumbnails()
    frames = predict_frames(model, video, options, keep_images=True, make_engine=make_engine)
    with ExitStack() as stack:
        outputs = [
            stack.enter_context(_open_output(kind, partial / OUTPUT_NAMES[kind], info, settings))
            for kind in kinds
        ]
        advance = stack.enter_context(
            track(video.name, expected_frames(info, options), unit="frames", quiet=quiet)
        )
        source = stack.enter_context(closing(prefetch(frames, PREDICTED_AHEAD)))
        for frame in source:
            for output in outputs:
                # Maps behind the last frame exist in the published files alone.
                if frame.image is not None or isinstance(output, PublishedMaps):
                    output.write(frame)
            if frame.image is not None:
                rows.append(_measure(frame, info))
                thumbnails.add(frame)
            advance()
        if not rows:
            raise StavisError(
                f"{video}: none of its frames can have a map with --edges reference: the first 8 never do; "
                "use --edges repeat"
            )
    with (partial / "frames.csv").open("w", encoding="utf-8") as table:
        table.writelines(line + "\n" for line in (FrameStatistics.header(), *(row.row() for row in rows)))
    draw_timeline(
        partial / "timeline.png",
        title=video.name,
        time_seconds=[row.time_seconds for row in rows],
        audio_level_db=audio_levels(info, options, [row.time_seconds for row in rows]),
        entropy_bits=[row.entropy_bits for row in rows],
        thumbnails=thumbnails.kept,
    )
    return rows, info


def _open_output(kind: OutputKind, path: Path, info: media.VideoInfo, settings: FolderSettings) -> Output:
    size = (info.width, info.height)
    if kind == "maps":
        return MapFolder(path, size, settings.map_format)
    if kind == "npz":
        return ProbabilityArchive(path)
    if kind == "published":
        return PublishedMaps(path)
    if kind == "video":
        return SaliencyVideo(path, video_size=size, frame_rate=info.frame_rate)
    sound = find_sound(info, settings.options)
    return OverlayVideo(
        path,
        video_size=size,
        frame_rate=info.frame_rate,
        audio_from=None if sound is None else sound.path,
        audio_stream=None if sound is None else sound.stream,
        style=settings.style,
    )


def _measure(frame: PredictedFrame, info: media.VideoInfo) -> FrameStatistics:
    index, time_seconds, saliency = frame.saliency
    return measure(
        saliency,
        frame=index,
        time_seconds=time_seconds,
        computed=frame.computed,
        size=(info.width, info.height),
    )


def _overall(rows: Sequence[FrameStatistics]) -> dict[str, Any]:
    def mean(values: Iterator[float], num_digits: int) -> float:
        return round(sum(values) / len(rows), num_digits)

    return {
        "mean_entropy_bits": mean((row.entropy_bits for row in rows), 4),
        "mean_spread_pixels": mean((row.spread_pixels for row in rows), 2),
        "mean_center": [mean((row.center_x for row in rows), 2), mean((row.center_y for row in rows), 2)],
    }


def _size(video: Path) -> int | None:
    return video.stat().st_size if video.is_file() else None


def _finished_summary(folder: Path, video: Path, settings: FolderSettings) -> dict[str, Any] | None:
    """The summary of a finished result of the same settings; None if there is no finished result."""
    path = folder / "summary.json"
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise StavisError(
            f"{path}: not the summary of a prediction; give --overwrite to replace {folder}"
        ) from None
    wanted = {"input": str(video), "input_size_bytes": _size(video), **settings.identity()}
    # Through JSON, as tuples come back as lists.
    wanted = json.loads(json.dumps(wanted))
    for name, value in wanted.items():
        if summary.get(name) != value:
            raise StavisError(
                f"{folder}: holds results of another {name.replace('_', ' ')} "
                f"({_difference(summary.get(name), value)}); give --overwrite or another --output"
            )
    return summary


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        changed = [name for name in now if before.get(name) != now[name]]
        return ", ".join(f"{name} was {before.get(name)}, now {now[name]}" for name in changed)
    return f"was {before}, now {now}"


def _missing_kinds(
    summary: dict[str, Any], folder: Path, kinds: tuple[OutputKind, ...]
) -> tuple[OutputKind, ...]:
    return tuple(
        kind
        for kind in kinds
        if kind not in summary.get("outputs", []) or not (folder / OUTPUT_NAMES[kind]).exists()
    )


def _move_in_place(partial: Path, folder: Path, *, keep: bool) -> None:
    """Renames `partial` to `folder`; with `keep`, what `folder` has besides stays. The summary comes last."""
    if keep:
        for item in sorted(partial.iterdir(), key=lambda path: path.name == "summary.json"):
            target = folder / item.name
            if target.is_dir():
                shutil.rmtree(target)
            item.replace(target)
        return
    old = folder.parent / f".{folder.name}.old"
    if old.exists():
        shutil.rmtree(old)
    if folder.exists():
        folder.replace(old)
    partial.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
