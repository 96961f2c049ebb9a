"""Weights on the Hugging Face Hub: `hf://owner/name@revision`."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from stavis.errors import StavisError
from stavis.runtime.files import file_sha256
from stavis.weights.files import CONFIG_FILE, WEIGHTS_FILE, read

SCHEME = "hf://"
CARD_FILE = "README.md"  # the Hub's name of a model card
_CARDS = (CARD_FILE, "MODEL_CARD.md")
_NAME = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


class HubWeights(NamedTuple):
    folder: Path  # holds model.safetensors and config.json
    name: str  # hf://owner/name@commit, with the full commit hash


def download(source: str) -> HubWeights:
    """Downloads weights, or takes them from the cache of huggingface_hub, which also serves them offline.

    `source` is "hf://owner/name" or "hf://owner/name@revision", where the revision is a branch, a tag or a commit.

    Raises StavisError if huggingface_hub is not installed, the name is malformed, the repository, revision or file does
    not exist or is private, the connection fails, or a file differs from its checksum.
    """
    repo, revision = _parse(source)
    with _explain(source):
        from huggingface_hub import hf_hub_download

        folder = Path()
        for file in (CONFIG_FILE, WEIGHTS_FILE):
            path = hf_hub_download(repo, file, revision=revision, endpoint=_endpoint(), cache_dir=_cache())
            folder = Path(path).parent
            _verify(source, Path(path))
            revision = folder.name  # the second file comes from the same commit
    return HubWeights(folder, f"{SCHEME}{repo}@{revision}")


def push(folder: str | os.PathLike[str], target: str, *, private: bool = False) -> str:
    """Uploads a weights folder (weights, config and a model card, nothing else); returns hf://owner/name@commit.

    The folder's README.md or MODEL_CARD.md becomes the model card; without one, a short card is generated. The target,
    "hf://owner/name" or "hf://owner/name@branch", is created if necessary.

    Raises StavisError if the folder holds no complete, valid weights, or the upload fails.
    """
    from stavis.weights.load import load_model_with_report  # which itself finds weights on the Hub

    repo, _ = _parse(target)
    stored = read(Path(folder))
    if stored.config is None:
        raise StavisError(f"{folder}: not a weights folder; make one with stavis convert")
    source = stored.source
    load_model_with_report(source.absolute())  # complete, or it is no use to anyone
    card = next((source / name for name in _CARDS if (source / name).is_file()), None)
    with tempfile.TemporaryDirectory() as staging:
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            shutil.copy(source / name, staging)
        try:
            text = card.read_text(encoding="utf-8") if card else _make_card(repo, source / CONFIG_FILE)
        except UnicodeDecodeError:
            raise StavisError(f"{card}: the model card is not UTF-8, which the Hub takes alone") from None
        (Path(staging) / CARD_FILE).write_text(text, encoding="utf-8")
        oid = _upload(Path(staging), target, private=private)
    return f"{SCHEME}{repo}@{oid}"


def _upload(folder: Path, target: str, *, private: bool) -> str:
    """Uploads a folder as it is; returns the commit."""
    repo, branch = _parse(target)
    with _explain(target):
        from huggingface_hub import HfApi

        api = HfApi(endpoint=_endpoint())
        api.create_repo(repo, private=private, exist_ok=True)
        if branch is not None:
            api.create_branch(repo, branch=branch, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo, folder_path=folder, revision=branch, commit_message="Upload STAViS weights"
        )
    return str(commit.oid)


def _parse(name: str) -> tuple[str, str | None]:
    if found := _NAME.fullmatch(name):
        return found["repo"], found["revision"]
    raise StavisError(f"{name}: not a name on the Hub; expected hf://owner/name or hf://owner/name@revision")


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")  # read now: huggingface_hub reads it once, when it is imported


def _cache() -> str | None:
    home = os.environ.get("HF_HOME")
    return os.environ.get("HF_HUB_CACHE") or (os.path.join(home, "hub") if home else None)


@contextmanager
def _explain(source: str) -> Iterator[None]:
    """Turns the errors of huggingface_hub into one line each."""
    try:
        from huggingface_hub import errors
    except ImportError:
        raise StavisError(f"{source}: needs huggingface_hub: pip install 'stavis[hub]'") from None
    login = "if it is private, log in with `hf auth login` or set HF_TOKEN"
    try:
        yield
    except StavisError:
        raise
    except errors.RevisionNotFoundError:
        raise StavisError(f"{source}: the repository has no such revision") from None
    except errors.GatedRepoError:
        raise StavisError(f"{source}: access must be requested on the repository's page first") from None
    except errors.RepositoryNotFoundError:
        raise StavisError(f"{source}: no such repository; {login}") from None
    except errors.RemoteEntryNotFoundError:
        raise StavisError(
            f"{source}: not weights of stavis: the repository needs {CONFIG_FILE} and {WEIGHTS_FILE}"
        ) from None
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError) as error:
        response = getattr(error.__cause__ or error, "response", None)
        if response is None:
            cause = str(error.__cause__ or error).partition("\n")[0]
            raise StavisError(f"{source}: not in the cache, and the Hub cannot be reached: {cause}") from None
        hint = f"; {login}" if response.status_code in (401, 403) else ""
        raise StavisError(f"{source}: the Hub answered with status {response.status_code}{hint}") from None
    except Exception as error:  # of several HTTP libraries, and for a download cut short
        first = str(error).partition("\n")[0] or type(error).__name__
        raise StavisError(f"{source}: transfer failed: {first}; the same command resumes it") from None


def _verify(source: str, path: Path) -> None:
    """Compares a file with its checksum, by which the cache names it: SHA-256 if it is large, else that of Git."""
    blob = path.resolve()
    content = b"blob %d\0" % blob.stat().st_size + blob.read_bytes() if len(blob.name) == 40 else b""
    found = hashlib.sha1(content).hexdigest() if content else file_sha256(blob)
    if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", blob.name) and found != blob.name:
        blob.unlink()
        path.unlink(missing_ok=True)
        raise StavisError(f"{source}: {path.name} arrived damaged (wrong checksum), now removed; try again")


def _make_card(repo: str, config: Path) -> str:
    model = json.loads(config.read_text(encoding="utf-8"))["model"]
    return f"""---
library_name: stavis
tags:
- saliency
- video
- eye-tracking
---

# {repo.partition("/")[2]}

A {model["modality"]} STAViS network (ResNet-{model["depth"]}) that predicts where people look in a video. `config.json`
records its preprocessing and how it was trained.

    stavis predict VIDEO --weights {SCHEME}{repo}
"""
