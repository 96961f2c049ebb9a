"""Gaze files of the formats that databases use: what is read, converted, kept and dropped."""

import csv
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from stavis.errors import StavisError
from stavis.gaze import (
    Event,
    Gaze,
    Recording,
    ScreenMapping,
    assign_frames,
    detect_format,
    fixation_counts,
    gaze_on_video,
    median_per_observer,
    merge_gaze,
    pixels_per_degree,
    read_gaze,
    sigma_in_video_pixels,
)
from support.gaze import read, read_or_refuse

FIXATIONS = frozenset({Event.FIXATION})


def by_frame(
    observer: list[int], frame: list[int], x: list[float], y: list[float], known: bool = True
) -> Gaze:
    names = tuple(f"P{i}" for i in range(max(observer, default=-1) + 1))
    return Gaze(
        names,
        np.array(observer),
        np.array(x, float),
        np.array(y, float),
        np.array(frame),
        None,
        len(x),
        {},
        known,
    )


# Screen to video


@given(
    screen=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    video=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
)
def test_letterboxed_picture_fills_the_screen_one_way_and_is_centered(
    screen: tuple[int, int], video: tuple[int, int]
) -> None:
    mapping = ScreenMapping(*screen, *video, mode="letterbox")
    (scale_x, scale_y), (left, top) = mapping.scale, mapping.offset
    assert scale_x == scale_y
    assert min(left, top) == pytest.approx(0, abs=1e-6)
    assert max(left, top) >= -1e-6
    corners_x = np.array([left, screen[0] - left])
    corners_y = np.array([top, screen[1] - top])
    x, y = mapping.to_video(corners_x, corners_y)
    np.testing.assert_allclose(x, [0, video[0]], atol=1e-6 * max(video))
    np.testing.assert_allclose(y, [0, video[1]], atol=1e-6 * max(video))


@given(
    mode=st.sampled_from(["letterbox", "stretch", "center", "none"]),
    screen=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    video=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    point=st.tuples(st.floats(-100, 5000), st.floats(-100, 5000)),
)
def test_mapping_undoes_how_the_video_was_shown(
    mode: str, screen: tuple[int, int], video: tuple[int, int], point: tuple[float, float]
) -> None:
    mapping = ScreenMapping(*screen, *video, mode=mode)  # type: ignore[arg-type]
    (scale_x, scale_y), (left, top) = mapping.scale, mapping.offset
    on_screen = (point[0] / scale_x + left, point[1] / scale_y + top)
    x, y = mapping.to_video(np.array([on_screen[0]]), np.array([on_screen[1]]))
    assert x[0] == pytest.approx(point[0], abs=1e-5)
    assert y[0] == pytest.approx(point[1], abs=1e-5)


def test_mappings_of_the_known_databases() -> None:
    dhf1k = ScreenMapping(1440, 900, 640, 360, "letterbox")
    assert dhf1k.scale == pytest.approx((640 / 1440, 640 / 1440))
    assert dhf1k.offset == (0, 45)
    diem = ScreenMapping(1280, 960, 1280, 720, "center")
    assert (diem.scale, diem.offset) == ((1, 1), (0, 120))
    stretched = ScreenMapping(720, 576, 1440, 288, "stretch")
    assert (stretched.scale, stretched.offset) == ((2, 0.5), (0, 0))
    explicit = ScreenMapping(100, 100, 50, 50, "stretch", explicit_scale=(3, 4), explicit_offset=(1, 2))
    assert [float(value[0]) for value in explicit.to_video(np.array([2.0]), np.array([3.0]))] == [3, 4]


def test_samples_outside_the_picture_blinks_and_nan_are_counted_once_each() -> None:
    nan = math.nan
    recording = Recording(
        observers=("a",),
        observer=np.zeros(8, np.int64),
        x=np.array([0.0, 9.99, 10.0, -0.01, nan, 5.0, nan, 5.0]),
        y=np.array([0.0, 4.99, 1.0, 1.0, 1.0, 5.0, nan, 1.0]),
        frame=np.arange(8),
        event=np.array([0, 0, 0, 0, 0, 0, Event.BLINK, Event.SACCADE], np.uint8),
    )
    gaze = gaze_on_video(recording, ScreenMapping(10, 5, 10, 5, "none"), keep=FIXATIONS)
    assert gaze.frame is not None
    assert gaze.frame.tolist() == [0, 1]
    assert gaze.dropped == {
        "saccade": 1,
        "blink": 1,
        "error": 0,
        "unclassified": 0,
        "invalid": 1,
        "outside_picture": 3,
    }


# Time to frames


