"""How the commands that run a network get one from their --weights option."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from stavis.model import Modality, STAViS

UNTRAINED = "untrained"
DEFAULT = "default"  # stavis.weights.DEFAULT, whose module waits for torch
PUBLISHED_PREFIX = "published-"
DATA_VARIABLE = "STAVIS_DATA"

WEIGHTS_HELP = (
    "default (they come with stavis, and are not the paper's), a weights folder, a published .pth file, published-1 "
    "(2, 3: the paper's, fetched into the data folder), or untrained (random: to try things out only)."
)


class ModalityName(StrEnum):
    AUDIOVISUAL = "audiovisual"
    VISUAL = "visual"


class LoadedNetwork(NamedTuple):
    """A network ready to predict.

    Attributes:
        model: In eval mode, on its device.
        name: What its weights are called.
        sha256: Of the file that they came from; None if they are random.
        warnings: What a user should know before trusting its maps.
    """

    model: "STAViS"
    name: str
    sha256: str | None
    warnings: tuple[str, ...]


def load_network(
    weights: str, *, modality: "Modality | None", device: str, data: Path | None = None
) -> LoadedNetwork:
    """Loads what --weights names: see `WEIGHTS_HELP`.

    Args:
        weights: The name or path.
        modality: Which network to take from a published file.
        device: As for `stavis.weights.resolve_device`.
        data: Data folder in which published weights are looked for; None for `data_folder()`.

    Raises:
        StavisError: There is no such file or device, or the file does not fit.
    """
    from stavis.weights import load_model_with_report, untrained_model

    if weights == UNTRAINED:
        model = untrained_model(modality or "audiovisual", device=device)
        return LoadedNetwork(model, UNTRAINED, None, ("the network is untrained: its maps mean nothing",))
    source = find_published(weights, modality, data or data_folder()) or weights
    model, report = load_model_with_report(source, modality=modality, device=device)
    name = describe_weights(weights) if weights == DEFAULT else str(report.source)
    return LoadedNetwork(model, name, report.sha256, report.warnings)


def describe_weights(weights: str) -> str:
    """What a value of --weights is called on screen and in results."""
    return "default (not the paper's weights)" if weights == DEFAULT else weights


def data_folder() -> Path:
    """Where data and published weights are unless an option says otherwise: $STAVIS_DATA, or `data`."""
    return Path(os.environ.get(DATA_VARIABLE, "data"))


def find_published(weights: str, modality: "Modality | None", data: Path) -> Path | None:
    """The file of published weights that a name such as "published-1" stands for; None for other names.

    Raises:
        StavisError: The name's number is no split's, or the file has not been fetched.
    """
    from stavis.errors import StavisError

    path = _published_path(weights, modality, data)
    if path is not None and not path.is_file():
        raise StavisError(
            f"{path}: the published weights are not there; `stavis fetch weights --data {data}` gets them and nothing "
            f"else (if they are in another data folder, set {DATA_VARIABLE} to it)"
        )
    return path


def fetch_published(weights: str, modality: "Modality | None", *, quiet: bool) -> None:
    """Fetches the published weights into the data folder if `weights` is a name of theirs and they are not there.

    Raises:
        StavisError: They cannot be had, or `weights` is no such name.
    """
    from stavis.datasets import site
    from stavis.errors import StavisError
    from stavis.fetching.fetch import fetch

    path = _published_path(weights, modality, data_folder())
    if path is None:
        raise StavisError(
            f"--fetch is for weights published-1, published-2 and published-3, not for {weights}"
        )
    if not path.is_file():
        fetch(["weights"], [], data_folder(), base_url=site.SITE, quiet=quiet)


def _published_path(weights: str, modality: "Modality | None", data: Path) -> Path | None:
    from stavis.datasets.layout import SPLITS, Layout
    from stavis.errors import StavisError

    if not weights.startswith(PUBLISHED_PREFIX):
        return None
    names = {f"{PUBLISHED_PREFIX}{split}": split for split in SPLITS}
    if weights not in names:
        raise StavisError(f"weights {weights}: there are {', '.join(names)}")
    return Layout(data).published_weights(modality or "audiovisual", names[weights])
