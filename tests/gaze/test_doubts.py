"""Gaze that cannot be right: refused, or read with a warning that gives the number, the first value and the cause."""

import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stavis.errors import StavisError
from stavis.gaze import assign_frames, check_time
from support.gaze import read

STARTS = np.arange(50) / 25.0  # of a video of 50 frames in two seconds
END = 2.0


def table(path: Path, header: str, rows: list[tuple[object, ...]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


def doubts(path: Path, **options: object) -> tuple[str, ...]:
    """The warnings about the time of gaze on the video of two seconds."""
    gaze = read(path, **options)
    return check_time(gaze, assign_frames(gaze, STARTS, END), STARTS, END)


# Columns


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("time,x,y,x,y", "x, y, x, y"),
        ("time,x,y,X", "x, X"),
        ("time,x,y,Time", "time, Time"),
        ("time,x,y, y ", "y, y"),
    ],
)
def test_columns_named_twice_are_refused(tmp_path: Path, header: str, named: str) -> None:
    path = table(tmp_path / "gaze.csv", header, [tuple(range(header.count(",") + 1))])
    with pytest.raises(StavisError, match=f"columns of the same name: {named}; rename them"):
        read(path)


def test_columns_that_are_not_read_may_have_one_name(tmp_path: Path) -> None:
    path = table(tmp_path / "gaze.csv", "time,x,y,note,note,,", [(0, 1, 2, "a", "b", "", "")])
    assert len(read(path)) == 1
    path = table(tmp_path / "two.csv", "time,x,y,gaze_x", [(0, 1, 2, 3)])
    with pytest.raises(StavisError, match="x and gaze_x could both be x; name one of them"):
        read(path)
    assert read(path, columns={"x": "gaze_x"}).x.tolist() == [3]


# Time


def rows_at(times: list[float], who: str = "ann") -> list[tuple[object, ...]]:
    return [(who, time, 30 + i % 5, 20) for i, time in enumerate(times)]


HEADER = "observer,{},x,y"
REGULAR = [k / 100 for k in range(200)]


def test_gaze_within_the_video_raises_no_doubt(tmp_path: Path) -> None:
    path = table(tmp_path / "gaze.csv", HEADER.format("time"), rows_at([k / 100 - 0.1 for k in range(240)]))
    assert doubts(path) == ()
    frames = table(tmp_path / "frames.csv", HEADER.format("frame"), rows_at(list(range(50))))
    assert doubts(frames) == ()


@pytest.mark.parametrize(
    ("column", "times", "message"),
    [
        (
            "time",
            [t + 674439.55 for t in REGULAR],
            r"all 200 are outside, the first at 674439\.55 s; .* `time_offset_",
        ),
        (
            "time",
            [t - 9 for t in REGULAR],
            r"the first at -9 s; the clock .* `time_offset_seconds=9` would put",
        ),
        ("time", [t + 1.7e9 for t in REGULAR], r"the first at 1700000000 s; .*since 1970\?"),
        (
            "time",
            [t * 1000 for t in REGULAR],
            "199 of 200 samples lie outside .*; they look like ms: `time_unit=ms`",
        ),
        ("timestamp", [t * 1e6 for t in REGULAR], "they look like us: `time_unit=us`"),
        (
            "timestamp [us]",
            [t * 1e9 for t in REGULAR[1:]],
            "all 199 are outside, the first at 10 s; they look like ms",
        ),
        (
            "frame",
            list(range(1000, 1050)),
            "no sample lies in the video's 50 frames, 0 to 49: all 50 .* at frame 1000",
        ),
    ],
)
def test_gaze_on_another_clock_is_refused(
    tmp_path: Path, column: str, times: list[float], message: str
) -> None:
    path = table(tmp_path / "gaze.csv", HEADER.format(column), rows_at(times))
    with pytest.raises(StavisError, match=message) as caught:
        doubts(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "times", "message"),
    [
        (
            "time",
            [k / 10 for k in range(100)],
            "80 of 100 samples lie outside the video's time, 0 to 2 s, the first at 2 s",
        ),
        (
            "frame",
            list(range(200)),
            "150 of 200 samples lie outside the video's 50 frames, 0 to 49, .* at frame 50",
        ),
        (
            "time_ms",
            REGULAR,
            r"all 200 samples lie in frame 0 of 50, the first at 0 s: are times in another unit",
        ),
    ],
)
def test_gaze_mostly_outside_the_video_is_warned_about(
    tmp_path: Path, column: str, times: list[float], message: str
) -> None:
    (warning,) = doubts(table(tmp_path / "gaze.csv", HEADER.format(column), rows_at(times)))
    assert re.search(message, warning)


def test_one_observer_on_another_clock_is_warned_about(tmp_path: Path) -> None:
    rows = rows_at(REGULAR) + rows_at([t + 5000 for t in REGULAR[:100]], "bob")
    (warning,) = doubts(table(tmp_path / "gaze.csv", HEADER.format("time"), rows))
    assert warning.startswith("no sample of bob lies in the video's time, 0 to 2 s, the first at 5000 s")


