"""Saliency-driven encoding: offsets, regions, files for other encoders, and what the encoders make of them."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stavis import media
from stavis.encoding.encode import encode, plan_offsets
from stavis.encoding.offsets import OffsetPlanner, OffsetSettings, balance, block_size, merge_blocks
from stavis.encoding.roi import ROI_NAMES, reduce_values, write_roi
from stavis.errors import StavisError
from stavis.media.display import Display
from stavis.media.transcode import EncoderSettings, Region, stored_box, transcode
from support.commands import run_command
from support.videos import make_video

SIZE = (192, 128)  # width and height of the test videos
LEFT = np.tile(
    np.where(np.arange(24) < 12, 1.0, 0.02).astype(np.float32), (16, 1)
)  # the left half is salient


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of moving noise, alike everywhere, with audio."""
    folder = tmp_path_factory.mktemp("video")
    media.write_wave(folder / "tone.wav", np.sin(np.arange(22050) / 20).astype(np.float32) * 0.5, 22050)
    noise = np.random.default_rng(0).integers(0, 256, (SIZE[1] // 4, SIZE[0] // 4 + 12, 3)).astype(np.uint8)
    path = folder / "noise.mp4"
    with media.VideoWriter(
        path, width=SIZE[0], height=SIZE[1], frame_rate=25, audio_from=folder / "tone.wav", crf=4
    ) as writer:
        for t in range(12):
            writer.write(np.kron(noise[:, t : t + SIZE[0] // 4], np.ones((4, 4, 1), np.uint8)))
    return path


def errors_by_half(before: Path, after: Path) -> tuple[float, float]:
    """Mean squared error of the left and of the right half."""
    pairs = list(zip(media.read_frames(before), media.read_frames(after), strict=True))
    squared = np.mean([(a.image.astype(float) - b.image) ** 2 for a, b in pairs], axis=0)
    half = squared.shape[1] // 2
    return float(squared[:, :half].mean()), float(squared[:, half:].mean())


# --- Offsets ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([16, 64]), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_offsets_keep_the_estimated_bits(width: int, height: int, block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    planner = OffsetPlanner(width, height, block, OffsetSettings(max_offset=25, step=0.01))
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    offsets = planner.add(image, rng.random((9, 16)) ** 4, 0.0)
    assert offsets.shape == (-(-height // block), -(-width // block))
    assert np.abs(offsets).max() <= 25


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=30), st.integers(0, 1000))
def test_balanced_offsets_need_as_many_bits(offsets: list[float], seed: int) -> None:
    bits = np.random.default_rng(seed).random(len(offsets)) + 0.01
    balanced = balance(np.array(offsets), bits)
    assert (bits * 2 ** (-balanced / 6)).sum() == pytest.approx(bits.sum())
    assert np.ptp(balanced - offsets) == pytest.approx(0, abs=1e-9)


def test_salient_blocks_get_lower_offsets_by_three_per_octave() -> None:
    planner = OffsetPlanner(128, 128, 64, OffsetSettings(1, floor=1e-9, max_offset=25, step=0.01))
    saliency = np.kron(np.array([[8.0, 4.0], [2.0, 2.0]]), np.ones((8, 8)))
    offsets = planner.add(np.zeros((128, 128, 3), np.uint8), saliency, 0.0)
    assert offsets[0, 1] - offsets[0, 0] == pytest.approx(3, abs=0.02)
    assert offsets[1, 0] - offsets[0, 0] == pytest.approx(6, abs=0.02)


def test_a_map_without_saliency_changes_nothing() -> None:
    planner = OffsetPlanner(*SIZE, 16, OffsetSettings())
    assert not planner.add(np.zeros((SIZE[1], SIZE[0], 3), np.uint8), np.zeros((8, 8)), 0.0).any()


def test_offsets_change_slowly() -> None:
    planner = OffsetPlanner(*SIZE, 16, OffsetSettings(step=0.01))
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    first, second = planner.add(image, LEFT, 0.0), planner.add(image, LEFT[:, ::-1], 0.04)
    later = planner.add(image, LEFT[:, ::-1], 3.0)
    assert np.abs(second - first).max() < 2
    assert later == pytest.approx(first[:, ::-1], abs=0.05)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000))
def test_rectangles_cover_the_grid_once(rows: int, columns: int, seed: int) -> None:
    grid = np.random.default_rng(seed).integers(-1, 2, (rows, columns)).astype(float)
    covered, times = np.zeros_like(grid), np.zeros_like(grid)
    for row, column, num_rows, num_columns, value in merge_blocks(grid):
        covered[row : row + num_rows, column : column + num_columns] = value
        times[row : row + num_rows, column : column + num_columns] += 1
    assert np.array_equal(covered, grid)
    assert times.max(initial=0) <= 1


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [False, True])
def test_regions_find_their_place_in_the_stored_picture(rotation: int, flip: bool) -> None:
    display = Display(60, 40, Fraction(1), rotation, flip)
    stored = np.zeros((40, 60), int)
    x, y, x_end, y_end = stored_box(Region(0.25, 0.5, 0.5, 0.75, -3), display)
    stored[y:y_end, x:x_end] = 1
    shown = np.rot90(stored, -rotation // 90)
    shown = shown[:, ::-1] if flip else shown
    width, height = display.size
    expected = np.zeros_like(shown)
    expected[height // 2 : height * 3 // 4, width // 4 : width // 2] = 1
    assert np.array_equal(shown, expected)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (OffsetSettings, {"strength": -1}),
        (OffsetSettings, {"floor": 0}),
        (OffsetSettings, {"max_offset": 0}),
        (OffsetSettings, {"step": 0}),
        (EncoderSettings, {"crf": 60}),
        (EncoderSettings, {"bit_rate": 1}),
        (EncoderSettings, {"codec": "x266", "crf": 20}),
        (EncoderSettings, {"bit_rate": 100_000, "crf": 20}),
        (EncoderSettings, {"preset": "quick", "crf": 20}),
    ],
)
def test_wrong_settings_are_refused(kind: type, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        kind(**options)


# --- Encoders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["x264", "x265"])
@pytest.mark.parametrize("preset", ["ultrafast", "fast"])
def test_encoders_heed_regions(video: Path, tmp_path: Path, codec: str, preset: str) -> None:
    encoder = EncoderSettings(codec, crf=30, preset=preset)
    transcode(video, tmp_path / "plain.mp4", encoder)
    left, right = errors_by_half(video, tmp_path / "plain.mp4")
    transcode(
        video,
        tmp_path / "regions.mp4",
        encoder,
        lambda _: [Region(0, 0, 0.5, 1, -8), Region(0.5, 0, 1, 1, 4)],
    )
    finer, coarser = errors_by_half(video, tmp_path / "regions.mp4")
    assert finer < 0.6 * left
    assert coarser > right


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_encoded_video_keeps_frames_times_and_audio(video: Path, tmp_path: Path, suffix: str) -> None:
    maps = np.repeat(LEFT[None], 12, axis=0)
    result = encode(video, tmp_path / f"encoded{suffix}", maps=maps)
    assert result.transcoded is not None
    assert result.transcoded.num_frames == 12
    before, after = media.probe(video), media.probe(result.file)
    assert (after.width, after.height, after.frame_rate) == (before.width, before.height, before.frame_rate)
    assert before.audio is not None
    assert after.audio is not None
    assert after.audio.codec == before.audio.codec
    times = [[frame.time_seconds for frame in media.read_frames(path)] for path in (video, result.file)]
    assert times[0] == pytest.approx(times[1], abs=2e-3)  # Matroska counts milliseconds
    finer, coarser = errors_by_half(video, result.file)
    assert finer < 0.8 * coarser
    # Again: left alone; with other settings: refused.
    assert encode(video, result.file, maps=maps).transcoded is None
    with pytest.raises(StavisError, match="another encoder"):
        encode(video, result.file, maps=maps, encoder=EncoderSettings(crf=30))


def test_files_of_other_settings_do_not_count_as_finished(video: Path, tmp_path: Path) -> None:
    maps, coarse = np.repeat(LEFT[None], 12, axis=0), EncoderSettings(crf=45, preset="ultrafast")
    encode(video, tmp_path / "encoded.mp4", maps=maps, encoder=EncoderSettings(crf=23, preset="ultrafast"))
    before = (tmp_path / "encoded.mp4").stat().st_size
    encode(video, tmp_path / "encoded.mkv", maps=maps, encoder=coarse, overwrite=True)
    encode(video, tmp_path / "encoded.mp4", maps=maps, encoder=coarse)
    assert (tmp_path / "encoded.mp4").stat().st_size < before
    for suffix in (".mkv", ".mp4"):
        again = encode(video, tmp_path / f"encoded{suffix}", maps=maps, encoder=coarse)
        assert again.transcoded is None


def test_changes_of_the_video_and_the_maps_are_noticed(video: Path, tmp_path: Path) -> None:
    source, file = tmp_path / "in.mp4", tmp_path / "maps.npz"
    source.write_bytes(video.read_bytes())
    maps = np.repeat(LEFT[None], 12, axis=0)
    np.savez(file, saliency=maps)
    encoder = EncoderSettings(crf=40, preset="ultrafast")
    for folder, kept in (("file", file), ("array", maps)):
        encode(source, tmp_path / folder / "out.mp4", maps=kept, encoder=encoder)
        assert encode(source, tmp_path / folder / "out.mp4", maps=kept, encoder=encoder).transcoded is None
    np.savez(file, saliency=maps[:, :, ::-1])  # as many bytes
    os.utime(file, (1, 1))
    for folder, kept in (("file", file), ("array", maps[:, :, ::-1])):
        with pytest.raises(StavisError, match="another maps"):
            encode(source, tmp_path / folder / "out.mp4", maps=kept, encoder=encoder)
    source.write_bytes(video.read_bytes() + b"more")
    with pytest.raises(StavisError, match="another video size"):
        encode(source, tmp_path / "array" / "out.mp4", maps=maps, encoder=encoder)
    file.unlink()
    with pytest.raises(StavisError, match="no such file of maps"):
        encode(source, tmp_path / "file" / "out.mp4", maps=file, encoder=encoder)


@pytest.mark.parametrize("codec", ["x264", "x265"])
@pytest.mark.parametrize(
    ("name", "stored", "pixel_format", "color_range"),
    [
        ("in.mp4", "libx264rgb", "rgb24", 0),
        ("in.mov", "png", "rgb24", 0),
        ("in.mkv", "ffv1", "bgr0", 0),
        ("in.mkv", "ffv1", "gray", 0),
        ("in.mkv", "ffv1", "yuv444p16le", 1),
        ("in.mkv", "ffv1", "yuv444p16le", 2),
        ("in.mkv", "ffv1", "yuv420p", 2),
    ],
)
def test_colors_are_kept(
    tmp_path: Path, codec: str, name: str, stored: str, pixel_format: str, color_range: int
) -> None:
    bars = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200), (250, 250, 250)], np.uint8)
    picture = np.repeat(np.repeat(bars[None], 32, axis=1), 64, axis=0)

    def tag(stream: Any) -> None:
        stream.codec_context.color_range = color_range
        if color_range:
            stream.codec_context.colorspace = 1

    source = make_video(tmp_path / name, [picture] * 3, codec=stored, pixel_format=pixel_format, prepare=tag)
    maps = np.ones((3, 8, 8), np.float32)
    encoder = EncoderSettings(codec, crf=5, preset="ultrafast")
    result = encode(source, tmp_path / "out" / "encoded.mp4", maps=maps, encoder=encoder)
    before, after = (next(media.read_frames(path)).image[32, 16::32] for path in (source, result.file))
    assert after.astype(int) == pytest.approx(before.astype(int), abs=4)


