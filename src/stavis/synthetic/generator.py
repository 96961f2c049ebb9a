"""Generator of one video from a seed: frames, audio and ground truth."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from stavis.errors import StavisError
from stavis.synthetic.observers import simulate_observers
from stavis.synthetic.presets import Preset, make_preset
from stavis.synthetic.randomness import generator
from stavis.synthetic.scene import Stage
from stavis.synthetic.script import write_script
from stavis.synthetic.sound import SAMPLE_RATE, render_soundtrack
from stavis.synthetic.truth import NO_GAZE, SILENT, Truth

Frame = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Key = tuple[int | str, ...]

_GRID_ROWS = 30  # rows of the grid of the drive "contrast"
_CONTRAST_SECONDS = 0.3  # its time constant
_IDLE_APPEAL = 0.35  # of an idle object relative to an active one


@dataclass(frozen=True)
class Settings:
    """Settings of generated videos. A video depends on them and its key only, so more videos keep the first."""

    preset: str | Preset = "mixed"  # a name of `PRESETS`, or your own preset
    sound_share: float | None = None  # in 0..1; None for that of the preset
    routes: dict[str, float] | None = None  # route -> weight; None for those of the preset
    seconds: float = 8.0  # duration of a video
    size: tuple[int, int] = (320, 240)  # (width, height) in pixels
    frame_rate: float = 25.0  # frames per second
    num_observers: int = 20  # simulated observers per video
    seed: int = 0  # random seed, at least 0

    @property
    def num_frames(self) -> int:
        return max(1, round(self.seconds * self.frame_rate))

    def shares(self) -> Preset:
        """Returns the preset with the changed shares. Raises StavisError as `make_preset`."""
        if isinstance(self.preset, Preset):
            return self.preset
        return make_preset(self.preset, sound_share=self.sound_share, routes=self.routes)

    def check(self) -> None:
        """Raises StavisError if a setting is outside its range."""
        width, height = self.size
        if not (32 <= width <= 4096 and 32 <= height <= 4096):
            raise StavisError(f"size {width}x{height}; allowed: 32 to 4096 pixels a side")
        if not 1 <= self.frame_rate <= 240:
            raise StavisError(f"{self.frame_rate} frames per second; allowed: 1 to 240")
        if not 0 < self.seconds <= 600:
            raise StavisError(f"{self.seconds} seconds; allowed: above 0, to 600")
        if self.seed < 0:
            raise StavisError(f"seed {self.seed}; allowed: 0 or more")
        if self.num_observers < 1:
            raise StavisError(f"{self.num_observers} observers; allowed: 1 or more")
        self.shares()


class ClipMaker:
    """Maker of one video: audio at once, frames one by one, ground truth after the last frame.

    Attributes:
        settings: What determines the video, with the key that identifies it among those of the seed.
        script: Its script.
        samples: Audio (S,) in -1..1 at `SAMPLE_RATE`.
    """

    def __init__(self, settings: Settings, key: Key) -> None:
        clip = settings
        self.settings, self.key, self.preset = settings, key, settings.shares()
        self.script = write_script(clip.seed, key, self.preset, clip.num_frames, clip.frame_rate)
        self.samples = render_soundtrack(self.script, clip.seed, key)
        width, height = clip.size
        num_frames, num_actors = clip.num_frames, len(self.script.roles)
        self._targets = np.full((num_frames, num_actors, 3), np.nan, dtype=np.float32)
        self._boxes = np.full((num_frames, num_actors, 4), np.nan, dtype=np.float32)
        self._activity = np.zeros((num_frames, num_actors), dtype=np.float32)
        self._appeal = np.zeros((num_frames, num_actors), dtype=np.float32)
        self._shot_index = np.zeros(num_frames, dtype=np.int16)
        self._contrast = np.zeros(
            (num_frames, _GRID_ROWS, max(1, round(_GRID_ROWS * width / height))), dtype=np.uint8
        )

    def frames(self) -> Iterator[Frame]:
        """Yields the frames in order, as RGB (H, W, 3)."""
        clip = self.settings
        for index, shot in enumerate(self.script.shots):
            roles = [role for role in self.script.roles if role.shot == index]
            stage = Stage(
                clip.seed, (*self.key, "shot", index), self.preset, shot, roles, clip.size, clip.frame_rate
            )
            numbers = [role.actor for role in roles]
            for actor, number in zip(stage.actors, numbers, strict=True):
                self._activity[shot.start_frame : shot.stop_frame, number] = actor.activity(stage.times)
            before: list[Floats] = []
            attention = np.zeros(0, dtype=np.float32)
            follow = np.float32(1 - np.exp(-1 / (_CONTRAST_SECONDS * clip.frame_rate)))
            for row in range(len(stage.times)):
                frame = shot.start_frame + row
                image = stage.render(row)
                small = _shrink(image, (2 * self._contrast.shape[1], 2 * self._contrast.shape[2]))
                energy = contrast_and_motion(small, before[0] if before else None)
                # A flicker of one frame attracts no gaze, so the drive follows with a time constant.
                attention = energy if row == 0 else attention + follow * (energy - attention)
                self._contrast[frame] = attention * (255 / attention.max())
                before = [*before[-1:], small]
                self._shot_index[frame] = index
                self._targets[frame, numbers] = stage.targets(row)
                self._boxes[frame, numbers] = stage.boxes(row)
                for actor, number in zip(stage.actors, numbers, strict=True):
                    x, y, _ = self._targets[frame, number]
                    inside = 0 <= x < clip.size[0] and 0 <= y < clip.size[1]
                    idle = actor.kind != "mover" and actor.performance is None
                    self._appeal[frame, number] = inside * actor.appeal * (_IDLE_APPEAL if idle else 1.0)
                yield image

    def truth(self) -> Truth:
        """Returns the ground truth with gaze, once all frames are made."""
        clip, script = self.settings, self.script
        heard = [script.sounding(frame) for frame in range(clip.num_frames)]
        sounding = np.array([SILENT if who is None else who for who in heard], dtype=np.int16)
        truth = Truth(
            seed=clip.seed,
            preset=clip.preset if isinstance(clip.preset, str) else "own",
            width=clip.size[0],
            height=clip.size[1],
            frame_rate=clip.frame_rate,
            num_frames=clip.num_frames,
            sample_rate=SAMPLE_RATE,
            drives=dict(self.preset.drives),
            shots=[asdict(shot) for shot in script.shots],
            actors=[
                {name: getattr(role, name) for name in ("actor", "shot", "kind", "candidate")}
                | {"onsets": [] if role.performance is None else role.performance.onsets.round(6).tolist()}
                for role in script.roles
            ],
            turns=[
                {name: value for name, value in vars(turn).items() if name != "performance"}
                for turn in script.turns
            ],
            bed=script.bed,
            shot_index=self._shot_index,
            sounding=sounding,
            targets=self._targets,
            boxes=self._boxes,
            activity=self._activity,
            appeal=self._appeal,
            contrast_map=self._contrast,
            loudness=_loudness(self.samples, clip.num_frames, clip.frame_rate),
            gaze=NO_GAZE,
        )
        rng = generator(clip.seed, *self.key, "observers")
        return replace(truth, gaze=simulate_observers(rng, truth, clip.num_observers))


def _shrink(image: Frame, size: tuple[int, int]) -> Floats:
    """Shrinks a picture to (h, w, 3) in 0..1."""
    small = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BOX)
    return np.asarray(np.asarray(small) / np.float32(255), dtype=np.float32)


def contrast_and_motion(small: Floats, before: Floats | None) -> Floats:
    """Computes the drive "contrast", (h, w) with mean 1: local contrast, and difference from an earlier picture.

    Both pictures are shrunk to (2h, 2w, 3) in 0..1; `before` is one or two frames earlier, None after a cut.
    """
    center = ndimage.uniform_filter(small, (3, 3, 0))
    around = ndimage.uniform_filter(small, (15, 15, 0))
    contrast = np.abs(center - around).sum(axis=2)
    energy = contrast / (contrast.mean() + 0.02)
    if before is not None:
        change = ndimage.uniform_filter(np.abs(small - before).sum(axis=2), 3)
        change = np.maximum(change - np.median(change), 0)  # camera motion is everywhere
        energy = energy + 1.5 * change / (change.mean() + 0.01)
    pooled = energy.reshape(small.shape[0] // 2, 2, small.shape[1] // 2, 2).mean(axis=(1, 3)) ** 2 + 1e-6
    return np.asarray(pooled / pooled.mean(), dtype=np.float32)


def _loudness(samples: Floats, num_frames: int, frame_rate: float) -> Floats:
    edges = np.rint((np.arange(num_frames + 1) - 0.5) / frame_rate * SAMPLE_RATE).astype(int)
    edges = edges.clip(0, len(samples))
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    width = np.maximum(np.diff(edges), 1)
    return np.asarray(np.sqrt((energy[edges[1:]] - energy[edges[:-1]]) / width), dtype=np.float32)


def render_clip(
    path: str | os.PathLike[str],
    *,
    seed: int,
    preset: str | Preset = "mixed",
    seconds: float = 8.0,
    size: tuple[int, int] = (320, 240),
    frame_rate: float = 25.0,
    num_observers: int = 20,
) -> Truth:
    """Generates one clip as a video file with sound. It is in no database of `write_databases`, whatever the seed.

    Args:
        path: Video file; its suffix selects the container.
        seed: Random seed, at least 0.
        preset: A name in `PRESETS`, or your own preset.
        seconds: Duration.
        size: (width, height) in pixels.
        frame_rate: Frames per second.
        num_observers: Number of simulated observers.

    Returns:
        Its ground truth, including gaze.

    Raises:
        StavisError: A setting is outside its range, or the file cannot be written.
    """
    from stavis.media import VideoWriter, write_wave

    settings = Settings(
        preset, seconds=seconds, size=size, frame_rate=frame_rate, num_observers=num_observers, seed=seed
    )
    settings.check()
    maker = ClipMaker(settings, ("clip",))
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder) / "sound.wav"
        write_wave(wave, maker.samples, SAMPLE_RATE)
        writer = VideoWriter(path, width=size[0], height=size[1], frame_rate=frame_rate, audio_from=wave)
        with writer:
            for image in maker.frames():
                writer.write(image)
    return maker.truth()
