"""Published test runs: saliency maps of all test videos of the databases, each split with its own weights."""

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

import numpy as np
import numpy.typing as npt
import torch

from stavis import media
from stavis.clips import Edges
from stavis.datasets.check import find_missing
from stavis.datasets.fold_lists import choose_databases, read_test_lists, select_share
from stavis.datasets.layout import FoldEntry, Layout, find_files, result_folder
from stavis.engine import EngineFactory, EngineName, MakeEngine, Precision
from stavis.errors import StavisError, counted
from stavis.model import Modality, STAViS
from stavis.prediction.options import PredictKeywords, PredictOptions, Quirks
from stavis.prediction.outputs import write_published_map
from stavis.prediction.predict import stream_video
from stavis.runtime import cluster
from stavis.runtime.files import write_text
from stavis.runtime.folders import atomic_folder, check_record, read_record
from stavis.runtime.progress import track
from stavis.version import __version__
from stavis.weights.device import choose_device
from stavis.weights.names import LoadedNetwork, load_network

SoundTest = Literal["normal", "silent", "shuffled", "time-shifted"]
RUN_FILE = "testrun.json"


@dataclass(frozen=True)
class RunVideo:
    database: str  # its database
    split: int  # the split whose list it is in and whose weights predict it
    entry: FoldEntry  # its line
    is_last: bool  # whether it is the last of its list, which the published code runs without audio
    other: FoldEntry  # another video of the same list, whose audio it gets with "shuffled"

    def __str__(self) -> str:
        return f"split {self.split}, {self.database}, {self.entry.video}"


@dataclass(frozen=True)
class RunSettings:
    """How test videos are predicted. Raises ValueError if an attribute is out of range."""

    # Audio that the network hears. "normal": the video's. The others show how much the network listens: "silent": none.
    # "shuffled": another video's of the same list, repeated as needed. "time-shifted": the video's own, starting in the
    # middle.
    sound: SoundTest = "normal"
    # "reference": frames 9 to the last get a map, as published. "repeat": all frames do.
    edges: Edges = "reference"
    # "reference" reproduces the quirks of the published test run: audio at the file's own rate, none for the last video
    # of each list, and maps named past the last frame, which nobody scores.
    quirks: Quirks = "fixed"
    # As in `PredictOptions`.
    batch_size: int | None = None
    engine: EngineName = "auto"
    precision: Precision = "float32"
    seed: int = 0  # seed of the assignment of audio for "shuffled"
    stride: int = 1  # only every `stride`-th of these maps, and the last, is computed and written

    def __post_init__(self) -> None:
        if self.sound not in get_args(SoundTest):
            raise ValueError(f"`sound={self.sound}`: allowed are {', '.join(get_args(SoundTest))}")
        self.options()

    def options(self, **others: Unpack[PredictKeywords]) -> PredictOptions:
        """These settings as options of a prediction, with others."""
        names = ("stride", "edges", "quirks", "batch_size", "engine", "precision")
        return PredictOptions(**{name: getattr(self, name) for name in names}, **others)

    def identity(self) -> dict[str, Any]:
        """The settings that determine the maps."""
        names = ("edges", "quirks", "precision", "seed", "stride")
        return {"audio": self.sound, **{name: getattr(self, name) for name in names}}


def predict_test_videos(
    data: str | Path,
    output: str | Path,
    *,
    weights: str = "default",
    split: int | None = None,
    databases: Sequence[str] | None = None,
    modality: Modality | None = None,
    device: str = "auto",
    settings: RunSettings | None = None,
    ray: str | None = None,
    ray_gpus: float = 0,
    jobs: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
    report: Callable[[str], None] | None = None,
) -> int:
    """Predicts the test videos of the databases, each split with its own weights, as `stavis test` does.

    Maps go to `output/split<k>_results/<database>/<video>/pred_sal_%06d.jpg`. Finished videos are kept, so that an
    interrupted call can be repeated. Under torchrun the processes share the videos.

    Args:
        data: Data folder in the published layout.
        output: Folder of the run.
        weights: As `source` of `load_model`; "{split}" in it stands for the number of the split.
        split: Split to predict. None: all three.
        databases: Databases to predict. None: all that have fold lists.
        device: As for `load_model`; under torchrun "auto" gives each process its own GPU.
        settings: How to predict. None: the defaults.
        ray: Address of a Ray cluster of which `jobs` processes share the videos, as for `predict_files`. It must see
            `data` and `output`. Each process gets `ray_gpus` GPUs.
        report: Called with one line of text about each network, its warnings and the result.

    Returns:
        The number of videos that this process predicted.

    Raises:
        StavisError: Weights or data are missing or unreadable, or `output` holds the maps of another run.
    """
    settings = settings or RunSettings()
    data, output = Path(data), Path(output)
    if ray is not None:
        data, output = data.absolute(), output.absolute()

        def predict_share(number: int) -> int:
            os.environ.update(RANK=str(number - 1), WORLD_SIZE=str(jobs), LOCAL_RANK="0")  # as under torchrun
            return predict_test_videos(
                data,
                output,
                weights=weights,
                split=split,
                databases=databases,
                modality=modality,
                device=device,
                settings=settings,
                overwrite=overwrite,
                quiet=True,
            )

        num_done = sum(cluster.run_shares(predict_share, jobs, address=ray, num_gpus=ray_gpus))
        if report is not None and not quiet:
            report(f"{counted(num_done, 'videos')} predicted on Ray, in {output}")
        return num_done
    rank, num_ranks, local_rank = find_rank()
    say = report if report is not None and rank == 0 else lambda _: None
    named: set[str] = set()

    @functools.lru_cache(maxsize=1)
    def load(number: int) -> LoadedNetwork:
        own = choose_device(device, local_rank % max(1, torch.cuda.device_count()))
        name = weights.replace("{split}", str(number))
        network = load_network(name, modality=modality, device=own, data=data)
        if not quiet and network.name not in named:
            named.add(network.name)
            say(f"weights: {network.name}")
        for warning in network.warnings:
            say(f"warning: {warning}")
        return network

    videos = find_test_videos(data, split, databases, seed=settings.seed)
    num_done = run_test(
        data, videos, output, load, settings, rank=rank, num_ranks=num_ranks, overwrite=overwrite, quiet=quiet
    )
    if report is not None and not quiet:
        share = "" if num_ranks == 1 else f" (process {rank + 1} of {num_ranks})"
        others = "; the others were finished" if num_ranks == 1 and num_done < len(videos) else ""
        report(f"{num_done} of {counted(len(videos), 'videos')} predicted{share}, in {output}{others}")
    return num_done