def test_very_low_frame_rates(tmp_path: Path) -> None:
    def encode_every(seconds: int) -> list[float]:
        def pace(stream: Any) -> None:
            stream.codec_context.time_base = Fraction(seconds)

        source = make_video(
            tmp_path / f"{seconds}.avi",
            2,
            codec="mjpeg",
            pixel_format="yuvj420p",
            rate=Fraction(1, seconds),
            prepare=pace,
        )
        result = encode(source, tmp_path / f"{seconds}" / "out.mp4", maps=np.ones((2, 8, 8), np.float32))
        return [frame.time_seconds for frame in media.read_frames(result.file)]

    assert encode_every(3000) == [0, 3000]
    with pytest.raises(StavisError, match="30000 s apart, and a video can hold"):
        encode_every(30_000)


@pytest.mark.parametrize("codec", ["x264", "x265"])
def test_two_passes_in_folders_of_any_name(video: Path, tmp_path: Path, codec: str) -> None:
    output = tmp_path / "it's a \\ of: 100% = é" / "encoded.mp4"
    encoder = EncoderSettings(codec, None, 200_000, "ultrafast")
    encode(video, output, maps=np.repeat(LEFT[None], 12, axis=0), encoder=encoder)
    assert {path.name for path in output.parent.iterdir()} == {"encoded.mp4", "encode.json"}


