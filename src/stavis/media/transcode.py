"""Encoding a video anew, with regions of its pictures quantized more finely or more coarsely."""

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

import av
from av.codec import Codec
from av.container import OutputContainer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from stavis.errors import StavisError
from stavis.media.container import reason
from stavis.media.display import Display
from stavis.media.frames import VideoDecoder
from stavis.media.sound_track import SoundTrack, open_sound
from stavis.media.writer import (
    BT709,
    LIMITED_RANGE,
    LONGEST_DURATION,
    LOWEST_RATE,
    Sound,
    add_sound,
    check_gap,
)
from stavis.runtime.files import atomic_path

VideoCodec = Literal["x264", "x265"]
SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
QP_RANGE = 51  # of both encoders, at 8 bits; FFmpeg's offsets are shares of it
_CACHED_GRAPHS = 4
_FULL_RANGE = 2


class Region(NamedTuple):
    """A rectangle of the picture as displayed, and what is added to the quantizer's parameter (QP) in it."""

    left: float  # left edge, as a fraction 0..1 of the width
    top: float  # top edge, as a fraction of the height
    right: float  # right edge
    bottom: float  # bottom edge
    qp_offset: float  # QP offset; -6 halves the quantizer's step


@dataclass(frozen=True)
class EncoderSettings:
    """How a video is encoded.

    Attributes:
        codec: "x264" (H.264) or "x265" (H.265).
        crf: Constant quality, 0 to 51. Exactly one of it and `bit_rate` is given.
        bit_rate: Average bits per second of the pictures, reached in two passes.
        preset: The encoder's speed, one of `PRESETS`.
    """

    codec: VideoCodec = "x264"
    crf: float | None = None
    bit_rate: int | None = None
    preset: str = "medium"

    def __post_init__(self) -> None:
        if self.codec not in ("x264", "x265"):
            raise ValueError(f"`codec={self.codec}`: allowed are x264, x265")
        if (self.crf is None) == (self.bit_rate is None):
            raise ValueError("exactly one of `crf` and `bit_rate` must be given")
        if self.crf is not None and not 0 <= self.crf <= QP_RANGE:
            raise ValueError(f"`crf={self.crf}`: must be 0 to {QP_RANGE}")
        if self.bit_rate is not None and self.bit_rate < 1000:
            raise ValueError(f"`bit_rate={self.bit_rate}`: must be at least 1000 bits per second")
        if self.preset not in PRESETS:
            raise ValueError(f"`preset={self.preset}`: allowed are {', '.join(PRESETS)}")


PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


class Transcoded(NamedTuple):
    num_frames: int  # frames encoded
    video_bytes: int  # size of the encoded pictures, without audio and container
    seconds: float  # how long the video is shown


