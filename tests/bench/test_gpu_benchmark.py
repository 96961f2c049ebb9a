"""The benchmark for GPUs, run on a CPU with a small network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.places import ROOT


@pytest.mark.slow
def test_every_step_measures_something(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "gpu.py"
    command = [
        sys.executable,
        str(script),
        "--device",
        "cpu",
        "--quick",
        "--in-this-process",
        "--output",
        str(tmp_path),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, check=True, env=environment)
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert len(found) == 18
    failed = {step for step, result in found.items() if "failed" in result}
    assert failed == {"maps-fp16-plain", "maps-bf16-graphs", "maps-float32-graphs"}, "which need a GPU"
    assert found["maps-float32-plain"]["maps per second"]["2"] > 0
    assert found["deviation"]["float32"]["largest difference"] < 1e-5
    assert 0.9 < found["deviation"]["bf16"]["CC"] <= 1
    assert found["training-float32"]["clips per second"] > 0

    # As after an interruption: what is there is not measured again, and the tables are written.
    command.remove("--in-this-process")
    (tmp_path / "machine.json").unlink()
    printed = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout
    assert [line.split()[0] for line in printed.splitlines()] == ["machine"]
    tables = (tmp_path / "results.md").read_text()
    assert "| float32-plain |" in tables
    assert "| published-test |" in tables
