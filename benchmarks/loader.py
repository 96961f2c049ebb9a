"""Cost of a training sample: with the published loader's steps, from files, and from the frame cache.

    python benchmarks/loader.py

writes a small data set of generated 1280x720 JPEGs to a temporary folder and measures the three loaders in turns, round
after round, so that slow spells of the machine affect all of them. It prints medians over the rounds and their ratios;
without workers also the processor time, which other programs on the machine disturb less. With --steps it also trains
on the loaded samples and reports how long the training steps waited for them.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.io
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from stavis.datasets.dataset import SaliencyDataset, Sample
from stavis.datasets.fold_lists import format_fold_list
from stavis.datasets.layout import FoldEntry, Layout
from stavis.media import read_wave, write_wave

HEIGHT, WIDTH = 720, 1280
FRAME_RATE = 25.0
MEAN = (114.7748, 107.7354, 99.4750)
DATABASE = "Benchmark"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the training data loader.")
    parser.add_argument("--videos", type=int, default=2)
    parser.add_argument("--frames", type=int, default=90, help="per video")
    parser.add_argument(
        "--samples",
        type=int,
        default=8,
        help="per round; ten times as many from the cache",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=0, help="training steps with each loader; 0: none")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, help="parent folder of the temporary data set")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        run(Path(folder), arguments)


def run(folder: Path, arguments: argparse.Namespace) -> None:
    console = Console()
    num_threads = torch.get_num_threads()
    layout = Layout(folder / "data")
    began = time.perf_counter()
    num_bytes = write_data_set(layout, arguments.videos, arguments.frames)
    num_frames = arguments.videos * arguments.frames
    console.print(
        f"{num_frames} frames of {WIDTH}x{HEIGHT}, {num_bytes / num_frames / 1000:.0f} kB per JPEG, written in "
        f"{time.perf_counter() - began:.0f} s"
    )
    began = time.perf_counter()
    cached = SaliencyDataset(layout.root, cache=folder / "cache", quiet=True)
    console.print(f"cached in {time.perf_counter() - began:.1f} s")
    direct = SaliencyDataset(layout.root)
    published = PublishedDataset(direct)
    check_equal(direct, cached, published)

    ways: dict[str, tuple[Dataset[Sample], int]] = {
        "published": (published, 1),
        "direct": (direct, 1),
        "cached": (cached, 10),
    }
    torch.set_num_threads(1)  # as in a loader's workers
    rounds: dict[tuple[str, int], list[Cost]] = {}
    for number in range(arguments.rounds):
        for workers in (0, arguments.workers):
            for name, (data, factor) in ways.items():
                cost = time_samples(data, number, arguments.samples * factor, workers, arguments.batch_size)
                rounds.setdefault((name, workers), []).append(cost)
    console.print(tabulate(rounds))
    torch.set_num_threads(num_threads)
    if arguments.steps:
        console.print(measure_waiting(ways, arguments))


# --- The data set -----------------------------------------------------------------------------------------------------


def write_data_set(layout: Layout, num_videos: int, num_frames: int) -> int:
    """Writes the data set and returns the size of its JPEGs in bytes."""
    rng = np.random.default_rng(0)
    num_bytes = 0
    entries = [FoldEntry(f"video_{i}", num_frames, FRAME_RATE) for i in range(num_videos)]
    for entry in entries:
        texture = make_texture(rng)
        for frame in range(num_frames):
            picture = Image.fromarray(np.roll(texture, (2 * frame, 5 * frame), axis=(0, 1))[:HEIGHT, :WIDTH])
            num_bytes += save(layout.frame(DATABASE, entry.video, frame), picture, quality=90)
            row, column = (int(part) for part in rng.integers((HEIGHT // 4, WIDTH // 4), (540, 960)))
            density = Image.fromarray(make_density(row, column))
            save(layout.density_map(DATABASE, entry.video, frame), density, quality=75)
            fixations = np.zeros((HEIGHT, WIDTH), np.uint8)
            points = (
                np.rint(rng.normal((row, column), 40, (15, 2))).astype(int).clip(0, (HEIGHT - 1, WIDTH - 1))
            )
            fixations[points[:, 0], points[:, 1]] = 1
            path = layout.fixation_map(DATABASE, entry.video, frame)
            scipy.io.savemat(str(path), {"eyeMap": fixations}, do_compression=True)
        samples = rng.normal(0, 0.1, round(num_frames / FRAME_RATE * 22050)).astype(np.float32)
        write_wave(layout.wave(DATABASE, entry.video), samples, 22050)
    for subset in ("train", "test"):
        path = layout.fold_list(DATABASE, subset, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(format_fold_list(entries))
    return num_bytes


def make_texture(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Noise at all scales, as in photographs: (height, width, 3), larger than a frame."""
    height, width = HEIGHT + 256, WIDTH + 512
    texture = np.zeros((height, width, 3))
    for octave in range(7):
        size = (2 ** (octave + 1) * width // height + 1, 2 ** (octave + 1) + 1)
        for channel in range(3):
            coarse = Image.fromarray(rng.normal(0, 1, size[::-1]).astype(np.float32))
            texture[..., channel] += (
                np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / 1.6**octave
            )
    texture += rng.normal(0, 0.08, texture.shape)
    return np.clip(110 + 45 * texture, 0, 255).astype(np.uint8)


def make_density(row: int, column: int) -> npt.NDArray[np.uint8]:
    down = np.exp(-((np.arange(HEIGHT) - row) ** 2) / (2 * 40.0**2))
    across = np.exp(-((np.arange(WIDTH) - column) ** 2) / (2 * 40.0**2))
    return np.rint(255 * np.outer(down, across)).astype(np.uint8)


def save(path: Path, picture: Image.Image, quality: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=quality)
    return path.stat().st_size


# --- The published way ------------------------------------------------------------------------------------------------


class PublishedDataset(Dataset[Sample]):
    """The published loader's steps for the clips of `samples`, including flips: every file is decoded every time.

    As in the published loader, all audio is in memory.
    """

    def __init__(self, samples: SaliencyDataset) -> None:
        self.samples = samples
        self.waves = {
            entry.video: read_wave(samples.layout.wave(database, entry.video))
            for database, entry in samples.videos
        }

    def __len__(self) -> int:
        return len(self.samples)

    def set_epoch(self, epoch: int) -> None:
        self.samples.set_epoch(epoch)

    def __getitem__(self, index: int) -> Sample:
        where = self.samples.describe(index)
        layout, database, video = self.samples.layout, where.database, where.video
        flipped = self.samples._choose(index)[2]
        planes = []
        for frame in where.frames:
            with Image.open(layout.frame(database, video, frame)) as image:
                small = image.convert("RGB").resize((320, 240)).resize((112, 112), Image.Resampling.BILINEAR)
            planes.append(to_tensor(small, flipped))
        clip = torch.stack(planes).permute(1, 0, 2, 3).contiguous()
        for channel, mean in enumerate(MEAN):
            clip[channel].sub_(mean)
        with Image.open(layout.density_map(database, video, where.target)) as image:
            density = image.convert("L").resize((320, 240)).resize((112, 112), Image.Resampling.BILINEAR)
        fixations = scipy.io.loadmat(layout.fixation_map(database, video, where.target))["eyeMap"].astype(
            float
        )
        spread = np.asarray(Image.fromarray(fixations).resize((320, 240), Image.Resampling.BILINEAR)) > 0
        small_spread = Image.fromarray((255 * spread).astype(np.uint8)).resize(
            (112, 112), Image.Resampling.BILINEAR
        )
        waveform, rate = self.waves[video]
        half, first, last = rate / where.frame_rate / 2, where.frames[0], where.frames[-1]
        begin = int(max(0, first / where.frame_rate * rate - half))
        excerpt = waveform[begin : int(min(len(waveform), last / where.frame_rate * rate + half)) + 1]
        audio = torch.zeros(1, 1, 35280)
        middle = 17640 - len(excerpt) // 2
        audio[0, 0, middle : middle + len(excerpt)] = torch.from_numpy(
            256 * excerpt * np.hanning(len(excerpt))
        )
        return Sample(
            clip=clip,
            audio=audio,
            density_map=to_tensor(density, flipped),
            fixation_map=(to_tensor(small_spread, flipped) > 0).float(),
            index=torch.tensor(index),
            frames=torch.tensor(where.frames),
            target=torch.tensor(where.target),
        )


def to_tensor(image: Image.Image, flipped: bool) -> torch.Tensor:
    if flipped:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    values = torch.from_numpy(np.array(image).reshape(image.height, image.width, -1))
    return values.permute(2, 0, 1).contiguous().float()


def check_equal(direct: SaliencyDataset, cached: SaliencyDataset, published: PublishedDataset) -> None:
    """Checks that the three loaders load the same samples; else their speeds would not be comparable."""
    for index in range(len(direct)):
        samples = direct[index], cached[index], published[index]
        for name, one, other, by_published in zip(Sample._fields, *samples, strict=True):
            if not torch.equal(one, other):
                raise SystemExit(f"{name} of sample {index} differs between direct and cached")
            if not torch.allclose(one.float(), by_published.float(), rtol=0, atol=1e-4):
                raise SystemExit(f"{name} of sample {index} differs from the published steps'")


# --- Measuring --------------------------------------------------------------------------------------------------------


def make_loader(data: Dataset[Sample], num: int, workers: int, batch_size: int) -> "DataLoader[Sample]":
    indices = [i % len(data) for i in range(num)]  # type: ignore[arg-type]
    return DataLoader(
        data, batch_size=batch_size, sampler=indices, num_workers=workers, persistent_workers=workers > 0
    )


class Cost(NamedTuple):
    """Seconds per sample; the processor time is only known without workers."""

    elapsed: float
    processor: float | None


def time_samples(data: Dataset[Sample], epoch: int, num: int, workers: int, batch_size: int) -> Cost:
    """Measures the cost of a sample. Workers are started and a round is loaded before the clock starts."""
    if workers == 0:
        data.set_epoch(epoch)  # type: ignore[attr-defined]
        data[0]
        began, began_processor = time.perf_counter(), time.process_time()
        for index in range(num):
            data[index % len(data)]  # type: ignore[arg-type]
        return Cost((time.perf_counter() - began) / num, (time.process_time() - began_processor) / num)
    loader = make_loader(data, num, workers, batch_size)
    for _ in loader:
        pass
    data.set_epoch(epoch)  # type: ignore[attr-defined]
    began = time.perf_counter()
    num_loaded = sum(len(batch.index) for batch in loader)
    return Cost((time.perf_counter() - began) / num_loaded, None)


def tabulate(rounds: dict[tuple[str, int], list[Cost]]) -> Table:
    """Medians over the rounds; the ratios are medians of each round's ratios."""
    table = Table(title="A training sample")
    headings = ("loader", "workers", "ms", "samples/s", "direct / this", "processor ms", "direct / this")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "loader" else "right")
    for (name, workers), costs in sorted(rounds.items(), key=lambda item: item[0][1]):
        row = [name, str(workers)]
        for field in Cost._fields:
            pairs = [
                (getattr(own, field), getattr(direct, field))
                for own, direct in zip(costs, rounds["direct", workers], strict=True)
            ]
            if pairs[0][0] is None:
                row += ["", ""]
                continue
            seconds = statistics.median(own for own, _ in pairs)
            row.append(f"{seconds * 1000:.2f}")
            if field == "elapsed":
                row.append(f"{1 / seconds:.1f}")
            row.append(f"{statistics.median(direct / own for own, direct in pairs):.2f}")
        table.add_row(*row)
    return table


