"""`stavis test`: whole runs over small data sets."""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import stavis
from stavis import media
from stavis.clips.preprocess import Preprocessing
from stavis.datasets.fold_lists import read_fold_list
from stavis.datasets.layout import FoldEntry, Layout
from stavis.errors import StavisError
from stavis.prediction import testrun
from stavis.prediction.testrun import RunSettings, _write_wrong_sound, find_test_videos, run_test
from stavis.weights import save_model
from support.datasets import write_data_set, write_lists

LENGTHS = (20, 12)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("data"), num_frames=LENGTHS, annotations=False).root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network a split, tiny and each with other weights."""
    folder = tmp_path_factory.mktemp("weights")
    config = stavis.ModelConfig(depth=10, preprocessing=Preprocessing(input_size=(64, 64)))
    for split in (1, 2, 3):
        torch.manual_seed(split)
        save_model(stavis.STAViS(config), folder / f"split{split}")
    return folder


class Result(NamedTuple):
    returncode: int
    stderr: str


def run(*arguments: object, **environment: str) -> Result:
    """Runs `stavis test` in this process, as starting one that imports torch costs seconds."""
    from stavis.__main__ import main

    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(errors):
        patch.setattr(sys, "argv", ["stavis", "test", *map(str, arguments)])
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            main()
            status = 0
        except SystemExit as exit_:
            status = int(exit_.code or 0)
    return Result(status, errors.getvalue())


def maps_of(output: Path) -> dict[str, bytes]:
    return {str(p.relative_to(output)): p.read_bytes() for p in sorted(output.rglob("*.jpg"))}


@pytest.fixture(scope="module")
def whole(data: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "run"
    result = run("--data", data, "--weights", weights / "split{split}", "--output", output)
    assert result.returncode == 0, result.stderr
    assert "12 of 12 videos" in result.stderr
    return output


def test_a_whole_run_is_in_the_published_layout(whole: Path) -> None:
    folders = sorted(str(p.relative_to(whole)) for p in whole.glob("split*/*/*"))
    videos = [f"test_{i}" for i in range(len(LENGTHS))]
    assert folders == [
        f"split{k}_results/{db}/{v}" for k in (1, 2, 3) for db in ("avad", "diem") for v in videos
    ]
    for number, length in enumerate(LENGTHS):
        names = sorted(p.name for p in (whole / "split2_results" / "diem" / f"test_{number}").iterdir())
        assert names == [f"pred_sal_{i:06d}.jpg" for i in range(9, length + 1)]
    record = json.loads((whole / "testrun.json").read_text())
    assert sorted(record["weights"]) == ["1", "2", "3"]
    one, two = (whole / f"split{k}_results/diem/test_0/pred_sal_000012.jpg" for k in (1, 2))
    assert one.read_bytes() != two.read_bytes(), "each split has its own weights"


def test_a_stride_computes_the_same_maps_but_fewer(
    whole: Path, data: Path, weights: Path, tmp_path: Path
) -> None:
    options = ("--data", data, "--weights", weights / "split{split}", "--output", tmp_path, "--split", 2)
    assert run(*options, "--stride", 5).returncode == 0
    strided, every = maps_of(tmp_path), maps_of(whole)
    for number, frames in enumerate([(9, 14, 19, 20), (9, 12)]):
        names = [f"split2_results/diem/test_{number}/pred_sal_{i:06d}.jpg" for i in frames]
        assert [name for name in strided if f"diem/test_{number}" in name] == names
        for name in names:
            ours, theirs = (np.asarray(Image.open(root / name)).astype(int) for root in (tmp_path, whole))
            assert np.abs(ours - theirs).max() <= 2, "batches of other windows differ by rounding only"
    assert len(strided) < len(every)
    refused = run(*options)
    assert refused.returncode == 1
    assert (
        "holds maps of another settings (stride was 1, now 5)" in refused.stderr
        or "stride was 5, now 1" in refused.stderr
    )


def test_two_processes_share_the_videos_and_a_third_run_has_nothing_to_do(
    whole: Path, data: Path, weights: Path, tmp_path: Path
) -> None:
    options = (
        "--data",
        data,
        "--weights",
        weights / "split{split}",
        "--output",
        tmp_path / "run",
        "--split",
        1,
    )
    done = []
    for rank in ("0", "1"):
        result = run(*options, RANK=rank, WORLD_SIZE="2", LOCAL_RANK=rank)
        assert result.returncode == 0, result.stderr
        done.append(int(result.stderr.split(" of 4 videos")[0].split()[-1]))
    assert done == [2, 2]
    expected = {name: content for name, content in maps_of(whole).items() if name.startswith("split1")}
    assert maps_of(tmp_path / "run") == expected
    again = run(*options)
    assert again.returncode == 0
    assert "0 of 4 videos" in again.stderr


def test_a_run_goes_on_where_it_stopped(whole: Path, data: Path, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    options = (
        "--data",
        data,
        "--weights",
        weights / "split1",
        "--output",
        output,
        "--split",
        1,
        "--databases",
        "DIEM",
    )
    assert run(*options).returncode == 0
    kept = output / "split1_results" / "diem" / "test_0" / "pred_sal_000009.jpg"
    stamp = kept.stat().st_mtime_ns
    lost = output / "split1_results" / "diem" / "test_1"
    lost.rename(lost.with_name(".test_1.partial"))  # as a kill leaves it
    assert run(*options).returncode == 0
    expected = {n: c for n, c in maps_of(whole).items() if n.startswith("split1_results/diem")}
    assert maps_of(output) == expected
    assert kept.stat().st_mtime_ns == stamp
    assert not lost.with_name(".test_1.partial").exists()


def record_of(output: Path) -> dict[str, str]:
    record = json.loads((output / "testrun.json").read_text())
    return {split: weights["sha256"] for split, weights in record["weights"].items()}


def test_maps_that_are_overwritten_in_part_keep_their_record(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps of two networks are never recorded as one network's."""
    output = tmp_path / "run"
    options = ("--data", data, "--output", output, "--databases", "DIEM", "--stride", 5)
    assert run(*options, "--weights", weights / "split1").returncode == 0
    second = ("--weights", weights / "split2")
    assert run(*options, *second, "--split", 1, "--overwrite").returncode == 0
    before = record_of(output)
    assert before["1"] != before["2"] == before["3"]
    refused = run(*options, *second)
    assert refused.returncode == 1
    assert "holds maps of another weights" in refused.stderr
    assert record_of(output) == before
    # Of a split, too, a part is not replaced by another network's maps.
    other = ("--data", data, "--output", output, "--split", 2, "--databases", "AVAD", *second, "--overwrite")
    refused = run(*other, "--stride", 5)
    assert refused.returncode == 1
    assert "would not replace, such as split2_results/diem/test_0" in refused.stderr
    # What an interrupted run did not write is gone, and does not pass for its own.
    written = []

    def stop_at_second(*arguments: object) -> None:
        written.append(arguments)
        if len(written) == 2:
            raise StavisError("interrupted")
        predict(*arguments)

    predict = testrun._predict_video
    monkeypatch.setattr(testrun, "_predict_video", stop_at_second)
    assert run(*options, *second, "--overwrite").returncode == 1
    assert set(record_of(output).values()) == {before["1"]}
    assert {Path(name).parts[:3] for name in maps_of(output)} == {("split1_results", "diem", "test_0")}