@given(
    durations=st.lists(st.floats(0.001, 0.2), min_size=1, max_size=20),
    times=arrays(np.float64, st.integers(0, 30), elements=st.floats(-0.5, 5)),
)
def test_each_sample_goes_to_the_frame_on_display(durations: list[float], times: np.ndarray) -> None:
    edges = np.array([0.0, *itertools.accumulate(durations)])
    num = len(times)
    gaze = Gaze(("a",), np.zeros(num, np.int64), np.arange(num) * 1.0, np.zeros(num), None, times, num, {})
    assigned = assign_frames(gaze, edges[:-1], float(edges[-1]))
    assert assigned.frame is not None
    for sample, frame in zip(assigned.x.astype(int), assigned.frame, strict=True):
        assert edges[frame] <= times[sample] < edges[frame + 1]
    inside = (times >= 0) & (times < edges[-1])
    assert len(assigned) == inside.sum()
    assert assigned.dropped["outside_time"] == num - inside.sum()


def test_frames_beyond_the_video_are_counted() -> None:
    gaze = by_frame([0] * 4, [-1, 0, 2, 3], [1] * 4, [1] * 4)
    assigned = assign_frames(gaze, np.array([0.0, 0.1, 0.2]), 0.3)
    assert assigned.frame is not None
    assert assigned.frame.tolist() == [0, 2]
    assert assigned.dropped == {"outside_time": 2}


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 4), st.floats(0, 100), st.floats(0, 100)),
        min_size=1,
        max_size=40,
    )
)
def test_the_sample_per_observer_and_frame_is_the_median(
    samples: list[tuple[int, int, float, float]],
) -> None:
    observer, frame, x, y = (list(values) for values in zip(*samples, strict=True))
    merged = median_per_observer(by_frame(observer, frame, x, y))
    assert merged.frame is not None
    expected = {
        key: (
            np.median([s[2] for s in samples if s[:2] == key]),
            np.median([s[3] for s in samples if s[:2] == key]),
        )
        for key in {s[:2] for s in samples}
    }
    got = {
        (int(o), int(f)): (a, b)
        for o, f, a, b in zip(merged.observer, merged.frame, merged.x, merged.y, strict=True)
    }
    assert got.keys() == expected.keys()
    for key, point in got.items():
        assert point == pytest.approx(expected[key])


def test_merging_needs_known_observers() -> None:
    with pytest.raises(ValueError, match="distinguishes observers"):
        median_per_observer(by_frame([0], [0], [1], [1], known=False))


def test_files_of_one_observer_are_joined_by_name() -> None:
    first = by_frame([0, 1], [0, 0], [1, 2], [0, 0])
    second = Gaze(
        ("P1", "P7"), np.array([0, 1]), np.ones(2), np.ones(2), np.array([3, 3]), None, 5, {"blink": 3}
    )
    joined = merge_gaze([first, second])
    assert joined.observers == ("P0", "P1", "P7")
    assert joined.observer.tolist() == [0, 1, 1, 2]
    assert (joined.num_read, joined.dropped) == (7, {"blink": 3})


@given(st.lists(st.tuples(st.floats(0, 7.99), st.floats(0, 4.99)), max_size=30))
def test_counts_hold_every_point_in_its_pixel(points: list[tuple[float, float]]) -> None:
    x, y = np.array(points, float).reshape(-1, 2).T
    counts = fixation_counts(x, y, 5, 8)
    assert counts.sum() == len(points)
    for px, py in points:
        assert counts[int(py), int(px)] >= 1


def test_pixels_per_degree() -> None:
    # At 57.2958 cm one centimeter is one degree, but for tan; the screen has 40 pixels a centimeter.
    horizontal, vertical = pixels_per_degree(57.29, (50, 25), (2000, 1000))
    assert horizontal == pytest.approx(2 * 57.29 * math.tan(math.radians(0.5)) * 40)
    assert horizontal == vertical == pytest.approx(40, rel=1e-3)
    assert sigma_in_video_pixels(1.5, (40, 40), (0.5, 0.5)) == pytest.approx(30)
    assert sigma_in_video_pixels(1, (40, 40), (2, 0.5)) == pytest.approx(40)


# Tables


