"""Areas of interest: shapes, files, and the attention that they get."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from stavis import media
from stavis.areas.area import Area, KeyFrame, contains, coverage, fixed_area, rectangle
from stavis.areas.measure import AreaAttention, measure_areas
from stavis.areas.output import write_areas
from stavis.areas.read import read_areas
from stavis.errors import StavisError
from stavis.gaze import Gaze
from support.commands import run_command

SIZE = (160, 80)  # width and height of the test video
RATE = 10
FACES = Path(__file__).parents[2] / "benchmarks" / "find_012_faces.csv"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "in.mp4"
    with media.VideoWriter(path, width=SIZE[0], height=SIZE[1], frame_rate=RATE) as writer:
        for level in range(10):
            writer.write(np.full((SIZE[1], SIZE[0], 3), 20 * level, np.uint8))
    return path


def left_then_right() -> np.ndarray:
    """Ten maps: nine tenths of the mass in the left half for four frames, then in the right half."""
    maps = np.full((10, 8, 16), 0.1, np.float32)
    maps[:4, :, :8] = 0.9
    maps[4:, :, 8:] = 0.9
    return maps


HALVES = [fixed_area("left", rectangle(0, 0, 80, 80)), fixed_area("right", rectangle(80, 0, 80, 80))]

# --- Shapes -----------------------------------------------------------------------------------------------------------


@given(
    st.floats(-50, 150),
    st.floats(-50, 150),
    st.floats(0.1, 200),
    st.floats(0.1, 200),
    st.integers(1, 20),
    st.integers(1, 20),
)
@settings(max_examples=60, deadline=None)
def test_coverage_of_rectangles(
    x: float, y: float, width: float, height: float, rows: int, columns: int
) -> None:
    covered = coverage(rectangle(x, y, width, height), (100, 100), (rows, columns))
    assert covered.min() >= -1e-9
    assert covered.max() <= 1 + 1e-9
    across = max(0.0, min(x + width, 100) - max(x, 0)) / 100
    # Exact along rows; down, to one of the lines sampled at either edge.
    down = max(0.0, min(y + height, 100) - max(y, 0)) / 100
    assert covered.mean() == pytest.approx(across * down, abs=across / (4 * rows) + 1e-9)


def test_coverage_of_polygons_follows_the_even_odd_rule() -> None:
    triangle = np.array([(0, 0), (100, 0), (0, 100)], float)
    covered = coverage(triangle, (100, 100), (50, 50))
    assert covered.mean() == pytest.approx(0.5, abs=1e-3)
    assert covered[0, 0] == 1
    assert covered[-1, -1] == 0
    bow_tie = np.array([(0, 0), (100, 100), (100, 0), (0, 100)], float)
    assert coverage(bow_tie, (100, 100), (40, 40)).mean() == pytest.approx(0.5, abs=1e-3)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_containment_agrees_with_coverage(seed: int) -> None:
    rng = np.random.default_rng(seed)
    polygon = rng.random((5, 2)) * 100
    x, y = rng.random(4000) * 100, rng.random(4000) * 100
    share = coverage(polygon, (100, 100), (64, 64)).mean()
    assert contains(polygon, x, y).mean() == pytest.approx(share, abs=0.03)


def test_moving_areas_are_interpolated_hidden_and_held() -> None:
    area = Area(
        "face",
        (KeyFrame(2, rectangle(0, 0, 10, 10)), KeyFrame(6, rectangle(40, 0, 10, 10)), KeyFrame(8, None)),
    )
    assert area.polygon(1, 0) is None
    assert area.polygon(2, 0)[0].tolist() == [0, 0]
    assert area.polygon(3, 0)[0].tolist() == [10, 0]
    assert area.polygon(7, 0)[0].tolist() == [40, 0]
    assert area.polygon(8, 0) is None
    by_time = Area("face", area.keys[:2], "seconds")
    assert by_time.polygon(0, 4.0)[0].tolist() == [20, 0]
    assert by_time.polygon(0, 99.0)[0].tolist() == [40, 0]


# --- Files ------------------------------------------------------------------------------------------------------------

COCO = {
    "images": [
        {"id": 7, "file_name": "frame_000000.png", "width": 80, "height": 40},
        {"id": 8, "file_name": "frame_000005.png", "width": 80, "height": 40},
    ],
    "categories": [{"id": 1, "name": "face"}, {"id": 2, "name": "logo"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 10, 20]},
        {
            "id": 2,
            "image_id": 7,
            "category_id": 2,
            "segmentation": [[40, 0, 60, 0, 60, 20]],
            "bbox": [40, 0, 20, 20],
        },
        {"id": 3, "image_id": 8, "category_id": 1, "bbox": [20, 0, 10, 20]},
    ],
}
VIA2 = {
    "frame_000000.png123": {
        "filename": "frame_000000.png",
        "regions": [
            {
                "shape_attributes": {"name": "rect", "x": 0, "y": 0, "width": 20, "height": 40},
                "region_attributes": {"name": "face"},
            },
            {
                "shape_attributes": {"name": "circle", "cx": 100, "cy": 20, "r": 10},
                "region_attributes": {"kind": "logo"},
            },
        ],
    },
    "frame_000005.png123": {
        "filename": "frame_000005.png",
        "regions": {
            "0": {
                "shape_attributes": {"name": "rect", "x": 40, "y": 0, "width": 20, "height": 40},
                "region_attributes": {"name": "face"},
            }
        },
    },
}
VIA3 = {
    "attribute": {"1": {"aname": "what", "options": {"0": "face", "1": "logo"}}},
    "file": {"1": {"fid": "1", "fname": "in.mp4"}},
    "metadata": {
        "1_a": {"vid": "1", "z": [0.0], "xy": [2, 0, 0, 20, 40], "av": {"1": "0"}},
        "1_b": {"vid": "1", "z": [0.5], "xy": [2, 40, 0, 20, 40], "av": {"1": "0"}},
        "1_c": {"vid": "1", "z": [0.0], "xy": [7, 80, 0, 120, 0, 120, 40], "av": {"1": "1"}},
        "1_d": {"vid": "1", "z": [0.0, 0.4], "xy": [], "av": {"1": "1"}},
    },
}
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><original_size><width>80</width><height>40</height></original_size></task></meta>
<track id="0" label="face">
<box frame="0" outside="0" occluded="0" keyframe="1" xtl="0" ytl="0" xbr="10" ybr="20"/>
<box frame="5" outside="0" occluded="0" keyframe="1" xtl="20" ytl="0" xbr="30" ybr="20"/>
<box frame="8" outside="1" occluded="0" keyframe="1" xtl="20" ytl="0" xbr="30" ybr="20"/>
</track>
<track id="1" label="logo"><polygon frame="0" outside="0" keyframe="1" points="40.0,0.0;60.0,0.0;60.0,20.0"/></track>
</annotations>"""
TABLE = """area,frame,x,y,width,height,points
face,0,0,0,20,40,
logo,,,,,,"80,0;120,0;120,40"
face,5,40,0,20,40,
face,8,,,,,
"""


