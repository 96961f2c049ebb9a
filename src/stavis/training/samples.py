"""The clips of a run: which are trained on, which are measured, and how batches of them are loaded."""

import functools
import hashlib
import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from stavis.datasets.dataset import MissingDataWarning, SaliencyDataset, Sample
from stavis.datasets.layout import Subset
from stavis.errors import StavisError
from stavis.training.augmentation import Augmentation, change_color, change_sound, enlarge, random_state
from stavis.training.display import show
from stavis.training.distributed import Processes
from stavis.training.recipe import Recipe

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Clips:
    """Samples of one purpose: those of `samples` that `indices` name."""

    samples: SaliencyDataset
    indices: Indices

    def __len__(self) -> int:
        return len(self.indices)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of which windows of which videos these are."""
        videos = [
            (database, entry.video, entry.num_frames, entry.frame_rate)
            for database, entry in self.samples.videos
        ]
        text = repr((videos, self.indices.tolist()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def open_clips(recipe: Recipe, processes: Processes, *, quiet: bool) -> tuple[Clips, Clips | None]:
    """Opens what a recipe trains on, and what it validates on, if it does. Missing parts of the cache are made.

    Raises:
        StavisError: Data are missing, or too few to hold any out.
    """
    training = _open(recipe, "train", "train", processes, quiet)
    everything = np.arange(len(training))
    match recipe.validation.on:
        case "none":
            return Clips(training, everything), None
        case "test":
            validation = _open(recipe, "test", "validation", processes, quiet)
            return Clips(training, everything), Clips(validation, np.arange(len(validation)))
    validation = _open(recipe, "train", "validation", processes, quiet)
    held_out = choose_holdout(
        [(database, entry.video) for database, entry in training.videos],
        recipe.validation.holdout_share,
        recipe.seed,
    )
    return (
        Clips(training, _indices_of(training, held_out, inside=False)),
        Clips(validation, _indices_of(validation, held_out, inside=True)),
    )


def choose_holdout(videos: Sequence[tuple[str, str]], share: float, seed: int) -> set[tuple[str, str]]:
    """Draws videos to be kept out of training: of each database this share, rounded, but at least one.

    Args:
        videos: (database, video) of the training lists.
        share: Of each database's videos.
        seed: Decides the draw.

    Raises:
        StavisError: A database has but one video, or all would be held out.
    """
    held_out: set[tuple[str, str]] = set()
    for database in sorted({database for database, _ in videos}):
        names = sorted({video for other, video in videos if other == database})
        num = max(1, round(share * len(names)))
        if num >= len(names):
            raise StavisError(
                f"validation.on = 'holdout': {database} has {len(names)} training video"
                f"{'s' * (len(names) > 1)}, of which {num} cannot be held out"
            )
        state = np.random.SeedSequence([seed, *database.encode()]).generate_state(8)
        held_out |= {(database, names[i]) for i in np.random.RandomState(state).permutation(len(names))[:num]}
    return held_out


class BatchLoader:
    """Loads given batches of clips in worker processes that live from epoch to epoch.

    Args:
        clips: What is loaded.
        recipe: Gives workers, seed and augmentation.
        device: Where batches go; for a GPU they are loaded into memory that copies fast.
        augment: Whether clips are changed at random.
    """

    def __init__(self, clips: Clips, recipe: Recipe, device: torch.device, *, augment: bool) -> None:
        self.clips = clips
        self._device = device
        self._batches = _GivenBatches()
        augmentation = recipe.augmentation if augment else Augmentation()
        workers = recipe.data.workers
        self._loader: DataLoader[Sample | StavisError] = DataLoader(
            _ChangedSamples(clips, augmentation, recipe.seed),
            batch_sampler=self._batches,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
            worker_init_fn=_leave_signals_to_the_parent,
        )

    def load(self, epoch: int, batches: list[list[int]]) -> Iterator[Sample]:
        """Batches of the clips at these positions, as they are in this epoch, on the device.

        Raises:
            StavisError: A file of a clip is missing or unreadable.
        """
        self.clips.samples.set_epoch(epoch)
        self._batches.batches = batches
        for batch in self._loader:
            if isinstance(batch, StavisError):
                raise batch
            yield Sample(*(tensor.to(self._device, non_blocking=True) for tensor in batch))


class _GivenBatches(Sampler[list[int]]):
    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _ChangedSamples(Dataset[Sample | StavisError]):
    """A run's clips with augmentation. What a user can cause to fail comes back as a value.

    An exception would come out of the loader with the worker's traceback as its message.
    """

    def __init__(self, clips: Clips, augmentation: Augmentation, seed: int) -> None:
        self._clips = clips
        self._augmentation = augmentation
        self._seed = seed

    def __getitem__(self, position: int) -> Sample | StavisError:
        samples, index = self._clips.samples, int(self._clips.indices[position])
        try:
            sample = samples[index]
        except (StavisError, OSError) as error:
            return StavisError(f"{error} (a clip of {samples.describe(index)})")
        if self._augmentation == Augmentation():
            return sample
        rng = random_state(self._seed, samples.epoch, index)
        return _augment(sample, self._augmentation, samples.preprocessing.mean, rng)


def _augment(
    sample: Sample, augmentation: Augmentation, mean: tuple[float, float, float], rng: np.random.RandomState
) -> Sample:
    clip = change_color(sample.clip.numpy(), mean, augmentation.color, rng)
    maps = torch.cat([sample.density_map, sample.fixation_map]).numpy()
    clip, maps = enlarge(clip, maps, augmentation.scale, rng)
    audio = sample.audio
    if audio.numel():
        audio = torch.from_numpy(change_sound(audio.flatten().numpy(), augmentation, rng)).view_as(audio)
    return sample._replace(
        clip=torch.from_numpy(clip),
        audio=audio,
        density_map=torch.from_numpy(maps[:1]),
        fixation_map=torch.from_numpy(maps[1:]),
    )


def _collate(samples: list[Sample | StavisError]) -> Sample | StavisError:
    for sample in samples:
        if isinstance(sample, StavisError):
            return sample
    batch: Sample = default_collate(samples)
    return batch


def _leave_signals_to_the_parent(worker: int) -> None:
    # Ctrl-C and a cluster's SIGTERM reach every process. The step under way still needs its clips; the training
    # process answers the signal and ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _open(recipe: Recipe, subset: Subset, mode: str, processes: Processes, quiet: bool) -> SaliencyDataset:
    data = recipe.data
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MissingDataWarning)
        samples = SaliencyDataset(
            Path(data.root),
            split=data.split,
            subset=subset,
            mode=mode,  # type: ignore[arg-type]
            databases=data.databases or None,
            preprocessing=recipe.model.preprocessing,
            quirks=data.quirks,
            seed=recipe.seed,
            audio=recipe.model.modality == "audiovisual",
            cache=Path(recipe.resolve(data.cache)) if data.cache else None,
            allow_missing=data.allow_missing,
            quiet=quiet,
        )
    if processes.is_first and not quiet:
        for warning in caught:
            show(f"warning: {warning.message}")
    return samples


def _indices_of(samples: SaliencyDataset, videos: set[tuple[str, str]], *, inside: bool) -> Indices:
    """The samples of these videos, or of all others."""
    descriptions = (samples.describe(i) for i in range(len(samples)))
    return np.flatnonzero([((one.database, one.video) in videos) == inside for one in descriptions])
