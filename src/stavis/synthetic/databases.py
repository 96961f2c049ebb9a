"""Generated databases in the published layout, with their ground truth."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stavis.datasets.fold_lists import format_fold_list
from stavis.datasets.layout import SINGLE_SPLIT_DATABASES, SPLITS, FoldEntry, Layout
from stavis.errors import StavisError, counted
from stavis.gaze.observers import OBSERVERS_NAME
from stavis.maps import density_from_fixations, to_8bit, write_fixation_map, write_map
from stavis.runtime.files import atomic_path, write_text
from stavis.runtime.workers import Advance, run_parallel
from stavis.synthetic.generator import ClipMaker, Settings
from stavis.synthetic.sound import SAMPLE_RATE
from stavis.synthetic.truth import Truth, write_arrays

FRAME_QUALITY = 90  # of the JPEG pictures
MAP_QUALITY = 95  # of the JPEG density maps
FORMAT = 1  # of the generator: rises whenever the same settings give other videos


def truth_path(root: Path, database: str, video: str) -> Path:
    """Returns the path of a video's ground truth in the data folder, without the suffixes .json and .npz."""
    return root / "truth" / database / video


def video_name(index: int) -> str:
    """Returns the folder name of a generated video, by its number from 0."""
    return f"synth_{index:04d}"


def write_databases(
    root: str | os.PathLike[str],
    databases: str | Sequence[str],
    settings: Settings,
    *,
    num_videos: int,
    test_share: float = 0.2,
    jobs: int = 1,
    quiet: bool = False,
) -> int:
    """Writes generated videos to a data folder in the published layout. Existing videos are kept.

    Args:
        root: Data folder; other databases in it are not touched.
        databases: Names of the databases (or a single one), of the six or others.
        settings: Settings of the videos.
        num_videos: Videos per database.
        test_share: Share of the videos in the test list of a split, above 0, up to 1/3. The test lists of the three
            splits do not overlap if there are enough videos.
        jobs: Number of processes.
        quiet: Show no progress.

    Returns:
        The number of videos made now.

    Raises:
        StavisError: A setting is outside its range, or a real database or one with other settings exists there.
    """
    root = Path(root)
    databases = [databases] if isinstance(databases, str) else databases
    settings.check()
    num_frames = settings.num_frames
    if num_videos < 2:
        raise StavisError(
            f"{counted(num_videos, 'videos')}; allowed: 2 or more, one to train on and one to test"
        )
    if not 0 < test_share <= 1 / 3:
        raise StavisError(f"test share {test_share}; allowed: above 0, to 1/3")
    if jobs < 1:
        raise StavisError(f"{jobs} jobs; allowed: 1 or more")
    for database in databases:
        if not database or not all(c.isascii() and (c.isalnum() or c in "_-") for c in database):
            raise StavisError(f"database name {database!r}; allowed: letters, digits, '_' and '-'")
    for database in databases:
        _claim(root, database, settings)
    tasks = [
        (root, database, index, settings)
        for index in range(num_videos)
        for database in databases
        if not truth_path(root, database, video_name(index)).with_suffix(".json").exists()
    ]
    run_parallel(
        _write_video,
        tasks,
        jobs=jobs,
        description="Generating",
        total=len(tasks) * num_frames,
        unit="frames",
        quiet=quiet,
    )
    for database in databases:
        _write_fold_lists(Layout(root), database, num_videos, num_frames, settings.frame_rate, test_share)
    return len(tasks)


def _claim(root: Path, database: str, settings: Settings) -> None:
    """Records the settings of a database, or checks that the recorded ones are equal."""
    path = root / "truth" / database / "settings.json"
    wanted = {"format": FORMAT, **json.loads(json.dumps(asdict(settings)))}
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise StavisError(
                f"{path}: not the settings of a generated database; remove the database to go on"
            ) from None
        changed = {name: value for name, value in wanted.items() if found.get(name) != value}
        differing = [f"{name} {found.get(name)}, not {value}" for name, value in changed.items()]
        if differing:
            raise StavisError(
                f"{root}: {database} there was generated with {'; '.join(differing)}; choose another folder or database"
            )
    elif (taken := Layout(root).frames_folder(database, "")).exists():
        raise StavisError(
            f"{taken}: a database that was not generated is there; choose another folder or database"
        )
    else:
        write_text(path, json.dumps(wanted, indent=1) + "\n")


def _write_video(task: tuple[Path, str, int, Settings], advance: Advance) -> None:
    root, database, index, settings = task
    from stavis.media import write_wave

    layout, video = Layout(root), video_name(index)
    maker = ClipMaker(settings, ("database", database, index))
    for frame, image in enumerate(maker.frames()):
        with atomic_path(layout.frame(database, video, frame)) as path:
            Image.fromarray(image).save(path, format="JPEG", quality=FRAME_QUALITY)
        advance(1)
    write_wave(layout.wave(database, video), maker.samples, SAMPLE_RATE)
    truth = maker.truth()
    _write_annotations(layout, database, video, truth, settings.num_observers)
    truth.save(truth_path(layout.root, database, video))  # last: from now on the video counts as done


def _write_annotations(layout: Layout, database: str, video: str, truth: Truth, num_observers: int) -> None:
    """Writes the observers' samples, as `stavis prepare` does, and the maps made from them."""
    gaze = truth.gaze
    write_arrays(
        layout.annotations_folder(database, video) / OBSERVERS_NAME,
        {
            "observer": gaze.observer,
            "frame": gaze.frame,
            "x": gaze.x,
            "y": gaze.y,
            "names": np.array([f"S{number + 1:02d}" for number in range(num_observers)], dtype=str),
            "known": np.array(True),
            "sigma_pixels": np.array(truth.sigma_pixels, dtype=np.float64),
        },
    )
    fixation_maps = gaze.fixation_maps(truth.num_frames, (truth.width, truth.height))
    for frame, fixation_map in enumerate(fixation_maps):
        write_fixation_map(layout.fixation_map(database, video, frame), fixation_map)
        density = density_from_fixations(fixation_map, truth.sigma_pixels)
        write_map(layout.density_map(database, video, frame), to_8bit(density), quality=MAP_QUALITY)


def _write_fold_lists(
    layout: Layout, database: str, num_videos: int, num_frames: int, frame_rate: float, test_share: float
) -> None:
    entries = [FoldEntry(video_name(index), num_frames, frame_rate) for index in range(num_videos)]
    num_test = max(1, round(num_videos * test_share))
    for split in SPLITS[:1] if database in SINGLE_SPLIT_DATABASES else SPLITS:
        # Videos are drawn independently of one another, so any block of them is a fair test set.
        test = {((split - 1) * num_test + i) % num_videos for i in range(num_test)}
        subsets: dict[str, list[Any]] = {
            "test": [entry for i, entry in enumerate(entries) if i in test],
            "train": [entry for i, entry in enumerate(entries) if i not in test],
        }
        for subset, chosen in subsets.items():
            write_text(layout.fold_list(database, subset, split), format_fold_list(chosen))
