"""Script of a generated video: its shots, their objects, and what sounds when."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stavis.synthetic.performance import EVENT_COLUMNS, KINDS, SOUND_OF_KIND, Performance, draw_performance
from stavis.synthetic.presets import ROUTES, Preset
from stavis.synthetic.randomness import generator

OFF_SCREEN = -1
"""Stands for the actor of a sound whose source is not in the picture."""

_SHORTEST_TURN = 1.2  # seconds; a shorter remainder of a shot extends the turn before it
_SOUNDTRACKS = ("silence", "music", "ambience", "off-screen")


@dataclass(frozen=True)
class Role:
    actor: int  # its number, unique within the video
    shot: int  # index of its shot
    kind: str  # "person", "striker", "player", "machine" or "mover"
    performance: Performance | None  # what it visibly does; None if it is idle or cannot make sound
    candidate: bool  # whether it could be the source of a sound


@dataclass(frozen=True)
class Shot:
    start_frame: int  # first frame
    stop_frame: int  # one past the last frame
    route: str  # how the sounding object can be found, one of `ROUTES`


@dataclass(frozen=True)
class Turn:
    """Interval in which one source sounds."""

    start_seconds: float  # start, from the beginning of the video
    stop_seconds: float  # end
    actor: int  # the sounding object; `OFF_SCREEN` for a source outside the frame
    sound: str  # "speech", "blows", "notes", "noise", "music" or "ambience"
    level: float  # peak amplitude of its strongest event, 0..1
    performance: Performance | None  # the performance that is heard; None for music and ambience


@dataclass(frozen=True)
class Script:
    num_frames: int  # number of frames
    frame_rate: float  # frames per second
    shots: tuple[Shot, ...]  # consecutive, without gaps
    roles: tuple[Role, ...]  # objects of all shots; `roles[i].actor == i`
    turns: tuple[Turn, ...]  # ordered by start
    bed: str  # "music" or "ambience" in the background, or "none"
    bed_level: float  # its amplitude, 0..1

    @property
    def seconds(self) -> float:
        return self.num_frames / self.frame_rate

    def sounding(self, frame: int) -> int | None:
        """Returns the actor that sounds at a frame, `OFF_SCREEN` for a source outside it, None for silence."""
        time = frame / self.frame_rate
        for turn in self.turns:
            if turn.start_seconds <= time < turn.stop_seconds:
                return turn.actor
        return None


def write_script(
    seed: int, key: tuple[int | str, ...], preset: Preset, num_frames: int, frame_rate: float
) -> Script:
    """Draws the script of a video; `key` identifies it among those of the seed."""
    rng = generator(seed, *key, "script")
    shots: list[Shot] = []
    roles: list[Role] = []
    turns: list[Turn] = []
    route_weights = np.array([preset.routes[route] for route in ROUTES])
    for start, stop in _cut(rng, preset, num_frames, frame_rate):
        shot = Shot(start, stop, str(rng.choice(ROUTES, p=route_weights / route_weights.sum())))
        cast, heard = _fill_shot(rng, preset, shot, len(shots), len(roles), frame_rate)
        shots.append(shot)
        roles += cast
        turns += heard
    bed, bed_level = "none", 0.0
    if rng.random() < preset.bed_share:
        bed = "music" if rng.random() < 0.5 else "ambience"
        bed_level = float(10 ** (rng.uniform(-42, -24) / 20))
    return Script(num_frames, frame_rate, tuple(shots), tuple(roles), tuple(turns), bed, bed_level)


def _cut(
    rng: np.random.Generator, preset: Preset, num_frames: int, frame_rate: float
) -> list[tuple[int, int]]:
    """Draws the frame ranges of the shots. A shot that is too short is merged with the one before it."""
    shortest = preset.shot_seconds[0] * frame_rate
    cuts = [0]
    while num_frames - cuts[-1] > shortest:
        cuts.append(cuts[-1] + max(1, round(rng.uniform(*preset.shot_seconds) * frame_rate)))
    cuts = [cut for cut in cuts if cut == 0 or num_frames - cut >= shortest]
    return list(zip(cuts, [*cuts[1:], num_frames], strict=True))


def _draw_kinds(rng: np.random.Generator, preset: Preset, route: str, num: int) -> list[str]:
    first = "person" if rng.random() < preset.person_share else str(rng.choice(KINDS[1:]))
    if route == "synchrony":
        return [first] * num
    others = [kind for kind in KINDS if kind != first]
    rng.shuffle(others)
    if route == "semantic":
        kinds = [first, *others][:num]
    elif rng.random() < 0.4:  # a conversation, a band
        kinds = [first] * num
    else:
        kinds = [first, *(str(rng.choice([first, *others])) for _ in range(num - 1))]
    rng.shuffle(kinds)  # positions and numbers must not reveal which was drawn first
    return kinds


def _fill_shot(
    rng: np.random.Generator, preset: Preset, shot: Shot, index: int, first_actor: int, frame_rate: float
) -> tuple[list[Role], list[Turn]]:
    start, stop = shot.start_frame / frame_rate, shot.stop_frame / frame_rate
    fewest, most = preset.num_candidates
    kinds = _draw_kinds(rng, preset, shot.route, int(rng.integers(fewest, most, endpoint=True)))
    # All objects perform throughout the shot and the sound picks one after another, so an object's motion says
    # nothing about whether it is heard, except where sight is meant to tell.
    performances = [draw_performance(rng, SOUND_OF_KIND[kind], start, stop) for kind in kinds]
    level = float(10 ** (rng.uniform(-22, -3) / 20))
    seen: list[Performance | None] = list(performances)
    turns: list[Turn] = []
    if shot.route == "none":
        turns = _unrelated_turns(rng, kinds, start, stop, level)
    else:
        previous = -1
        for turn_start, turn_stop in _turn_times(rng, preset, start, stop):
            who = int(rng.choice([i for i in range(len(kinds)) if i != previous or len(kinds) == 1]))
            previous = who
            heard = performances[who].within(turn_start, turn_stop)
            loudness = min(level * float(10 ** (rng.uniform(-3, 3) / 20)), 0.9)
            turns.append(Turn(turn_start, turn_stop, first_actor + who, heard.sound, loudness, heard))
    if shot.route == "sight":
        actors = range(first_actor, first_actor + len(kinds))
        seen = [_join([turn.performance for turn in turns if turn.actor == actor]) for actor in actors]
    roles = [
        Role(first_actor + i, index, kind, performance, True)
        for i, (kind, performance) in enumerate(zip(kinds, seen, strict=True))
    ]
    for _ in range(rng.integers(*preset.num_movers, endpoint=True)):
        roles.append(Role(first_actor + len(roles), index, "mover", None, False))
    return roles, turns


def _turn_times(
    rng: np.random.Generator, preset: Preset, start: float, stop: float
) -> list[tuple[float, float]]:
    times = []
    begin = start + rng.uniform(0, 0.4)
    while stop - begin >= _SHORTEST_TURN:
        end = begin + rng.uniform(*preset.turn_seconds)
        if stop - end < _SHORTEST_TURN:
            end = stop
        times.append((begin, end))
        begin = end + rng.uniform(0, 0.4)
    return times or [(start, stop)]


def _unrelated_turns(
    rng: np.random.Generator, kinds: list[str], start: float, stop: float, level: float
) -> list[Turn]:
    """Draws silence, music, ambience, or an off-screen source of a kind that is not in the frame."""
    soundtrack = str(rng.choice(_SOUNDTRACKS, p=[0.15, 0.3, 0.15, 0.4]))
    absent = [kind for kind in KINDS if kind not in kinds]
    if soundtrack == "silence":
        return []
    if soundtrack == "off-screen" and absent:
        performance = draw_performance(rng, SOUND_OF_KIND[str(rng.choice(absent))], start, stop)
        return [Turn(start, stop, OFF_SCREEN, performance.sound, level, performance)]
    sound = "ambience" if soundtrack == "ambience" else "music"
    return [Turn(start, stop, OFF_SCREEN, sound, level, None)]


def _join(parts: list[Performance | None]) -> Performance | None:
    present = [part for part in parts if part is not None and len(part.onsets)]
    if not present:
        return None
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in present]) for name in EVENT_COLUMNS
    }
    return replace(present[0], **columns)
