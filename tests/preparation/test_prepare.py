"""`stavis prepare`: videos and gaze in the published layout, interruptions and bad files included."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import get_args

import filelock
import numpy as np
import pytest
import scipy.io
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import stavis
from stavis.cli import app
from stavis.cli.options import name_flags
from stavis.cli.prepare import Format
from stavis.datasets.fold_lists import read_fold_list
from stavis.datasets.layout import Layout
from stavis.errors import StavisError
from stavis.gaze import FORMATS, fixation_counts, read_observers
from stavis.maps import density_from_fixations, read_density_map, read_fixation_map, read_map, to_8bit
from stavis.media import AudioReader, read_wave, write_wave
from stavis.preparation import records
from stavis.preparation.folds import FoldChoice, choose_folds, k_folds
from stavis.preparation.frames import choose_frames
from stavis.preparation.manifest import find_sources, folder_name, match_gaze
from stavis.preparation.options import PrepareOptions

WIDTH, HEIGHT = 64, 48
NUM_FRAMES = 6
RATE = 12.5  # of the image folders here


def make_images(
    folder: Path, num: int = NUM_FRAMES, *, size: tuple[int, int] = (WIDTH, HEIGHT), sound: bool = True
) -> Path:
    """An image folder whose frames differ in color, with a tone in stereo at another rate."""
    folder.mkdir(parents=True)
    for i in range(num):
        Image.new("RGB", size, (40 * i % 256, 255 - 30 * i % 256, 90)).save(folder / f"img_{i + 1:05d}.png")
    if sound:
        seconds = np.arange(round(num / RATE * 44100)) / 44100
        write_wave(folder / "sound.wav", (0.5 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32), 44100)
    return folder


def make_gif(path: Path, durations_ms: Sequence[int]) -> Path:
    """A video file of variable frame rate: frame i has the gray value 20 * i."""
    frames = [Image.new("L", (WIDTH, HEIGHT), 20 * i) for i in range(len(durations_ms))]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=list(durations_ms), loop=0)
    return path


def make_gaze(path: Path, rows: Sequence[tuple[str, float, float, float]], key: str = "frame") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["observer", key, "x", "y"])
        writer.writerows(rows)
    return path


GAZE_ROWS = [
    ("ann", 0, 10.2, 20.9),
    ("bob", 0, 10.7, 20.1),
    ("ann", 1, 63.5, 47.5),
    ("bob", 1, 70, 10),
    ("ann", 3, "nan", 10),
    ("bob", 9, 5, 5),
    ("bob", 4, 0, 0),
]


def run(*arguments: object, code: int = 0) -> str:
    """Runs the command in this process; a user error counts as status 1, with its message as output."""
    result = CliRunner().invoke(app, ["prepare", *(str(argument) for argument in arguments)])
    if isinstance(result.exception, StavisError):
        assert code == 1, result.exception
        return name_flags(str(result.exception))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def tree(root: Path) -> dict[str, bytes]:
    """Every file below `root` but the lock; of MATLAB files without the header, in which the time stands."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()[128 if path.suffix == ".mat" else 0 :]
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


# A whole video


def test_frames_sound_maps_and_lists_of_a_video_with_gaze(tmp_path: Path) -> None:
    images = make_images(tmp_path / "in" / "talk")
    gaze = make_gaze(tmp_path / "talk.csv", GAZE_ROWS)  # type: ignore[arg-type]
    output = run(
        images,
        "--gaze",
        gaze,
        "--sigma-pixels",
        4,
        "--frame-rate",
        RATE,
        "-o",
        tmp_path / "data",
        "-d",
        "mine",
    )
    layout = Layout(tmp_path / "data")

    assert len(list(layout.frames_folder("mine", "talk").iterdir())) == NUM_FRAMES
    for i in range(NUM_FRAMES):
        with Image.open(layout.frame("mine", "talk", i)) as image:
            assert image.size == (WIDTH, HEIGHT)
            assert image.layer[0][1:3] == image.layer[1][1:3]  # type: ignore[attr-defined] # 4:4:4
            color = np.asarray(image).reshape(-1, 3).astype(int)
        assert np.abs(color - [40 * i % 256, 255 - 30 * i % 256, 90]).max() <= 3

    samples, sample_rate = read_wave(layout.wave("mine", "talk"))
    assert (sample_rate, len(samples)) == (22050, round(NUM_FRAMES / RATE * 22050))
    assert np.corrcoef(samples, np.sin(2 * np.pi * 440 * np.arange(len(samples)) / 22050))[0, 1] > 0.999

    points = {0: [(10, 20), (10, 20)], 1: [(63, 47)], 4: [(0, 0)]}
    for i in range(NUM_FRAMES):
        counts = np.zeros((HEIGHT, WIDTH))
        for x, y in points.get(i, []):
            counts[y, x] += 1
        fixations = read_fixation_map(layout.fixation_map("mine", "talk", i))
        assert fixations.dtype == np.uint8
        np.testing.assert_array_equal(fixations, counts > 0)
        density = read_density_map(layout.density_map("mine", "talk", i)).astype(int)
        expected = to_8bit(density_from_fixations(counts, 4)).astype(int)
        assert np.abs(density - expected).max() <= 3
        assert density.max() >= 253 if i in points else density.max() == 0

    observers = read_observers(layout.annotations_folder("mine", "talk") / "observers.npz")
    assert observers.names == ("ann", "bob")
    assert observers.known
    assert observers.observer.tolist() == [0, 1, 0, 1]
    assert observers.frame.tolist() == [0, 0, 1, 4]
    assert observers.x.tolist() == [10.2, 10.7, 63.5, 0]

    record = json.loads((layout.annotations_folder("mine", "talk") / "prepare.json").read_text())
    assert (record["num_frames"], record["frame_rate"]) == (NUM_FRAMES, RATE)
    assert record["gaze"]["dropped"] == {"invalid": 1, "outside_picture": 1, "outside_time": 1}
    assert (record["gaze"]["num_read"], record["gaze"]["num_fixations"]) == (7, 4)
    assert record["gaze"]["num_frames_with_fixations"] == 3
    assert "7 samples read of 2 observers, dropped: 1 invalid, 1 outside picture, 1 outside time" in output

    (entry,) = read_fold_list(layout.fold_list("mine", "test", 2))
    assert (entry.video, entry.num_frames, entry.frame_rate) == ("talk", NUM_FRAMES, RATE)
    assert read_fold_list(layout.fold_list("mine", "train", 2)) == []


