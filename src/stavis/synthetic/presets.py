"""Presets of the generated world: how much sound reveals."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from stavis.errors import StavisError

ROUTES = ("semantic", "synchrony", "sight", "none")
"""How the sounding object can be found, drawn for each shot:

- semantic: several objects of different kinds move alike, each in a rhythm of its own; the sound's kind (speech,
  blows, notes, noise), and its rhythm too, tells which of them it comes from.
- synchrony: look-alikes of one kind move, each in a rhythm of its own; only agreement in time tells.
- sight: the sounding object is the only one at work; the sound repeats what sight tells.
- none: music, off-screen sound, ambience or silence; the objects at work are not heard.
"""

DRIVES = ("center", "contrast", "objects", "source", "uniform")
"""What makes an observer choose where to look next.

- center: the middle of the picture.
- contrast: local contrast and motion, measured on the pictures.
- objects: any object, by its kind and by whether it moves, whatever is heard.
- source: the object that is heard. While none is, its share goes to the others in proportion.
- uniform: anywhere.
"""


@dataclass(frozen=True)
class Preset:
    """Shares and ranges from which a world is generated."""

    routes: Mapping[str, float]  # route -> share of the shots; they sum to 1
    # Drive -> share of the fixations while an object on screen sounds; they sum to 1.
    drives: Mapping[str, float]
    shot_seconds: tuple[float, float] = (3.0, 7.0)  # minimum and maximum duration of a shot
    # Minimum and maximum time that one object sounds before the next takes over.
    turn_seconds: tuple[float, float] = (1.8, 3.6)
    num_candidates: tuple[int, int] = (2, 4)  # minimum and maximum number of active objects per shot
    # Minimum and maximum number of silent distractors that move through a shot.
    num_movers: tuple[int, int] = (0, 2)
    camera_motion: float = 1.0  # 0 for a static camera, 1 for the strongest pans, zooms and shake
    person_share: float = 0.6  # probability that the first object of a shot is a person
    bed_share: float = 0.5  # share of the videos with background music or ambience

    @property
    def sound_share(self) -> float:
        return self.drives["source"]


def _drives(source: float) -> dict[str, float]:
    """Returns the shares of all drives if `source` is that of the sounding object."""
    others = {"center": 0.26, "contrast": 0.28, "objects": 0.38, "uniform": 0.08}
    return {name: source if name == "source" else (1 - source) * others[name] for name in DRIVES}


PRESETS: Mapping[str, Preset] = {
    "mixed": Preset(
        routes={"semantic": 0.35, "synchrony": 0.15, "sight": 0.25, "none": 0.25},
        drives=_drives(0.5),
        num_candidates=(1, 4),
    ),
    "sound-decides": Preset(
        routes={"semantic": 0.75, "synchrony": 0.25, "sight": 0.0, "none": 0.0}, drives=_drives(0.65)
    ),
    "sight-decides": Preset(
        routes={"semantic": 0.0, "synchrony": 0.0, "sight": 0.8, "none": 0.2}, drives=_drives(0.5)
    ),
    "unrelated": Preset(
        routes={"semantic": 0.0, "synchrony": 0.0, "sight": 0.0, "none": 1.0}, drives=_drives(0.0)
    ),
}
"""Name -> the worlds that come ready-made."""


def make_preset(
    name: str, *, sound_share: float | None = None, routes: Mapping[str, float] | None = None
) -> Preset:
    """Returns a preset, optionally with other shares.

    Args:
        name: A key of `PRESETS`.
        sound_share: Share of the fixations that go to the sounding object because it sounds, in 0..1.
        routes: Route -> weight, 0 if left out; normalized to sum 1.

    Raises:
        StavisError: The name is unknown or a share is outside its range.
    """
    if name not in PRESETS:
        raise StavisError(f"preset {name!r} is unknown; allowed: {', '.join(PRESETS)}")
    preset = PRESETS[name]
    if sound_share is not None:
        if not 0 <= sound_share <= 1:
            raise StavisError(f"the sound's share is {sound_share}; allowed: 0 to 1")
        preset = dataclasses.replace(preset, drives=_drives(sound_share))
    if routes is not None:
        if unknown := sorted(set(routes) - set(ROUTES)):
            raise StavisError(f"route {unknown[0]!r} is unknown; allowed: {', '.join(ROUTES)}")
        total = sum(routes.values())
        if min(routes.values(), default=0.0) < 0 or not 0 < total < float("inf"):
            raise StavisError(f"the routes' weights are {dict(routes)}; they must be >= 0 and not all 0")
        shares = {route: routes.get(route, 0.0) / total for route in ROUTES}
        preset = dataclasses.replace(preset, routes=shares)
    return preset