def measure_waiting(ways: dict[str, tuple[Dataset[Sample], int]], arguments: argparse.Namespace) -> Table:
    """Trains the audiovisual ResNet-50 for a few steps with each loader, and measures how long the steps waited."""
    from stavis.model import ModelConfig, STAViS
    from stavis.training.losses import LossWeights, output_loss

    device = torch.device(arguments.device)
    torch.manual_seed(0)
    model = STAViS(ModelConfig()).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)

    def step(batch: Sample) -> None:
        clips, audio, density_maps, fixation_maps = (part.to(device, non_blocking=True) for part in batch[:4])
        optimizer.zero_grad()
        logits = model(clips, audio).logits
        output_loss(logits, density_maps, fixation_maps, LossWeights()).total.mean().backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    table = Table(title=f"Training steps of {arguments.batch_size} clips on {device.type}")
    for heading in ("loader", "workers", "ms per step", "waiting for data"):
        table.add_column(heading, justify="left" if heading == "loader" else "right")
    for workers in (0, arguments.workers):
        for name, (data, _) in ways.items():
            loader = make_loader(
                data, arguments.batch_size * (arguments.steps + 1), workers, arguments.batch_size
            )
            waited, total = time_steps(iter(loader), step)
            table.add_row(name, str(workers), f"{total * 1000:.0f}", f"{100 * waited / total:.1f} %")
    return table


def time_steps(batches: Iterator[Sample], step: Callable[[Sample], None]) -> tuple[float, float]:
    """Seconds per step spent waiting for a batch, and in total, without the first step, which warms up."""
    waited, total, began = [], [], time.perf_counter()
    for batch in batches:
        loaded = time.perf_counter()
        step(batch)
        done = time.perf_counter()
        waited.append(loaded - began)
        total.append(done - began)
        began = done
    return statistics.fmean(waited[1:]), statistics.fmean(total[1:])


if __name__ == "__main__":
    main()