@pytest.mark.parametrize("cell", ["2019-02-20T14:30:19.5+01:00", "00:00:01.250", "20.02.2019", "14:30:19"])
def test_dates_and_times_of_day_are_named(tmp_path: Path, cell: str) -> None:
    path = table(tmp_path / "gaze.csv", "time,x,y", [(cell, 1, 2)])
    with pytest.raises(StavisError, match="is a date or a time of day; allowed is a number"):
        read(path)


# Positions


def test_y_counted_from_below_or_from_the_center(tmp_path: Path) -> None:
    path = table(tmp_path / "gaze.csv", "frame,x,y", [(0, 1, 0), (0, 2, 47), (0, 3, 10.5)])
    from_below = read(path, origin="bottom-left")
    assert np.floor(from_below.y).tolist() == [47, 0, 37]
    centered = table(tmp_path / "center.csv", "frame,x,y", [(0, 0, 0), (0, -10, 20)])
    gaze = read(centered, origin="center")
    assert (gaze.x.tolist(), gaze.y.tolist()) == ([32, 22], [24, 4])
    # On a screen of 128x96, which shows the video at half its size.
    assert read(centered, origin="center", screen=(128, 96)).y.tolist() == [24, 14]
    fractions = table(tmp_path / "fractions.csv", "frame,norm_pos_x,norm_pos_y", [(0, 0.25, 0.75)])
    columns = {"x": "norm_pos_x", "y": "norm_pos_y"}
    assert read(fractions, unit="fractions", columns=columns).y[0] == pytest.approx(12)
    assert read(fractions, unit="fractions", columns=columns, origin="top-left").y[0] == 36


def test_limit_of_confidence(tmp_path: Path) -> None:
    rows = [(0, 1, 2, 0.9), (1, 1, 2, 0.3), (2, 1, 2, ""), (3, 1, 2, 0.6)]
    path = table(tmp_path / "gaze.csv", "frame,x,y,Confidence", rows)
    assert len(read(path)) == 4
    limited = read(path, min_confidence=0.6)
    assert limited.frame is not None
    assert limited.frame.tolist() == [0, 3]
    assert limited.dropped["low_confidence"] == 2
    named = table(tmp_path / "named.csv", "frame,x,y,quality", [(0, 1, 2, 95)])
    with pytest.raises(
        StavisError, match="`min_confidence` is given, but the file has no column of confidence"
    ):
        read(named, min_confidence=0.6)
    with pytest.raises(StavisError, match="confidence goes up to 95"):
        read(named, min_confidence=0.6, columns={"confidence": "quality"})


def test_gaze_mostly_beside_the_picture_or_in_its_corner_is_warned_about(tmp_path: Path) -> None:
    path = table(tmp_path / "gaze.csv", "frame,x,y", [(i, 30 + 40 * i, 20) for i in range(20)])
    (warning,) = read(path).warnings
    assert "19 of 20 samples lie outside the picture of 64x48, the first at (70, 20)" in warning
    path = table(tmp_path / "zeros.csv", "frame,x,y", [(i, 30 * (i % 2), 20 * (i % 2)) for i in range(40)])
    (warning,) = read(path).warnings
    assert "20 of 40 samples are exactly (0, 0)" in warning


def test_files_of_one_name_in_two_folders_are_two_observers(tmp_path: Path) -> None:
    paths = [
        table(tmp_path / who / "talk.csv", "frame,x,y", [(0, x, 2)]) for who, x in (("ann", 1), ("bob", 9))
    ]
    gaze = read(*paths)
    assert gaze.observers == ("ann/talk", "bob/talk")
    assert gaze.observer.tolist() == [0, 1]


def pupil(path: Path, x: float) -> Path:
    return table(
        path,
        "gaze_timestamp,world_index,confidence,norm_pos_x,norm_pos_y",
        [(0, 0, 1, x, 0.5), (1, 0, 1, x, 0.5)],
    )


def test_exports_of_one_name_below_two_folders_are_two_observers(tmp_path: Path) -> None:
    """As trackers export: in folders that are the same for everybody, too."""
    exports = [pupil(tmp_path / who / "exports" / "000" / "gaze_positions.csv", x)
               for who, x in (("ann", 0.25), ("bob", 0.75))]  # fmt: skip
    assert read(*exports).observers == ("ann/000", "bob/000")
    smi = [tmp_path / who / "talk.txt" for who in ("ann", "bob")]
    for path in smi:
        header = "## Calibration Area:\t64\t48\nTime\tType\tTrial\tL POR X [px]\tL POR Y [px]\tL Event Info"
        path.write_text(f"{header}\n0\tSMP\t1\t9\t9\tFixation\n")
    assert read(*smi).observers == ("ann/talk", "bob/talk")
    tables = [
        table(tmp_path / who / "export" / "gaze.csv", "frame,x,y", [(0, 1, 2)]) for who in ("ann", "bob")
    ]
    assert read(*tables).observers == ("ann/gaze", "bob/gaze")
    deep = [table(tmp_path / a / b / "gaze.csv", "frame,x,y", [(0, 1, 2)]) for a in "ab" for b in "cd"]
    assert len(set(read(*deep).observers)) == 4


