"""Preparation of videos, with or without gaze, in the published layout.

A video is prepared in a folder of its own, `<data>/.prepare/<database>/<video>`, and moved to its places when it is
complete, its record `annotations/<database>/<video>/prepare.json` with the last move. So a video with a record is
finished, and the next run redoes what a killed run has left.
"""

import contextlib
import importlib.metadata
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from stavis.clips.preprocess import SAMPLE_RATE
from stavis.datasets.layout import Layout
from stavis.errors import StavisError, some
from stavis.gaze import gaze_files, median_per_observer, read_gaze, write_observers
from stavis.gaze.observers import OBSERVERS_NAME
from stavis.media import probe
from stavis.preparation import records
from stavis.preparation.folds import FoldChoice, choose_folds, listed_videos, write_folds
from stavis.preparation.frames import choose_frames, select_frames, write_frames, write_sound
from stavis.preparation.manifest import find_sources
from stavis.preparation.maps import check_sigma, choose_policy, find_sigma, gaze_by_frame, write_maps
from stavis.preparation.options import (
    Preparation,
    PreparedVideo,
    PrepareOptions,
    Source,
    check_database,
    video_stem,
)
from stavis.preparation.preview import draw_preview
from stavis.runtime.files import LOCK_TIMEOUT_SECONDS, sole_worker, write_text
from stavis.runtime.workers import Advance, run_parallel
from stavis.version import __version__

PREVIEW_NAME = "preview.png"
RECORD_VERSION = 2  # a change makes every finished video count as prepared with other inputs


def prepare(
    videos: str | PathLike[str] | Sequence[str | PathLike[str]],
    output: str | PathLike[str],
    database: str,
    *,
    gaze: str | PathLike[str] | Sequence[str | PathLike[str]] = (),
    options: PrepareOptions | None = None,
    folds: FoldChoice | None = None,
    jobs: int = 1,
    overwrite: bool = False,
    preview: bool = False,
    quiet: bool = True,
) -> Preparation:
    """Prepares videos, with or without gaze, in the layout of the published databases, and writes fold lists.

    A video that fails does not stop the others. Finished videos are left alone, so the same call resumes after an
    interruption.

    Args:
        videos: Video files, image folders, folders of videos, glob patterns, or manifests (`.csv` with columns video,
            name, gaze, gaze_format, clip).
        output: Data folder; created if it does not exist.
        database: Name of the database in it: letters, digits, ".", "_" and "-".
        gaze: Gaze files, folders and patterns for the videos that no manifest names. Of several videos, a file belongs
            to the one whose name its own name contains.
        options: How videos and gaze are prepared; gaze needs at least `sigma_pixels` or `sigma_degrees`.
        folds: How videos are divided into train and test lists.
        jobs: Number of processes.
        overwrite: Redo finished videos, and replace folders and fold lists that were not made by this function.
        preview: Also draw a contact sheet of each video with its gaze.
        quiet: Show no progress.

    Returns:
        A result per video, and the fold lists, which include the videos of earlier runs.

    Raises:
        ValueError: An argument is wrong.
        StavisError: An input does not exist, gaze has no sigma or no video, fold lists contradict each other or are not
            ours, or another process prepares videos in this folder.
    """
    check_database(database)
    layout = Layout(Path(output))
    sources = find_sources(_paths(videos), _paths(gaze), options or PrepareOptions())
    choice = folds or FoldChoice()
    known = records.finished_videos(layout, database)
    if not overwrite:
        ours = {*known, *records.unfinished_videos(layout, database)}
        if foreign := listed_videos(layout, database) - ours:
            raise StavisError(
                f"{layout.root}: the fold lists of {database} name videos that were not prepared here "
                f"({some(foreign)}); choose another `database`, or `overwrite=True` to replace the lists"
            )
    names = [source.name for source in sources]
    choose_folds(choice, [*known, *names])  # so that mistakes in it are reported before the work
    results = _prepare_sources(layout, database, sources, jobs, overwrite, preview, quiet)
    entries = records.finished_videos(layout, database)
    # A video that failed today keeps its place in the folds for when it is repaired.
    made, left_out = choose_folds(choice, [*entries, *names])
    return Preparation(
        tuple(results),
        tuple(write_folds(layout, database, made, entries)) if entries else (),
        len(made),
        len(entries),
        tuple(sorted(left_out & set(entries))),
    )