def sized_coco(width: object, height: object) -> dict[str, object]:
    return {**COCO, "images": [{**image, "width": width, "height": height} for image in COCO["images"]]}


def write(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("coco.json", COCO),
        ("via.json", VIA2),
        ("project.json", {"_via_settings": {}, "_via_img_metadata": VIA2}),
        ("via3.json", VIA3),
        ("cvat.xml", CVAT),
        ("areas.csv", TABLE),
        ("bom.csv", "\ufeff" + TABLE),
    ],
)
def test_formats_give_the_same_areas(tmp_path: Path, name: str, content: object) -> None:
    face, logo = read_areas(write(tmp_path, name, content), SIZE)
    assert (face.name, logo.name) == ("face", "logo")
    for index, left in ((0, 0), (1, 8), (5, 40)):
        polygon = face.polygon(index, index / RATE)
        assert polygon is not None
        assert (*polygon.min(axis=0), *polygon.max(axis=0)) == pytest.approx((left, 0, left + 20, 40))
    hidden = face.polygon(8, 0.8)
    assert (hidden is None) == (name in ("cvat.xml", "areas.csv", "bom.csv"))
    shown = logo.polygon(2, 0.2)
    assert shown is not None
    assert shown.mean(axis=0) == pytest.approx(
        (100, 20) if ("via" in name and "3" not in name) or name == "project.json" else (106.67, 13.33),
        abs=0.1,
    )


