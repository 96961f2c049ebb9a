"""8-bit quantization of the network after the stem, with NNCF, calibrated on windows of the video itself.

The ranges of the integers are those of the values that the windows cause, so they fit this network and this video.
What is quantized is the convolutions of the residual stages, nine tenths of the arithmetic. The side branches, the
fusion with the sound and the read-out stay in floats: they cost little, and the maps depend on them most directly.
"""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

FLOAT_PARTS = (
    r".*\.sides\..*",
    r".*\.fusion[./].*",
    r".*network/aten::add/.*",  # sums of parts of the logits
)

Inputs = Sequence[npt.NDArray[np.float32]]
"""What the network behind the stem gets of one window: pooled (1, 64, T/2, h, w), mean (1, 64, h, w), and sound (1,
1024) in the audiovisual variant."""


def is_installed() -> bool:
    return importlib.util.find_spec("nncf") is not None


def quantize(network: Any, windows: Sequence[Inputs]) -> Any:
    """Quantizes an OpenVINO model to 8-bit integers, calibrated on `windows`; the model itself is not modified."""
    # NNCF prints its progress, and remarks about versions, on standard output.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("nncf").setLevel(logging.ERROR)
        import nncf

        return nncf.quantize(
            network,
            nncf.Dataset([list(window) for window in windows]),
            subset_size=len(windows),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(patterns=list(FLOAT_PARTS), validate=False),
            # Doubles the time and changes nothing here.
            advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
        )