def test_only_maps_are_replaced(data: Path, weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "split1_results" / "diem" / "test_0"
    folder.mkdir(parents=True)
    (folder / "notes.txt").touch()
    options = ("--split", 1, "--databases", "DIEM", "--overwrite", "--stride", 9)
    command = ("--data", data, "--weights", weights / "split1", "--output", tmp_path, *options)
    refused = run(*command)
    assert refused.returncode == 1
    assert "test_0: not empty: contains notes.txt" in refused.stderr
    (folder / "notes.txt").rename(folder / "pred_sal_999999.jpg")
    assert run(*command).returncode == 0
    assert "pred_sal_999999.jpg" not in {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("sound", ["silent", "shuffled", "time-shifted"])
def test_wrong_sound_is_another_run(
    data: Path, weights: Path, whole: Path, tmp_path: Path, sound: str
) -> None:
    options = (
        "--data",
        data,
        "--weights",
        weights / "split1",
        "--split",
        1,
        "--databases",
        "DIEM",
        "--audio",
        sound,
    )
    refused = run(*options, "--output", whole)
    assert refused.returncode == 1
    assert f"holds maps of another settings (audio was normal, now {sound})" in refused.stderr
    assert run(*options, "--output", tmp_path / "run").returncode == 0
    assert len(maps_of(tmp_path / "run")) == sum(LENGTHS) - 8 * len(LENGTHS)


def test_wrong_sounds_are_what_they_say(data: Path, tmp_path: Path) -> None:
    layout = Layout(data)
    videos = find_test_videos(data, 1, ["DIEM"])
    assert all(video.other != video.entry for video in videos), "nobody keeps his own sound"
    video = videos[0]
    num = round(LENGTHS[0] / 25 * 16000)
    own, _ = media.read_wave(layout.wave("DIEM", "test_0"))
    other, _ = media.read_wave(layout.wave("DIEM", "test_1"))
    _write_wrong_sound(layout, video, "shuffled", tmp_path / "a.wav")
    np.testing.assert_array_equal(media.read_wave(tmp_path / "a.wav")[0], np.tile(other, 2)[:num])
    _write_wrong_sound(layout, video, "time-shifted", tmp_path / "b.wav")
    np.testing.assert_array_equal(media.read_wave(tmp_path / "b.wav")[0], np.roll(own, -(num // 2)))


def test_reference_quirks(data: Path, weights: Path, tmp_path: Path) -> None:
    """The last video is silent, and maps are named past the last frame."""
    from stavis.weights.names import LoadedNetwork

    model = stavis.load_model(weights / "split1")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.kaiming_normal_(parameter)
        model.fuseav.bias.zero_()
    network = LoadedNetwork(model, "", "")
    videos = find_test_videos(data, 1, ["DIEM"])
    for name, settings in (
        ("reference", RunSettings(quirks="reference")),
        ("silent", RunSettings(quirks="reference", sound="silent")),
    ):
        run_test(data, videos, tmp_path / name, lambda _: network, settings, quiet=True)
    folder = Path("split1_results/diem")
    names = sorted(p.name for p in (tmp_path / "reference" / folder / "test_0").iterdir())
    assert names == [f"pred_sal_{i:06d}.jpg" for i in range(9, LENGTHS[0] + 8)]
    maps = {n: maps_of(tmp_path / n / folder / "test_1") for n in ("reference", "silent")}
    assert maps["reference"] == maps["silent"], "the last video of the list was run without its sound"
    first = [
        np.asarray(Image.open(tmp_path / n / folder / "test_0" / names[3])) for n in ("reference", "silent")
    ]
    assert (first[0] != first[1]).any(), "the first was not"


def test_surplus_frames_are_left_alone_and_missing_ones_are_named(
    data: Path, weights: Path, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "data")
    for part in ("video_frames", "video_audio"):
        (layout.root / part).parent.mkdir(exist_ok=True)
        (layout.root / part).symlink_to(data / part)
    write_lists(layout, "DIEM", {("test", None): [FoldEntry("test_0", 15, 25.0)]})
    options = ("--data", layout.root, "--weights", weights / "split1", "--split", 1)
    assert run(*options, "--output", tmp_path / "a").returncode == 0
    assert len(maps_of(tmp_path / "a")) == 15 - 8
    write_lists(layout, "DIEM", {("test", None): [FoldEntry("test_0", 22, 25.0)]})
    result = run(*options, "--output", tmp_path / "b")
    assert result.returncode == 1
    assert "21-22" in result.stderr
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--databases", "MIT"), "'MIT'"),
        (("--weights", "absent{split}"), "absent1"),
        (("--data", "nowhere"), "fold_lists"),
    ],
)
def test_bad_input_is_one_clear_line(
    data: Path, weights: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    defaults = {"--data": data, "--weights": weights / "split1", "--output": tmp_path / "run"}
    defaults |= dict(zip(options[::2], options[1::2], strict=True))
    result = run(*(part for pair in defaults.items() for part in pair))
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_lists_without_a_split_are_passed_over(tmp_path: Path) -> None:
    layout = write_data_set(tmp_path, ["Own"], num_frames=(9,), annotations=False)
    layout.fold_list("Own", "test", 3).unlink()
    assert {v.split for v in find_test_videos(tmp_path, None, None)} == {1, 2}
    layout.fold_list("Own", "test", 1).rename(
        layout.fold_list("Own", "test", 5)
    )  # as of `stavis prepare --folds 5`
    assert {v.split for v in find_test_videos(tmp_path, None, None)} == {2, 5}
    layout.fold_list("Own", "test", 5).rename(layout.fold_list("Own", "test", 1))
    assert read_fold_list(layout.fold_list("Own", "test", 1))