def test_prepared_data_pass_the_data_check(tmp_path: Path) -> None:
    for name in "abc":
        make_images(tmp_path / "in" / name)
        make_gaze(tmp_path / "gaze" / f"{name}.csv", GAZE_ROWS)  # type: ignore[arg-type]
    data = tmp_path / "data"
    videos = [tmp_path / "in" / name for name in "abc"]
    run(
        *videos,
        "--gaze",
        tmp_path / "gaze",
        "--sigma-pixels",
        4,
        "--frame-rate",
        RATE,
        "-o",
        data,
        "-d",
        "mine",
        "-q",
    )
    result = CliRunner().invoke(app, ["data", "check", str(data), "--deep"])
    assert result.exit_code == 0, result.output


def test_without_gaze_there_are_no_annotations(tmp_path: Path) -> None:
    output = run(
        make_images(tmp_path / "talk", sound=False),
        "--frame-rate",
        RATE,
        "-o",
        tmp_path / "data",
        "-d",
        "mine",
    )
    layout = Layout(tmp_path / "data")
    assert [path.name for path in layout.annotations_folder("mine", "talk").iterdir()] == ["prepare.json"]
    samples, _ = read_wave(layout.wave("mine", "talk"))
    assert len(samples) == round(NUM_FRAMES / RATE * 22050)
    assert not samples.any()
    assert "no audio" in output
    record = json.loads((layout.annotations_folder("mine", "talk") / "prepare.json").read_text())
    assert record["sound"].startswith("none")
    assert record["gaze"] is None


def test_sound_written_in_blocks_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = make_images(tmp_path / "talk", num=30)
    sizes = []

    def read(reader: AudioReader, start: int, stop: int) -> np.ndarray:
        sizes.append(stop - start)
        return original(reader, start, stop)

    original = AudioReader.read
    monkeypatch.setattr(AudioReader, "read", read)
    for block, folder in ((10**9, "whole"), (997, "blocks")):
        monkeypatch.setattr("stavis.preparation.frames.SOUND_BLOCK", block)
        run(images, "--frame-rate", RATE, "-o", tmp_path / folder, "-d", "mine")
    whole, blocks = (
        Layout(tmp_path / name).wave("mine", "talk").read_bytes() for name in ("whole", "blocks")
    )
    assert blocks == whole
    assert max(sizes[1:]) == 997


def test_raw_gaze_gives_one_fixation_per_observer_and_frame(tmp_path: Path) -> None:
    rows = [(name, i / 250, x + i % 2, 7) for name, x in (("ann", 10), ("bob", 40)) for i in range(125)]
    rows += [("ann", 0.49, 60, 40)]
    gaze = make_gaze(tmp_path / "talk.csv", rows, "time")
    images = make_images(tmp_path / "talk")
    common = [images, "--gaze", gaze, "--sigma-pixels", 3, "--frame-rate", RATE, "-d", "mine"]
    run(*common, "-o", tmp_path / "one")
    observers = read_observers(Layout(tmp_path / "one").annotations_folder("mine", "talk") / "observers.npz")
    # 250 Hz and 12.5 frames a second: 20 samples a frame, of which half lie one pixel to the right.
    assert observers.frame.tolist() == [*range(NUM_FRAMES)] * 2
    assert observers.x.tolist() == [10.5] * NUM_FRAMES + [40.5] * NUM_FRAMES
    run(*common, "-o", tmp_path / "all", "--samples", "all")
    everything = read_observers(Layout(tmp_path / "all").annotations_folder("mine", "talk") / "observers.npz")
    assert np.bincount(everything.frame).tolist() == [40] * NUM_FRAMES
    record = json.loads(
        (Layout(tmp_path / "all").annotations_folder("mine", "talk") / "prepare.json").read_text()
    )
    assert record["gaze"]["dropped"] == {"outside_time": 11}


def test_sigma_in_degrees_is_taken_to_pixels_of_the_video(tmp_path: Path) -> None:
    images = make_images(tmp_path / "talk", num=2)
    rows = [("ann", i, 640 + 5 * i, 480) for i in range(2)]
    gaze = make_gaze(tmp_path / "talk.csv", rows)
    # A screen of 40 pixels a cm: 1.5 degrees at 57.29 cm are 60 pixels of it, and 3 of the video, 20 times smaller.
    options = [
        "--sigma-degrees",
        1.5,
        "--screen-resolution",
        "1280x960",
        "--screen-size",
        "32x24",
        "--distance",
        57.29,
    ]
    run(images, "--gaze", gaze, *options, "--frame-rate", RATE, "-o", tmp_path / "data", "-d", "mine")
    folder = Layout(tmp_path / "data").annotations_folder("mine", "talk")
    record = json.loads((folder / "prepare.json").read_text())
    assert record["gaze"]["sigma_pixels"] == pytest.approx(3, rel=1e-3)
    assert read_observers(folder / "observers.npz").x.tolist() == [32, 32.25]
    assert record["gaze"]["screen"]["mode"] == "letterbox"


