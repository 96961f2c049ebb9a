"""Samples against the recorded ones of the published loader, and against its rules."""

import json
import math
import os
import pickle
import shutil
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from torch.utils.data import DataLoader

from stavis import clips
from stavis.clips.preprocess import (
    Preprocessing,
    audio_excerpt,
    make_clip,
    point_fixation_map,
    resize_density_map,
    resize_fixation_map,
    resize_frame,
)
from stavis.datasets.dataset import MissingDataWarning, SaliencyDataset, Sample
from stavis.datasets.layout import FoldEntry, Layout
from stavis.datasets.quirks import LoaderQuirks
from stavis.errors import StavisError
from stavis.maps import read_fixation_map, read_map
from stavis.media import read_wave
from support.datasets import SAMPLE_RATE, write_data_set, write_lists, write_video

P = Preprocessing()


@pytest.fixture(scope="module")
def layout(tmp_path_factory) -> Layout:
    return write_data_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def dataset(layout: Layout, **settings) -> SaliencyDataset:
    return SaliencyDataset(layout.root, quiet=True, **settings)


def assert_same(first: Sample, second: Sample) -> None:
    for name, a, b in zip(Sample._fields, first, second, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b), name


# --- The published loader ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [False, True])
def test_samples_are_the_recorded_ones(goldens: Path, tmp_path: Path, cached: bool) -> None:
    paths = sorted(goldens.glob("dataset/dataset_samples*.json"))
    assert paths
    for number, path in enumerate(paths):
        recorded = json.loads(path.read_text())
        arrays = np.load(path.with_suffix(".npz"))
        data = SaliencyDataset(
            path.parent / "data",
            subset="test",
            quirks="reference",
            cache=tmp_path / str(number) if cached else None,
            quiet=True,
        )
        assert len(data) == recorded["length"]
        assert recorded["samples"]
        for sample in recorded["samples"]:
            index = sample["index"]
            clip, audio, density_map, fixation_map, own_index, frames, target = data[index]
            assert int(own_index) == index
            assert data.describe(index).video == sample["video"]
            assert (frames + 1).tolist() == sample["frame_indices_after_padding"]
            assert int(target) == clips.target_frame(frames.tolist())
            assert list(clip.shape) == sample["clip_shape"]
            every_fifth = clip.numpy()[:, ::5]
            assert np.abs(every_fifth - arrays[f"clip_{index}"].astype(np.float32)).max() < 0.1
            assert float(clip.mean()) == pytest.approx(sample["clip_mean"], abs=1e-4)
            assert float(clip.std()) == pytest.approx(sample["clip_std"], abs=1e-4)
            assert np.abs(audio.numpy().ravel() - arrays[f"audio_{index}"]).max() < 1e-4
            assert float(audio.abs().sum()) == pytest.approx(sample["audio_abs_sum"], rel=1e-5, abs=1e-3)
            assert np.array_equal(density_map.numpy(), arrays[f"sal_{index}"])
            assert np.array_equal(fixation_map.numpy(), arrays[f"fix_{index}"])
            assert float(density_map.mean()) == pytest.approx(sample["salmap_mean"], rel=1e-5)
            assert float(fixation_map.sum()) == sample["fix_sum"]
            # Where the buffer is not zero is as long as the published excerpt, but for the window's two zeros.
            spoken = np.flatnonzero(audio.numpy().ravel())
            if sample["audio_valid_samples"] == 0:
                assert len(spoken) == 0
            else:
                begin = 17640 - sample["audio_valid_samples"] // 2
                assert begin <= spoken[0]
                assert spoken[-1] < begin + sample["audio_valid_samples"]


# --- What a sample is -------------------------------------------------------------------------------------------------


