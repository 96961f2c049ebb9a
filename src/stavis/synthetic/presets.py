"""How much sound tells in a generated world: every share that is set, in one place."""

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
    """The shares that a world is made with.

    Attributes:
        routes: Route -> share of the shots. They sum to 1.
        drives: Drive -> share of the fixations while an object on the screen sounds. They sum to 1.
        shot_seconds: Shortest and longest shot.
        turn_seconds: Shortest and longest time for which one object sounds without change.
        num_candidates: Fewest and most objects at work in a shot.
        num_movers: Fewest and most silent distractors that move through a shot.
        camera_motion: 0 for a camera at rest, 1 for pans, zooms and shake as strong as they come.
        person_share: How often the first object drawn for a shot is a person.
        bed_share: Share of the videos with a bed of music or ambience under everything.
    """

    routes: Mapping[str, float]
    drives: Mapping[str, float]
    shot_seconds: tuple[float, float] = (3.0, 7.0)
    turn_seconds: tuple[float, float] = (1.8, 3.6)
    num_candidates: tuple[int, int] = (2, 4)
    num_movers: tuple[int, int] = (0, 2)
    camera_motion: float = 1.0
    person_share: float = 0.6
    bed_share: float = 0.5

    @property
    def sound_share(self) -> float:
        """Share of the fixations that go to the sounding object because it sounds."""
        return self.drives["source"]


def _drives(source: float) -> dict[str, float]:
    """The shares of all drives where `source` is that of the sounding object."""
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
    """A ready-made preset, with other shares if wanted.

    Args:
        name: A key of `PRESETS`.
        sound_share: In 0..1: the share of the fixations that go to the sounding object because it sounds.
        routes: Route -> weight, 0 for those left out; they are divided by their sum.

    Raises:
        StavisError: An unknown name or a share outside its range.
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
        preset = dataclasses.replace(
            preset, routes={route: routes.get(route, 0.0) / total for route in ROUTES}
        )
    return preset
