"""Training and test samples from a data folder in the published layout."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch.utils.data import Dataset

from stavis import clips
from stavis.clips.preprocess import Preprocessing, audio_excerpt, make_clip
from stavis.datasets.cache import CachedReader, FrameCache, Part
from stavis.datasets.check import Problem, count_more, find_missing, find_surplus
from stavis.datasets.fold_lists import choose_databases, read_fold_list
from stavis.datasets.layout import SUBSETS, FoldEntry, Layout, Subset, VideoFiles, find_files
from stavis.datasets.quirks import LoaderQuirks
from stavis.datasets.sources import DirectReader
from stavis.errors import StavisError

Mode = Literal["train", "validation", "test"]


class MissingDataWarning(UserWarning):
    """Missing or surplus files of a dataset that was made with `allow_missing=True`."""


class Sample(NamedTuple):
    """A clip with its sound and the maps of its target frame. `torch.utils.data.default_collate` makes batches.

    Attributes:
        clip: (3, T, H, W) float32, RGB 0..255 minus the mean.
        audio: (1, 1, S) float32 in -256..256: the clip's audio, Hann-windowed in the middle of zeros; (1, 1, 0)
            without audio.
        density_map: (1, H, W) float32 in 0..255; (1, 0, 0) without annotations.
        fixation_map: (1, H, W) float32, 0 or 1; (1, 0, 0) without annotations.
        index: () int64, the sample's index in the dataset.
        frames: (T,) int64, the clip's frames, 0-based.
        target: () int64, the frame that the maps belong to, 0-based.
    """

    clip: torch.Tensor
    audio: torch.Tensor
    density_map: torch.Tensor
    fixation_map: torch.Tensor
    index: torch.Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs of a sample
    frames: torch.Tensor
    target: torch.Tensor


@dataclass(frozen=True)
class SampleDescription:
    """Where a sample comes from."""

    database: str  # folder name of the database
    video: str  # folder name of the video
    frame_rate: float  # of the video, frames per second
    frames: tuple[int, ...]  # the clip's frames in order, 0-based
    target: int  # the frame that the maps belong to, 0-based

    def __str__(self) -> str:
        first, last = min(self.frames) + 1, max(self.frames) + 1
        return f"{self.database}/{self.video}, images {first} to {last}, maps {self.target + 1}"


@dataclass(frozen=True)
class _Video:
    database: str
    entry: FoldEntry
    files: VideoFiles
    silent: bool


class EpochDataset(Dataset[Sample]):
    """Samples whose random draws depend on an epoch, counted from 0."""

    def __init__(self) -> None:
        # In shared memory, so that workers that outlive an epoch see the next one's number.
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def epoch(self) -> int:
        return int(self._epoch[0])

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch for the next random draws, also in workers that are already running.

        Call it between epochs, before iterating over the loader.
        """
        if epoch < 0:
            raise ValueError(f"epoch is {epoch}; allowed: 0 or more")
        self._epoch[0] = epoch