@pytest.mark.parametrize("codec", ["x264", "x265"])
def test_two_passes_spend_the_bit_rate(video: Path, tmp_path: Path, codec: str) -> None:
    maps = np.repeat(LEFT[None], 12, axis=0)
    sizes = []
    for rate in (200_000, 800_000):
        encoder = EncoderSettings(codec, None, rate, "fast")
        result = encode(video, tmp_path / "encoded.mp4", maps=maps, encoder=encoder, overwrite=True)
        assert result.transcoded is not None
        sizes.append(result.transcoded.video_bytes)
    # Half a second is too short for the rate to be met.
    assert sizes[1] > 2 * sizes[0]
    assert {path.name for path in tmp_path.iterdir()} == {"encoded.mp4", "encode.json"}


@pytest.mark.parametrize(
    ("name", "codec"),
    [("rotated_90.mov", "x264"), ("odd_161x121.webm", "x265"), ("newtons_cradle.gif", "x264")],
)
def test_rotation_odd_sizes_and_variable_rates_are_kept(
    shared: Path, tmp_path: Path, name: str, codec: str
) -> None:
    source = shared / "media" / name
    times = [frame.time_seconds for frame in media.read_frames(source)]
    maps = np.ones((len(times), 8, 8), np.float32)
    encoder = EncoderSettings(codec, crf=30, preset="ultrafast")
    result = encode(source, tmp_path / "encoded.mp4", maps=maps, encoder=encoder)
    before, after = media.probe(source), media.probe(result.file)
    assert after.rotation == before.rotation
    assert abs(after.width - before.width) <= 1
    assert abs(after.height - before.height) <= 1
    frames = list(media.read_frames(result.file))
    assert [frame.time_seconds for frame in frames] == pytest.approx(times, abs=1e-4)
    first = next(iter(media.read_frames(source))).image
    assert np.abs(frames[0].image[: first.shape[0], : first.shape[1]].astype(float) - first).mean() < 12


