"""A release: versions that agree, pinned dependencies, and a wheel that predicts."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import stavis
from stavis.bench.installation import EXTRAS

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {normalized(name): version for name, version in pairs}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_version_and_date_are_the_same_everywhere() -> None:
    version = PROJECT["version"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == version
    assert stavis.__version__ == version
    date = re.search(r"^date-released: (.+)$", citation, re.MULTILINE)[1]
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", f"{version} - {date}"]


def test_every_declared_dependency_is_pinned() -> None:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    names = {normalized(re.match(r"[\w.-]+", requirement)[0]) for group in groups for requirement in group}
    assert names - {"stavis"} <= pins().keys()


def test_every_extra_is_documented_and_looked_for() -> None:
    extras = set(PROJECT["optional-dependencies"])
    table = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == extras
    assert {extra for extra, _ in EXTRAS.values()} == extras - {"docs", "dev"}


def test_pre_commit_has_the_pinned_versions() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    found = re.findall(r'"([\w-]+)==([\w.]+)"', text)
    assert {name for name, _ in found} == {"ruff", "codespell"}
    assert all(pins()[name] == version for name, version in found)


def test_make_has_what_the_public_checks_run() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    targets = re.findall(r"run: make ([\w-]+)", workflow)
    assert {"lint", "test", "dist"} <= set(targets)
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"no target {target}"


@pytest.mark.slow
def test_the_wheel_predicts_a_clip(tmp_path: Path) -> None:
    """Built from a copy of the sources, installed without the sources in sight."""
    pytest.importorskip("build", reason="needs the package build")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source], tmp_path)
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 35 << 20
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"stavis/py.typed", "stavis/weights/default/model.safetensors", "stavis/cli/predict.py"} <= names
    assert not any(name.startswith("tests") or name.endswith((".pyc", ".pth")) for name in names)

    site = tmp_path / "site"
    run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel], tmp_path)
    python = [sys.executable, "-c"]
    where = run([*python, "import stavis; print(stavis.__file__)"], tmp_path, site)
    assert Path(where.strip()) == site / "stavis" / "__init__.py"
    make_clip = (
        "from pathlib import Path; from stavis.bench.machine import write_clip as w; w(Path('c.mp4'), 20)"
    )
    run([*python, make_clip], tmp_path, site)
    run(
        [sys.executable, "-m", "stavis", "predict", "c.mp4", "-o", "out", "--outputs", "maps"], tmp_path, site
    )
    summary = json.loads((tmp_path / "out" / "c" / "summary.json").read_text())
    assert summary["stavis"] == PROJECT["version"]
    assert len(list((tmp_path / "out" / "c" / "maps").iterdir())) == 20


def run(command: list[object], folder: Path, site: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    result = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
