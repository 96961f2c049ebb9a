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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock

from stavis.clips.preprocess import SAMPLE_RATE
from stavis.datasets.layout import Layout
from stavis.errors import StavisError
from stavis.gaze import (
    gaze_files,
    median_per_observer,
    read_gaze,
    write_observers,
)
from stavis.gaze.observers import OBSERVERS_NAME
from stavis.media import probe
from stavis.preparation.frames import choose_frames, select_frames, write_frames, write_sound
from stavis.preparation.maps import check_sigma, choose_policy, find_sigma, gaze_by_frame, write_maps
from stavis.preparation.options import Outcome, Source, video_stem
from stavis.preparation.preview import draw_preview
from stavis.preparation.records import (
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
from stavis.runtime.files import write_text
from stavis.runtime.workers import Advance, run_parallel
from stavis.version import __version__

PREVIEW_NAME = "preview.png"
RECORD_VERSION = 1  # a change makes every finished video be prepared anew
LOCK_TIMEOUT_SECONDS = 5.0  # workers of a killed run end within a fraction of this


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
    times = write_frames(staged, database, source, info, folder_rate, advance)
    wanted_rate = None if source.video.is_dir() else options.frame_rate
    frame_rate, shown = choose_frames(times, info.frame_rate, wanted_rate)
    if shown is not None:
        select_frames(staged, database, name, shown)
    num_frames = len(times) if shown is None else len(shown)
    has_sound = write_sound(staged, database, source, round(num_frames / frame_rate * SAMPLE_RATE))
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
        by_frame = gaze_by_frame(gaze, times, frame_rate, shown, num_frames)
        policy = choose_policy(options.samples, gaze)
        fixations = median_per_observer(by_frame) if policy == "one-per-observer" else by_frame
        num_fixated = write_maps(staged, database, source, fixations, num_frames, info, sigma_pixels, advance)
        write_observers(staged.annotations_folder(database, name) / OBSERVERS_NAME, fixations, sigma_pixels)
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
