"""Own videos, with or without gaze, into the published layout.

A video is made in a folder of its own, `<data>/.prepare/<database>/<video>`, and moved to its places when it is
whole, its record `annotations/<database>/<video>/prepare.json` with the last move. So a video that has a record is
finished, and whatever a killed run has left is made anew by the next one.
"""

import contextlib
import importlib.metadata
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np
import numpy.typing as npt
from PIL import Image

from stavis import __version__
from stavis.clips.preprocess import SAMPLE_RATE
from stavis.data.preview import draw_preview
from stavis.data.records import (
    OBSERVERS_NAME,
    RECORD_NAME,
    STAGING_FOLDER,
    differences,
    hash_files,
    is_complete,
    move_into_place,
    read_record,
    refuse_foreign_folders,
    staging_folder,
)
from stavis.datasets.layout import Layout
from stavis.errors import StavisError
from stavis.gaze import (
    Gaze,
    GazeOptions,
    ScreenMapping,
    assign_frames,
    fixation_counts,
    gaze_files,
    one_per_observer,
    pixels_per_degree,
    read_gaze,
    sigma_in_video_pixels,
    write_observers,
)
from stavis.maps import density_from_fixations, to_8bit, write_fixation_map, write_map
from stavis.media import AudioReader, VideoInfo, probe, read_frames, write_wave
from stavis.runtime.files import write_text
from stavis.runtime.workers import Advance, run_parallel

PREVIEW_NAME = "preview.png"
RECORD_VERSION = 1  # a change makes every finished video be prepared anew
LOCK_TIMEOUT_SECONDS = 5.0  # workers of a killed run end within a fraction of this

SamplePolicy = Literal["auto", "all", "one-per-observer"]


@dataclass(frozen=True)
class PrepareOptions:
    """How videos are prepared.

    Attributes:
        sigma_pixels: Of the Gaussian that blurs fixations, in pixels of the video.
        sigma_degrees: The same in degrees of visual angle; needs the three below and the screen's resolution.
        screen_size_cm: Width and height of the screen.
        distance_cm: From the eyes to the screen.
        samples: Which of an observer's samples in a frame are fixations: "all"; "one-per-observer", their median;
            "auto" is "all" of gaze recorded by frame and "one-per-observer" of gaze recorded by time.
        frame_rate: Frames per second to write, of an image folder those that it has; None keeps a video's own.
        audio_stream: Which of a video's sound streams, from 0; its default one if None.
        quality: JPEG quality of frames and density maps.
        gaze: How gaze files are read.
    """

    sigma_pixels: float | None = None
    sigma_degrees: float | None = None
    screen_size_cm: tuple[float, float] | None = None
    distance_cm: float | None = None
    samples: SamplePolicy = "auto"
    frame_rate: float | None = None
    audio_stream: int | None = None
    quality: int = 95
    gaze: GazeOptions = field(default_factory=GazeOptions)


@dataclass(frozen=True)
class Source:
    """A video to prepare.

    Attributes:
        name: Of its folders in the layout.
        video: The video file or image folder.
        gaze: Its gaze files and folders; none for prediction only.
        options: How it is prepared.
    """

    name: str
    video: Path
    gaze: tuple[Path, ...]
    options: PrepareOptions


@dataclass(frozen=True)
class Outcome:
    """What became of a source: `record` as in its `prepare.json`, or `error` in one line.

    Attributes:
        source: The source.
        record: What was made, None if it failed.
        error: Why it failed.
        was_finished: An earlier run had made it.
    """

    source: Source
    record: dict[str, Any] | None = None
    error: str | None = None
    was_finished: bool = False


