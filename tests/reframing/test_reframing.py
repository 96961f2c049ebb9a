"""Reframing: the path of the window, shot cuts, files, and the videos that come out."""

import csv
import itertools
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stavis import media
from stavis.errors import StavisError
from stavis.prediction.options import PredictOptions
from stavis.reframing.camera import CameraSettings, CropWindow, plan_windows, shrink_map, window_size
from stavis.reframing.path import MotionCosts, best_path, smooth_path
from stavis.reframing.path_files import PATH_NAMES, PathFormat, write_path
from stavis.reframing.reframe import crop, plan_reframing, reframe
from stavis.reframing.shots import ShotDetector
from support.commands import run_command
from support.videos import make_video

RATE = 25


def spot(x: float, y: float = 0.5, size: tuple[int, int] = (36, 64)) -> np.ndarray:
    """A map of a spot at (x, y), as fractions of the picture."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    distance = ((columns + 0.5) / size[1] - x) ** 2 + ((rows + 0.5) / size[0] - y) ** 2
    return np.exp(-distance / (2 * 0.05**2)).astype(np.float32)


def plan(positions: np.ndarray, starts: tuple[int, ...] = (0,), **options: object) -> np.ndarray:
    """(T, 4) windows of 9:16 in a 1280x720 picture for a spot that is at `positions` (T,) or (T, 2)."""
    points = positions if positions.ndim == 2 else np.stack([positions, np.full(len(positions), 0.5)], axis=1)
    maps = [shrink_map(spot(x, y)) for x, y in points]
    times = np.arange(len(maps)) / RATE
    return np.array(
        [w[2:] for w in plan_windows(maps, times, starts, (1280, 720), CameraSettings(**options))]
    )


def write_video(path: Path, pictures: list[np.ndarray], **options: object) -> Path:
    height, width = pictures[0].shape[:2]
    with media.VideoWriter(path, width=width, height=height, frame_rate=RATE, **options) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


def scene(seed: int, num: int, size: tuple[int, int] = (90, 160)) -> list[np.ndarray]:
    """A shot of one coarse pattern of random colors that pans slowly."""
    colors = np.random.default_rng(seed).integers(0, 256, (6, 20, 3)).astype(np.uint8)
    wide = np.kron(colors, np.ones((size[0] // 6, size[1] // 10, 1), np.uint8))
    return [np.ascontiguousarray(wide[:, t : t + size[1]]) for t in range(num)]


def luma_error(image: np.ndarray, expected: np.ndarray) -> float:
    """Mean absolute difference in brightness, which 4:2:0 keeps; it halves the resolution of color."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    return float(np.abs(image @ weights - expected @ weights).mean())


# --- Paths ------------------------------------------------------------------------------------------------------------


def brute_force(rewards: np.ndarray, costs: MotionCosts) -> float:
    num_steps, num_cells = rewards.shape
    best = -np.inf
    for path in itertools.product(range(num_cells), repeat=num_steps):
        speeds = np.diff(path, prepend=path[0])
        if np.abs(speeds).max() > 2 or np.abs(np.diff(speeds)).max(initial=0) > 3:
            continue
        best = max(best, path_value(rewards, np.array(path), costs))
    return best


def path_value(rewards: np.ndarray, path: np.ndarray, costs: MotionCosts) -> float:
    speeds = np.diff(path, prepend=path[0])
    value = rewards[np.arange(len(path)), path].sum()
    value -= costs.distance * np.abs(speeds).sum() / rewards.shape[1]
    value -= costs.acceleration * ((np.diff(speeds) / 3) ** 2).sum()
    return value - costs.start * ((speeds[1:] != 0) & (speeds[:-1] == 0)).sum()


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 2), st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_path_is_the_best_of_all(seed: int, start: float, distance: float, acceleration: float) -> None:
    rewards = np.random.default_rng(seed).random((5, 4))
    costs = MotionCosts(start, distance, acceleration)
    # A speed of 2 cells per step: 0.5 ranges of 4 cells per second, at a second per step.
    path = best_path(rewards, 1.0, costs, 0.5)
    assert path_value(rewards, path, costs) == pytest.approx(brute_force(rewards, costs))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_smoothing_stays_within_the_path(positions: list[float], num_frames: int) -> None:
    steps = np.arange(len(positions)) * 0.2 + 0.1
    smooth = smooth_path(steps, np.array(positions), np.linspace(0, len(positions) * 0.2, num_frames))
    assert len(smooth) == num_frames
    assert smooth.min() >= min(positions) - 1e-9
    assert smooth.max() <= max(positions) + 1e-9


