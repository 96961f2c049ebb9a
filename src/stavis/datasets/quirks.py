"""Switches for the quirks of the published data loader (docs/reproduction.md)."""

from dataclasses import dataclass
from typing import Literal

from stavis.errors import StavisError


@dataclass(frozen=True)
class LoaderQuirks:
    """Which quirks of the published loader a dataset reproduces; by default hardly any."""

    silent_last_video: bool = False  # the last video of every fold list has no audio (an off-by-one error)
    # Audio keeps the sample rate of its file instead of the one that the network was built for.
    native_sample_rate: bool = False
    # A clip is compared with the maps of its rounded median frame, which alternates between the 8th and the 9th entry,
    # instead of always with the frame that its prediction is named after.
    alternating_target: bool = False
    # Fixation maps are resized bilinearly, so that a fixation covers several pixels; otherwise it is a single pixel. As
    # published by default, since the weight of the NSS loss depends on it and no score is computed from these maps.
    fixation_blobs: bool = True

    @classmethod
    def reference(cls) -> "LoaderQuirks":
        return cls(True, True, True, True)

    @classmethod
    def named(cls, quirks: "LoaderQuirks | Literal['fixed', 'reference'] | str") -> "LoaderQuirks":
        """Returns a set of switches unchanged, or by its name: "fixed" (the defaults) or "reference".

        Raises StavisError if there is no set of that name.
        """
        if isinstance(quirks, LoaderQuirks):
            return quirks
        if quirks in ("fixed", "reference"):
            return cls() if quirks == "fixed" else cls.reference()
        raise StavisError(f"quirks is {quirks!r}; allowed: fixed, reference")
