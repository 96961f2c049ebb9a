"""Initial training of SoundNet in the synthetic experiment: classification of sounds.

    python benchmarks/synthetic_soundnet.py DATA OUTPUT.pth

The published audiovisual stage also starts from a trained SoundNet, which had learned to name the content of a video
from its sound. Here it learns which kind of source is heard in a generated clip (speech, blows, notes, noise, or none),
from the audio of the training videos and their ground truth, without frames. Writes a SoundNet initializer for
`initial_weights` of a recipe, and prints the accuracy on clips of the test videos and that of the most frequent class.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from stavis.clips import clip_samples
from stavis.clips.preprocess import Preprocessing, audio_excerpt
from stavis.datasets.fold_lists import read_fold_list
from stavis.datasets.layout import Layout, Subset
from stavis.media import read_wave
from stavis.model.soundnet import NUM_FEATURES, SoundNet
from stavis.runtime.files import atomic_path
from stavis.runtime.progress import track
from stavis.synthetic import read_truth
from stavis.synthetic.databases import truth_path

SOUNDS = ("none", "speech", "blows", "notes", "noise")
BATCH_SIZE = 32
RATE = 1e-3
MAX_GAIN_DECIBELS = 6.0
NUM_TESTED = 5  # clips of each test video

Sounds = list[tuple[npt.NDArray[np.float32], int, float, npt.NDArray[np.int64]]]
"""Of each video: samples, sample rate, frame rate, and the place in `SOUNDS` of what each frame lets one hear."""


def main() -> None:
    """Trains and measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder that stavis synth made")
    parser.add_argument("output", type=Path, help="the .pth file to write")
    parser.add_argument("--steps", type=int, default=600)
    arguments = parser.parse_args()
    databases = sorted(path.name for path in (arguments.data / "truth").iterdir())
    right, commonest = train_soundnet(arguments.data, databases, arguments.output, num_steps=arguments.steps)
    print(f"test clips named right: {right:.1%}; naming always the commonest: {commonest:.1%}")


def train_soundnet(
    data: Path, databases: list[str], output: Path, *, num_steps: int, seed: int = 1, quiet: bool = False
) -> tuple[float, float]:
    """Trains SoundNet, writes it, and returns the shares of test clips that it and that the commonest kind name."""
    preprocessing = Preprocessing()
    training, test = (read_sounds(data, databases, subset) for subset in ("train", "test"))
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    soundnet, name = SoundNet(), nn.Linear(NUM_FEATURES, len(SOUNDS))
    for module in soundnet:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    parameters = [*soundnet.parameters(), *name.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    with track("SoundNet", num_steps, unit="steps", quiet=quiet) as advance:
        for _ in range(num_steps):
            batch = [draw_clip(training[i], rng) for i in rng.integers(len(training), size=BATCH_SIZE)]
            excerpts = np.stack([audio_excerpt(samples, preprocessing) for samples, _ in batch])
            gains = 10 ** (rng.uniform(-MAX_GAIN_DECIBELS, MAX_GAIN_DECIBELS, (BATCH_SIZE, 1)) / 20)
            heard = torch.from_numpy((excerpts * gains).astype(np.float32))[:, None, None]
            wanted = torch.tensor([kind for _, kind in batch])
            loss = F.cross_entropy(name(soundnet.encode(heard)), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            advance(1, f"loss {loss.item():.3f}")
    with atomic_path(output) as path:
        torch.save(soundnet.state_dict(), path)

    soundnet.eval()
    rng = np.random.default_rng(0)
    right, kinds = 0, []
    with torch.inference_mode():
        for video in test:
            batch = [draw_clip(video, rng) for _ in range(NUM_TESTED)]
            excerpts = np.stack([audio_excerpt(samples, preprocessing) for samples, _ in batch])
            named = name(soundnet.encode(torch.from_numpy(excerpts)[:, None, None])).argmax(1).tolist()
            right += sum(guess == kind for guess, (_, kind) in zip(named, batch, strict=True))
            kinds += [kind for _, kind in batch]
    return right / len(kinds), float(np.bincount(kinds).max() / len(kinds))


def read_sounds(data: Path, databases: list[str], subset: Subset) -> Sounds:
    """The sounds of a list of split 1, and what they let one hear."""
    layout = Layout(data)
    sounds: Sounds = []
    for database in databases:
        for entry in read_fold_list(layout.fold_list(database, subset, 1)):
            samples, rate = read_wave(layout.wave(database, entry.video))
            truth = read_truth(truth_path(data, database, entry.video))
            kinds = np.zeros(truth.num_frames, dtype=np.int64)
            for turn in truth.turns:
                first, last = (
                    round(turn[edge] * truth.frame_rate) for edge in ("start_seconds", "stop_seconds")
                )
                kinds[first:last] = SOUNDS.index(turn["sound"]) if turn["sound"] in SOUNDS else 0
            sounds.append((samples, rate, entry.frame_rate, kinds))
    return sounds


def draw_clip(
    video: tuple[npt.NDArray[np.float32], int, float, npt.NDArray[np.int64]], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], int]:
    """The samples of a random clip of the network's length, and the kind that its middle lets one hear."""
    samples, rate, frame_rate, kinds = video
    length = Preprocessing().clip_length
    first = int(rng.integers(len(kinds) - length + 1))
    heard = clip_samples(tuple(range(first, first + length)), frame_rate, rate, len(samples))
    return samples[heard.start : heard.stop], int(kinds[first + length // 2])


if __name__ == "__main__":
    main()
