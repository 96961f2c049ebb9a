"""Media containers: opening, choice of streams, limits on size."""

import logging
import os
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from stavis.errors import StavisError
from stavis.storage.remote import RemotePath

logger = logging.getLogger("stavis")

MAX_PIXELS = 8192 * 8192  # of a frame; headers that announce more are damaged or hostile
MAX_DECODER_THREADS = 4  # each holds at least one frame
_BUFFER_BYTES = 1 << 18  # read at once from a URL

# FFmpeg reads any text file as terminal art and would make a video of it.
_TEXT_FORMATS = {"tty", "bin", "adf", "idf", "xbin"}


def open_container(path: Path) -> InputContainer:
    """Opens a media file.

    Raises StavisError if `path` is missing, a folder, unreadable, empty or not a format FFmpeg knows.
    """
    check_file(path)
    try:
        # Without the prefix, a name such as "concat:a.mp4" would be a protocol of FFmpeg's.
        # `max_pixels` applies to the decoders that FFmpeg runs to find stream parameters.
        container = av.open(
            path.open("rb") if isinstance(path, RemotePath) else f"file:{path}",
            mode="r",
            metadata_errors="replace",
            options={"max_pixels": str(MAX_PIXELS)},
            buffer_size=_BUFFER_BYTES,
        )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        what = _recognize(path) or f"not a video or audio file that FFmpeg can read ({reason(error)})"
        raise StavisError(f"{path} is {what}") from error
    if container.format.name in _TEXT_FORMATS:
        container.close()
        raise StavisError(f"{path} is {_recognize(path) or 'text, not a video or audio file'}")
    return container


def _recognize(path: Path) -> str | None:
    """Recognizes files that often stand where a video should be."""
    with path.open("rb") as file:
        begin = file.read(200).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if begin.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself; `git lfs pull` fetches it"
    if begin.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "a web page or XML, not a video or audio file"
    return None


def check_file(path: Path) -> None:
    """Raises StavisError unless `path` is a readable file that is not empty."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise StavisError(f"{path} is neither a file nor a folder")
        with path.open("rb") as file:
            if not file.read(1):
                raise StavisError(f"{path} is empty (0 bytes)")
    except FileNotFoundError as error:
        raise StavisError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise StavisError(f"{path} is a folder, not a file") from error
    except OSError as error:
        raise StavisError(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from error


def reason(error: BaseException) -> str:
    """Returns the message of FFmpeg or the system without error codes and names."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "damaged data" if text.startswith("Error number") else text


def count_damaged(num_packets: int) -> str:
    return "1 damaged packet was" if num_packets == 1 else f"{num_packets} damaged packets were"


def find_video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Returns FFmpeg's default video stream: marked as default, else of the highest bit rate. Cover art does not count.

    Raises StavisError if there is none, its codec is unknown or its frames exceed MAX_PIXELS.
    """
    pictures = [stream for stream in container.streams.video if not is_cover_art(stream)]
    best = container.streams.best("video")
    stream = best if best in pictures else next(iter(pictures), None)
    if stream is None:
        kinds = {"cover picture" if stream.type == "video" else stream.type for stream in container.streams}
        found = ", ".join(sorted(kinds)) or "no stream at all"
        raise StavisError(f"{path} has no video stream (it has: {found})")
    assert isinstance(stream, VideoStream)
    if stream.codec_context is None:
        raise StavisError(f"{path} has a video stream with a codec that FFmpeg does not know")
    check_size(path, stream.codec_context.width, stream.codec_context.height)
    return stream


def is_cover_art(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def check_size(path: Path, width: int, height: int) -> None:
    """Raises StavisError if a frame of this size exceeds MAX_PIXELS. Called before memory is allocated."""
    if width * height > MAX_PIXELS:
        raise StavisError(
            f"{path} announces frames of {width}x{height}; at most {MAX_PIXELS} pixels (8192x8192) are allowed"
        )


def no_frame_between(path: Path, start: float, end: float, last_time: float) -> StavisError:
    """Returns the error for an excerpt without frames; all times are in seconds."""
    if last_time < start:
        return StavisError(f"{path} has no frame from {start:g} s on; its last is shown at {last_time:.3f} s")
    return StavisError(f"{path} has no frame from {start:g} s to {end:g} s")


def prepare_decoder(stream: VideoStream) -> None:
    """Sets threads and size limit of the decoder of a stream, which must not be open yet."""
    context = stream.codec_context
    context.options = {"max_pixels": str(MAX_PIXELS)}
    context.thread_type = "AUTO"
    context.thread_count = min(MAX_DECODER_THREADS, os.cpu_count() or 1)


def find_audio_stream(container: InputContainer, path: Path, index: int | None) -> AudioStream | None:
    """Returns audio stream `index` or FFmpeg's default one, None without audio. Raises StavisError if it is missing."""
    streams = container.streams.audio
    if index is not None:
        if not 0 <= index < len(streams):
            found = ", ".join(f"{i}: {describe_audio(stream)}" for i, stream in enumerate(streams)) or "none"
            raise StavisError(f"{path} has no audio stream {index}; its audio streams are {found}")
        return streams[index]
    if not streams:
        return None
    pictures = [stream for stream in container.streams.video if not is_cover_art(stream)]
    video = container.streams.best("video") if pictures else None
    best = container.streams.best("audio", related=video) or streams[0]
    assert isinstance(best, AudioStream)
    return best


def describe_audio(stream: AudioStream) -> str:
    context = stream.codec_context
    if context is None:
        return "undecodable"
    layout = {1: "mono", 2: "stereo"}.get(context.channels, context.layout.name)
    return f"{context.name} {context.sample_rate} Hz {layout}"
