"""Where the recorded numbers and real clips are, if they are here."""

import os

# Tests run in as many processes as there are cores, where threads of each would only wait for one another. Set before
# anything loads OpenMP, and inherited by the commands that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import importlib.util
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

from support.places import FULL_GOLDENS, GOLDENS, SHARED

# A shell without job control starts background jobs with Ctrl-C ignored; commands that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine must not fail a test.
hypothesis.settings.register_profile("stavis", deadline=None)
hypothesis.settings.load_profile("stavis")

# Nor do tests leave compiled networks among the user's.
_CACHE = tempfile.TemporaryDirectory(prefix="stavis-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name


@pytest.fixture(autouse=True)
def _threads_stay() -> Iterator[None]:
    """A test that changes the number of PyTorch's threads would slow down every later one of its process."""
    yield
    if (torch := sys.modules.get("torch")) is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs real clips and gaze in {SHARED.name}/ beside the project, which a clone has not")
    return SHARED


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of recorded numbers: all of them if they are here, else those that travel with the project."""
    return GOLDENS


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Folder of all recorded numbers, with the pictures, sound and videos that some belong to."""
    if not FULL_GOLDENS.is_dir():
        pytest.skip("needs all recorded numbers: set STAVIS_GOLDENS to their folder")
    return FULL_GOLDENS


@pytest.fixture(scope="session")
def recipe(golden: Path) -> ModuleType:
    """The recorded numbers' own recipe for weights and inputs."""
    spec = importlib.util.spec_from_file_location("golden_recipe", golden / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