def test_one_image_stands_for_the_whole_video(tmp_path: Path) -> None:
    content = {**COCO, "images": COCO["images"][:1], "annotations": COCO["annotations"][:2]}
    for area in read_areas(write(tmp_path, "coco.json", content), SIZE):
        assert area.polygon(0, 0.0) is area.polygon(500, 50.0)


def test_sizes_may_be_texts(tmp_path: Path) -> None:
    face, _ = read_areas(write(tmp_path, "coco.json", sized_coco("80", "40")), SIZE)
    assert face.polygon(0, 0.0)[2].tolist() == [20, 40]


def test_numbers_of_a_category_and_tracks_are_told_apart(tmp_path: Path) -> None:
    boxes = [{"image_id": 7, "category_id": 1, "bbox": [x, 0, 5, 5]} for x in (0, 10)]
    content = {**COCO, "annotations": boxes}
    assert [a.name for a in read_areas(write(tmp_path, "a.json", content), SIZE)] == ["face", "face 2"]
    content = {**COCO, "annotations": [{**box, "track_id": n} for n, box in enumerate(boxes, 4)]}
    assert [a.name for a in read_areas(write(tmp_path, "a.json", content), SIZE)] == ["face 4", "face 5"]


def test_areas_of_one_name_are_numbered(tmp_path: Path) -> None:
    """In VIA's files as in COCO's; the second face of the second image moves on from that of the first."""

    def region(name: str, x: int) -> dict[str, object]:
        shape = {"name": "rect", "x": x, "y": 0, "width": 20, "height": 40}
        return {"shape_attributes": shape, "region_attributes": {"class": name}}

    images = [
        [region("face", 0), region("face", 40), region("dog", 100)],
        [region("face", 0), region("face", 80)],
    ]
    content = {
        f"{number}": {"filename": f"frame_{number}.png", "regions": regions}
        for number, regions in enumerate(images)
    }
    areas = read_areas(write(tmp_path, "via2.json", content), SIZE)
    assert [area.name for area in areas] == ["face", "face 2", "dog"]
    assert [area.polygon(1, 0.1)[0, 0] for area in areas[:2]] == [0, 80]
    metadata = {f"{x}": {"vid": "1", "z": [0.0], "xy": [2, x, 0, 20, 40], "av": {"1": "0"}} for x in (0, 40)}
    areas = read_areas(write(tmp_path, "via3.json", {**VIA3, "metadata": metadata}), SIZE)
    assert [area.name for area in areas] == ["face", "face 2"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "area,x,y,width,height\nlogo,500,0,10,10\n",
            r"'logo' is never inside the picture of 160x80",
        ),
        ("a.csv", "area,x,y,width,height\nlogo,0,0,0,10\n", "never inside"),
        ("a.csv", "area,x,y,width,height\nlogo,0,zero,10,10\n", "line 2: could not convert"),
        ("a.csv", "area,x,y\nlogo,0,0\n", "needed are area and"),
        ("a.csv", "", "columns are none"),
        ("a.csv", "area,points\nlogo,0 0 1\n", "odd number of coordinates"),
        ("a.csv", "area,points\nlogo,0 0 1 1\n", "3 or more corners"),
        ("a.csv", "area,frame,x,y,width,height\nlogo,0,,,,\n", "hidden in all"),
        ("a.csv", "area,x,y,width,height\nlogo,nan,0,5,5\n", "not a polygon"),
        (
            "a.csv",
            "area,x,y,width,height\nlogo,0,0,5,5\nlogo,9,0,5,5\n",
            "a.csv: line 3: area 'logo' has two shapes; areas need names of their own",
        ),
        (
            "a.csv",
            "area,frame,x,y,width,height\nlogo,4,0,0,5,5\nlogo,4,,,,\n",
            "line 3: area 'logo' has two shapes at frame 4",
        ),
        ("a.csv", "x,y,width,height,area\n0,0,5,5\n0,0,5,5\n", "line 3: area '' has two shapes"),
        (
            "a.json",
            {**COCO, "annotations": [{**COCO["annotations"][0], "track_id": 1}] * 2},
            "area 'face 1' has two shapes at frame 0",
        ),
        ("a.json", sized_coco(-1, 40), "a picture of -1x40 pixels"),
        ("a.json", sized_coco([1], 40), "as areas: TypeError"),
        ("a.xml", CVAT.replace("<width>80", "<width>0"), "a picture of 0x40 pixels; both must be above 0"),
        ("a.xml", CVAT.replace("<width>80", "<width>"), "cannot be read as areas: ValueError"),
        ("a.json", "{", "cannot be read as areas"),
        ("a.json", "[1]", "no known format"),
        ("a.json", {"images": [], "annotations": []}, "has no areas"),
        ("a.json", {"images": [], "annotations": [{"image_id": 1}]}, "cannot be read as areas: KeyError"),
        ("a.xml", "<annotations><image/></annotations>", "not a file of `CVAT for video`"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "declares a document type"),
        ("a.xml", "<annotations>", "cannot be read as areas: ParseError"),
        ("a.txt", "x", "no known format"),
    ],
)
def test_errors_name_what_is_wrong(tmp_path: Path, name: str, content: object, message: str) -> None:
    with pytest.raises(StavisError, match=message):
        read_areas(write(tmp_path, name, content), SIZE)


