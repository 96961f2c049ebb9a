"""Sound synthesis: voices, blows, notes, noise, music and ambience."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import signal

from stavis.synthetic.performance import Performance, event_shape
from stavis.synthetic.randomness import generator
from stavis.synthetic.script import Script

Array = npt.NDArray[np.float64]

SAMPLE_RATE = 22050  # Hz

# First four formants of vowels in Hz, rounded from the averages of Peterson and Barney (1952).
_VOWELS = np.array(
    [
        (270, 2290, 3010, 3600),
        (390, 1990, 2550, 3500),
        (530, 1840, 2480, 3450),
        (660, 1720, 2410, 3400),
        (730, 1090, 2440, 3400),
        (570, 840, 2410, 3350),
        (440, 1020, 2240, 3300),
        (300, 870, 2240, 3250),
        (490, 1350, 1690, 3200),
    ],
    dtype=np.float64,
)
_FORMANT_BANDWIDTHS = (70.0, 100.0, 140.0, 220.0)  # Hz


def render_performance(
    rng: np.random.Generator, performance: Performance, num_samples: int, sample_rate: int = SAMPLE_RATE
) -> Array:
    """Synthesizes the (num_samples,) sound of a performance, whose time 0 is the first sample.

    `rng` draws the timbre of the source and the variation between events. An event of full strength has a peak of about
    1.
    """
    voice = _TIMBRES[performance.sound](rng, sample_rate)
    samples = np.zeros(num_samples)
    for onset, duration, strength, pitch in zip(
        performance.onsets, performance.durations, performance.strengths, performance.pitches, strict=True
    ):
        first = int(np.ceil(onset * sample_rate))
        last = min(int((onset + duration) * sample_rate), num_samples)
        if last <= first:
            continue
        since = np.arange(first, last) / sample_rate - onset
        carrier = voice.carrier(last - first, pitch)
        envelope = event_shape(performance.sound, since, np.asarray(duration), performance.tail)
        samples[first:last] += carrier * envelope * strength
    return samples


class _Timbre(Protocol):
    def __init__(self, rng: np.random.Generator, sample_rate: int) -> None: ...

    def carrier(self, num: int, pitch: float) -> Array:
        """Synthesizes one event (num,) without its envelope, with peaks of about 1."""
        ...


class _Voice:
    """Speech-like: a pulse train and breath through formants that glide from one vowel to the next."""

    def __init__(self, rng: np.random.Generator, sample_rate: int) -> None:
        self.rng, self.sample_rate = rng, sample_rate
        self.tract = rng.uniform(0.88, 1.18)  # formants scale with 1 / length of the vocal tract
        self.breath = rng.uniform(0.02, 0.12)
        self.tilt = rng.uniform(0.85, 0.96)
        self.vowel = int(rng.integers(len(_VOWELS)))

    def carrier(self, num: int, pitch: float) -> Array:
        rng = self.rng
        glide = np.linspace(1.0, 1.0 + rng.uniform(-0.2, 0.1), num)
        phase = np.cumsum(pitch * glide) / self.sample_rate + rng.random()
        source = 2 * (phase % 1.0) - 1
        source = signal.lfilter([1 - self.tilt], [1, -self.tilt], np.diff(source, prepend=source[0]))
        source = source * 4 + self.breath * rng.standard_normal(num) * 0.2
        following = int(rng.integers(len(_VOWELS)))
        fade = np.linspace(0, 1, num)
        voiced = (1 - fade) * self._filter(source, self.vowel) + fade * self._filter(source, following)
        self.vowel = following
        voiced /= np.abs(voiced).max() + 1e-9
        if rng.random() < 0.5:  # a consonant: hissing before the vowel takes over
            length = min(int(rng.uniform(0.03, 0.08) * self.sample_rate), num // 2)
            low = rng.uniform(1500, 5000)
            sos = signal.butter(
                2, [low, min(low * 2.2, 10500)], "bandpass", fs=self.sample_rate, output="sos"
            )
            hiss = signal.sosfilt(sos, rng.standard_normal(length)) * np.hanning(length)
            voiced[:length] = voiced[:length] * np.linspace(0.1, 1, length) + hiss * rng.uniform(0.6, 1.6)
        return np.asarray(voiced)

    def _filter(self, source: Array, vowel: int) -> Array:
        sections = []
        for center, bandwidth in zip(_VOWELS[vowel] * self.tract, _FORMANT_BANDWIDTHS, strict=True):
            radius = np.exp(-np.pi * bandwidth / self.sample_rate)
            angle = 2 * np.pi * center / self.sample_rate
            # Unit gain at 0 Hz, as formants in cascade have.
            gain = 1 - 2 * radius * np.cos(angle) + radius**2
            sections.append([gain, 0, 0, 1, -2 * radius * np.cos(angle), radius**2])
        return np.asarray(signal.sosfilt(np.array(sections), source))


class _Blow:
    """Percussive: a few resonances and a click of noise, from drum to wood to metal."""

    def __init__(self, rng: np.random.Generator, sample_rate: int) -> None:
        self.rng, self.sample_rate = rng, sample_rate
        num_modes = int(rng.integers(2, 7))
        self.ratios = np.concatenate([[1.0], 1 + np.cumsum(rng.uniform(0.3, 1.2, num_modes - 1))])
        self.gains = rng.uniform(0.2, 1.0, num_modes) / np.arange(1, num_modes + 1)
        self.click = rng.uniform(0.3, 1.2)
        self.drop = rng.uniform(0, 0.5)  # a drum's pitch falls after the blow

    def carrier(self, num: int, pitch: float) -> Array:
        times = np.arange(num) / self.sample_rate
        bend = 1 + self.drop * np.exp(-times / 0.03)
        phase = 2 * np.pi * np.cumsum(pitch * bend) / self.sample_rate
        usable = self.ratios * pitch * (1 + self.drop) < self.sample_rate * 0.45
        tone = (self.gains[usable, None] * np.sin(self.ratios[usable, None] * phase)).sum(axis=0)
        noise = self.rng.standard_normal(num) * np.exp(-times / 0.015) * self.click
        samples = tone + noise
        return np.asarray(samples / (np.abs(samples).max() + 1e-9))


class _Instrument:
    """Tonal: harmonics of a pitch with vibrato."""

    def __init__(self, rng: np.random.Generator, sample_rate: int) -> None:
        self.rng, self.sample_rate = rng, sample_rate
        self.gains = rng.uniform(0.3, 1.0, 10) / np.arange(1, 11) ** rng.uniform(0.6, 1.8)
        self.vibrato_rate = rng.uniform(4, 7)
        self.vibrato_depth = rng.uniform(0, 0.008)

    def carrier(self, num: int, pitch: float) -> Array:
        times = np.arange(num) / self.sample_rate
        sway = 1 + self.vibrato_depth * np.sin(2 * np.pi * self.vibrato_rate * times)
        phase = 2 * np.pi * np.cumsum(pitch * sway) / self.sample_rate + self.rng.uniform(0, 2 * np.pi)
        harmonics = np.arange(1, len(self.gains) + 1)
        usable = harmonics * pitch < self.sample_rate * 0.45
        samples = (self.gains[usable, None] * np.sin(harmonics[usable, None] * phase)).sum(axis=0)
        return np.asarray(samples / (np.abs(samples).max() + 1e-9))


class _Engine:
    """Band-limited noise, with or without the beat of a motor."""

    def __init__(self, rng: np.random.Generator, sample_rate: int) -> None:
        self.rng, self.sample_rate = rng, sample_rate
        self.width = rng.uniform(0.5, 2.0)  # octaves
        self.beat_rate = rng.uniform(18, 60)
        self.beat_depth = rng.uniform(0, 0.8) * (rng.random() < 0.7)

    def carrier(self, num: int, pitch: float) -> Array:
        low = pitch * 2 ** (-self.width / 2)
        high = min(pitch * 2 ** (self.width / 2), self.sample_rate * 0.45)
        sos = signal.butter(2, [low, high], "bandpass", fs=self.sample_rate, output="sos")
        warm_up = 200  # samples, until the filter has settled
        noise = signal.sosfilt(sos, self.rng.standard_normal(num + warm_up))[warm_up:]
        times = np.arange(num) / self.sample_rate
        beat = 1 - self.beat_depth * (0.5 + 0.5 * np.sin(2 * np.pi * self.beat_rate * times))
        samples = noise * beat
        return np.asarray(samples / (3 * samples.std() + 1e-9))


_TIMBRES: Mapping[str, type[_Timbre]] = {
    "speech": _Voice,
    "blows": _Blow,
    "notes": _Instrument,
    "noise": _Engine,
}


def render_music(rng: np.random.Generator, num_samples: int, sample_rate: int = SAMPLE_RATE) -> Array:
    """Synthesizes (num_samples,) of background music, unrelated to anything on screen, with peak 1."""
    beat = 60 / rng.uniform(70, 150)  # seconds
    root = int(rng.integers(40, 53))
    num_beats = int(np.ceil(num_samples / sample_rate / beat))
    progression = rng.choice([0, 5, 7, 9, 2, 4], size=4)
    onsets, durations, pitches, strengths = [], [], [], []
    for index in range(num_beats):
        chord = root + int(progression[(index // 4) % 4])
        if index % 4 == 0:
            for interval in (0, 7, 16):
                onsets.append(index * beat)
                durations.append(4 * beat)
                pitches.append(440 * 2 ** ((chord + interval - 69) / 12))
                strengths.append(0.35)
        for half in (0.0, 0.5):
            if rng.random() < 0.6:
                onsets.append((index + half) * beat)
                durations.append(beat * 0.5)
                pitches.append(440 * 2 ** ((chord + 24 + int(rng.choice([0, 2, 4, 7, 9])) - 69) / 12))
                strengths.append(rng.uniform(0.3, 0.7))
    order = np.argsort(onsets, kind="stable")
    tune = Performance(
        "notes",
        np.array(onsets)[order],
        np.array(durations)[order],
        np.array(strengths)[order],
        np.array(pitches)[order],
        rng.uniform(0.2, 0.8),
    )
    samples = render_performance(rng, tune, num_samples, sample_rate)
    if rng.random() < 0.6:
        hits = np.arange(num_beats, dtype=np.float64) * beat
        drum = Performance(
            "blows",
            hits,
            np.full(num_beats, min(beat, 0.4)),
            np.resize([0.9, 0.5], num_beats),
            np.full(num_beats, rng.uniform(60, 140)),
            0.1,
        )
        samples += render_performance(rng, drum, num_samples, sample_rate)
    return np.asarray(samples / (np.abs(samples).max() + 1e-9))


def render_ambience(rng: np.random.Generator, num_samples: int, sample_rate: int = SAMPLE_RATE) -> Array:
    """Synthesizes (num_samples,) of room, wind or street noise with a root mean square of 1/4."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequency = np.fft.rfftfreq(num_samples, 1 / sample_rate)
    spectrum *= np.maximum(frequency, 30) ** -rng.uniform(0.3, 1.2)
    noise = np.fft.irfft(spectrum, num_samples)
    times = np.arange(num_samples) / sample_rate
    swell = 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.05, 0.4) * times + rng.uniform(0, 6.28))
    samples = noise * swell
    return np.asarray(samples / (4 * samples.std() + 1e-12))


