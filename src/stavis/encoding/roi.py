"""Maps for other encoders: Kvazaar, SVT-AV1, x264_saliency_mod."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from stavis import media
from stavis.encoding.encode import encoded_size, plan_offsets
from stavis.encoding.offsets import OffsetSettings
from stavis.maps.overlay import normalize, resize_smoothly
from stavis.model import STAViS
from stavis.prediction.map_source import frames_with_maps
from stavis.prediction.options import PredictOptions
from stavis.prediction.predict import expected_frames
from stavis.runtime.files import write_text
from stavis.runtime.progress import track

RoiTarget = Literal["kvazaar", "svt-av1", "x264-saliency"]
ROI_NAMES: dict[RoiTarget, str] = {
    "kvazaar": "roi-kvazaar.txt",
    "svt-av1": "roi-svt-av1.txt",
    "x264-saliency": "saliency-x264.mp4",
}
"""What each file is called in a video's folder."""

BLOCK = 64  # pixels: Kvazaar's coding tree units, SVT-AV1's superblocks
MAX_AV1_VALUES = 8  # segments of an AV1 frame


def write_roi(
    video: str | Path,
    path: str | Path,
    target: RoiTarget,
    model: STAViS | None = None,
    *,
    settings: OffsetSettings | None = None,
    options: PredictOptions | None = None,
    maps: Path | npt.NDArray[np.floating] | None = None,
    quiet: bool = True,
) -> int:
    """Writes a video's maps in the form that another encoder reads, and returns the number of frames.

    They are for pictures upright and in pixels as stored, whether square or not, as FFmpeg hands them on.

    Args:
        video: Any file FFmpeg can read, or a folder of numbered images.
        path: The file to write.
        target: The encoder.
        model: The network that predicts where people look; not needed with `maps`.
        settings: How maps become offsets; not used for x264_saliency_mod, which takes the maps themselves.
        options: How maps are predicted.
        maps: Maps to use instead of predictions: (N, h, w), or an .npz file with such an array `saliency`.
        quiet: Show no progress.

    Raises:
        ValueError: Neither `model` nor `maps` is given, or the target is unknown.
        StavisError: The video or the maps cannot be read, or the file cannot be written.
    """
    if target not in ROI_NAMES:
        raise ValueError(f"`target={target}`: allowed are {', '.join(ROI_NAMES)}")
    if target == "x264-saliency":
        return _write_saliency_video(Path(video), Path(path), model, options or PredictOptions(), maps, quiet)
    plan = plan_offsets(video, model, settings=settings, options=options, maps=maps, block=BLOCK, quiet=quiet)
    lines = kvazaar_lines(plan.grids) if target == "kvazaar" else svt_av1_lines(plan.grids)
    write_text(Path(path), "".join(f"{line}\n" for line in lines))
    return len(plan.grids)


def kvazaar_lines(grids: Sequence[npt.NDArray[np.floating]]) -> Iterator[str]:
    """Kvazaar's `--roi` file: for each frame width and height in blocks, then a delta QP per block in raster order."""
    for grid in grids:
        yield f"{grid.shape[1]} {grid.shape[0]}"
        for row in np.round(grid).astype(int):
            yield " ".join(map(str, row))


def svt_av1_lines(grids: Sequence[npt.NDArray[np.floating]]) -> Iterator[str]:
    """SVT-AV1's `--roi-map-file`: a line per frame that changes the map: its number, then the offsets of its blocks.

    AV1 has 8 segments, so that each line has at most 8 distinct values; SVT-AV1 wants one of them to be 0 or more.
    """
    last: npt.NDArray[np.int64] | None = None
    for number, grid in enumerate(grids):
        values = reduce_values(np.round(grid).astype(np.int64), MAX_AV1_VALUES)
        if values.max() < 0:
            values[values == values.max()] = 0
        if last is None or not np.array_equal(values, last):
            yield " ".join(map(str, [number, *values.ravel()]))
        last = values


def reduce_values(values: npt.NDArray[np.int64], limit: int) -> npt.NDArray[np.int64]:
    """Merges neighboring values, those whose merging changes least, until there are at most `limit` distinct ones."""
    distinct, counts = (part.tolist() for part in np.unique(values, return_counts=True))
    groups = [[value] * count for value, count in zip(distinct, counts, strict=True)]

    def error(group: list[int]) -> float:
        return float(np.square(np.array(group) - round(float(np.mean(group)))).sum())

    while len(groups) > limit:
        costs = [error(a + b) - error(a) - error(b) for a, b in itertools.pairwise(groups)]
        first = int(np.argmin(costs))
        groups[first : first + 2] = [groups[first] + groups[first + 1]]
    result = values.copy()
    for group in groups:
        result[(values >= group[0]) & (values <= group[-1])] = round(float(np.mean(group)))
    return result


def _write_saliency_video(
    video: Path,
    path: Path,
    model: STAViS | None,
    options: PredictOptions,
    maps: Path | npt.NDArray[np.floating] | None,
    quiet: bool,
) -> int:
    """A gray video of the maps, as large as the pictures that the encoder gets."""
    info = media.probe(video, audio_stream=options.audio_stream, frame_rate=options.frame_rate)
    size, num_frames = encoded_size(info), 0
    with ExitStack() as stack:
        writer = stack.enter_context(
            media.VideoWriter(path, width=size[0], height=size[1], frame_rate=info.frame_rate)
        )
        advance = stack.enter_context(
            track(f"{video.name}: maps", expected_frames(info, options), unit="frames", quiet=quiet)
        )
        for frame in frames_with_maps(video, model, options, maps):
            values = resize_smoothly(normalize(frame.saliency.astype(np.float32)), size)
            writer.write(np.rint(values * 255).astype(np.uint8), frame.time_seconds)
            num_frames += 1
            advance()
    return num_frames
