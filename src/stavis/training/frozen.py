"""Training of the audiovisual fusion alone, on features that the frozen rest of the network computes once.

Where backbone, DSAMs and SoundNet are frozen, what they make of a clip is the same in every epoch. So it is computed
for the crops and flips of a few epochs, stored, and used in turn: an epoch then costs a hundredth.
"""

import copy
import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stavis.datasets.dataset import EpochDataset, Sample, SampleDescription
from stavis.model import STAViS
from stavis.model.resnet3d import trim_temporal_kernels
from stavis.runtime.files import atomic_path
from stavis.runtime.progress import track
from stavis.training.optim import autocast
from stavis.training.recipe import CHANGEABLE, Recipe
from stavis.training.samples import BatchLoader, Clips, Indices, Sources

SOUND_DEVIATION = 0.3  # of the normalized sounds
SILENT_BELOW = 0.01  # mean absolute value of a normalized sound: what is stored in 16 bits is not exactly 0
FEATURES_FOLDER = ".features"  # hidden, as an interrupted run may hold nothing else yet
NAMES = ("clip", "audio", "density_map", "fixation_map")  # of a sample, what is stored


class Listening(NamedTuple):
    """What SoundNet's vectors are normalized by, so that silence is 0 and other sounds differ from it clearly.

    Attributes:
        silence: (1024,), the vector of silence. All vectors have most of it in common.
        scale: Factor of the difference from it.
    """

    silence: Tensor
    scale: float

    def fold(self, model: STAViS) -> None:
        """Moves the normalization into the fusion's layer for sound, in place."""
        layer = model.fusion3.affine_audio
        with torch.no_grad():
            layer.weight *= self.scale
            layer.bias.copy_(-layer.weight @ self.silence.to(layer.weight))


def silence_fusion(model: STAViS) -> None:
    """Takes the biases out of a fusion, in place: to a sound of 0 it adds nothing, before its training and after."""
    with torch.no_grad():
        for layer in (model.fusion3.affine_audio, model.fusion3.w_a_rgb):
            layer.bias.zero_()
            layer.bias.requires_grad_(False)
        model.fuseav.weight[:, -model.fusion3.w_a_rgb.out_features :].normal_(std=0.02)


def keep_visual(batch: Sample, logits: Tensor, totals: Tensor, weight: float) -> Tensor:
    """The losses (B,) of encoded clips, replaced where sound must change nothing: see `LossWeights.keep`."""
    added = logits.flatten(1) - batch.clip[:, : logits[0].numel()]
    is_kept = batch.frames[:, 0] > 0
    is_silent = batch.audio.abs().mean(1) < SILENT_BELOW
    return torch.where(is_kept | is_silent, weight * added.square().mean(1), totals)


