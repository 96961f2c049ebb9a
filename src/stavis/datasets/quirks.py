"""The switches between the published loader's oddities and what this project does. See docs/reproduction.md."""

from dataclasses import dataclass
from typing import Literal

from stavis.errors import StavisError


@dataclass(frozen=True)
class Quirks:
    """Which oddities of the published loader a dataset keeps; the defaults are this project's.

    Attributes:
        silent_last_video: The last video of every fold list has no sound (an off-by-one in the published look-up).
        native_sample_rate: Sound stays at its file's own rate instead of the one that the network was built for.
        alternating_target: A clip is compared with the maps of its rounded median frame, which alternates between
            the 8th and the 9th entry, instead of always with the frame that its prediction is named after.
        fixation_blobs: Fixation maps are resized bilinearly, so that a fixation covers several pixels; otherwise
            it is the one pixel that it lies in. Published, and kept by default: the weight of the NSS loss goes with
            it, and no score is computed from these maps.
    """

    silent_last_video: bool = False
    native_sample_rate: bool = False
    alternating_target: bool = False
    fixation_blobs: bool = True

    @classmethod
    def reference(cls) -> "Quirks":
        """All as in the published loader."""
        return cls(
            silent_last_video=True, native_sample_rate=True, alternating_target=True, fixation_blobs=True
        )

    @classmethod
    def named(cls, quirks: "Quirks | Literal['fixed', 'reference'] | str") -> "Quirks":
        """A set of switches as it is, or by its name: "fixed" (the defaults) or "reference".

        Raises:
            StavisError: There is no set of that name.
        """
        if isinstance(quirks, Quirks):
            return quirks
        if quirks == "fixed":
            return cls()
        if quirks == "reference":
            return cls.reference()
        raise StavisError(f"quirks is {quirks!r}; allowed: fixed, reference")
