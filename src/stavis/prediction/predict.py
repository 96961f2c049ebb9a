"""Saliency maps of a video, frame by frame: each frame is decoded once, and memory use is bounded."""

import math
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from stavis import media
from stavis.clips import CLIP_LENGTH, Window
from stavis.clips.preprocess import Preprocessing, resize_frame
from stavis.clips.schedule import WindowSchedule
from stavis.engine import EngineFactory, Example, MakeEngine
from stavis.errors import StavisError
from stavis.media.frames import check_excerpt
from stavis.model import STAViS
from stavis.prediction.options import NetworkKeywords, PredictKeywords, PredictOptions, show_keywords
from stavis.prediction.sound import Sound, needs_sound, open_sound
from stavis.runtime.prefetch import prefetch
from stavis.storage.remote import as_path

# Windows per batch. On a CPU a batch of two takes longer than two batches of one; GPUs have cores enough for several.
CPU_BATCH_SIZE, GPU_BATCH_SIZE = 1, 8
DECODED_AHEAD = 1  # frames decoded before they are needed, so that decoding and the network overlap
NUM_EXAMPLES = 8  # windows shown to an engine that calibrates itself on the video

MakeExamples = Callable[[], list[Example]]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FrameSaliency:
    """The saliency map of one frame.

    Iterating over it gives `index, time_seconds, saliency`.

    Attributes:
        index: Frame number in display order, counted from 0 at the start of the predicted excerpt.
        time_seconds: Presentation time in the video.
        saliency: (h, w) float32 probabilities, (112, 112) with the published networks and (64, 64) with the default
            weights. The map covers the whole frame, whatever its aspect ratio.
        image: (H, W, 3) uint8 RGB as displayed. None unless images were requested, and for maps past the last frame.
        computed: False for maps interpolated between two computed ones (`stride` above 1).
    """

    index: int
    time_seconds: float
    saliency: npt.NDArray[np.float32]
    image: npt.NDArray[np.uint8] | None = None
    computed: bool = True

    def __iter__(self) -> Iterator[Any]:
        return iter((self.index, self.time_seconds, self.saliency))

    def __repr__(self) -> str:
        image = None if self.image is None else f"{self.image.shape} uint8"
        return (
            f"FrameSaliency(index={self.index}, time_seconds={self.time_seconds:.6g}, "
            f"saliency={self.saliency.shape} float32, image={image}, computed={self.computed})"
        )


@show_keywords(PredictKeywords)
def predict_video(
    model: STAViS, path: str | Path, *, keep_images: bool = False, **options: Unpack[PredictKeywords]
) -> Iterator[FrameSaliency]:
    """Predicts where people look in each frame of a video or of a folder of numbered images.

    Frames are decoded once, maps are yielded as soon as they are computed, and memory use does not grow with the length
    of the video.

    Args:
        model: A network in eval mode (`load_model`); it runs on the device it is on.
        path: Any file FFmpeg can read, a URL of one (docs/clusters.md), or a folder of numbered images with an optional
            WAV file.
        keep_images: Whether to return each frame's image with its map.
        **options: The attributes of `PredictOptions`.

    Returns:
        An iterator over one `FrameSaliency` per frame, in order.

    Raises:
        ValueError: An option is out of range.
        StavisError: The file is missing, is not a video, or has no frame that can be decoded.
    """
    return stream_video(model, path, PredictOptions(**options), keep_images=keep_images)


