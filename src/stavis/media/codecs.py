"""Codecs of the bundled FFmpeg, and its version."""

import av
import av.codec


def ffmpeg_versions() -> dict[str, str]:
    """Returns the version of PyAV and of the FFmpeg libraries that it bundles."""
    libraries = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return {"PyAV": av.__version__, **{name: libraries[name] for name in ("libavcodec", "libavformat")}}


def missing_codecs(decoders: tuple[str, ...], encoders: tuple[str, ...]) -> list[str]:
    """Returns which of the named decoders and encoders this FFmpeg lacks."""
    missing = []
    for name, mode in [*((one, "r") for one in decoders), *((one, "w") for one in encoders)]:
        try:
            av.codec.Codec(name, mode)
        except av.codec.codec.UnknownCodecError:
            missing.append(name)
    return missing