class SaliencyDataset(EpochDataset):
    """Training, validation or test samples of all databases of a split.

    Every random draw is a function of (seed, epoch, index), so samples depend neither on the number of workers or
    processes nor on the order in which they are loaded.

    Attributes:
        epoch: Decides the crops and flips; `set_epoch(epoch)` changes it, also in workers that are already running.
        problems: Missing files that were allowed to be missing, and surplus ones; the warning lists the same.
        num_dropped_windows: Number of windows left out because they need a missing file.
    """

    def __init__(
        self,
        data: Path | str,
        *,
        split: int = 1,
        subset: Subset = "train",
        mode: Mode | None = None,
        databases: str | Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        quirks: LoaderQuirks | Literal["fixed", "reference"] = "fixed",
        seed: int = 1,
        flip_probability: float = 0.5,
        audio: bool = True,
        annotations: bool = True,
        cache: Path | str | None = None,
        jobs: int | None = None,
        allow_missing: bool = False,
        quiet: bool = False,
    ) -> None:
        """Finds the files of all videos, and makes missing files of the frame cache.

        Args:
            data: Data folder in the published layout (docs/data.md).
            split: Number of the split.
            subset: "train" or "test": which of its lists.
            mode: "train": windows of up to 90 frames, a random clip of each, flipped or not. "validation": the same
                windows, the clip in the middle. "test": a clip from every frame on. None: the same as `subset`.
            databases: Which databases, or the name of one; None for all that have fold lists.
            preprocessing: Preprocessing of the model; None for the published one.
            quirks: Which quirks of the published loader to reproduce: a `LoaderQuirks`, or "fixed" or "reference".
            seed: Of crops and flips, 0 or more.
            flip_probability: Probability of a horizontal flip in mode "train".
            audio: Whether to load audio; without it no WAV file has to exist.
            annotations: Whether to load maps; without them none has to exist.
            cache: Folder of the frame cache; None decodes the files again for each sample.
            jobs: Number of processes that make the cache; None for one per processor.
            allow_missing: Continue without missing files: windows that need them are dropped, videos without a WAV
                file are silent, and a `MissingDataWarning` lists everything.
            quiet: Show no progress while the cache is made.

        Raises:
            StavisError: A list, a frame, a map or a WAV file is missing or unreadable.
            ValueError: An argument is not allowed.
        """
        mode = subset if mode is None else mode
        if subset not in SUBSETS:
            raise ValueError(f"subset is {subset!r}; allowed: {', '.join(SUBSETS)}")
        if mode not in get_args(Mode):
            raise ValueError(f"mode is {mode!r}; allowed: {', '.join(get_args(Mode))}")
        if not 0 <= flip_probability <= 1:
            raise ValueError(f"flip_probability is {flip_probability}; allowed: 0 to 1")
        if seed < 0:
            raise ValueError(f"seed is {seed}; allowed: 0 or more")
        self.layout = Layout(Path(data))
        self.mode: Mode = mode
        self.preprocessing = Preprocessing() if preprocessing is None else preprocessing
        self.quirks = LoaderQuirks.named(quirks)
        self.seed = seed
        self.flip_probability = flip_probability
        self.audio = audio
        self.annotations = annotations
        self._select_frame = clips.target_frame if self.quirks.alternating_target else clips.middle_frame
        super().__init__()
        self._videos: list[_Video] = []
        self.problems: list[Problem] = []
        for database in choose_databases(self.layout, databases):
            self._videos += self._find_videos(database, self.layout.fold_list(database, subset, split))
        missing = [problem for problem in self.problems if problem.is_error]
        if missing and not allow_missing:
            raise StavisError(
                f"{missing[0].message}{count_more(len(missing))} (`stavis data check {self.layout.root}` lists all; "
                "`allow_missing=True` continues without)"
            )
        self.num_dropped_windows = 0
        dropped: list[str] = []
        windows = []
        for number, video in enumerate(self._videos):
            kept, num_all = self._windows(video)
            windows += [(number, window.start, window.stop) for window in kept]
            if len(kept) < num_all or not kept:
                self.num_dropped_windows += num_all - len(kept)
                left = f"{num_all - len(kept)} of {num_all} windows left out" if kept else "left out"
                dropped.append(f"{video.database}/{video.entry.video}: {left}")
        self._windows_table = np.array(windows, dtype=np.int32).reshape(-1, 3)
        if self.problems:
            lines = [problem.message for problem in self.problems] + dropped
            warnings.warn("\n  ".join(["", *lines]), MissingDataWarning, stacklevel=2)
        if not windows:
            raise StavisError(f"{self.layout.root}: no sample in split {split}'s {subset} lists")
        self._reader = self._open(cache, jobs, quiet)

    def _find_videos(self, database: str, path: Path) -> list[_Video]:
        """The videos of a list; adds their problems to `problems`."""
        entries = read_fold_list(path)
        found = {entry: find_files(self.layout, database, entry) for entry in dict.fromkeys(entries)}
        self.problems += find_missing(
            self.layout, database, found, annotations=self.annotations, audio=self.audio
        )
        for entry, files in found.items():
            self.problems += find_surplus(self.layout, database, entry, files)
        return [
            _Video(
                database,
                entry,
                found[entry],
                # The published look-up takes the first WAV file of a video's name, and skips the last one in the list.
                silent=not found[entry].wave
                or (
                    self.quirks.silent_last_video
                    and number == len(entries) - 1
                    and all(entry.video != other.video for other in entries[:-1])
                ),
            )
            for number, entry in enumerate(entries)
        ]

    def _windows(self, video: _Video) -> tuple[list[range], int]:
        """The windows of a video that have all their files, and the number of all its windows."""
        length = self.preprocessing.clip_length
        if self.mode == "test":
            num = video.entry.num_frames
            windows = [range(start, min(start + length, num)) for start in range(num - 1)]
        else:
            windows = clips.training_windows(video.entry.num_frames)
        files = video.files
        annotated = files.density_maps & files.fixation_maps
        if files.frames.all() and (annotated.all() or not self.annotations):
            return windows, len(windows)
        kept = []
        for window in windows:
            begins = range(clips.num_crop_begins(len(window), length)) if self.mode == "train" else [None]
            targets = {self._select_frame(self._cut(window, begin)) for begin in begins}
            if files.frames[window.start : window.stop].all() and (
                not self.annotations or annotated[list(targets)].all()
            ):
                kept.append(window)
        return kept, len(windows)

    def _cut(self, window: range, begin: int | None) -> tuple[int, ...]:
        """The clip that starts at `begin` of a window; None if the mode has only one."""
        length = self.preprocessing.clip_length
        if begin is None:
            begin = clips.center_crop_begin(len(window), length) if self.mode == "validation" else 0
        return clips.crop_window(window, begin, length)

    def _open(self, cache: Path | str | None, jobs: int | None, quiet: bool) -> DirectReader | CachedReader:
        if cache is None:
            return DirectReader(self.layout, self.preprocessing, self.quirks)
        parts: list[Part] = ["frames"]
        if self.annotations:
            parts.append("maps")
        used = set(self._windows_table[:, 0].tolist())
        videos = [video for number, video in enumerate(self._videos) if number in used]
        frame_cache = FrameCache(Path(cache), self.layout, self.preprocessing, self.quirks)
        files = {
            (part, video.database, video.entry): frame_cache.file(part, video.database, video.entry)
            for video in videos
            for part in ([*parts, "wave"] if self.audio and video.files.wave else parts)
        }
        frame_cache.build(files.values(), jobs=jobs, quiet=quiet)
        return CachedReader(files.values())

    @property
    def videos(self) -> list[tuple[str, FoldEntry]]:
        """(database, fold list entry) of every video, in the order of the lists."""
        return [(video.database, video.entry) for video in self._videos]

    def __len__(self) -> int:
        return len(self._windows_table)

    def describe(self, index: int) -> SampleDescription:
        """Describes where sample `index` of the current epoch comes from. Its `str` has the numbers of the files."""
        video, frames, _ = self._choose(index)
        entry = video.entry
        return SampleDescription(
            video.database, entry.video, entry.frame_rate, frames, self._select_frame(frames)
        )

    def __getitem__(self, index: int) -> Sample:
        video, frames, flipped = self._choose(index)
        target = self._select_frame(frames)
        pictures = self._reader.frames(video.database, video.entry, frames)
        maps = np.zeros((2, 0, 0), dtype=np.uint8)
        if self.annotations:
            maps = self._reader.maps(video.database, video.entry, target)
        if flipped:
            pictures, maps = pictures[:, :, ::-1], maps[:, :, ::-1]
        float_maps = torch.from_numpy(maps.astype(np.float32))
        return Sample(
            clip=torch.from_numpy(make_clip(pictures, self.preprocessing)),
            audio=torch.from_numpy(self._excerpt(video, frames))[None, None],
            density_map=float_maps[:1],
            fixation_map=float_maps[1:],
            index=torch.tensor(index % len(self)),
            frames=torch.tensor(frames),
            target=torch.tensor(target),
        )

    def _choose(self, index: int) -> tuple[_Video, tuple[int, ...], bool]:
        """The video, the frames of the clip, and whether it is flipped."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        number, start, stop = self._windows_table[index].tolist()
        window = range(start, stop)
        begin, flipped = None, False
        if self.mode == "train":
            crop_draw, flip_draw = self._draw(index)
            begin = int(crop_draw * clips.num_crop_begins(len(window), self.preprocessing.clip_length))
            flipped = flip_draw < self.flip_probability
        return self._videos[number], self._cut(window, begin), flipped

    def _draw(self, index: int) -> tuple[float, float]:
        """Two uniform numbers in [0, 1) that depend only on seed, epoch and index.

        NumPy guarantees that `SeedSequence` gives the same numbers in all versions.
        """
        state = np.random.SeedSequence((self.seed, self.epoch, index)).generate_state(2, np.uint64)
        first, second = (int(bits) >> 11 for bits in state)
        return first * 2.0**-53, second * 2.0**-53

    def _excerpt(
        self, video: _Video, frames: Iterable[int]
    ) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
        if not self.audio:
            return np.zeros(0, np.float32)
        samples = np.zeros(0, np.float32)
        if not video.silent:
            waveform, sample_rate = self._reader.waveform(video.database, video.entry)
            span = clips.clip_samples(tuple(frames), video.entry.frame_rate, sample_rate, len(waveform))
            samples = waveform[span.start : span.stop]
        return audio_excerpt(samples, self.preprocessing)
