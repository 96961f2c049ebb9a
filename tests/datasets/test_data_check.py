"""What a check of a data folder finds: each kind of damage done on purpose, and nothing where nothing is wrong."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from typer.testing import CliRunner

from stavis.cli import app
from stavis.datasets.check import DataReport, check_data
from stavis.datasets.layout import Layout
from stavis.errors import StavisError
from support.datasets import write_data_set


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Layout:
    return write_data_set(tmp_path_factory.mktemp("data"), ["DIEM", "AVAD", "Own"], num_frames=(9, 4))


@pytest.fixture
def layout(whole: Layout, tmp_path: Path) -> Layout:
    """A copy to be damaged. Its files are links: to be removed or replaced, not written to."""
    copy = Layout(tmp_path / "copy")
    shutil.copytree(whole.root, copy.root, copy_function=os.link)
    shutil.rmtree(copy.root / "fold_lists")
    shutil.copytree(whole.root / "fold_lists", copy.root / "fold_lists")
    return copy


def check(layout: Layout, **settings) -> DataReport:
    return check_data(layout.root, jobs=1, quiet=True, **settings)


def replace(path: Path, contents: bytes) -> None:
    path.unlink()
    path.write_bytes(contents)


def found(report: DataReport) -> set[tuple[str, str, str | None]]:
    return {(problem.kind, problem.database, problem.video) for problem in report.problems}


VIDEO = ("AVAD", "train_0")


@pytest.mark.parametrize("deep", [False, True])
def test_nothing_is_found_where_nothing_is_wrong(whole: Layout, deep: bool) -> None:
    report = check(whole, deep=deep)
    assert report.problems == []
    assert report.complete
    expected = [
        (db, s, subset) for db in ("AVAD", "DIEM", "Own") for s in (1, 2, 3) for subset in ("train", "test")
    ]
    expected = [
        (db, None if db == "DIEM" else s, subset) for db, s, subset in expected if db != "DIEM" or s == 1
    ]
    assert [(row.database, row.split, row.subset) for row in report.lists] == expected
    for row in report.lists:
        assert (row.num_videos, row.num_waves) == (2, 2)
        assert row.num_listed_frames == row.num_frames == row.num_density_maps == row.num_fixation_maps == 13


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("path", "message", "row"),
    [
        ("video_frames/AVAD/train_0/img_00003.jpg", r"1 of 9 frames missing \(number 3\)", (2, 12, 13, 13)),
        ("annotations/AVAD/train_0/maps/eyeMap_00009.jpg", r"1 of 9 density maps missing", (2, 13, 12, 13)),
        ("annotations/AVAD/train_0/fixMap_00001.mat", r"1 of 9 fixation maps missing", (2, 13, 13, 12)),
        ("annotations/AVAD/train_0/maps", r"none of 9 density maps found", (2, 13, 4, 13)),
        ("video_frames/AVAD/train_0", r"none of 9 frames found", (2, 4, 13, 13)),
        ("video_audio/AVAD/train_0/train_0.wav", r"train_0\.wav: WAV file not found", (1, 13, 13, 13)),
    ],
)
def test_a_missing_part_is_an_error(layout: Layout, path: str, message: str, row, deep: bool) -> None:
    target = layout.root / path
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    report = check(layout, deep=deep)
    assert not report.complete
    (problem,) = report.problems  # once, though three lists name the video
    assert (problem.kind, problem.database, problem.video) == ("missing", *VIDEO)
    assert re.search(message, problem.message)
    for summary in report.lists:
        counts = (summary.num_waves, summary.num_frames, summary.num_density_maps, summary.num_fixation_maps)
        assert counts == (row if (summary.database, summary.subset) == ("AVAD", "train") else (2, 13, 13, 13))
    assert check(layout, databases=["DIEM", "Own"]).complete


def test_a_whole_database_that_is_missing_is_one_problem_a_part(layout: Layout) -> None:
    for part in ("video_frames", "video_audio", "annotations"):
        shutil.rmtree(layout.root / part / "AVAD")
    report = check(layout)
    assert [problem.message.rpartition("/")[2] for problem in report.problems] == [
        "AVAD: folder not found; the lists of AVAD name 4 videos"
    ] * 3
    assert len(check(layout, annotations=False, audio=False).problems) == 1


def test_missing_and_unreadable_lists(layout: Layout) -> None:
    layout.fold_list("AVAD", "test", 2).unlink()
    layout.fold_list("Own", "test", 2).unlink()
    layout.fold_list("DIEM", "train", 1).write_text("broken line here now\n")
    report = check(layout)
    assert ("missing_list", "AVAD", None) in found(report)
    assert ("missing_list", "Own", None) in found(report)
    assert ("unreadable_list", "DIEM", None) in found(report)
    assert check(layout, databases=["AVAD"], split=1).complete
    assert not check(layout, databases=["AVAD"], split=2).complete
    for subset in ("train", "test"):  # a database of one's own need not have three splits
        layout.fold_list("Own", subset, 3).unlink()
    layout.fold_list("Own", "train", 2).unlink()
    assert check(layout, databases=["Own"]).complete
    layout.fold_list("AVAD", "train", 3).unlink()  # of the six, all are expected
    assert {problem.message.rpartition("/")[2] for problem in check(layout, databases=["AVAD"]).problems} == {
        "AVAD_list_test_2_fps.txt: fold list not found",
        "AVAD_list_train_3_fps.txt: fold list not found",
    }


def test_oddities_of_lists_are_remarks(layout: Layout) -> None:
    train = layout.fold_list("AVAD", "train", 1)
    train.write_text(train.read_text() + "test_0 9 25.0\ntrain_1 4 25.0\n")
    other = layout.fold_list("AVAD", "train", 2)
    other.write_text(other.read_text().replace("train_0 9 25.0", "train_0 8 24.0"))
    (layout.root / "video_frames/AVAD/stray").mkdir()
    report = check(layout)
    assert report.complete
    assert found(report) == {
        ("train_and_test", "AVAD", "test_0"),
        ("duplicate", "AVAD", "train_1"),
        ("listed_differently", "AVAD", "train_0"),
        ("surplus", "AVAD", "train_0"),
        ("unlisted", "AVAD", "stray"),
    }
    messages = "\n".join(problem.message for problem in report.problems)
    assert "test_0 is in the train and in the test list of split 1" in messages
    assert "has 8 frames at 24 per second; in AVAD_list_train_1_fps.txt 9 at 25" in messages
    assert "the list names 8 frames, there are 1 more" in messages
    assert "train_and_test" not in {problem.kind for problem in check(layout, split=2).problems}


def test_a_video_in_two_splits_is_fine(layout: Layout) -> None:
    """In the train list of one split and the test list of another: that is what splits are."""
    train, test = layout.fold_list("AVAD", "train", 2), layout.fold_list("AVAD", "test", 2)
    texts = train.read_text(), test.read_text()
    train.write_text(texts[1])
    test.write_text(texts[0])
    assert check(layout).problems == []


def test_a_deep_check_opens_every_file(layout: Layout) -> None:
    whole_jpeg = layout.frame(*VIDEO, 0).read_bytes()
    replace(layout.frame(*VIDEO, 2), whole_jpeg[:-400])
    replace(layout.density_map(*VIDEO, 3), b"")
    replace(layout.fixation_map(*VIDEO, 4), b"MATLAB 5.0 MAT-file, not")
    layout.fixation_map(*VIDEO, 5).unlink()
    scipy.io.savemat(layout.fixation_map(*VIDEO, 5), {"other": np.zeros((3, 3))})
    replace(layout.wave(*VIDEO), b"RIFF....")
    assert check(layout).complete
    report = check(layout, deep=True)
    assert found(report) == {("unreadable", *VIDEO)}
    messages = [problem.message for problem in report.problems]
    for name in ("img_00003.jpg", "eyeMap_00004.jpg", "fixMap_00005.mat", "fixMap_00006.mat", "train_0.wav"):
        assert sum(name in message for message in messages) == 1, name
    assert len(messages) == 5
    assert not report.complete
    parallel = check_data(layout.root, deep=True, jobs=2, quiet=True)
    assert parallel.problems == report.problems


def test_a_deep_check_compares_what_it_reads(layout: Layout) -> None:
    layout.density_map(*VIDEO, 1).unlink()
    Image.fromarray(np.zeros((50, 60), np.uint8)).save(layout.density_map(*VIDEO, 1))
    for frame in (0, 1, 5):
        layout.fixation_map("DIEM", "test_0", frame).unlink()
        scipy.io.savemat(
            layout.fixation_map("DIEM", "test_0", frame), {"eyeMap": np.zeros((72, 128), np.uint8)}
        )
    long = layout.wave("Own", "test_1")
    long.unlink()
    shutil.copy(layout.wave("Own", "test_0"), long)
    lists = [layout.fold_list("Own", "train", split) for split in (1, 2, 3)]
    for path in lists:
        path.write_text(path.read_text().replace("train_0 9 25.0", "train_0 9 5.0"))
    report = check(layout, deep=True)
    assert report.complete
    assert found(report) == {
        ("sizes", *VIDEO),
        ("empty", "DIEM", "test_0"),
        ("wave_length", "Own", "train_0"),
    }
    messages = "\n".join(problem.message for problem in report.problems)
    assert "eyeMap_00001.jpg 128x72, eyeMap_00002.jpg 60x50" in messages
    assert "3 of 9 fixation maps have no fixation (number 1-2, 6)" in messages
    assert "0.4 s of sound, but 1.8 s of pictures" in messages


# --- The command ------------------------------------------------------------------------------------------------------


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in ("data", "check", *arguments)])


def test_the_command_prints_a_table_and_a_verdict(layout: Layout) -> None:
    result = run(layout.root)
    assert result.exit_code == 0
    assert "nothing is missing" in result.stdout
    assert len([line for line in result.stdout.splitlines() if " train " in line or " test " in line]) == 14
    layout.frame(*VIDEO, 2).unlink()
    result = run(layout.root, "--databases", "AVAD", "--split", 1)
    assert result.exit_code == 1
    assert "12 of 13" in result.stdout
    assert "error: " in result.stdout
    assert "not complete" in result.stdout
    assert run(layout.root, "--databases", "DIEM,Own").exit_code == 0
    assert run(layout.root, "--databases", "DIEM", "--databases", "AVAD").exit_code == 1


def test_the_command_prints_json(layout: Layout) -> None:
    layout.wave(*VIDEO).unlink()
    (layout.root / "video_frames/DIEM/stray").mkdir()
    result = run(layout.root, "--json", "--deep")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["complete"] is False
    assert report["data_folder"] == str(layout.root)
    assert len(report["lists"]) == 14
    assert report["lists"][0] == {
        "database": "AVAD",
        "split": 1,
        "subset": "train",
        "num_videos": 2,
        "num_waves": 1,
        "num_listed_frames": 13,
        "num_frames": 13,
        "num_density_maps": 13,
        "num_fixation_maps": 13,
    }
    assert [(p["severity"], p["kind"], p["video"]) for p in report["problems"]] == [
        ("error", "missing", "train_0"),
        ("remark", "unlisted", "stray"),
    ]


def test_long_lists_of_problems_are_cut(layout: Layout) -> None:
    for number in range(30):
        (layout.root / f"video_frames/DIEM/stray_{number}").mkdir()
    result = run(layout.root)
    assert result.exit_code == 0
    assert result.stdout.count("remark: ") == 20
    assert "and 10 more of kind 'unlisted'; --json lists all" in result.stdout
    assert len(json.loads(run(layout.root, "--json").stdout)["problems"]) == 30


def test_a_sound_or_maps_can_be_left_out(layout: Layout) -> None:
    shutil.rmtree(layout.root / "video_audio")
    assert run(layout.root).exit_code == 1
    assert run(layout.root, "--no-audio").exit_code == 0
    shutil.rmtree(layout.root / "annotations")
    assert run(layout.root, "--no-audio").exit_code == 1
    assert run(layout.root, "--no-audio", "--no-maps").exit_code == 0


def test_wrong_folders_and_names_are_errors(layout: Layout, tmp_path: Path) -> None:
    for arguments, message in (
        ((tmp_path,), "no folder 'fold_lists'"),
        (
            (layout.root, "--databases", "UCF"),
            "no fold list of database 'UCF' there; allowed: AVAD, DIEM, Own",
        ),
    ):
        result = run(*arguments)
        assert isinstance(result.exception, StavisError)
        assert message in str(result.exception)


def test_the_recorded_data_set_is_complete(goldens: Path) -> None:
    lists = sorted(goldens.glob("dataset/*/fold_lists"))
    assert lists
    for path in lists:
        report = check_data(path.parent, deep=True, quiet=True)
        assert report.complete
        assert all(row.num_frames == row.num_listed_frames > 0 for row in report.lists)
