"""Properties of a video, read from its header and first frame."""

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
from stavis.storage.remote import as_path


@dataclass(frozen=True)
class AudioInfo:
    """An audio stream.

    Attributes:
        path: File that contains it: the video, or the WAV file of an image folder.
        stream: Its index among the audio streams of the file, from 0.
        num_streams: Number of audio streams in the file.
        codec: FFmpeg's name of the decoder, None if it cannot be decoded.
        sample_rate: In Hz, 0 if it cannot be decoded.
        num_channels: 0 if it cannot be decoded.
        duration_seconds: As given in the header, None if it is not. It can be wrong.
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
        width, height: In pixels as displayed: after rotation, with square pixels.
        coded_width: In pixels as stored.
        coded_height: In pixels as stored.
        rotation: Clockwise rotation from stored to displayed frames, in degrees: 0, 90, 180 or 270.
        sample_aspect_ratio: Width of a stored pixel divided by its height.
        frame_rate: Average number of frames per second.
        num_frames: As given in the header or estimated from it, None if unknown. Only decoding gives the true number.
        duration_seconds: As given in the header, None if it is not.
        codec: FFmpeg's name of the decoder; for an image folder, the suffix of the images.
        audio: The audio stream, None if there is none.
        start_seconds: Time of the first frame on the clock of the file, which the other times do not use.
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
    path: str | PathLike[str], *, audio_stream: int | None = None, frame_rate: Fraction | float | None = None
) -> VideoInfo:
    """Reads the properties of a video. Decodes its first frame.

    Args:
        path: Any video that FFmpeg can read, or a folder of numbered images.
        audio_stream: Index of the audio stream, from 0; FFmpeg's default if None.
        frame_rate: For image folders; 25 with a warning if None. Ignored for video files.

    Raises:
        StavisError: No frame can be decoded, or there is no such audio stream.
    """
    path = as_path(path)
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
    rate = image_folder.choose_frame_rate(folder, frame_rate)
    sequence = image_folder.find_images(folder, rate)
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