def _paths(paths: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[str]:
    return [fspath(path) for path in ([paths] if isinstance(paths, str | PathLike) else paths)]


def _prepare_sources(
    layout: Layout,
    database: str,
    sources: Sequence[Source],
    jobs: int,
    overwrite: bool,
    preview: bool,
    quiet: bool,
) -> list[PreparedVideo]:
    for source in sources:
        if source.gaze:
            check_sigma(source.options)
    staging = layout.root / records.STAGING_FOLDER
    busy = f"{layout.root}: another `stavis prepare` is at work in this data folder"
    with sole_worker(staging / "lock", busy, timeout=LOCK_TIMEOUT_SECONDS):
        return run_parallel(
            _Task(layout, database, overwrite, preview),
            sources,
            jobs=jobs,
            description="preparing",
            total=sum(_estimate_pictures(source) for source in sources),
            unit="pictures",
            quiet=quiet,
        )


@dataclass(frozen=True)
class _Task:
    """Work on each source, sent to worker processes."""

    layout: Layout
    database: str
    overwrite: bool
    preview: bool

    def __call__(self, source: Source, advance: Advance) -> PreparedVideo:
        try:
            return self.prepare(source, advance)
        except StavisError as error:
            return PreparedVideo(source, error=str(error))
        except OSError as error:
            return PreparedVideo(source, error=f"{error.filename or source.video}: {error.strerror or error}")

    def prepare(self, source: Source, advance: Advance) -> PreparedVideo:
        layout, database = self.layout, self.database
        inputs = _describe_inputs(source)
        staging = records.staging_folder(layout, database, source.name)
        finished = records.read_record(layout, database, source.name)
        if not self.overwrite and not staging.exists():
            if finished is not None and records.is_complete(layout, database, source.name, finished):
                if finished["inputs"] != inputs:
                    raise StavisError(
                        f"was prepared before with other {records.differences(finished['inputs'], inputs)}; "
                        "`overwrite=True` prepares it anew"
                    )
                advance((2 if source.gaze else 1) * finished["num_frames"])
                if self.preview and source.gaze:
                    _draw(layout, database, source.name, finished)
                return PreparedVideo(source, finished, was_finished=True)
            if finished is None:
                records.refuse_foreign_folders(layout, database, source.name)
        interrupted = staging.exists()
        _clear(staging)
        # The same layout, so that everything written here has its final relative path.
        staged = Layout(staging)
        try:
            record = _make_video(staged, database, source, inputs, advance)
            if self.preview and source.gaze:
                _draw(staged, database, source.name, record)
        except (StavisError, OSError):
            _clear(staging)
            if not interrupted:
                _discard(staging)
            raise
        write_text(
            staged.annotations_folder(database, source.name) / records.RECORD_NAME,
            json.dumps(record, indent=2) + "\n",
        )
        records.move_into_place(staged, layout, database, source.name)
        _discard(staging)
        return PreparedVideo(source, record)


def _estimate_pictures(source: Source) -> int:
    try:
        info = probe(source.video, frame_rate=source.options.frame_rate if source.video.is_dir() else None)
    except (StavisError, OSError):
        return 0
    return (info.num_frames or 0) * (2 if source.gaze else 1)


def _clear(staging: Path) -> None:
    """Empties the staging folder, which never disappears meanwhile: it marks the video as unfinished."""
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
        # Before the long work, as mistakes in gaze files are the most likely ones.
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
        "sound": "mixed to mono" if has_sound else "none: the WAV file is silent",
        "sample_rate": SAMPLE_RATE,
        "gaze": None,
        "warnings": [],
    }
    if gaze is not None:
        by_frame, warnings = gaze_by_frame(gaze, times, frame_rate, shown, num_frames)
        record["warnings"] = list(warnings)
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
    folder = layout.annotations_folder(database, name)
    files = {"observers_path": folder / OBSERVERS_NAME, "output": folder / PREVIEW_NAME}
    draw_preview(layout, database, name, num_frames=record["num_frames"], **files)


def _describe_inputs(source: Source) -> dict[str, Any]:
    """Everything that determines the result: hashes of the files, and the options, as they come back from JSON."""
    gaze = [file for path in source.gaze for file in gaze_files(path, source.options.gaze.format)]
    options = asdict(source.options)
    if not source.gaze:
        options = {key: options[key] for key in ("frame_rate", "audio_stream", "quality")}
    inputs = {
        "version": RECORD_VERSION,
        "video": {"file": source.video.name, "sha256": records.hash_files(source.video)},
        "gaze": [{"file": path.name, "sha256": records.hash_files(path)} for path in gaze],
        "options": options,
    }
    described: dict[str, Any] = json.loads(json.dumps(inputs))
    return described