def write_csv(path: Path, rows: list[dict[str, object]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_paths_may_be_texts_and_a_single_file_is_no_list(tmp_path: Path) -> None:
    path = str(write_csv(tmp_path / "gaze.csv", [{"observer": "Ann", "frame": 0, "x": 1.5, "y": 2.5}]))
    assert detect_format(path) == "csv"
    for paths in (path, [path], Path(path)):
        gaze, _ = read_gaze(paths, video="v", width=64, height=48)
        assert gaze.x.tolist() == [1.5]


def test_csv_of_frames_in_pixels(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "gaze.csv",
        [
            {"observer": "Ann", "frame": 0, "x": 1.5, "y": 2.5},
            {"observer": "Bob", "frame": 2, "x": 63.9, "y": 47.9},
            {"observer": "Ann", "frame": 1, "x": "", "y": "nan"},
            {"observer": "Ann", "frame": 1, "x": 64, "y": 1},
        ],
    )
    gaze = read(path)
    assert gaze.observers == ("Ann", "Bob")
    assert gaze.observer.tolist() == [0, 1]
    assert gaze.x.tolist() == [1.5, 63.9]
    assert gaze.frame is not None
    assert gaze.frame.tolist() == [0, 2]
    assert gaze.dropped == {"invalid": 1, "outside_picture": 1}
    shifted = read(path, frame_origin=1, pixel_origin=1)
    assert shifted.frame is not None
    assert shifted.frame.tolist() == [-1, 1, 0]
    assert shifted.x.tolist() == [0.5, 62.9, 63]


@pytest.mark.parametrize(
    ("column", "options", "factor"),
    [
        ("time", {}, 1),
        ("time_ms", {}, 1000),
        ("time_us", {}, 1e6),
        ("timestamp", {"time_unit": "ms"}, 1000),
        ("Recording time", {"time_unit": "us", "columns": {"time": "recording TIME"}}, 1e6),
    ],
)
def test_csv_of_times(tmp_path: Path, column: str, options: dict[str, object], factor: float) -> None:
    rows = [{"subject": 1, column: t * factor, "X": 3, "Y": 4} for t in (0.25, 0.5)]
    gaze = read(write_csv(tmp_path / "gaze.csv", rows), **options)
    assert gaze.time_seconds == pytest.approx([0.25, 0.5])
    later = read(tmp_path / "gaze.csv", time_offset_seconds=1.5, **options)
    assert later.time_seconds == pytest.approx([1.75, 2.0])


def test_csv_in_fractions_of_the_video_or_of_a_letterboxed_screen(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "gaze.csv", [{"frame": 0, "x": 0.5, "y": 0.25}])
    gaze = read(path, unit="fractions")
    assert (gaze.x[0], gaze.y[0]) == (32, 12)
    assert gaze.observers == ("gaze",)  # the file's name, as no column tells
    # 64x48 on 200x100: scaled by 100/48, so bars of (200 - 400/3)/2 at the sides.
    boxed = read(path, unit="fractions", screen=(200, 100))
    assert (boxed.x[0], boxed.y[0]) == (pytest.approx(32), pytest.approx(12))
    # Where in the video a screen of this resolution showed it does not matter to gaze in fractions of the video.
    assert read(path, unit="fractions", screen=(200, 100), coordinates="video").x[0] == 32
    with pytest.raises(StavisError, match="fractions of a screen whose size the file does not say"):
        read(path, unit="fractions", coordinates="screen")
    corner = read(
        write_csv(tmp_path / "bar.csv", [{"frame": 0, "x": x, "y": 0.5} for x in (0.1, 0.9, 0.5)]),
        unit="fractions",
        screen=(200, 100),
    )
    assert corner.dropped["outside_picture"] == 2


def test_csv_events(tmp_path: Path) -> None:
    words = ["Fixation", "fix", "Smooth Pursuit", "Saccade", "Blink", "", "-", "Unknown", "error"]
    path = write_csv(
        tmp_path / "gaze.csv", [{"frame": i, "x": 9, "y": 9, "event": w} for i, w in enumerate(words)]
    )
    gaze = read(path)
    assert gaze.frame is not None
    assert gaze.frame.tolist() == [0, 1, 2]
    assert gaze.dropped == {
        "saccade": 1,
        "blink": 1,
        "error": 1,
        "unclassified": 3,
        "invalid": 0,
        "outside_picture": 0,
    }
    assert len(read(path, events="samples")) == 7


def test_csv_of_several_videos(tmp_path: Path) -> None:
    rows = [{"video": name, "frame": 0, "x": i, "y": 1} for i, name in enumerate(["a.mp4", "b", "a.mp4"])]
    path = write_csv(tmp_path / "gaze.csv", rows, delimiter=";")
    assert read(path, video="a").x.tolist() == [0, 2]
    assert read(path, video="b").x.tolist() == [1]
    with pytest.raises(StavisError, match="no row has 'c' in column 'video'"):
        read(path, video="c")


def test_decimal_comma_between_semicolons(tmp_path: Path) -> None:
    path = tmp_path / "gaze.csv"
    path.write_text("﻿frame;x;y\n0;1,5;2,25\n", encoding="utf-8")
    gaze = read(path)
    assert (gaze.x[0], gaze.y[0]) == (1.5, 2.25)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame,x\n0,1\n", "no column for y"),
        ("x,y\n0,1\n", "no column for frame or time"),
        ("frame,x,y\n0,1\n", "line 2: 2 cells, but the header has 3"),
        ("frame,x,y\n0,1,two\n", "row 1: 'two' in column 'y' is not a number"),
        ("frame,x,y\n0.5,1,1\n", "0.5 in column 'frame' is not a whole frame"),
        ("", "empty"),
        ("frame,x,y\n", "no gaze on the picture of clip"),
        (
            "frame,x,y\n0,100,1\n",
            "no gaze on the picture of clip .64x48.: 1 sample read; dropped: 1 outside picture",
        ),
        ("frame,x,y\n" + "0,0.5,0.5\n" * 10, "looks like fractions"),
        ("frame,x,y\n0,\xff1,1\n", "row 1: '\xff1' in column 'x' is not a number"),
        ("frame,x,y\n0,\0\x01,1\n", "not a text file; allowed: UTF-8, UTF-16"),
    ],
)
def test_bad_csv_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "gaze.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(StavisError, match=message) as caught:
        read(path)
    assert "gaze.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_column_meanings_and_names(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "gaze.csv", [{"frame": 0, "x": 1, "y": 2}])
    with pytest.raises(StavisError, match="'pupil' is not a meaning"):
        read(path, columns={"pupil": "x"})
    with pytest.raises(StavisError, match="no column 'GazeX'; there are: frame, x, y"):
        read(path, columns={"x": "GazeX"})
    # No other time column stands in.
    timed = write_csv(tmp_path / "timed.csv", [{"timestamp [ms]": 0, "x": 1, "y": 2}])
    with pytest.raises(StavisError, match="no column 'video_time'"):
        read(timed, columns={"time": "video_time"})


