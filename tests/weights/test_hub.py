"""Weights on the Hugging Face Hub, against a server on loopback that speaks its protocol."""

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import stavis
from stavis.clips.preprocess import Preprocessing
from stavis.errors import StavisError
from stavis.synthetic import render_clip
from stavis.weights import load_model, save_model
from support.commands import run_command

pytest.importorskip("huggingface_hub", reason="needs stavis[hub]")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "lab/gaze"


class Hub:
    """A repository, and what is wrong with the server."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.status = 0  # answered to everything, if not 0
        self.cut = 0  # this many answers with a file's content end halfway
        self.spoil = ""  # the file whose content differs from its checksum
        self.requests: list[str] = []
        self.uploaded: dict[str, bytes] = {}
        self.lfs: dict[str, bytes] = {}
        self.created: dict[str, Any] = {}
        self.url = ""


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, content: object) -> None:
        self.answer(200, json.dumps(content).encode(), Content_Type="application/json")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.hub
        hub.requests.append(f"{self.command} {self.path}")
        if hub.status:
            code = {401: "RepoNotFound", 403: "Forbidden"}.get(hub.status, "")
            self.answer(hub.status, X_Error_Code=code)
            return
        revision, _, name = self.path.removeprefix(f"/{REPO}/resolve/").partition("/")
        if not self.path.startswith(f"/{REPO}/resolve/"):
            self.answer(404, X_Error_Code="RepoNotFound")
        elif revision not in ("main", "v1", COMMIT):
            self.answer(404, X_Error_Code="RevisionNotFound")
        elif name not in hub.files:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        else:
            self.send_file(hub.files[name])

    def send_file(self, body: bytes) -> None:
        large = len(body) > 10_000  # as on the Hub: SHA-256 of a large file, Git's checksum of a small one
        digest = hashlib.sha256(body) if large else hashlib.sha1(b"blob %d\0" % len(body) + body)
        headers = {
            "X-Repo-Commit": COMMIT,
            "ETag": f'"{digest.hexdigest()}"',
            "Accept-Ranges": "bytes",
        }
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if self.path.endswith(self.hub.spoil or "-"):
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(206 if "Range" in self.headers else 200)
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        part = body[start:]
        if self.hub.cut and len(part) > 10_000:
            self.hub.cut -= 1
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
            return
        self.wfile.write(part)

    def do_POST(self) -> None:
        hub = self.hub
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub.requests.append(f"POST {self.path}")
        if hub.status:
            self.answer(hub.status)
        elif self.path == "/api/validate-yaml":
            self.json({"errors": [], "warnings": []})
        elif self.path == "/api/repos/create":
            hub.created = json.loads(body)
            self.json({"url": f"{hub.url}/{REPO}"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            mode = {True: "lfs", False: "regular"}
            self.json(
                {
                    "files": [
                        {
                            "path": one["path"],
                            "uploadMode": mode[one["path"].endswith(".safetensors")],
                            "shouldIgnore": False,
                        }
                        for one in files
                    ]
                }
            )
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{hub.url}/store/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self.json({"transfer": "basic", "objects": objects})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    hub.uploaded[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                elif entry["key"] == "lfsFile":
                    hub.uploaded[entry["value"]["path"]] = hub.lfs[entry["value"]["oid"]]
            self.json(
                {"commitUrl": f"{hub.url}/{REPO}/commit/{COMMIT}", "commitOid": COMMIT, "commitMessage": "x"}
            )
        else:
            self.answer(404)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.lfs[self.path.rpartition("/")[2]] = body
        self.answer(200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = stavis.ModelConfig("visual", depth=10, preprocessing=Preprocessing(input_size=(64, 64)))
    path = tmp_path_factory.mktemp("hub") / "weights"
    save_model(stavis.STAViS(config), path, half_precision=True)
    return path


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    served = Hub({**files, "README.md": b"# Card\n"})
    handler = type("OneHub", (Handler,), {"hub": served})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        served.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        # Its storage protocol of compiled code; without it, huggingface_hub speaks plain Git LFS.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield served
        server.shutdown()


def test_weights_load_from_the_hub_and_then_offline(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_model(folder).state_dict()
    clip = tmp_path / "clip.mp4"
    render_clip(clip, seed=0, seconds=1.0, size=(96, 64), frame_rate=12.0, num_observers=2)
    run_command(
        "predict", clip, "--weights", f"hf://{REPO}@v1", "-o", tmp_path / "out", "--device", "cpu", "-q"
    )
    summary = json.loads((tmp_path / "out" / "clip" / "summary.json").read_text())
    assert summary["weights"] == f"hf://{REPO}@{COMMIT}", "the revision is recorded as a commit"
    assert not any("README" in one for one in hub.requests)
    hub.requests.clear()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    loaded = load_model(f"hf://{REPO}@v1").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in expected.items())
    assert not hub.requests
    with pytest.raises(
        StavisError, match=rf"hf://{REPO}@other: not in the cache, and the Hub cannot be reached"
    ):
        load_model(f"hf://{REPO}@other")


def test_a_cut_connection_is_resumed(hub: Hub) -> None:
    hub.cut = 1
    load_model(f"hf://{REPO}")
    assert sum("model.safetensors" in one and one.startswith("GET") for one in hub.requests) >= 2


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_wrong_checksum_is_refused_and_not_kept(name: str, hub: Hub) -> None:
    hub.spoil = name
    with pytest.raises(StavisError, match=r"\.(json|safetensors) arrived damaged \(wrong checksum\)"):
        load_model(f"hf://{REPO}")
    hub.spoil = ""
    load_model(f"hf://{REPO}", device="cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://lab/other", "no such repository; if it is private, log in"),
        (f"hf://{REPO}@nowhere", "the repository has no such revision"),
        ("hf://gaze", "expected hf://owner/name or hf://owner/name@revision"),
        ("hf://lab/gaze@", "expected hf://owner/name"),
    ],
)
def test_names_that_lead_nowhere(hub: Hub, name: str, message: str) -> None:
    with pytest.raises(StavisError, match=message):
        load_model(name)


def test_a_repository_without_weights(hub: Hub) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(StavisError, match=r"needs config\.json and model\.safetensors"):
        load_model(f"hf://{REPO}")


@pytest.mark.parametrize(("status", "message"), [(401, "log in"), (403, "log in"), (418, "status 418")])
def test_refusals_of_the_server(hub: Hub, status: int, message: str) -> None:
    hub.status = status
    with pytest.raises(StavisError, match=message):
        load_model(f"hf://{REPO}")


def test_push_uploads_weights_config_and_card_alone(hub: Hub, folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "notes.txt").write_text("private")
    printed = run_command("push", tmp_path, f"hf://{REPO}", "--private")
    assert f"--weights hf://{REPO}@{COMMIT}" in printed
    assert set(hub.uploaded) == {"model.safetensors", "config.json", "README.md"}
    assert hub.uploaded["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert hub.created.get("visibility", "private" if hub.created.get("private") else None) == "private"
    assert b"library_name: stavis" in hub.uploaded["README.md"]
    hub.status = 401
    with pytest.raises(StavisError, match="log in"):
        run_command("push", folder, f"hf://{REPO}")


def test_push_refuses_what_is_no_weights_folder(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(StavisError, match=r"it has no config\.json"):
        run_command("push", tmp_path, f"hf://{REPO}")
    assert not hub.requests


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("bn1.bias"), r"missing bn1\.bias"),
        (lambda tensors: tensors["bn1.bias"].fill_(torch.nan), r"bn1\.bias has values that are not finite"),
    ],
)
def test_push_refuses_damaged_weights(
    hub: Hub, folder: Path, tmp_path: Path, change: Any, message: str
) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(StavisError, match=message):
        run_command("push", tmp_path, f"hf://{REPO}")
    assert not hub.requests


def test_push_takes_the_file_in_the_folder(hub: Hub, folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    run_command("push", tmp_path / "model.safetensors", f"hf://{REPO}")
    assert hub.uploaded["config.json"] == (folder / "config.json").read_bytes()
    (tmp_path / "MODEL_CARD.md").write_bytes(b"Z\xfcrich")
    with pytest.raises(StavisError, match=r"MODEL_CARD\.md: the model card is not UTF-8"):
        run_command("push", tmp_path, f"hf://{REPO}")