@pytest.mark.parametrize("option", [{"time_offset_seconds": -5.0}, {"time_unit": "ms"}])
def test_options_of_time_are_refused_where_gaze_is_by_frames(
    tmp_path: Path, option: dict[str, object]
) -> None:
    path = table(tmp_path / "gaze.csv", "frame,time,x,y", [(0, 5, 1, 2)])
    assert read(path).frame is not None
    with pytest.raises(
        StavisError, match=r"gaze\.csv: its gaze is by video frames, which `time_offset_seconds`"
    ):
        read(path, **option)


# Maps


def write_maps(folder: Path, picture: np.ndarray, num: int = 2) -> Path:
    folder.mkdir()
    for number in range(1, num + 1):
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number:04d}.png")
    return folder


def disk(radius: float) -> np.ndarray:
    y, x = np.mgrid[:48, :64]
    return 255 * (np.hypot(x - 30, y - 20) <= radius)


Y, X = np.mgrid[:48, :64]


@pytest.mark.parametrize(
    ("name", "picture", "what"),
    [
        (
            "narrow density",
            255 * np.exp(-((X - 30) ** 2 + (Y - 20) ** 2) / (2 * 3**2)),
            r"a density map \(\d+ gray",
        ),
        (
            "wide density",
            255 * np.exp(-((X - 30) ** 2 + (Y - 20) ** 2) / (2 * 20**2)),
            r"a density map \(\d+ gray",
        ),
        ("mask", disk(15), "a mask, or fixations drawn as dots"),
        ("white picture with a black mask", 255 - disk(15), "a mask, or fixations drawn as dots"),
        ("fixations drawn as dots", disk(2), "a mask, or fixations drawn as dots"),
        ("lookup of classes", (X // 8) % 3, "a mask, or fixations drawn as dots"),
    ],
)
def test_maps_that_are_not_fixation_maps_are_refused(
    tmp_path: Path, name: str, picture: np.ndarray, what: str
) -> None:
    with pytest.raises(StavisError, match=rf"0001\.png: \d+ of 3072 pixels are above 0, \d+ .*: {what}"):
        read(write_maps(tmp_path / name, picture))


def test_dense_fixation_maps_are_read(tmp_path: Path) -> None:
    # 222 samples of 12 observers, in short paths, as in the densest map of UCF Sports.
    rng = np.random.default_rng(3)
    starts = np.repeat(rng.uniform((5, 5), (58, 42), (12, 2)), 19, axis=0)
    points = (starts + rng.normal(0, 1.2, starts.shape)).astype(int)
    picture = np.zeros((48, 64))
    picture[points[:, 1], points[:, 0]] = 255
    assert len(read(write_maps(tmp_path / "maps", picture))) == 2 * np.count_nonzero(picture)


# Folders and names


def test_other_files_in_a_folder_of_gaze_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "gaze"
    for name, x in (("ann", 1), ("bob", 2)):
        table(folder / f"{name}.csv", "frame,x,y", [(0, x, 3)])
    (folder / "README.txt").write_text("Recorded with care.\n")
    (folder / "about.json").write_text('{"Name": "study"}')
    (folder / "talk.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    (folder / "._ann.csv").write_bytes(b"\0\5\x16\7")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf")
    gaze = read(folder)
    assert gaze.observers == ("ann", "bob")
    assert gaze.warnings == ("not gaze, and passed over: README.txt, about.json",)


def test_fixation_maps_with_dot_files_and_capitals(tmp_path: Path) -> None:
    picture = np.zeros((48, 64))
    picture[20, 30] = 255
    folder = write_maps(tmp_path / "maps", picture)
    (folder / "0002.png").rename(folder / "0002.PNG")
    for name in ("._0001.png", "._0002.PNG", "notes.txt"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    assert len(read(folder)) == 2


def test_videos_are_found_in_any_unicode_form_and_case(tmp_path: Path) -> None:
    apart, joined = (unicodedata.normalize(form, "café") for form in ("NFD", "NFC"))
    path = table(tmp_path / "all.csv", "video,frame,x,y", [(f"{apart}.mp4", 0, 5, 6), ("tea", 0, 7, 8)])
    assert read(path, video=joined).x.tolist() == [5]
    assert read(path, video="Tea").x.tolist() == [7]
    (tmp_path / "all.json").write_text(f'{{"{joined}": [[[1, 2]]]}}', encoding="utf-8")
    assert read(tmp_path / "all.json", video=apart).x.tolist() == [2]
