"""Picture sets with gaze: still pictures, or clips that a virtual camera takes of them.

A picture set is a folder with pictures and a file `fixations.npz`, as `stavis prepare pictures` writes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from stavis import media
from stavis.clips.preprocess import Preprocessing, audio_excerpt, make_clip
from stavis.datasets.dataset import EpochDataset, Sample, SampleDescription
from stavis.datasets.layout import FoldEntry
from stavis.datasets.sources import read_picture
from stavis.errors import StavisError
from stavis.runtime.files import ARCHIVE_ERRORS

FIXATIONS_FILE = "fixations.npz"
HELD_OUT_EVERY = 15  # of each set, the first picture and every 15th after it are for validation
SIGMA_SHARE = 0.035  # of the picture's side: the density maps' Gaussian
FRAME_RATE = 25.0  # of clips that are taken of pictures, frames per second
GAZE_LAG = 5  # frames after a cut in which gaze still rests where it was: 200 ms
LONGEST_SOUND = 60  # seconds of an audio file that are used
BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))
MIN_FIXATIONS = 10  # that a crop must hold

Points = npt.NDArray[np.float32]
Part = Literal["training", "held-out"]


@dataclass(frozen=True)
class PictureSet:
    """Pictures and where people looked in them."""

    folder: Path  # folder with the pictures and `fixations.npz`
    # Path of each picture below `folder`; its parent folder's name is the set that it belongs to.
    names: tuple[str, ...]
    # Of each picture, (N, 2) float32: x and y of the fixations as shares of width and height, in 0..1.
    points: tuple[Points, ...]
    observers: tuple[npt.NDArray[np.int16], ...]  # of each picture, (N,) int16: whose fixation each is

    def __len__(self) -> int:
        return len(self.names)

    def set_name(self, index: int) -> str:
        return Path(self.names[index]).parent.name

    def part(self, part: Part) -> list[int]:
        """Indices of the pictures of a part; every 15th picture of each set is held out."""
        counts: dict[str, int] = {}
        chosen = []
        for index in range(len(self)):
            name = self.set_name(index)
            counts[name] = counts.get(name, -1) + 1
            if (counts[name] % HELD_OUT_EVERY == 0) == (part == "held-out"):
                chosen.append(index)
        return chosen

    def read(self, index: int) -> Image.Image:
        """Reads a picture, RGB. Raises StavisError if the file is missing or not a picture."""
        return read_picture(self.folder / self.names[index], f"missing, though {FIXATIONS_FILE} names it")


def read_picture_set(folder: Path | str) -> PictureSet:
    """Reads a picture set's `fixations.npz`. Raises StavisError if it is missing, damaged or not possible."""
    folder = Path(folder)
    path = folder / FIXATIONS_FILE
    wanted = ("picture", "observer", "x", "y", "names")
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in wanted if name not in file.files]
            if missing:
                raise StavisError(f"{path}: has no array {', '.join(missing)}; needed: {', '.join(wanted)}")
            picture, observer, x, y, names = (file[name] for name in wanted)
    except FileNotFoundError:
        raise StavisError(f"{path}: not found; a picture set is a folder with this file") from None
    except ARCHIVE_ERRORS as error:
        raise StavisError(f"{path}: cannot be read as a NumPy archive: {error}") from None
    if names.dtype.kind != "U" or names.ndim != 1 or not len(names):
        raise StavisError(f"{path}: names is {names.dtype} {names.shape}; expected names of pictures")
    shapes = {array.shape for array in (picture, observer, x, y)}
    if len(shapes) != 1 or picture.ndim != 1:
        raise StavisError(
            f"{path}: picture, observer, x and y have shapes {sorted(map(str, shapes))}; expected one (N,)"
        )
    if picture.dtype.kind not in "iu" or not ((picture >= 0) & (picture < len(names))).all():
        raise StavisError(f"{path}: picture must be an index into the {len(names)} names")
    points = np.stack([x, y], axis=1).astype(np.float32)
    inside = ((points >= 0) & (points <= 1)).all(axis=1)
    if not inside.all():
        first = int(np.flatnonzero(~inside)[0])
        raise StavisError(
            f"{path}: fixation {first} is at {tuple(points[first].tolist())}; expected x and y in 0..1"
        )
    order = np.argsort(picture, kind="stable")
    bounds = np.searchsorted(picture[order], np.arange(1, len(names)))
    return PictureSet(
        folder,
        tuple(map(str, names)),
        tuple(np.split(points[order], bounds)),
        tuple(np.split(observer[order].astype(np.int16), bounds)),
    )