@show_keywords(NetworkKeywords)
def predict_frames(
    model: STAViS,
    frames: Iterable[npt.NDArray[np.uint8]],
    *,
    frame_rate: float,
    audio: tuple[npt.ArrayLike, int] | None = None,
    keep_images: bool = False,
    **options: Unpack[NetworkKeywords],
) -> Iterator[FrameSaliency]:
    """Predicts where people look in frames from memory, from a camera or from any other iterable.

    Args:
        model: A network in eval mode (`load_model`); it runs on the device it is on.
        frames: (H, W, 3) uint8 RGB images: an array (N, H, W, 3), a list, a generator. They are consumed one by one.
            `precision="int8"` calibrates on the video beforehand and needs a sequence.
        frame_rate: Frames per second, above 0.
        audio: Samples, (S,) or (S, channels), floats in -1..1 or int16, and their sample rate in Hz. The first sample
            is heard when the first frame is shown. They are resampled as a 16-bit WAV file is. None: silence.
        keep_images: Whether to return each frame with its map.
        **options: The attributes of `PredictOptions` that apply: stride, edges, quirks, batch_size, engine, precision.

    Returns:
        An iterator over one `FrameSaliency` per frame, in order.

    Raises:
        ValueError: An option is out of range, frames or audio have another shape or type, or audio is not finite.
    """
    settings = PredictOptions(frame_rate=frame_rate, **options)
    sequence = frames if isinstance(frames, Sequence | np.ndarray) else None
    if settings.precision == "int8" and sequence is None:
        raise ValueError("`precision=int8` calibrates on the frames first: pass a list or an array")
    samples = None if audio is None else _to_mono(audio)
    make_engine = EngineFactory(model, settings.engine, settings.precision)
    return _stream_frames(model, frames, samples, settings, keep_images, make_engine)


def _stream_frames(
    model: STAViS,
    frames: Iterable[npt.NDArray[np.uint8]],
    audio: tuple[npt.NDArray[np.float32], int] | None,
    options: PredictOptions,
    keep_images: bool,
    make_engine: MakeEngine,
) -> Generator[FrameSaliency, None, None]:
    assert options.frame_rate is not None
    rate = options.frame_rate
    with ExitStack() as stack:
        audio_path = None
        if audio is not None and needs_sound(model):
            # Through a file, so that audio from memory is resampled exactly as audio from files is.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="stavis-"))
            audio_path = Path(folder) / "audio.wav"
            media.write_wave(audio_path, *audio)

        def open_reader() -> Sound:
            sample_rate = None if options.quirks == "reference" else model.config.preprocessing.sample_rate
            reader = None if audio_path is None else media.AudioReader(audio_path, sample_rate=sample_rate)
            return Sound(model, reader, rate)

        def numbered(images: Iterable[npt.NDArray[np.uint8]], first: int = 0) -> Iterator[media.Frame]:
            return (media.Frame(i, i / rate, _check_image(image, i)) for i, image in enumerate(images, first))

        def examples() -> list[Example]:
            assert isinstance(frames, Sequence | np.ndarray)
            p = model.config.preprocessing
            starts = dict.fromkeys(len(frames) * number // NUM_EXAMPLES for number in range(NUM_EXAMPLES))
            with open_reader() as sound:
                return [
                    _example(list(numbered(frames[start : start + p.clip_length], start)), sound, p)
                    for start in starts
                ]

        num_expected = len(frames) if isinstance(frames, Sized) else None
        yield from _predict(
            model,
            numbered(frames),
            open_reader(),
            rate,
            options,
            num_expected,
            examples,
            keep_images,
            make_engine,
        )


def _to_mono(audio: tuple[npt.ArrayLike, int]) -> tuple[npt.NDArray[np.float32], int]:
    samples, sample_rate = np.asarray(audio[0]), int(audio[1])
    if sample_rate <= 0:
        raise ValueError(f"the sample rate of `audio` is {sample_rate} Hz; it must be above 0")
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= 64):
        raise ValueError(f"samples of `audio` have shape {samples.shape}; allowed: (S,) and (S, channels)")
    if samples.dtype == np.int16:
        samples = samples / np.float32(32768)
    elif samples.dtype.kind != "f":
        raise ValueError(f"the samples of `audio` are {samples.dtype}; allowed: floats in -1..1 and int16")
    elif not np.isfinite(samples).all():
        raise ValueError(
            "the samples of `audio` have nan or infinite values; allowed: floats in -1..1 and int16"
        )
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    return samples.astype(np.float32), sample_rate


def _check_image(image: npt.NDArray[np.uint8], index: int) -> npt.NDArray[np.uint8]:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"frame {index} is {image.shape} {image.dtype}; allowed: (H, W, 3) uint8")
    return image