@pytest.mark.parametrize("codec", ["x264", "x265"])
@pytest.mark.parametrize("rate", [{"crf": 30}, {"bit_rate": 1_000_000}])
@pytest.mark.parametrize("num_frames", [1, 2])
def test_very_short_videos(tmp_path: Path, codec: str, rate: dict[str, int], num_frames: int) -> None:
    source = tmp_path / "in.mp4"
    with media.VideoWriter(source, width=64, height=48, frame_rate=25) as writer:
        for level in range(num_frames):
            writer.write(np.full((48, 64, 3), 99 * level, np.uint8))
    maps = np.repeat(LEFT[None], num_frames, axis=0)
    result = encode(source, tmp_path / "out.mp4", maps=maps, encoder=EncoderSettings(codec, **rate))
    for target in ROI_NAMES:
        assert write_roi(source, tmp_path / ROI_NAMES[target], target, maps=maps) == num_frames
    times = [frame.time_seconds for frame in media.read_frames(result.file)]
    assert times == pytest.approx([0, 0.04][:num_frames], abs=1e-3)
    if codec == "x264" and "bit_rate" in rate:
        few = EncoderSettings(codec, bit_rate=1000)
        with pytest.raises(StavisError, match="1000 bits per second may be too few"):
            encode(source, tmp_path / "few" / "out.mp4", maps=maps, encoder=few)


def test_encoding_errors_name_what_is_wrong(video: Path, tmp_path: Path) -> None:
    maps = np.repeat(LEFT[None], 12, axis=0)
    with pytest.raises(StavisError, match=r"encoded.avi: cannot be written; allowed suffixes"):
        encode(video, tmp_path / "encoded.avi", maps=maps)
    with pytest.raises(StavisError, match="folder of images"):
        encode(tmp_path, tmp_path / "encoded.mp4", maps=maps)
    with pytest.raises(ValueError, match="`model` or `maps`"):
        encode(video, tmp_path / "encoded.mp4")
    with pytest.raises(ValueError, match="allowed are kvazaar, svt-av1, x264-saliency"):
        write_roi(video, tmp_path / "roi.txt", "av1", maps=maps)


# --- Other encoders ---------------------------------------------------------------------------------------------------


def read_kvazaar(path: Path) -> list[np.ndarray]:
    numbers = np.array(path.read_text(encoding="ascii").split(), np.int64)
    grids = []
    while len(numbers):
        width, height = numbers[:2]
        grids.append(numbers[2 : 2 + width * height].reshape(height, width))
        numbers = numbers[2 + width * height :]
    return grids


