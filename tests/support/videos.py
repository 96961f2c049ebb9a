"""Generated videos whose frames show their number, and audio to go with them."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from stavis.media import read_frames

RATE = 25


def numbered_picture(number: int, width: int = 64, height: int = 48) -> npt.NDArray[np.uint8]:
    """A picture that shows its number, 0..63, in gray blocks, which survive any encoder."""
    image = np.zeros((height, width, 3), np.uint8)
    block = width // 6
    for bit in range(6):
        image[:, bit * block : (bit + 1) * block] = 255 * (number >> bit & 1)
    return image


def number_of(image: npt.NDArray[np.uint8]) -> int:
    block = image.shape[1] // 6
    rows = slice(image.shape[0] // 3, 2 * image.shape[0] // 3)
    bits = [
        image[rows, bit * block + block // 3 : (bit + 1) * block - block // 3].mean() > 127
        for bit in range(6)
    ]
    return sum(int(bit) << place for place, bit in enumerate(bits))


def make_video(
    path: Path,
    pictures: Iterable[npt.NDArray[np.uint8]] | int = 20,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rate: Fraction | int = RATE,
    times: Sequence[float] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    prepare: Callable[[Any], None] = lambda stream: None,
    alter: Callable[[int, Any], None] = lambda place, packet: None,
    sounds: Sequence[tuple[str, npt.NDArray[np.float32], int, float]] = (),
) -> Path:
    """Writes a video with PyAV alone.

    Args:
        times: Of the pictures in seconds, where they are not at the rate.
        prepare: Is given the stream before its encoder opens.
        alter: Is given each video packet's place in the order of decoding, and the packet.
        sounds: Codec, (channels, samples), sample rate and the time of the first sample in seconds.
    """
    if isinstance(pictures, int):
        pictures = [numbered_picture(i) for i in range(pictures)]
    pictures = list(pictures)
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixel_format
        time_base = Fraction(1, 12800)
        stream.codec_context.time_base = time_base if codec != "gif" else Fraction(1, 100)
        prepare(stream)
        tracks = []
        for sound_codec, samples, sample_rate, _ in sounds:
            # Noise that is made up by the decoder is another at every decoding.
            no_noise = {"aac_pns": "0", "b": "192000"} if sound_codec == "aac" else {}
            track = container.add_stream(sound_codec, rate=sample_rate, options=no_noise)
            track.codec_context.layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
            track.codec_context.time_base = Fraction(1, sample_rate)
            tracks.append(track)
        for track, (_, samples, sample_rate, begin) in zip(tracks, sounds, strict=True):
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
            for place in range(0, samples.shape[1], 1024):
                frame = AudioFrame.from_ndarray(
                    np.ascontiguousarray(samples[:, place : place + 1024]), "fltp", layout
                )
                frame.sample_rate = sample_rate
                frame.pts = place + round(begin * sample_rate)
                frame.time_base = Fraction(1, sample_rate)
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
        place = 0
        for i, picture in enumerate([*pictures, None]):
            frame = None
            if picture is not None:
                frame = VideoFrame.from_ndarray(picture, "rgb24" if picture.ndim == 3 else "gray")
                time = times[i] if times is not None else i / rate
                frame.pts, frame.time_base = (
                    round(time / stream.codec_context.time_base),
                    stream.codec_context.time_base,
                )
            for packet in stream.encode(frame):
                alter(place, packet)
                container.mux(packet)
                place += 1
    return path


def tone(
    seconds: float, sample_rate: int, frequency: float = 440.0, num_channels: int = 1
) -> npt.NDArray[np.float32]:
    samples = 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * sample_rate)) / sample_rate)
    return np.tile(samples.astype(np.float32), (num_channels, 1))


def numbers(path: Path, **arguments: Any) -> list[int]:
    return [number_of(frame.image) for frame in read_frames(path, **arguments)]


def times(path: Path, **arguments: Any) -> list[float]:
    return [frame.time_seconds for frame in read_frames(path, **arguments)]