class EncodedSamples(EpochDataset):
    """A run's clips as the frozen network left them: `clip` and `audio` are what `STAViS.encode` makes of them.

    Clips of pictures get the sound of any clip, another one in every epoch: theirs says nothing about the picture.

    Args:
        samples: The clips.
        indices: Those of them that were encoded first, in the order of the stored arrays.
        stored: For each variant, each name of `NAMES` and its array. All variants but the first hold clips of videos
            alone.
        listening: What sounds are normalized by.
        seed: Decides which sound pictures get.
        keep_databases: Their clips are marked as those of pictures are, by a 1 in `frames`: see `keep_visual`.
    """

    def __init__(
        self,
        samples: Sources,
        indices: Indices,
        stored: list[dict[str, np.ndarray]],
        listening: Listening,
        seed: int,
        keep_databases: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self._samples = samples
        self._is_picture = {int(index): samples.is_picture(int(index)) for index in indices}
        videos = [index for index, is_picture in self._is_picture.items() if not is_picture]
        self._places = [
            {index: place for place, index in enumerate(kept)} for kept in (self._is_picture, videos)
        ]
        self._stored = stored
        self._listening = listening
        self._seed = seed
        self._is_kept = {
            index: is_picture or samples.describe(index).database in keep_databases
            for index, is_picture in self._is_picture.items()
        }
        self.preprocessing = samples.preprocessing
        self.videos = samples.videos

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        variant = 0 if self._is_picture[index] else self.epoch % len(self._stored)
        place = self._places[min(variant, 1)][index]
        tensors = {
            name: torch.from_numpy(self._stored[variant][name][place].astype(np.float32)) for name in NAMES
        }
        if self._is_picture[index]:
            rng = np.random.default_rng([self._seed, self.epoch, index, 13])
            sounds = self._stored[int(rng.integers(len(self._stored)))]["audio"]
            tensors["audio"] = torch.from_numpy(sounds[rng.integers(len(sounds))].astype(np.float32))
        tensors["audio"] = (tensors["audio"] - self._listening.silence) * self._listening.scale
        frames = torch.full((1,), int(self._is_kept[index]))
        return Sample(**tensors, index=torch.tensor(index), frames=frames, target=torch.tensor(0))

    def describe(self, index: int) -> SampleDescription:
        """Where sample `index` comes from."""
        return self._samples.describe(index)

    def is_picture(self, index: int) -> bool:
        """Whether a sample is a clip that was taken of a picture."""
        return self._is_picture[index]


def encode_clips(
    clips: Clips,
    name: str,
    model: STAViS,
    recipe: Recipe,
    run: Path,
    *,
    num_variants: int,
    listening: Listening | None = None,
    quiet: bool,
) -> tuple[Clips, Listening]:
    """Encodes clips by the frozen parts of a network, or reads what the same network stored in the run's folder.

    Args:
        clips: Training or validation clips.
        name: Of the stored files' folder in `.features/`: "training" or "validation". Training clips are augmented.
        model: The network, with its initial weights.
        recipe: Of the run.
        run: Its folder.
        num_variants: How many epochs' random changes of videos are encoded; pictures are encoded once.
        listening: What sounds are normalized by; None takes it from these clips.
        quiet: Show no progress.

    Raises:
        StavisError: A file of a clip is missing or unreadable, or the disk is full.
    """
    trimmed = copy.deepcopy(model).eval()
    trim_temporal_kernels(trimmed)
    videos = Clips(
        clips.samples, np.array([i for i in clips.indices if not clips.samples.is_picture(int(i))], int)
    )
    folder = run / FEATURES_FOLDER / f"{name}_{_key(clips, model, recipe)}"
    for other in (run / FEATURES_FOLDER).glob(f"{name}_*"):  # of other weights, settings or clips
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    stored = []
    for variant in range(num_variants if len(videos) else 1):
        chosen = videos if variant else clips
        paths = {one: folder / f"{variant}_{one}.npy" for one in NAMES}
        if not all(path.exists() for path in paths.values()):
            title = f"encoding {name} clips, {variant + 1} of {num_variants}"
            _encode(chosen, variant, trimmed, recipe, paths, title, augment=name == "training", quiet=quiet)
        stored.append({one: np.load(path, mmap_mode="r") for one, path in paths.items()})
    if listening is None:
        with torch.inference_mode():
            silence = trimmed.listen(torch.zeros(1, recipe.model.preprocessing.num_audio_samples))[0].cpu()
        deviation = float((torch.from_numpy(stored[0]["audio"].astype(np.float32)) - silence).std())
        listening = Listening(silence.clone(), SOUND_DEVIATION / max(deviation, 1e-6))
    encoded = EncodedSamples(
        clips.samples, clips.indices, stored, listening, recipe.seed, recipe.loss.keep_databases
    )
    return Clips(encoded, clips.indices), listening  # type: ignore[arg-type]


def _key(clips: Clips, model: STAViS, recipe: Recipe) -> str:
    """Tells what decides the features from others: weights, clips, and the settings of both."""
    data = {key: value for key, value in asdict(recipe.data).items() if f"data.{key}" not in CHANGEABLE}
    settings = [clips.fingerprint, recipe.seed, data, asdict(recipe.augmentation), recipe.runtime.precision]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.inference_mode()
def _encode(
    clips: Clips,
    variant: int,
    model: STAViS,
    recipe: Recipe,
    paths: dict[str, Path],
    title: str,
    *,
    augment: bool,
    quiet: bool,
) -> None:
    device = next(model.parameters()).device
    positions = list(range(len(clips)))
    size = recipe.batch.max_clips
    batches = [positions[i : i + size] for i in range(0, len(positions), size)]
    rows: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    with track(title, len(clips), unit="clips", quiet=quiet) as advance:
        for batch in BatchLoader(clips, recipe, device, augment=augment).load(variant, batches):
            with autocast(recipe.runtime.precision, device):
                visual, sound = model.encode(batch.clip, batch.audio)
            for name, value in zip(
                NAMES, (visual, sound, batch.density_map, batch.fixation_map), strict=True
            ):
                rows[name].append(value.cpu().half().numpy())
            advance(len(visual))
    for name, path in paths.items():
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, np.concatenate(rows[name]))
