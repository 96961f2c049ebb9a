"""Submissions to the video saliency challenges and to DHF1K: checked, then written as one ZIP file."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from stavis.errors import StavisError, counted, some
from stavis.evaluation.predictions import ColorCheck, MapSource, numbered_maps, source_in
from stavis.evaluation.protocols.challenge import files_below, one_per_name, read_subsets
from stavis.maps import Array, read_prediction, to_8bit
from stavis.media import probe, read_samples
from stavis.media.inputs import walk_folders
from stavis.media.samples import count_pictures
from stavis.media.suffixes import VIDEO_SUFFIXES
from stavis.runtime.files import atomic_path
from stavis.runtime.progress import track

Kind = Literal["challenge", "dhf1k"]
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every member: the same maps give the same bytes


@dataclass(frozen=True)
class Submission:
    """Result of a check.

    Attributes:
        output: The ZIP file; None if there are problems, and nothing was written.
        problems: What is wrong, one line each, naming the video.
        num_videos: Number of videos that were expected.
        num_frames: Number of maps that were found.
    """

    output: Path | None
    problems: tuple[str, ...]
    num_videos: int
    num_frames: int


def make_submission(
    kind: Kind, predictions: str | Path, data: str | Path, output: str | Path, *, quiet: bool = True
) -> Submission:
    """Checks predictions of a test set, and writes them as a submission if nothing is wrong.

    Every video must have a prediction and every frame a map; maps must be gray, not constant, of one size per video and
    of the input's aspect ratio. Submissions to a challenge contain one video file per video, those to DHF1K one 8-bit
    PNG per frame.

    Args:
        kind: "challenge" or "dhf1k".
        predictions: Folder of predictions: for a challenge video files `<video>.mp4`, or folders of `stavis predict`
            with `saliency.mp4`; for DHF1K any form that `stavis evaluate` takes.
        data: Folder of the test set's videos, or of its ground truth; for a challenge with `TrainTestSplit.json`.
        output: The ZIP file.
        quiet: Show no progress.

    Raises:
        ValueError: There is no such kind.
        StavisError: The data folder contains no test videos.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(get_args(Kind))}")
    predictions, data, output = Path(predictions), Path(data), Path(output)
    if not predictions.is_dir():
        raise StavisError(f"{predictions}: the folder of predictions does not exist")
    list_inputs = _challenge_inputs if kind == "challenge" else _dhf1k_inputs
    expected = list_inputs(data, predictions)
    problems: list[str] = []
    there = {
        path.name if path.is_dir() else path.stem
        for path in predictions.iterdir()
        if not path.name.startswith(".") and path.resolve() != output.resolve()
    }
    # `stavis predict` names its results as the inputs are named: 701 or 0701.
    test_name = _dhf1k_name if kind == "dhf1k" else str
    given = {test_name(name): name for name in sorted(there)}  # 701 after 0701
    sources = {name: _find(kind, predictions, name, given.get(name, name), problems) for name in expected}
    extra = (
        there - {given[name] for name in expected.keys() & given.keys()} - {"report", "summary", "testrun"}
    )
    if extra:
        problems.append(f"not in the test set: {some(extra)}")
    num_frames = 0
    with track("check", len(expected), unit="videos", quiet=quiet) as advance:
        for name, source in sources.items():
            if source is not None:
                num_frames += _check(name, source, expected[name], problems)
            advance(1)
    if problems:
        return Submission(None, tuple(problems), len(expected), num_frames)
    with atomic_path(output) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, source in sources.items():
            assert source is not None
            for member, content in _members(kind, name, source):
                archive.writestr(zipfile.ZipInfo(member, _EPOCH), content)
    return Submission(output, (), len(expected), num_frames)


def _videos_below(folder: Path, without: Path) -> list[Path]:
    found = [path for path in files_below(folder) if path.suffix.lower() in VIDEO_SUFFIXES]
    return [path for path in found if without.resolve() not in path.resolve().parents]


def _challenge_inputs(data: Path, predictions: Path) -> dict[str, Path | None]:
    """Test videos of a challenge and their input files, None where there is none."""
    subsets = read_subsets(data)
    names = sorted(name for subset, names in subsets.items() if subset != "train" for name in names)
    if not names:
        raise StavisError(f"{data}: names no test videos")
    videos: dict[str, Path] = {}
    for path in _videos_below(data, predictions):  # the ground truth of a video has its name and frames, too
        videos.setdefault(path.stem, path)
    return {name: videos.get(name) for name in names}


