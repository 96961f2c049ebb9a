"""Files of maps: read in bounded memory, refused in a line when damaged."""

from pathlib import Path

import numpy as np
import pytest

from stavis.errors import StavisError
from stavis.prediction.map_source import CHUNK, frames_with_maps
from stavis.prediction.options import PredictOptions
from support.videos import make_video

NUM_FRAMES = CHUNK + 3


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "clip.mkv", NUM_FRAMES)


def maps(num: int = NUM_FRAMES) -> np.ndarray:
    return np.random.default_rng(0).random((num, 8, 6)).astype(np.float16)


def read(video: Path, path: Path) -> np.ndarray:
    return np.stack([frame.saliency for frame in frames_with_maps(video, None, PredictOptions(), path)])


@pytest.mark.parametrize("kind", ["<f2", ">f4", "f8", "columns first"])
def test_maps_of_any_layout(video: Path, tmp_path: Path, kind: str) -> None:
    values = np.asfortranarray(maps()) if kind == "columns first" else maps().astype(kind)
    np.savez_compressed(tmp_path / "maps.npz", index=np.arange(NUM_FRAMES), saliency=values)
    found = read(video, tmp_path / "maps.npz")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, maps())


@pytest.mark.parametrize("damage", ["cut", "altered", "text", "no array", "empty"])
def test_damaged_maps_are_one_line(video: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "maps.npz"
    np.savez_compressed(path, **{"heat" if damage == "no array" else "saliency": maps()})
    content = bytearray(path.read_bytes())
    if damage == "altered":
        content[len(content) // 2 : len(content) // 2 + 9] = b"\0" * 9
    kept = {"cut": content[: len(content) // 2], "text": b"hello", "empty": b""}.get(damage, content)
    path.write_bytes(kept)
    with pytest.raises(StavisError, match=r"maps\.npz: not an \.npz file with an array `saliency`"):
        read(video, path)


def test_wrong_maps(video: Path, tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    with pytest.raises(StavisError, match="no such file of maps"):
        read(video, path)
    np.savez(path, saliency=np.zeros((3, 4), np.uint8))
    with pytest.raises(StavisError, match=r"`saliency` is uint8 \(3, 4\)"):
        read(video, path)
    np.savez(path, saliency=maps(5))
    with pytest.raises(StavisError, match=r"maps\.npz: holds 5 maps, but"):
        read(video, path)
