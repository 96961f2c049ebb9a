"""One HTML file that shows an evaluation: scores, videos, scores over time, best and worst frames, what was run."""

import base64
import html
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from stavis import maps
from stavis.datasets.layout import Layout
from stavis.evaluation.predictions import MapSource
from stavis.evaluation.results import PREDICTIONS, VideoScores
from stavis.evaluation.summary import ListedScores, Summary, interval
from stavis.evaluation.tables import (
    METHOD_NAMES,
    METRIC_NAMES,
    METRIC_ORDER,
    format_score,
    remark_lines,
    score_rows,
)
from stavis.runtime.files import write_text

MAX_POINTS = 200  # of a video's curve: neighboring frames are averaged to get there
FRAMES_METRIC = "cc"  # what makes a frame good or bad: it compares what is shown, two maps
FRAMES_EACH = 3  # best and worst frames of each database
PICTURE_WIDTH = 256  # pixels
PICTURE_QUALITY = 70
MAX_PICTURE_BYTES = 4_000_000  # of all pictures together
DECIMALS = 3


def write_report(path: Path, summary: Summary, data: Path) -> None:
    """Writes the report. It needs nothing but itself to be looked at.

    Args:
        path: The HTML file.
        summary: What it shows.
        data: The data folder, for pictures and ground truth of the best and worst frames.
    """
    parts = {
        "TITLE": html.escape(_title(summary)),
        "SUBTITLE": html.escape(_subtitle(summary)),
        "TABLE": _score_table(summary),
        "REMARKS": _remarks(summary),
        "FRAMES": _frames_section(summary, Layout(data)),
        "RUN": _run_section(summary),
        # In a script element only "</" could end it early.
        "DATA": json.dumps(_plot_data(summary), allow_nan=False, separators=(",", ":")).replace("</", "<\\/"),
    }
    # Split rather than replaced one by one: a video's name may look like a mark.
    pieces = files("stavis").joinpath("report.html").read_text(encoding="utf-8").split("@@")
    text = "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))
    write_text(path, text)


def _title(summary: Summary) -> str:
    predictions = summary.run["predictions"]
    return f"Evaluation of {Path(predictions).name}" if predictions else "Evaluation of baselines"


def _subtitle(summary: Summary) -> str:
    num = len({(x.listed.database, x.listed.entry.video) for x in next(iter(summary.listed.values()), [])})
    names = ", ".join(next(iter(summary.databases.values()), {}))
    videos = "1 video" if num == 1 else f"{num} videos"
    return (
        f"{videos} of {names}; protocol {summary.run['settings']['protocol']}; stavis {summary.run['stavis']}"
    )


# --- Tables -----------------------------------------------------------------------------------------------------------


def _score_table(summary: Summary) -> str:
    head = ["Database", "Maps", *(METRIC_NAMES[m] for m in METRIC_ORDER), "Videos", "Frames"]
    lines = ["<table><thead><tr>", *(f"<th>{cell}</th>" for cell in head), "</tr></thead><tbody>"]
    before = None
    for row in score_rows(summary):
        first = row.database != before
        before = row.database
        kind = row.method if row.method in ("published", PREDICTIONS) else ""
        cells = [row.database if first else "", METHOD_NAMES.get(row.method, row.method)]
        cells += [format_score(value, 3) for value in row.values]
        cells += ["" if n is None else str(n) for n in (row.num_videos, row.num_frames)]
        classes = " ".join(filter(None, ["begin" if first else "", kind]))
        lines.append(
            f'<tr class="{classes}">' + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>"
        )
    return "".join(lines) + "</tbody></table>"


def _remarks(summary: Summary) -> str:
    lines = remark_lines(score_rows(summary))
    lines += [f"{database}: no predictions, left out" for database in summary.skipped_databases]
    return "".join(f'<p class="soft">{html.escape(line)}</p>' for line in lines)