def test_sigma_must_be_given_once_with_all_that_it_needs(tmp_path: Path) -> None:
    common = [make_images(tmp_path / "talk"), "-o", tmp_path / "data", "-d", "mine", "--frame-rate", RATE]
    common += ["--gaze", make_gaze(tmp_path / "talk.csv", [("a", 0, 1, 1)])]
    assert "sigma for density maps is not given" in run(*common, code=1)
    assert "give one of them" in run(*common, "--sigma-pixels", 3, "--sigma-degrees", 1, code=1)
    assert "needs --screen-size" in run(*common, "--sigma-degrees", 1, "--distance", 60, code=1)
    output = run(*common, "--sigma-degrees", 1, "--distance", 60, "--screen-size", "40x30", code=1)
    assert "needs --screen-resolution" in output


def test_preview_is_a_sheet_of_frames_with_gaze(tmp_path: Path) -> None:
    gaze = make_gaze(tmp_path / "talk.csv", [("ann", i, 32, 24) for i in range(NUM_FRAMES)])
    images = make_images(tmp_path / "talk")
    common = [
        images,
        "--gaze",
        gaze,
        "--sigma-pixels",
        2,
        "--frame-rate",
        RATE,
        "-o",
        tmp_path / "data",
        "-d",
        "mine",
    ]
    run(*common)
    preview = Layout(tmp_path / "data").annotations_folder("mine", "talk") / "preview.png"
    assert not preview.exists()
    run(*common, "--preview")  # of a finished video as well
    with Image.open(preview) as image:
        assert image.size == (3 * 480, 2 * 360)
        picture = np.asarray(image).astype(int)
    # In the middle of each frame there is the observer's dot, at its corners nothing but the frame's color.
    assert np.abs(picture[180 + 4, 240 + 4] - picture[350, 470]).max() > 50


# Frame rates


@given(
    rate=st.fractions(Fraction(1), Fraction(120), max_denominator=1001),
    num=st.integers(1, 200),
    jitter=st.floats(0, 0.49),
    seed=st.integers(0, 9),
)
def test_frames_at_constant_intervals_are_all_kept(
    rate: Fraction, num: int, jitter: float, seed: int
) -> None:
    off = np.random.default_rng(seed).uniform(-jitter, jitter, num)
    off[0] = 0
    times = np.maximum.accumulate((np.arange(num) + off) / float(rate))
    chosen, shown = choose_frames(times, rate, None)
    assert (chosen, shown) == (rate, None)


def test_wrong_constant_rate_of_a_header_is_corrected() -> None:
    rate, shown = choose_frames(np.arange(300) / 24, Fraction(30), None)
    assert shown is None
    assert float(rate) == pytest.approx(24)


@given(
    st.lists(st.floats(0.005, 0.5), min_size=2, max_size=30),
    st.one_of(st.none(), st.floats(1, 60)),
    st.fractions(Fraction(1), Fraction(60), max_denominator=1001),
)
@example([0.5, 0.125, 0.5], None, Fraction(65, 2))
def test_resampled_frames_are_those_on_display(
    durations: list[float], wanted: float | None, announced: Fraction
) -> None:
    times = np.cumsum([0.0, *durations[:-1]])
    rate, shown = choose_frames(times, announced, wanted)
    if wanted is not None:
        assert float(rate) == pytest.approx(wanted, rel=1e-4)
    if shown is None:
        return
    # The last frame is on display for an interval of the video's own rate: the announced one, unless that is none.
    own_rate = rate if wanted is None else announced
    assert len(shown) == max(1, round((times[-1] + 1 / float(own_rate)) * float(rate)))
    for slot, frame in enumerate(shown):
        middle = (slot + 0.5) / float(rate)
        assert times[frame] <= middle
        assert frame == len(times) - 1 or middle < times[frame + 1]


def test_variable_frame_rate_becomes_constant_and_gaze_stays_with_its_frame(tmp_path: Path) -> None:
    video = make_gif(tmp_path / "clip.gif", [100, 100, 300, 100, 100, 100])
    gaze = make_gaze(tmp_path / "clip.csv", [("ann", i, 10 * i, 5) for i in range(6)])
    output = run(
        video, "--gaze", gaze, "--sigma-pixels", 3, "-o", tmp_path / "a", "-d", "mine", "--frame-rate", 10
    )
    layout = Layout(tmp_path / "a")
    shown = [0, 1, 2, 2, 2, 3, 4, 5]
    observers = read_observers(layout.annotations_folder("mine", "clip") / "observers.npz")
    assert "8 frames of 64x48 at 10.000 per second (from 6)" in output
    for slot, frame in enumerate(shown):
        with Image.open(layout.frame("mine", "clip", slot)) as image:
            assert abs(int(np.asarray(image.convert("L"))[0, 0]) - 20 * frame) <= 4
        assert observers.x[observers.frame == slot].tolist() == [10 * frame]
    # Fewer frames: the gaze of those that are left out goes, and is counted.
    run(video, "--gaze", gaze, "--sigma-pixels", 3, "-o", tmp_path / "b", "-d", "mine", "--frame-rate", 2.5)
    folder = Layout(tmp_path / "b").annotations_folder("mine", "clip")
    kept = read_observers(folder / "observers.npz")
    record = json.loads((folder / "prepare.json").read_text())
    assert len(kept.frame) == record["num_frames"]
    assert record["gaze"]["dropped"]["frame_left_out"] == 6 - len(set(kept.x.tolist()))