def prepare(
    layout: Layout,
    database: str,
    sources: Sequence[Source],
    *,
    jobs: int = 1,
    overwrite: bool = False,
    preview: bool = False,
    quiet: bool = False,
) -> list[Outcome]:
    """Prepares videos; one that fails does not keep the others from being done.

    Args:
        layout: The data folder, made where there is none.
        database: Which of its databases they belong to.
        sources: The videos, of distinct names.
        jobs: Processes that work at once.
        overwrite: Prepare anew what is finished, and replace folders that were not made here.
        preview: Also draw a contact sheet of each video with its gaze.
        quiet: Show no progress.

    Returns:
        An outcome for each source, in their order.

    Raises:
        StavisError: Another process prepares videos in this data folder, or gaze is given without a sigma.
    """
    for source in sources:
        if source.gaze:
            check_sigma(source.options)
    staging = layout.root / STAGING_FOLDER
    staging.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(staging / "lock")
    try:
        with lock.acquire(timeout=LOCK_TIMEOUT_SECONDS):
            outcomes = run_parallel(
                _Task(layout, database, overwrite, preview),
                sources,
                jobs=jobs,
                description="preparing",
                total=sum(_estimate_pictures(source) for source in sources),
                unit="pictures",
                quiet=quiet,
            )
    except filelock.Timeout:
        raise StavisError(f"{layout.root}: another `stavis prepare` is at work in this data folder") from None
    return outcomes


@dataclass(frozen=True)
class _Task:
    """What is done to each source; sent to worker processes."""

    layout: Layout
    database: str
    overwrite: bool
    preview: bool

    def __call__(self, source: Source, advance: Advance) -> Outcome:
        try:
            return _prepare_source(self.layout, self.database, source, self.overwrite, self.preview, advance)
        except StavisError as error:
            return Outcome(source, error=str(error))
        except OSError as error:
            return Outcome(source, error=f"{error.filename or source.video}: {error.strerror or error}")


def _estimate_pictures(source: Source) -> int:
    try:
        info = probe(source.video, frame_rate=source.options.frame_rate if source.video.is_dir() else None)
    except (StavisError, OSError):
        return 0
    return (info.num_frames or 0) * (2 if source.gaze else 1)


def _prepare_source(
    layout: Layout, database: str, source: Source, overwrite: bool, preview: bool, advance: Advance
) -> Outcome:
    inputs = _describe_inputs(source)
    staging = staging_folder(layout, database, source.name)
    finished = read_record(layout, database, source.name)
    if not overwrite and not staging.exists():
        if finished is not None and is_complete(layout, database, source.name, finished):
            if finished["inputs"] != inputs:
                raise StavisError(
                    f"was prepared before with other {differences(finished['inputs'], inputs)}; "
                    "--overwrite prepares it anew"
                )
            advance((2 if source.gaze else 1) * finished["num_frames"])
            if preview and source.gaze:
                _draw(layout, database, source.name, finished)
            return Outcome(source, finished, was_finished=True)
        if finished is None:
            refuse_foreign_folders(layout, database, source.name)
    interrupted = staging.exists()
    _clear(staging)
    # The same layout in small, so that what is made here has its right path already.
    staged = Layout(staging)
    try:
        record = _make_video(staged, database, source, inputs, advance)
        if preview and source.gaze:
            _draw(staged, database, source.name, record)
    except (StavisError, OSError):
        _clear(staging)
        if not interrupted:
            _discard(staging)
        raise
    write_text(
        staged.annotations_folder(database, source.name) / RECORD_NAME, json.dumps(record, indent=2) + "\n"
    )
    move_into_place(staged, layout, database, source.name)
    _discard(staging)
    return Outcome(source, record)


def _clear(staging: Path) -> None:
    """Makes the staging folder empty. It never goes away meanwhile, as it says that the video is unfinished."""
    staging.mkdir(parents=True, exist_ok=True)
    for path in staging.iterdir():
        shutil.rmtree(path)


def _discard(staging: Path) -> None:
    shutil.rmtree(staging, ignore_errors=True)
    with contextlib.suppress(OSError):  # other videos are in the making
        staging.parent.rmdir()


