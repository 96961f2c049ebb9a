"""Opening what FFmpeg reads, choosing streams in it, and the limits that keep hostile files out of memory."""

import logging
import os
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from stavis.errors import StavisError

logger = logging.getLogger("stavis")

MAX_PIXELS = 8192 * 8192  # a picture's; above it are no cameras but damaged or hostile headers
MAX_DECODER_THREADS = 4  # each holds a picture or more

# FFmpeg takes any text file for terminal art and would make a video of it.
_TEXT_FORMATS = {"tty", "bin", "adf", "idf", "xbin"}


def open_container(path: Path) -> InputContainer:
    """Opens a media file, refusing with one clear line what is none.

    Raises:
        StavisError: `path` is missing, a folder, unreadable, empty or nothing that FFmpeg knows.
    """
    check_file(path)
    try:
        # The prefix keeps a name such as "concat:a.mp4" from being read as one of FFmpeg's protocols.
        # `max_pixels` binds the decoders that FFmpeg runs while it looks for the streams' parameters.
        container = av.open(
            f"file:{path}", mode="r", metadata_errors="replace", options={"max_pixels": str(MAX_PIXELS)}
        )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise StavisError(
            f"{path} is not a video or sound file that FFmpeg can read ({reason(error)})"
        ) from error
    if container.format.name in _TEXT_FORMATS:
        container.close()
        raise StavisError(f"{path} is text, not a video or sound file")
    return container


def check_file(path: Path) -> None:
    """Raises StavisError unless `path` is a readable file with something in it."""
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
    """What FFmpeg or the system said, without codes and names."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "damaged data" if text.startswith("Error number") else text


def count_damaged(num_packets: int) -> str:
    return "1 damaged packet was" if num_packets == 1 else f"{num_packets} damaged packets were"


def find_video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The video stream that FFmpeg takes by default: marked as default, else of the highest bit rate; no cover art.

    Raises:
        StavisError: There is none, its codec is unknown or its pictures are above MAX_PIXELS.
    """
    pictures = [stream for stream in container.streams.video if not is_cover_art(stream)]
    best = container.streams.best("video")
    stream = best if best in pictures else next(iter(pictures), None)
    if stream is None:
        found = ", ".join(sorted({stream.type for stream in container.streams})) or "no stream at all"
        raise StavisError(f"{path} has no video stream (it has: {found})")
    assert isinstance(stream, VideoStream)
    if stream.codec_context is None:
        raise StavisError(f"{path} has a video stream whose codec FFmpeg does not know")
    check_size(path, stream.codec_context.width, stream.codec_context.height)
    return stream


def is_cover_art(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def check_size(path: Path, width: int, height: int) -> None:
    """Raises StavisError if a picture of this size is above MAX_PIXELS. Comes before memory is taken for it."""
    if width * height > MAX_PIXELS:
        raise StavisError(
            f"{path} announces pictures of {width}x{height}; at most {MAX_PIXELS} pixels (8192x8192) are allowed"
        )


def no_frame_between(path: Path, start: float, end: float, last_time: float) -> StavisError:
    """The error of an excerpt without a frame, all times in seconds."""
    if last_time < start:
        return StavisError(f"{path} has no frame from {start:g} s on; its last is shown at {last_time:.3f} s")
    return StavisError(f"{path} has no frame from {start:g} s to {end:g} s")


def prepare_decoder(stream: VideoStream) -> None:
    """Sets the threads and the size limit of a stream's decoder, which must not be open yet."""
    context = stream.codec_context
    context.options = {"max_pixels": str(MAX_PIXELS)}
    context.thread_type = "AUTO"
    context.thread_count = min(MAX_DECODER_THREADS, os.cpu_count() or 1)


def find_audio_stream(container: InputContainer, path: Path, index: int | None) -> AudioStream | None:
    """The `index`-th audio stream, or the one that FFmpeg takes by default; None if there is no sound at all.

    Raises:
        StavisError: There is no such stream.
    """
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