def _run_section(summary: Summary) -> str:
    run = summary.run
    settings = run["settings"]
    every = f", every {settings['stride']} frames" if settings["stride"] > 1 else ""
    entries = [
        ("Data", run["data"]),
        ("Predictions", run["predictions"] or "none"),
        (
            "Protocol",
            f"{settings['protocol']}, quirks {settings['quirks']}, from frame {settings['first_frame'] + 1}{every}",
        ),
        ("stavis", run["stavis"]),
        ("Versions", ", ".join(f"{name} {number}" for name, number in run["versions"].items())),
    ]
    test_run = run["test_run"]
    more = ""
    if isinstance(test_run, dict):
        settings = test_run.get("settings")
        if isinstance(settings, dict):
            entries.append(("Test run", ", ".join(f"{key} {value}" for key, value in settings.items())))
        weights = test_run.get("weights")
        for split, network in weights.items() if isinstance(weights, dict) else ():
            if isinstance(network, dict):
                name, digest = network.get("name"), network.get("sha256") or "random weights"
                entries.append((f"Weights, split {split}", f"{name}, SHA-256 {digest}"))
        whole = html.escape(json.dumps(test_run, indent=2))
        more = f"<details><summary>testrun.json</summary><pre>{whole}</pre></details>"
    elif run["predictions"]:
        entries.append(("Weights", "not known: no testrun.json of stavis test beside the maps"))
    rows = "".join(f"<dt>{html.escape(str(k))}</dt><dd>{html.escape(str(v))}</dd>" for k, v in entries)
    return f"<dl>{rows}</dl>{more}"


# --- Plots ------------------------------------------------------------------------------------------------------------


def _plot_data(summary: Summary) -> dict[str, Any]:
    videos = []
    for lines in _distinct_videos(summary):
        first = next(iter(lines.values()))
        split = first.scores.split if first.scores.method == PREDICTIONS else None
        scores = first.scores
        videos.append(
            {
                "database": scores.database,
                "label": scores.video if split is None else f"{scores.video} (split {split})",
                "num_frames": scores.num_frames,
                "frame_rate": scores.frame_rate,
                "means": {
                    method: {m: _rounded([x.scores.mean(m), *interval(x.scores, m)]) for m in METRIC_ORDER}
                    for method, x in lines.items()
                },
                "series": {method: _series(x.scores) for method, x in lines.items() if x.scores.frames.size},
            }
        )
    return {
        "metrics": [{"key": m, "name": METRIC_NAMES[m]} for m in METRIC_ORDER],
        "methods": [{"key": m, "name": METHOD_NAMES.get(m, m)} for m in summary.methods],
        "videos": [video for video in videos if video["series"]],
    }


def _distinct_videos(summary: Summary) -> list[dict[str, ListedScores]]:
    """Method -> scores for every video and, where the first method's maps are a split's own, every split."""
    distinct: dict[tuple[str, str, int | None], dict[str, ListedScores]] = {}
    for lines in zip(*summary.listed.values(), strict=True):
        first = lines[0].scores
        key = (first.database, first.video, first.split)
        if key not in distinct:
            distinct[key] = dict(zip(summary.methods, lines, strict=True))
    return list(distinct.values())


def _series(scores: VideoScores) -> dict[str, Any]:
    """The curve of a video in at most `MAX_POINTS` points, each the mean of `step` frames."""
    first, last = int(scores.frames[0]), int(scores.frames[-1])
    step = max(1, math.ceil((last + 1 - first) / MAX_POINTS))
    num = (last - first) // step + 1
    values = {}
    for metric in METRIC_ORDER:
        padded = np.full(num * step, np.nan)
        padded[scores.frames - first] = scores.of_metric(metric)
        parts = padded.reshape(num, step)
        counts = (~np.isnan(parts)).sum(axis=1)
        means = np.where(counts > 0, np.nansum(parts, axis=1) / np.maximum(counts, 1), np.nan)
        values[metric] = _rounded(means.tolist())
    return {"first": first, "step": step, "values": values}


def _rounded(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else round(value, DECIMALS) for value in values]


# --- Frames -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ChosenFrame:
    scores: VideoScores
    row: int

    @property
    def frame(self) -> int:
        return int(self.scores.frames[self.row])


def _frames_section(summary: Summary, layout: Layout) -> str:
    if PREDICTIONS not in summary.methods:
        return ""
    parts = []
    chosen = choose_frames(summary)
    num_left = MAX_PICTURE_BYTES
    for database, (best, worst) in chosen.items():
        for title, frames in (("best", best), ("worst", worst)):
            figures = []
            for frame in frames:
                figure = _figure(frame, layout) if num_left > 0 else ""
                num_left -= len(figure)
                figures.append(figure)
            if any(figures):
                parts.append(
                    f'<h3>{html.escape(database)}, {title}</h3><div class="frames">{"".join(figures)}</div>'
                )
    if not parts:
        return ""
    note = (
        f"Frames of the highest and of the lowest {METRIC_NAMES[FRAMES_METRIC]}, where there are enough videos each of "
        "another one. Left the picture, in the middle the ground truth with its fixations, right the prediction."
    )
    return f'<h2>Best and worst frames</h2><p class="soft">{note}</p>{"".join(parts)}'