def _make_video(
    staged: Layout, database: str, source: Source, inputs: dict[str, Any], advance: Advance
) -> dict[str, Any]:
    options, name = source.options, source.name
    folder_rate = options.frame_rate if source.video.is_dir() else None
    info = probe(source.video, audio_stream=options.audio_stream, frame_rate=folder_rate)
    gaze, display = None, None
    if source.gaze:
        # Before the long work, as mistakes in gaze files are the likely ones.
        gaze, display = read_gaze(
            source.gaze,
            video=video_stem(source.video),
            width=info.width,
            height=info.height,
            options=options.gaze,
        )
        sigma_pixels = find_sigma(options, display)
    times = _write_frames(staged, database, source, info, folder_rate, advance)
    wanted_rate = None if source.video.is_dir() else options.frame_rate
    frame_rate, shown = choose_frames(times, info.frame_rate, wanted_rate)
    if shown is not None:
        _select_frames(staged, database, name, shown)
    num_frames = len(times) if shown is None else len(shown)
    has_sound = _write_sound(staged, database, source, round(num_frames / frame_rate * SAMPLE_RATE))
    record: dict[str, Any] = {
        "video": name,
        "database": database,
        "num_frames": num_frames,
        "frame_rate": float(frame_rate),
        "width": info.width,
        "height": info.height,
        "resampled_from": None
        if shown is None
        else {"num_frames": len(times), "frame_rate": float(info.frame_rate)},
        "sound": "mixed to mono" if has_sound else "none: the wave is silent",
        "sample_rate": SAMPLE_RATE,
        "gaze": None,
    }
    if gaze is not None:
        by_frame = _gaze_by_frame(gaze, times, frame_rate, shown, num_frames)
        policy = choose_policy(options.samples, gaze)
        fixations = one_per_observer(by_frame) if policy == "one-per-observer" else by_frame
        num_fixated = _write_maps(
            staged, database, source, fixations, num_frames, info, sigma_pixels, advance
        )
        write_observers(staged.annotations_folder(database, name) / OBSERVERS_NAME, fixations)
        record["gaze"] = {
            "recorded_by": "frame" if gaze.time_seconds is None else "time",
            "num_observers": len(fixations.observers),
            "observers_known": fixations.observers_known,
            "num_read": by_frame.num_read,
            "dropped": {reason: num for reason, num in by_frame.dropped.items() if num},
            "samples": policy,
            "num_fixations": len(fixations),
            "num_frames_with_fixations": num_fixated,
            "screen": None if display is None else asdict(display),
            "sigma_pixels": sigma_pixels,
            "density": "Gaussian on the counts of fixations, scaled to a maximum of 255",
        }
    record["inputs"] = inputs
    record["versions"] = {"stavis": __version__} | {
        package: importlib.metadata.version(package) for package in ("av", "numpy", "Pillow", "scipy")
    }
    return record


def video_stem(path: Path) -> str:
    """A video's name: its file's without the suffix, or its folder's."""
    return path.name if path.is_dir() else path.stem


def check_sigma(options: PrepareOptions) -> None:
    """Checks that the Gaussian's sigma is given, once, and with it what degrees need and no gaze file can tell.

    Raises:
        StavisError: It is not.
    """
    if options.sigma_pixels is not None and options.sigma_degrees is not None:
        raise StavisError("the Gaussian's sigma is given in pixels and in degrees; give one of them")
    if options.sigma_pixels is None and options.sigma_degrees is None:
        raise StavisError(
            "gaze becomes density maps with a Gaussian, whose sigma is not given: --sigma-pixels, or --sigma-degrees "
            "(usually 1) with --screen-resolution, --screen-size and --distance"
        )
    if options.sigma_degrees is not None and None in (options.screen_size_cm, options.distance_cm):
        raise StavisError("--sigma-degrees needs --screen-size (cm) and --distance (cm)")


