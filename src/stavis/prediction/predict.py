"""A video in, a saliency map for every frame out: streaming, each frame decoded once, bounded memory."""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stavis import media
from stavis.clips import Edges, Window
from stavis.clips.preprocess import resize_frame
from stavis.clips.schedule import WindowSchedule
from stavis.engine import EngineFactory, Example, MakeEngine
from stavis.errors import StavisError
from stavis.model import STAViS
from stavis.prediction.options import PredictOptions
from stavis.prediction.sound import Sound
from stavis.runtime.prefetch import prefetch

# Windows at once. On a CPU two take longer than one and one; GPUs have cores enough for several.
CPU_BATCH_SIZE, GPU_BATCH_SIZE = 1, 8
DECODED_AHEAD = 1  # frames decoded before they are asked for, so that decoding and the network overlap
NUM_EXAMPLES = 8  # windows that an engine which fits itself to the video gets to see beforehand


class FrameSaliency(NamedTuple):
    """The saliency map of one frame.

    Attributes:
        index: The frame, from 0, in decoding order, counted from the first predicted part of the video.
        time_seconds: Its presentation time in the video.
        saliency: (112, 112) float32 probabilities. The map covers the whole frame, whatever its aspect ratio.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    time_seconds: float
    saliency: npt.NDArray[np.float32]


class PredictedFrame(NamedTuple):
    """A frame's saliency with its picture.

    Attributes:
        saliency: The map.
        image: (H, W, 3) uint8 RGB as displayed; None where pictures were not asked for, or the map lies behind the end.
        computed: False where the map lies linearly between two computed ones (`stride` above 1).
    """

    saliency: FrameSaliency
    image: npt.NDArray[np.uint8] | None
    computed: bool


def predict_video(
    model: STAViS,
    path: str | Path,
    *,
    stride: int = 1,
    edges: Edges = "repeat",
    batch_size: int | None = None,
    **options: Any,
) -> Iterator[FrameSaliency]:
    """Predicts where people look in every frame of a video, or of a folder of numbered pictures.

    Frames are decoded once, maps come as soon as they are computed, and memory does not grow with the video's length.

    Args:
        model: A network in eval mode (`load_model`); it runs on the device that it is on.
        path: Anything FFmpeg reads, or a folder of pictures, with a wave in it for sound.
        stride: Compute every `stride`-th frame; the maps between are linear in between.
        edges: See `PredictOptions`.
        batch_size: See `PredictOptions`.
        **options: The other attributes of `PredictOptions`.

    Yields:
        One `FrameSaliency` a frame, in order.

    Raises:
        StavisError: The file is missing, is no video, or has no frame that decodes.
    """
    settings = PredictOptions(stride=stride, edges=edges, batch_size=batch_size, **options)
    with closing(predict_frames(model, path, settings, keep_images=False)) as frames:
        for frame in frames:
            yield frame.saliency


def predict_frames(
    model: STAViS,
    path: str | Path,
    options: PredictOptions,
    *,
    keep_images: bool,
    make_engine: MakeEngine | None = None,
) -> Generator[PredictedFrame, None, None]:
    """Like `predict_video`, and gives each frame's picture with its map if `keep_images`.

    `make_engine` makes the engine when the number of windows is known, if it is; an `EngineFactory` that is kept for
    several videos saves its set-up. By default one is made for this video, by `options.engine` and `options.precision`.
    """
    if options.quirks == "reference":
        options = replace(options, edges="reference")
    preprocessing = model.config.preprocessing
    info = media.probe(path, audio_stream=options.audio_stream, frame_rate=options.frame_rate)
    frames = media.read_frames(
        path,
        frame_rate=options.frame_rate,
        start_seconds=options.start_seconds,
        end_seconds=options.end_seconds,
    )
    sound = Sound(model, info, options)
    num_expected = expected_frames(info, options)
    num_windows = None if num_expected is None else -(-num_expected // options.stride)
    make_engine = make_engine or EngineFactory(model, options.engine, options.precision)
    engine = make_engine(num_windows, lambda: _find_examples(model, path, info, options))
    schedule = WindowSchedule(
        stride=options.stride,
        edges=options.edges,
        past_end=options.quirks == "reference",
        clip_length=preprocessing.clip_length,
    )
    gallery = _Gallery(float(info.frame_rate), keep_images)
    on_cpu = next(model.parameters()).device.type == "cpu"
    batch_size = options.batch_size or (CPU_BATCH_SIZE if on_cpu else GPU_BATCH_SIZE)
    waiting: deque[Window] = deque()
    between = _Interpolation(options.stride)

    def compute(num: int) -> Iterator[PredictedFrame]:
        batch = [waiting.popleft() for _ in range(num)]
        maps = engine.predict(batch, sound.excerpts(batch, gallery.time_seconds))
        for window, saliency in zip(batch, maps, strict=True):
            for index, interpolated, computed in between.add(window.target, saliency):
                time_seconds, image = gallery.take(index)
                yield PredictedFrame(FrameSaliency(index, time_seconds, interpolated), image, computed)
        oldest = min([schedule.oldest_needed(), *(f for w in waiting for f in w.frames)])
        engine.drop_frames_before(oldest)
        gallery.drop_times_before(oldest)

    resized = ((frame, resize_frame(frame.image, preprocessing)) for frame in frames)
    with sound, closing(prefetch(resized, DECODED_AHEAD)) as source:
        num_frames = 0
        for frame, small in source:
            engine.add_frame(frame.index, small)
            gallery.add(frame)
            num_frames = frame.index + 1
            waiting.extend(schedule.advance(num_frames))
            while len(waiting) >= batch_size:
                yield from compute(batch_size)
        waiting.extend(schedule.finish(num_frames))
        while waiting:
            yield from compute(min(batch_size, len(waiting)))


def expected_frames(info: media.VideoInfo, options: PredictOptions) -> int | None:
    """About how many frames of a video are to be predicted, by its header; None if that does not tell."""
    if options.start_seconds is None and options.end_seconds is None:
        return info.num_frames
    end = options.end_seconds if options.end_seconds is not None else info.duration_seconds
    if end is None:
        return None
    if info.duration_seconds is not None:
        end = min(end, info.duration_seconds)
    return max(0, round((end - (options.start_seconds or 0.0)) * float(info.frame_rate)))


def _find_examples(
    model: STAViS, path: str | Path, info: media.VideoInfo, options: PredictOptions
) -> list[Example]:
    """Windows spread over the video; at its beginning only, if its length is not known."""
    p = model.config.preprocessing
    begin = options.start_seconds or 0.0
    ends = [one for one in (options.end_seconds, info.duration_seconds) if one is not None]
    length = max(0.0, min(ends) - begin) if ends else 0.0
    starts = dict.fromkeys(begin + length * number / NUM_EXAMPLES for number in range(NUM_EXAMPLES))
    examples = []
    with Sound(model, info, options) as sound:
        for start in starts:
            frames = media.read_frames(
                path, frame_rate=options.frame_rate, start_seconds=start, end_seconds=options.end_seconds
            )
            try:
                taken = list(islice(frames, p.clip_length))
            except StavisError:
                if start == begin:
                    raise
                break  # the video is shorter than its header tells
            window = [taken[min(index, len(taken) - 1)] for index in range(p.clip_length)]
            times = [frame.time_seconds for frame in window]
            audio = sound.excerpts([Window(tuple(range(p.clip_length)), target=0)], times.__getitem__)
            pictures = np.stack([resize_frame(frame.image, p) for frame in window])
            examples.append(Example(pictures, None if audio is None else audio[0]))
    return examples


class _Gallery:
    """The frames that wait for their maps: times and, if wanted, pictures."""

    def __init__(self, frame_rate: float, keep_images: bool) -> None:
        self.frame_rate = frame_rate
        self.keep_images = keep_images
        self._times: dict[int, float] = {}
        self._images: dict[int, npt.NDArray[np.uint8]] = {}
        self._last = -1
        self._taken = -1

    def add(self, frame: media.Frame) -> None:
        self._last = frame.index
        self._times[frame.index] = frame.time_seconds
        if self.keep_images:
            self._images[frame.index] = frame.image

    def time_seconds(self, index: int) -> float:
        """The time of frame `index`; behind the last frame it goes on at the video's rate."""
        if index > self._last:
            return self._times[self._last] + (index - self._last) / self.frame_rate
        return self._times[index]

    def take(self, index: int) -> tuple[float, npt.NDArray[np.uint8] | None]:
        """The time and the picture of a frame whose map is ready; earlier pictures are no longer needed."""
        self._taken = index
        image = self._images.pop(index, None)
        for skipped in [i for i in self._images if i < index]:
            del self._images[skipped]
        return self.time_seconds(index), image

    def drop_times_before(self, index: int) -> None:
        # With a stride, frames may still wait for the map behind them when no window needs their times any more.
        for old in [i for i in self._times if i < min(index, self._taken + 1, self._last)]:
            del self._times[old]


class _Interpolation:
    """Fills the frames between computed maps linearly."""

    def __init__(self, stride: int) -> None:
        self.stride = stride
        self._previous: tuple[int, npt.NDArray[np.float32]] | None = None

    def add(
        self, index: int, saliency: npt.NDArray[np.float32]
    ) -> Iterator[tuple[int, npt.NDArray[np.float32], bool]]:
        if self._previous is not None:
            before, earlier = self._previous
            for between in range(before + 1, index):
                weight = np.float32((between - before) / (index - before))
                yield between, (1 - weight) * earlier + weight * saliency, False
        self._previous = (index, saliency)
        yield index, saliency, True