def test_gaze_by_time_follows_a_variable_frame_rate(tmp_path: Path) -> None:
    video = make_gif(tmp_path / "clip.gif", [100, 100, 300, 100, 100, 100])
    times = np.arange(0.005, 0.8, 0.01)
    gaze = make_gaze(tmp_path / "clip.csv", [("ann", t, 60 * t, 5) for t in times.tolist()], "time")
    run(video, "--gaze", gaze, "--sigma-pixels", 3, "-o", tmp_path / "data", "-d", "mine", "--frame-rate", 10)
    observers = read_observers(Layout(tmp_path / "data").annotations_folder("mine", "clip") / "observers.npz")
    assert observers.frame.tolist() == list(range(8))
    np.testing.assert_allclose(observers.x, 60 * (np.arange(8) / 10 + 0.05), atol=1e-9)


# Many videos


def test_one_bad_video_among_many_does_not_stop_the_rest(tmp_path: Path) -> None:
    for name in ("a", "c"):
        make_images(tmp_path / "in" / name)
    (tmp_path / "in" / "b.mp4").write_bytes(b"this is no video")
    videos = [tmp_path / "in" / name for name in ("a", "b.mp4", "c")]
    data = tmp_path / "data"
    output = run(*videos, "--frame-rate", RATE, "-o", data, "-d", "mine", "-j", 2, code=1)
    layout = Layout(data)
    assert "1 of 3 videos could not be prepared" in output
    assert "b.mp4" in output
    assert {
        entry.video
        for split in (1, 2, 3)
        for entry in read_fold_list(layout.fold_list("mine", "test", split))
    } == {
        "a",
        "c",
    }
    assert not (data / ".prepare" / "mine").exists()
    # Repaired, it takes the place in the folds that was kept for it.
    before = {split: read_fold_list(layout.fold_list("mine", "test", split)) for split in (1, 2, 3)}
    make_gif(tmp_path / "in" / "b.gif", [80] * 4).rename(tmp_path / "in" / "b.mp4")
    run(*videos, "--frame-rate", RATE, "-o", data, "-d", "mine")
    for split, entries in before.items():
        now = read_fold_list(layout.fold_list("mine", "test", split))
        assert [entry for entry in now if entry.video != "b"] == entries


def test_more_videos_can_be_added_and_two_processes_do_the_same_as_one(tmp_path: Path) -> None:
    videos = [make_images(tmp_path / "in" / f"v{i}", num=3 + i) for i in range(4)]
    options = ["--frame-rate", RATE, "-d", "mine", "--seed", 3]
    run(*videos, *options, "-o", tmp_path / "together", "-j", 2)
    run(*videos[:1], *options, "-o", tmp_path / "apart")
    run(*videos[1:], *options, "-o", tmp_path / "apart")
    assert tree(tmp_path / "together") == tree(tmp_path / "apart")


def test_names_with_blanks_and_names_that_collide(tmp_path: Path) -> None:
    assert folder_name(" my  talk\t1 ") == "my_talk_1"
    run(make_images(tmp_path / "in" / "my talk"), "--frame-rate", RATE, "-o", tmp_path / "data", "-d", "mine")
    layout = Layout(tmp_path / "data")
    assert [entry.video for entry in read_fold_list(layout.fold_list("mine", "test", 1))] == ["my_talk"]
    assert layout.frame("mine", "my_talk", 0).exists()
    assert layout.wave("mine", "my_talk").exists()
    other = make_images(tmp_path / "in" / "My_Talk")
    output = run(tmp_path / "in" / "my talk", other, "-o", tmp_path / "data", "-d", "mine", code=1)
    assert "would both be called" in output
    assert "My_Talk" in output


def test_manifest_names_videos_their_gaze_and_how_to_read_it(tmp_path: Path) -> None:
    make_images(tmp_path / "clips" / "one")
    make_images(tmp_path / "clips" / "two")
    make_gaze(tmp_path / "eyes" / "x.csv", [("ann", 0, 1, 2)])
    make_gaze(tmp_path / "eyes" / "y.csv", [("bob", 0, 3, 4)])
    (tmp_path / "list.csv").write_text(
        "video,name,gaze,gaze_format\nclips/one,first,eyes/x.csv;eyes/y.csv,csv\nclips/two,,,\n"
    )
    run(
        tmp_path / "list.csv",
        "--sigma-pixels",
        3,
        "--frame-rate",
        RATE,
        "-o",
        tmp_path / "data",
        "-d",
        "mine",
    )
    layout = Layout(tmp_path / "data")
    observers = read_observers(layout.annotations_folder("mine", "first") / "observers.npz")
    assert (observers.names, observers.x.tolist()) == (("ann", "bob"), [1, 3])
    assert not layout.density_map("mine", "two", 0).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\na\n", "a manifest has a column video"),
        ("video,color\na,b\n", "found: video, color"),
        ("video,gaze\none\n", "line 2: 1 cells, but the header has 2"),
        ("video\nmissing.mp4\n", "missing.mp4: no such file or folder"),
        ("video,gaze\none,missing.csv\n", "missing.csv: no such file or folder"),
        ("video,gaze_format\none,gazepoint\n", "row 1: gaze format 'gazepoint'"),
        ("video,clip\none,x\n", "row 1: clip 'x' is not a number"),
        ("video\none\none\n", "would both be called 'one'"),
        ("video,name\none,../one\n", "cannot be a video's name"),
    ],
)
def test_bad_manifests_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    make_images(tmp_path / "one")
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(StavisError, match=message.replace(".", r"\.")):
        find_sources([str(tmp_path / "list.csv")], [], PrepareOptions())


