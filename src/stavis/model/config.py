"""What a network is built from: exactly what its weights need to be of use."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from stavis.clips.preprocess import Preprocessing

Modality = Literal["audiovisual", "visual"]
Shortcut = Literal["A", "B"]

DEPTHS = (10, 18, 34, 50, 101, 152, 200)


@dataclass(frozen=True)
class ModelConfig:
    """Which network this is. Kept with the weights.

    Attributes:
        modality: "audiovisual" takes clips and their sound, "visual" clips alone.
        depth: Layers of the 3D ResNet, before it was cut after its third stage: 10, 18, 34, 50, 101, 152 or
            200.
        shortcut: How the residual path changes its shape: "A" skips positions and appends channels of zeros,
            "B" is a convolution. Published Kinetics weights have A at depths 18 and 34, B at 50.
        preprocessing: How pictures and sound were prepared for the training of the weights.
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
