"""Configuration of a network: everything that its weights need to be usable."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from stavis.clips.preprocess import Preprocessing
from stavis.model.soundnet import MIN_NUM_SAMPLES

Modality = Literal["audiovisual", "visual"]
Shortcut = Literal["A", "B"]

DEPTHS = (10, 18, 34, 50, 101, 152, 200)

MIN_SIDE = 64  # pixels
SIDE_MULTIPLE = 16  # pixels: the stages halve height and width four times,
LENGTH_MULTIPLE = {"visual": 8, "audiovisual": 16}  # frames: and time three times


@dataclass(frozen=True)
class ModelConfig:
    """Configuration of a network, stored with its weights.

    Attributes:
        modality: "audiovisual" takes clips with audio, "visual" clips only.
        depth: Layers of the complete 3D ResNet, which is cut after its third stage: 10, 18, 34, 50, 101, 152 or 200.
        shortcut: How the residual path changes shape: "A" subsamples and appends channels of zeros, "B" is a
            convolution. Published Kinetics weights have A at depths 18 and 34, B at 50.
        preprocessing: Preprocessing of frames and audio with which the weights were trained. `input_size` must be
            multiples of 16 from 64, `clip_length` a multiple of 8 (visual) or 16 (audiovisual), or 1, and
            `num_audio_samples` of an audiovisual network at least 12,766.

    Raises:
        ValueError: An attribute is none of these.
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
        wanted = self.preprocessing
        if not all(fits_side(side) for side in wanted.input_size):
            raise ValueError(
                f"preprocessing.input_size is {wanted.input_size}; the network takes multiples of {SIDE_MULTIPLE} "
                f"from {MIN_SIDE}"
            )
        if not fits_length(wanted.clip_length, self.modality):
            raise ValueError(
                f"preprocessing.clip_length is {wanted.clip_length}; the {self.modality} network takes 1 or a "
                f"multiple of {LENGTH_MULTIPLE[self.modality]}"
            )
        if self.modality == "audiovisual" and wanted.num_audio_samples < MIN_NUM_SAMPLES:
            raise ValueError(
                f"preprocessing.num_audio_samples is {wanted.num_audio_samples}; the audiovisual network takes "
                f"{MIN_NUM_SAMPLES} or more"
            )


def fits_side(side: int) -> bool:
    """Whether pictures of this height or width, in pixels, pass through the network."""
    return side >= MIN_SIDE and side % SIDE_MULTIPLE == 0


def fits_length(num_frames: int, modality: Modality) -> bool:
    """Whether clips of this length pass through the network; 1 is a still picture."""
    return num_frames == 1 or (num_frames > 1 and num_frames % LENGTH_MULTIPLE[modality] == 0)