cells = st.one_of(st.floats(0, 63.99), st.sampled_from(["", "nan", "."]), st.floats(64, 1e6))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 99), cells, st.floats(0, 47.99)), max_size=30)
)
def test_csv_keeps_or_counts_every_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, object, float]]
) -> None:
    rows = [*rows, ("a", 0, 1.0, 1.0)]
    path = tmp_path_factory.mktemp("csv") / "gaze.csv"
    write_csv(path, [{"observer": o, "frame": f, "x": x, "y": y} for o, f, x, y in rows])
    gaze = read(path)
    expected = [(o, f, x, y) for o, f, x, y in rows if isinstance(x, float) and x < 64]
    assert gaze.frame is not None
    got = [
        (gaze.observers[o], f, x, y)
        for o, f, x, y in zip(
            gaze.observer, gaze.frame.tolist(), gaze.x.tolist(), gaze.y.tolist(), strict=True
        )
    ]
    assert got == expected
    assert gaze.dropped["invalid"] == sum(isinstance(x, str) for _, _, x, _ in rows)


def expected_samples(text: str) -> list[tuple[float, float, float]]:
    """What is on a picture of 64x48 in rows `frame,x,y`, read in the simplest way."""
    rows = [
        [
            float(cell) if cell.strip() not in ("", "-", "--", ".") else math.nan
            for cell in line.split(",")[:3]
        ]
        for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if line
    ]
    return [(f, x, y) for f, x, y in rows if f == f and 0 <= x < 64 and 0 <= y < 48]


cell_texts = st.text("0123456789.- e", max_size=4)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(cell_texts, cell_texts, cell_texts), max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.text(",.\r\n0123456789", max_size=5),
)
def test_any_cells_are_read_as_they_are_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], newline: str, rest: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "gaze.csv"
    text = newline.join([*(",".join(row) for row in rows), "0,1,2", rest])
    path.write_bytes(f"frame,x,y{newline}{text}".encode())
    gaze = read_or_refuse(path)
    if gaze is not None:
        assert gaze.frame is not None
        got = list(zip(gaze.frame.tolist(), gaze.x.tolist(), gaze.y.tolist(), strict=True))
        assert got == expected_samples(text)


