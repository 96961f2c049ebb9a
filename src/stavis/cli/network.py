"""How the commands that run a network get one from their --weights option."""

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from stavis.model import Modality, STAViS

UNTRAINED = "untrained"


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


def load_network(weights: str, *, modality: "Modality | None", device: str) -> LoadedNetwork:
    """Loads what --weights names: a weights folder, a published file, or "untrained" for the published initialisation.

    Raises:
        StavisError: There is no such file or device, or the file does not fit.
    """
    from stavis.weights import load_model_with_report, resolve_device

    if weights == UNTRAINED:
        import torch

        from stavis.model import ModelConfig, STAViS

        target = resolve_device(device)
        torch.manual_seed(0)
        model = STAViS(ModelConfig(modality=modality or "audiovisual")).to(target).eval()
        return LoadedNetwork(model, UNTRAINED, None, ("the network is untrained: its maps mean nothing",))
    model, report = load_model_with_report(weights, modality=modality, device=device)
    return LoadedNetwork(model, str(report.source), report.sha256, report.warnings)
