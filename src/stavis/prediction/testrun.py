"""The published test runs: saliency maps of all test videos of the databases, each split with its own weights."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from stavis import media
from stavis.clips import Edges
from stavis.datasets.check import find_missing
from stavis.datasets.fold_lists import choose_databases, read_test_lists, select_share
from stavis.datasets.layout import FoldEntry, Layout, find_files, result_folder
from stavis.engine import EngineFactory, EngineName, MakeEngine, Precision
from stavis.errors import StavisError
from stavis.model import STAViS
from stavis.prediction.options import PredictOptions, Quirks
from stavis.prediction.outputs import PublishedMaps
from stavis.prediction.predict import predict_frames
from stavis.runtime.files import write_text
from stavis.runtime.progress import track
from stavis.version import __version__

SoundTest = Literal["normal", "silent", "shuffled", "time-shifted"]
RUN_FILE = "testrun.json"


@dataclass(frozen=True)
class ListedVideo:
    """One video of a test list.

    Attributes:
        database: Its database.
        split: Whose list it is in, and whose weights it is predicted with.
        entry: Its line.
        is_last: It is the last of its list: the published code runs that one without sound.
        other: Another video of the same list, whose sound it gets in the test "shuffled".
    """

    database: str
    split: int
    entry: FoldEntry
    is_last: bool
    other: FoldEntry

    def __str__(self) -> str:
        return f"split {self.split}, {self.database}, {self.entry.video}"


@dataclass(frozen=True)
class RunSettings:
    """How the test videos are predicted.

    Attributes:
        sound: "normal"; "silent": without sound; "shuffled": each video with the sound of another one of its list, as
            often as is needed; "time-shifted": each with its own, begun in the middle. The last three tell how much a
            network listens.
        edges: "reference": frames 9 to the last get a map, as published. "repeat": all do.
        quirks: "reference" repeats what the published test run does oddly: sound at the file's own rate, none for the
            last video of every list, and maps named behind the last frame, which nobody scores.
        batch_size: Windows that go through the network at once; None as in `PredictOptions`.
        engine: What runs the network: see `stavis.engine.EngineFactory`.
        precision: "float32" is exact; for the others see there, too.
        seed: Of the draw which video gets whose sound.
        stride: Every `stride`-th of these maps, and the last, is computed and written; the others are not.
    """

    sound: SoundTest = "normal"
    edges: Edges = "reference"
    quirks: Quirks = "fixed"
    batch_size: int | None = None
    engine: EngineName = "auto"
    precision: Precision = "float32"
    seed: int = 0
    stride: int = 1

    def __post_init__(self) -> None:
        if self.sound not in get_args(SoundTest):
            raise ValueError(f"sound is {self.sound!r}; allowed: {', '.join(get_args(SoundTest))}")
        if self.stride < 1:
            raise ValueError(f"stride is {self.stride}; it must be 1 or more")

    def identity(self) -> dict[str, Any]:
        """What decides the maps."""
        names = ("edges", "quirks", "precision", "seed", "stride")
        return {"audio": self.sound, **{name: getattr(self, name) for name in names}}


class SplitNetwork(NamedTuple):
    """The network of one split.

    Attributes:
        model: In eval mode, on its device.
        name: What its weights are called.
        sha256: Of their file; None if they are random.
    """

    model: STAViS
    name: str
    sha256: str | None


def find_test_videos(
    data: Path, split: int | None, databases: Sequence[str] | None, *, seed: int = 0
) -> list[ListedVideo]:
    """All videos of the test lists, in the order of splits, databases and lists.

    Args:
        data: The data folder.
        split: Which split; None for all three, of each database those that it has a list for.
        databases: Which databases; None for all that have fold lists.
        seed: Of the draw which video gets whose sound in the test "shuffled".

    Raises:
        StavisError: A list is missing or names no video, or a database is unknown.
    """
    layout = Layout(data)
    videos = []
    for database in choose_databases(layout, databases):
        for number, listed in read_test_lists(layout, database, split):
            entries = list(dict.fromkeys(listed))
            # Each gets the sound of the one before it in a drawn circle: never its own, if there is another.
            circle = np.random.default_rng([seed, number]).permutation(len(entries))
            before = {int(a): int(b) for a, b in zip(circle, np.roll(circle, 1), strict=True)}
            videos += [
                ListedVideo(database, number, entry, place == len(entries) - 1, entries[before[place]])
                for place, entry in enumerate(entries)
            ]
    return sorted(videos, key=lambda video: video.split)  # one network is loaded per split


def run_test(
    data: Path,
    videos: Sequence[ListedVideo],
    output: Path,
    load_network: Callable[[int], SplitNetwork],
    settings: RunSettings,
    *,
    rank: int = 0,
    num_ranks: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
) -> int:
    """Writes the maps of test videos as `split<k>_results/<db>/<video>/pred_sal_%06d.jpg`, as published.

    Each frame is decoded once. A video's folder appears when it is whole, and is left alone in a later run.

    Args:
        data: The data folder.
        videos: From `find_test_videos`.
        output: The run's folder.
        load_network: The network of a split; asked for one split after the other.
        settings: How they are predicted.
        rank: Which share of the videos this process takes.
        num_ranks: How many processes share them.
        overwrite: Predict anew what is finished.
        quiet: Show no progress.

    Returns:
        How many videos this process predicted.

    Raises:
        StavisError: Something of the data is missing or unreadable, or `output` holds the maps of another run.
    """
    layout = Layout(data)
    _check_data(layout, videos, sound=settings.sound != "silent")
    _claim(output, videos, load_network, settings, rank, overwrite)
    share = set(select_share(videos, rank, num_ranks, lambda video: video.entry.num_frames))
    mine = [video for video in videos if video in share]
    folders = {video: maps_folder(output, video) for video in mine}
    todo = [video for video in mine if overwrite or not folders[video].is_dir()]
    name = "maps" if num_ranks == 1 else f"maps of process {rank + 1} of {num_ranks}"
    network: SplitNetwork | None = None
    with track(name, sum(v.entry.num_frames for v in todo), unit="frames", quiet=quiet) as advance:
        for number, video in enumerate(todo):
            if network is None or video.split != todo[number - 1].split:
                network = load_network(video.split)
                make_engine = EngineFactory(network.model, settings.engine, settings.precision)
            _predict_video(layout, video, folders[video], network.model, settings, make_engine)
            advance(video.entry.num_frames)
    return len(todo)


def maps_folder(output: Path, video: ListedVideo) -> Path:
    """Where a run's maps of a video are."""
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


