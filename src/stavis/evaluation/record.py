"""Record of an evaluation's settings and inputs."""

import json
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stavis.errors import StavisError
from stavis.evaluation.plan import EvaluationSettings
from stavis.runtime.files import read_json, write_text
from stavis.version import __version__

RUN_FILE = "evaluation.json"


def claim(
    output: Path,
    data: Path,
    predictions: Path | None,
    settings: EvaluationSettings,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Records what is evaluated in the folder `output`, or checks that it is the same as before.

    Returns the record, as in `evaluation.json`. Raises StavisError if the folder holds an evaluation of other
    predictions, data or settings.
    """
    path = output / RUN_FILE
    record = {
        "stavis": __version__,
        "settings": asdict(settings),
        "data": str(data.resolve()),
        "predictions": None if predictions is None else str(predictions.resolve()),
        # The record of the `stavis test` run that made the maps.
        "test_run": None if predictions is None else read_json(predictions / "testrun.json"),
        "versions": _versions(),
    }
    before = read_run(output) if path.exists() else None
    if before is not None and not overwrite:
        for key in ("settings", "data", "predictions"):
            if before[key] != record[key] and not (key == "predictions" and before[key] is None):
                raise StavisError(
                    f"{output}: contains an evaluation with other {key} ({before[key]}, now {record[key]}); choose "
                    "another output folder, or overwrite=True"
                )
    write_text(path, json.dumps(record, indent=2) + "\n")
    return record


def read_run(output: Path) -> dict[str, Any]:
    """The record of the evaluation in a folder. Raises StavisError if there is none."""
    path = output / RUN_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {
            key: record[key] for key in ("stavis", "settings", "data", "predictions", "test_run", "versions")
        }
    except FileNotFoundError:
        raise StavisError(f"{output}: no evaluation in it ({RUN_FILE} of `stavis evaluate`)") from None
    except (ValueError, KeyError, TypeError):
        raise StavisError(f"{path}: not the record of an evaluation") from None


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("numpy", "scipy", "Pillow", "av"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
