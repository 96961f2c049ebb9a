"""Picture sets: what is read, what is refused, and whether maps follow what the camera shows."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stavis.clips.preprocess import Preprocessing
from stavis.datasets.pictures import Box, PictureDataset, density_map, fixation_map, read_picture_set
from stavis.errors import StavisError

PREPROCESSING = Preprocessing(input_size=(64, 64))


def write_set(folder: Path, num: int = 32, fixations: int = 40, **changes: object) -> Path:
    """Pictures with one bright disc each, and fixations on it."""
    rng = np.random.default_rng(0)
    arrays: dict[str, object] = {"picture": [], "observer": [], "x": [], "y": [], "names": []}
    (folder / "set").mkdir(parents=True)
    ys, xs = np.mgrid[0:90, 0:120]
    for number in range(num):
        x, y = rng.uniform(0.3, 0.7, 2)
        disc = (xs / 120 - x) ** 2 + (ys / 90 - y) ** 2 < 0.05**2
        Image.fromarray(np.where(disc, 255, 40).astype(np.uint8)).save(folder / "set" / f"{number}.png")
        arrays["names"].append(f"set/{number}.png")
        arrays["picture"] += [number] * fixations
        arrays["observer"] += list(range(fixations))
        arrays["x"] += list(x + rng.uniform(-0.02, 0.02, fixations))
        arrays["y"] += list(y + rng.uniform(-0.02, 0.02, fixations))
    arrays = {
        "picture": np.array(arrays["picture"]),
        **{k: np.array(v) for k, v in arrays.items()},
        **changes,
    }
    np.savez(folder / "fixations.npz", **{name: value for name, value in arrays.items() if value is not None})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("pictures"))


def test_every_15th_picture_is_held_out(folder: Path) -> None:
    pictures = read_picture_set(folder)
    assert pictures.part("held-out") == [0, 15, 30]
    assert sorted(pictures.part("held-out") + pictures.part("training")) == list(range(32))
    assert all(len(points) == 40 for points in pictures.points)
    assert pictures.set_name(0) == "set"


@pytest.mark.parametrize("camera", [False, True])
def test_maps_follow_what_the_sample_shows(folder: Path, camera: bool) -> None:
    """The disc is where people looked: in crops, flips, pans and zooms the two must stay together."""
    dataset = PictureDataset(folder, camera=camera, crop=0.8, preprocessing=PREPROCESSING, seed=2)
    shifts = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        for index in range(len(dataset)):
            sample = dataset[index]
            frame = sample.clip[:, int(sample.target)].mean(0).numpy()
            disc = frame > frame.min() + 0.6 * (frame.max() - frame.min())
            peak = np.unravel_index(sample.density_map[0].numpy().argmax(), frame.shape)
            shifts.append(np.hypot(*(np.argwhere(disc).mean(0) - peak)))
    # Where the camera has just cut, gaze rests where it was.
    assert np.mean(np.array(shifts) < 5) > (0.85 if camera else 0.99)


def test_samples_depend_on_seed_epoch_and_index_alone(folder: Path) -> None:
    first, again = (
        PictureDataset(folder, camera=True, crop=0.5, preprocessing=PREPROCESSING) for _ in range(2)
    )
    again[3], again[5]
    assert (first[4].clip == again[4].clip).all()
    again.set_epoch(1)
    assert (first[4].clip != again[4].clip).any()


def test_held_out_pictures_are_whole_and_unchanged(folder: Path) -> None:
    dataset = PictureDataset(folder, part="held-out", changed=False, preprocessing=PREPROCESSING)
    assert len(dataset) == 3
    expected = np.asarray(dataset.pictures.read(15).resize((64, 64), Image.Resampling.BILINEAR))
    found = dataset[1].clip[:, 0].permute(1, 2, 0).numpy() + np.array(PREPROCESSING.mean)
    assert np.abs(found - expected).max() < 1e-3
    assert dataset[1].clip.shape == (3, 1, 64, 64)


def test_crops_become_rarer_until_there_are_none(folder: Path) -> None:
    dataset = PictureDataset(folder, crop=1.0, whole_from_epoch=4, preprocessing=PREPROCESSING)
    dataset.set_epoch(4)
    for index in range(8):
        points = dataset.pictures.points[dataset._indices[index]]
        assert int(dataset[index].fixation_map.sum()) == int((fixation_map(points, (64, 64)) > 0).sum())


def test_audio_is_silent_or_an_excerpt(folder: Path, tmp_path: Path) -> None:
    from stavis.media import write_wave

    write_wave(tmp_path / "tone.wav", np.sin(np.arange(44100) / 20).astype(np.float32), 22050)
    dataset = PictureDataset(
        folder, camera=True, audio=True, sounds=[tmp_path / "tone.wav"], preprocessing=PREPROCESSING
    )
    heard = [bool(dataset[index].audio.any()) for index in range(20)]
    assert {True, False} == set(heard)
    write_wave(tmp_path / "silence.wav", np.zeros(4410, np.float32), 22050)
    with pytest.raises(StavisError, match=r"silence\.wav: has no audio that can be decoded, or only silence"):
        PictureDataset(folder, audio=True, sounds=[tmp_path / "silence.wav"])


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_every_fixation_is_counted_once(points: list[tuple[float, float]]) -> None:
    counts = fixation_map(np.array(points, np.float32), (7, 11))
    assert counts.sum() == len(points)
    assert density_map(counts).max() == pytest.approx(255, rel=1e-5)


@given(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.25, 0.5))
@settings(max_examples=50, deadline=None)
def test_points_of_a_box_are_in_its_shares(left: float, top: float, side: float) -> None:
    inside = np.array(
        [[left + side / 2, top + side / 2], [left - 0.01, top], [left, top + side + 0.01]], np.float32
    )
    assert Box(left, top, side, side).points(inside) == pytest.approx(np.array([[0.5, 0.5]]), abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observer": None}, "has no array observer"),
        ({"x": np.full(32 * 40, 1.5)}, r"fixation 0 is at \(1\.5, .*expected x and y in 0\.\.1"),
        ({"x": np.full(32 * 40, np.nan)}, r"fixation 0 is at \(nan"),
        ({"y": np.zeros(3)}, "have shapes"),
        ({"picture": np.full(32 * 40, 32)}, "must be an index into the 32 names"),
        ({"names": np.arange(3)}, "expected names of pictures"),
    ],
)
def test_impossible_sets_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(StavisError, match=message):
        read_picture_set(write_set(tmp_path, **changes))


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(StavisError, match=r"fixations\.npz: not found"):
        read_picture_set(tmp_path)
    (tmp_path / "fixations.npz").write_bytes(b"no archive")
    with pytest.raises(StavisError, match=r"fixations\.npz: cannot be read as a NumPy archive"):
        read_picture_set(tmp_path)
    pictures = read_picture_set(write_set(tmp_path / "whole"))
    (tmp_path / "whole" / "set" / "0.png").write_bytes(b"no picture")
    (tmp_path / "whole" / "set" / "1.png").unlink()
    with pytest.raises(StavisError, match=r"0\.png: not a readable picture"):
        pictures.read(0)
    with pytest.raises(StavisError, match=r"1\.png: missing, though fixations\.npz names it"):
        pictures.read(1)


def test_the_shared_set(shared: Path) -> None:
    pictures = read_picture_set(shared / "real")
    assert len(pictures) == 1480
    assert sum(map(len, pictures.points)) == 231_435
    assert {pictures.set_name(i) for i in range(len(pictures))} == {"osie", "eyecrowd", "scene500"}