def choose_frames(summary: Summary) -> dict[str, tuple[list[_ChosenFrame], list[_ChosenFrame]]]:
    """Database -> its best and its worst frames of the predictions, first the best and first the worst."""
    distinct: dict[str, dict[int, VideoScores]] = {}
    for line in summary.listed[PREDICTIONS]:
        distinct.setdefault(line.scores.database, {})[id(line.scores)] = line.scores
    chosen = {}
    for database, of_database in distinct.items():
        best = _extremes(list(of_database.values()), sign=-1)
        taken = {(f.scores.video, f.frame) for f in best}
        worst = [
            f for f in _extremes(list(of_database.values()), sign=1) if (f.scores.video, f.frame) not in taken
        ]
        chosen[database] = (best, worst)
    return chosen


def _extremes(videos: Sequence[VideoScores], *, sign: int) -> list[_ChosenFrame]:
    """The frames with the lowest (sign 1) or highest (-1) score: one a video, more where videos are few."""
    names = list(dict.fromkeys(video.video for video in videos))
    per_video = math.ceil(FRAMES_EACH / len(names))
    ranked = []
    for name in names:
        candidates = [
            (sign * value, _ChosenFrame(video, row))
            for video in videos
            if video.video == name
            for row, value in enumerate(video.of_metric(FRAMES_METRIC).tolist())
            if not math.isnan(value)
        ]
        picked: list[tuple[float, _ChosenFrame]] = []
        for value, chosen in sorted(candidates, key=lambda candidate: candidate[0]):
            # Neighboring frames look the same: at least a second apart.
            if all(abs(chosen.frame - other.frame) >= chosen.scores.frame_rate for _, other in picked):
                picked.append((value, chosen))
            if len(picked) == per_video:
                break
        ranked += picked
    return [chosen for _, chosen in sorted(ranked, key=lambda candidate: candidate[0])[:FRAMES_EACH]]


def _figure(chosen: _ChosenFrame, layout: Layout) -> str:
    scores, frame = chosen.scores, chosen.frame
    values = dict(zip(METRIC_ORDER, (scores.of_metric(m)[chosen.row] for m in METRIC_ORDER), strict=True))
    density = maps.read_density_map(layout.density_map(scores.database, scores.video, frame))
    size = (PICTURE_WIDTH, max(1, round(PICTURE_WIDTH * density.shape[0] / density.shape[1])))
    fixations = maps.read_fixation_map(layout.fixation_map(scores.database, scores.video, frame)) > 0
    reader = MapSource.at(Path(scores.source)).open(scores.num_frames)
    try:
        prediction = reader.read(frame)
    finally:
        reader.close()
    pictures = [
        ("picture", _read_picture(layout.frame(scores.database, scores.video, frame), size)),
        ("ground truth", _draw_map(density, size, fixations)),
        ("prediction", _draw_map(prediction if prediction is not None else np.zeros((1, 1)), size)),
    ]
    images = "".join(
        f'<img alt="{name}" width="{size[0]}" height="{size[1]}" src="{_embed(p)}">' for name, p in pictures
    )
    split = "" if scores.split is None else f" (split {scores.split})"
    numbers = ", ".join(f"{METRIC_NAMES[m]} {format_score(v, 2)}" for m, v in values.items())
    caption = f"{html.escape(scores.video + split)}, frame {frame + 1} <small>{numbers}</small>"
    return f"<figure><figcaption>{caption}</figcaption><div>{images}</div></figure>"


def _read_picture(path: Path, size: tuple[int, int]) -> Image.Image:
    """The frame, or gray with a word where the data folder has none."""
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as file:
            return file.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        picture = Image.new("RGB", size, (128, 128, 128))
        ImageDraw.Draw(picture).text((12, 8), "no picture", fill=(255, 255, 255), font_size=22)
        return picture


def _draw_map(
    values: maps.Array, size: tuple[int, int], fixations: npt.NDArray[np.bool_] | None = None
) -> Image.Image:
    """A map from black to white, stretched, with fixations as dots."""
    stretched = np.asarray(values, dtype=np.float64)
    low, high = float(stretched.min()), float(stretched.max())
    stretched = (stretched - low) / (high - low) if high > low else np.zeros(stretched.shape)
    gray = Image.fromarray((stretched * 255).round().astype(np.uint8))
    picture = gray.resize(size, Image.Resampling.BICUBIC).convert("RGB")
    if fixations is not None:
        draw = ImageDraw.Draw(picture)
        for row, column in np.argwhere(fixations)[:500]:
            x, y = (column + 0.5) * size[0] / fixations.shape[1], (row + 0.5) * size[1] / fixations.shape[0]
            draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=(230, 60, 60))
    return picture


def _embed(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=PICTURE_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
