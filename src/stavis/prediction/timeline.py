"""Timeline of a prediction: audio level, entropy and small overlays."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stavis import media
from stavis.errors import printable
from stavis.maps.overlay import OverlayStyle, draw_overlay
from stavis.prediction.options import PredictOptions
from stavis.prediction.predict import FrameSaliency
from stavis.prediction.sound import find_sound
from stavis.runtime.files import atomic_path


@dataclass(frozen=True)
class Thumbnail:
    time_seconds: float  # where it stands
    image: npt.NDArray[np.uint8]  # (h, w, 3) uint8 RGB


def draw_timeline(
    path: Path,
    *,
    title: str,
    time_seconds: Sequence[float],
    audio_level_db: Sequence[float] | None,
    entropy_bits: Sequence[float],
    thumbnails: Sequence[Thumbnail],
) -> None:
    """Draws a video's timeline as a PNG: overlays along the top, then audio level, then the maps' entropy.

    Args:
        time_seconds: (N,) a frame.
        audio_level_db: (N,) dB of full scale of each frame's sound; None if there is none.
        entropy_bits: (N,) entropy of each frame's map: low where saliency is concentrated.
    """
    from matplotlib.figure import Figure
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    width_inches, plots_height = 14.0, 4.0
    strip_height, zoom = 0.3, 1.0
    if thumbnails:
        # As wide as their share of the strip (92 % of the figure), at most 2.2 inches high, with room for a label.
        height, width = thumbnails[0].image.shape[:2]
        zoom = min(0.92 * width_inches * 72 / len(thumbnails) / width, 2.2 * 72 / height)
        strip_height = zoom * height / 72 + 0.5
    figure = Figure(figsize=(width_inches, strip_height + plots_height), layout="constrained")
    ratios = (strip_height, plots_height / 2, plots_height / 2)
    strip, sound, spread = figure.subplots(3, 1, sharex=True, height_ratios=ratios)
    # A file name may contain line breaks, and bytes that are not UTF-8.
    figure.suptitle(printable(title), parse_math=False)
    begin, end = time_seconds[0], max(time_seconds[-1], time_seconds[0] + 1e-3)
    spread.set_xlim(begin, end)
    strip.set_ylim(0, 1)
    strip.axis("off")
    for number, thumbnail in enumerate(thumbnails):
        x = begin + (end - begin) * (number + 0.5) / len(thumbnails)
        box = OffsetImage(thumbnail.image, zoom=zoom * 0.97)
        strip.add_artist(AnnotationBbox(box, (x, 1.0), frameon=False, box_alignment=(0.5, 1.0), pad=0))
        strip.annotate(f"{thumbnail.time_seconds:.2f} s", (x, 0.0), ha="center", va="bottom", fontsize=8)
    if audio_level_db is None:
        sound.text(0.5, 0.5, "no audio", transform=sound.transAxes, ha="center", va="center", color="0.5")
        sound.set_yticks([])
    else:
        sound.fill_between(time_seconds, audio_level_db, -80, color="tab:blue", alpha=0.6, linewidth=0)
        sound.set_ylim(-80, 0)
    sound.set_ylabel("audio level\n(dB full scale)")
    spread.plot(time_seconds, entropy_bits, color="tab:red", linewidth=1.2)
    middle, reach = (max(entropy_bits) + min(entropy_bits)) / 2, max(entropy_bits) - min(entropy_bits)
    reach = max(reach, 0.2)  # bits; smaller differences are not worth magnifying
    spread.set_ylim(middle - 0.55 * reach, middle + 0.55 * reach)
    spread.ticklabel_format(useOffset=False)
    spread.set_ylabel("saliency entropy\n(bits)")
    spread.set_xlabel("time (s)")
    for axes in (sound, spread):
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


MOST_THUMBNAILS = 8
THUMBNAIL_HEIGHT = 180  # pixels
QUIETEST_DB = -80.0
LONGEST_LEVEL_SECONDS = 5.0  # of audio around a frame whose level is measured


class Thumbnails:
    """Four to eight overlays, evenly spaced over a video of unknown length."""

    def __init__(self) -> None:
        self.kept: list[Thumbnail] = []
        self._step = 1
        self._seen = 0

    def add(self, frame: FrameSaliency) -> None:
        if self._seen % self._step == 0 and frame.image is not None:
            if len(self.kept) == MOST_THUMBNAILS:
                # Every second goes, and from now on half as many come: the spacing stays even.
                self.kept = self.kept[::2]
                self._step *= 2
            if self._seen % self._step == 0:
                self.kept.append(self._shrink(frame))
        self._seen += 1

    @staticmethod
    def _shrink(frame: FrameSaliency) -> Thumbnail:
        assert frame.image is not None
        from PIL import Image

        height, width = frame.image.shape[:2]
        small_height = min(height, THUMBNAIL_HEIGHT)
        small = Image.fromarray(frame.image).resize(
            (max(1, round(width * small_height / height)), small_height)
        )
        overlay = draw_overlay(np.asarray(small), frame.saliency, OverlayStyle(color_bar=False))
        return Thumbnail(frame.time_seconds, overlay)


def level_db(samples: npt.NDArray[np.float32]) -> float:
    """Level in dB of full scale, at least QUIETEST_DB."""
    power = float(np.mean(np.square(samples)))
    return max(QUIETEST_DB, 10 * float(np.log10(power))) if power > 0 else QUIETEST_DB


class AudioLevels:
    """Audio levels of frames, measured frame by frame, so that the audio is read at the same time as the frames.

    Attributes:
        decibels: Level of each frame in dB of full scale; None without audio.
    """

    def __init__(self, info: media.VideoInfo, options: PredictOptions) -> None:
        self._sound = find_sound(info, options)
        self.decibels: list[float] | None = None if self._sound is None else []
        self._options = options
        self._half_seconds = min(0.5 / float(info.frame_rate), LONGEST_LEVEL_SECONDS)
        self._reader: media.AudioReader | None = None
        self._first_seconds = 0.0
        self._start = 0

    def add(self, time_seconds: float) -> None:
        if self._sound is None or self.decibels is None:
            return
        if self._reader is None:
            self._first_seconds = time_seconds
            self._reader = media.AudioReader(
                self._sound.path,
                stream=self._sound.stream,
                channel=self._options.audio_channel,
                start_seconds=time_seconds,
                keep_gaps=self._options.keep_gaps,
            )
        rate = self._reader.sample_rate
        center, half = (time_seconds - self._first_seconds) * rate, self._half_seconds * rate
        self._start = max(self._start, int(center - half))
        samples = self._reader.read(self._start, max(self._start + 1, int(center + half)))
        self.decibels.append(level_db(samples))

    def __enter__(self) -> "AudioLevels":
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()