def test_gaze_finds_its_video_by_name(tmp_path: Path) -> None:
    names = [
        "diem2s1.asc_4_50_people_1280x720.txt",
        "diem2s10.asc_2_50_people_1280x720.txt",
        "P01_Trail002.txt",
    ]
    names += ["talk.csv", "ann_talk_2.csv", "talks.csv"]
    for name in names:
        (tmp_path / name).write_text("frame\tx\ty\n0\t1\t1\n")
    videos = ["50_people_1280x720", "002", "talk", "talk_2"]
    found = match_gaze(videos, [tmp_path], PrepareOptions())
    assert {video: [path.name for path in paths] for video, paths in found.items()} == {
        "50_people_1280x720": sorted(names[:2]),
        "002": ["P01_Trail002.txt"],
        "talk": ["talk.csv"],
        "talk_2": ["ann_talk_2.csv"],
    }
    with pytest.raises(StavisError, match=r"talks\.csv: no video's name in its name"):
        match_gaze(videos, [tmp_path / "talks.csv"], PrepareOptions())
    with pytest.raises(StavisError, match="no gaze is named after '003'"):
        match_gaze([*videos, "003"], [tmp_path], PrepareOptions())
    assert match_gaze(["one"], [tmp_path / "talk.csv"], PrepareOptions()) == {"one": (tmp_path / "talk.csv",)}


def test_one_table_for_all_videos(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text("video,frame,x,y\na,0,1,1\nb,0,2,2\n")
    videos = [make_images(tmp_path / "in" / name) for name in "ab"]
    common = ["--sigma-pixels", 3, "--frame-rate", RATE, "-o", tmp_path / "data", "-d", "mine"]
    run(*videos, "--gaze", tmp_path / "all.csv", *common)
    for name, x in (("a", 1), ("b", 2)):
        folder = Layout(tmp_path / "data").annotations_folder("mine", name)
        assert read_observers(folder / "observers.npz").x.tolist() == [x]


def test_manifest_and_lists_in_another_unicode_form(tmp_path: Path) -> None:
    apart, joined = (unicodedata.normalize(form, "café") for form in ("NFD", "NFC"))
    make_images(tmp_path / "in" / apart)
    make_gaze(tmp_path / "in" / f"{apart}.csv", [("ann", 0, 1, 2)])
    (tmp_path / "in" / "list.csv").write_bytes(f"video;gaze\n{joined};{joined}.csv\n".encode("utf-16"))
    (tmp_path / "folds.txt").write_text(f"{apart} 1\nother 2\n", encoding="utf-8")
    common = ["--sigma-pixels", 3, "--frame-rate", RATE, "-o", tmp_path / "data", "-d", "mine"]
    run(tmp_path / "in" / "list.csv", "--fold-list", tmp_path / "folds.txt", *common)
    layout = Layout(tmp_path / "data")
    assert [entry.video for entry in read_fold_list(layout.fold_list("mine", "test", 1))] == [joined]
    assert read_observers(layout.annotations_folder("mine", joined) / "observers.npz").x.tolist() == [1]


def test_gaze_folder_and_pattern_with_videos_and_notes_in_them(tmp_path: Path) -> None:
    videos = [make_images(tmp_path / "in" / name) for name in ("one", "two")]
    folder = tmp_path / "gaze"
    for name, x in (("one", 1), ("two", 2)):
        make_gaze(folder / f"ann_{name}.csv", [("ann", 0, x, 2)])
        (folder / f"{name}.mp4").write_bytes(b"a copy of the video")
        (folder / f"._ann_{name}.csv").write_bytes(b"\0\5")
    (folder / "notes.txt").write_text("nothing to read\n")
    common = ["--sigma-pixels", 3, "--frame-rate", RATE, "-d", "mine", "-o"]
    for gaze, output in ((folder, "a"), (folder / "*", "b")):
        run(*videos, "--gaze", gaze, *common, tmp_path / output)
        for name, x in (("one", 1), ("two", 2)):
            annotations = Layout(tmp_path / output).annotations_folder("mine", name)
            assert read_observers(annotations / "observers.npz").x.tolist() == [x]


# Doubts


def test_gaze_on_another_clock_fails_and_doubtful_gaze_is_warned_about(tmp_path: Path) -> None:
    images = make_images(tmp_path / "talk", num=25)
    common = [images, "--sigma-pixels", 3, "--frame-rate", RATE, "-d", "mine", "-o"]
    other = make_gaze(tmp_path / "other.csv", [("ann", 5000 + k / 50, 9, 9) for k in range(100)], "time")
    output = run(*common, tmp_path / "a", "--gaze", other, code=1)
    assert "no sample lies in the video's time, 0 to 2 s: all 100 are outside, the first at 5000 s" in output
    assert "--time-offset -5000 would put" in output
    assert not (tmp_path / "a" / "annotations").exists()
    run(*common, tmp_path / "a", "--gaze", other, "--time-offset", -5000)
    longer = make_gaze(tmp_path / "longer.csv", [("ann", k / 10, 9, 9) for k in range(100)], "time")
    output = run(*common, tmp_path / "b", "--gaze", longer, "--quiet")
    assert output.startswith(
        "stavis: warning: talk: 80 of 100 samples lie outside the video's time, 0 to 2 s"
    )
    record = json.loads(
        (Layout(tmp_path / "b").annotations_folder("mine", "talk") / "prepare.json").read_text()
    )
    assert len(record["warnings"]) == 1


def test_a_clock_that_jumps_for_hours_is_refused_without_memory_for_it() -> None:
    for times in ([0.0, 0.05, 1e9], [0.0, 1e15], [0.0, 700.0]):
        with pytest.raises(StavisError, match="a clock that jumps; allowed are 600 s"):
            choose_frames(np.array(times), Fraction(20), None)
    times = np.append(np.arange(4000) / 20, 699.95)  # a camera that paused for 500 s
    _, shown = choose_frames(times, Fraction(20), None)
    assert shown is not None
    assert len(shown) == 14000


def test_prepare_from_python(tmp_path: Path) -> None:
    images = make_images(tmp_path / "talk")
    gaze = make_gaze(tmp_path / "talk.csv", [("ann", 0, 1, 2)])
    options = PrepareOptions(sigma_pixels=3, frame_rate=RATE)
    result = stavis.prepare(images, tmp_path / "data", "mine", gaze=str(gaze), options=options)
    assert not result.failed
    assert str(result.videos[0]).startswith(
        "talk: 6 frames of 64x48 at 12.500 per second; gaze: 1 sample read"
    )
    assert (result.num_folds, result.num_listed, len(result.lists)) == (1, 1, 2)
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    result = stavis.prepare([tmp_path / "bad.mp4", images], tmp_path / "other", "mine", options=options)
    assert [video.source.name for video in result.failed] == ["bad"]
    with pytest.raises(ValueError, match="letters, digits"):
        stavis.prepare(images, tmp_path / "data", "my data", options=options)
    with pytest.raises(ValueError, match="must be above 0"):
        PrepareOptions(sigma_pixels=-1)
    with pytest.raises(StavisError, match="sigma for density maps is not given"):
        stavis.prepare(images, tmp_path / "data", "mine", gaze=gaze)


# Fold lists


@given(
    names=st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=2, max_size=30),
    num=st.integers(2, 6),
    seed=st.integers(0, 5),
)
def test_every_video_is_tested_in_one_fold(names: set[str], num: int, seed: int) -> None:
    num = min(num, len(names))
    folds = k_folds(names, num, seed)
    assert folds == k_folds(sorted(names, reverse=True), num, seed)
    assert sorted(name for fold in folds for name in fold.test) == sorted(names)
    assert max(len(fold.test) for fold in folds) - min(len(fold.test) for fold in folds) <= 1
    for fold in folds:
        assert fold.test
        assert sorted((*fold.train, *fold.test)) == sorted(names)