def test_samples_collate_into_batches_for_the_model(layout: Layout) -> None:
    data = dataset(layout)
    batch = next(iter(DataLoader(data, batch_size=3)))
    assert isinstance(batch, Sample)
    shapes = {name: tuple(value.shape) for name, value in zip(Sample._fields, batch, strict=True)}
    assert shapes == {
        "clip": (3, 3, 16, 112, 112),
        "audio": (3, 1, 1, 35280),
        "density_map": (3, 1, 112, 112),
        "fixation_map": (3, 1, 112, 112),
        "index": (3,),
        "frames": (3, 16),
        "target": (3,),
    }
    assert all(value.dtype == torch.float32 for value in batch[:4])
    assert all(value.dtype == torch.int64 for value in batch[4:])
    assert batch.index.tolist() == [0, 1, 2]
    assert 200 < batch.density_map.max() <= 255
    assert set(batch.fixation_map.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("mode", ["train", "validation", "test"])
def test_a_sample_is_made_of_the_files_that_it_names(layout: Layout, mode: str) -> None:
    data = dataset(layout, mode=mode, flip_probability=0.0, quirks=LoaderQuirks(native_sample_rate=True))
    for index in range(0, len(data), 1 if mode != "test" else 31):
        sample, where = data[index], data.describe(index)
        frames = sample.frames.tolist()
        assert tuple(frames) == where.frames
        assert int(sample.target) == where.target == clips.middle_frame(frames)
        paths = [layout.frame(where.database, where.video, frame) for frame in frames]
        pictures = [resize_frame(np.asarray(Image.open(path).convert("RGB")), P) for path in paths]
        assert np.array_equal(sample.clip.numpy(), make_clip(pictures, P))
        density = read_map(layout.density_map(where.database, where.video, where.target))
        fixations = read_fixation_map(layout.fixation_map(where.database, where.video, where.target))
        assert np.array_equal(sample.density_map[0].numpy(), resize_density_map(density, P))
        assert np.array_equal(sample.fixation_map[0].numpy() > 0, resize_fixation_map(fixations, P))
        waveform, rate = read_wave(layout.wave(where.database, where.video))
        assert rate == SAMPLE_RATE
        span = clips.clip_samples(frames, where.frame_rate, rate, len(waveform))
        assert span.stop > span.start
        expected = audio_excerpt(waveform[span.start : span.stop], P)
        assert np.array_equal(sample.audio[0, 0].numpy(), expected)


def test_windows_of_each_mode(layout: Layout) -> None:
    # Train videos of 24, 95 and 7 frames in two databases.
    train = dataset(layout, mode="train")
    assert len(train) == 2 * (1 + 2 + 1)
    test = dataset(layout, mode="test")
    assert len(test) == 2 * (23 + 94 + 6)
    starts = [test.describe(i).frames[0] for i in range(len(test))]
    assert starts == 2 * [*range(23), *range(94), *range(6)]
    validation = dataset(layout, mode="validation")
    assert len(validation) == len(train)
    frames = [validation.describe(i).frames for i in range(4)]
    assert [f[0] for f in frames] == [0 + 24 // 2 - 8, 0 + 90 // 2 - 8, 74 + 21 // 2 - 8, 0]
    assert frames[3] == (0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6, 0, 1)
    assert len(dataset(layout, subset="test")) == len(test)
    assert dataset(layout, subset="test").mode == "test"


def test_all_databases_are_joined_in_the_order_of_their_lists(layout: Layout) -> None:
    data = dataset(layout, split=2)
    assert [(database, entry.video) for database, entry in data.videos] == [
        (database, f"train_{i}") for database in ("AVAD", "DIEM") for i in range(3)
    ]
    only = dataset(layout, databases=["DIEM"], subset="test")
    assert {only.describe(i).database for i in range(len(only))} == {"DIEM"}


def test_descriptions_name_the_files(layout: Layout) -> None:
    data = dataset(layout, databases=["DIEM"], mode="validation")
    assert str(data.describe(1)) == "DIEM/train_1, images 38 to 53, maps 46"


def test_indices_are_bounded(layout: Layout) -> None:
    data = dataset(layout)
    assert_same(data[-1], data[len(data) - 1])
    assert sum(1 for _ in data) == len(data)
    for index in (len(data), -len(data) - 1):
        with pytest.raises(IndexError):
            data[index]


# --- Random draws -----------------------------------------------------------------------------------------------------


def test_crops_are_uniform_and_flips_fair(layout: Layout) -> None:
    data = dataset(layout, databases=["DIEM"])
    begins: list[int] = []
    flips: list[bool] = []
    for epoch in range(3000):
        data.set_epoch(epoch)
        _, frames, flipped = data._choose(1)
        begins.append(frames[0])
        flips.append(flipped)
        assert frames == tuple(range(frames[0], frames[0] + 16))
    counts = np.bincount(begins, minlength=74)
    assert len(counts) == 74  # 0 to 90 - 16 - 1
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    assert scipy.stats.binomtest(sum(flips), len(flips), 0.5).pvalue > 1e-3
    # A flip tells nothing of its crop, nor a draw of the next epoch's.
    assert abs(np.corrcoef(begins, flips)[0, 1]) < 0.06
    assert abs(np.corrcoef(begins[1:], begins[:-1])[0, 1]) < 0.06


def test_draws_depend_on_seed_epoch_and_index_alone(layout: Layout) -> None:
    def choices(data: SaliencyDataset) -> list[tuple]:
        return [data._choose(i)[1:] for i in range(len(data))]

    data, again = dataset(layout, seed=3), dataset(layout, seed=3)
    backwards = [again._choose(i)[1:] for i in reversed(range(len(again)))][::-1]
    first = choices(data)
    assert first == backwards == choices(data)
    data.set_epoch(1)
    assert choices(data) != first
    data.set_epoch(0)
    assert choices(data) == first
    assert choices(dataset(layout, seed=4)) != first
    long_windows = [c for c in first if len(set(c[0])) == 16]
    assert len({frames[0] % 74 for frames, _ in long_windows}) > 1  # indices differ


def test_draws_stay_what_they_were(layout: Layout) -> None:
    """A run can be repeated with another version: seed 1, epoch 2, index 1."""
    data = dataset(layout, databases=["DIEM"], seed=1)
    data.set_epoch(2)
    words = np.random.SeedSequence((1, 2, 1)).generate_state(2, np.uint64)
    crop, flip = ((int(word) >> 11) / 2**53 for word in words)
    _, frames, flipped = data._choose(1)
    assert frames[0] == math.floor(crop * 74)
    assert flipped == (flip < 0.5)


def test_a_flip_mirrors_pictures_and_maps(layout: Layout) -> None:
    plain, flipped = dataset(layout, flip_probability=0.0), dataset(layout, flip_probability=1.0)
    for index in range(len(plain)):
        a, b = plain[index], flipped[index]
        assert torch.equal(a.clip.flip(-1), b.clip)
        assert torch.equal(a.density_map.flip(-1), b.density_map)
        assert torch.equal(a.fixation_map.flip(-1), b.fixation_map)
        assert torch.equal(a.audio, b.audio)
        assert torch.equal(a.frames, b.frames)


@pytest.mark.parametrize("cached", [False, True])
def test_workers_change_nothing_over_epochs(layout: Layout, cache: Path, cached: bool) -> None:
    data = dataset(layout, cache=cache if cached else None)

    def epochs(loader: DataLoader) -> list[Sample]:
        batches = []
        for epoch in (0, 5):
            data.set_epoch(epoch)
            batches += list(loader)
        return batches

    alone = epochs(DataLoader(data, batch_size=3))
    # Workers that live on must see the new epoch, too.
    with_workers = epochs(DataLoader(data, batch_size=3, num_workers=2, persistent_workers=True))
    assert len(alone) == len(with_workers) > 2
    for a, b in zip(alone, with_workers, strict=True):
        assert_same(a, b)
    assert not torch.equal(alone[0].frames, alone[len(alone) // 2].frames)


@pytest.mark.slow
def test_spawned_workers_change_nothing(layout: Layout, cache: Path) -> None:
    data = dataset(layout, cache=cache)
    loader = DataLoader(
        data, batch_size=4, num_workers=2, persistent_workers=True, multiprocessing_context="spawn"
    )
    for epoch in (0, 1):
        data.set_epoch(epoch)
        for a, b in zip(DataLoader(data, batch_size=4), loader, strict=True):
            assert_same(a, b)


def test_a_pickled_dataset_gives_the_same_samples(layout: Layout, cache: Path) -> None:
    data = dataset(layout, cache=cache)
    data.set_epoch(7)
    before = data[2]
    pickled = pickle.dumps(data)
    assert len(pickled) < 100_000  # no picture travels to a worker
    assert_same(pickle.loads(pickled)[2], before)


# --- The cache --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["train", "validation", "test"])
@pytest.mark.parametrize(
    "quirks", ["fixed", "reference", LoaderQuirks(fixation_blobs=False)], ids=["fixed", "reference", "points"]
)
def test_cached_samples_are_bit_identical(
    layout: Layout, cache: Path, mode: str, quirks: LoaderQuirks | str
) -> None:
    direct = dataset(layout, mode=mode, quirks=quirks)
    cached = dataset(layout, mode=mode, quirks=quirks, cache=cache)
    for index in range(0, len(direct), 23 if mode == "test" else 1):
        assert_same(direct[index], cached[index])


# --- Quirks -----------------------------------------------------------------------------------------------------------


def test_the_last_video_of_every_list_is_silent_on_request_only(layout: Layout) -> None:
    silent = dataset(layout, mode="test", quirks="reference")
    described = [silent.describe(i) for i in range(len(silent))]
    names = {(where.database, where.video): index for index, where in enumerate(described)}
    heard = {name: bool(silent[index].audio.any()) for name, index in names.items()}
    assert heard == {(db, f"train_{i}"): i < 2 for db in ("DIEM", "AVAD") for i in range(3)}
    fixed = dataset(layout, mode="test")
    assert all(fixed[index].audio.any() for index in names.values())


def test_a_last_video_that_is_listed_before_is_not_silent(layout: Layout, tmp_path: Path) -> None:
    """The published look-up goes by name, so it finds the first of the two."""
    own = Layout(tmp_path)
    entries = [FoldEntry("a", 20, 25.0), FoldEntry("b", 20, 25.0), FoldEntry("a", 20, 25.0)]
    for entry in entries[:2]:
        write_video(own, "Own", entry)
    write_lists(own, "Own", {("train", None): entries})
    data = dataset(own, quirks="reference")
    assert [bool(data[i].audio.any()) for i in range(3)] == [True, True, True]


def test_the_target_alternates_on_request_only(layout: Layout) -> None:
    published = dataset(layout, mode="test", quirks=LoaderQuirks(alternating_target=True))
    assert [int(published[i].target) + 1 for i in range(4)] == [8, 10, 10, 12]
    fixed = dataset(layout, mode="test")
    assert [int(fixed[i].target) + 1 for i in range(4)] == [9, 10, 11, 12]


def test_audio_is_resampled_by_default(layout: Layout) -> None:
    native = dataset(layout, mode="test", quirks=LoaderQuirks(native_sample_rate=True))
    fixed = dataset(layout, mode="test")

    def num_samples(data: SaliencyDataset) -> int:
        heard = np.flatnonzero(data[0].audio.numpy().ravel())
        return int(heard[-1] - heard[0]) + 1

    seconds = 15.5 / 25  # from the first frame's time to half a frame after the 16th's
    assert num_samples(native) == pytest.approx(seconds * SAMPLE_RATE, abs=4)
    assert num_samples(fixed) == pytest.approx(seconds * 22050, abs=4)
    # Against another resampler.
    waveform, _ = read_wave(layout.wave("AVAD", "train_0"))
    other = scipy.signal.resample_poly(waveform, 441, 320)
    span = clips.clip_samples(range(16), 25.0, 22050, len(other))
    expected = audio_excerpt(other[span.start : span.stop].astype(np.float32), P)
    assert np.corrcoef(expected, fixed[0].audio.numpy().ravel())[0, 1] > 0.99


def test_fixations_are_points_on_request(layout: Layout) -> None:
    data = dataset(layout, mode="validation", quirks=LoaderQuirks(fixation_blobs=False))
    sample, where = data[0], data.describe(0)
    fixations = read_fixation_map(layout.fixation_map(where.database, where.video, where.target))
    assert np.array_equal(sample.fixation_map[0].numpy() > 0, point_fixation_map(fixations, P))
    assert sample.fixation_map.sum() < dataset(layout, mode="validation")[0].fixation_map.sum()


def test_sound_of_slow_video_fits(tmp_path: Path) -> None:
    """4 frames per second at 22050 Hz: 88200 samples a clip, where the buffer has 35280."""
    own = Layout(tmp_path)
    entry = FoldEntry("slow", 20, 4.0)
    write_video(own, "Own", entry)
    write_lists(own, "Own", {("train", None): [entry]})
    for quirks in ("fixed", "reference"):
        data = dataset(own, quirks=LoaderQuirks(native_sample_rate=quirks == "reference"))
        assert data[0].audio.shape == (1, 1, 35280)
        assert data[0].audio.any()


def test_settings_of_the_network_are_followed(layout: Layout) -> None:
    small = Preprocessing(input_size=(64, 96), clip_length=8, num_audio_samples=20000)
    sample = dataset(layout, preprocessing=small)[0]
    assert sample.clip.shape == (3, 8, 64, 96)
    assert sample.audio.shape == (1, 1, 20000)
    assert sample.density_map.shape == sample.fixation_map.shape == (1, 64, 96)


# --- What is missing --------------------------------------------------------------------------------------------------


@pytest.fixture
def own_layout(layout: Layout, tmp_path: Path) -> Layout:
    """A copy whose files can be removed; pictures and maps are links, so they must not be written to."""
    own = Layout(tmp_path / "copy")
    shutil.copytree(layout.root, own.root, copy_function=os.link)
    shutil.rmtree(own.root / "fold_lists")
    shutil.copytree(layout.root / "fold_lists", own.root / "fold_lists")
    return own


VIDEO = ("DIEM", "train_1")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (lambda own: own.frame(*VIDEO, 6), r"video_frames/DIEM/train_1: 1 of 95 frames missing \(number 7\)"),
        (
            lambda own: own.density_map(*VIDEO, 94),
            r"train_1/maps: 1 of 95 density maps missing \(number 95\)",
        ),
        (lambda own: own.fixation_map(*VIDEO, 0), r"train_1: 1 of 95 fixation maps missing \(number 1\)"),
        (lambda own: own.wave(*VIDEO), r"train_1\.wav: WAV file not found"),
        (lambda own: own.frames_folder(*VIDEO), r"video_frames/DIEM/train_1: none of 95 frames found"),
        (lambda own: own.annotations_folder(*VIDEO), r"DIEM/train_1/maps: none of 95 density maps found"),
        (
            lambda own: own.root / "video_frames/AVAD",
            r"video_frames/AVAD: folder not found; .* AVAD name 3 videos",
        ),
        (lambda own: own.root / "video_audio/AVAD", r"video_audio/AVAD: folder not found"),
        (lambda own: own.fold_list("AVAD", "train", 1), r"AVAD_list_train_1_fps\.txt: fold list not found"),
    ],
)
def test_a_missing_part_is_named_at_once(own_layout: Layout, path, message: str) -> None:
    target = path(own_layout)
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    with pytest.raises(StavisError, match=message) as error:
        dataset(own_layout)
    assert "\n" not in str(error.value)
    # The other list needs none of it.
    if "train_1" in str(target):
        assert len(dataset(own_layout, subset="test")) > 0


def test_a_list_with_more_frames_than_exist(own_layout: Layout) -> None:
    path = own_layout.fold_list("DIEM", "train", 1)
    path.write_text(path.read_text().replace("train_0 24 ", "train_0 26 "))
    with pytest.raises(
        StavisError, match=r"2 of 26 frames missing \(number 25-26\); and 2 more missing parts"
    ):
        dataset(own_layout)


def test_surplus_files_are_warned_of(own_layout: Layout) -> None:
    path = own_layout.fold_list("DIEM", "train", 1)
    path.write_text(path.read_text().replace("train_0 24 ", "train_0 20 "))
    with pytest.warns(MissingDataWarning, match="the list names 20 frames, there are 4 more"):
        data = dataset(own_layout, databases=["DIEM"])
    assert (
        max(f for epoch in range(50) for f in _frames(data, 0, epoch)) == 18
    )  # 20 - 1, as the last begin is 3 - 1


def _frames(data: SaliencyDataset, index: int, epoch: int) -> tuple[int, ...]:
    data.set_epoch(epoch)
    return data.describe(index).frames


def test_windows_without_their_files_are_left_out_if_that_is_allowed(own_layout: Layout) -> None:
    own_layout.frame(*VIDEO, 80).unlink()  # in both windows of the train mode
    own_layout.wave("DIEM", "train_0").unlink()
    shutil.rmtree(own_layout.frames_folder("AVAD", "train_2"))
    with pytest.warns(MissingDataWarning) as caught:
        data = dataset(own_layout, allow_missing=True)
    (warning,) = caught
    for text in (
        "1 of 95 frames missing (number 81)",
        "DIEM/train_1: left out",
        "none of 7 frames found",
        "AVAD/train_2: left out",
        "train_0.wav: WAV file not found",
    ):
        assert text in str(warning.message)
    used = Counter((data.describe(i).database, data.describe(i).video) for i in range(len(data)))
    assert used == {
        ("AVAD", "train_0"): 1,
        ("AVAD", "train_1"): 2,
        ("DIEM", "train_0"): 1,
        ("DIEM", "train_2"): 1,
    }
    assert data.num_dropped_windows == 3
    for index in range(len(data)):
        heard = bool(data[index].audio.any())
        assert heard == (data.describe(index).video != "train_0" or data.describe(index).database != "DIEM")


def test_a_missing_map_drops_only_the_clips_that_use_it(own_layout: Layout) -> None:
    own_layout.density_map("DIEM", "train_0", 12).unlink()
    own_layout.fixation_map("DIEM", "train_0", 13).unlink()
    own_layout.frame("DIEM", "train_0", 20).unlink()
    with pytest.warns(MissingDataWarning):
        data = dataset(own_layout, databases=["DIEM"], mode="test", allow_missing=True)
    starts = [data.describe(i).frames[0] for i in range(len(data)) if data.describe(i).video == "train_0"]
    # Starts 4 and 5 are compared with frames 12 and 13; windows from 5 on, but 21 and 22, hold frame 20.
    assert starts == [0, 1, 2, 3, 21, 22]
    for index in range(6):
        assert data[index].density_map.any()


def test_the_cache_serves_an_incomplete_data_set(own_layout: Layout, tmp_path: Path) -> None:
    own_layout.density_map("DIEM", "train_0", 12).unlink()
    own_layout.frame("DIEM", "train_0", 20).unlink()
    own_layout.wave("DIEM", "train_1").unlink()
    settings = {"databases": ["DIEM"], "mode": "test", "allow_missing": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingDataWarning)
        direct, cached = (
            dataset(own_layout, **settings),
            dataset(own_layout, cache=tmp_path / "cache", **settings),
        )
    assert len(direct) == len(cached)
    for index in range(0, len(direct), 11):
        assert_same(direct[index], cached[index])


def test_nothing_left_is_an_error(own_layout: Layout) -> None:
    shutil.rmtree(own_layout.root / "video_frames")
    with (
        pytest.warns(MissingDataWarning),
        pytest.raises(StavisError, match="no sample in split 1's train lists"),
    ):
        dataset(own_layout, allow_missing=True)


def test_maps_and_audio_may_be_absent_when_not_requested(tmp_path: Path) -> None:
    own = write_data_set(tmp_path, ["Own"], num_frames=(20,), annotations=False, audio=False)
    with pytest.raises(StavisError, match="annotations/Own: folder not found"):
        dataset(own, subset="test")
    with pytest.raises(StavisError, match="video_audio/Own: folder not found"):
        dataset(own, subset="test", annotations=False)
    for folder in (None, tmp_path / "cache"):
        data = dataset(own, subset="test", annotations=False, audio=False, cache=folder)
        batch = next(iter(DataLoader(data, batch_size=2)))
        assert batch.clip.shape == (2, 3, 16, 112, 112)
        assert batch.audio.shape == (2, 1, 1, 0)
        assert batch.density_map.shape == batch.fixation_map.shape == (2, 1, 0, 0)


def test_construction_does_not_stat_single_frames(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Counter()

    def count(name: str) -> None:
        function = getattr(os, name)

        def counted(*args, **kwargs):
            looks[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(os, name, counted)

    for name in ("stat", "listdir", "scandir"):
        count(name)
    data = dataset(layout)
    monkeypatch.undo()
    num_frames = sum(entry.num_frames for _, entry in data.videos)
    num_videos = len(data.videos)
    assert num_frames > 30 * num_videos
    assert 0 < looks.total() < 8 * num_videos + 20


def test_a_video_of_one_frame_is_refused(tmp_path: Path) -> None:
    own = write_data_set(tmp_path, ["Own"], num_frames=(1, 20))
    with pytest.raises(StavisError, match="gives train_0 1 frame; a clip needs 2"):
        dataset(own)


def test_a_broken_file_is_named(own_layout: Layout) -> None:
    data = dataset(own_layout, databases=["DIEM"], mode="test")
    broken = own_layout.frame("DIEM", "train_0", 3)
    whole = broken.read_bytes()
    broken.unlink()
    broken.write_bytes(b"\xff\xd8 not a picture")
    with pytest.raises(StavisError, match=r"img_00004\.jpg: not a readable picture"):
        data[0]
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StavisError, match=r"img_00004\.jpg: not a readable picture .*truncated"):
        data[0]
    broken = own_layout.fixation_map("DIEM", "train_1", 8)
    broken.unlink()
    broken.write_bytes(b"MATLAB 5.0")
    with pytest.raises(StavisError, match=r"fixMap_00009\.mat"):
        data[23]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subset": "validation"}, "subset is 'validation'; allowed: train, test"),
        ({"mode": "eval"}, "mode is 'eval'; allowed: train, validation, test"),
        ({"quirks": "published"}, "quirks is 'published'; allowed: fixed, reference"),
        ({"databases": ["DIEM", "UCF"]}, "no fold list of database 'UCF' there; allowed: AVAD, DIEM"),
        ({"split": 4}, r"AVAD_list_train_4_fps\.txt: fold list not found"),
        ({"seed": -1}, "seed is -1"),
        ({"flip_probability": 1.5}, r"flip_probability is 1\.5"),
    ],
)
def test_settings_outside_what_is_allowed_are_refused(layout: Layout, settings: dict, message: str) -> None:
    with pytest.raises((ValueError, StavisError), match=message):
        dataset(layout, **settings)
    with pytest.raises(ValueError, match="epoch is -1"):
        dataset(layout).set_epoch(-1)


def test_a_folder_without_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StavisError, match="no folder 'fold_lists'"):
        SaliencyDataset(tmp_path)
