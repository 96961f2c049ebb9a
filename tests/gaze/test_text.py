"""Tables as programs and countries write them: encodings, separators, decimal commas, look-alike characters."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stavis.errors import StavisError
from stavis.gaze.text import parse_number, plain
from support.gaze import read


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, newline: str) -> None:
    text = newline.join(["observer;frame;x;y", "José;0;1,5;2,25", "Zoë;1;3,5;4,25", ""])
    gaze = read(write(tmp_path / "gaze.csv", text, encoding))
    assert gaze.observers == ("José", "Zoë")
    assert (gaze.x.tolist(), gaze.y.tolist()) == ([1.5, 3.5], [2.25, 4.25])


@pytest.mark.parametrize(
    "text",
    [
        'frame,x,y\n0,"1,5","2,25"\n',
        "frame;x;y\n0;1,5;2,25\n",
        "frame\tx\ty\n0\t1,5\t2,25\n",
        "sep=;\nframe;x;y\n0;1,5;2,25\n",
        '"sep=,"\nframe,x,y\n0,1.5,2.25\n',
        "sep=|\nframe|x|y\n0|1,5|2,25\n",
        "frame,x,y\n0,1.5,2.25,\n",
        "frame,x,y,\n0,1.5,2.25\n",
        "frame;x;y\n0;\u00a01,5;2,25\u202f\n",
        "frame;x;y\n0;+1,50e0;2,25\n",
    ],
)
def test_separators_and_decimal_commas(tmp_path: Path, text: str) -> None:
    gaze = read(write(tmp_path / "gaze.csv", text))
    assert (gaze.x.tolist(), gaze.y.tolist()) == ([1.5], [2.25])


def test_separator_line_before_a_table_that_is_no_csv_by_name(tmp_path: Path) -> None:
    assert read(write(tmp_path / "gaze.txt", "sep=;\nframe;x;y\n0;1,5;2\n")).x.tolist() == [1.5]


@pytest.mark.parametrize(
    "cells",
    [["1,234.5", "2.5"], ["1,234", "999"], ["12,5", "3.5"], ["1.234,5", "2"]],
)
def test_commas_that_could_separate_thousands_are_refused(tmp_path: Path, cells: list[str]) -> None:
    text = "frame;x;y\n" + "".join(f"{i};{cell};1\n" for i, cell in enumerate(cells))
    with pytest.raises(StavisError, match=r"thousands") as caught:
        read(write(tmp_path / "gaze.csv", text), size=(2000, 2000))
    assert "'x'" in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Recording timestamp [µs]", "recording Timestamp [μs]"),  # micro sign and Greek mu
        ("Gaze point X", "Gaze\u00a0point\u202fX"),
        ("Größe", "Gro\u0308ße"),
        ("x–axis", "x-axis"),
        ("\ufeffx", "X\u200b"),
        ("ｘ", "x"),
    ],
)
def test_look_alike_names_are_the_same(tmp_path: Path, one: str, other: str) -> None:
    assert plain(one) == plain(other)
    path = write(tmp_path / "gaze.csv", f"frame,{one},y\n0,1,2\n")
    assert read(path, columns={"x": other}).x.tolist() == [1]


def test_units_in_names_of_columns(tmp_path: Path) -> None:
    units = {
        "time_ms": 1e-3,
        "Time [ms]": 1e-3,
        "t (µs)": 1e-6,
        "t [μs]": 1e-6,
        "time [ns]": 1e-9,
        "time (s)": 1,
    }
    for name, seconds in units.items():
        gaze = read(write(tmp_path / "gaze.csv", f"{name};x;y\n1500;1;2\n"), columns={"time": name})
        assert gaze.time_seconds == pytest.approx([1500 * seconds])
        assert not gaze.unit_assumed
    assert read(
        write(tmp_path / "gaze.csv", "timestamps;x;y\n1;1;2\n"), columns={"time": "timestamps"}
    ).unit_assumed


@given(
    value=st.floats(-1e6, 1e6),
    digits=st.integers(0, 12),
    comma=st.booleans(),
    minus=st.sampled_from("-\u2212"),
)
def test_numbers_are_read_as_they_are_written(value: float, digits: int, comma: bool, minus: str) -> None:
    text = f"{value:.{digits}f}"
    written = text.replace("-", minus).replace(".", "," if comma else ".")
    assert parse_number(written) == float(text)


@pytest.mark.parametrize("text", ["1_000", "1,2,3", "1 2", "0x10", "one", "1'000", "--1"])
def test_what_is_not_a_number(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_number(text)
