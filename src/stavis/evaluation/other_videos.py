"""Fixation counts of other videos, for the protocols "cross-video" and "tuebingen"."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from stavis.datasets.layout import FoldEntry, Layout
from stavis.evaluation.ground_truth import read_fixations
from stavis.evaluation.plan import VideoTask
from stavis.metrics.negatives import Pixels
from stavis.runtime.files import atomic_path
from stavis.runtime.workers import run_parallel


def count_other_videos(tasks: Sequence[VideoTask], jobs: int, overwrite: bool, quiet: bool) -> None:
    """Counts the fixations of all videos that serve others as negatives, and stores the counts."""
    data, output = tasks[0].data, tasks[0].output
    wanted = dict.fromkeys((task.database, other) for task in tasks for other in task.others)
    todo = [
        (data, output, database, entry)
        for database, entry in wanted
        if overwrite or not _counts_path(output, database, entry).exists()
    ]
    total = sum(entry.num_frames for *_, entry in todo)
    name = "fixations of other videos"
    run_parallel(_count_video, todo, jobs=jobs, description=name, total=total, unit="frames", quiet=quiet)


def read_counts(task: VideoTask, other: FoldEntry) -> tuple[tuple[int, int], Pixels]:
    """Size and fixation counts of another video of the task's database."""
    with np.load(_counts_path(task.output, task.database, other), allow_pickle=False) as arrays:
        height, width = arrays["size"].tolist()
        return (height, width), Pixels(arrays["positions"], arrays["counts"])


def _counts_path(output: Path, database: str, entry: FoldEntry) -> Path:
    return output / "fixations" / database / f"{entry.video}_{entry.num_frames}.npz"


def _count_video(task: tuple[Path, Path, str, FoldEntry], advance: Callable[[int], None]) -> None:
    data, output, database, entry = task
    fixations = read_fixations(Layout(data), database, entry, advance)
    pixels = fixations.counts()
    with atomic_path(_counts_path(output, database, entry)) as temporary:
        np.savez(temporary, size=np.array(fixations.size), positions=pixels.positions, counts=pixels.counts)
    advance(entry.num_frames)