def render_soundtrack(script: Script, seed: int, key: tuple[int | str, ...]) -> npt.NDArray[np.float32]:
    """Renders the audio of a video, (S,) in -1..1 at `SAMPLE_RATE`; `key` identifies it among those of the seed."""
    num_samples = round(script.seconds * SAMPLE_RATE)
    mix = np.zeros(num_samples)
    for index, turn in enumerate(script.turns):
        # A source keeps its voice from turn to turn.
        voice = ("actor", turn.actor) if turn.actor >= 0 else ("turn", index)
        rng = generator(seed, *key, "sound", *voice)
        if turn.performance is not None:
            mix += turn.level * render_performance(rng, turn.performance, num_samples)
            continue
        first, last = round(turn.start_seconds * SAMPLE_RATE), round(turn.stop_seconds * SAMPLE_RATE)
        render = render_music if turn.sound == "music" else render_ambience
        stretch = render(rng, last - first) * turn.level
        ramp = np.minimum(
            1, np.minimum(np.arange(last - first), np.arange(last - first)[::-1]) / (0.05 * SAMPLE_RATE)
        )
        mix[first:last] += (stretch * ramp)[: num_samples - first]
    if script.bed != "none":
        rng = generator(seed, *key, "sound", "bed")
        render = render_music if script.bed == "music" else render_ambience
        mix += render(rng, num_samples) * script.bed_level
    peak = np.abs(mix).max(initial=0.0)
    return np.asarray(mix * min(1.0, 0.95 / (peak + 1e-12)), dtype=np.float32)
