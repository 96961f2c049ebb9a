"""Array types for maps."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float64Map = npt.NDArray[np.float64]
