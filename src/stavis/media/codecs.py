"""Codecs of the bundled FFmpeg, and its version."""

from typing import Literal

import av
import av.codec


def ffmpeg_versions() -> dict[str, str]:
    """Returns the version of PyAV and of the FFmpeg libraries that it bundles."""
    libraries = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return {"PyAV": av.__version__, **{name: libraries[name] for name in ("libavcodec", "libavformat")}}


def missing_codecs(decoders: tuple[str, ...], encoders: tuple[str, ...]) -> list[str]:
    """Returns which of the named decoders and encoders this FFmpeg lacks."""
    unread = [name for name in decoders if not _has(name, "r")]
    return unread + [name for name in encoders if not _has(name, "w")]


def _has(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        av.codec.Codec(name, mode)
    except av.codec.codec.UnknownCodecError:
        return False
    return True