def transcode(
    source: Path,
    output: Path,
    settings: EncoderSettings,
    regions: Callable[[int], Sequence[Region]] | None = None,
    *,
    advance: Callable[[], None] = lambda: None,
) -> Transcoded:
    """Encodes a video anew and copies its audio; time stamps, rotation, pixel aspect and colors are kept.

    `output` is an `.mp4`, `.m4v`, `.mov` or `.mkv` file; it appears when it is whole. `regions` gives those of frame
    `index`, from 0; where two overlap, the first counts. `advance` is called for each frame encoded, twice per frame
    with a bit rate.

    Raises StavisError if the video cannot be read, or the file cannot be written.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise StavisError(f"{output}: cannot be written; allowed suffixes: {', '.join(SUFFIXES)}")
    with atomic_path(output) as temporary:
        try:
            if settings.bit_rate is None:
                return _encode(source, temporary, output, settings, regions, advance, {})
            stats = temporary.with_suffix(".stats")
            try:
                _encode(source, None, output, settings, regions, advance, {"pass": "1", "stats": str(stats)})
                return _encode(
                    source, temporary, output, settings, regions, advance, {"pass": "2", "stats": str(stats)}
                )
            finally:
                for leftover in temporary.parent.glob(f"{stats.name}*"):
                    leftover.unlink()
        except (av.error.FFmpegError, OSError) as error:
            hint = ""
            if settings.bit_rate is not None and isinstance(error, av.error.ExternalError):
                hint = f"; {settings.bit_rate} bits per second may be too few for this video"
            raise StavisError(f"{output} cannot be written: {reason(error)}{hint}") from error


def _encode(
    source: Path,
    target: Path | None,
    output: Path,
    settings: EncoderSettings,
    regions: Callable[[int], Sequence[Region]] | None,
    advance: Callable[[], None],
    pass_options: dict[str, str],
) -> Transcoded:
    """One pass; the first of two has no target."""
    with contextlib.ExitStack() as stack:
        decoder = stack.enter_context(VideoDecoder(source))
        pictures = stack.enter_context(contextlib.closing(decoder.pictures()))
        suffix = output.suffix.lower()
        options = {} if suffix == ".mkv" or target is None else {"movflags": "+faststart"}
        name, format = (f"file:{target}", None) if target is not None else (os.devnull, "null")
        container = stack.enter_context(av.open(name, mode="w", format=format, container_options=options))
        track = open_sound(source, None, warn=False) if target is not None else None
        if track is not None:
            stack.callback(track.close)
        first = list(itertools.islice(pictures, 3))
        if len(first) < 3:
            # x265 gives arbitrary decoding times to videos that are shorter than its reordering delay.
            pass_options = pass_options | {"bframes": "0"}
        encoding = _Encoding(decoder, container, settings, output, pass_options, track)
        for index, (time_seconds, picture) in enumerate(itertools.chain(first, pictures)):
            encoding.write(picture, time_seconds, regions(index) if regions is not None else ())
            advance()
        return encoding.finish()


class _Encoding:
    def __init__(
        self,
        decoder: VideoDecoder,
        container: OutputContainer,
        settings: EncoderSettings,
        output: Path,
        pass_options: dict[str, str],
        track: SoundTrack | None,
    ) -> None:
        self._container = container
        self._output, suffix = output, output.suffix.lower()
        frame_rate = Fraction(decoder.frame_rate)
        rate = max(frame_rate.limit_denominator(1001), LOWEST_RATE)
        source, display = decoder.stream, decoder.display
        self._display = display
        codec = f"lib{settings.codec}"
        stream = container.add_stream(codec, rate=rate, options=_options(settings, pass_options))
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        # 4:2:0 needs even sizes; the last column or row is repeated.
        self._size = display.coded_width, display.coded_height
        stream.width, stream.height = (-(-length // 2) * 2 for length in self._size)
        # The source's pixel format where the encoder takes it, else 4:2:0 of 8 bits.
        known, own = Codec(codec, "w").video_formats or (), source.codec_context.pix_fmt
        self._format = own if own is not None and own in {one.name for one in known} else "yuv420p"
        stream.pix_fmt = self._format
        self._time_base = Fraction(1, max(90_000 // rate.numerator, 1) * rate.numerator)
        if self._time_base < Fraction(1, 10_000_000):
            self._time_base = Fraction(1, 90_000)
        context.time_base = self._time_base
        if display.sample_aspect_ratio != 1:
            context.sample_aspect_ratio = display.sample_aspect_ratio
        original = source.codec_context
        context.color_range, context.colorspace = original.color_range, original.colorspace
        context.color_primaries, context.color_trc = original.color_primaries, original.color_trc
        self._reformatter = VideoReformatter()
        if _has_chroma(self._format) and not (own is not None and _has_chroma(own)):
            context.color_range, context.colorspace = LIMITED_RANGE, BT709
        elif self._format.startswith("gray"):
            # FFmpeg's gray is, whatever its tag; without this tag H.264's is not.
            context.color_range = _FULL_RANGE
        if settings.codec == "x265" and suffix != ".mkv":
            context.codec_tag = "hvc1"  # Apple's players know HEVC in MP4 by this tag only
        if display.rotation or display.flip:
            stream.set_display_rotation(-display.rotation % 360, hflip=display.flip)
        bits = max((component.bits for component in av.VideoFormat(self._format, 2, 2).components), default=8)
        self._qp_range = QP_RANGE + 6 * (bits - 8)
        self._stream = stream
        self._graphs: dict[tuple[int, int, tuple[Region, ...]], Graph] = {}
        self._sound: Sound | None = None
        if track is not None:
            self._sound = add_sound(container, track, suffix, Fraction(0))
        self._ticks_per_frame = min(max(1, round(1 / frame_rate / self._time_base)), LONGEST_DURATION)
        self._last_tick = -1
        self._num_frames = self._num_bytes = 0

    def write(self, picture: VideoFrame, time_seconds: float, regions: Sequence[Region]) -> None:
        tick = max(round(Fraction(time_seconds) / self._time_base), self._last_tick + 1)
        check_gap(self._output, self._last_tick, tick, self._time_base)
        self._last_tick = tick
        if picture.format.name != self._format:
            # Left to the filters, range and matrix would become FFmpeg's defaults, whatever the tags say.
            picture = self._reformatter.reformat(
                picture,
                format=self._format,
                dst_colorspace=self._stream.codec_context.colorspace,
                dst_color_range=self._stream.codec_context.color_range,
                interpolation="BICUBIC",
                threads=1,
            )
        picture.pts, picture.time_base = self._last_tick, self._time_base
        graph = self._graph(tuple(regions), picture)
        graph.push(picture)
        frame = graph.pull()
        assert isinstance(frame, VideoFrame)
        frame.pts, frame.time_base = self._last_tick, self._time_base
        frame.pict_type = 0  # the encoder chooses, whatever the source's was
        self._encode(frame)
        self._num_frames += 1
        if self._sound is not None:
            self._sound.write(self._last_tick * self._time_base)

    def finish(self) -> Transcoded:
        self._encode(None)
        end = (self._last_tick + self._ticks_per_frame) * self._time_base
        if self._sound is not None:
            self._sound.write(end)
            self._sound.finish()
        return Transcoded(self._num_frames, self._num_bytes, float(end))

    def _encode(self, frame: VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            packet.duration = self._ticks_per_frame
            self._num_bytes += packet.size
            self._container.mux(packet)

    def _graph(self, regions: tuple[Region, ...], picture: VideoFrame) -> Graph:
        """The filters that attach `regions` to pictures; the last few sets' are kept."""
        key = (picture.width, picture.height, regions)
        if key in self._graphs:
            return self._graphs[key]
        while len(self._graphs) >= _CACHED_GRAPHS:
            del self._graphs[next(iter(self._graphs))]
        graph = Graph()
        width, height = picture.width, picture.height
        nodes = [
            graph.add_buffer(width=width, height=height, format=picture.format, time_base=self._time_base)
        ]
        if (picture.width, picture.height) != self._size:  # a stream may change its size
            nodes.append(graph.add("scale", f"{self._size[0]}:{self._size[1]}"))
        nodes.append(graph.add("format", self._format))
        width, height = self._stream.width, self._stream.height
        if (width, height) != self._size:
            nodes.append(graph.add("pad", f"{width}:{height}:0:0"))
            right, bottom = width - self._size[0], height - self._size[1]
            nodes.append(graph.add("fillborders", f"right={right}:bottom={bottom}:mode=smear"))
        for region in regions:
            offset = min(1.0, max(-1.0, region.qp_offset / self._qp_range))
            x, y, x_end, y_end = stored_box(region, self._display)
            if x_end > x and y_end > y:
                box = f"x={x}:y={y}:w={x_end - x}:h={y_end - y}"
                nodes.append(graph.add("addroi", f"{box}:qoffset={offset:.6f}"))
        nodes.append(graph.add("buffersink"))
        graph.link_nodes(*nodes).configure()
        self._graphs[key] = graph
        return graph


