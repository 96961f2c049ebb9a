"""One worker of a prediction of many videos: a loaded network that writes result folders."""

import shutil
import traceback
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from filelock import FileLock

from stavis.engine import EngineFactory
from stavis.errors import StavisError, describe_unexpected, one_line
from stavis.model import Modality
from stavis.prediction.folder import (
    SUMMARY,
    WRITTEN,
    FolderResult,
    FolderSettings,
    check_place,
    find_finished,
    predict_to_folder,
    write_folder,
)
from stavis.prediction.map_source import read_maps
from stavis.prediction.options import PredictKeywords
from stavis.prediction.outputs import OUTPUT_NAMES
from stavis.prediction.predict import FrameSaliency, read_excerpt
from stavis.prediction.speed import Speed, choose_mode
from stavis.runtime.allocator import use_one_arena
from stavis.storage.remote import RemotePath, hide_credentials, remove, staged
from stavis.weights.names import load_network

SEGMENTS = "index/segments"  # in the output folder, until the segments of a video are joined


@dataclass(frozen=True)
class Task:
    """A video, or a segment of it, with the folder for the results of the whole video."""

    video: Path  # the video
    folder: Path  # the folder
    options: PredictKeywords = field(default_factory=PredictKeywords)  # options of this video
    # Start and end in seconds of all segments; an end of None is that of the video. Empty: it is not split.
    segments: tuple[tuple[float, float | None], ...] = ()
    number: int = 0  # which segment this is, from 0

    def segment_folder(self, number: int) -> Path:
        return self.folder.parent / SEGMENTS / self.folder.name / f"{number + 1}-of-{len(self.segments)}"


@dataclass(frozen=True)
class Plan:
    weights: str
    modality: Modality | None
    device: str
    settings: FolderSettings
    overwrite: bool
    speed: Speed


class Worker:
    def __init__(self, plan: Plan) -> None:
        use_one_arena()
        self.plan = plan
        self.network = network = load_network(plan.weights, modality=plan.modality, device=plan.device)
        self.settings = replace(plan.settings, weights=network.name, weights_sha256=network.sha256)
        self.mode = choose_mode(plan.speed, network.model, network.sha256, plan.settings.options.engine)
        if self.mode is not None:
            chosen = replace(self.settings.options, stride=self.mode.stride, precision=self.mode.precision)
            self.settings = replace(self.settings, options=chosen, speed=asdict(self.mode))
        options = self.settings.options
        self.make_engine = EngineFactory(network.model, options.engine, options.precision, keep_model=False)

    def run(self, task: Task, quiet: bool) -> FolderResult:
        """Predicts a video, or a segment of it, and joins the segments after the last one.

        Returns the result, its `folder` that of the task; that of the segment while others are missing.
        """
        try:
            settings = replace(self.settings, options=replace(self.settings.options, **task.options))
            if task.segments:
                return self._run_segment(task, settings, quiet)
            return self._predict(task, task.folder, settings, quiet)
        except Exception as error:  # whatever it is, it is this video's failure, not the batch's
            return failure(task, error)
        finally:
            if isinstance(task.video, RemotePath):
                task.video.release()

    def _predict(self, task: Task, folder: Path, settings: FolderSettings, quiet: bool) -> FolderResult:
        def write(local: Path) -> FolderResult:
            return predict_to_folder(
                self.network.model,
                task.video,
                local,
                settings,
                overwrite=self.plan.overwrite,
                quiet=quiet,
                make_engine=self.make_engine,
            )

        return self._in_place(folder, write)

    def _in_place(self, folder: Path, write: Callable[[Path], FolderResult]) -> FolderResult:
        """The result of `write(folder)`, with a local folder in the place of a remote one."""
        if not isinstance(folder, RemotePath):
            return write(folder)
        with staged(folder, SUMMARY, own=WRITTEN, overwrite=self.plan.overwrite) as local:
            try:
                return replace(write(local), folder=folder)
            except StavisError as error:
                raise StavisError(str(error).replace(str(local), str(folder))) from error

    def _run_segment(self, task: Task, settings: FolderSettings, quiet: bool) -> FolderResult:
        if not isinstance(task.folder, RemotePath):
            check_place(task.folder, task.video)
        finished = None if self.plan.overwrite else self._find_finished(task.folder, task.video, settings)
        if finished is not None:
            return finished
        each = [_of_segment(settings, start, end) for start, end in task.segments]
        folders = [task.segment_folder(number) for number in range(len(each))]
        result = self._predict(task, folders[task.number], each[task.number], quiet)
        if result.failures:
            return replace(result, folder=task.folder)
        for folder, own in zip(folders, each, strict=True):
            if self._find_finished(folder, task.video, own) is None:
                return result
        with ExitStack() as stack:
            # Workers that finish the last segments at the same time join them one after the other.
            if not isinstance(task.folder, RemotePath):
                stack.enter_context(FileLock(folders[0].parent.with_suffix(".lock")))
                if not folders[-1].exists():
                    return self._find_finished(task.folder, task.video, settings) or result
            return self._join(task, settings, folders, quiet)

    def _find_finished(self, folder: Path, video: Path, settings: FolderSettings) -> FolderResult | None:
        if not isinstance(folder, RemotePath):
            return find_finished(folder, video, settings)
        with staged(folder, SUMMARY) as local:
            found = find_finished(local, video, settings)
        return None if found is None else replace(found, folder=folder)

    def _join(self, task: Task, settings: FolderSettings, folders: list[Path], quiet: bool) -> FolderResult:
        """Writes the results of a video from the maps of its segments."""
        options = settings.options

        def frames() -> Generator[FrameSaliency, None, None]:
            archives = (read_maps(folder / OUTPUT_NAMES["npz"]) for folder in folders)
            maps = (saliency for archive in archives for chunk in archive for saliency in chunk)
            for frame in read_excerpt(task.video, options):
                saliency = next(maps, None)
                if saliency is None:
                    raise StavisError(f"{task.video}: its segments have fewer maps than it has frames")
                yield FrameSaliency(frame.index, frame.time_seconds, saliency, frame.image)

        def write(local: Path) -> FolderResult:
            config = self.network.model.config
            return write_folder(
                frames, config, task.video, local, settings, overwrite=self.plan.overwrite, quiet=quiet
            )

        result = self._in_place(task.folder, write)
        if not result.failures:
            parent = folders[0].parent
            remove(parent) if isinstance(parent, RemotePath) else shutil.rmtree(parent, ignore_errors=True)
        return result


def _of_segment(settings: FolderSettings, start: float, end: float | None) -> FolderSettings:
    options = replace(settings.options, start_seconds=start, end_seconds=end, context=True)
    return replace(settings, options=options, kinds=("npz",), is_segment=True)


def failure(task: Task, error: Exception) -> FolderResult:
    """The result of a video that failed with `error`."""
    reason, details = hide_credentials(one_line(error)), None
    if not isinstance(error, StavisError | OSError):
        reason = f"{task.video}: {hide_credentials(describe_unexpected(error))}"
        details = hide_credentials("".join(traceback.format_exception(error)).rstrip())
    return FolderResult(task.folder, video=task.video, error=reason, traceback=details)
