"""Keeps what we use from reporting on our users."""

import sys


def switch_off_telemetry() -> None:
    """To be called before OpenVINO or NNCF is imported: both report each use to their makers unless told otherwise.

    They do without where the package that does it is missing.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
