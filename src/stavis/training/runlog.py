"""Records of a training run: metrics, pictures, curves and the environment it ran in."""

import datetime
import importlib.util
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stavis.errors import StavisError, legend_text
from stavis.maps.overlay import OverlayStyle, draw_overlay
from stavis.runtime.files import atomic_path, read_json, write_text
from stavis.training.display import show
from stavis.version import __version__

RECIPE_FILE = "config.toml"
ENVIRONMENT_FILE = "environment.json"
METRICS_FILE = "metrics.jsonl"
CHECKPOINT_FOLDER = "checkpoints"
OVERLAY_FOLDER = "overlays"
TENSORBOARD_FOLDER = "tensorboard"
WEIGHTS_FOLDER = "weights"

SCORES = ("loss", "bce", "cc", "nss")
"""Measures of the final output: the loss and its terms. CC and NSS are scores (higher is better)."""

OVERLAY_ENLARGEMENT = 3


def describe_environment(device: torch.device, world_size: int) -> dict[str, Any]:
    """Describes what a run is computed with: versions, commit, device, command."""
    cuda = device.type == "cuda"
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "stavis": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name(device)
        if cuda
        else (platform.processor() or platform.machine()),
        "num_threads": torch.get_num_threads(),
        "num_processes": world_size,
    }


def append_environment(run: Path, environment: dict[str, Any]) -> None:
    """Appends a start of the run to its list of starts; a damaged list is begun anew."""
    path = run / ENVIRONMENT_FILE
    starts = read_json(path)
    if not isinstance(starts, list):
        if path.exists():
            show(f"warning: {path}: damaged; earlier starts of this run are not known any more")
        starts = []
    write_text(path, json.dumps([*starts, environment], indent=2) + "\n")


class RunLog:
    """Writer of a run's metrics to `metrics.jsonl` and TensorBoard.

    Args:
        run: The run's folder.
        step: Optimizer steps done. Records of later steps are removed, because a resumed run repeats these steps.
        epoch: The current epoch.
        tensorboard: Also write for TensorBoard. If it is not installed, a line says so.
    """

    def __init__(self, run: Path, *, step: int, epoch: int, tensorboard: bool) -> None:
        self.run = run
        path = run / METRICS_FILE
        kept = [
            record
            for record in (read_metrics(run) if path.exists() else [])
            if record["step"] <= step and (record["kind"] == "step" or record["epoch"] < epoch)
        ]
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = path.open("a", encoding="utf-8")
        self._writer: Any = None
        if tensorboard and importlib.util.find_spec("tensorboard") is None:
            show(
                "TensorBoard is not installed (pip install 'stavis[tensorboard]'), so nothing is written for it; "
                f"metrics are in {path}"
            )
        elif tensorboard:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._writer = SummaryWriter(str(run / TENSORBOARD_FOLDER), purge_step=step + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Records a step or an epoch: a dictionary with `kind`, `epoch`, `step` and numbers, nested at most once."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._writer is None:
            return
        for key, value in record.items():
            entries = value if isinstance(value, dict) else {"": value}
            for name, number in entries.items():
                if isinstance(number, int | float) and key not in ("epoch", "step"):
                    tag = f"{record['kind']}/{key}" + (f"/{name}" if name else "")
                    self._writer.add_scalar(tag, number, record["step"])

    def write_picture(self, epoch: int, step: int, picture: npt.NDArray[np.uint8]) -> None:
        """Saves a picture (H, W, 3) of an epoch's predictions."""
        from PIL import Image

        with atomic_path(self.run / OVERLAY_FOLDER / f"epoch_{epoch:03d}.png") as temporary:
            Image.fromarray(picture).save(temporary)
        if self._writer is not None:
            self._writer.add_image("overlays", picture, step, dataformats="HWC")

    def close(self) -> None:
        self._file.close()
        if self._writer is not None:
            self._writer.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Reads all records of a run, in order. A truncated last line is ignored.

    Raises StavisError if the folder is not a training run, or another line is damaged.
    """
    path = run / METRICS_FILE
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise StavisError(f"{run}: not a training run: it has no {METRICS_FILE}") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines):
                raise StavisError(f"{path}, line {number}: not JSON: {line[:60]!r}") from None
    return records


def compare_pictures(
    frames: npt.NDArray[np.uint8],
    density_maps: npt.NDArray[np.float32],
    saliency_maps: npt.NDArray[np.float32],
) -> npt.NDArray[np.uint8]:
    """Draws one row per clip: the frame, the density map over it, the prediction over it.

    Takes (N, H, W, 3) RGB frames and (N, H, W) maps of any range; returns (3 N H, 9 W, 3) RGB.
    """
    style = OverlayStyle(color_bar=False)
    rows = []
    for frame, *maps in zip(frames, density_maps, saliency_maps, strict=True):
        large = np.kron(frame, np.ones((OVERLAY_ENLARGEMENT, OVERLAY_ENLARGEMENT, 1), np.uint8))
        rows.append(np.hstack([large, *(draw_overlay(large, one, style) for one in maps)]))
    return np.vstack(rows)


def draw_curves(runs: Sequence[Path], path: Path) -> None:
    """Plots loss, CC and NSS of runs over the epochs, training dashed and validation solid."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = {run: [record for record in read_metrics(run) if record["kind"] == "epoch"] for run in runs}
    if not any(epochs.values()):
        raise StavisError(f"{', '.join(map(str, runs))}: no epoch is finished yet: nothing to plot")
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, score in zip(figure.subplots(1, 3), ("loss", "cc", "nss"), strict=True):
        for number, (run, records) in enumerate(epochs.items()):
            for subset, line in (("training", "--"), ("validation", "-")):
                points = [(one["epoch"], one[subset][score]) for one in records if one.get(subset)]
                if points:
                    x, y = zip(*points, strict=True)
                    label = legend_text(f"{run.name} {subset}")
                    axes.plot(x, y, line, color=f"C{number}", label=label, marker="." if len(x) < 30 else "")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title({"loss": "loss", "cc": "CC", "nss": "NSS"}[score])
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _commit() -> str | None:
    """Returns the commit of the source tree, with "+" if it has changes; None outside a Git repository."""
    folder = Path(__file__).parent
    try:
        changes = _git(folder, "status", "--porcelain", "--", str(folder.parent)).strip()
        return _git(folder, "rev-parse", "HEAD").strip() + ("+" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    ).stdout
