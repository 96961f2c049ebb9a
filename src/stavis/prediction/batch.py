"""Prediction of many videos into result folders, in one process or several."""

import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import torch

from stavis.datasets.fold_lists import parse_share
from stavis.errors import StavisError, counted, one_line
from stavis.maps.overlay import OverlayStyle
from stavis.media.inputs import find_videos, name_folders
from stavis.model import Modality
from stavis.prediction.folder import FolderResult, FolderSettings
from stavis.prediction.manifest import Index, ManifestRow, choose_shard, read_manifest, split_rows
from stavis.prediction.options import PredictKeywords, PredictOptions, show_keywords
from stavis.prediction.outputs import MapFormat, OutputKind, choose_outputs
from stavis.prediction.speed import Speed
from stavis.prediction.worker import Plan, Task, Worker, failure
from stavis.runtime import cluster
from stavis.runtime.progress import describe_rate, track
from stavis.storage.remote import RemotePath, as_path
from stavis.weights.sources import describe_weights

Report = Callable[[str], None]
Results = Generator[tuple[Task, FolderResult], None, None]


@show_keywords(PredictKeywords)
def predict_files(
    videos: str | Path | Sequence[str | Path] = (),
    output: str | Path = "stavis-output",
    *,
    weights: str | Path = "default",
    modality: Modality | None = None,
    device: str = "auto",
    outputs: str | Sequence[OutputKind] = "maps,overlay",
    map_format: MapFormat | None = None,
    style: OverlayStyle | None = None,
    speed: Speed = "exact",
    jobs: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    manifest: str | Path | None = None,
    shard: str = "1/1",
    retry_failed: bool = False,
    cache_dir: str | Path | None = None,
    segment_seconds: float | None = None,
    ray: str | None = None,
    ray_gpus: float = 0,
    report: Report | None = None,
    **options: Unpack[PredictKeywords],
) -> list[FolderResult]:
    """Predicts videos and writes a result folder for each, as `stavis predict` does.

    A video that fails does not stop the others. Finished results of the same settings are kept, so that an interrupted
    call can be repeated.

    Args:
        videos: Files, folders of videos or of numbered images, glob patterns, or URLs of them (docs/clusters.md).
        output: Folder for the result folders, which are named after the videos. Can be a URL.
        weights: As `source` of `load_model`.
        modality, device: As for `load_model`.
        outputs: "maps", "npz", "published", "video", "overlay": a sequence, or a string with commas; or "all".
            `summary.json`, `frames.csv` and `timeline.png` are always written.
        map_format: Format of "maps".
        style: What the overlay shows.
        speed: "balanced" and "fast" choose `stride` and `precision`, see `stavis.prediction.speed.choose_mode`.
            `summary.json` names the choice and how far it is from the exact maps.
        jobs: Number of processes. With more than one, a script needs `if __name__ == "__main__":`.
        overwrite: Predict again what is finished.
        quiet: Show no progress.
        verbose: Report the traceback of unexpected errors.
        manifest: A CSV, JSON Lines or Parquet table of the videos, instead of `videos`, see
            `stavis.prediction.manifest.read_manifest`. `output/index.parquet` then lists all results.
        shard: The share of the manifest to predict, "1/N" to "N/N": N calls on any machines share the work.
        retry_failed: Try again what an earlier run of the manifest failed on; otherwise it is only reported.
        cache_dir: Folder that videos at URLs are copied to before they are read. None: they are read by ranges.
        segment_seconds: Split videos of the manifest whose `duration` is longer into segments of this length, which are
            predicted independently and joined: the maps are those of the whole video.
        ray: Predict on a Ray cluster, in `jobs` actors: its address, "auto" for the one that Ray finds or else starts
            here, or "local" to start one here.
        ray_gpus: GPUs per actor; a half lets two share one.
        report: Called with one line of text about the weights, each warning, each video, and at the end each failure
            among several videos. None: nothing is said.
        **options: The attributes of `PredictOptions`.

    Returns:
        One result per video, in the order of the inputs. What failed has `error` or `failed_outputs`.

    Raises:
        ValueError: An option is out of range.
        StavisError: An input does not exist, the manifest cannot be read, or the weights cannot be loaded.
    """
    output = as_path(output)
    cache_dir = None if cache_dir is None else Path(cache_dir)
    if isinstance(output, RemotePath) and output.url.startswith(("http://", "https://")):
        raise StavisError(
            f"{output}: results cannot be written to a web server; use object storage or a folder"
        )
    if jobs < 1:
        raise ValueError(f"`jobs={jobs}`: must be 1 or more")
    settings = FolderSettings(
        PredictOptions(**options), choose_outputs(outputs), map_format or MapFormat(), style or OverlayStyle()
    )
    _check_settings(settings.options, speed, segment_seconds)
    inputs = [videos] if isinstance(videos, str | Path) else videos
    plan = Plan(str(weights), modality, device, settings, overwrite, speed)
    running = _Running(jobs, ray, ray_gpus, quiet, verbose, report or (lambda _: None))
    if manifest is None:
        if shard != "1/1" or retry_failed or segment_seconds is not None:
            raise ValueError("`shard`, `retry_failed` and `segment_seconds` need a `manifest`")
        texts = [one.url if isinstance(one, RemotePath) else str(one) for one in inputs]
        names = name_folders(find_videos(texts), output)
        tasks = [Task(as_path(video, cache_dir=cache_dir), output / name) for video, name in names.items()]
        return _run(plan, tasks, running)
    if inputs:
        raise ValueError("give either `videos` or a `manifest`")
    rows = _read_rows(as_path(manifest), segment_seconds, parse_share(shard), settings.options)
    index = Index(output, parse_share(shard))
    by_name = {row.name: row for row in rows}
    failed = {} if retry_failed else index.failed(by_name)
    try:
        results = _run(
            plan,
            [_make_task(row, output, cache_dir) for row in rows if row.name not in failed],
            running,
            done=lambda result: index.add(by_name[result.folder.name], result),
        )
    finally:
        path = index.write()
    for one in failed.values():
        running.say(f"failed before (`retry_failed=True` tries again): {one.error}")
    if not quiet:
        running.say(f"{path}: {counted(len(index.rows()), 'videos')}")
    earlier = [FolderResult(output / n, video=by_name[n].path, error=one.error) for n, one in failed.items()]
    return [*results, *earlier]