def stream_video(
    model: STAViS,
    path: str | Path,
    options: PredictOptions,
    *,
    keep_images: bool = False,
    make_engine: MakeEngine | None = None,
) -> Generator[FrameSaliency, None, None]:
    """`predict_video` with an engine of the caller's.

    `make_engine` makes it when the number of windows is known, if it is. An `EngineFactory` that is kept for several
    videos saves its set-up. None: one for this video, by `options.engine` and `options.precision`.
    """
    path = as_path(path)
    info = media.probe(path, audio_stream=options.audio_stream, frame_rate=options.frame_rate)
    if options.context and (options.start_seconds or options.end_seconds is not None):
        return _stream_part(model, path, info, options, keep_images, make_engine)
    return _predict(
        model,
        read_excerpt(path, options),
        open_sound(model, info, options),
        float(info.frame_rate),
        options,
        expected_frames(info, options),
        lambda: _find_examples(model, path, info, options),
        keep_images,
        make_engine or EngineFactory(model, options.engine, options.precision),
    )


def _stream_part(
    model: STAViS,
    path: Path,
    info: media.VideoInfo,
    options: PredictOptions,
    keep_images: bool,
    make_engine: MakeEngine | None,
) -> Generator[FrameSaliency, None, None]:
    """The maps that the whole video has between two times."""
    start, end = check_excerpt(options.start_seconds, options.end_seconds)
    # Raises its error if no frame lies there, before those around are predicted.
    next(read_excerpt(path, options))
    num_around = model.config.preprocessing.clip_length
    begin = _find_begin(path, info, options, start, num_around)
    whole = replace(options, start_seconds=begin or None, end_seconds=None, context=False)

    def frames() -> Iterator[media.Frame]:
        num_after = 0
        for frame in read_excerpt(path, whole):
            yield frame
            num_after += frame.time_seconds >= end
            if num_after == num_around:
                return

    source = _predict(
        model,
        frames(),
        open_sound(model, info, whole),
        float(info.frame_rate),
        whole,
        expected_frames(info, options),
        lambda: _find_examples(model, path, info, replace(whole, start_seconds=None)),
        keep_images,
        make_engine or EngineFactory(model, options.engine, options.precision),
    )
    index = 0
    with closing(source):
        for frame in source:
            if start <= frame.time_seconds < end:
                yield replace(frame, index=index)
                index += 1


def _find_begin(
    path: Path, info: media.VideoInfo, options: PredictOptions, start: float, num_before: int
) -> float:
    """The last full second that at least `num_before` frames lie between and `start`, else 0.

    Samples of audio are counted from there: at a full second, as from the beginning of the video.
    """
    seconds = math.ceil(num_before / float(info.frame_rate)) + 1
    while (begin := math.floor(start) - seconds) > 0:
        frames = read_excerpt(path, replace(options, start_seconds=begin, end_seconds=start))
        try:
            if sum(1 for _ in frames) >= num_before:
                return float(begin)
        except StavisError:  # no frame there
            pass
        seconds *= 2
    return 0.0


