"""What a video is, found from its header and its first frame."""

from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from stavis.media import image_folder
from stavis.media.container import find_audio_stream, open_container
from stavis.media.frames import VideoDecoder


@dataclass(frozen=True)
class AudioInfo:
    """A sound track.

    Attributes:
        path: The file that it is in: the video, or an image folder's wave.
        stream: Its place among the file's audio streams, from 0.
        num_streams: How many audio streams the file has.
        codec: FFmpeg's name of it, None if it cannot be decoded.
        sample_rate: In Hz, 0 if it cannot be decoded.
        num_channels: 0 if it cannot be decoded.
        duration_seconds: As the header says, None if it does not.
    """

    path: Path
    stream: int
    num_streams: int
    codec: str | None
    sample_rate: int
    num_channels: int
    duration_seconds: float | None


@dataclass(frozen=True)
class VideoInfo:
    """A video or image folder.

    Attributes:
        path: The file or folder.
        width: In pixels as shown: after the turn, with square pixels.
        height: In pixels as shown.
        coded_width: In pixels as stored.
        coded_height: In pixels as stored.
        rotation: Degrees clockwise by which the stored picture is turned to be shown: 0, 90, 180 or 270.
        sample_aspect_ratio: Width over height of a stored pixel.
        frame_rate: Frames per second, on the average.
        num_frames: As the header says, or estimated from it; None if it does not. Only decoding tells for certain.
        duration_seconds: As the header says, None if it does not.
        codec: FFmpeg's name of the decoder; of an image folder the images' suffix.
        audio: The sound track, None if there is none.
        start_seconds: When the first frame is shown on the file's own clock, which the other times here do not use.
    """

    path: Path
    width: int
    height: int
    coded_width: int
    coded_height: int
    rotation: int
    sample_aspect_ratio: Fraction
    frame_rate: Fraction
    num_frames: int | None
    duration_seconds: float | None
    codec: str
    audio: AudioInfo | None
    start_seconds: Fraction = Fraction(0)


def probe(
    path: str | PathLike[str],
    *,
    audio_stream: int | None = None,
    frame_rate: Fraction | float | None = None,
) -> VideoInfo:
    """Opens a video, decodes its first frame and tells what it is.

    Args:
        path: Anything that FFmpeg reads, or a folder of numbered images.
        audio_stream: Which of the audio streams, from 0; FFmpeg's default where it is not given.
        frame_rate: Of an image folder; 25 with a warning where it is not given. A video file has its own.

    Raises:
        StavisError: No frame can be decoded, or there is no such audio stream.
    """
    path = Path(path)
    if path.is_dir():
        return _probe_images(path, audio_stream, frame_rate)
    with VideoDecoder(path) as decoder:
        stream, display = decoder.stream, decoder.display
        container = stream.container
        assert isinstance(container, InputContainer)
        if stream.duration and stream.time_base:
            duration: float | None = float(stream.duration * stream.time_base)
        else:
            duration = container.duration / av.time_base if container.duration else None
        num_frames = stream.frames or (round(duration * decoder.frame_rate) if duration else 0)
        width, height = display.size
        return VideoInfo(
            path=path,
            width=width,
            height=height,
            coded_width=display.coded_width,
            coded_height=display.coded_height,
            rotation=display.rotation,
            sample_aspect_ratio=display.sample_aspect_ratio,
            frame_rate=decoder.frame_rate,
            num_frames=num_frames or None,
            duration_seconds=duration,
            codec=stream.codec_context.name,
            audio=describe_sound(path, container, find_audio_stream(container, path, audio_stream)),
            start_seconds=decoder.first_stamp,
        )


def _probe_images(folder: Path, audio_stream: int | None, frame_rate: Fraction | float | None) -> VideoInfo:
    sequence = image_folder.find_images(folder)
    rate = image_folder.choose_frame_rate(folder, frame_rate)
    width, height = image_folder.read_size(sequence.paths[0])
    image_folder.read_image(sequence.paths[0])
    audio = None
    if (wave := image_folder.find_wave(folder)) is not None:
        with open_container(wave) as container:
            audio = describe_sound(wave, container, find_audio_stream(container, wave, audio_stream))
    return VideoInfo(
        path=folder,
        width=width,
        height=height,
        coded_width=width,
        coded_height=height,
        rotation=0,
        sample_aspect_ratio=Fraction(1),
        frame_rate=rate,
        num_frames=len(sequence.paths),
        duration_seconds=float((sequence.positions[-1] + 1) / rate),
        codec=sequence.paths[0].suffix.lower().lstrip("."),
        audio=audio,
    )


def describe_sound(path: Path, container: InputContainer, stream: AudioStream | None) -> AudioInfo | None:
    """What an audio stream is."""
    if stream is None:
        return None
    context = stream.codec_context
    known = context is not None
    duration = stream.duration * stream.time_base if stream.duration and stream.time_base else None
    return AudioInfo(
        path=path,
        stream=container.streams.audio.index(stream),
        num_streams=len(container.streams.audio),
        codec=context.name if known else None,
        sample_rate=context.sample_rate if known else 0,
        num_channels=context.channels if known else 0,
        duration_seconds=None if duration is None else float(duration),
    )
