"""Damaged files of every kind end in a result or in one line: no traceback, no signal, no unbounded time or memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import fuzzing

NUM_FILES = {"media": 120, "gaze": 90, "archive": 60, "checkpoint": 30}


@pytest.mark.slow
@pytest.mark.parametrize("kind", fuzzing.KINDS)
def test_damaged_files_end_in_a_result_or_one_line(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, fuzzing.__file__, kind, str(NUM_FILES.get(kind, 50)), str(tmp_path)]
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == []
