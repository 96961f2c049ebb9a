"""Performance of a source over time. Sound and motion derive from it, so they share onsets and envelopes."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

KINDS = ("person", "striker", "player", "machine")
"""The objects that can sound, by what they look like."""

SOUND_OF_KIND = {"person": "speech", "striker": "blows", "player": "notes", "machine": "noise"}
"""The kind of sound that goes with each kind of object."""

SOUNDS = tuple(SOUND_OF_KIND.values())

# Events per second, events per phrase, pauses between phrases, and the share of an event's time that it fills.
_RATE_RANGE = {"speech": (3.4, 5.6), "blows": (2.2, 4.4), "notes": (1.8, 4.2), "noise": (1.4, 3.4)}
_EVENTS_PER_PHRASE = {"speech": (4, 11), "blows": (3, 10), "notes": (4, 12), "noise": (2, 7)}
_PAUSE_SECONDS = {"speech": (0.2, 0.55), "blows": (0.15, 0.5), "notes": (0.1, 0.5), "noise": (0.2, 0.6)}
_FILL = {"speech": (0.75, 0.98), "blows": (0.6, 0.9), "notes": (0.8, 1.1), "noise": (0.5, 0.85)}
_MIDI_SCALE = np.array([0, 2, 4, 7, 9])  # pentatonic: any sequence of it sounds like a tune


EVENT_COLUMNS = ("onsets", "durations", "strengths", "pitches")


@dataclass(frozen=True)
class Performance:
    """Syllables, blows, notes or bursts of one source."""

    sound: str  # one of `SOUNDS`
    onsets: Array  # (N,) seconds, ascending
    durations: Array  # (N,) seconds, > 0
    strengths: Array  # (N,) in 0..1
    pitches: Array  # (N,) Hz
    tail: float  # seconds in which a blow or note decays to 1/e

    def envelope(self, times: Array) -> Array:
        """Returns the strength (T,) at times (T,) in seconds, 0..1: a mouth's opening and a voice's loudness."""
        if not len(self.onsets):
            return np.zeros(len(times))
        # Events are few and short, so all of them against all times is cheap enough for frames; sounds go one by one.
        since = times[:, None] - self.onsets[None, :]
        shapes = event_shape(self.sound, since, self.durations[None, :], self.tail)
        return np.asarray((shapes * self.strengths).max(axis=1))

    def within(self, start: float, stop: float) -> "Performance":
        """Returns the events that lie between `start` and `stop` seconds: what is heard in a turn."""
        keep = (self.onsets >= start) & (self.onsets + self.durations <= stop)
        return replace(self, **{name: getattr(self, name)[keep] for name in EVENT_COLUMNS})


def event_shape(sound: str, since: Array, durations: Array, tail: float) -> Array:
    """Computes the envelope of an event, 0..1; zero before the onset and after the end.

    `since` are seconds since the onset, of any shape; blows and notes fall to 1/e within `tail` seconds.
    """
    phase = since / durations
    inside = (phase >= 0) & (phase < 1)
    phase = np.clip(phase, 0, 1)
    if sound == "speech":  # opens in the first third, closes in the rest
        opening, closing = np.pi / 2 * phase / 0.35, np.pi / 2 * (phase - 0.35) / 0.65
        shape = np.where(phase < 0.35, np.sin(opening) ** 2, np.cos(closing) ** 2)
    elif sound == "noise":  # swells, stays, falls
        shape = np.minimum(1, np.minimum(phase / 0.2, (1 - phase) / 0.3))
    else:  # starts at once, dies away
        release = np.minimum(1, (1 - phase) / 0.15)
        attack = np.minimum(1, np.maximum(since, 0) / 0.004)
        shape = attack * np.exp(-np.maximum(since, 0) / tail) * release
    return np.asarray(np.where(inside, shape, 0.0))


def draw_performance(rng: np.random.Generator, sound: str, start: float, stop: float) -> Performance:
    """Draws a performance that fills `start` to `stop` seconds with phrases and pauses in its own rhythm."""
    rate = rng.uniform(*_RATE_RANGE[sound])
    irregularity = rng.uniform(0.05, 0.3)
    onsets, durations, strengths = [], [], []
    time = start + rng.uniform(0, 0.35)
    while time < stop:
        for _ in range(rng.integers(*_EVENTS_PER_PHRASE[sound], endpoint=True)):
            gap = rng.lognormal(-(irregularity**2) / 2, irregularity) / rate
            if sound in ("notes", "blows") and rng.random() < 0.25:
                gap *= 2 if rng.random() < 0.5 else 0.5
            gap = max(gap, 0.11)
            duration = gap * rng.uniform(*_FILL[sound])
            if time + duration > stop:
                break
            onsets.append(time)
            durations.append(duration)
            strengths.append(rng.uniform(0.5, 1.0))
            time += gap
        time += rng.uniform(*_PAUSE_SECONDS[sound])
    tail = rng.uniform(0.05, 0.16) if sound == "blows" else rng.uniform(0.12, 0.4)
    return Performance(
        sound,
        np.array(onsets),
        np.array(durations),
        np.array(strengths),
        _draw_pitches(rng, sound, len(onsets)),
        tail,
    )


def _draw_pitches(rng: np.random.Generator, sound: str, num: int) -> Array:
    if sound == "speech":
        base = rng.uniform(90, 140) if rng.random() < 0.5 else rng.uniform(165, 250)
        return np.asarray(base * 2 ** (rng.normal(0, 0.12, num)))
    if sound == "notes":
        degrees = np.cumsum(rng.integers(-2, 3, num)) % 10
        midi = rng.integers(48, 68) + _MIDI_SCALE[degrees % 5] + 12 * (degrees // 5)
        return np.asarray(440 * 2 ** ((midi - 69) / 12))
    base = rng.uniform(90, 900) if sound == "blows" else rng.uniform(300, 4000)
    return np.full(num, base) * 2 ** rng.normal(0, 0.03, num)
