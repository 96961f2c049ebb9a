"""`stavis doctor`: what an installation has and lacks."""

import importlib.metadata
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stavis.bench import installation
from stavis.cli import app
from stavis.media.codecs import missing_codecs


def findings(*arguments: str) -> dict[str, dict[str, str]]:
    result = CliRunner().invoke(app, ["doctor", "--json", *arguments])
    return {one["name"]: one for one in json.loads(result.stdout)}


def test_the_inventory_of_this_machine() -> None:
    found = findings()
    assert found["torch"]["value"] == importlib.metadata.version("torch")
    assert "h264" in found["codecs"]["value"]
    assert {name for name, one in found.items() if one["section"] == "extras"} == set(installation.EXTRAS)
    printed = CliRunner().invoke(app, ["doctor"])
    assert printed.exit_code == 0
    for one in found.values():
        assert one["name"] in printed.stdout


def test_what_is_missing_comes_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def version(name: str) -> str:
        if name in ("openvino", "pyarrow"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setenv("STAVIS_DATA", str(tmp_path))
    found = findings()
    assert found["openvino"]["problem"] == "missing"
    assert "pip install 'stavis[openvino]'" in found["openvino"]["hint"]
    assert "stavis[parquet]" in found["pyarrow"]["hint"]
    assert found["nncf"]["problem"] == ""
    assert found["published"]["hint"] == f"stavis fetch weights --data {tmp_path}"


def test_broken_things_end_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_codecs(("h264", "no_such"), ("libx264", "nor_this")) == ["no_such", "nor_this"]
    full = shutil.disk_usage(Path.cwd())._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "free some space" in result.stdout