def test_given_folds(tmp_path: Path) -> None:
    path = tmp_path / "folds.txt"
    path.write_text("a 1\nb 2\n\nc 1\n")
    folds, left_out = choose_folds(FoldChoice(fold_list=str(path)), "abcd")
    assert [(fold.train, fold.test) for fold in folds] == [(("b",), ("a", "c")), (("a", "c"), ("b",))]
    assert left_out == {"d"}
    for text, message in (
        ("a 0\n", "line 1: 'a 0' is not 'video fold'"),
        ("a 1\na 2\n", "line 2: 'a' is in fold 1 already"),
        ("a 1\nb 3\n", "no video in fold 2 of 3"),
        ("", "names no video"),
    ):
        path.write_text(text)
        with pytest.raises(StavisError, match=message):
            choose_folds(FoldChoice(fold_list=path), "ab")
    (tmp_path / "train.txt").write_text("a 30 25.0\nb\n")
    (tmp_path / "test.txt").write_text("c\n")
    folds, left_out = choose_folds(
        FoldChoice(train=str(tmp_path / "train.txt"), test=str(tmp_path / "test.txt")), "abcd"
    )
    assert [(fold.train, fold.test) for fold in folds] == [(("a", "b"), ("c",))]
    assert left_out == {"d"}
    (tmp_path / "test.txt").write_text("b\n")
    with pytest.raises(StavisError, match="both name 'b'"):
        choose_folds(FoldChoice(train=tmp_path / "train.txt", test=tmp_path / "test.txt"), "ab")
    with pytest.raises(StavisError, match="given in several ways"):
        choose_folds(FoldChoice(num_folds=2, fold_list=path), "ab")
    with pytest.raises(StavisError, match="2 videos cannot be divided into 3 folds"):
        choose_folds(FoldChoice(num_folds=3), "ab")


