"""Folders of the project, of real clips and of recorded numbers.

Not in conftest.py: several folders have one, and a test that imports `conftest` gets whichever was loaded last.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
TRAVELING_GOLDENS = ROOT / "tests" / "golden"  # a part of the recorded numbers, in every clone
FULL_GOLDENS = Path(os.environ.get("STAVIS_GOLDENS", SHARED / "goldens"))
GOLDENS = FULL_GOLDENS if FULL_GOLDENS.is_dir() else TRAVELING_GOLDENS
