"""Live prediction: maps of the newest pictures, as many as the machine can compute, never late ones."""

import importlib.util
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from stavis.clips import Window, repeat_window
from stavis.clips.preprocess import audio_excerpt, resize_frame
from stavis.engine import Engine, EngineFactory, EngineName, Example, Precision
from stavis.errors import StavisError
from stavis.media.live import LiveEvent, LivePicture, LiveSound
from stavis.model import STAViS
from stavis.prediction.frame_statistics import FrameStatistics, measure
from stavis.prediction.predict import FrameSaliency
from stavis.prediction.timeline import QUIETEST_DB, level_db

MAX_LOOK_AHEAD = 7
DEFAULT_LOOK_AHEAD = 3
MAX_RATE = 30.0  # pictures per second that windows are made of; the network was trained on 25 to 30
SOUND_SECONDS = 4.0
LONGEST_WAIT_SECONDS = 0.4  # of pictures for their audio
LEVEL_SECONDS = 0.15
NUM_EXAMPLES = 8
ENDLESS = 10**9  # windows to come, as far as the choice of an engine goes


@dataclass(frozen=True)
class LiveMap:
    time_seconds: float  # time of the picture, on the source's clock
    saliency: npt.NDArray[np.float32]  # (h, w) float32 probabilities
    image: npt.NDArray[np.uint8] | None  # (H, W, 3) uint8 RGB; None unless pictures are kept
    statistics: FrameStatistics  # the map in numbers, in pixels of the picture
    level_db: float  # level of the newest audio in dB of full scale
    size: tuple[int, int]  # (width, height) of the picture
    num_skipped: int  # pictures without a map since the last one with a map


@dataclass
class _Picture:
    time_seconds: float
    small: npt.NDArray[np.uint8]
    image: npt.NDArray[np.uint8] | None
    size: tuple[int, int]