def _predict(
    model: STAViS,
    frames: Iterator[media.Frame],
    sound: Sound,
    frame_rate: float,
    options: PredictOptions,
    num_expected: int | None,
    examples: MakeExamples,
    keep_images: bool,
    make_engine: MakeEngine,
) -> Generator[FrameSaliency, None, None]:
    """The maps of frames from any reader."""
    if options.quirks == "reference":
        options = replace(options, edges="reference")
    preprocessing = model.config.preprocessing
    num_windows = None if num_expected is None else -(-num_expected // options.stride)
    engine = make_engine(num_windows, examples)
    schedule = WindowSchedule(
        stride=options.stride,
        edges=options.edges,
        past_end=options.quirks == "reference",
        clip_length=preprocessing.clip_length,
    )
    gallery = _Gallery(frame_rate, keep_images)
    on_cpu = next(model.parameters()).device.type == "cpu"
    batch_size = options.batch_size or (CPU_BATCH_SIZE if on_cpu else GPU_BATCH_SIZE)
    waiting: deque[Window] = deque()
    between = _Interpolation()

    def compute(num: int) -> Iterator[FrameSaliency]:
        batch = [waiting.popleft() for _ in range(num)]
        maps = engine.predict(batch, sound.excerpts(batch, gallery.time_seconds))
        for window, saliency in zip(batch, maps, strict=True):
            for index, interpolated, computed in between.add(window.target, saliency):
                time_seconds, image = gallery.take(index)
                yield FrameSaliency(index, time_seconds, interpolated, image, computed)
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


def read_excerpt(video: str | Path, options: PredictOptions) -> Iterator[media.Frame]:
    """Reads the frames of a video that the options ask for. Raises StavisError as `media.read_frames`."""
    return media.read_frames(
        video,
        frame_rate=options.frame_rate,
        start_seconds=options.start_seconds,
        end_seconds=options.end_seconds,
        keep_gaps=options.keep_gaps,
    )


def expected_frames(info: media.VideoInfo, options: PredictOptions) -> int | None:
    """Estimates from a video's header how many frames will be predicted; None if it does not say."""
    if options.start_seconds is None and options.end_seconds is None:
        return info.num_frames
    end = options.end_seconds if options.end_seconds is not None else info.duration_seconds
    if end is None:
        return None
    if info.duration_seconds is not None:
        end = min(end, info.duration_seconds)
    return max(0, round((end - (options.start_seconds or 0.0)) * float(info.frame_rate)))


def expected_maps(info: media.VideoInfo, options: PredictOptions) -> int | None:
    """Estimates how many maps there will be, which "reference" edges have fewer of than frames."""
    num_frames = expected_frames(info, options)
    if num_frames is None or (options.edges, options.quirks) == ("repeat", "fixed"):
        return num_frames
    return max(0, num_frames - (1 if options.quirks == "reference" else CLIP_LENGTH // 2))


def _find_examples(
    model: STAViS, path: str | Path, info: media.VideoInfo, options: PredictOptions
) -> list[Example]:
    """Windows spread over the video; only from its start if its length is unknown."""
    p = model.config.preprocessing
    begin = options.start_seconds or 0.0
    ends = [one for one in (options.end_seconds, info.duration_seconds) if one is not None]
    length = max(0.0, min(ends) - begin) if ends else 0.0
    starts = dict.fromkeys(begin + length * number / NUM_EXAMPLES for number in range(NUM_EXAMPLES))
    examples = []
    with open_sound(model, info, options) as sound:
        for start in starts:
            frames = read_excerpt(path, replace(options, start_seconds=start))
            try:
                taken = list(islice(frames, p.clip_length))
            except StavisError:
                if start == begin:
                    raise
                break  # the video is shorter than its header says
            examples.append(_example(taken, sound, p))
    return examples


def _example(frames: list[media.Frame], sound: Sound, preprocessing: Preprocessing) -> Example:
    """The window over these frames; the last one is repeated if there are too few."""
    length = preprocessing.clip_length
    window = [frames[min(index, len(frames) - 1)] for index in range(length)]
    times = [frame.time_seconds for frame in window]
    audio = sound.excerpts([Window(tuple(range(length)), target=0)], times.__getitem__)
    images = np.stack([resize_frame(frame.image, preprocessing) for frame in window])
    return Example(images, None if audio is None else audio[0])


class _Gallery:
    """Times, and images if requested, of the frames whose maps are not ready yet."""

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
        """The time of frame `index`; past the last frame it is extrapolated at the video's frame rate."""
        if index > self._last:
            return self._times[self._last] + (index - self._last) / self.frame_rate
        return self._times[index]

    def take(self, index: int) -> tuple[float, npt.NDArray[np.uint8] | None]:
        """The time and the image of a frame whose map is ready. Images up to this frame are released."""
        self._taken = index
        image = self._images.pop(index, None)
        for skipped in [i for i in self._images if i < index]:
            del self._images[skipped]
        return self.time_seconds(index), image

    def drop_times_before(self, index: int) -> None:
        # With a stride, frames can still wait for interpolation after the last window that needs their times.
        for old in [i for i in self._times if i < min(index, self._taken + 1, self._last)]:
            del self._times[old]


class _Interpolation:
    """Linear interpolation between consecutive computed maps."""

    def __init__(self) -> None:
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
