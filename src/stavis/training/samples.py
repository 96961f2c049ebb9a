"""Clips of a run: training and validation clips, and how batches of them are loaded."""

import functools
import hashlib
import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from stavis.clips.preprocess import Preprocessing
from stavis.datasets.dataset import MissingDataWarning, SaliencyDataset, Sample, SampleDescription
from stavis.datasets.layout import FoldEntry, Subset
from stavis.datasets.pictures import PictureDataset
from stavis.errors import StavisError
from stavis.training.augmentation import (
    Augmentation,
    change_color,
    change_sound,
    degrade,
    enlarge,
    random_state,
)
from stavis.training.display import show
from stavis.training.distributed import Processes
from stavis.training.recipe import Recipe

Indices = npt.NDArray[np.int64]


Source = SaliencyDataset | PictureDataset


class Sources(Dataset[Sample]):
    """Samples of several data sets, one behind the other."""

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _locate(self, index: int) -> tuple[Source, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.parts[number], index - int(self._ends[number] - len(self.parts[number]))

    def __getitem__(self, index: int) -> Sample:
        part, own_index = self._locate(index)
        return part[own_index]._replace(index=torch.tensor(index))

    def is_picture(self, index: int) -> bool:
        """Whether a sample is a picture, or a clip that was taken of one."""
        return isinstance(self._locate(index)[0], PictureDataset)

    def describe(self, index: int) -> SampleDescription:
        """Where sample `index` comes from."""
        part, own_index = self._locate(index)
        return part.describe(own_index)

    @property
    def videos(self) -> list[tuple[str, FoldEntry]]:
        """(database, entry) of every video and picture."""
        return [video for part in self.parts for video in part.videos]

    @property
    def preprocessing(self) -> Preprocessing:
        """That of the model."""
        return self.parts[0].preprocessing

    @property
    def epoch(self) -> int:
        """Decides the random draws."""
        return self.parts[0].epoch

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose crops and flips come next."""
        for part in self.parts:
            part.set_epoch(epoch)


@dataclass(frozen=True)
class Clips:
    """Clips for one purpose: the `samples` at `indices`."""

    samples: Sources
    indices: Indices

    def __len__(self) -> int:
        return len(self.indices)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Returns a hash that identifies the windows and the list of their videos, not the files' content."""
        videos = [
            (database, entry.video, entry.num_frames, entry.frame_rate)
            for database, entry in self.samples.videos
        ]
        text = repr((videos, self.indices.tolist()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def open_clips(recipe: Recipe, processes: Processes, *, quiet: bool) -> tuple[Clips, Clips | None]:
    """Opens what a recipe trains on, and what it validates on, if it does. Missing parts of the cache are built.

    Raises StavisError if data are missing, or too few to train on or to hold videos out.
    """
    validates_on = recipe.validation.on
    training: list[tuple[Source, Indices]] = []
    validation: list[tuple[Source, Indices]] = []
    if recipe.data.videos:
        videos = _open(recipe, "train", "train", processes, quiet)
        held_out: set[tuple[str, str]] = set()
        if validates_on == "holdout":
            names = _videos_of_samples(videos)
            held_out = choose_holdout(names, recipe.validation.holdout_share, recipe.seed)
            measured = _open(recipe, "train", "validation", processes, quiet)
            validation.append((measured, _indices_of(measured, held_out, inside=True)))
        elif validates_on == "test":
            measured = _open(recipe, "test", "validation", processes, quiet)
            validation.append((measured, np.arange(len(measured))))
        training.append(
            (videos, _indices_of(videos, held_out, inside=False) if held_out else np.arange(len(videos)))
        )
    if recipe.data.pictures:
        stills = _open_pictures(recipe, training=True)
        training.append((stills, np.arange(len(stills))))
        if validates_on != "none":
            measured_stills = _open_pictures(recipe, training=False)
            validation.append((measured_stills, np.arange(len(measured_stills))))
    return (
        _join(recipe, "training", training),
        _join(recipe, "validation", validation) if validation else None,
    )


def _join(recipe: Recipe, purpose: str, parts: Sequence[tuple[Source, Indices]]) -> Clips:
    starts = np.cumsum([0, *(len(samples) for samples, _ in parts)])
    indices = [chosen + start for (_, chosen), start in zip(parts, starts[:-1], strict=True)]
    clips = Clips(Sources([samples for samples, _ in parts]), np.concatenate(indices))
    if not len(clips):
        data = recipe.data
        places = [data.root] * data.videos + [data.pictures] * bool(data.pictures)
        raise StavisError(
            f"{' and '.join(places)}: no {purpose} clip; too few videos or pictures have all files to hold some out"
        )
    return clips


def _open_pictures(recipe: Recipe, *, training: bool) -> PictureDataset:
    data, augmentation = recipe.data, recipe.augmentation
    sounds = Path(recipe.resolve(data.sounds))
    return PictureDataset(
        recipe.resolve(data.pictures),
        part="training" if training else "held-out",
        camera=data.pictures_as == "clips",
        changed=training,
        crop=augmentation.scale,
        whole_from_epoch=max(1, round(0.75 * recipe.epochs)) if augmentation.whole_at_end else 0,
        sounds=sorted(path for path in sounds.iterdir() if path.is_file()) if data.sounds else (),
        audio=recipe.model.modality == "audiovisual",
        preprocessing=recipe.model.preprocessing,
        seed=recipe.seed,
    )


def choose_holdout(videos: Sequence[tuple[str, str]], share: float, seed: int) -> set[tuple[str, str]]:
    """Draws held-out videos, (database, video), of those that have clips: this share of each database, at least one.

    Raises StavisError if a database has only one video, or all would be held out.
    """
    held_out: set[tuple[str, str]] = set()
    for database in sorted({database for database, _ in videos}):
        names = sorted({video for other, video in videos if other == database})
        num = max(1, round(share * len(names)))
        if num >= len(names):
            raise StavisError(
                f"validation.on = 'holdout': {database} has {len(names)} training video"
                f"{'s' * (len(names) > 1)} with clips, of which {num} cannot be held out"
            )
        state = np.random.SeedSequence([seed, *database.encode()]).generate_state(8)
        held_out |= {(database, names[i]) for i in np.random.RandomState(state).permutation(len(names))[:num]}
    return held_out


class BatchLoader:
    """Loader of given batches of clips, in worker processes that live across epochs.

    Args:
        device: Destination of the batches; for a GPU they pass through pinned memory.
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
        """Yields batches of the clips at these positions, augmented for this epoch, on the device.

        Raises StavisError if a file of a clip is missing or unreadable.
        """
        self.clips.samples.set_epoch(epoch)
        self._batches.batches = batches
        for batch in self._loader:
            if isinstance(batch, StavisError):
                raise batch
            yield Sample(*(tensor.to(self._device, non_blocking=True) for tensor in batch))

    def close(self) -> None:
        """Ends the workers, also those that cannot end themselves because they were stopped (SIGSTOP, Ctrl-Z).

        PyTorch leaves these to Python, which would wait for them forever when the program exits.
        """
        iterator: Any = self._loader._iterator
        if iterator is not None:
            try:
                iterator._shutdown_workers()
            finally:  # also after a second Ctrl-C
                for worker in iterator._workers:
                    worker.kill()


class _GivenBatches(Sampler[list[int]]):
    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _ChangedSamples(Dataset[Sample | StavisError]):
    """Augmented clips of a run. A StavisError is returned as a value.

    Raised, it would leave the loader with the worker's traceback as its message.
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
        augmentation, mean = self._augmentation, samples.preprocessing.mean
        if augmentation == Augmentation():
            return sample
        rng = random_state(self._seed, samples.epoch, index)
        clip = change_color(sample.clip.numpy(), mean, augmentation.color, rng)
        clip = degrade(clip, mean, augmentation, rng)
        maps = torch.cat([sample.density_map, sample.fixation_map]).numpy()
        if not samples.is_picture(
            index
        ):  # those were cropped with exact fixations, before their maps were drawn
            clip, maps = enlarge(clip, maps, augmentation.scale, rng)
        audio = sample.audio
        if audio.numel():
            audio = torch.from_numpy(change_sound(audio.flatten().numpy(), augmentation, rng)).view_as(audio)
        density, fixations = (torch.from_numpy(part) for part in (maps[:1], maps[1:]))
        changed = sample._replace(clip=torch.from_numpy(clip), audio=audio)
        return changed._replace(density_map=density, fixation_map=fixations)


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


def _videos_of_samples(samples: SaliencyDataset) -> list[tuple[str, str]]:
    """Returns (database, video) of every sample. Videos that have none are missing files, or have a single frame."""
    descriptions = (samples.describe(i) for i in range(len(samples)))
    return [(one.database, one.video) for one in descriptions]


def _indices_of(samples: SaliencyDataset, videos: set[tuple[str, str]], *, inside: bool) -> Indices:
    """Returns the indices of the samples of these videos, or of all others."""
    return np.flatnonzero([(video in videos) == inside for video in _videos_of_samples(samples)])
