"""Choice of an approximate mode by the accuracy wanted and by what this machine was measured to do."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from stavis.engine import EngineFactory, EngineName, Precision
from stavis.errors import StavisError
from stavis.model import STAViS
from stavis.runtime.files import read_json, write_text

Speed = Literal["exact", "balanced", "fast"]

LEAST_CC: dict[Speed, tuple[float, float]] = {"balanced": (0.995, 0.98), "fast": (0.99, 0.9)}
"""Correlation with the exact maps that the measured videos must have reached: on average, and on every frame."""

STRIDES = (1, 2, 4, 8, 16)
NUM_FRAMES = 1000  # of a video over which the setup of an engine counts
WORTH = 1.1  # how many times as fast a mode must be to be preferred to one that is closer to the exact maps
MEASURED_FILE = Path(__file__).with_name("speed.json")  # written by benchmarks/speed.py


@dataclass(frozen=True)
class Mode:
    """A way to compute the maps."""

    speed: Speed  # what was asked for
    precision: Precision  # as in `PredictOptions`
    stride: int  # as in `PredictOptions`
    # Measured deviation from the exact maps: mean and lowest `cc`, `sim`, `nss_difference`.
    deviation: dict[str, float]
    videos: tuple[str, ...]  # the videos on which it was measured
    same_weights: bool  # whether it was measured with the weights in use
    # Whether `stavis bench` was run on this machine, so that the choice rests on its speeds.
    measured_here: bool

    def __str__(self) -> str:
        notes = [] if self.same_weights else ["measured with other weights"]
        notes += [] if self.measured_here else ["`stavis bench` would tell which is fastest here"]
        note = f" ({'; '.join(notes)})" if notes else ""
        return (
            f"{self.speed}: {self.precision}, stride {self.stride}; CC with the exact maps {self.deviation['cc']:.4f} "
            f"on average, {self.deviation['lowest_cc']:.4f} at the lowest{note}"
        )


def choose_mode(
    speed: Speed, model: STAViS, weights_sha256: str | None, engine: EngineName = "auto"
) -> Mode | None:
    """Chooses the fastest mode of this machine whose maps are close enough to the exact ones; None for "exact".

    What "balanced" and "fast" allow is in `LEAST_CC`. Of modes that are about equally fast, including decoding,
    writing and the engine's setup, the one closest to the exact maps is taken. Without measurements of this machine
    (`stavis bench`) only strides of exact maps are considered, which are faster on any machine.

    Raises ValueError if there is no such speed.
    """
    if speed not in get_args(Speed):
        raise ValueError(f"`speed={speed}`: allowed are {', '.join(get_args(Speed))}")
    if speed == "exact":
        return None
    measured = json.loads(MEASURED_FILE.read_text(encoding="utf-8"))
    device = next(model.parameters()).device.type
    seconds = _seconds_per_frame(device)
    modes = []
    for name, deviation in measured["modes"].items():
        precision, _, stride = name.partition(", stride ")
        reached = deviation["cc"], deviation["lowest_cc"]
        if any(cc < least for cc, least in zip(reached, LEAST_CC[speed], strict=True)):
            continue
        if not _works(model, engine, precision):
            continue
        if seconds is None and precision != "float32":
            continue
        fixed, network = (0.0, 1.0) if seconds is None else seconds.get(precision, (0.0, None))
        if network is not None:
            modes.append((fixed + network / int(stride), deviation["cc"], precision, int(stride), deviation))
    fastest = min(one[0] for one in modes)
    _, _, precision, stride, deviation = max(
        (one for one in modes if one[0] <= fastest * WORTH), key=lambda one: (one[1], -one[0])
    )
    return Mode(
        speed,
        precision,
        stride,
        deviation,
        tuple(measured["videos"]),
        measured["weights_sha256"] == weights_sha256,
        seconds is not None,
    )


def _works(model: STAViS, engine: EngineName, precision: Precision) -> bool:
    try:
        EngineFactory(model, engine, precision)
    except StavisError:
        return False
    return True


def bench_file() -> Path | None:
    """File that keeps the measurements of `stavis bench`; None if the user has no home directory."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "stavis" / "bench.json"
    except RuntimeError:
        return None


def keep_measurements(report: dict[str, Any]) -> None:
    """Keeps a report of `stavis bench` for `choose_mode`, one per kind of device; failures are ignored."""
    path = bench_file()
    if path is not None:
        kept = _read_measurements() | {report["machine"]["device"].partition(":")[0]: report}
        try:
            write_text(path, json.dumps(kept, indent=1) + "\n")
        except OSError:
            return


def _read_measurements() -> dict[str, Any]:
    path = bench_file()
    kept = None if path is None else read_json(path)
    return kept if isinstance(kept, dict) else {}


def _seconds_per_frame(device: str) -> dict[str, tuple[float, float]] | None:
    """Seconds per frame by precision: of all but the network, and of the network; None without measurements."""
    try:
        report = _read_measurements()[device]
        around = 1 / float(report["media"]["decode_fps"]) + 1 / float(report["media"]["write_fps"])
        seconds: dict[str, tuple[float, float]] = {}
        for engine in report["engines"]:
            fixed = around + float(engine["setup_seconds"]) / NUM_FRAMES
            one = (fixed, float(engine["network_seconds"]))
            seconds[engine["precision"]] = min(one, seconds.get(engine["precision"], one), key=sum)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return seconds
