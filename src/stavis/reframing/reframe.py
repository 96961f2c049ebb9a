"""Reframing of a video: maps, path, and the cropped video with its audio."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from stavis import media
from stavis.errors import StavisError
from stavis.model import STAViS
from stavis.prediction.map_source import frames_with_maps
from stavis.prediction.options import PredictOptions
from stavis.prediction.predict import expected_frames, read_excerpt
from stavis.reframing.camera import CameraSettings, CropWindow, plan_windows, shrink_map, window_size
from stavis.reframing.path_files import PATH_NAMES, PathFormat, write_path
from stavis.reframing.shots import ShotDetector
from stavis.runtime.jobs import begin_outputs, describe_inputs, is_finished
from stavis.runtime.prefetch import prefetch
from stavis.runtime.progress import track
from stavis.storage.remote import as_path

logger = logging.getLogger("stavis")

VIDEO_NAME, PREVIEW_NAME = "reframed.mp4", "preview.mp4"


@dataclass(frozen=True)
class CameraPath:
    """The windows of a video.

    Attributes:
        size: (width, height) of the picture as displayed, in pixels.
        output_size: (width, height) of the reframed video, in pixels.
        windows: One per frame.
        shot_starts: The first frame of each shot.
    """

    size: tuple[int, int]
    output_size: tuple[int, int]
    windows: list[CropWindow]
    shot_starts: list[int]


@dataclass(frozen=True)
class ReframeResult:
    """Results of reframing one video.

    Attributes:
        path: The windows; None if the video was finished before.
        files: What was written, or had been.
    """

    path: CameraPath | None
    files: list[Path]


def plan_reframing(
    video: str | Path,
    model: STAViS | None = None,
    *,
    settings: CameraSettings | None = None,
    options: PredictOptions | None = None,
    maps: Path | npt.NDArray[np.floating] | None = None,
    quiet: bool = True,
) -> CameraPath:
    """Plans where a window of another shape stands in every frame, so that it keeps what people look at.

    Memory grows by 2 KB per frame.

    Args:
        video: Any file FFmpeg can read, or a folder of numbered images.
        model: The network that predicts where people look; not needed with `maps`.
        settings: Shape and motion of the window.
        options: How maps are predicted.
        maps: Maps to use instead of predictions: (N, h, w), or an .npz file with such an array `saliency`.
        quiet: Show no progress.

    Raises:
        ValueError: Neither `model` nor `maps` is given.
        StavisError: The video or the maps cannot be read.
    """
    video, settings, options = as_path(video), settings or CameraSettings(), options or PredictOptions()
    info = media.probe(video, audio_stream=options.audio_stream, frame_rate=options.frame_rate)
    detector = ShotDetector()
    small: list[npt.NDArray[np.float16]] = []
    times: list[float] = []
    source = frames_with_maps(video, model, options, maps)
    size = (info.width, info.height)
    with track(f"{video.name}: maps", expected_frames(info, options), unit="frames", quiet=quiet) as advance:
        for frame in source:
            assert frame.image is not None
            detector.add(frame.image)
            small.append(shrink_map(frame.saliency))
            times.append(frame.time_seconds)
            size = (frame.image.shape[1], frame.image.shape[0])
            advance()
    shot_starts = detector.shot_starts()
    output_size = window_size(*size, settings.aspect, settings.bounds)
    if output_size == size and settings.max_zoom == 1:
        logger.warning("%s: already has that aspect (%dx%d), so nothing is cropped", video, *size)
    windows = plan_windows(small, times, shot_starts, size, settings)
    return CameraPath(size, output_size, windows, shot_starts)


def reframe(
    video: str | Path,
    output: str | Path,
    model: STAViS | None = None,
    *,
    settings: CameraSettings | None = None,
    options: PredictOptions | None = None,
    maps: Path | npt.NDArray[np.floating] | None = None,
    path_format: PathFormat | None = None,
    preview: bool = False,
    weights: str | None = None,
    overwrite: bool = False,
    quiet: bool = True,
) -> ReframeResult:
    """Crops a video to another shape, following what people look at, and keeps its audio.

    A video that was finished before with the same settings is left alone.

    Args:
        video: Any file FFmpeg can read, or a folder of numbered images.
        output: Folder for `reframed.mp4` and `reframe.json`, the record, made if it does not exist.
        model, settings, options, maps: As for `plan_reframing`.
        path_format: Write the path alone, in this format, and no video. The record is written in any case.
        preview: Also write `preview.mp4`: the source with everything outside of the window darkened.
        weights: Name of the network's weights, for the record.
        overwrite: Redo what is finished, and replace results of other settings.
        quiet: Show no progress.

    Raises:
        ValueError: Neither `model` nor `maps` is given, or the format is unknown.
        StavisError: The video or the maps cannot be read, a file cannot be written, or `output` holds results of other
            settings.
    """
    video, output = as_path(video), Path(output)
    settings, options = settings or CameraSettings(), options or PredictOptions()
    if path_format not in (None, *PATH_NAMES):
        raise ValueError(f"`path_format={path_format}`: allowed are {', '.join(PATH_NAMES)}")
    names = [] if path_format else [VIDEO_NAME]
    names += [PREVIEW_NAME] if preview else []
    path_file, record_file = output / PATH_NAMES[path_format or "json"], output / PATH_NAMES["json"]
    identity = {
        **describe_inputs(video, maps, weights),
        "camera": asdict(settings),
        "options": asdict(options),
    }
    files = list(dict.fromkeys([*(output / name for name in names), path_file, record_file]))
    if is_finished(record_file, identity, files, overwrite=overwrite):
        return ReframeResult(None, files)
    path = plan_reframing(video, model, settings=settings, options=options, maps=maps, quiet=quiet)
    outputs = begin_outputs(record_file, files, overwrite=overwrite)
    if names:
        _write_videos(video, output, names, path, options, quiet)
    record = {
        "width": path.output_size[0],
        "height": path.output_size[1],
        "source_width": path.size[0],
        "source_height": path.size[1],
        "shot_starts": path.shot_starts,
        "settings": identity,
        "outputs": outputs,
    }
    if path_file != record_file:
        write_path(path_file, path.windows, path_format or "json", record)
    write_path(record_file, path.windows, "json", record)
    return ReframeResult(path, files)


def _write_videos(
    video: Path, output: Path, names: Sequence[str], path: CameraPath, options: PredictOptions, quiet: bool
) -> None:
    info = media.probe(video, audio_stream=options.audio_stream, frame_rate=options.frame_rate)
    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(
                media.VideoWriter(
                    output / name,
                    width=width,
                    height=height,
                    frame_rate=info.frame_rate,
                    audio_from=None if info.audio is None else info.path,
                    audio_stream=options.audio_stream,
                )
            )
            for name in names
            for width, height in [path.output_size if name == VIDEO_NAME else path.size]
        }
        advance = stack.enter_context(
            track(f"{video.name}: writing", len(path.windows), unit="frames", quiet=quiet)
        )
        source = stack.enter_context(closing(prefetch(read_excerpt(video, options), 1)))
        for frame in source:
            if frame.index >= len(path.windows):
                raise StavisError(f"{video}: has more frames now than when its maps were predicted")
            window = path.windows[frame.index]
            for name, writer in writers.items():
                draw = crop if name == VIDEO_NAME else draw_window
                writer.write(draw(frame.image, window, path.output_size), frame.time_seconds)
            advance()


def crop(
    image: npt.NDArray[np.uint8], window: CropWindow, output_size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Cuts a window out of an (H, W, 3) picture and resizes it to (width, height) where it has another size."""
    left, top, width, height = window[2:]
    if (width, height) == output_size and left == int(left) and top == int(top):
        return image[int(top) : int(top) + output_size[1], int(left) : int(left) + output_size[0]]
    box = (left, top, min(left + width, image.shape[1]), min(top + height, image.shape[0]))
    picture = Image.fromarray(image).resize(output_size, Image.Resampling.BICUBIC, box=box)
    return np.asarray(picture)


def draw_window(
    image: npt.NDArray[np.uint8], window: CropWindow, _output_size: tuple[int, int] = (0, 0)
) -> npt.NDArray[np.uint8]:
    """Draws a window on its (H, W, 3) picture: everything outside is darkened."""
    left, top, width, height = window[2:]
    box = [round(left), round(top), round(left + width), round(top + height)]
    dark = image // 3
    dark[box[1] : box[3], box[0] : box[2]] = image[box[1] : box[3], box[0] : box[2]]
    picture = Image.fromarray(dark)
    line_width = max(1, round(min(picture.size) / 240))
    outline = [box[0], box[1], max(box[0], box[2] - 1), max(box[1], box[3] - 1)]
    ImageDraw.Draw(picture).rectangle(outline, outline=(255, 255, 255), width=line_width)
    return np.asarray(picture)
