"""Reading of gaze files in tests."""

from pathlib import Path

from stavis.errors import StavisError
from stavis.gaze import Gaze, GazeOptions, read_gaze


def read(*paths: Path, size: tuple[int, int] = (64, 48), video: str = "clip", **options: object) -> Gaze:
    """Gaze of files on a video, every sample kept or counted as dropped."""
    gaze, _ = read_gaze(paths, video=video, width=size[0], height=size[1], options=GazeOptions(**options))  # type: ignore[arg-type]
    assert len(gaze) + sum(gaze.dropped.values()) == gaze.num_read
    return gaze


def read_or_refuse(path: Path, *, named: str | None = None, **options: object) -> Gaze | None:
    """Reads a file that may be damaged: its gaze, or None after an error of one line that names it (or `named`)."""
    message = ""
    try:
        return read(path, **options)
    except StavisError as error:
        message = str(error)
    assert (named or path.name) in message
    assert "\n" not in message
    return None
