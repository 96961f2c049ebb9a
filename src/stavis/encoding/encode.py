"""Saliency-driven encoding: a smaller file that looks the same where people look."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stavis import media
from stavis.encoding.offsets import OffsetPlanner, OffsetSettings, block_size, merge_blocks
from stavis.errors import StavisError, counted
from stavis.media.transcode import EncoderSettings, Region, Transcoded, transcode
from stavis.model import STAViS
from stavis.prediction.map_source import frames_with_maps
from stavis.prediction.options import PredictOptions
from stavis.prediction.predict import expected_frames
from stavis.runtime.files import write_text
from stavis.runtime.jobs import begin_outputs, describe_inputs, is_finished
from stavis.runtime.progress import track
from stavis.storage.remote import as_path

RECORD_NAME = "encode.json"


@dataclass(frozen=True)
class OffsetPlan:
    """QP offsets of a video."""

    size: tuple[int, int]  # (width, height) of the picture upright, in pixels as stored
    block: int  # side of the blocks in pixels
    grids: list[npt.NDArray[np.float16]]  # one (rows, columns) array per frame, in QP


@dataclass(frozen=True)
class EncodeResult:
    """Results of encoding one video."""

    file: Path  # the video
    transcoded: Transcoded | None  # what was written; None if it was finished before


def plan_offsets(
    video: str | Path,
    model: STAViS | None = None,
    *,
    settings: OffsetSettings | None = None,
    options: PredictOptions | None = None,
    maps: Path | npt.NDArray[np.floating] | None = None,
    block: int | None = None,
    quiet: bool = True,
) -> OffsetPlan:
    """Plans the QP offsets of every frame's blocks. Memory grows by about 2 KB per frame.

    Args:
        video: Any file FFmpeg can read, or a folder of numbered images.
        model: The network that predicts where people look; not needed with `maps`.
        settings: How maps become offsets.
        options: How maps are predicted.
        maps: Maps to use instead of predictions: (N, h, w), or an .npz file with such an array `saliency`.
        block: Side of the blocks in pixels; None: about 40 blocks along the longer side.
        quiet: Show no progress.

    Raises:
        ValueError: Neither `model` nor `maps` is given.
        StavisError: The video or the maps cannot be read.
    """
    video, options = as_path(video), options or PredictOptions()
    info = media.probe(video, audio_stream=options.audio_stream, frame_rate=options.frame_rate)
    source = frames_with_maps(video, model, options, maps)
    size = encoded_size(info)
    side = block or block_size(*size)
    planner = OffsetPlanner(*size, side, settings or OffsetSettings())
    grids = []
    with track(f"{video.name}: maps", expected_frames(info, options), unit="frames", quiet=quiet) as advance:
        for frame in source:
            assert frame.image is not None
            offsets = planner.add(frame.image, frame.saliency, frame.time_seconds)
            grids.append(offsets.astype(np.float16))
            advance()
    return OffsetPlan(size, side, grids)


def encode(
    video: str | Path,
    output: str | Path,
    model: STAViS | None = None,
    *,
    encoder: EncoderSettings | None = None,
    settings: OffsetSettings | None = None,
    options: PredictOptions | None = None,
    maps: Path | npt.NDArray[np.floating] | None = None,
    plan: OffsetPlan | None = None,
    weights: str | None = None,
    overwrite: bool = False,
    quiet: bool = True,
) -> EncodeResult:
    """Encodes a video with finer quantization where people look and coarser quantization elsewhere.

    Audio is copied; time stamps, rotation, pixel aspect and colors are kept. A video that was finished before with the
    same settings is left alone.

    Args:
        video: Any video file FFmpeg can read.
        output: The file to write, `.mp4` or `.mkv`; a record of the settings is written beside it, `encode.json`.
        encoder: Encoder and rate. None: x264 at CRF 23.
        model, settings, options, maps: As for `plan_offsets`.
        plan: Offsets planned before; makes `model` and `maps` unnecessary.
        weights: Name of the network's weights, for the record.
        overwrite: Redo what is finished, and replace results of other settings.
        quiet: Show no progress.

    Raises:
        ValueError: Neither `model` nor `maps` nor `plan` is given.
        StavisError: The video or the maps cannot be read, the file cannot be written, or there are results of other
            settings.
    """
    video, output = as_path(video), Path(output)
    encoder, settings = encoder or EncoderSettings(crf=23), settings or OffsetSettings()
    options = options or PredictOptions()
    if video.is_dir():
        raise StavisError(f"{video}: is a folder of images; only video files can be encoded")
    record, planned = output.with_name(RECORD_NAME), plan is not None
    identity = {
        **describe_inputs(video, maps, weights),
        **({"maps": "planned before"} if planned else {}),
        "encoder": asdict(encoder),
        "offsets": asdict(settings),
        "options": asdict(options),
    }
    if not planned and is_finished(record, identity, [output], overwrite=overwrite):
        return EncodeResult(output, None)
    if plan is None:
        plan = plan_offsets(video, model, settings=settings, options=options, maps=maps, quiet=quiet)
    grids, side, size = plan.grids, plan.block, plan.size

    def regions(index: int) -> Sequence[Region]:
        return grid_regions(grids[index], side, size) if index < len(grids) else ()

    outputs = begin_outputs(record, [output], overwrite=overwrite or planned)
    passes = 1 if encoder.bit_rate is None else 2
    with track(f"{video.name}: encoding", passes * len(grids), unit="frames", quiet=quiet) as advance:
        transcoded = transcode(video, output, encoder, regions, advance=advance)
    if transcoded.num_frames != len(grids):
        raise StavisError(
            f"{video}: {counted(transcoded.num_frames, 'frames')} encoded, but {len(grids)} with maps"
        )
    described = {"settings": identity, **transcoded._asdict(), "block_pixels": side, "outputs": outputs}
    write_text(record, json.dumps(described, indent=2, default=str) + "\n")
    return EncodeResult(output, transcoded)


def encoded_size(info: media.VideoInfo) -> tuple[int, int]:
    """(width, height) of the pictures that an encoder gets: upright, in pixels as stored, which need not be square."""
    size = info.coded_width, info.coded_height
    return size[::-1] if info.rotation in (90, 270) else size


def grid_regions(grid: npt.NDArray[np.floating], block: int, size: tuple[int, int]) -> list[Region]:
    """Rectangles of a picture of `size` = (width, height) for a (rows, columns) grid of offsets in QP."""
    across, down = block / size[0], block / size[1]
    return [
        Region(
            column * across,
            row * down,
            min(1.0, (column + num_columns) * across),
            min(1.0, (row + num_rows) * down),
            value,
        )
        for row, column, num_rows, num_columns, value in merge_blocks(grid)
    ]
