"""Protocols of data that are not in the published layout: challenges, DHF1K, the MSU benchmark."""

from pathlib import Path

from stavis.evaluation.plan import EvaluationSettings
from stavis.evaluation.protocols.base import FieldData
from stavis.evaluation.protocols.challenge import ChallengeData
from stavis.evaluation.protocols.dhf1k import Dhf1kData
from stavis.evaluation.protocols.msu import MsuData

_KINDS: dict[str, type[FieldData]] = {"challenge": ChallengeData, "dhf1k": Dhf1kData, "msu": MsuData}


def open_field_data(root: Path, settings: EvaluationSettings) -> FieldData:
    """The data folder `root` in the layout of the settings' protocol."""
    return _KINDS[settings.protocol](root, settings)
