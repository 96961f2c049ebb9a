"""Result folder of one video: written beside its place, renamed when complete, skipped when finished."""

import errno
import json
import logging
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from stavis import media
from stavis.engine import MakeEngine
from stavis.errors import StavisError, one_line, some
from stavis.maps.overlay import OverlayStyle
from stavis.media.inputs import is_same_file
from stavis.model import ModelConfig, STAViS
from stavis.prediction import outputs
from stavis.prediction.frame_statistics import FrameStatistics, measure
from stavis.prediction.options import PredictOptions
from stavis.prediction.predict import FrameSaliency, expected_maps, stream_video
from stavis.prediction.sound import describe_sound, find_sound
from stavis.prediction.timeline import AudioLevels, Thumbnails, draw_timeline
from stavis.runtime.folders import atomic_folder, check_folder, check_record, read_record, restore_folder
from stavis.runtime.prefetch import prefetch
from stavis.runtime.progress import track
from stavis.storage.remote import RemotePath, as_path
from stavis.version import __version__

PREDICTED_AHEAD = 1  # frames predicted before they are written, so that the network and the encoders overlap
SUMMARY = "summary.json"
WRITTEN = (*outputs.OUTPUT_NAMES.values(), SUMMARY, "frames.csv", "timeline.png")  # into a result folder

Frames = Generator[FrameSaliency, None, None]


@dataclass(frozen=True)
class FolderSettings:
    """Everything that decides what a result folder contains."""

    options: PredictOptions  # how the video is predicted
    # Outputs to write besides `summary.json`, `frames.csv` and `timeline.png`.
    kinds: tuple[outputs.OutputKind, ...]
    map_format: outputs.MapFormat = field(default_factory=outputs.MapFormat)  # format of `maps`
    style: OverlayStyle = field(default_factory=OverlayStyle)  # what the overlay shows
    weights: str = ""  # name of the network's weights, for the summary
    weights_sha256: str | None = None  # checksum of their file. None: untrained or unknown
    # The `stavis.prediction.speed.Mode` that chose stride and precision, for the summary. None: nothing did.
    speed: dict[str, Any] | None = None
    is_segment: bool = False  # for a segment that is joined with others: `npz` in float32, no `timeline.png`

    def identity(self) -> dict[str, Any]:
        """Settings that must be equal for a finished result to stand: all but outputs and speed."""
        options = asdict(self.options)
        del options["batch_size"], options["engine"]
        for name, default in (("audio_channel", None), ("keep_gaps", False), ("context", False)):
            if options[name] is default:  # as in results of versions without it
                del options[name]
        if self.options.audio_path is not None:
            options["audio_path"] = str(as_path(self.options.audio_path))
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
        num_frames: Number of frames that have a map.
        seconds: Time it took; 0 if it was finished before.
        skipped: Whether it was finished before.
        warnings: What was unusual about the video.
        video: The video.
        failed_outputs: Outputs that could not be written, with the reason; the others are complete.
        error: Why there is no result; None if there is one.
        traceback: Of an unexpected error.
    """

    folder: Path
    num_frames: int = 0
    seconds: float = 0.0
    skipped: bool = False
    warnings: tuple[str, ...] = ()
    video: Path | None = None
    failed_outputs: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    traceback: str | None = None

    @property
    def failures(self) -> tuple[str, ...]:
        """One line for everything that failed; empty if all is well."""
        if self.error is not None:
            return (self.error,)
        return tuple(f"{self.video}: {kind}: {reason}" for kind, reason in self.failed_outputs.items())


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

    A folder with a `summary.json` is complete. A finished result of the same settings is kept; outputs that it lacks
    are added. What else `folder` holds stays. An output that fails does not affect the others: it is named in the
    result and tried again the next time.

    Raises:
        StavisError: The video cannot be read, or is in `folder`, or `overwrite` is off and `folder` holds results of
            other settings or has files in their place that no finished prediction wrote.
        OSError: The results cannot be written.
    """

    def frames() -> Frames:
        return stream_video(model, video, settings.options, keep_images=True, make_engine=make_engine)

    return write_folder(frames, model.config, video, folder, settings, overwrite=overwrite, quiet=quiet)