@settings(max_examples=50)
@given(st.text(max_size=200))
def test_any_text_as_csv_is_read_or_refused_clearly(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "gaze.csv"
    path.write_bytes(("frame,x,y\n5,6,7\n" + text).encode("utf-8", "surrogatepass"))
    gaze = read_or_refuse(path)
    if gaze is not None:
        # The row before the text is read whatever follows it.
        assert gaze.frame is not None
        assert (gaze.frame[0], gaze.x[0], gaze.y[0]) == (5, 6, 7)


def test_parquet_reads_as_the_same_csv(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [
        {"observer": "Ann", "time": 0.1, "x": 1.5, "y": 2.5, "event": "fixation"},
        {"observer": "Bob", "time": 0.2, "x": None, "y": 3.0, "event": "fixation"},
        {"observer": "Bob", "time": 0.3, "x": 4.0, "y": 3.0, "event": None},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "gaze.parquet")
    table, text = read(tmp_path / "gaze.parquet"), read(write_csv(tmp_path / "gaze.csv", rows))
    assert table.observers == text.observers
    assert table.dropped == text.dropped
    np.testing.assert_array_equal(table.x, text.x)
    np.testing.assert_array_equal(table.time_seconds, text.time_seconds)
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(StavisError, match=r"bad.parquet: not a Parquet file"):
        read(tmp_path / "bad.parquet")


# MATLAB


def test_mat_cells_count_from_one(tmp_path: Path) -> None:
    cell = np.empty((2, 1), object)
    cell[0, 0] = np.array([[1, 1], [64, 48]], np.uint16)
    cell[1, 0] = np.array([[10.5, 20.5], [np.nan, np.nan], [65, 1]])
    scipy.io.savemat(tmp_path / "gaze.mat", {"gaze": cell})
    assert detect_format(tmp_path / "gaze.mat") == "mat"
    gaze = read(tmp_path / "gaze.mat")
    assert gaze.observers == ("1", "2")
    assert gaze.observer.tolist() == [0, 0, 1]
    assert gaze.frame is not None
    assert gaze.frame.tolist() == [0, 1, 0]
    assert gaze.x.tolist() == [0, 63, 9.5]
    assert gaze.y.tolist() == [0, 47, 19.5]
    assert (gaze.dropped["invalid"], gaze.dropped["outside_picture"]) == (1, 1)


def test_mat_array_and_choice_of_variable(tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 2).reshape(2, 3, 2) + 1.0
    scipy.io.savemat(tmp_path / "gaze.mat", {"first": array, "second": array + 1, "note": "text"})
    with pytest.raises(StavisError, match="2 variables, not 1"):
        read(tmp_path / "gaze.mat")
    gaze = read(tmp_path / "gaze.mat", variable="second", pixel_origin=0)
    assert gaze.x.tolist() == [2, 4, 6, 8, 10, 12]
    with pytest.raises(StavisError, match="no variable 'third'; there are: first, note, second"):
        read(tmp_path / "gaze.mat", variable="third")
    with pytest.raises(StavisError, match="'note' is neither"):
        read(tmp_path / "gaze.mat", variable="note")


@pytest.mark.parametrize(
    "content", [b"", b"text", b"MATLAB 5.0 MAT-file" + bytes(200), b"\x89HDF\r\n\x1a\n" + bytes(600)]
)
def test_broken_mat_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "gaze.mat").write_bytes(content)
    with pytest.raises(StavisError, match=r"gaze\.mat"):
        read(tmp_path / "gaze.mat")


@settings(max_examples=150)
@given(
    compressed=st.booleans(),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5),
    cut=st.one_of(st.none(), st.integers(0, 10**6)),
)
def test_mutated_mat_files_give_gaze_or_one_error(
    tmp_path_factory: pytest.TempPathFactory,
    compressed: bool,
    changes: list[tuple[int, int]],
    cut: int | None,
) -> None:
    # scipy.io.loadmat ends the process (signal 11) on some of these.
    path = tmp_path_factory.mktemp("mat") / "gaze.mat"
    cell = np.empty((2, 1), object)
    cell[0, 0], cell[1, 0] = np.arange(1.0, 41.0).reshape(20, 2), np.array([[1, 2], [3, 4]], np.uint8)
    variables = {"gaze": cell, "note": "text", "struct": {"a": 1.0, "b": np.array(["ab", "cd"])}}
    scipy.io.savemat(path, variables, do_compression=compressed)
    data = bytearray(path.read_bytes())
    for position, value in changes:
        data[position % len(data)] = value
    path.write_bytes(data if cut is None else data[: cut % len(data)])
    gaze = read_or_refuse(path)
    if gaze is not None:
        assert gaze.num_read <= 22
        assert ((gaze.x >= 0) & (gaze.x < 64) & (gaze.y >= 0) & (gaze.y < 48)).all()


def test_mat_of_one_column_per_frame_is_refused(tmp_path: Path) -> None:
    cell = np.empty((1, 2), object)
    cell[0, 0] = cell[0, 1] = np.ones((2, 300))
    scipy.io.savemat(tmp_path / "gaze.mat", {"gaze": cell})
    with pytest.raises(StavisError, match="matrix 1 of 'gaze' is 2x300, one column per frame"):
        read(tmp_path / "gaze.mat")


def test_mat_that_inflates_beyond_its_bound_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stavis.maps.matfile._MAX_UNPACKED", 1 << 22)
    scipy.io.savemat(tmp_path / "gaze.mat", {"gaze": np.zeros((2, 1 << 18, 2))}, do_compression=True)
    assert (tmp_path / "gaze.mat").stat().st_size < 20_000
    with pytest.raises(StavisError, match="compressed data inflates to over 4 MiB"):
        read(tmp_path / "gaze.mat")


