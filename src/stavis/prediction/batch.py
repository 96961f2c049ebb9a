"""Prediction of many videos into result folders, in one process or several."""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import torch

from stavis.engine import EngineFactory
from stavis.errors import StavisError, one_line
from stavis.maps.overlay import OverlayStyle
from stavis.media.inputs import find_videos, name_folders
from stavis.model import Modality
from stavis.prediction.folder import FolderResult, FolderSettings, predict_to_folder
from stavis.prediction.options import PredictKeywords, PredictOptions, show_keywords
from stavis.prediction.outputs import MapFormat, OutputKind, choose_outputs
from stavis.runtime.allocator import use_one_arena
from stavis.runtime.progress import track
from stavis.weights.names import describe_weights, load_network

Report = Callable[[str], None]
Tasks = list[tuple[Path, Path]]


@show_keywords(PredictKeywords)
def predict_files(
    videos: str | Path | Sequence[str | Path],
    output: str | Path = "stavis-output",
    *,
    weights: str | Path = "default",
    modality: Modality | None = None,
    device: str = "auto",
    outputs: str | Sequence[OutputKind] = "maps,overlay",
    map_format: MapFormat | None = None,
    style: OverlayStyle | None = None,
    jobs: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    report: Report | None = None,
    **options: Unpack[PredictKeywords],
) -> list[FolderResult]:
    """Predicts videos and writes a result folder for each, as `stavis predict` does.

    A video that fails does not stop the others. Finished results of the same settings are kept, so that an interrupted
    call can be repeated.

    Args:
        videos: Files, folders of videos or of numbered images, or glob patterns.
        output: Folder for the result folders, which are named after the videos.
        weights: As `source` of `load_model`.
        modality: As for `load_model`.
        device: As for `load_model`.
        outputs: "maps", "npz", "published", "video", "overlay": a sequence, or a string with commas; or "all".
            `summary.json`, `frames.csv` and `timeline.png` are always written.
        map_format: Format of "maps".
        style: What the overlay shows.
        jobs: Number of processes. With more than one, a script needs `if __name__ == "__main__":`.
        overwrite: Predict again what is finished.
        quiet: Show no progress.
        verbose: Report the traceback of unexpected errors.
        report: Called with one line of text about the weights, each warning, each video, and at the end each failure
            among several videos. None: nothing is said.
        **options: The attributes of `PredictOptions`.

    Returns:
        One result per video, in the order of the inputs. What failed has `error` or `failed_outputs`.

    Raises:
        ValueError: An option is out of range.
        StavisError: An input does not exist, or the weights cannot be loaded.
    """
    if jobs < 1:
        raise ValueError(f"`jobs={jobs}`: must be 1 or more")
    settings = FolderSettings(
        PredictOptions(**options), choose_outputs(outputs), map_format or MapFormat(), style or OverlayStyle()
    )
    inputs = [videos] if isinstance(videos, str | Path) else videos
    audio_path = settings.options.audio_path
    if audio_path is not None and not Path(audio_path).is_file():
        raise StavisError(f"{audio_path}: no such file (`audio_path`)")
    names = name_folders(find_videos([str(one) for one in inputs]), Path(output))
    plan = _Plan(str(weights), modality, device, settings, overwrite)
    tasks = [(video, Path(output) / name) for video, name in names.items()]
    say = report or (lambda _: None)
    run = (
        _run_here(plan, tasks, quiet, say) if jobs == 1 else _run_in_processes(plan, tasks, jobs, quiet, say)
    )
    results: dict[Path, FolderResult] = {}
    with closing(run):
        for result in run:
            results[result.folder] = result
            for line in _describe(result, quiet):
                say(line)
            if verbose and result.traceback is not None:
                say(result.traceback)
    ordered = [results[folder] for _, folder in tasks]
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
class _Plan:
    """What a worker process needs to know."""

    weights: str
    modality: Modality | None
    device: str
    settings: FolderSettings
    overwrite: bool


class _Worker:
    """A loaded network with its settings."""

    def __init__(self, plan: _Plan) -> None:
        use_one_arena()
        self.plan = plan
        self.network = load_network(plan.weights, modality=plan.modality, device=plan.device)
        self.settings = replace(plan.settings, weights=self.network.name, weights_sha256=self.network.sha256)
        options = plan.settings.options
        self.make_engine = EngineFactory(
            self.network.model, options.engine, options.precision, keep_model=False
        )

    def run(self, video: Path, folder: Path, quiet: bool) -> FolderResult:
        try:
            return predict_to_folder(
                self.network.model,
                video,
                folder,
                self.settings,
                overwrite=self.plan.overwrite,
                quiet=quiet,
                make_engine=self.make_engine,
            )
        except Exception as error:  # whatever it is, it is this video's failure, not the batch's
            return _failure(video, folder, error)


def _failure(video: Path, folder: Path, error: Exception) -> FolderResult:
    reason, details = one_line(error), None
    if not isinstance(error, StavisError | OSError):
        reason = (
            f"{video}: unexpected error, please report it (`verbose=True` shows where it arose): {reason}"
        )
        details = "".join(traceback.format_exception(error)).rstrip()
    return FolderResult(folder, video=video, error=reason, traceback=details)


def _run_here(plan: _Plan, tasks: Tasks, quiet: bool, say: Report) -> Generator[FolderResult, None, None]:
    worker = _Worker(plan)
    if not quiet:
        say(f"weights: {worker.network.name}")
    for warning in worker.network.warnings:
        say(f"warning: {warning}")
    for video, folder in tasks:
        yield worker.run(video, folder, quiet)


def _run_in_processes(
    plan: _Plan, tasks: Tasks, jobs: int, quiet: bool, say: Report
) -> Generator[FolderResult, None, None]:
    if not quiet:
        say(f"weights: {describe_weights(plan.weights)}")
    jobs = min(jobs, len(tasks))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(plan, threads)
    ) as pool:
        futures = {pool.submit(_run_in_worker, *task): task for task in tasks}
        try:
            with track("videos", len(tasks), unit="videos", quiet=quiet) as advance:
                for future in as_completed(futures):
                    try:
                        yield future.result()
                    except Exception as error:  # the process died
                        yield _failure(*futures[future], error)
                    advance()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_plan: _Plan | None = None
_worker: _Worker | None = None


def _start_worker(plan: _Plan, threads: int) -> None:
    global _plan
    torch.set_num_threads(threads)
    _plan = plan


def _run_in_worker(video: Path, folder: Path) -> FolderResult:
    global _worker
    assert _plan is not None
    if _worker is None:
        # Here and not in the initializer, whose errors a pool reports as a broken pool, without their text.
        try:
            _worker = _Worker(_plan)
        except Exception as error:
            return _failure(video, folder, error)
    return _worker.run(video, folder, quiet=True)
