"""`stavis.Database`, and data folders whose names have another Unicode form or that have stray files."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stavis
from stavis.datasets.check import check_data
from stavis.datasets.layout import FoldEntry, Layout
from stavis.gaze.observers import read_observers
from support.datasets import SAMPLE_RATE, SIZE, write_data_set, write_lists, write_video


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return write_data_set(tmp_path_factory.mktemp("data"), num_frames=(12, 20))


def test_a_database_is_a_sequence_of_its_videos(layout: Layout) -> None:
    database = stavis.Database(str(layout.root), "AVAD")
    assert database.names == ["test_0", "test_1", "train_0", "train_1"]
    assert [video.name for video in database] == database.names
    assert database[1] is database["test_1"]
    assert [video.name for video in database[2:]] == ["train_0", "train_1"]
    assert repr(database) == f"<database AVAD in {layout.root}: 4 videos>"
    assert repr(database[1]) == "<video test_1: 20 frames at 25 per second, 0.8 s>"
    assert database["train_0"].lists == ((1, "train"), (2, "train"), (3, "train"))
    assert stavis.Database(layout.root, "DIEM")["test_0"].lists == ((None, "test"),)


def test_a_database_knows_its_videos_by_name(layout: Layout) -> None:
    database = stavis.Database(layout.root, "AVAD")
    assert "test_0" in database
    assert database[0] in database
    assert "test_9" not in database
    assert 0 not in database


def test_paths_may_be_texts_and_a_single_database_its_name(layout: Layout) -> None:
    report = check_data(str(layout.root), databases="AVAD", jobs=1, quiet=True)
    assert report.data_folder == layout.root
    assert {summary.database for summary in report.lists} == {"AVAD"}
    dataset = stavis.SaliencyDataset(str(layout.root), databases="AVAD", subset="test", split=1, cache=None)
    assert {database for database, _ in dataset.videos} == {"AVAD"}
    with pytest.raises(stavis.StavisError, match="no fold list of database 'AVA' there"):
        check_data(str(layout.root), databases="AVA")


def test_frames_maps_and_sound_are_those_of_the_files(layout: Layout) -> None:
    video = stavis.Database(layout.root, "AVAD")["train_1"]
    frames = list(video.frames())
    assert [frame.shape for frame in frames] == [(*SIZE, 3)] * 20
    with Image.open(layout.frame("AVAD", "train_1", 7)) as image:
        assert np.array_equal(frames[7], np.asarray(image.convert("RGB")))
    for own, wanted in zip(video.frames(5, -3, 4), frames[5:-3:4], strict=True):
        assert np.array_equal(own, wanted)
    assert np.array_equal(video.frame(-1), frames[-1])
    assert video.density(3).shape == video.fixations(3).shape == SIZE
    assert video.density(3).max() > 200
    assert 1 <= (video.fixations(3) > 0).sum() <= 4
    # As documented, both go into the metrics as they are.
    assert stavis.score_frame(video.density(3).astype(float), video.density(3), video.fixations(3)).nss > 1
    samples, rate = video.audio()
    assert (rate, len(samples)) == (SAMPLE_RATE, 20 * SAMPLE_RATE // 25)
    assert video.observers is None


def test_observers_are_those_that_prepare_wrote(tmp_path: Path) -> None:
    layout = write_data_set(tmp_path, ("Own",), num_frames=(4,))
    path = layout.annotations_folder("Own", "test_0") / "observers.npz"
    numbers = {"observer": [0, 1], "frame": [0, 3], "x": [1.0, 2.0], "y": [3.0, 4.0]}
    arrays = {name: np.array(values) for name, values in numbers.items()}
    np.savez(path, names=np.array(["a", "b"]), known=np.array(True), **arrays)
    observers = stavis.Database(tmp_path, "Own")["test_0"].observers
    assert observers is not None
    assert observers.names == read_observers(path).names == ("a", "b")
    assert observers.frame.tolist() == [0, 3]


def test_missing_databases_videos_and_frames_are_named(layout: Layout) -> None:
    with pytest.raises(stavis.StavisError, match=r"no fold list of database 'SumMe'.*allowed: AVAD, DIEM"):
        stavis.Database(layout.root, "SumMe")
    database = stavis.Database(layout.root, "AVAD")
    with pytest.raises(stavis.StavisError, match="no video 'x' in the fold lists of AVAD"):
        database["x"]
    for index in (20, -21):
        with pytest.raises(IndexError, match="of train_1, which has 20"):
            database["train_1"].frame(index)
    with pytest.raises(IndexError):
        database[4]


# A name as Linux writes it, and as macOS does: precomposed characters, or accents as characters of their own.
COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "señora_Ångström") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(("on_disk", "in_list"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_fold_list_names_folders_in_either_unicode_form(tmp_path: Path, on_disk: str, in_list: str) -> None:
    layout = Layout(tmp_path)
    write_video(layout, "Own", FoldEntry(on_disk, 20, 25.0))
    write_lists(layout, "Own", {(s, None): [FoldEntry(in_list, 20, 25.0)] for s in ("train", "test")})
    report = check_data(tmp_path, deep=True, quiet=True)
    assert report.complete
    assert [problem.kind for problem in report.problems] == ["train_and_test"]
    samples = stavis.SaliencyDataset(str(tmp_path), cache=str(tmp_path / "cache"), quiet=True)
    assert samples[0].density_map.max() > 200
    assert samples[0].audio.abs().max() > 0
    [video] = stavis.Database(tmp_path, "Own")
    assert video.frame(0).shape == (*SIZE, 3)


@pytest.mark.parametrize("asked", [COMPOSED, DECOMPOSED])
def test_a_database_is_found_in_either_unicode_form(tmp_path: Path, asked: str) -> None:
    layout = Layout(tmp_path)
    entry = FoldEntry("v", 4, 25.0)
    write_video(layout, COMPOSED, entry)
    write_lists(layout, DECOMPOSED, {(s, None): [entry] for s in ("train", "test")})
    [video] = stavis.Database(tmp_path, asked)
    assert video.density(0).shape == SIZE
    assert check_data(tmp_path, databases=[asked], quiet=True).complete


def test_dot_files_and_stray_files_are_ignored(tmp_path: Path) -> None:
    layout = write_data_set(tmp_path, ("AVAD",), num_frames=(12,))
    cache = tmp_path / "cache"
    before = stavis.SaliencyDataset(tmp_path, cache=cache, quiet=True)[0]
    made = sorted(path.name for path in cache.rglob("*.npy"))
    frames = layout.frames_folder("AVAD", "train_0")
    maps = layout.density_map("AVAD", "train_0", 0).parent
    # Resource forks of macOS for every kind of file, thumbnails of Windows, notes, a checksum list.
    for folder in (tmp_path / "fold_lists", frames, maps, maps.parent, layout.wave("AVAD", "train_0").parent):
        for path in list(folder.iterdir()):
            if path.is_file():
                (folder / f"._{path.name}").write_bytes(b"\0\5\26\7")
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt", "SHA256SUMS"):
            (folder / name).write_bytes(b"stray")
    (tmp_path / "video_frames" / "AVAD" / ".Trash").mkdir()
    report = check_data(tmp_path, deep=True, quiet=True)
    assert (report.complete, report.problems) == (True, [])
    assert stavis.Database(tmp_path, "AVAD").names == ["test_0", "train_0"]
    after = stavis.SaliencyDataset(tmp_path, cache=cache, quiet=True)[0]
    assert (after.clip == before.clip).all()
    assert sorted(path.name for path in cache.rglob("*.npy")) == made