def coutrot_struct(num_clips: int) -> dict[str, np.ndarray]:
    x = np.arange(2 * num_clips * 3).reshape(2, num_clips, 3) + 1.0
    return {"x_pos": x, "y_pos": x * 2}


def test_coutrot_struct(tmp_path: Path) -> None:
    with_sound, without = coutrot_struct(2), coutrot_struct(2)
    with_sound["x_pos"][0, 1, 0] = np.nan
    without["x_pos"] += 100
    scipy.io.savemat(tmp_path / "eyes.mat", {"data": {"with_os": with_sound, "without_os": without}})
    assert detect_format(tmp_path / "eyes.mat") == "coutrot"
    gaze = read(tmp_path / "eyes.mat", size=(720, 576), clip=2)
    assert gaze.frame is not None
    assert gaze.frame.tolist() == [1, 2, 0, 1, 2]
    assert gaze.x.tolist() == [4, 5, 9, 10, 11]
    assert gaze.y.tolist() == [9, 11, 19, 21, 23]
    assert gaze.dropped["invalid"] == 1
    silent = read(tmp_path / "eyes.mat", size=(720, 576), clip=2, sound="without")
    assert silent.x.tolist() == [103, 104, 105, 109, 110, 111]
    # A smaller copy of the video: gaze is scaled with it.
    half = read(tmp_path / "eyes.mat", size=(360, 288), clip=2, sound="without")
    assert half.x.tolist() == [51.5, 52, 52.5, 54.5, 55, 55.5]
    with pytest.raises(StavisError, match="contains 2 clips; choose"):
        read(tmp_path / "eyes.mat", size=(720, 576))
    with pytest.raises(StavisError, match="no clip 3; there are clips 1 to 2"):
        read(tmp_path / "eyes.mat", size=(720, 576), clip=3)


def test_coutrot_struct_of_one_recording(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "eyes.mat", {"data": coutrot_struct(1)})
    assert len(read(tmp_path / "eyes.mat", size=(720, 576))) == 6


# Trackers


DIEM = """\
1\t10.0\t130.0\t1622.0\t1\t20.0\t140.0\t1355.0\t1
2\t10.0\t130.0\t1619.0\t2\t20.0\t140.0\t1351.0\t1
3\t10.0\t130.0\t1619.0\t2\t20.0\t140.0\t1351.0\t0
4\t0.0\t0.0\t0\t0\t0.0\t0.0\t0\t0
5\t0.0\t0.0\t0\t-1\t0.0\t0.0\t0\t-1
6\t10.0\t119.0\t1619.0\t1\t20.0\t119.0\t1351.0\t1
"""


def test_diem_text(tmp_path: Path) -> None:
    path = tmp_path / "diem2s1.asc_4_clip.txt"
    path.write_bytes(DIEM.replace("\n", "\r\n").encode())
    assert detect_format(path) == "diem"
    gaze = read(path, size=(1280, 720))
    assert gaze.observers == ("diem2s1",)
    assert gaze.time_seconds == pytest.approx([0.5 / 30, 1.5 / 30])
    assert gaze.x.tolist() == [15, 20]
    assert gaze.y.tolist() == [15, 20]
    assert {reason: n for reason, n in gaze.dropped.items() if n} == {
        "saccade": 1,
        "blink": 1,
        "error": 1,
        "outside_picture": 1,
    }
    assert read(path, size=(1280, 720), eye="left").x.tolist() == [10]
    assert read(path, size=(1280, 720), eye="right").x.tolist() == [20, 20]
    (tmp_path / "bad.txt").write_text(DIEM.replace("\t2\t", "\t7\t"))
    with pytest.raises(StavisError, match="event 7; allowed: -1 error"):
        read(tmp_path / "bad.txt", size=(1280, 720))
    (tmp_path / "short.txt").write_text("1 2 3\n")
    with pytest.raises(StavisError, match="not rows of 9 numbers"):
        read(tmp_path / "short.txt", size=(1280, 720), format="diem")


SMI = """\
Time\tType\tTrial\tL Dia X [px]\tL Dia Y [px]\tL POR X [px]\tL POR Y [px]\tL Event Info
84042779051\tSMP\t1\t16.38\t16.38\t720.00\t450.00\tFixation
84042783051\tMSG\t1\t# Message: clip.avi
84042819051\tSMP\t1\t16.37\t16.37\t0.00\t0.00\tFixation
84042859051\tSMP\t1\t16.37\t16.37\t0.00\t45.00\tFixation
84042899051\tSMP\t1\t16.37\t16.37\t3.00\t44.00\tFixation
84042939051\tSMP\t1\t16.37\t16.37\t700.00\t400.00\tSaccade
84042979051\tSMP\t1\t16.37\t16.37\t700.00\t400.00\tBlink
84043019051\tSMP\t1\t16.37\t16.37\t700.00\t400.00\t-
"""


