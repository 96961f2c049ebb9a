"""Videos and results at URLs, on a real S3 server in another process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

import stavis as package
from stavis.cli import app
from stavis.errors import StavisError
from stavis.storage.remote import RemotePath, as_path, hide_credentials, is_url
from support.networks import tiny_weights
from support.videos import make_video, tone

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("s3fs")
pytest.importorskip("moto")
pytest.importorskip("pyarrow")

from support.object_store import ObjectStore, object_store  # noqa: E402

NUM_FRAMES = 12
SECRETS = ("do-not-print-me", "hunter2", "SIGNED")


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as running:
        files = s3()
        files.mkdir("videos")
        files.mkdir("results")
        yield running


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of noise with a tone."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(NUM_FRAMES)]
    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    return make_video(path, pictures, options={"crf": "5"}, sounds=[("aac", tone(1.0, 44100), 44100, 0.0)])


@pytest.fixture(scope="module")
def local(weights: Path, video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the same video as a local file."""
    (result,) = predict([str(video)], tmp_path_factory.mktemp("local"), weights)
    return result.folder


def s3() -> Any:
    return fsspec.filesystem("s3", use_listings_cache=False)


def predict(
    inputs: list[str], output: str | Path, weights: Path, **options: Any
) -> list[package.FolderResult]:
    return package.predict_files(inputs, output, weights=weights, outputs="npz", quiet=True, **options)


def maps(source: Any) -> np.ndarray:
    with np.load(source) as archive:
        return np.asarray(archive["saliency"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/a.mp4", "s3://bucket/a.mp4"),
        ("https://me:hunter2@host/a.mp4?X-Sig=SIGNED&e=1", "https://host/a.mp4"),
        ("https://hunter2@host/a.mp4", "https://host/a.mp4"),
        ("abfs://container@account/a.mp4", "abfs://container@account/a.mp4"),
        ("ftp://me:hunter2@host/a.mp4", "ftp://host/a.mp4"),
        ("zip://a.mp4::https://h/b.zip?sig=SIGNED", "zip://a.mp4::https://h/b.zip"),
        ("404, url='https://h/a?sig=SIGNED' of ftp://me:hunter2@h/b", "404, url='https://h/a' of ftp://h/b"),
        ("clips/is it?.mp4", "clips/is it?.mp4"),
        ("s3://bucket/clip?.mp4", "s3://bucket/clip?.mp4"),
        ("https://me:hunter@2@host/a.mp4", "https://host/a.mp4"),
        ("https://me:hunter/2@host/a.mp4", "https://host/a.mp4"),
        ("https://me:hunter?2@host/a.mp4", "https://host/a.mp4"),
        ("s3://KEY:hunt/er2@bucket/a.mp4", "s3://bucket/a.mp4"),
        ("HTTPS://hunter2@host/a.mp4", "HTTPS://host/a.mp4"),
        ("https://host:8080/a@b.mp4", "https://host:8080/a@b.mp4"),
        ("https://me:hunter2@host/a@b.mp4", "https://host/a@b.mp4"),
        ("http://[::1]:8080/a@b.mp4", "http://[::1]:8080/a@b.mp4"),
        ("https://host/a.mp4?SIGNED", "https://host/a.mp4"),
        ("https://host/a.mp4?sig=SI'GN\"ED", "https://host/a.mp4"),
        ("url='https://h/a?SIG\"NED', status=404", "url='https://h/a', status=404"),
        ("zip://a.mp4::https://me:hunter2@h/b.zip?SIGNED", "zip://a.mp4::https://h/b.zip"),
        ("https://h/a?sig=SIG::NATURE", "https://h/a"),
        ("https://h/a?sig=SIGNED::s3://b/c", "https://h/a::s3://b/c"),
    ],
)
def test_credentials_are_hidden(text: str, shown: str) -> None:
    assert hide_credentials(text) == shown


