"""Telemetry of dependencies, switched off."""

import sys


def switch_off_telemetry() -> None:
    """Call this before importing OpenVINO or NNCF: both report each use to their makers by default.

    They do without where the package that does it is missing.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