def test_smi_text(tmp_path: Path) -> None:
    path = tmp_path / "P01_Trail002.txt"
    path.write_text(SMI)
    assert detect_format(path) == "smi"
    gaze = read(path, size=(640, 360), screen=(1440, 900))
    assert gaze.observers == ("P01",)
    assert gaze.time_seconds == pytest.approx([0, 0.08])
    assert gaze.x == pytest.approx([320, 0])
    assert gaze.y == pytest.approx([180, 0])
    assert gaze.num_read == 7
    assert {reason: n for reason, n in gaze.dropped.items() if n} == {
        "saccade": 1,
        "blink": 1,
        "unclassified": 1,
        "invalid": 1,
        "outside_picture": 1,
    }
    with pytest.raises(StavisError, match="give the screen's resolution"):
        read(path, size=(640, 360))
    named = tmp_path / "named.txt"
    named.write_text("## [Geometry]\n## Calibration Area:\t1440\t900\n" + SMI)
    assert detect_format(named) == "smi"
    assert read(named, size=(640, 360)).x == pytest.approx([320, 0])


def test_smi_with_both_eyes(tmp_path: Path) -> None:
    path = tmp_path / "P02.txt"
    path.write_text(
        "Time\tType\tTrial\tL POR X [px]\tL POR Y [px]\tR POR X [px]\tR POR Y [px]\tL Event Info\tR Event Info\n"
        "0\tSMP\t1\t10\t10\t20\t20\tFixation\tFixation\n"
        "1000\tSMP\t1\t10\t10\t20\t20\tFixation\tSaccade\n"
        "2000\tSMP\t1\t0\t0\t20\t20\tFixation\tFixation\n"
    )
    both = read(path, coordinates="video")
    assert both.x.tolist() == [15, 10, 20]
    assert read(path, coordinates="video", eye="right").x.tolist() == [20, 20]
    path.write_text(SMI)
    with pytest.raises(StavisError, match="an SMI export has columns"):
        read(path, format="smi", eye="right", screen=(1440, 900))


# Fixation maps and the challenges' file


def test_folder_of_fixation_maps(tmp_path: Path) -> None:
    folder = tmp_path / "0601" / "fixation"
    folder.mkdir(parents=True)
    for number, points in ((1, [(3, 5)]), (2, []), (3, [(0, 0), (63, 47)])):
        pixels = np.zeros((48, 64), np.uint8)
        for x, y in points:
            pixels[y, x] = 255
        Image.fromarray(pixels).save(folder / f"{number:04d}.png")
    for path in (folder, folder.parent):
        assert detect_format(path) == "png"
        gaze = read(path)
        assert gaze.frame is not None
        assert list(zip(gaze.frame, gaze.x, gaze.y, strict=True)) == [(0, 3, 5), (2, 0, 0), (2, 63, 47)]
        assert not gaze.observers_known
    Image.new("L", (10, 10)).save(folder / "0004.png")
    with pytest.raises(StavisError, match=r"0004.png: 10x10, but those before it 64x48"):
        read(folder)
    (folder / "0004.png").write_bytes(b"no PNG")
    with pytest.raises(StavisError, match=r"0004.png: not a readable PNG"):
        read(folder)


def test_challenge_json_has_the_row_first(tmp_path: Path) -> None:
    content = [[[5, 3], [5, 3]], [], [[47, 63], [48, 1]]]
    (tmp_path / "fixations.json").write_text(json.dumps(content))
    gaze = read(tmp_path / "fixations.json")
    assert gaze.frame is not None
    assert list(zip(gaze.frame, gaze.x, gaze.y, strict=True)) == [(0, 3, 5), (0, 3, 5), (2, 63, 47)]
    assert gaze.dropped["outside_picture"] == 1
    assert len(read(tmp_path)) == 3  # the folder stands for the file
    (tmp_path / "all.json").write_text(json.dumps({"a.mp4": content, "clip": content[:1]}))
    assert len(read(tmp_path / "all.json")) == 2
    with pytest.raises(StavisError, match=r"no entry for video 'other'; it has 2: a\.mp4, clip"):
        read(tmp_path / "all.json", video="other")


@pytest.mark.parametrize("text", ["{", "3", "[3]", "[[3]]", '[[["a", 1]]]', "[[[1, 2, 3]]]"])
def test_bad_challenge_json_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "fixations.json").write_text(text)
    with pytest.raises(StavisError, match=r"fixations.json: "):
        read(tmp_path / "fixations.json")


# Finding formats