def _check_data(layout: Layout, videos: Sequence[ListedVideo], *, sound: bool) -> None:
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
    videos: Sequence[ListedVideo],
    load_network: Callable[[int], SplitNetwork],
    settings: RunSettings,
    rank: int,
    overwrite: bool,
) -> None:
    """Records what run `output` is for, or finds that it is for this one."""
    path = output / RUN_FILE
    weights = {}
    for split in sorted({video.split for video in videos}):
        network = load_network(split)
        weights[str(split)] = {
            "name": network.name,
            "sha256": network.sha256,
            "config": str(network.model.config),
        }
    record = {"stavis": __version__, "settings": settings.identity(), "weights": weights}
    if path.exists() and not overwrite:
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            changed = before["settings"] != record["settings"] or any(
                before["weights"][split]["sha256"] != weights[split]["sha256"]
                for split in before["weights"].keys() & weights.keys()
            )
        except (ValueError, KeyError, TypeError):
            raise StavisError(f"{path}: not the record of a test run; give another --output") from None
        if changed:
            raise StavisError(
                f"{output}: holds maps of other weights or settings ({before['settings']}, now {record['settings']}); "
                "give another --output, or --overwrite"
            )
        record["weights"] = {**before["weights"], **weights}
    if rank == 0:
        write_text(path, json.dumps(record, indent=2) + "\n")


def _predict_video(
    layout: Layout,
    video: ListedVideo,
    folder: Path,
    model: STAViS,
    settings: RunSettings,
    make_engine: MakeEngine,
) -> None:
    entry = video.entry
    reference = settings.quirks == "reference"
    partial = folder.parent / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with _choose_sound(layout, video, settings) as wave:
            options = PredictOptions(
                stride=settings.stride,
                edges=settings.edges,
                quirks=settings.quirks,
                batch_size=settings.batch_size,
                frame_rate=entry.frame_rate,
                audio_path=wave,
                silent=wave is None or (reference and video.is_last),
                # The list says how many frames count, whatever else is in the folder.
                end_seconds=(entry.num_frames - 0.5) / entry.frame_rate,
            )
            maps = PublishedMaps(partial)
            frames_folder = layout.frames_folder(video.database, entry.video)
            with closing(
                predict_frames(model, frames_folder, options, keep_images=False, make_engine=make_engine)
            ) as frames:
                for frame in frames:
                    if frame.computed:
                        maps.write(frame)
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _choose_sound(layout: Layout, video: ListedVideo, settings: RunSettings) -> Iterator[Path | None]:
    """The wave that a video is predicted with; None for silence."""
    own = layout.wave(video.database, video.entry.video)
    if settings.sound == "silent":
        yield None
    elif settings.sound == "normal":
        yield own
    else:
        with tempfile.TemporaryDirectory() as temporary:
            wave = Path(temporary) / own.name
            _write_wrong_sound(layout, video, settings.sound, wave)
            yield wave


def _write_wrong_sound(layout: Layout, video: ListedVideo, sound: SoundTest, path: Path) -> None:
    """Writes a sound as long as the video's pictures that does not go with them."""
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
