"""The work of an evaluation: scores the videos that have no current scores, and collects the scores of all."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from stavis.datasets.fold_lists import select_share
from stavis.datasets.layout import Layout
from stavis.errors import StavisError
from stavis.evaluation.baselines import train_mean_map
from stavis.evaluation.other_videos import count_other_videos
from stavis.evaluation.plan import FIELD_PROTOCOLS, ListedVideo, Plan, ScoredMaps, VideoTask
from stavis.evaluation.protocols import open_field_data
from stavis.evaluation.protocols.base import score_field_video, with_center
from stavis.evaluation.results import VideoScores, read_scores
from stavis.evaluation.video import score_video
from stavis.runtime.workers import run_parallel


def run(
    plan: Plan,
    *,
    jobs: int = 1,
    shard: tuple[int, int] = (1, 1),
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Scores the videos that have no current scores. Each video's scores are a file, so that a later run resumes.

    Returns the number of videos scored now. Raises StavisError if a map, density map or fixation map is unreadable.
    """
    number, num_shares = shard
    tasks = _prepared(plan.tasks, jobs, overwrite, quiet)
    mine = select_share(tasks, number - 1, num_shares, lambda task: task.entry.num_frames * len(task.scored))
    todo = []
    for task in mine:
        left = tuple(s for s in task.scored if overwrite or _read_current(task, s) is None)
        if left:
            todo.append(replace(task, scored=left))
    if not todo:
        return 0
    field = plan.tasks[0].settings.protocol in FIELD_PROTOCOLS
    if not field:
        todo = _with_train_means(todo, jobs, overwrite, quiet)
    if not field and any(task.others for task in todo):
        count_other_videos(todo, jobs, overwrite, quiet)
    # The longest first, so that no process is left with it at the end.
    todo.sort(key=lambda task: -task.entry.num_frames * len(task.scored))
    name = "scores" if num_shares == 1 else f"scores, share {number} of {num_shares}"
    total = sum(task.entry.num_frames * len(task.scored) for task in todo)
    run_parallel(_score, todo, jobs=jobs, description=name, total=total, unit="frames", quiet=quiet)
    return len(todo)


def _score(task: VideoTask, advance: Callable[[int], None]) -> None:
    if task.settings.protocol in FIELD_PROTOCOLS:
        score_field_video(open_field_data(task.data, task.settings), task, advance)
    else:
        score_video(task, advance)


def _prepared(tasks: Sequence[VideoTask], jobs: int, overwrite: bool, quiet: bool) -> list[VideoTask]:
    """The tasks after the work that needs all videos of a protocol."""
    if not tasks or tasks[0].settings.protocol not in FIELD_PROTOCOLS:
        return list(tasks)
    data = open_field_data(tasks[0].data, tasks[0].settings)
    return with_center(data, data.prepare(tasks, jobs, overwrite, quiet), overwrite)


def collect(plan: Plan) -> dict[tuple[ListedVideo, str], VideoScores]:
    """The scores of every entry of the test lists and every method.

    Raises StavisError if some have not been computed, or their maps have changed since.
    """
    tasks = {(task.database, task.entry): task for task in _prepared(plan.tasks, 1, False, True)}
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
            f"{lacking[0]}: missing or of other maps, and so are {num - 1} more of {len(read)}; run all shares first"
        )
    return results


def _read_current(task: VideoTask, scored: ScoredMaps) -> VideoScores | None:
    """Scores from an earlier run, if they are of the same maps under the same settings."""
    found = read_scores(task.scores_path(scored))
    return found[0] if found is not None and found[1] == task.identity(scored) else None


def _with_train_means(tasks: Sequence[VideoTask], jobs: int, overwrite: bool, quiet: bool) -> list[VideoTask]:
    wanted = dict.fromkeys(
        (task.database, scored.split)
        for task in tasks
        for scored in task.scored
        if scored.method in ("train-mean", "center") and scored.split is not None
    )
    layout, cache = Layout(tasks[0].data), tasks[0].output / "train-mean"
    means = {
        key: train_mean_map(layout, *key, cache, jobs=jobs, overwrite=overwrite, quiet=quiet)
        for key in wanted
    }
    return [
        replace(
            task, train_means={split: mean for (name, split), mean in means.items() if name == task.database}
        )
        for task in tasks
    ]