def fixation_map(points: Points, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Counts fixations per pixel: (height, width) from (N, 2) x and y as shares of width and height."""
    height, width = size
    columns = np.minimum((points[:, 0] * width).astype(np.intp), width - 1)
    rows = np.minimum((points[:, 1] * height).astype(np.intp), height - 1)
    counts = np.bincount(rows * width + columns, minlength=height * width)
    return counts.reshape(height, width).astype(np.float32)


def density_map(fixations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Density map of a fixation map (H, W): its blur by a Gaussian of 3.5 % of each side, scaled to 0..255."""
    sigma = tuple(SIGMA_SHARE * side for side in fixations.shape)
    density: npt.NDArray[np.float32] = np.empty(fixations.shape, np.float32)
    gaussian_filter(fixations, sigma, output=density, mode="constant")
    highest = float(density.max())
    if highest > 0:
        density *= np.float32(255 / highest)
    return density


class Box(NamedTuple):
    """A part of a picture, in shares of its width and height."""

    left: float
    top: float
    width: float
    height: float

    def points(self, points: Points) -> Points:
        """The points that lie inside, in shares of the box."""
        corner = np.array([self.left, self.top], np.float32)
        moved: Points = np.divide(
            points - corner, np.array([self.width, self.height], np.float32), dtype=np.float32
        )
        return moved[((moved >= 0) & (moved < 1)).all(axis=1)]

    def cut(self, image: Image.Image, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """The part as (height, width, 3) pixels at `size` (height, width)."""
        width, height = image.size
        corners = (
            self.left * width,
            self.top * height,
            min(width, (self.left + self.width) * width),
            min(height, (self.top + self.height) * height),
        )
        return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, box=corners))


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