def find_sigma(options: PrepareOptions, display: ScreenMapping | None) -> float:
    """The Gaussian's sigma in pixels of the video.

    Args:
        options: With sigma in pixels, or in degrees with the screen's size and distance.
        display: How the video stood on the screen, needed for degrees.

    Raises:
        StavisError: As `check_sigma`, or the screen's resolution is not known.
    """
    check_sigma(options)
    if options.sigma_pixels is not None:
        return options.sigma_pixels
    assert options.sigma_degrees is not None
    assert options.screen_size_cm is not None
    assert options.distance_cm is not None
    if display is None:
        raise StavisError("--sigma-degrees needs --screen-resolution, which the gaze file does not tell")
    resolution = (round(display.screen_width), round(display.screen_height))
    return sigma_in_video_pixels(
        options.sigma_degrees,
        pixels_per_degree(options.distance_cm, options.screen_size_cm, resolution),
        display.scale,
    )


def choose_policy(samples: SamplePolicy, gaze: Gaze) -> SamplePolicy:
    """Which samples are fixations, "auto" decided by how gaze was recorded.

    Raises:
        StavisError: One an observer is asked for, but the format does not tell observers apart.
    """
    if samples == "auto":
        by_time = gaze.time_seconds is not None
        return "one-per-observer" if by_time and gaze.observers_known else "all"
    if samples == "one-per-observer" and not gaze.observers_known:
        raise StavisError(
            "--samples one-per-observer needs gaze that tells observers apart; this format does not"
        )
    return samples


def choose_frames(
    times: npt.NDArray[np.float64], announced_rate: Fraction, wanted_rate: float | None
) -> tuple[Fraction, npt.NDArray[np.int64] | None]:
    """Which frames are written at which constant rate.

    Frames that stand at constant intervals, each less than half an interval off, are all kept. Otherwise (a variable
    rate, or another rate is wanted) frame j of the result is the one on display in the middle of its interval.

    Args:
        times: (N,) when each frame appears, in seconds from the first, not falling.
        announced_rate: Frames per second as the file says.
        wanted_rate: Frames per second to have, None for those that are there.

    Returns:
        The rate, and (M,) the index of the frame to show in each interval; None if all are shown once.
    """
    num = len(times)
    if wanted_rate is None:
        measured = (
            [Fraction((num - 1) / times[-1]).limit_denominator(100_000)] if num > 1 and times[-1] > 0 else []
        )
        for rate in (announced_rate, *measured):
            if np.abs(times * float(rate) - np.arange(num)).max() < 0.5:
                return rate, None
    rate = announced_rate if wanted_rate is None else Fraction(wanted_rate).limit_denominator(100_000)
    end_seconds = times[-1] + 1 / float(announced_rate)
    middles = (np.arange(max(1, round(end_seconds * float(rate)))) + 0.5) / float(rate)
    shown = np.maximum(np.searchsorted(times, middles, side="right") - 1, 0)
    return rate, (None if np.array_equal(shown, np.arange(num)) else shown)


def _write_frames(
    staged: Layout,
    database: str,
    source: Source,
    info: VideoInfo,
    folder_rate: float | None,
    advance: Advance,
) -> npt.NDArray[np.float64]:
    folder = staged.frames_folder(database, source.name)
    folder.mkdir(parents=True)
    times = []
    for frame in read_frames(source.video, frame_rate=folder_rate):
        # 4:4:4: colour edges keep their place, as the network sees them smaller.
        Image.fromarray(frame.image).save(
            staged.frame(database, source.name, frame.index), quality=source.options.quality, subsampling=0
        )
        times.append(frame.time_seconds)
        advance(1)
    return np.array(times)


def _select_frames(staged: Layout, database: str, name: str, shown: npt.NDArray[np.int64]) -> None:
    """Makes the written frames into those that `shown` lists."""
    folder = staged.frames_folder(database, name)
    decoded = folder.with_name(f"{name}.decoded")
    folder.rename(decoded)
    folder.mkdir()
    for frame, source in enumerate(shown.tolist()):
        target = staged.frame(database, name, frame)
        shutil.copyfile(decoded / staged.frame(database, name, source).name, target)
    shutil.rmtree(decoded)