def test_fold_lists_of_an_earlier_choice_are_removed(tmp_path: Path) -> None:
    videos = [make_images(tmp_path / "in" / name, num=2) for name in "abcd"]
    common = [*videos, "--frame-rate", RATE, "-o", tmp_path / "data"]

    def lists() -> set[str]:
        return {path.name for path in (tmp_path / "data" / "fold_lists").iterdir()}

    run(*common, "-d", "mine", "--folds", 4)
    assert lists() == {
        f"mine_list_{subset}_{k}_fps.txt" for subset in ("train", "test") for k in (1, 2, 3, 4)
    }
    run(*common, "-d", "mine")
    assert lists() == {f"mine_list_{subset}_{k}_fps.txt" for subset in ("train", "test") for k in (1, 2, 3)}
    run(*common, "-d", "mine", "--folds", 1)
    assert lists() == {"mine_list_train_fps.txt", "mine_list_test_fps.txt"}
    # DIEM has one list for all splits, whatever else is asked for.
    run(*common, "-d", "DIEM")
    assert {name for name in lists() if name.startswith("DIEM")} == {
        "DIEM_list_train_fps.txt",
        "DIEM_list_test_fps.txt",
    }


# What is there already


def test_finished_videos_are_left_alone_and_other_options_are_refused(tmp_path: Path) -> None:
    images = make_images(tmp_path / "talk")
    gaze = make_gaze(tmp_path / "talk.csv", [("ann", 0, 1, 2)])
    common = [images, "--gaze", gaze, "--frame-rate", RATE, "-o", tmp_path / "data", "-d", "mine"]
    run(*common, "--sigma-pixels", 3)
    frame = Layout(tmp_path / "data").frame("mine", "talk", 0)
    before = frame.stat().st_mtime_ns, tree(tmp_path / "data")
    assert "(finished before)" in run(*common, "--sigma-pixels", 3)
    assert (frame.stat().st_mtime_ns, tree(tmp_path / "data")) == before
    output = run(*common, "--sigma-pixels", 5, code=1)
    assert "was prepared before with other sigma_pixels (3.0 before, now 5.0)" in output
    make_gaze(gaze, [("ann", 0, 5, 6)])
    assert "was prepared before with other gaze files" in run(*common, "--sigma-pixels", 3, code=1)
    run(*common, "--sigma-pixels", 5, "--overwrite")
    folder = Layout(tmp_path / "data").annotations_folder("mine", "talk")
    assert read_observers(folder / "observers.npz").x.tolist() == [5]
    frame.unlink()
    run(*common, "--sigma-pixels", 5)
    assert frame.exists()


def test_data_that_was_not_made_here_is_not_touched(tmp_path: Path) -> None:
    images = make_images(tmp_path / "talk")
    layout = Layout(tmp_path / "data")
    theirs = layout.frame("AVAD", "talk", 0)
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    common = [images, "--frame-rate", RATE, "-o", tmp_path / "data", "-d", "AVAD"]
    assert "was not made by `stavis prepare`" in run(*common, code=1)
    assert theirs.read_bytes() == b"theirs"
    theirs.unlink()
    theirs.parent.rmdir()
    fold_list = layout.fold_list("AVAD", "test", 1)
    fold_list.parent.mkdir(parents=True, exist_ok=True)
    fold_list.write_text("V1_Speech1 100 25\n")
    assert "name videos that were not prepared here (V1_Speech1)" in run(*common, code=1)
    assert fold_list.read_text() == "V1_Speech1 100 25\n"


def test_two_runs_in_one_data_folder_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stavis.preparation.prepare.LOCK_TIMEOUT_SECONDS", 0.1)
    images = make_images(tmp_path / "talk")
    (tmp_path / "data" / ".prepare").mkdir(parents=True)
    with filelock.FileLock(tmp_path / "data" / ".prepare" / "lock"):
        output = run(images, "--frame-rate", RATE, "-o", tmp_path / "data", "-d", "mine", code=1)
    assert "another `stavis prepare` is at work" in output


class Killed(BaseException):
    """Simulates a kill: no error handler may catch it."""


def test_resumes_after_being_killed_between_any_two_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = make_images(tmp_path / "talk", num=2, size=(16, 12))
    gaze = make_gaze(tmp_path / "talk.csv", [("ann", 0, 1, 2)])
    common = [images, "--gaze", gaze, "--frame-rate", RATE, "-d", "mine"]
    run(*common, "--sigma-pixels", 3, "-o", tmp_path / "before")
    run(*common, "--sigma-pixels", 5, "-o", tmp_path / "undisturbed")
    expected = tree(tmp_path / "undisturbed")
    steps = allowed = 0

    def count_step(function: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **options: object) -> object:
            nonlocal steps
            steps += 1
            if steps > allowed:
                raise Killed
            return function(*arguments, **options)

        return counted

    for allowed in range(40):
        data = tmp_path / f"data{allowed}"
        shutil.copytree(tmp_path / "before", data)
        steps = 0
        with monkeypatch.context() as patch:
            patch.setattr(records.shutil, "rmtree", count_step(shutil.rmtree))
            patch.setattr(Path, "rename", count_step(Path.rename))
            patch.setattr(Path, "unlink", count_step(Path.unlink))
            with contextlib.suppress(Killed):
                run(*common, "--sigma-pixels", 5, "--overwrite", "-o", data)
        if steps <= allowed:
            break
        # Without --overwrite: what is unfinished is known to be ours.
        run(*common, "--sigma-pixels", 5, "-o", data)
        assert tree(data) == expected
    assert 8 <= allowed < 39, "not every step was counted, or there was no end"


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_resumes_after_being_killed_in_the_middle_of_the_work(tmp_path: Path) -> None:
    videos = [make_images(tmp_path / "in" / name, num=40) for name in "abc"]
    for name in "abc":
        make_gaze(tmp_path / "gaze" / f"{name}.csv", [("ann", i, i, 10) for i in range(40)])
    command = [sys.executable, "-m", "stavis", "prepare", *map(str, videos), "--gaze", str(tmp_path / "gaze")]
    command += ["--sigma-pixels", "8", "--frame-rate", str(RATE), "-d", "mine", "-q", "-j", "2", "-o"]
    undisturbed, data = tmp_path / "undisturbed", tmp_path / "data"
    subprocess.run([*command, str(undisturbed)], check=True)
    num_all = len(tree(undisturbed))
    killed_at = []
    for share in (0.1, 0.6):
        process = subprocess.Popen([*command, str(data)])
        while process.poll() is None and len(tree_names(data)) < share * num_all:
            time.sleep(0.002)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed_at.append(len(tree_names(data)))
        process.wait()
    assert killed_at, "no run was caught in the middle"
    assert min(killed_at) < num_all
    subprocess.run([*command, str(data)], check=True)
    assert tree(data) == tree(undisturbed)


