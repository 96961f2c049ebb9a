"""Files of a window's path: JSON, CSV, and commands for FFmpeg's crop filter."""

import csv
import io
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from stavis.reframing.camera import CropWindow
from stavis.runtime.files import write_text

PathFormat = Literal["json", "csv", "sendcmd"]
PATH_NAMES: dict[PathFormat, str] = {"json": "reframe.json", "csv": "reframe.csv", "sendcmd": "reframe.cmd"}
_FIELDS = CropWindow._fields


def write_path(path: Path, windows: Sequence[CropWindow], format: PathFormat, record: dict[str, Any]) -> None:
    """Writes the windows of a video.

    Args:
        path: The file.
        windows: One per frame.
        format: "json": `{"width", "height", "frames": [{"index", "time_seconds", "x", ...}]}` with the entries of
            `record` besides. "csv": a row per frame. "sendcmd": a file for FFmpeg's filter of that name, in front of
            `crop`; its first lines say how to use it.
        record: For JSON: `width` and `height` of the output, and whatever else is to be recorded. For sendcmd:
            `width` and `height`, and `source_width` and `source_height` of the picture as displayed.
    """
    if format == "json":
        frames = [_rounded(window) for window in windows]
        head = json.dumps(record, indent=2, default=str)[:-2]
        lines = ",\n".join(f"    {json.dumps(frame)}" for frame in frames)
        write_text(path, f'{head},\n  "frames": [\n{lines}\n  ]\n}}\n')
    elif format == "csv":
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, _FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_rounded(window) for window in windows)
        write_text(path, buffer.getvalue())
    else:
        write_text(path, _sendcmd(path.name, windows, record))


def _rounded(window: CropWindow) -> dict[str, Any]:
    values = {
        name: round(value, 6 if name == "time_seconds" else 2) for name, value in window._asdict().items()
    }
    return {
        name: int(value) if value == int(value) and name != "time_seconds" else value
        for name, value in values.items()
    }


def _sendcmd(name: str, windows: Sequence[CropWindow], record: dict[str, Any]) -> str:
    """Commands that set the crop filter's options just before the frame that they are for."""
    first = _whole(windows[0])
    zooms = {window[4:] for window in windows} != {(record["width"], record["height"])}
    source = f"scale={record['source_width']}:{record['source_height']},setsar=1"
    crop = f"crop=w={first['w']}:h={first['h']}:x={first['x']}:y={first['y']}:exact=1"
    scale = f",scale={record['width']}:{record['height']},setsar=1" if zooms else ""
    lines = [
        "# Windows of a reframed video, for FFmpeg's filters sendcmd and crop. Times count from the first frame.",
        f"# ffmpeg -i INPUT -vf '{source},setpts=PTS-STARTPTS,sendcmd=f={name},{crop}{scale}' -c:a copy OUTPUT.mp4",
    ]
    begin = windows[0].time_seconds
    last = first
    for before, window in itertools.pairwise(windows):
        values = _whole(window)
        # Halfway to the frame before, so that no rounding of time stamps makes a command late.
        time_seconds = (before.time_seconds + window.time_seconds) / 2 - begin
        changed = [f"crop {option} {value}" for option, value in values.items() if value != last[option]]
        if changed:
            lines.append(f"{time_seconds:.6f} {', '.join(changed)};")
        last = values
    return "\n".join(lines) + "\n"


def _whole(window: CropWindow) -> dict[str, int]:
    """The window with its edges on the nearest whole pixels."""
    left, top = math.ceil(window.x - 0.5), math.ceil(window.y - 0.5)
    right, bottom = math.floor(window.x + window.width + 0.5), math.floor(window.y + window.height + 0.5)
    return {"w": max(1, right - left), "h": max(1, bottom - top), "x": left, "y": top}
