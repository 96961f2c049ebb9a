"""What the page plays: a video that every browser decodes, the maps in 8 bits, and the audio level of each frame."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stavis import media
from stavis.app.worker import PAGE, WITHOUT_SOUND
from stavis.maps.overlay import normalize
from stavis.prediction.map_source import read_maps
from stavis.prediction.options import PredictOptions
from stavis.prediction.predict import read_excerpt
from stavis.prediction.timeline import AudioLevels
from stavis.runtime.progress import Listener

ARCHIVE = "saliency.npz"
PREVIEW_SIDE = 960  # pixels of the longer side


def write_page_data(video: Path, results: Path, options: PredictOptions, report: Listener) -> None:
    """Writes `page/` with `video.mp4`, `maps.u8` (N, h, w), `without-sound.u8` if there is one, and `page.json`.

    `results` is the result folder of the upload `video`; `report` hears how many frames were written.
    """
    folder = results / PAGE
    folder.mkdir()
    with (results / "frames.csv").open(encoding="utf-8") as table:
        times = [float(row["time_seconds"]) for row in csv.DictReader(table)]
    info = media.probe(video, audio_stream=options.audio_stream)
    page: dict[str, Any] = {"width": info.width, "height": info.height, "times": times}
    for name, archive in (("maps", results / ARCHIVE), ("without-sound", results / WITHOUT_SOUND / ARCHIVE)):
        if archive.exists():
            page["map_size"] = _write_maps(archive, folder / f"{name}.u8")
    with AudioLevels(info, options) as levels:
        for time_seconds in times:
            levels.add(time_seconds)
    decibels = levels.decibels
    page["audio_level_db"] = None if decibels is None else [round(level, 1) for level in decibels]
    _write_video(folder / "video.mp4", info, options, len(times), report)
    (folder / "page.json").write_text(json.dumps(page), encoding="utf-8")


def _write_maps(archive: Path, path: Path) -> tuple[int, int]:
    """Stretches each map of an archive to 0..255; returns the maps' (height, width)."""
    with path.open("wb") as file:
        for chunk in read_maps(archive):
            for saliency in chunk:
                file.write(np.rint(normalize(saliency) * 255).astype(np.uint8).tobytes())
    height, width = chunk.shape[1:]
    return height, width


def _write_video(
    path: Path, info: media.VideoInfo, options: PredictOptions, num_frames: int, report: Listener
) -> None:
    scale = min(1.0, PREVIEW_SIDE / max(info.width, info.height))
    width, height = (max(2, round(side * scale / 2) * 2) for side in (info.width, info.height))
    audio = None if options.silent else info.path
    with media.VideoWriter(
        path,
        width=width,
        height=height,
        frame_rate=info.frame_rate,
        audio_from=audio,
        audio_stream=options.audio_stream,
        crf=21,
    ) as writer:
        for number, frame in enumerate(read_excerpt(info.path, options)):
            image = Image.fromarray(frame.image).resize(
                (width, height), Image.Resampling.BILINEAR, reducing_gap=2
            )
            writer.write(np.asarray(image), frame.time_seconds)
            report(path.name, number + 1, num_frames)