def find_test_videos(
    data: Path, split: int | None, databases: Sequence[str] | None, *, seed: int = 0
) -> list[RunVideo]:
    """Lists all videos of the test lists, ordered by split, database and position.

    A `split` of None lists all three, those of each database that it has a list for. Raises StavisError if a list is
    missing or empty, or a database is unknown.
    """
    layout = Layout(data)
    videos = []
    for database in choose_databases(layout, databases):
        for number, listed in read_test_lists(layout, database, split):
            entries = list(dict.fromkeys(listed))
            # Each gets the audio of the one before it in a random circle: never its own, if there is another.
            circle = np.random.default_rng([seed, number]).permutation(len(entries))
            before = {int(a): int(b) for a, b in zip(circle, np.roll(circle, 1), strict=True)}
            videos += [
                RunVideo(database, number, entry, place == len(entries) - 1, entries[before[place]])
                for place, entry in enumerate(entries)
            ]
    return sorted(videos, key=lambda video: video.split)  # one network is loaded per split


def run_test(
    data: Path,
    videos: Sequence[RunVideo],
    output: Path,
    load: Callable[[int], LoadedNetwork],
    settings: RunSettings,
    *,
    rank: int = 0,
    num_ranks: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Writes the maps of test videos as `split<k>_results/<db>/<video>/pred_sal_%06d.jpg`, as published.

    Each frame is decoded once. A video's folder appears when it is complete, and later runs keep it. The network of
    each split is loaded once; `rank` says which share of `num_ranks` this process takes.

    Returns the number of videos that this process predicted. Raises StavisError if data are missing or unreadable, or
    `output` holds the maps of another run.
    """
    layout = Layout(data)
    _check_data(layout, videos, sound=settings.sound != "silent")
    share = set(select_share(videos, rank, num_ranks, lambda video: video.entry.num_frames))
    mine = [video for video in videos if video in share]
    folders = {video: maps_folder(output, video) for video in mine}
    _claim(output, videos, list(folders.values()), load, settings, rank, overwrite)
    todo = [video for video in mine if overwrite or not folders[video].is_dir()]
    name = "maps" if num_ranks == 1 else f"maps of process {rank + 1} of {num_ranks}"
    network: LoadedNetwork | None = None
    with track(name, sum(v.entry.num_frames for v in todo), unit="frames", quiet=quiet) as advance:
        for number, video in enumerate(todo):
            if network is None or video.split != todo[number - 1].split:
                network = load(video.split)
                make_engine = EngineFactory(network.model, settings.engine, settings.precision)
            _predict_video(layout, video, folders[video], network.model, settings, make_engine)
            advance(video.entry.num_frames)
    return len(todo)


def maps_folder(output: Path, video: RunVideo) -> Path:
    return output / f"split{video.split}_results" / result_folder(video.database) / video.entry.video


def find_rank() -> tuple[int, int, int]:
    """This process's rank, the number of processes and the rank on this machine, as torchrun sets them."""
    try:
        rank, num_ranks, local_rank = (
            int(os.environ.get(name, default))
            for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
        )
    except ValueError:
        raise StavisError("RANK, WORLD_SIZE and LOCAL_RANK are set, but not to numbers") from None
    if not 0 <= rank < num_ranks:
        raise StavisError(f"RANK is {rank}; with WORLD_SIZE {num_ranks} it must be 0 to {num_ranks - 1}")
    return rank, num_ranks, local_rank


def _check_data(layout: Layout, videos: Sequence[RunVideo], *, sound: bool) -> None:
    problems = []
    for database in dict.fromkeys(video.database for video in videos):
        entries = dict.fromkeys(video.entry for video in videos if video.database == database)
        files = {entry: find_files(layout, database, entry) for entry in entries}
        problems += find_missing(layout, database, files, annotations=False, audio=sound)
    if problems:
        more = f"; and {len(problems) - 1} more problems (stavis data check)" if len(problems) > 1 else ""
        raise StavisError(problems[0].message + more)


def _claim(
    output: Path,
    videos: Sequence[RunVideo],
    mine: Sequence[Path],
    load: Callable[[int], LoadedNetwork],
    settings: RunSettings,
    rank: int,
    overwrite: bool,
) -> None:
    """Records what run `output` is for, or checks that it is for this one.

    With `overwrite`, maps of another run in this process's folders, `mine`, are removed before the record changes: if
    the new run is interrupted, none of them passes for its own.
    """
    path = output / RUN_FILE
    weights = {}
    for split in sorted({video.split for video in videos}):
        network = load(split)
        config = str(network.model.config)
        weights[str(split)] = {"name": network.name, "sha256": network.sha256, "config": config}
    record = {"stavis": __version__, "settings": settings.identity(), "weights": weights}
    try:
        before = read_record(path, "the record of a test run")
    except StavisError:
        if not overwrite:
            raise
        before = None
    changed: list[str] = []
    if before is not None:
        earlier: dict[str, Any] = before.get("weights", {})
        common = sorted(earlier.keys() & weights.keys())
        if not overwrite:
            found = {"settings": before.get("settings"), "weights": [earlier[k]["sha256"] for k in common]}
            wanted = {"settings": settings.identity(), "weights": [weights[k]["sha256"] for k in common]}
            check_record(output, found, wanted, "maps")
        changed = [k for k in common if earlier[k]["sha256"] != weights[k]["sha256"]]
        if before.get("settings") != settings.identity():
            changed = list(earlier)
        _refuse_others(output, videos, changed)
        record["weights"] = {**earlier, **weights}
    # Another process may have changed the record already.
    if overwrite and (changed or rank):
        for folder in mine:
            shutil.rmtree(folder, ignore_errors=True)
    if rank == 0:
        write_text(path, json.dumps(record, indent=2) + "\n")


def _refuse_others(output: Path, videos: Sequence[RunVideo], splits: Sequence[str]) -> None:
    """Raises StavisError if there are maps in these splits that a run over `videos` does not replace."""
    replaced = {maps_folder(output, video) for video in videos}
    there = [path for split in splits for path in output.glob(f"split{split}_results/*/*") if path.is_dir()]
    if others := sorted(path.relative_to(output) for path in there if path not in replaced):
        raise StavisError(
            f"{output}: holds {len(others)} videos' maps of other weights or settings, which this run would not "
            f"replace, such as {others[0]}; choose another output folder, or replace all"
        )


def _predict_video(
    layout: Layout,
    video: RunVideo,
    folder: Path,
    model: STAViS,
    settings: RunSettings,
    make_engine: MakeEngine,
) -> None:
    entry = video.entry
    maps = ("pred_sal_*.jpg",)
    with atomic_folder(folder, may_replace=maps) as partial, _choose_sound(layout, video, settings) as wave:
        options = settings.options(
            frame_rate=entry.frame_rate,
            audio_path=wave,
            silent=wave is None,
            # The list says how many frames count, whatever else is in the folder.
            end_seconds=(entry.num_frames - 0.5) / entry.frame_rate,
        )
        frames_folder = layout.frames_folder(video.database, entry.video)
        with closing(stream_video(model, frames_folder, options, make_engine=make_engine)) as frames:
            for frame in frames:
                if frame.computed:
                    write_published_map(partial, frame)


@contextmanager
def _choose_sound(layout: Layout, video: RunVideo, settings: RunSettings) -> Iterator[Path | None]:
    """The WAV file that a video is predicted with; None for silence."""
    own = layout.wave(video.database, video.entry.video)
    if settings.sound == "silent" or (settings.quirks == "reference" and video.is_last):
        yield None
    elif settings.sound == "normal":
        yield own
    else:
        with tempfile.TemporaryDirectory() as temporary:
            wave = Path(temporary) / own.name
            _write_wrong_sound(layout, video, settings.sound, wave)
            yield wave


def _write_wrong_sound(layout: Layout, video: RunVideo, sound: SoundTest, path: Path) -> None:
    """Writes audio as long as the video that does not belong to it."""
    entry = video.entry
    source = video.other if sound == "shuffled" else entry
    samples, sample_rate = media.read_wave(layout.wave(video.database, source.video))
    num = round(entry.num_frames / entry.frame_rate * sample_rate)
    if len(samples) == 0:
        samples = np.zeros(1, np.float32)
    if sound == "time-shifted":
        samples = np.roll(samples[:num], -(min(num, len(samples)) // 2))
    repeated: npt.NDArray[np.float32] = np.resize(samples, num)
    media.write_wave(path, repeated, sample_rate)
