"""Frames of a video with their saliency maps, predicted now or read from a file of maps."""

import logging
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stavis.errors import StavisError, counted
from stavis.model import STAViS
from stavis.prediction.options import PredictOptions
from stavis.prediction.predict import FrameSaliency, read_excerpt, stream_video
from stavis.runtime.files import ARCHIVE_ERRORS
from stavis.runtime.prefetch import prefetch
from stavis.weights.names import load_network

logger = logging.getLogger("stavis")

CHUNK = 64  # maps
# LookupError and TypeError: of arrays and headers that are none.
_DAMAGES = (*ARCHIVE_ERRORS, LookupError, TypeError)


def frames_with_maps(
    video: Path,
    model: STAViS | None,
    options: PredictOptions,
    maps: Path | npt.NDArray[np.floating] | None = None,
) -> Iterator[FrameSaliency]:
    """Yields every frame of a video with its saliency map, in order; memory does not grow with the video's length.

    The network `model` predicts the maps as `options` say, or else they are `maps`: (N, h, w) non-negative, or an .npz
    file with such an array `saliency`, as `stavis predict --outputs npz` writes. `frame_rate`, `start_seconds` and
    `end_seconds` apply to these too.

    Raises:
        ValueError: Neither `model` nor `maps` is given, or the array has another shape.
        StavisError: The video or the file of maps cannot be read, or there are fewer maps than frames.
    """
    if maps is not None:
        return _with_maps(video, options, maps)
    if model is None:
        raise ValueError("`model` or `maps` must be given")
    return _predict(video, model, options)


def _predict(video: Path, model: STAViS, options: PredictOptions) -> Iterator[FrameSaliency]:
    with closing(prefetch(stream_video(model, video, options, keep_images=True), 1)) as frames:
        for frame in frames:
            if frame.image is not None:  # maps past the last frame have none
                yield frame


def _with_maps(
    video: Path, options: PredictOptions, maps: Path | npt.NDArray[np.floating]
) -> Iterator[FrameSaliency]:
    name = str(maps) if isinstance(maps, Path) else "`maps`"
    if not isinstance(maps, Path) and not _are_maps(maps.shape, maps.dtype):
        raise ValueError(f"{name} is {maps.dtype} {maps.shape}; must be floating point (N, h, w)")
    chunks = read_maps(maps) if isinstance(maps, Path) else iter([maps])
    values = (one for chunk in chunks for one in chunk)
    with closing(prefetch(read_excerpt(video, options), 1)) as source:
        for frame in source:
            one = next(values, None)
            if one is None:
                raise StavisError(
                    f"{name}: holds {counted(frame.index, 'maps')}, but {video} has more frames than that"
                )
            saliency = np.asarray(one, np.float32)
            if not (np.isfinite(saliency).all() and saliency.min() >= 0):
                raise StavisError(f"{name}: map {frame.index} has values that are negative or not finite")
            yield FrameSaliency(frame.index, frame.time_seconds, saliency, frame.image)


def read_maps(path: Path) -> Iterator[npt.NDArray[np.float32]]:
    """The (N, h, w) array `saliency` of an .npz file, (n, h, w) at a time, without loading all of it.

    Raises StavisError if it is not such a file, or damaged.
    """
    try:
        yield from _read_chunks(path)
    except FileNotFoundError:
        raise StavisError(f"{path}: no such file of maps") from None
    except _DAMAGES as error:
        raise StavisError(
            f"{path}: not an .npz file with an array `saliency`, as `stavis predict --outputs npz` writes ({error})"
        ) from None


def _read_chunks(path: Path) -> Iterator[npt.NDArray[np.float32]]:
    with path.open("rb") as file, zipfile.ZipFile(file) as entries, entries.open("saliency.npy") as entry:
        version = np.lib.format.read_magic(entry)
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read_header(entry)
        if not _are_maps(shape, dtype):
            raise StavisError(f"{path}: `saliency` is {dtype} {shape}; needed are floats (N, h, w)")
        if is_fortran:  # whose maps do not lie one after the other
            yield np.frombuffer(entry.read(), dtype).reshape(shape, order="F").astype(np.float32)
            return
        for first in range(0, shape[0], CHUNK):
            num = min(CHUNK, shape[0] - first)
            data = entry.read(num * shape[1] * shape[2] * dtype.itemsize)
            yield np.frombuffer(data, dtype).reshape(num, *shape[1:]).astype(np.float32)


def _are_maps(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return len(shape) == 3 and 0 not in shape and np.issubdtype(dtype, np.floating)


def load_source(
    weights: str, maps: Path | None, *, num_videos: int = 1, device: str = "auto"
) -> tuple[STAViS | None, str]:
    """The network that `weights` names, and its name with its checksum; no network if there are `maps`.

    Raises StavisError if the weights cannot be loaded, or `maps` is for one video and there are several.
    """
    if maps is None:
        network = load_network(weights, modality=None, device=device)
        for warning in network.warnings:
            logger.warning(warning)
        return network.model, network.name if network.sha256 is None else f"{network.name} {network.sha256}"
    if num_videos > 1:
        raise StavisError(f"{maps}: these maps are those of one video, but {num_videos} videos are given")
    return None, str(maps)
