"""Prediction of many videos into result folders, in one process or several."""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Unpack

import torch

from stavis.engine import EngineFactory
from stavis.errors import StavisError, one_line
from stavis.maps.overlay import OverlayStyle
from stavis.media.inputs import find_videos, name_folders
from stavis.model import Modality
from stavis.prediction.folder import SUMMARY, FolderResult, FolderSettings, predict_to_folder
from stavis.prediction.manifest import Index, choose_shard, parse_shard, read_manifest
from stavis.prediction.options import PredictKeywords, PredictOptions, show_keywords
from stavis.prediction.outputs import MapFormat, OutputKind, choose_outputs
from stavis.prediction.speed import Speed, choose_mode
from stavis.runtime.allocator import use_one_arena
from stavis.runtime.progress import track
from stavis.storage.remote import RemotePath, as_path, hide_credentials, staged
from stavis.weights.names import load_network
from stavis.weights.sources import describe_weights

Report = Callable[[str], None]


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
        modality: As for `load_model`.
        device: As for `load_model`.
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
    inputs = [videos] if isinstance(videos, str | Path) else videos
    audio_path = settings.options.audio_path
    if audio_path is not None and not as_path(audio_path).is_file():
        raise StavisError(f"{audio_path}: no such file (`audio_path`)")
    if speed != "exact" and (settings.options.stride, settings.options.precision) != (1, "float32"):
        raise ValueError(f"`speed={speed}` chooses `stride` and `precision`; leave them out")
    plan = _Plan(str(weights), modality, device, settings, overwrite, speed)
    say = report or (lambda _: None)
    if manifest is None:
        if shard != "1/1" or retry_failed:
            raise ValueError("`shard` and `retry_failed` need a `manifest`")
        names = name_folders(find_videos([_text(one) for one in inputs]), output)
        tasks = [_Task(as_path(video, cache_dir=cache_dir), output / name) for video, name in names.items()]
        return _run(plan, tasks, jobs, quiet, verbose, say)
    if inputs:
        raise ValueError("give either `videos` or a `manifest`")
    return _run_manifest(
        plan,
        as_path(manifest),
        output,
        parse_shard(shard),
        retry_failed,
        cache_dir,
        jobs,
        quiet,
        verbose,
        say,
    )


def _text(path: str | Path) -> str:
    return path.url if isinstance(path, RemotePath) else str(path)


def _run_manifest(
    plan: "_Plan",
    manifest: Path,
    output: Path,
    shard: tuple[int, int],
    retry_failed: bool,
    cache_dir: Path | None,
    jobs: int,
    quiet: bool,
    verbose: bool,
    say: Report,
) -> list[FolderResult]:
    rows = {row.name: row for row in choose_shard(read_manifest(manifest), shard)}
    for row in rows.values():
        try:
            replace(plan.settings.options, **row.options)
        except ValueError as error:
            raise StavisError(f"{manifest}: {row.uri}: {error}") from None
    index = Index(output, shard)
    failed = (
        {} if retry_failed else {n: r for n, r in index.rows().items() if r.status == "failed" and n in rows}
    )
    tasks = [
        _Task(as_path(row.path, cache_dir=cache_dir), output / name, row.options)
        for name, row in rows.items()
        if name not in failed
    ]
    try:
        results = _run(
            plan,
            tasks,
            jobs,
            quiet,
            verbose,
            say,
            done=lambda result: index.add(rows[result.folder.name], result),
        )
    finally:
        path = index.write()
    for one in failed.values():
        say(f"failed before (`retry_failed=True` tries again): {one.error}")
    if not quiet:
        say(f"{path}: {len(index.rows())} videos")
    earlier = [FolderResult(output / n, video=rows[n].path, error=one.error) for n, one in failed.items()]
    return [*results, *earlier]


def _run(
    plan: "_Plan",
    tasks: Sequence["_Task"],
    jobs: int,
    quiet: bool,
    verbose: bool,
    say: Report,
    done: Callable[[FolderResult], None] = lambda _: None,
) -> list[FolderResult]:
    if not tasks:
        return []
    run = (
        _run_here(plan, tasks, quiet, say) if jobs == 1 else _run_in_processes(plan, tasks, jobs, quiet, say)
    )
    results: dict[Path, FolderResult] = {}
    with closing(run):
        for result in run:
            done(result)
            results[result.folder] = result
            for line in _describe(result, quiet):
                say(line)
            if verbose and result.traceback is not None:
                say(result.traceback)
    ordered = [results[task.folder] for task in tasks]
    if len(tasks) > 1:
        for failure in (failure for result in ordered for failure in result.failures):
            say(f"failed: {failure}")
    return ordered