def test_window_follows_a_target_across_the_picture() -> None:
    target = np.concatenate([np.full(75, 0.2), np.linspace(0.2, 0.8, 75), np.full(75, 0.8)])
    windows = plan(target)
    inside = (windows[:, 0] <= target * 1280) & (target * 1280 < windows[:, 0] + windows[:, 2])
    assert inside.all()
    assert len(set(windows[:50, 0])) == 1
    speeds = np.diff(windows[:, 0])
    assert speeds.min() >= 0
    assert speeds.max() * RATE / 1280 <= 0.45


def test_jitter_does_not_move_the_window() -> None:
    target = 0.6 + np.random.default_rng(0).normal(0, 0.03, 150)
    assert len(set(plan(target)[:, 0])) == 1


def test_a_brief_glance_aside_does_not_move_the_window() -> None:
    target = np.full(150, 0.25)
    target[70:76] = 0.9
    assert len(set(plan(target)[:, 0])) == 1


def test_window_starts_anew_at_a_cut() -> None:
    target = np.repeat([0.15, 0.85], 50)
    windows = plan(target, starts=(0, 50))
    assert len(set(windows[:50, 0])) == len(set(windows[50:, 0])) == 1
    assert windows[50, 0] - windows[49, 0] > 500


def test_flat_maps_give_the_center_crop() -> None:
    times = np.arange(30) / RATE
    maps = [shrink_map(np.ones((36, 64), np.float32))] * 30
    windows = plan_windows(maps, times, [0], (1280, 720), CameraSettings())
    # Of an even number of positions none is the middle: half a cell off.
    assert [w.x + w.width / 2 for w in windows] == pytest.approx([640] * 30, abs=5)


def test_zoom_moves_in_on_a_small_target_and_follows_on_both_axes() -> None:
    target = np.stack([np.full(150, 0.3), np.concatenate([np.full(75, 0.3), np.full(75, 0.7)])], axis=1)
    windows = plan(target, max_zoom=2.0)
    assert windows[-1, 2] == pytest.approx(404 / 2, rel=0.1)
    assert np.abs(np.diff(windows[:, 2])).max() < 3
    for (x, y), (left, top, width, height) in zip(target[[20, -1]], windows[[20, -1]], strict=True):
        assert left < x * 1280 < left + width
        assert top < y * 720 < top + height


def test_higher_smoothness_moves_less() -> None:
    target = 0.5 + 0.3 * np.sin(np.arange(250) / 30)
    travel = [np.abs(np.diff(plan(target, smoothness=value)[:, 0])).sum() for value in (0.2, 1, 5)]
    assert travel[0] >= travel[1] >= travel[2]
    assert travel[0] > travel[2]


@given(
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.floats(0.05, 20),
    st.sampled_from([(0.0, 0.0, 1.0, 1.0), (0.1, 0.2, 0.7, 0.9), (0.0, 0.0, 1e-6, 1.0)]),
    st.sampled_from([1.0, 1.7]),
)
@settings(max_examples=60, deadline=None)
def test_windows_lie_inside_the_picture(
    width: int, height: int, aspect: float, bounds: tuple[float, float, float, float], zoom: float
) -> None:
    size = window_size(width, height, aspect, bounds)
    assert 1 <= size[0] <= width
    assert 1 <= size[1] <= height
    maps = [shrink_map(spot(x, x, (8, 8))) for x in (0.0, 1.0, 0.5)]
    options = CameraSettings(aspect=aspect, bounds=bounds, max_zoom=zoom)
    for window in plan_windows(maps, [0.0, 0.1, 1.0], [0], (width, height), options):
        assert window.x >= 0
        assert window.y >= 0
        assert window.x + window.width <= width + 1e-6
        assert window.y + window.height <= height + 1e-6