def test_unknown_files_are_refused(tmp_path: Path) -> None:
    for name, content in (("notes.txt", "hello"), ("clip.mp4", "\x00\x01"), ("empty.txt", "")):
        (tmp_path / name).write_text(content)
        with pytest.raises(StavisError, match=f"{name}: not a gaze file of a known format"):
            detect_format(tmp_path / name)
    with pytest.raises(StavisError, match="no such gaze file"):
        read(tmp_path / "missing.csv")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(StavisError, match="no fixation maps"):
        read(tmp_path / "nothing")


def test_text_with_a_table_header_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "gaze.txt"
    path.write_text("frame\tx\ty\n0\t1\t2\n")
    assert detect_format(path) == "csv"
    assert read(path).x.tolist() == [1]


def test_folder_with_one_file_per_observer(tmp_path: Path) -> None:
    for name, x in (("ann", 1), ("bob", 2)):
        write_csv(tmp_path / f"{name}.csv", [{"frame": 0, "x": x, "y": 3}])
    gaze = read(tmp_path)
    assert gaze.observers == ("ann", "bob")
    assert gaze.x.tolist() == [1, 2]
    write_csv(tmp_path / "cat.csv", [{"time": 0, "x": 5, "y": 3}])
    with pytest.raises(StavisError, match="some of its gaze files have frames and some have times"):
        read(tmp_path)


# Real recordings


def test_find_recording(shared: Path) -> None:
    gaze = read(shared / "gaze" / "find_012" / "012.mat", size=(1280, 720))
    assert (len(gaze), len(gaze.observers), gaze.num_read) == (15444, 39, 15444)
    assert gaze.frame is not None
    assert gaze.frame.max() == 395
    assert (gaze.x[0], gaze.y[0]) == (688, 287)  # 689, 288 in the file, which counts from 1


def test_dhf1k_recording(shared: Path) -> None:
    folder = shared / "gaze" / "dhf1k_002"
    gaze = read(folder, size=(640, 360), screen=(1440, 900))
    assert gaze.observers == ("P01", "P05", "P12")
    # Counted in the files with grep and awk: rows, rows of each event, fixations at exactly (0, 0).
    assert gaze.num_read == 6774 + 6828 + 6779
    assert gaze.dropped["saccade"] == 1972 + 2370 + 782
    assert gaze.dropped["blink"] == 869 + 236 + 25
    assert gaze.dropped["unclassified"] == 1932 + 1338 + 800
    assert gaze.dropped["invalid"] == 401 + 0 + 34
    assert gaze.dropped["outside_picture"] == 7
    assert gaze.time_seconds is not None
    assert 27 < gaze.time_seconds.max() < 27.5


def test_diem_recordings(shared: Path) -> None:
    gaze = read(shared / "gaze" / "diem_brooklyn", size=(1280, 720))
    assert gaze.num_read == 8 * 3667
    assert len(gaze.observers) == 8
    # Counted in the files: neither eye fixates in 146 samples (saccade in both), 1389 (blink), 14 (error).
    assert (gaze.dropped["saccade"], gaze.dropped["blink"], gaze.dropped["error"]) == (146, 1389, 14)
    assert len(gaze) + gaze.dropped["outside_picture"] == 22777 + 338 + 1529 + 3143


def test_coutrot_recordings(shared: Path) -> None:
    path = shared / "gaze" / "coutrot_with_without_sound.mat"
    struct = scipy.io.loadmat(path)["example_EyeData_Coutrot"][0, 0]
    for sound, field in (("with", "with_os"), ("without", "without_os")):
        x_pos, y_pos = (struct[field][0, 0][name] for name in ("x_pos", "y_pos"))
        for clip in (1, 8, 15):
            gaze = read(path, size=(720, 576), clip=clip, sound=sound)
            assert (len(gaze.observers), gaze.num_read) == (18, 18 * 200)
            assert gaze.dropped["invalid"] == (np.isnan(x_pos) | np.isnan(y_pos))[:, clip - 1].sum()
            assert gaze.dropped["outside_picture"] == 0
            assert gaze.x.sum() == pytest.approx(
                np.nansum(np.where(np.isnan(y_pos), np.nan, x_pos)[:, clip - 1] - 1)
            )


def test_ucf_fixation_maps(shared: Path) -> None:
    folder = shared / "gaze" / "ucf_diving" / "fixation"
    gaze = read(folder, size=(720, 404))
    assert gaze.frame is not None
    for number in range(1, 56):
        recorded = scipy.io.loadmat(folder / "maps" / f"{number:04d}.mat")["I"]
        mine = gaze.frame == number - 1
        np.testing.assert_array_equal(fixation_counts(gaze.x[mine], gaze.y[mine], 404, 720), recorded)