@given(st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_gives_areas_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("any.json", "any.csv", "any.xml"):
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(StavisError):
            read_areas(folder / name, SIZE)


def test_committed_faces_read_as_four_moving_areas() -> None:
    areas = read_areas(FACES, (1280, 720))
    assert len(areas) == 4
    assert all(len(area.keys) == 9 for area in areas)


# --- Attention --------------------------------------------------------------------------------------------------------


def test_shares_ranks_and_times(video: Path) -> None:
    attention = measure_areas(video, HALVES, maps=left_then_right())
    assert len(attention.rows) == 20
    first, last = attention.rows[:2], attention.rows[-2:]
    assert [row.share for row in first] == pytest.approx([0.9, 0.1])
    assert [row.ratio for row in first] == pytest.approx([1.8, 0.2])
    assert [row.rank for row in first] == [1, 2]
    assert [row.rank for row in last] == [2, 1]
    left, right = attention.summary
    assert left.share == pytest.approx((4 * 0.9 + 6 * 0.1) / 10)
    assert (left.lead_seconds, right.lead_seconds) == pytest.approx((0.4, 0.6))
    assert (left.first_peak_seconds, right.first_peak_seconds) == pytest.approx((0.0, 0.4))
    assert right.visible_seconds == pytest.approx(1.0)


def test_hidden_areas_have_no_rank_and_no_share(video: Path) -> None:
    late = Area("late", (KeyFrame(6, rectangle(80, 0, 80, 80)),))
    attention = measure_areas(video, [late, HALVES[0]], maps=left_then_right())
    assert [(row.visible, row.rank) for row in attention.rows[:2]] == [(0, 0), (1, 1)]
    assert np.isnan(attention.rows[0].ratio)
    assert attention.summary[0].visible_seconds == pytest.approx(0.4)
    assert attention.summary[0].share == pytest.approx(0.9)


def test_gaze_gives_dwell_times_and_observers(video: Path) -> None:
    # Ann looks left all the time, Ben left for two frames and then right; Eve has no gaze.
    frames = np.tile(np.arange(10), 2)
    x = np.array([40.0] * 10 + [40.0] * 2 + [120.0] * 8)
    observer = np.repeat([0, 1], 10)
    gaze = Gaze(("Ann", "Ben", "Eve"), observer, x, np.full(20, 40.0), frames, None, 20, {})
    attention = measure_areas(video, HALVES, maps=left_then_right(), gaze=gaze)
    assert [row.gaze_share for row in attention.rows[::2]] == [1.0] * 2 + [0.5] * 8
    left, right = attention.summary
    assert (left.gaze_share, right.gaze_share) == pytest.approx((0.6, 0.4))
    assert (left.dwell_seconds, right.dwell_seconds) == pytest.approx((1.2 / 3, 0.8 / 3))
    assert (left.observers_share, right.observers_share) == pytest.approx((2 / 3, 1 / 3))
    assert (left.first_gaze_seconds, right.first_gaze_seconds) == pytest.approx((0.0, 0.2))


def test_written_results_read_back(video: Path, tmp_path: Path) -> None:
    attention = write_areas(video, HALVES, tmp_path / "out", maps=left_then_right())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "areas.csv",
        "areas_summary.csv",
        "areas.png",
        "areas.mp4",
    }
    with (tmp_path / "out" / "areas.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["share"]) for row in rows] == pytest.approx([row.share for row in attention.rows])
    assert rows[0]["gaze_share"] == ""
    frames = list(media.read_frames(tmp_path / "out" / "areas.mp4"))
    assert len(frames) == 10
    assert frames[0].image.shape == (80, 160, 3)


def test_any_name_is_shown_as_it_is(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$ begins no formula, and what begins with _ is not hidden."""
    shown: list[str] = []

    def keep(figure: Figure, *_: object, **__: object) -> None:
        figure.draw_without_rendering()
        shown.extend(text.get_text() for text in figure.axes[0].get_legend().get_texts())

    monkeypatch.setattr(Figure, "savefig", keep)
    names = ["$x^$", "$x^2$", "_face", "\ud800"]
    regions = [
        {
            "shape_attributes": {"name": "rect", "x": 0, "y": 0, "width": 20, "height": 40},
            "region_attributes": {"name": name},
        }
        for name in names
    ]
    file = write(tmp_path, "via.json", {"a": {"filename": "a.png", "regions": regions}})
    write_areas(video, file, tmp_path / "out", maps=left_then_right())
    assert [text.replace(r"\$", "$").strip() for text in shown] == [*names[:3], "?"]


def test_one_frame(tmp_path: Path) -> None:
    with media.VideoWriter(tmp_path / "one.mp4", width=160, height=80, frame_rate=RATE) as writer:
        writer.write(np.zeros((80, 160, 3), np.uint8))
    attention = write_areas(tmp_path / "one.mp4", HALVES, tmp_path / "out", maps=left_then_right()[:1])
    assert [row.share for row in attention.summary] == pytest.approx([0.9, 0.1])
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_tables_as_pandas(video: Path) -> None:
    pytest.importorskip("pandas")
    attention = measure_areas(video, HALVES, maps=left_then_right())
    assert isinstance(attention, AreaAttention)
    table = attention.to_pandas()
    assert table.groupby("area")["rank"].min().to_dict() == {"left": 1, "right": 1}
    assert list(attention.summary_to_pandas()["area"]) == ["left", "right"]


def test_command_line(video: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "maps.npz", saliency=left_then_right())
    write(tmp_path, "areas.csv", TABLE)
    write(tmp_path, "gaze.csv", "observer,frame,x,y\n" + "".join(f"a,{t},10,20\n" for t in range(10)))
    command = [
        "areas",
        video,
        "--areas",
        tmp_path / "areas.csv",
        "--maps",
        tmp_path / "maps.npz",
        "-o",
        tmp_path / "out",
    ]
    output = run_command(*command, "--gaze", tmp_path / "gaze.csv", "--no-overlay")
    assert "face" in output
    assert "of real gaze" in output
    assert (tmp_path / "out" / "in" / "areas_summary.csv").exists()
    with pytest.raises(StavisError, match="--screen 12"):
        run_command(*command, "--gaze", tmp_path / "gaze.csv", "--screen", "12")
