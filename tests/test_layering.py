"""Imports run one way, downwards; PyAV is imported in one folder only; the command line starts at once."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "stavis"
MODULES = sorted(SOURCE.rglob("*.py"))

# Lowest first. A module may import from its own folder and from lower layers, not from a neighbor in its layer.
LAYERS = (
    {"version", "errors"},
    {"clips", "runtime", "storage"},
    {"model", "maps"},
    {"engine", "media", "metrics", "gaze"},
    {"datasets"},
    {"weights", "synthetic"},
    {"preparation", "evaluation"},
    {"prediction", "training", "fetching"},
    {"experiments", "app", "reframing", "areas", "encoding"},
    {"bench"},
    {"cli"},
)
PUBLIC_FACE = {"__init__", "__main__"}  # stand above all layers
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
NO_TORCH = {"clips", "runtime", "storage", "maps", "gaze", "media", "metrics", "preparation", "evaluation"}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"stavis.{alias.name}" for alias in node.names]
            found.update(names if node.module == "stavis" else [node.module])
    return found


def folder(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def test_every_module_has_a_layer() -> None:
    assert {folder(path) for path in MODULES} == HEIGHT.keys() | PUBLIC_FACE


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_run_downwards(path: Path) -> None:
    own = folder(path)
    if own in PUBLIC_FACE:
        return
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "stavis":
            other = rest.partition(".")[0]
            assert other == own or HEIGHT.get(other, len(LAYERS)) < HEIGHT[own], f"{path.name} imports {name}"
        assert top != "av" or own == "media", f"{path.name} imports PyAV, which only stavis.media may"
        assert top != "torch" or own not in NO_TORCH, f"{path.name} imports torch"


def test_modules_are_short_enough_to_read() -> None:
    long = {str(path.relative_to(SOURCE)) for path in MODULES if len(path.read_text().splitlines()) > 500}
    assert long <= {"training/loop.py"}


def test_help_needs_no_heavy_library() -> None:
    program = "import sys, stavis.cli; print([m for m in ('torch', 'av', 'matplotlib', 'scipy') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
