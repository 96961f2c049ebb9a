"""Configuration of a network: everything that its weights need to be usable."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from stavis.clips.preprocess import Preprocessing

Modality = Literal["audiovisual", "visual"]
Shortcut = Literal["A", "B"]

DEPTHS = (10, 18, 34, 50, 101, 152, 200)


@dataclass(frozen=True)
class ModelConfig:
    """Configuration of a network, stored with its weights.

    Attributes:
        modality: "audiovisual" takes clips with audio, "visual" clips only.
        depth: Layers of the complete 3D ResNet, which is cut after its third stage: 10, 18, 34, 50, 101, 152 or 200.
        shortcut: How the residual path changes shape: "A" subsamples and appends channels of zeros, "B" is a
            convolution. Published Kinetics weights have A at depths 18 and 34, B at 50.
        preprocessing: Preprocessing of frames and audio with which the weights were trained.
    """

    modality: Modality = "audiovisual"
    depth: int = 50
    shortcut: Shortcut = "B"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("modality", self.modality, get_args(Modality)),
            ("depth", self.depth, DEPTHS),
            ("shortcut", self.shortcut, get_args(Shortcut)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed: {', '.join(str(one) for one in allowed)}")