def stored_box(region: Region, display: Display) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels of the picture as stored, of a region of it as displayed."""
    left, top, right, bottom = region[:4]
    if display.flip:
        left, right = 1 - right, 1 - left
    # Undoes the clockwise turn that displaying makes.
    if display.rotation == 90:
        left, top, right, bottom = top, 1 - right, bottom, 1 - left
    elif display.rotation == 180:
        left, top, right, bottom = 1 - right, 1 - bottom, 1 - left, 1 - top
    elif display.rotation == 270:
        left, top, right, bottom = 1 - bottom, left, 1 - top, right
    width, height = display.coded_width, display.coded_height
    return round(left * width), round(top * height), round(right * width), round(bottom * height)


def _has_chroma(pixel_format: str) -> bool:
    """Whether a pixel format has color differences: not RGB, a palette or gray."""
    described = av.VideoFormat(pixel_format, 2, 2)
    return not described.is_rgb and len(described.components) >= 3


def _options(settings: EncoderSettings, pass_options: dict[str, str]) -> dict[str, str]:
    options = {"preset": settings.preset}
    if settings.crf is not None:
        options["crf"] = f"{settings.crf:g}"
    else:
        options["b"] = str(settings.bit_rate)
    # The fastest presets turn off adaptive quantization, without which both encoders ignore regions.
    parameters = {"aq-mode": "1" if settings.codec == "x264" else "2", **pass_options}
    if settings.codec == "x265":
        parameters["log-level"] = "error"
    # FFmpeg reads these as its filters' options: colons separate, quotes and backslashes escape.
    escaped = {name: re.sub(r"([\\':\s])", r"\\\1", value) for name, value in parameters.items()}
    parts = [f"{name}={value}" for name, value in escaped.items()]
    text = ":".join(parts)
    return options | ({f"{settings.codec}-params": text} if text else {})