class PictureDataset(EpochDataset):
    """Training samples from a picture set: one per picture and epoch.

    Every random draw is a function of (seed, epoch, index), as in `SaliencyDataset`.

    Attributes:
        pictures: The picture set.
        preprocessing: Sizes and mean of the model.
        epoch: Decides the draws.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        part: Part = "training",
        camera: bool = False,
        changed: bool = True,
        crop: float = 0.0,
        whole_from_epoch: int = 0,
        sounds: Sequence[Path | str] = (),
        audio: bool = False,
        preprocessing: Preprocessing | None = None,
        seed: int = 1,
    ) -> None:
        """Reads the gaze; pictures are read when they are asked for.

        Args:
            folder: Folder of a picture set.
            part: "training", or the pictures held out of it.
            camera: Whether samples are clips that a virtual camera takes (pan, zoom, shake, cuts) instead of stills,
                which have a single frame.
            changed: Whether pictures are flipped and cropped at random; False gives whole pictures.
            crop: Crops are enlarged by a factor of 1 to 1 + `crop`.
            whole_from_epoch: Stills are cropped ever more rarely, and from this epoch on not at all, so that the
                network learns where the center of whole pictures is; 0 crops four in five throughout.
            sounds: Audio files, one of which a sample in two has an excerpt of; the others are silent. Pictures tell
                nothing about sound, so a network learns from them when not to listen.
            audio: Whether samples have audio.
            preprocessing: That of the model; None for the published one.
            seed: Of all draws, 0 or more.

        Raises:
            StavisError: The picture set or an audio file cannot be read.
        """
        super().__init__()
        self.pictures = read_picture_set(folder)
        self.preprocessing = preprocessing or Preprocessing()
        self._indices = self.pictures.part(part)
        self._camera, self._changed, self._crop = camera, changed, crop
        self._whole_from_epoch, self._seed, self._audio = whole_from_epoch, seed, audio
        self._waveforms = (
            [_read_sound(Path(path), self.preprocessing.sample_rate) for path in sounds] if audio else []
        )

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def videos(self) -> list[tuple[str, FoldEntry]]:
        """(set, entry) of every picture."""
        return [
            (self.pictures.set_name(i), FoldEntry(self.pictures.names[i], self.num_frames, FRAME_RATE))
            for i in self._indices
        ]

    @property
    def num_frames(self) -> int:
        return self.preprocessing.clip_length if self._camera else 1

    def describe(self, index: int) -> SampleDescription:
        picture, num = self._indices[index], self.num_frames
        name = self.pictures.names[picture]
        return SampleDescription(
            self.pictures.set_name(picture), name, FRAME_RATE, tuple(range(num)), num // 2
        )

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        rng = np.random.default_rng([self._seed, self.epoch, index, 11])
        size = self.preprocessing.input_size
        frames, points = self._take(index, rng, size) if self._camera else self._still(index, rng, size)
        if self._changed and rng.random() < 0.5:
            frames = frames[:, :, ::-1]
            points = np.stack([BELOW_ONE - np.minimum(points[:, 0], BELOW_ONE), points[:, 1]], axis=1)
        fixations = fixation_map(points, size)
        return Sample(
            clip=torch.from_numpy(make_clip(frames, self.preprocessing)),
            audio=torch.from_numpy(self._listen(rng))[None, None],
            density_map=torch.from_numpy(density_map(fixations))[None],
            fixation_map=torch.from_numpy(np.minimum(fixations, 1))[None],
            index=torch.tensor(index),
            frames=torch.arange(self.num_frames),
            target=torch.tensor(self.num_frames // 2),
        )

    def _still(
        self, index: int, rng: np.random.Generator, size: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], Points]:
        picture = self._indices[index]
        image, points = self.pictures.read(picture), self.pictures.points[picture]
        share = 0.8 * max(0.0, 1 - self.epoch / self._whole_from_epoch) if self._whole_from_epoch else 0.8
        box = self._choose_box(points, rng) if self._changed and rng.random() < share else WHOLE
        return box.cut(image, size)[None], box.points(points)

    def _choose_box(self, points: Points, rng: np.random.Generator) -> Box:
        for _ in range(10):
            side = 1 / rng.uniform(1, 1 + self._crop)
            aspect = np.exp(rng.uniform(-0.12, 0.12))
            width, height = min(1.0, side * aspect), min(1.0, side / aspect)
            box = Box(rng.uniform(0, 1 - width), rng.uniform(0, 1 - height), width, height)
            if len(box.points(points)) >= max(MIN_FIXATIONS, 0.3 * len(points)):
                return box
        return WHOLE

    def _take(
        self, index: int, rng: np.random.Generator, size: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], Points]:
        """A clip (T, H, W, 3) that a virtual camera takes, and the points looked at in its target frame."""
        num, target = self.num_frames, self.num_frames // 2
        cut = int(rng.integers(1, num)) if self._changed and rng.random() < 0.35 else 0
        before = self._indices[int(rng.integers(len(self)))]
        shots = [(self._indices[index], self._path(self._indices[index], rng))]
        if cut:
            shots.insert(0, (before, self._path(before, rng)))
        frames = np.empty((num, *size, 3), np.uint8)
        for number, (picture, path) in enumerate(shots):
            image = self.pictures.read(picture)
            for frame in range(cut if number else 0, cut if cut and not number else num):
                frames[frame] = path[frame].cut(image, size)
        # Eyes need time: shortly after a cut they are where they were before it.
        looked_at = 0 if cut and target < cut + GAZE_LAG else len(shots) - 1
        picture, path = shots[looked_at]
        return frames, path[min(target, cut - 1) if cut and looked_at == 0 else target].points(
            self.pictures.points[picture]
        )

    def _path(self, picture: int, rng: np.random.Generator) -> list[Box]:
        """What the camera shows of a picture, frame by frame."""
        num, target = self.num_frames, self.num_frames // 2
        points = self.pictures.points[picture]
        if not self._changed or rng.random() < 0.25:
            return [WHOLE] * num
        for _ in range(10):
            times = (np.arange(num) - target) / num
            sides = np.clip(rng.uniform(0.6, 1.0) * np.exp(rng.uniform(-0.3, 0.3) * times), 0.4, 1.0)
            places = rng.uniform(0, 1, 2) + np.outer(times, rng.uniform(-0.6, 0.6, 2))
            if rng.random() < 0.3:
                places += np.cumsum(rng.normal(0, 0.02, (num, 2)), axis=0)
            left, top = np.clip(places, 0, 1).T * (1 - sides)
            path = [Box(*box) for box in zip(left, top, sides, sides, strict=True)]
            if len(path[target].points(points)) >= max(MIN_FIXATIONS, 0.3 * len(points)):
                return path
        return [WHOLE] * num

    def _listen(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        if not self._audio:
            return np.zeros(0, np.float32)
        length = round(self.num_frames / FRAME_RATE * self.preprocessing.sample_rate)
        samples = np.zeros(0, np.float32)
        if self._waveforms and rng.random() < 0.5:
            waveform = self._waveforms[int(rng.integers(len(self._waveforms)))]
            start = int(rng.integers(max(1, len(waveform) - length)))
            samples = waveform[start : start + length] * np.float32(10 ** rng.uniform(-1.0, 0.2))
        return audio_excerpt(samples, self.preprocessing)


def _read_sound(path: Path, sample_rate: int) -> npt.NDArray[np.float32]:
    with media.AudioReader(path, sample_rate=sample_rate) as reader:
        longest = LONGEST_SOUND * sample_rate
        samples = reader.read(0, min(reader.num_samples or longest, longest))
    if not samples.any():
        raise StavisError(f"{path}: has no audio that can be decoded, or only silence")
    return samples