def _write_sound(staged: Layout, database: str, source: Source, num_samples: int) -> bool:
    with AudioReader(source.video, stream=source.options.audio_stream, sample_rate=SAMPLE_RATE) as reader:
        write_wave(staged.wave(database, source.name), reader.read(0, num_samples), SAMPLE_RATE)
        return reader.has_sound


def _gaze_by_frame(
    gaze: Gaze,
    times: npt.NDArray[np.float64],
    frame_rate: Fraction,
    shown: npt.NDArray[np.int64] | None,
    num_frames: int,
) -> Gaze:
    end_seconds = num_frames / float(frame_rate)
    if shown is None:
        return assign_frames(gaze, times, end_seconds)
    if gaze.time_seconds is not None:
        return assign_frames(gaze, np.arange(num_frames) / float(frame_rate), end_seconds)
    # Gaze that was recorded by frame goes where its frame goes: away, or to several places.
    inside = assign_frames(gaze, times, float(times[-1]))
    assert inside.frame is not None
    order = np.argsort(inside.frame, kind="stable")
    first = np.searchsorted(inside.frame[order], shown, side="left")
    last = np.searchsorted(inside.frame[order], shown, side="right")
    picked = np.concatenate([order[a:b] for a, b in zip(first, last, strict=True)])
    return replace(
        inside,
        observer=inside.observer[picked],
        x=inside.x[picked],
        y=inside.y[picked],
        frame=np.repeat(np.arange(num_frames), last - first),
        dropped={**inside.dropped, "frame_left_out": int((~np.isin(inside.frame, shown)).sum())},
    )


def _write_maps(
    staged: Layout,
    database: str,
    source: Source,
    fixations: Gaze,
    num_frames: int,
    info: VideoInfo,
    sigma_pixels: float,
    advance: Advance,
) -> int:
    """Writes both maps of every frame, all zero where nobody looked; returns how many frames somebody looked at."""
    assert fixations.frame is not None
    order = np.argsort(fixations.frame, kind="stable")
    edges = np.searchsorted(fixations.frame[order], np.arange(num_frames + 1))
    for frame in range(num_frames):
        mine = order[edges[frame] : edges[frame + 1]]
        counts = fixation_counts(fixations.x[mine], fixations.y[mine], info.height, info.width)
        density = to_8bit(density_from_fixations(counts, sigma_pixels))
        write_fixation_map(staged.fixation_map(database, source.name, frame), counts > 0)
        write_map(staged.density_map(database, source.name, frame), density, quality=source.options.quality)
        advance(1)
    return int((np.diff(edges) > 0).sum())


def _draw(layout: Layout, database: str, name: str, record: Mapping[str, Any]) -> None:
    draw_preview(
        layout,
        database,
        name,
        num_frames=record["num_frames"],
        observers_path=layout.annotations_folder(database, name) / OBSERVERS_NAME,
        output=layout.annotations_folder(database, name) / PREVIEW_NAME,
    )


def _describe_inputs(source: Source) -> dict[str, Any]:
    """All that decides what is made: hashes of the files, and the options, as they come back from JSON."""
    gaze = [file for path in source.gaze for file in gaze_files(path, source.options.gaze.format)]
    options = asdict(source.options)
    if not source.gaze:
        options = {key: options[key] for key in ("frame_rate", "audio_stream", "quality")}
    inputs = {
        "version": RECORD_VERSION,
        "video": {"file": source.video.name, "sha256": hash_files(source.video)},
        "gaze": [{"file": path.name, "sha256": hash_files(path)} for path in gaze],
        "options": options,
    }
    described: dict[str, Any] = json.loads(json.dumps(inputs))
    return described
