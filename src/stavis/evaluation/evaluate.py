"""Evaluates predictions of the test videos: which are to be scored, by whom, and what an earlier run has done."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stavis.datasets.fold_lists import select_share
from stavis.datasets.layout import Layout
from stavis.errors import StavisError
from stavis.evaluation.baselines import (
    train_mean_map,
)
from stavis.evaluation.other_videos import count_other_videos
from stavis.evaluation.plan import ListedVideo, Plan, ScoredMaps, VideoTask, identity
from stavis.evaluation.results import VideoScores, read_scores
from stavis.evaluation.video import score_video
from stavis.runtime.workers import run_parallel

# --- Running ----------------------------------------------------------------------------------------------------------


def run(
    plan: Plan,
    *,
    jobs: int = 1,
    shard: tuple[int, int] = (1, 1),
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Scores what has not been scored. Each video's scores are a file, which a later run finds.

    Args:
        plan: From `make_plan`.
        jobs: Processes; each takes a video.
        shard: (i, n): the i-th of n shares of the videos, from 1.
        overwrite: Score anew what is there.
        quiet: Show no progress.

    Returns:
        How many videos were scored now.

    Raises:
        StavisError: A map, density map or fixation map is unreadable.
    """
    number, num_shares = shard
    mine = select_share(
        plan.tasks, number - 1, num_shares, lambda task: task.entry.num_frames * len(task.scored)
    )
    todo = []
    for task in mine:
        left = tuple(s for s in task.scored if overwrite or _read_current(task, s) is None)
        if left:
            todo.append(replace(task, scored=left))
    if not todo:
        return 0
    todo = _with_train_means(todo, jobs, overwrite, quiet)
    if any(task.others for task in todo):
        count_other_videos(todo, jobs, overwrite, quiet)
    # The longest first, so that no process is left alone with it at the end.
    todo.sort(key=lambda task: -task.entry.num_frames * len(task.scored))
    name = "scores" if shard[1] == 1 else f"scores, share {shard[0]} of {shard[1]}"
    total = sum(task.entry.num_frames * len(task.scored) for task in todo)
    run_parallel(score_video, todo, jobs=jobs, description=name, total=total, unit="frames", quiet=quiet)
    return len(todo)


def collect(plan: Plan) -> dict[tuple[ListedVideo, str], VideoScores]:
    """The scores of every line of the test lists and every method.

    Raises:
        StavisError: Some have not been computed, or their maps have changed since.
    """
    tasks = {(task.database, task.entry): task for task in plan.tasks}
    results = {}
    read: dict[Path, VideoScores | None] = {}
    lacking = []
    for (video, method), scored in plan.scored.items():
        task = tasks[video.database, video.entry]
        path = task.scores_path(scored)
        if path not in read:
            read[path] = _read_current(task, scored)
        scores = read[path]
        if scores is None:
            lacking.append(path)
        else:
            results[video, method] = scores
    if lacking:
        num = len(set(lacking))
        raise StavisError(
            f"{lacking[0]}: not there or of other maps, and so are {num - 1} more of {len(read)}; run all shares first"
        )
    return results


def _read_current(task: VideoTask, scored: ScoredMaps) -> VideoScores | None:
    """Scores from an earlier run, if they are of the same maps under the same settings."""
    found = read_scores(task.scores_path(scored))
    if found is None or found[1] != identity(task, scored):
        return None
    return found[0]


def _with_train_means(tasks: Sequence[VideoTask], jobs: int, overwrite: bool, quiet: bool) -> list[VideoTask]:
    wanted = dict.fromkeys(
        (task.database, scored.split)
        for task in tasks
        for scored in task.scored
        if scored.method == "train-mean" and scored.split is not None
    )
    means = {
        (database, split): train_mean_map(
            Layout(tasks[0].data),
            database,
            split,
            tasks[0].output / "train-mean",
            jobs=jobs,
            overwrite=overwrite,
            quiet=quiet,
        )
        for database, split in wanted
    }
    return [
        replace(
            task,
            train_means={
                split: mean for (database, split), mean in means.items() if database == task.database
            },
        )
        for task in tasks
    ]