class LivePredictor:
    """Predicts a stream of pictures and audio. One thread adds them while another asks for maps.

    A map is always that of the newest picture that has `look_ahead` pictures behind it. While it is computed pictures
    go on arriving, so a slow machine computes fewer maps instead of later ones. A window has 16 pictures: the 8 before
    its target and those behind it, the newest of which is repeated until there are 16, as at the end of a video.

    Args:
        look_ahead: Pictures behind the target that a map waits for, 0 to 7. With 7, maps are those of `stavis predict`.
        engine, precision: See `EngineFactory`; without a precision, `fast_precision`.
        keep_images: Give pictures with their maps.

    Attributes:
        hears: Whether the network gets the audio; may be changed at any time.
    """

    def __init__(
        self,
        model: STAViS,
        *,
        look_ahead: int = DEFAULT_LOOK_AHEAD,
        engine: EngineName = "auto",
        precision: Precision | None = None,
        keep_images: bool = False,
    ) -> None:
        if not 0 <= look_ahead <= MAX_LOOK_AHEAD:
            raise ValueError(f"look_ahead is {look_ahead}; allowed: 0 to {MAX_LOOK_AHEAD}")
        self.hears = True
        self.look_ahead = look_ahead
        self._preprocessing = model.config.preprocessing
        self._audiovisual = model.config.modality == "audiovisual"
        self._keep_images = keep_images
        precision = precision or fast_precision(model, engine)
        self._make_engine = EngineFactory(model, engine, precision)
        self._engine: Engine | None = None
        if precision != "int8":  # which waits for examples
            self._start_engine(lambda: [])
        self._changed = threading.Condition()
        self._pictures: deque[_Picture] = deque()
        self._first = 0  # index of the first picture that is kept
        self._given = 0  # index behind the last picture that the engine got
        self._target = -1
        self._last_time = -np.inf
        self._closed = False
        rate = self._preprocessing.sample_rate
        self._sound = np.zeros(round(SOUND_SECONDS * rate), np.float32)  # the newest samples
        self._sound_end: int | None = None  # number behind the last sample
        # What windows ahead of the target may still need; examples for a fit are taken from more.
        self._num_kept = 2 * self._preprocessing.clip_length + NUM_EXAMPLES

    def _start_engine(self, examples: Callable[[], list[Example]]) -> Engine:
        """Makes the engine and runs it once, so that no picture waits for what is done only once."""
        p = self._preprocessing
        self._engine = engine = self._make_engine(ENDLESS, examples)
        engine.add_frame(-1, np.zeros((*p.input_size, 3), np.uint8))
        audio = np.zeros((1, p.num_audio_samples), np.float32) if self._audiovisual else None
        engine.predict([Window((-1,) * p.clip_length, -1)], audio)
        engine.drop_frames_before(0)
        has_openvino = importlib.util.find_spec("openvino") is not None
        if self._make_engine.name in ("auto", "openvino") and has_openvino:
            # OpenVINO has its own threads by now. What is left to PyTorch is small: where other programs (a browser,
            # say) compete for the cores, its threads would wait for one another far longer than they compute.
            torch.set_num_threads(1)
        return engine

    def add(self, event: LiveEvent) -> None:
        if isinstance(event, LiveSound):
            with self._changed:
                self._add_sound(event)
                self._changed.notify()
        elif event.image is not None:
            self._add_picture(event)

    def close(self) -> None:
        """Says that nothing more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _add_picture(self, event: LivePicture) -> None:
        gap = event.time_seconds - self._last_time
        if -1.0 < gap < 0.9 / MAX_RATE:
            return
        assert event.image is not None
        small = resize_frame(event.image, self._preprocessing)
        size = (event.image.shape[1], event.image.shape[0])
        picture = _Picture(event.time_seconds, small, event.image if self._keep_images else None, size)
        with self._changed:
            self._last_time = event.time_seconds
            self._pictures.append(picture)
            while len(self._pictures) > self._num_kept:
                self._pictures.popleft()
                self._first += 1
            self._changed.notify()

    def _add_sound(self, event: LiveSound) -> None:
        end, kept = event.start + len(event.samples), len(self._sound)
        if self._sound_end is None or end < self._sound_end - kept:  # the first, or the source has begun anew
            self._sound[:] = 0
            self._sound_end = event.start
        if end <= self._sound_end:
            return
        num_new = end - self._sound_end
        moved = min(num_new, kept)
        self._sound[: kept - moved] = self._sound[moved:]
        self._sound[kept - moved :] = 0
        num = min(len(event.samples), moved)
        self._sound[kept - num :] = event.samples[len(event.samples) - num :]
        self._sound_end = end

    def next_map(self, timeout: float | None = None) -> LiveMap | None:
        """Waits for a picture that can have a map, and computes it; None at the end and after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or self._due() is not None, timeout):
                return None
            newest = self._due()
            if newest is None:
                return None
            target = newest - self.look_ahead
            first, before = self._first, self._target
            pictures = [self._pictures[index - first] for index in range(first, newest + 1)]
            sound, sound_end, hears = self._sound.copy(), self._sound_end, self.hears
        engine = self._engine
        if engine is None:
            engine = self._start_engine(lambda: self._examples(pictures, sound, sound_end))
        window = repeat_window(target, newest + 1, self._preprocessing.clip_length)
        oldest = max(first, newest + 1 - self._num_kept)
        frames = tuple(max(frame, oldest) for frame in window.frames)
        for index in range(max(self._given, oldest), newest + 1):
            engine.add_frame(index, pictures[index - first].small)
        self._given = newest + 1
        engine.drop_frames_before(min(frames))
        audio = None
        if self._audiovisual:
            times = [pictures[frame - first].time_seconds for frame in (frames[0], frames[-1])]
            audio = self._excerpt(times, len(set(frames)), sound, sound_end if hears else None)[None]
        saliency = engine.predict([Window(frames, target)], audio)[0]
        self._target = target
        picture = pictures[target - first]
        return LiveMap(
            picture.time_seconds,
            saliency,
            picture.image,
            measure(FrameSaliency(target, picture.time_seconds, saliency), picture.size),
            self._level(sound, sound_end),
            picture.size,
            max(0, target - before - 1) if before >= 0 else 0,
        )

    def _due(self) -> int | None:
        """Index of the newest picture of the next window; None if there is nothing new."""
        newest = self._first + len(self._pictures) - 1
        if self._engine is None and len(self._pictures) < self._num_kept and not self._closed:
            return None  # examples come first
        if self._sound_end is not None and self._audiovisual:
            heard = self._sound_end / self._preprocessing.sample_rate
            waiting = newest
            while waiting > self._target + self.look_ahead and waiting >= self._first:
                late = self._pictures[waiting - self._first].time_seconds - heard
                if late <= 0 or late > LONGEST_WAIT_SECONDS:  # it is there, or does not come
                    break
                waiting -= 1
            newest = waiting
        target = newest - self.look_ahead
        return newest if target > self._target and target >= self._first else None

    def _excerpt(
        self, times: list[float], num_frames: int, sound: npt.NDArray[np.float32], sound_end: int | None
    ) -> npt.NDArray[np.float32]:
        """The audio of a window between two times, half a picture more on either side."""
        p = self._preprocessing
        if sound_end is None:
            return np.zeros(p.num_audio_samples, np.float32)
        half = (times[1] - times[0]) / max(1, num_frames - 1) / 2
        begin = sound_end - len(sound)
        start = max(0, int((times[0] - half) * p.sample_rate) - begin)
        stop = min(len(sound), max(start, int((times[1] + half) * p.sample_rate) + 1 - begin))
        return audio_excerpt(sound[start : max(start, stop)], p)

    def _examples(
        self, pictures: list[_Picture], sound: npt.NDArray[np.float32], sound_end: int | None
    ) -> list[Example]:
        """Windows of what is there, for engines that fit themselves."""
        length = self._preprocessing.clip_length
        examples = []
        for number in range(NUM_EXAMPLES):
            last = max(0, len(pictures) - 1 - number)
            window = [pictures[max(0, last - length + 1 + i)] for i in range(length)]
            times = [window[0].time_seconds, window[-1].time_seconds]
            audio = self._excerpt(times, length, sound, sound_end) if self._audiovisual else None
            examples.append(Example(np.stack([picture.small for picture in window]), audio))
        return examples

    def _level(self, sound: npt.NDArray[np.float32], sound_end: int | None) -> float:
        if sound_end is None:
            return QUIETEST_DB
        return level_db(sound[-round(LEVEL_SECONDS * self._preprocessing.sample_rate) :])


def fast_precision(model: STAViS, engine: EngineName = "auto") -> Precision:
    """bf16 where the processor computes in it, fp16 on other GPUs, else float32."""
    choices: tuple[Precision, ...] = ("bf16", "fp16")
    for precision in choices:
        with suppress(StavisError):
            EngineFactory(model, engine, precision)
            return precision
    return "float32"


def predict_live(events: Iterable[LiveEvent], predictor: LivePredictor) -> Generator[LiveMap, None, None]:
    """Yields the maps of a live source until it ends; reads it in a thread. Raises StavisError if the source failed."""
    failure: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        try:
            for event in events:
                if stop.is_set():
                    return
                predictor.add(event)
        except BaseException as error:  # handed to the consumer, which raises it
            failure.append(error)
        finally:
            predictor.close()

    threading.Thread(target=read, name="stavis-live", daemon=True).start()
    try:
        while (result := predictor.next_map()) is not None:
            yield result
        if failure:
            raise failure[0]
    finally:
        stop.set()