def _describe(result: FolderResult, quiet: bool) -> Iterator[str]:
    for warning in result.warnings:
        yield f"warning: {warning}"
    if quiet or result.error is not None:
        return
    if result.skipped:
        yield f"{result.video}: already finished, in {result.folder}"
    else:
        rate = result.num_frames / max(result.seconds, 1e-9)
        yield f"{result.video}: {result.num_frames} frames, {rate:.1f} per second, in {result.folder}"


@dataclass(frozen=True)
class _Task:
    """One video, the folder for its results, and options of its own."""

    video: Path
    folder: Path
    options: PredictKeywords = field(default_factory=PredictKeywords)


@dataclass(frozen=True)
class _Plan:
    """What a worker process needs to know."""

    weights: str
    modality: Modality | None
    device: str
    settings: FolderSettings
    overwrite: bool
    speed: Speed


class _Worker:
    """A loaded network with its settings."""

    def __init__(self, plan: _Plan) -> None:
        use_one_arena()
        self.plan = plan
        self.network = load_network(plan.weights, modality=plan.modality, device=plan.device)
        self.settings = replace(plan.settings, weights=self.network.name, weights_sha256=self.network.sha256)
        self.mode = choose_mode(
            plan.speed, self.network.model, self.network.sha256, plan.settings.options.engine
        )
        if self.mode is not None:
            chosen = replace(self.settings.options, stride=self.mode.stride, precision=self.mode.precision)
            self.settings = replace(self.settings, options=chosen, speed=asdict(self.mode))
        options = self.settings.options
        self.make_engine = EngineFactory(
            self.network.model, options.engine, options.precision, keep_model=False
        )

    def run(self, task: _Task, quiet: bool) -> FolderResult:
        try:
            if not isinstance(task.folder, RemotePath):
                return self._predict(task, task.folder, quiet)
            with staged(task.folder, SUMMARY, overwrite=self.plan.overwrite) as folder:
                return replace(self._predict(task, folder, quiet), folder=task.folder)
        except Exception as error:  # whatever it is, it is this video's failure, not the batch's
            return _failure(task, error)
        finally:
            if isinstance(task.video, RemotePath):
                task.video.release()

    def _predict(self, task: _Task, folder: Path, quiet: bool) -> FolderResult:
        try:
            return predict_to_folder(
                self.network.model,
                task.video,
                folder,
                replace(self.settings, options=replace(self.settings.options, **task.options)),
                overwrite=self.plan.overwrite,
                quiet=quiet,
                make_engine=self.make_engine,
            )
        except StavisError as error:
            raise StavisError(str(error).replace(str(folder), str(task.folder))) from error


def _failure(task: _Task, error: Exception) -> FolderResult:
    reason, details = hide_credentials(one_line(error)), None
    if not isinstance(error, StavisError | OSError):
        reason = f"{task.video}: unexpected error, please report it (`verbose=True` shows where it arose): {reason}"
        details = hide_credentials("".join(traceback.format_exception(error)).rstrip())
    return FolderResult(task.folder, video=task.video, error=reason, traceback=details)


def _run_here(
    plan: _Plan, tasks: Sequence[_Task], quiet: bool, say: Report
) -> Generator[FolderResult, None, None]:
    worker = _Worker(plan)
    if not quiet:
        say(f"weights: {worker.network.name}")
    for warning in worker.network.warnings:
        say(f"warning: {warning}")
    if worker.mode is not None and not quiet:
        say(f"speed {worker.mode}")
    for task in tasks:
        yield worker.run(task, quiet)


def _run_in_processes(
    plan: _Plan, tasks: Sequence[_Task], jobs: int, quiet: bool, say: Report
) -> Generator[FolderResult, None, None]:
    if not quiet:
        say(f"weights: {describe_weights(plan.weights)}")
    jobs = min(jobs, len(tasks))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(plan, threads)
    ) as pool:
        futures = [pool.submit(_run_in_worker, task) for task in tasks]
        try:
            with track("videos", len(tasks), unit="videos", quiet=quiet) as advance:
                for future in as_completed(futures):
                    yield future.result()
                    advance()
        except BrokenProcessPool:
            raise StavisError(
                "a worker process was killed, possibly for lack of memory; finished work is kept: run again with fewer "
                f"processes (`jobs={jobs}`)"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_plan: _Plan | None = None
_worker: _Worker | None = None


def _start_worker(plan: _Plan, threads: int) -> None:
    global _plan
    torch.set_num_threads(threads)
    _plan = plan


def _run_in_worker(task: _Task) -> FolderResult:
    global _worker
    assert _plan is not None
    if _worker is None:
        # Here and not in the initializer, whose errors a pool reports as a broken pool, without their text.
        try:
            _worker = _Worker(_plan)
        except OSError as error:
            raise StavisError(one_line(error)) from None
    return _worker.run(task, quiet=True)