def test_a_url_behaves_as_a_path() -> None:
    path = as_path("https://me:hunter2@host/clips/a b.mp4?sig=SIGNED")
    assert isinstance(path, RemotePath)
    assert (path.name, path.stem, path.suffix) == ("a b.mp4", "a b", ".mp4")
    assert (str(path), f"{path}") == ("https://host/clips/a b.mp4",) * 2
    assert path.url == "https://me:hunter2@host/clips/a b.mp4?sig=SIGNED"
    assert (path.parent / "b.mp4") == as_path("https://me:hunter2@host/clips/b.mp4?sig=SIGNED")
    assert not is_url("C:/a.mp4")
    assert as_path("file:///a/b%20c.mp4") == Path("/a/b c.mp4")


def test_a_video_is_read_once_and_results_equal_local_ones(
    store: ObjectStore, weights: Path, video: Path, local: Path
) -> None:
    s3().put_file(str(video), "videos/noise.mp4")
    store.reset()
    (result,) = predict(["s3://videos/*.mp4"], "s3://results/once", weights)
    assert (result.error, result.num_frames) == (None, NUM_FRAMES)
    assert str(result.folder) == "s3://results/once/noise"
    ((_, sent),) = store.counts("/videos/noise").values()
    assert sent == video.stat().st_size, "read once, although several decoders read it"
    with s3().open("results/once/noise/saliency.npz") as file:
        np.testing.assert_array_equal(maps(file), maps(local / "saliency.npz"))
    assert {Path(one).name for one in s3().ls("results/once/noise")} == {
        path.name for path in local.iterdir()
    }
    summary = json.loads(s3().cat_file("results/once/noise/summary.json"))
    before = json.loads((local / "summary.json").read_text())
    assert summary.pop("input") == "s3://videos/noise.mp4"
    assert {**before, "seconds": 0} == {**summary, "seconds": 0, "input": str(video)}

    (again,) = predict(["s3://videos/noise.mp4"], "s3://results/once", weights)
    assert again.skipped
    (more,) = package.predict_files(
        "s3://videos/noise.mp4", "s3://results/once", weights=weights, outputs="npz,published", quiet=True
    )
    assert not more.skipped
    assert not more.failures
    assert s3().exists("results/once/noise/pred_sal/pred_sal_000001.jpg")
    assert s3().exists("results/once/noise/saliency.npz")
    (other,) = predict(["s3://videos/noise.mp4"], "s3://results/once", weights, stride=2)
    assert other.error is not None
    assert other.error.startswith("s3://results/once/noise: holds results of another options")
    s3().pipe_file("results/once/noise/notes.txt", b"mine")
    (replaced,) = predict(["s3://videos/noise.mp4"], "s3://results/once", weights, stride=2, overwrite=True)
    assert replaced.error is None
    assert not s3().exists("results/once/noise/pred_sal"), "of the replaced results"
    assert s3().exists("results/once/noise/notes.txt")


