"""Imports point one way, PyAV has one home, and the command line starts at once."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "stavis"

# What each layer may not import. `cli` stands on top and may import anything.
FORBIDDEN = {
    "clips": {"*"},
    "errors": {"*"},
    "preprocess": {"*"},
    "metrics": {
        "torch",
        "stavis.datasets",
        "stavis.training",
        "stavis.prediction.predict",
        "stavis.evaluation",
        "stavis.evaluation.report",
        "stavis.cli",
    },
    "maps": {
        "torch",
        "stavis.datasets",
        "stavis.training",
        "stavis.prediction.predict",
        "stavis.evaluation",
        "stavis.evaluation.report",
        "stavis.cli",
    },
    "media": {
        "torch",
        "stavis.datasets",
        "stavis.training",
        "stavis.prediction.predict",
        "stavis.cli",
        "stavis.model",
    },
    "model": {
        "stavis.datasets",
        "stavis.training",
        "stavis.prediction.predict",
        "stavis.media",
        "stavis.cli",
        "stavis.engine",
    },
    "engine": {"stavis.datasets", "stavis.training", "stavis.prediction.predict", "stavis.media"},
    "predict": {"stavis.evaluation", "stavis.evaluation.report", "stavis.training", "stavis.datasets"},
    "evaluation": {"stavis.prediction.predict", "stavis.training", "torch"},
    "report": {"stavis.prediction.predict", "stavis.training", "torch"},
    "training": {"stavis.prediction.predict", "stavis.evaluation", "stavis.evaluation.report", "stavis.cli"},
    "data": {
        "stavis.prediction.predict",
        "stavis.evaluation",
        "stavis.evaluation.report",
        "stavis.training",
        "stavis.cli",
    },
}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def layer(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    rules = FORBIDDEN.get(layer(path), set())
    used = imports(path)
    if "*" in rules:
        used = {name for name in used if name.startswith("stavis")}
        assert not used, f"{path.name} stands at the bottom and imports {used}"
    for name in used:
        assert not any(name == rule or name.startswith(rule + ".") for rule in rules), (
            f"{path.name} imports {name}"
        )
    if layer(path) != "cli" and path.name != "__main__.py":
        assert not any(name == "stavis.cli" or name.startswith("stavis.cli.") for name in used)
    if layer(path) != "media":
        assert "av" not in {name.partition(".")[0] for name in used}, "PyAV has one home: stavis.media"


def test_help_needs_no_heavy_library() -> None:
    program = "import sys, stavis.cli; print([m for m in ('torch', 'av', 'matplotlib', 'scipy') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
