"""Names of weights: "default", "published-1" to "published-3", "untrained", or a path."""

import os
from pathlib import Path
from typing import NamedTuple

from stavis.datasets.layout import SPLITS, Layout
from stavis.errors import StavisError
from stavis.model import Modality, STAViS
from stavis.weights.load import DEFAULT, load_model_with_report, untrained_model

UNTRAINED = "untrained"
PUBLISHED_PREFIX = "published-"
DATA_VARIABLE = "STAVIS_DATA"


class LoadedNetwork(NamedTuple):
    """A network ready to predict.

    Attributes:
        model: In eval mode, on its device.
        name: What its weights are called.
        sha256: Of the file that they came from; None if they are random.
        warnings: What a user should know before trusting its maps.
    """

    model: STAViS
    name: str
    sha256: str | None
    warnings: tuple[str, ...]


def load_network(
    weights: str, *, modality: Modality | None, device: str, data: Path | None = None
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


def find_published(weights: str, modality: Modality | None, data: Path) -> Path | None:
    """The file of published weights that a name such as "published-1" stands for; None for other names.

    Raises:
        StavisError: The name's number is no split's, or the file has not been fetched.
    """
    path = published_path(weights, modality, data)
    if path is not None and not path.is_file():
        raise StavisError(
            f"{path}: the published weights are not there; `stavis fetch weights --data {data}` gets them and nothing "
            f"else (if they are in another data folder, set {DATA_VARIABLE} to it)"
        )
    return path


def published_path(weights: str, modality: Modality | None, data: Path) -> Path | None:
    if not weights.startswith(PUBLISHED_PREFIX):
        return None
    names = {f"{PUBLISHED_PREFIX}{split}": split for split in SPLITS}
    if weights not in names:
        raise StavisError(f"weights {weights}: there are {', '.join(names)}")
    return Layout(data).published_weights(modality or "audiovisual", names[weights])