def test_only_what_is_needed_is_read(
    store: ObjectStore, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stavis.storage.remote.BLOCK_BYTES", 1 << 14)
    monkeypatch.setattr("stavis.media.container._BUFFER_BYTES", 1 << 14)
    s3().put_file(str(video), "videos/part.mp4")
    store.reset()
    info = package.media.probe("s3://videos/part.mp4")
    assert (info.width, info.num_frames, str(info.path)) == (128, NUM_FRAMES, "s3://videos/part.mp4")
    ((_, sent),) = store.counts("/videos/part").values()
    assert 0 < sent < 0.7 * video.stat().st_size


def test_faults_are_retried(
    store: ObjectStore, weights: Path, video: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stavis.storage.remote.BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr("stavis.storage.remote._FIRST_PAUSE_SECONDS", 0.01)
    s3().put_file(str(video), "videos/faults.mp4")
    store.reset()
    store.fail(busy=5, cut=7)
    try:
        (result,) = predict(["s3://videos/faults.mp4"], "s3://results/faults", weights)
    finally:
        store.fail()
    assert result.failures == ()
    with s3().open("results/faults/faults/saliency.npz") as file:
        np.testing.assert_array_equal(maps(file), maps(local / "saliency.npz"))


def test_a_cache_keeps_a_copy(store: ObjectStore, weights: Path, video: Path, tmp_path: Path) -> None:
    s3().put_file(str(video), "videos/cached.mp4")
    store.reset()
    for name in ("a", "b"):
        (result,) = predict(
            ["s3://videos/cached.mp4"], tmp_path / name, weights, cache_dir=tmp_path / "cache"
        )
        assert not result.failures
    (copy,) = (tmp_path / "cache").iterdir()
    assert copy.read_bytes() == video.read_bytes()
    assert sum(sent for _, sent in store.counts("/videos/cached").values()) == video.stat().st_size


def test_manifest_and_index_at_urls(store: ObjectStore, weights: Path, video: Path) -> None:
    s3().put_file(str(video), "videos/job/a.mp4")
    s3().pipe_file("videos/job/broken.mp4", b"not a video")
    s3().pipe_file(
        "videos/job/list.csv", b"uri,name,size\na.mp4,first,1\ns3://videos/job/broken.mp4,second,2\n"
    )
    manifest = "s3://videos/job/list.csv"
    for shard in ("1/2", "2/2", "1/1"):
        results = package.predict_files(
            output="s3://results/job",
            manifest=manifest,
            shard=shard,
            weights=weights,
            outputs="npz",
            quiet=True,
        )
    assert [result.skipped for result in results] == [True, False]
    import pyarrow.parquet

    with s3().open("results/job/index.parquet") as file:
        first, second = pyarrow.parquet.read_table(file).to_pylist()
    assert (first["uri"], first["status"], first["path"]) == ("a.mp4", "done", "first")
    assert (second["uri"], second["status"]) == ("s3://videos/job/broken.mp4", "failed")
    assert "s3://videos/job/broken.mp4 is not a video" in second["error"]


def test_a_web_server_is_read_and_secrets_are_not_printed(
    store: ObjectStore, weights: Path, video: Path, tmp_path: Path
) -> None:
    s3().put_file(str(video), "videos/web.mp4", ACL="public-read")
    address = store.endpoint.replace("//", "//me:hunter2@")

    def run(name: str, output: Path) -> Result:
        url = f"{address}/videos/{name}.mp4?X-Amz-Signature=SIGNED"
        return CliRunner().invoke(app, ["predict", url, "--weights", str(weights), "--output", str(output)])

    done, missing = run("web", tmp_path / "a"), run("none", tmp_path / "b")
    written = [path.read_text() for path in (tmp_path / "a").rglob("*.json")]
    assert done.exit_code == 0, done.output
    assert len(written) == 1
    assert str(missing.exception) == f"{store.endpoint}/videos/none.mp4 does not exist"
    texts = (done.output, missing.output, str(missing.exception), *written)
    assert not any(secret in text for secret in SECRETS for text in texts)


def test_what_cannot_be_reached_is_named(store: ObjectStore, weights: Path, tmp_path: Path) -> None:
    results = predict(["s3://nowhere/a.mp4", "gopher://h/a.mp4"], tmp_path, weights)
    assert [result.error for result in results] == [
        "s3://nowhere/a.mp4 does not exist",
        "gopher://h/a.mp4: Protocol not known: gopher",
    ]
    with pytest.raises(StavisError, match="cannot be written to a web server"):
        predict(["a.mp4"], "https://host/results", weights)
    with pytest.raises(StavisError, match="no videos there"):
        predict(["s3://videos/*.avi"], tmp_path, weights)


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    program = "import sys; sys.modules['fsspec'] = None; import stavis; list(stavis.media.read_frames('s3://b/a.mp4'))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert "s3://b/a.mp4: URLs need fsspec: pip install 'stavis[remote]'" in result.stderr
