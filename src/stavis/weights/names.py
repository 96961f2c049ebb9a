"""Networks loaded by the name of their weights."""

import logging
import os
from pathlib import Path
from typing import NamedTuple

import torch

from stavis.model import Modality, STAViS
from stavis.weights.load import load_model_with_report, untrained_model
from stavis.weights.sources import DEFAULT, UNTRAINED, locate


class LoadedNetwork(NamedTuple):
    model: STAViS  # in eval mode, on its device
    name: str  # name of its weights for the screen and for results
    sha256: str | None  # checksum of their file; None if they are random
    warnings: tuple[str, ...] = ()  # what a user should know before trusting its maps
    summary: str = ""  # where the weights came from and how they fit, in one line


def load_model(
    source: str | os.PathLike[str] = DEFAULT,
    *,
    modality: Modality | None = None,
    device: str | torch.device = "auto",
) -> STAViS:
    """Loads a network that is ready to predict and logs a one-line summary to the logger "stavis".

    Args:
        source: A weights folder (`save_model`, `stavis convert`), a published checkpoint (`*_save_60.pth`), a published
            initializer (`resnet-50-kinetics.pth`, `soundnet8.pth`; the rest of the network is freshly initialized, with
            a warning), or a name: "default" (weights included in the package, which are not the paper's), "published-1"
            to "published-3" (the paper's weights of a split, from the data folder, $STAVIS_DATA or `data`, where
            `stavis fetch weights` puts them), "untrained" (random weights), or "hf://owner/name@revision" (weights on
            the Hugging Face Hub).
        modality: "audiovisual" or "visual", for files that hold both. By default the one in the file's name, otherwise
            "audiovisual".
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps", or a torch.device.

    Returns:
        The network in eval mode, with float32 parameters.

    Raises:
        StavisError: The file or device does not exist, or the file cannot be read or does not fit.
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
    """Loads a network like `load_model` and returns what that would log.

    `data` is the data folder of the published weights; None for `data_folder()`.

    Raises StavisError if the file or device does not exist, or the file does not fit.
    """
    if weights == UNTRAINED:
        model = untrained_model(modality or "audiovisual", device=device)
        warning = "the network is untrained: its maps mean nothing"
        return LoadedNetwork(model, UNTRAINED, None, (warning,), "untrained network")
    located = locate(weights, modality, data)
    model, report = load_model_with_report(located.path, modality=modality, device=device)
    return LoadedNetwork(model, located.name, report.sha256, report.warnings, report.summary())