def _dhf1k_inputs(data: Path, predictions: Path) -> dict[str, Path | None]:
    """The videos of a folder by DHF1K's four-digit names: its files, or folders with `maps` or `images`."""
    named = [(path.stem, path) for path in _videos_below(data, predictions)]
    for kind in ("maps", "images"):
        found = [folder / kind for folder in walk_folders(data) if (folder / kind).is_dir()]
        named = named or [(path.parent.name, path) for path in sorted(found)]
    if not named:
        raise StavisError(f"{data}: no test videos: video files, or folders <video>/images or <video>/maps")
    return dict(one_per_name((_dhf1k_name(name), path) for name, path in named))


def _dhf1k_name(name: str) -> str:
    return name.zfill(4) if name.isdecimal() else name


def _find(kind: Kind, predictions: Path, name: str, given: str, problems: list[str]) -> MapSource | None:
    source = source_in(predictions, given)
    if source is not None and kind == "challenge" and source.kind != "video":
        video = next(
            (p for p in (predictions / given).glob("saliency.*") if p.suffix in VIDEO_SUFFIXES), None
        )
        source = MapSource.at(video) if video is not None else None
        if source is None:
            problems.append(f"{name}: needs a video file, has other maps (stavis predict --outputs video)")
            return None
    if source is None:
        problems.append(f"{name}: no prediction")
    return source


def _samples(source: MapSource) -> Iterator[tuple[int, Array]]:
    """Frame and map of a prediction, in order."""
    if source.kind == "video":
        yield from enumerate(read_samples(source.path))
    elif source.kind == "images":
        for frame, path in numbered_maps(source.path).items():
            yield frame, read_prediction(path)
    else:
        reader = source.open(own_depth=True)
        frame = 0
        while (saliency := reader.read(frame)) is not None:
            yield frame, saliency
            frame += 1


def _check(name: str, source: MapSource, reference: Path | None, problems: list[str]) -> int:
    """Adds what is wrong with a prediction; returns its number of maps."""
    colors, sizes, constant, frames = ColorCheck(), set(), [], []
    try:
        for frame, samples in _samples(source):
            frames.append(frame)
            sizes.add((samples.shape[1], samples.shape[0]))
            colors.add(samples)
            if samples.min() == samples.max():
                constant.append(frame + 1)
        num_expected, size = _frames_and_size(reference) if reference is not None else (None, None)
    except StavisError as error:
        problems.append(f"{name}: {error}")
        return len(frames)
    missing = sorted(set(range(num_expected or len(frames))) - set(frames))
    if missing:
        all_frames = counted(num_expected or len(frames), "frames")
        problems.append(f"{name}: no map of {len(missing)} of {all_frames}, first {missing[0] + 1}")
    if num_expected is not None and len(frames) - (num_expected - len(missing)) > 0:
        problems.append(
            f"{name}: {counted(len(frames), 'maps')}, the video has {counted(num_expected, 'frames')}"
        )
    if len(sizes) > 1:
        problems.append(f"{name}: maps of {len(sizes)} sizes: {some(f'{w}x{h}' for w, h in sizes)}")
    elif sizes and size is not None:
        (width, height) = next(iter(sizes))
        if abs(width / height - size[0] / size[1]) > 0.03 * size[0] / size[1]:
            problems.append(
                f"{name}: maps of {width}x{height}, the video has {size[0]}x{size[1]}: another aspect ratio"
            )
    if constant:
        problems.append(f"{name}: {counted(len(constant), 'constant maps')}, first of frame {constant[0]}")
    problems.extend(f"{name}: {note}" for note in colors.notes)
    return len(frames)


def _frames_and_size(reference: Path) -> tuple[int, tuple[int, int] | None]:
    if reference.is_dir():
        return len(numbered_maps(reference)), None
    info = probe(reference)
    return count_pictures(reference), (info.width, info.height)


def _members(kind: Kind, name: str, source: MapSource) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the ZIP file's members of a video."""
    if kind == "challenge":
        yield f"{name}{source.path.suffix}", source.path.read_bytes()
        return
    for frame, samples in _samples(source):
        buffer = io.BytesIO()
        gray = samples if samples.ndim == 2 else samples[..., 0]
        Image.fromarray(gray if gray.dtype == np.uint8 else to_8bit(gray)).save(buffer, "PNG")
        yield f"{name}/{frame + 1:04d}.png", buffer.getvalue()