def _check_settings(options: PredictOptions, speed: Speed, segment_seconds: float | None) -> None:
    if options.audio_path is not None and not as_path(options.audio_path).is_file():
        raise StavisError(f"{options.audio_path}: no such file (`audio_path`)")
    if speed != "exact" and (options.stride, options.precision) != (1, "float32"):
        raise ValueError(f"`speed={speed}` chooses `stride` and `precision`; leave them out")
    if speed != "exact" and (segment_seconds is not None or options.context):
        raise ValueError(f"segments (`context=True`) need `stride=1`, which `speed={speed}` does not choose")
    if segment_seconds is not None and segment_seconds <= 0:
        raise ValueError(f"`segment_seconds={segment_seconds}`: must be above 0")


def _read_rows(
    manifest: Path, segment_seconds: float | None, shard: tuple[int, int], options: PredictOptions
) -> list[ManifestRow]:
    """The rows of a shard of a manifest, with their options checked."""
    rows = choose_shard(list(split_rows(read_manifest(manifest), segment_seconds)), shard)
    for row in rows:
        try:
            replace(options, **row.options)
            replace(options, context=options.context or bool(row.segments))
        except ValueError as error:
            raise StavisError(f"{manifest}: {row.uri}: {error}") from None
    return rows


@dataclass(frozen=True)
class _Running:
    """Where tasks run, and what is said about them."""

    jobs: int
    ray: str | None
    ray_gpus: float
    quiet: bool
    verbose: bool
    say: Report


def _make_task(row: ManifestRow, output: Path, cache_dir: Path | None) -> Task:
    video = as_path(row.path, cache_dir=cache_dir)
    return Task(video, output / row.name, row.options, row.segments, row.number)


def _run(
    plan: Plan,
    tasks: Sequence[Task],
    running: _Running,
    done: Callable[[FolderResult], None] = lambda _: None,
) -> list[FolderResult]:
    if not tasks:
        return []
    start = _run_on_ray if running.ray is not None else _run_here if running.jobs == 1 else _run_in_processes
    say = running.say
    results: dict[Path, FolderResult] = {}
    with closing(start(plan, tasks, running)) as run:
        for task, result in run:
            earlier = results.get(task.folder)
            is_whole = result.folder == task.folder  # and not a segment while others are missing
            if earlier is None or (is_whole and not earlier.failures):
                results[task.folder] = result
            if is_whole and not (result.skipped and earlier is not None):
                done(result)
                for line in _describe(result, running.quiet):
                    say(line)
            if running.verbose and result.traceback is not None:
                say(result.traceback)
    for line in _conclude(results):
        say(line)
    return [results[folder] for folder in dict.fromkeys(task.folder for task in tasks)]