def write_folder(
    frames: Callable[[], Frames],
    config: ModelConfig,
    video: Path,
    folder: Path,
    settings: FolderSettings,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> FolderResult:
    """`predict_to_folder` for maps from anywhere.

    `frames` starts the maps of the video, in order, with their images; it is not called if nothing is missing. `config`
    is that of the network that they come from.
    """
    check_place(folder, video)
    restore_folder(folder, SUMMARY)
    if not overwrite and (result := find_finished(folder, video, settings)) is not None:
        return result
    finished = None if overwrite else _finished_summary(folder, video, settings)
    missing = settings.kinds if finished is None else _missing_kinds(finished, folder, settings.kinds)
    if (
        finished is None
        and not overwrite
        and (others := [name for name in WRITTEN if (folder / name).exists()])
    ):
        raise StavisError(
            f"{folder}: holds {some(others)}, which no finished prediction wrote; choose another output folder, or "
            "replace that (`overwrite=True`)"
        )
    began = time.monotonic()
    with atomic_folder(folder, may_replace=WRITTEN if finished is None else (), last=SUMMARY) as partial:
        with collect_warnings() as warnings:
            rows, info, failed = _write_outputs(frames, video, partial, settings, missing, quiet)
        seconds = time.monotonic() - began
        there: list[outputs.OutputKind] = [] if finished is None else finished["outputs"]
        whole = {*there, *missing} - failed.keys()
        summary = {
            "stavis": __version__,
            "input": str(video),
            "input_size_bytes": _size(video),
            "weights": settings.weights,
            "modality": config.modality,
            "depth": config.depth,
            **settings.identity(),
            "speed": settings.speed,
            "outputs": [kind for kind in outputs.OUTPUT_NAMES if kind in whole],
            "failed_outputs": failed,
            "num_frames": len(rows),
            "width": info.width,
            "height": info.height,
            "frame_rate": float(info.frame_rate),
            "sound": describe_sound(info, settings.options),
            "seconds": round(seconds, 3),
            "warnings": list(warnings),
        }
        summary |= _overall(rows)
        (partial / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return FolderResult(
        folder, len(rows), seconds, warnings=tuple(warnings), video=video, failed_outputs=failed
    )


def check_place(folder: Path, video: Path) -> None:
    """Raises StavisError if no result folder can be `folder`: it is a file, or is or contains the video itself."""
    check_folder(folder)
    if isinstance(video, RemotePath):
        return
    for path in (video.absolute(), video.resolve()):
        if place := next((one for one in (path, *path.parents) if is_same_file(folder, one)), None):
            relation = "is" if place == path else "contains"
            raise StavisError(
                f"{video}: its result folder would be {folder}, which {relation} the input itself; choose another "
                "output folder"
            )


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collects the warnings that this package logs while the block runs, each once."""
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


class _Attempt:
    """One output of a folder. If it fails, it is abandoned and removed, and the others go on."""

    def __init__(self, path: Path, make: Callable[[], AbstractContextManager[outputs.Write]]) -> None:
        self.path = path
        self.failure: str | None = None
        self._stack = ExitStack()
        self._write: outputs.Write | None = None
        with self._guarded():
            self._write = self._stack.enter_context(make())

    def __enter__(self) -> "_Attempt":
        return self

    def write(self, frame: FrameSaliency) -> None:
        # Only the published files include maps past the last frame.
        takes = frame.image is not None or self.path.name == outputs.OUTPUT_NAMES["published"]
        if self._write is not None and takes:
            with self._guarded():
                self._write(frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            with self._guarded():
                self._stack.close()
        else:
            with suppress(Exception):
                self._stack.__exit__(kind, error, trace)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if _is_disk_full(error):
                raise  # the others fail, too
            logging.getLogger("stavis").debug("%s failed", self.path.name, exc_info=True)
            self.failure = one_line(error)
            self._write = None
            with suppress(Exception):
                self._stack.__exit__(type(error), error, error.__traceback__)
            if self.path.is_dir():
                shutil.rmtree(self.path, ignore_errors=True)
            else:
                with suppress(OSError):
                    self.path.unlink(missing_ok=True)


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _write_outputs(
    frames: Callable[[], Frames],
    video: Path,
    partial: Path,
    settings: FolderSettings,
    kinds: tuple[outputs.OutputKind, ...],
    quiet: bool,
) -> tuple[list[FrameStatistics], media.VideoInfo, dict[str, str]]:
    options = settings.options
    info = media.probe(video, audio_stream=options.audio_stream, frame_rate=options.frame_rate)
    rows: list[FrameStatistics] = []
    thumbnails = Thumbnails()
    with ExitStack() as stack:
        attempts = {kind: stack.enter_context(_attempt(kind, partial, info, settings)) for kind in kinds}
        advance = stack.enter_context(
            track(video.name, expected_maps(info, options), unit="frames", quiet=quiet)
        )
        levels = stack.enter_context(AudioLevels(info, options))
        source = stack.enter_context(closing(prefetch(frames(), PREDICTED_AHEAD)))
        for frame in source:
            for attempt in attempts.values():
                attempt.write(frame)
            if frame.image is not None:
                rows.append(measure(frame, (info.width, info.height)))
                thumbnails.add(frame)
                levels.add(frame.time_seconds)
            advance()
        if not rows:
            raise no_maps(video)
    failed = {kind: one.failure for kind, one in attempts.items() if one.failure is not None}
    with (partial / "frames.csv").open("w", encoding="utf-8") as table:
        table.writelines(line + "\n" for line in (FrameStatistics.header(), *(row.row() for row in rows)))
    if not settings.is_segment:
        draw_timeline(
            partial / "timeline.png",
            title=video.name,
            time_seconds=[row.time_seconds for row in rows],
            audio_level_db=levels.decibels,
            entropy_bits=[row.entropy_bits for row in rows],
            thumbnails=thumbnails.kept,
        )
    return rows, info, {str(kind): reason for kind, reason in failed.items()}


def _attempt(
    kind: outputs.OutputKind, partial: Path, info: media.VideoInfo, settings: FolderSettings
) -> _Attempt:
    path, size = partial / outputs.OUTPUT_NAMES[kind], (info.width, info.height)

    def make() -> AbstractContextManager[outputs.Write]:
        if kind == "maps":
            return outputs.map_folder(path, size, settings.map_format)
        if kind == "npz":
            return outputs.probability_archive(path, "<f4" if settings.is_segment else "<f2")
        if kind == "published":
            return outputs.published_folder(path)
        if kind == "video":
            return outputs.gray_video(path, size, info.frame_rate)
        sound = find_sound(info, settings.options)
        writer = media.VideoWriter(
            path,
            width=info.width,
            height=info.height,
            frame_rate=info.frame_rate,
            audio_from=None if sound is None else sound.path,
            audio_stream=None if sound is None else sound.stream,
            keep_gaps=settings.options.keep_gaps,
        )
        return outputs.overlay_video(writer, settings.style)

    return _Attempt(path, make)


def no_maps(video: str | Path) -> StavisError:
    """The error for a video that is too short for the published treatment of its ends."""
    return StavisError(
        f"{video}: no frame can have a map with `edges=reference`, which leaves out the first 8; "
        "`edges=repeat` gives every frame one"
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


def find_finished(folder: Path, video: Path, settings: FolderSettings) -> FolderResult | None:
    """The result that a folder holds, if it is complete. Raises StavisError if it is a result of other settings."""
    summary = _finished_summary(folder, video, settings)
    if summary is None or _missing_kinds(summary, folder, settings.kinds):
        return None
    return FolderResult(folder, int(summary["num_frames"]), skipped=True, video=video)


def _finished_summary(folder: Path, video: Path, settings: FolderSettings) -> dict[str, Any] | None:
    """The summary of a finished result of the same settings; None if there is no finished result."""
    summary = read_record(folder / SUMMARY, "the summary of a prediction")
    if summary is not None:
        earlier = Path(str(summary.get("input")))
        name = str(earlier if is_same_file(earlier, video) else video)  # whatever path it was reached by
        identity = {"input": name, "input_size_bytes": _size(video), **settings.identity()}
        check_record(folder, summary, identity, "results")
    return summary


def _missing_kinds(
    summary: dict[str, Any], folder: Path, kinds: tuple[outputs.OutputKind, ...]
) -> tuple[outputs.OutputKind, ...]:
    return tuple(
        kind
        for kind in kinds
        if kind not in summary.get("outputs", []) or not (folder / outputs.OUTPUT_NAMES[kind]).exists()
    )