def test_kvazaar_file_reads_back(video: Path, tmp_path: Path) -> None:
    maps = np.repeat(LEFT[None], 12, axis=0)
    assert write_roi(video, tmp_path / "roi.txt", "kvazaar", maps=maps) == 12
    assert (tmp_path / "roi.txt").read_text().splitlines()[0] == "3 2"
    grids = read_kvazaar(tmp_path / "roi.txt")
    plan = plan_offsets(video, maps=maps, block=64)
    assert np.array_equal(grids, np.round(plan.grids))
    assert grids[0][0, 0] < 0 < grids[0][0, 2]


def test_svt_av1_file_reads_back(video: Path, tmp_path: Path) -> None:
    maps = np.concatenate([np.repeat(LEFT[None], 6, axis=0), np.repeat(LEFT[None, :, ::-1], 6, axis=0)])
    write_roi(video, tmp_path / "roi.txt", "svt-av1", maps=maps)
    rows = [np.array(line.split(), int) for line in (tmp_path / "roi.txt").read_text("ascii").splitlines()]
    assert rows[0][0] == 0
    assert len(rows) < 12  # a frame whose offsets are those of the frame before has no line
    for _, *offsets in rows:
        offsets = np.array(offsets)
        assert offsets.shape == (6,)
        assert len(set(offsets.tolist())) <= 8
        assert offsets.max() >= 0


def test_files_for_other_encoders_are_of_the_stored_size(tmp_path: Path) -> None:
    def widen(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2)

    pictures = [np.full((120, 160, 3), 99, np.uint8)] * 2
    wide = make_video(tmp_path / "wide.mp4", pictures, prepare=widen)
    assert media.probe(wide).width == 320
    maps = np.ones((2, 8, 8), np.float32)
    write_roi(wide, tmp_path / "roi.txt", "kvazaar", maps=maps)
    assert (tmp_path / "roi.txt").read_text().splitlines()[0] == "3 2"
    write_roi(wide, tmp_path / "saliency.mp4", "x264-saliency", maps=maps)
    info = media.probe(tmp_path / "saliency.mp4")
    assert (info.width, info.height) == (160, 120)


@given(st.lists(st.integers(-60, 60), min_size=1, max_size=80), st.integers(1, 8))
def test_reduced_values_are_few_near_and_in_order(values: list[int], limit: int) -> None:
    before = np.array(values)
    after = reduce_values(before, limit)
    assert len(np.unique(after)) <= limit
    order = np.argsort(before, kind="stable")
    assert (np.diff(after[order]) >= 0).all()
    if len(np.unique(before)) <= limit:
        assert np.array_equal(before, after)


def test_saliency_video_for_x264(video: Path, tmp_path: Path) -> None:
    maps = np.repeat(LEFT[None], 12, axis=0)
    write_roi(video, tmp_path / "saliency.mp4", "x264-saliency", maps=maps)
    frames = list(media.read_frames(tmp_path / "saliency.mp4"))
    assert len(frames) == 12
    assert frames[0].image[:, :80].mean() > 240
    assert frames[0].image[:, 112:].mean() < 15


def test_command_line(video: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "maps.npz", saliency=np.repeat(LEFT[None], 12, axis=0))
    shared_options = ["--maps", tmp_path / "maps.npz", "-o", tmp_path / "out"]
    run_command("encode", video, *shared_options, "--crf", "30", "--preset", "fast")
    assert media.probe(tmp_path / "out" / "noise" / "encoded.mp4").codec == "h264"
    output = run_command("encode", video, *shared_options, "--crf", "30", "--preset", "fast")
    assert "already finished" in output
    run_command("roi", video, "--for", "kvazaar", *shared_options)
    assert len(read_kvazaar(tmp_path / "out" / "noise" / "roi-kvazaar.txt")) == 12
    for wrong in (
        ["--bitrate", "fast"],
        ["--crf", "99"],
        ["--crf", "20", "--bitrate", "1M"],
        ["--strength", "9"],
    ):
        with pytest.raises(StavisError, match=r"bitrate|crf|strength"):
            run_command("encode", video, *shared_options, *wrong)


def test_block_sizes() -> None:
    assert [
        block_size(*size) for size in ((1280, 720), (1920, 1080), (720, 1280), (160, 90), (3840, 2160))
    ] == [
        32,
        48,
        32,
        16,
        96,
    ]