@pytest.mark.parametrize("max_speed", [1e308, 0.1, 0.03, 0.01, 0.001])
@pytest.mark.parametrize("num_frames", [9, 150])
def test_speed_limits_hold(max_speed: float, num_frames: int) -> None:
    target = np.repeat([0.1, 0.9], [num_frames // 2, num_frames - num_frames // 2])
    left = plan(target, max_speed=max_speed, smoothness=0.001)[:, 0]
    span = min(RATE, num_frames - 1)
    # Windows stand on whole pixels.
    assert np.abs(left[span:] - left[:-span]).max() <= max_speed * 1280 * span / RATE + 1
    if num_frames == 150 and max_speed > 0.01:
        assert np.ptp(left) > 0


def test_bounds_are_kept() -> None:
    windows = plan(np.full(50, 0.95), bounds=(0.0, 0.1, 0.6, 0.9))
    assert (windows[:, 0] + windows[:, 2]).max() <= 0.6 * 1280
    assert windows[:, 1].min() >= 72
    assert (windows[:, 1] + windows[:, 3]).max() <= 648


@pytest.mark.parametrize(
    "options",
    [{"aspect": 0}, {"max_zoom": 0.5}, {"smoothness": 0}, {"max_speed": 0}, {"bounds": (0.5, 0, 0.5, 1)}],
)
def test_wrong_settings_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        CameraSettings(**options)


# --- Shot cuts --------------------------------------------------------------------------------------------------------


def starts_of(pictures: list[np.ndarray]) -> list[int]:
    detector = ShotDetector()
    for picture in pictures:
        detector.add(picture)
    return detector.shot_starts()


def test_cuts_are_found_and_motion_is_not_one() -> None:
    pictures = [*scene(1, 20), *scene(2, 30), *scene(3, 12)]
    assert starts_of(pictures) == [0, 20, 50]


def test_a_flash_is_not_a_cut() -> None:
    pictures = scene(1, 30)
    pictures[15] = np.full_like(pictures[15], 255)
    pictures[16] = np.full_like(pictures[16], 250)
    assert starts_of(pictures) == [0]


def test_a_fade_is_not_a_cut() -> None:
    first, second = scene(1, 1)[0].astype(float), scene(2, 1)[0].astype(float)
    fade = [(first * (1 - t / 20) + second * t / 20).astype(np.uint8) for t in range(21)]
    assert starts_of([*scene(1, 10)[::-1], *fade, *scene(2, 10)]) == [0]


def test_no_frames_and_one_frame() -> None:
    assert starts_of([]) == []
    assert starts_of(scene(1, 1)) == [0]


# --- Files ------------------------------------------------------------------------------------------------------------

WINDOWS = [
    CropWindow(0, 0.0, 3, 0, 50, 90),
    CropWindow(1, 0.04, 3.5, 0, 49.25, 88.65),
    CropWindow(2, 0.08, 5, 1, 48, 86.4),
]


def read_path(path: Path) -> list[CropWindow]:
    text = path.read_text(encoding="utf-8")
    rows = json.loads(text)["frames"] if path.suffix == ".json" else list(csv.DictReader(text.splitlines()))
    return [
        CropWindow(int(row["index"]), *(float(row[name]) for name in CropWindow._fields[1:])) for row in rows
    ]


@pytest.mark.parametrize("name", ["json", "csv"])
def test_path_files_read_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"reframe.{name}"
    write_path(path, WINDOWS, name, {"width": 50, "height": 90})
    assert read_path(path) == WINDOWS


@pytest.mark.parametrize("zoom", [1.0, 1.5])
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_ffmpeg_executes_the_commands(tmp_path: Path, zoom: float) -> None:
    pictures = scene(1, 40)
    video = write_video(tmp_path / "in.mp4", pictures, pixel_format="yuv444p", crf=4)
    maps = np.stack([spot(x) for x in np.linspace(0.1, 0.9, 40)])
    options = CameraSettings(max_zoom=zoom, max_speed=2.0, costs=MotionCosts(0.01, 0.01, 0.001))
    result = reframe(video, tmp_path / "out", maps=maps, settings=options, path_format="sendcmd")
    assert result.path is not None
    assert len({w.x for w in result.path.windows}) > 5
    commands = (tmp_path / "out" / "reframe.cmd").read_text()
    # The command that the file itself names.
    line = next(line for line in commands.splitlines() if line.startswith("# ffmpeg"))
    filters = line.split("'")[1]
    subprocess.run(
        [
            "ffmpeg",
            "-v",
            "error",
            "-i",
            str(video),
            "-vf",
            filters,
            "-crf",
            "4",
            str(tmp_path / "cropped.mp4"),
        ],
        cwd=tmp_path / "out",
        check=True,
    )
    frames = list(media.read_frames(tmp_path / "cropped.mp4"))
    assert len(frames) == 40
    for frame, source, window in zip(frames, media.read_frames(video), result.path.windows, strict=True):
        expected = crop(source.image, window, result.path.output_size)
        assert luma_error(frame.image, expected) < (3 if zoom == 1 else 8), frame.index


# --- Videos -----------------------------------------------------------------------------------------------------------


def test_reframed_video_has_the_picture_the_times_and_the_audio(tmp_path: Path) -> None:
    rate = 22050
    samples = np.sin(np.arange(2 * rate) / 20).astype(np.float32) * 0.5
    media.write_wave(tmp_path / "tone.wav", samples, rate)
    pictures = [*scene(1, 25), *scene(2, 25)]
    video = write_video(tmp_path / "in.mp4", pictures, audio_from=tmp_path / "tone.wav")
    maps = np.stack([spot(x) for x in np.repeat([0.1, 0.9], 25)])
    result = reframe(video, tmp_path / "out", maps=maps, preview=True)
    assert [path.name for path in result.files] == ["reframed.mp4", "preview.mp4", "reframe.json"]
    assert result.path is not None
    assert result.path.shot_starts == [0, 25]
    assert result.path.output_size == (50, 90)
    before, after = media.probe(video), media.probe(tmp_path / "out" / "reframed.mp4")
    assert (after.width, after.height, after.num_frames) == (50, 90, 50)
    assert after.audio is not None
    assert after.audio.codec == before.audio.codec
    first, last = (list(media.read_frames(result.files[0]))[index].image for index in (0, -1))
    assert luma_error(first, pictures[0][:, :50]) < 3
    assert luma_error(last, pictures[-1][:, -50:]) < 3
    preview = list(media.read_frames(result.files[1]))
    assert preview[0].image.shape == (90, 160, 3)
    assert preview[0].image[:, 60:].mean() < 0.5 * pictures[0][:, 60:].mean()
    described = json.loads(result.files[2].read_text())
    assert {"width": 50, "height": 90}.items() <= described.items()
    assert described["frames"][30]["time_seconds"] == pytest.approx(30 / RATE)
    # Again: left alone; with other settings: refused.
    again = reframe(video, tmp_path / "out", maps=maps, preview=True)
    assert again.path is None
    with pytest.raises(StavisError, match="another camera"):
        reframe(video, tmp_path / "out", maps=maps, settings=CameraSettings(aspect=1))


def test_files_of_other_settings_do_not_count_as_finished(tmp_path: Path) -> None:
    video, maps = write_video(tmp_path / "in.mp4", scene(1, 3)), np.stack([spot(0.1)] * 3)
    square = CameraSettings(aspect=1)
    tall = reframe(video, tmp_path / "out", maps=maps, preview=True)
    preview = tall.files[1].read_bytes()
    reframe(video, tmp_path / "out", maps=maps, settings=square, path_format="json", overwrite=True)
    assert reframe(video, tmp_path / "out", maps=maps, settings=square).path is not None
    assert media.probe(tmp_path / "out" / "reframed.mp4").width == 90
    assert reframe(video, tmp_path / "out", maps=maps, settings=square, preview=True).path is not None
    assert tall.files[1].read_bytes() != preview
    for options in ({}, {"preview": True}, {"path_format": "json"}):
        assert reframe(video, tmp_path / "out", maps=maps, settings=square, **options).path is None
    with pytest.raises(StavisError, match="another maps"):
        reframe(video, tmp_path / "out", maps=maps[:, :, ::-1], settings=square)


@pytest.mark.parametrize("path_format", ["csv", "sendcmd"])
def test_path_files_are_skipped_and_not_replaced(tmp_path: Path, path_format: PathFormat) -> None:
    video, maps = write_video(tmp_path / "in.mp4", scene(1, 3)), np.stack([spot(0.1)] * 3)
    first = reframe(video, tmp_path / "out", maps=maps, path_format=path_format)
    assert [path.name for path in first.files] == [PATH_NAMES[path_format], "reframe.json"]
    assert reframe(video, tmp_path / "out", maps=maps, path_format=path_format).path is None
    square = CameraSettings(aspect=1)
    with pytest.raises(StavisError, match="another camera"):
        reframe(video, tmp_path / "out", maps=maps, settings=square, path_format=path_format)
    assert reframe(video, tmp_path / "out", maps=maps).path is not None
    assert reframe(video, tmp_path / "out", maps=maps, path_format=path_format).path is None


def test_one_frame_and_an_aspect_that_it_has(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = write_video(tmp_path / "one.mp4", scene(1, 1))
    path = plan_reframing(video, maps=spot(0.9)[None])
    assert len(path.windows) == 1
    assert path.windows[0].x == 160 - 50
    result = reframe(video, tmp_path / "out", maps=spot(0.9)[None], preview=True)
    assert [len(list(media.read_frames(file))) for file in result.files[:2]] == [1, 1]
    path = plan_reframing(video, maps=spot(0.9)[None], settings=CameraSettings(aspect=16 / 9))
    assert path.windows[0][2:] == (0, 0, 160, 90)
    assert "nothing is cropped" in caplog.text


def test_gaps_are_kept_where_asked(tmp_path: Path) -> None:
    video = make_video(tmp_path / "gap.mkv", 4, times=[0, 0.04, 1000, 1000.04], options={"bf": "0"})
    maps = np.full((4, 8, 8), 0.5, np.float32)
    last = [
        plan_reframing(video, options=PredictOptions(keep_gaps=kept), maps=maps).windows[-1].time_seconds
        for kept in (True, False)
    ]
    assert last[0] == pytest.approx(1000.04, abs=1e-3)
    assert last[1] < 1


def test_rotation_and_pixel_aspect_are_respected(shared: Path) -> None:
    rotated = shared / "media" / "rotated_90.mov"
    path = plan_reframing(rotated, maps=np.ones((3, 8, 8), np.float32), settings=CameraSettings(aspect=1))
    assert path.size == (320, 568)
    assert path.output_size == (320, 320)
    wide = shared / "media" / "sar_2x1.mp4"
    path = plan_reframing(wide, maps=np.ones((150, 8, 8), np.float32), settings=CameraSettings(aspect=1))
    assert path.size == (1280, 360)


def test_wrong_maps_and_formats_are_refused(tmp_path: Path) -> None:
    video = write_video(tmp_path / "in.mp4", scene(1, 3))
    with pytest.raises(ValueError, match="`model` or `maps`"):
        plan_reframing(video)
    with pytest.raises(ValueError, match="allowed are json, csv, sendcmd"):
        reframe(video, tmp_path / "out", path_format="xml")
    with pytest.raises(ValueError, match="floating point"):
        plan_reframing(video, maps=np.ones((8, 8), np.float32))
    with pytest.raises(StavisError, match="holds 2 maps"):
        plan_reframing(video, maps=np.ones((2, 8, 8), np.float32))
    with pytest.raises(StavisError, match="negative"):
        plan_reframing(video, maps=-np.ones((3, 8, 8), np.float32))
    (tmp_path / "maps.npz").write_bytes(b"nothing")
    with pytest.raises(StavisError, match=r"maps.npz: not an .npz file"):
        plan_reframing(video, maps=tmp_path / "maps.npz")


def test_command_line(tmp_path: Path) -> None:
    video = write_video(tmp_path / "in.mp4", scene(1, 6))
    np.savez(tmp_path / "maps.npz", saliency=np.stack([spot(0.1)] * 6))
    command = ["reframe", video, "--maps", tmp_path / "maps.npz", "-o", tmp_path / "out"]
    run_command(*command, "--aspect", "1:1", "--path", "csv")
    windows = read_path(tmp_path / "out" / "in" / "reframe.csv")
    assert {(w.x, w.width, w.height) for w in windows} == {(0, 90, 90)}
    assert not (tmp_path / "out" / "in" / "reframed.mp4").exists()
    for wrong, message in (
        (["--aspect", "9-16"], "--aspect 9-16: must be"),
        (["--bounds", "1,2"], "--bounds 1,2: must be four percentages"),
        (["--bounds", "50,0,40,100"], "--bounds 50,0,40,100: must be four percentages within 0..100"),
    ):
        with pytest.raises(StavisError, match=message):
            run_command(*command, *wrong)
