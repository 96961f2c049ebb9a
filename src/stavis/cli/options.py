"""Options that several commands share."""

from enum import StrEnum

DEFAULT = "default"  # stavis.weights.DEFAULT, whose module imports torch

WEIGHTS_HELP = (
    "default (they come with stavis, and are not the paper's), a weights folder, a published .pth file, published-1 "
    "(2, 3: the paper's, fetched into the data folder), or untrained (random: to try things out only)."
)


class ModalityName(StrEnum):
    AUDIOVISUAL = "audiovisual"
    VISUAL = "visual"
