"""Names of weights: "default", "published-1" to "published-3", "untrained", or a path."""

import logging
import os
from pathlib import Path
from typing import NamedTuple

import torch

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
        summary: Where the weights came from and how they fit, in one line.
    """

    model: STAViS
    name: str
    sha256: str | None
    warnings: tuple[str, ...] = ()
    summary: str = ""


def load_model(
    source: str | os.PathLike[str] = DEFAULT,
    *,
    modality: Modality | None = None,
    device: str | torch.device = "auto",
) -> STAViS:
    """Loads a network, ready to predict, and logs one line about it to the logger "stavis".

    Args:
        source: "default": the weights included in the package, which are not the paper's. "published-1" to
            "published-3": the paper's weights for a split, from the data folder ($STAVIS_DATA, or `data`), where
            `stavis fetch weights` puts them. "untrained": the published network with random weights. Otherwise a path:
            a weights folder (`save_model`, `stavis convert`), a published checkpoint (`*_save_60.pth`), or a published
            initializer (`resnet-50-kinetics.pth`, `soundnet8.pth`), around which the rest of the network is randomly
            initialized, with a warning.
        modality: "audiovisual" or "visual", for files that contain both. None: as the file's name says, else
            "audiovisual".
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", or a torch.device.

    Returns:
        The network in eval mode, its parameters in float32.

    Raises:
        StavisError: There is no such file or device, or the file cannot be read or does not fit.
    """
    network = load_network(source, modality=modality, device=device)
    log = logging.getLogger("stavis")
    log.info("%s", network.summary)
    for warning in network.warnings:
        log.warning("%s", warning)
    return network.model


def load_network(
    weights: str | os.PathLike[str],
    *,
    modality: Modality | None,
    device: str | torch.device,
    data: Path | None = None,
) -> LoadedNetwork:
    """As `load_model`, and returns what it would log.

    Args:
        weights: As `source` of `load_model`.
        modality: As for `load_model`.
        device: As for `load_model`.
        data: Data folder that contains published weights; None for `data_folder()`.

    Raises:
        StavisError: There is no such file or device, or the file does not fit.
    """
    if weights == UNTRAINED:
        model = untrained_model(modality or "audiovisual", device=device)
        warning = "the network is untrained: its maps mean nothing"
        return LoadedNetwork(model, UNTRAINED, None, (warning,), "untrained network")
    name = os.fspath(weights)
    source = find_published(name, modality, data or data_folder()) or weights
    model, report = load_model_with_report(source, modality=modality, device=device)
    name = describe_weights(name) if name == DEFAULT else str(report.source)
    return LoadedNetwork(model, name, report.sha256, report.warnings, report.summary())


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