def _conclude(results: Mapping[Path, FolderResult]) -> Iterator[str]:
    for folder, result in results.items():
        if result.folder != folder:
            yield f"{result.video}: not all segments are finished; the run that finishes the last one joins them"
    if len(results) > 1:
        yield from (f"failed: {failure}" for result in results.values() for failure in result.failures)


def _describe(result: FolderResult, quiet: bool) -> Iterator[str]:
    for warning in result.warnings:
        yield f"warning: {warning}"
    if quiet or result.error is not None:
        return
    if result.skipped:
        yield f"{result.video}: already finished, in {result.folder}"
    else:
        rate = describe_rate(result.num_frames / max(result.seconds, 1e-9), "frames")
        yield f"{result.video}: {counted(result.num_frames, 'frames')}, {rate}, in {result.folder}"


def _run_here(plan: Plan, tasks: Sequence[Task], running: _Running) -> Results:
    quiet, say = running.quiet, running.say
    worker = Worker(plan)
    if not quiet:
        say(f"weights: {worker.network.name}")
    for warning in worker.network.warnings:
        say(f"warning: {warning}")
    if worker.mode is not None and not quiet:
        say(f"speed {worker.mode}")
    for task in tasks:
        yield task, worker.run(task, quiet)


def _run_in_processes(plan: Plan, tasks: Sequence[Task], running: _Running) -> Results:
    quiet = running.quiet
    if not quiet:
        running.say(f"weights: {describe_weights(plan.weights)}")
    jobs = min(running.jobs, len(tasks))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(plan, threads)
    ) as pool:
        futures = {pool.submit(_run_in_worker, task): task for task in tasks}
        try:
            with track("videos", len(tasks), unit="videos", quiet=quiet) as advance:
                for future in as_completed(futures):
                    yield futures[future], future.result()
                    advance()
        except BrokenProcessPool:
            raise StavisError(
                "a worker process was killed, possibly for lack of memory; finished work is kept: run again with fewer "
                f"processes (`jobs={jobs}`)"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _run_on_ray(plan: Plan, tasks: Sequence[Task], running: _Running) -> Results:
    assert running.ray is not None
    if not running.quiet:
        running.say(f"weights: {describe_weights(plan.weights)}")
    tasks = [replace(task, video=_absolute(task.video), folder=_absolute(task.folder)) for task in tasks]
    missing = set(range(len(tasks)))
    with track("videos", len(tasks), unit="videos", quiet=running.quiet) as advance:
        for number, result in cluster.run_on_ray(
            _RayWorker,
            plan,
            tasks,
            address=running.ray,
            num_workers=min(running.jobs, len(tasks)),
            num_gpus=running.ray_gpus,
        ):
            missing.discard(number)
            yield tasks[number], result
            advance()
    for number in sorted(missing):
        died = StavisError(
            f"{tasks[number].video}: the worker process was killed each time it tried, for lack of memory or by a "
            "crash of a decoder"
        )
        yield tasks[number], failure(tasks[number], died)


def _absolute(path: Path) -> Path:
    """A path as processes in other working directories find it."""
    return path if isinstance(path, RemotePath) else Path(os.path.abspath(path))


class _RayWorker:
    def __init__(self, plan: Plan, threads: int) -> None:
        _start_worker(plan, threads)

    def __call__(self, task: Task) -> FolderResult:
        return _run_in_worker(task)


_plan: Plan | None = None
_worker: Worker | None = None


def _start_worker(plan: Plan, threads: int) -> None:
    global _plan
    torch.set_num_threads(threads)
    _plan = plan


def _run_in_worker(task: Task) -> FolderResult:
    global _worker
    assert _plan is not None
    if _worker is None:
        # Here and not in the initializer, whose errors a pool reports as a broken pool, without their text.
        try:
            _worker = Worker(_plan)
        except OSError as error:
            raise StavisError(one_line(error)) from None
    return _worker.run(task, quiet=True)
