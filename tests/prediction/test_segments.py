"""Segments of a video, predicted one by one and joined."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stavis
from stavis.errors import StavisError
from stavis.prediction.manifest import ManifestRow, read_manifest, split_rows
from stavis.weights import save_model
from support.networks import lively_network, tiny_weights
from support.videos import make_video

RATE = 10


def write_video(path: Path, seconds: float, rate: int = RATE) -> Path:
    """Noise that moves, with sound whose pitch rises: no two windows are alike."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (48, 200, 3), np.uint8)
    pictures = [texture[:, i % 130 : i % 130 + 64] for i in range(round(seconds * rate))]
    times = np.arange(round(seconds * 44100)) / 44100
    sweep = (0.5 * np.sin(2 * np.pi * (200 + 50 * times) * times)).astype(np.float32)[None]
    return make_video(path, pictures, rate=rate, sounds=[("aac", sweep, 44100, 0.0)])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "lively"
    save_model(lively_network(), folder)
    return folder


@given(
    start=st.none() | st.floats(0, 50),
    length=st.floats(0.1, 500),
    duration=st.floats(0.1, 500),
    seconds=st.floats(1, 100),
    has_end=st.booleans(),
)
def test_segments_cover_a_video_once(
    start: float | None, length: float, duration: float, seconds: float, has_end: bool
) -> None:
    end = (start or 0) + length if has_end else None
    options = {
        key: value for key, value in (("start_seconds", start), ("end_seconds", end)) if value is not None
    }
    row = ManifestRow("a.mp4", Path("a.mp4"), "a", options, duration=duration)  # type: ignore[arg-type]
    rows = list(split_rows([row], seconds))
    segments = rows[0].segments
    assert [one.number for one in rows] == list(range(max(1, len(segments))))
    if segments:
        assert (segments[0][0], segments[-1][1]) == (start or 0, end)
        for (begin, after), (following, _) in itertools.pairwise(segments):
            assert after == following
            assert after - begin == pytest.approx(seconds)
    if duration - (start or 0) <= seconds:
        assert segments == ()


def test_the_context_makes_an_excerpt_part_of_the_video(weights: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", 6.5)
    model = stavis.load_model(weights)
    whole = list(stavis.predict_video(model, video))
    part = list(stavis.predict_video(model, video, start_seconds=4.05, end_seconds=4.7, context=True))
    assert [frame.index for frame in part] == list(range(6))
    same = [frame for frame in whole if 4.05 <= frame.time_seconds < 4.7]
    assert [frame.time_seconds for frame in part] == [frame.time_seconds for frame in same]
    assert max(np.abs(a.saliency - b.saliency).max() for a, b in zip(part, same, strict=True)) < 1e-6
    alone = list(stavis.predict_video(model, video, start_seconds=4.05, end_seconds=4.7))
    assert max(np.abs(a.saliency - b.saliency).max() for a, b in zip(alone, same, strict=True)) > 1e-3
    with pytest.raises(ValueError, match="speed=fast"):
        stavis.predict_files(video, tmp_path / "out", start_seconds=5, context=True, speed="fast")
    with pytest.raises(ValueError, match="stride"):
        stavis.predict_video(model, video, start_seconds=5, context=True, stride=2)


def test_joined_segments_equal_one_run(tmp_path: Path) -> None:
    weights = tiny_weights(tmp_path / "weights")
    pyarrow = pytest.importorskip("pyarrow.parquet")
    write_video(tmp_path / "a.mp4", 3)
    manifest, output = tmp_path / "videos.csv", tmp_path / "split"
    manifest.write_text("uri,name,duration\na.mp4,film,3\n")

    def predict(output: Path, shard: str = "1/1", **options: object) -> list[stavis.FolderResult]:
        return stavis.predict_files(
            output=output,
            manifest=manifest,
            weights=weights,
            outputs="npz,maps",
            quiet=True,
            shard=shard,
            **options,
        )

    predict(tmp_path / "whole")
    (half,) = predict(output, "1/2", segment_seconds=1.5)
    assert half.folder != output / "film", "the other segment is in the other shard"
    (first,) = predict(output, "2/2", segment_seconds=1.5)
    assert (first.folder, first.num_frames) == (output / "film", 30)
    assert not list((output / "index" / "segments").glob("*/"))
    for name in ("saliency.npz", "frames.csv", "timeline.png", "maps/map_000020.png"):
        assert (output / "film" / name).read_bytes() == (tmp_path / "whole" / "film" / name).read_bytes(), (
            name
        )
    (row,) = pyarrow.read_table(output / "index.parquet").to_pylist()
    assert (row["name"], row["status"], row["frames"]) == ("film", "done", 30)
    (again,) = predict(output, segment_seconds=1.5)
    assert again.skipped
    summary = json.loads((output / "film" / "summary.json").read_text())
    assert summary["options"]["start_seconds"] is None
    with pytest.raises(StavisError, match="stride"):
        predict(output, segment_seconds=1.5, stride=2)


@pytest.mark.slow
def test_three_minutes_in_seven_segments(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write_video(tmp_path / "a.mp4", 180, rate=5)
    manifest = tmp_path / "videos.csv"
    manifest.write_text("uri,name,duration\na.mp4,film,180\n")
    model = stavis.load_model(weights)
    whole = np.stack([frame.saliency for frame in stavis.predict_video(model, tmp_path / "a.mp4")])
    row, *others = split_rows(read_manifest(manifest), 26)
    assert len(others) == 6
    part = np.stack(
        [
            frame.saliency
            for start, end in row.segments
            for frame in stavis.predict_video(
                model, row.path, start_seconds=start, end_seconds=end, context=True
            )
        ]
    )
    assert part.shape == whole.shape == (900, 64, 64)
    assert np.abs(part - whole).max() < 1e-6
    results = stavis.predict_files(
        output=tmp_path / "out",
        manifest=manifest,
        segment_seconds=26,
        jobs=2,
        weights=weights,
        outputs="npz",
        quiet=True,
    )
    assert [result.num_frames for result in results] == [900]
    with np.load(results[0].folder / "saliency.npz") as archive:
        joined = archive["saliency"]
    # Written in 16 bits: what differs by less than 1e-6 can be rounded to the next number.
    assert np.abs(joined - whole.astype(np.float16)).max() < 1e-3
    assert (joined == whole.astype(np.float16)).mean() > 0.999