def tree_names(root: Path) -> list[str]:
    return [name for _, _, names in os.walk(root) for name in names]


def test_formats_of_the_command_are_those_of_the_library() -> None:
    assert get_args(Format) == ("auto", *FORMATS)


def test_help_and_wrong_use(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "stavis", "prepare", "--help"], capture_output=True, text=True, check=True
    )
    assert "--sigma-degrees" in result.stdout
    images = make_images(tmp_path / "talk")
    for options, message in (
        (["-d", "my database"], "letters, digits"),
        (["-d", "mine", "--sigma-pixels", "-3"], "must be above 0"),
        (["-d", "mine", "--screen-resolution", "wide"], "must be a width and a height in pixels"),
        (["-d", "mine", "--screen-resolution", "12.5x10"], "must be a width and a height in pixels"),
        (["-d", "mine", "--gaze-columns", "x"], "not meaning=column"),
        (["-d", "mine", "--gaze", "missing.csv"], "missing.csv: no such file"),
    ):
        assert message in run(images, "-o", tmp_path / "data", *options, code=1)
    assert not (tmp_path / "data").exists()


# Real recordings


def test_density_maps_of_ucf_sports_are_made_again(shared: Path, tmp_path: Path) -> None:
    recorded = shared / "gaze" / "ucf_diving"
    images = make_images(tmp_path / "diving", num=55, size=(720, 404), sound=False)
    common = ["--gaze", recorded / "fixation", "--sigma-pixels", 20, "--frame-rate", 10]
    run(images, *common, "-o", tmp_path / "data", "-d", "ucf", "-j", 1)
    layout = Layout(tmp_path / "data")
    correlations = []
    for i in range(55):
        ours = read_density_map(layout.density_map("ucf", "diving", i))
        theirs = read_map(recorded / "maps" / f"{i + 1:04d}.png")
        correlations.append(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1])
        fixations = scipy.io.loadmat(recorded / "fixation" / "maps" / f"{i + 1:04d}.mat")["I"]
        np.testing.assert_array_equal(read_fixation_map(layout.fixation_map("ucf", "diving", i)), fixations)
        assert ours.max() == 255
    assert min(correlations) >= 0.9997


@pytest.mark.slow
def test_find_recording_end_to_end(shared: Path, tmp_path: Path) -> None:
    video, gaze = shared / "media" / "find_012_talk.mp4", shared / "gaze" / "find_012" / "012.mat"
    run(video, "--gaze", gaze, "--sigma-pixels", 36, "-o", tmp_path, "-d", "find", "--preview")
    layout = Layout(tmp_path)
    (entry,) = read_fold_list(layout.fold_list("find", "test", 1))
    assert (entry.num_frames, entry.frame_rate) == (396, pytest.approx(23.976, abs=1e-3))
    observers = read_observers(layout.annotations_folder("find", "find_012_talk") / "observers.npz")
    assert len(observers.names) == 39
    # Where the four faces are, found by looking at the frames: most of gaze must lie on them.
    faces = [(60, 130, 260, 320), (400, 90, 640, 320), (700, 90, 900, 320), (950, 90, 1180, 320)]
    on_faces = np.zeros(len(observers.x), bool)
    for left, top, right, bottom in faces:
        on_faces |= (
            (observers.x >= left) & (observers.x < right) & (observers.y >= top) & (observers.y < bottom)
        )
    assert on_faces.mean() > 0.7
    mine = observers.frame == 100
    counts = fixation_counts(observers.x[mine], observers.y[mine], 720, 1280)
    ours = read_density_map(layout.density_map("find", "find_012_talk", 100)).astype(int)
    assert np.abs(ours - to_8bit(density_from_fixations(counts, 36)).astype(int)).max() <= 3


@pytest.mark.slow
def test_dhf1k_recording_end_to_end(shared: Path, tmp_path: Path) -> None:
    video, gaze = shared / "media" / "dhf1k_002.avi", shared / "gaze" / "dhf1k_002"
    screen = ["--screen-resolution", "1440x900", "--sigma-pixels", 20]
    output = run(video, "--gaze", gaze, *screen, "-o", tmp_path, "-d", "dhf", "--preview")
    assert "20381 samples read of 3 observers" in output
    observers = read_observers(Layout(tmp_path).annotations_folder("dhf", "dhf1k_002") / "observers.npz")
    assert observers.names == ("P01", "P05", "P12")
    assert observers.frame.max() <= 782
    pairs = list(zip(observers.observer.tolist(), observers.frame.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    # The flower with its fly, which everybody looks at.
    assert ((observers.x > 80) & (observers.x < 430) & (observers.y > 100) & (observers.y < 260)).mean() > 0.8
