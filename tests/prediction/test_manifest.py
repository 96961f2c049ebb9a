"""Manifests, shards and the index of results."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import stavis
from stavis.datasets.fold_lists import parse_share
from stavis.errors import StavisError
from stavis.prediction.manifest import ManifestRow, choose_shard, read_manifest
from support.networks import tiny_weights

pytest.importorskip("pyarrow")
import pyarrow
import pyarrow.parquet

NUM_FRAMES, RATE = 4, 25


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "tiny")


def write_images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for i in range(NUM_FRAMES):
        Image.new("RGB", (32, 32), (60 * i, 0, 0)).save(folder / f"img_{i + 1:05d}.png")
    return folder


def read_index(output: Path) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in pyarrow.parquet.read_table(output / "index.parquet").to_pylist()}


@pytest.mark.parametrize("name", ["index", "Index", "index.parquet", ".", "..", "a/b"])
def test_names_that_no_result_folder_can_have(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text(f"uri,name\none.mp4,\ntwo.mp4,{name}\n")
    with pytest.raises(StavisError, match=f"a.csv: row 2: name is '{name}'"):
        read_manifest(tmp_path / "a.csv")


def test_three_formats_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "\ufeffuri,name,start,audio_stream,note\nclips/one.mp4,,0.5,1.0,x\n/two.mp4,second,,,\n",
        encoding="utf-8",
    )
    rows = [
        {"uri": "clips/one.mp4", "start": 0.5, "audio_stream": 1, "name": None},
        {"uri": "/two.mp4", "name": "second", "start": None, "audio_stream": None},
    ]
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    first, second = read_manifest(tmp_path / "a.csv")
    assert (first.path, first.options) == (
        tmp_path / "clips/one.mp4",
        {"start_seconds": 0.5, "audio_stream": 1},
    )
    assert first.name.startswith("one-")
    assert (second.path, second.name, second.options) == (Path("/two.mp4"), "second", {})
    for suffix in ("jsonl", "parquet"):
        assert read_manifest(tmp_path / f"a.{suffix}") == [first, second], suffix


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\na\n", "row 1 has no uri"),
        ("uri,start\na.mp4,soon\n", "row 1: start is 'soon', not a number"),
        ("uri,audio_stream\na.mp4,1.5\n", "not a whole number"),
        ("uri\na.mp4\na.mp4\n", "rows 1 and 2 are equal"),
        ("uri,name\na.mp4,x\nb.mp4,x\n", "rows 1 and 2 are both called 'x'"),
        ("uri,name\na.mp4,../x\n", "cannot name a folder"),
        ("uri\n", "no rows"),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(StavisError, match=message):
        read_manifest(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["a.txt", "a.parquet", "b.jsonl"])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[1, 2]\n")
    with pytest.raises(StavisError, match=name):
        read_manifest(tmp_path / name)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/", "a/b", "-1/2", "1/2/3"])
def test_wrong_shards_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="shard"):
        parse_share(text)


@given(num_rows=st.integers(1, 40), count=st.integers(1, 9))
def test_shards_share_every_row_out_once(num_rows: int, count: int) -> None:
    rows = [ManifestRow(f"{i}.mp4", Path(f"/nowhere/{i}.mp4"), f"v{i}", {}) for i in range(num_rows)]
    shards = [choose_shard(rows, (number, count)) for number in range(1, count + 1)]
    assert sorted(row.name for shard in shards for row in shard) == sorted(row.name for row in rows)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1, "files of equal size are shared evenly"


def test_shards_resume_and_retry(weights: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_images(tmp_path / name)
    manifest, output = tmp_path / "videos.csv", tmp_path / "out"
    manifest.write_text("uri,name,end\na,,\nb,,0.1\nbroken.mp4,broken,\nc,,\n")
    lines: list[str] = []

    def predict(shard: str, retry_failed: bool = False) -> list[stavis.FolderResult]:
        lines.clear()
        return stavis.predict_files(
            output=output,
            manifest=manifest,
            shard=shard,
            retry_failed=retry_failed,
            weights=weights,
            outputs="npz",
            quiet=True,
            report=lines.append,
            frame_rate=RATE,
        )

    first = predict("1/2")
    assert len(read_index(output)) == len(first)
    second = predict("2/2")
    index = read_index(output)
    assert len(index) == len(first) + len(second) == 4
    assert sorted(row["uri"] for row in index.values()) == ["a", "b", "broken.mp4", "c"]
    assert [row["frames"] for row in index.values() if row["uri"] in ("a", "c")] == [NUM_FRAMES] * 2
    assert [row["frames"] for row in index.values() if row["uri"] == "b"] == [3]
    assert index["broken"]["status"] == "failed"
    assert "broken.mp4" in str(index["broken"]["error"])
    for row in index.values():
        assert (output / str(row["path"]) / "summary.json").is_file() == (row["status"] == "done")

    # As after a killed process: a torn line is ignored, and the next one starts on a line of its own.
    with (output / "index" / "1-of-1.jsonl").open("w") as file:
        file.write('{"uri": "a", "na')
    write_images(tmp_path / "broken.mp4")
    again = predict("1/1")
    assert sum(result.skipped for result in again) == 3
    assert [result.error for result in again if result.error] == [index["broken"]["error"]], "not tried again"
    assert any("retry_failed" in line for line in lines)
    assert read_index(output)["broken"]["status"] == "failed"
    assert all(not result.failures for result in predict("1/1", retry_failed=True))
    assert {row["status"] for row in read_index(output).values()} == {"done"}
    assert len(read_index(output)) == 4


def test_wrong_combinations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="manifest"):
        stavis.predict_files("a.mp4", tmp_path, shard="1/2")
    with pytest.raises(ValueError, match="either"):
        stavis.predict_files("a.mp4", tmp_path, manifest="a.csv")
