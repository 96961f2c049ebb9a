"""HTML report of an evaluation: scores, videos, scores over time, best and worst frames, record."""

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image, ImageDraw

from stavis import maps
from stavis.datasets.layout import Layout
from stavis.errors import counted
from stavis.evaluation.plan import FIELD_PROTOCOLS, EvaluationSettings
from stavis.evaluation.predictions import MapSource
from stavis.evaluation.protocols import open_field_data
from stavis.evaluation.protocols.base import FieldData
from stavis.evaluation.results import PREDICTIONS, VideoScores
from stavis.evaluation.summary import Evaluation, ListedScores, interval
from stavis.evaluation.tables import (
    METRIC_NAMES,
    category_rows,
    format_score,
    method_name,
    metric_names,
    ordered_metrics,
    remark_lines,
    score_rows,
)
from stavis.maps.overlay import normalize
from stavis.runtime.files import write_text

MAX_POINTS = 200  # of a video's curve: adjacent frames are averaged
FRAMES_METRIC = "cc"  # ranks frames: it compares the two maps that are shown
FRAMES_EACH = 3  # best and worst frames of each database
PICTURE_WIDTH = 256  # pixels
PICTURE_QUALITY = 70
MAX_PICTURE_BYTES = 4_000_000  # of all pictures together
DECIMALS = 3


def write_report(path: Path, evaluation: Evaluation) -> None:
    """Writes the report, a single file without external resources.

    Ground truth and frames of the best and worst frames are read from the data folder.
    """
    names = ", ".join(next(iter(evaluation.databases.values()), {}))
    listed = next(iter(evaluation.listed.values()), [])
    num = len({(x.listed.database, x.listed.entry.video) for x in listed})
    run = evaluation.run
    test_run = run["test_run"] if isinstance(run["test_run"], dict) else None
    remarks = remark_lines(score_rows(evaluation))
    remarks += [f"{database}: no predictions, left out" for database in evaluation.skipped_databases]
    text = render(
        "report.html",
        title=f"Evaluation of {Path(run['predictions']).name}"
        if run["predictions"]
        else "Evaluation of baselines",
        subtitle=f"{counted(num, 'videos')} of {names}; protocol {run['settings']['protocol']}; "
        f"stavis {run['stavis']}",
        table=Markup(score_table(evaluation)),
        categories=Markup(score_table(evaluation, "Category")) if evaluation.categories else None,
        remarks=remarks,
        frames=_frame_groups(evaluation),
        frames_metric=METRIC_NAMES[FRAMES_METRIC],
        run=_run_entries(run, test_run),
        test_run=json.dumps(test_run, indent=2) if test_run else None,
        data=_plot_data(evaluation),
    )
    write_text(path, text)


def render(template: str, **values: Any) -> str:
    """Renders an HTML template of this folder; all values are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stavis", "evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.get_template(template).render(**values)


def score_table(evaluation: Evaluation, group: str = "Database") -> str:
    """The score table in HTML, by database or by category."""
    head = [group, "Maps", *metric_names(ordered_metrics(evaluation.metrics)), "Videos", "Frames"]
    rows = []
    before = None
    for row in score_rows(evaluation) if group == "Database" else category_rows(evaluation):
        first = row.database != before
        before = row.database
        kind = row.method if row.method in ("published", PREDICTIONS) else ""
        cells = [row.database if first else "", method_name(row.method), *row.formatted(3), *row.numbers()]
        rows.append({"classes": " ".join(filter(None, ["begin" if first else "", kind])), "cells": cells})
    return render("table.html", head=head, rows=rows)


def _run_entries(run: dict[str, Any], test_run: dict[str, Any] | None) -> list[tuple[str, str]]:
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
    if test_run is not None:
        settings, weights = test_run.get("settings"), test_run.get("weights")
        if isinstance(settings, dict):
            entries.append(("Test run", ", ".join(f"{key} {value}" for key, value in settings.items())))
        for split, network in weights.items() if isinstance(weights, dict) else ():
            if isinstance(network, dict):
                name, digest = network.get("name"), network.get("sha256") or "random weights"
                entries.append((f"Weights, split {split}", f"{name}, SHA-256 {digest}"))
    elif run["predictions"]:
        entries.append(("Weights", "unknown: no testrun.json of stavis test beside the maps"))
    return entries


# --- Plots ------------------------------------------------------------------------------------------------------------


def _plot_data(evaluation: Evaluation) -> dict[str, Any]:
    videos = []
    metrics = ordered_metrics(evaluation.metrics)
    for lines in _distinct_videos(evaluation):
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
                    method: {m: _rounded([x.scores.mean(m), *interval(x.scores, m)]) for m in metrics}
                    for method, x in lines.items()
                },
                "series": {method: _series(x.scores) for method, x in lines.items() if x.scores.frames.size},
            }
        )
    return {
        "metrics": [{"key": m, "name": METRIC_NAMES[m]} for m in metrics],
        "methods": [{"key": m, "name": method_name(m)} for m in evaluation.methods],
        "videos": [video for video in videos if video["series"]],
    }


def _distinct_videos(evaluation: Evaluation) -> list[dict[str, ListedScores]]:
    """Method -> scores for every video, and for every split if the first method's maps differ by split."""
    distinct: dict[tuple[str, str, int | None], dict[str, ListedScores]] = {}
    listed = {method: {x.listed: x for x in lines} for method, lines in evaluation.listed.items()}
    for line in next(iter(evaluation.listed.values()), []):
        key = (line.scores.database, line.scores.video, line.scores.split)
        of_video = {method: lines[line.listed] for method, lines in listed.items() if line.listed in lines}
        distinct.setdefault(key, of_video)
    return list(distinct.values())


def _series(scores: VideoScores) -> dict[str, Any]:
    """A video's curve of at most `MAX_POINTS` points, each the mean of `step` frames."""
    first, last = int(scores.frames[0]), int(scores.frames[-1])
    step = max(1, math.ceil((last + 1 - first) / MAX_POINTS))
    num = (last - first) // step + 1
    values = {}
    for metric in scores.scores:
        padded = np.full(num * step, np.nan)
        padded[scores.frames - first] = scores.scores[metric]
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


def _frame_groups(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Titled groups of figures of the best and worst frames, of limited total size."""
    groups = []
    num_left = MAX_PICTURE_BYTES
    chosen = {}
    if PREDICTIONS in evaluation.methods:
        chosen = choose_frames(evaluation)
    settings = EvaluationSettings(**evaluation.run["settings"])
    data: Layout | FieldData = Layout(evaluation.data)
    if settings.protocol in FIELD_PROTOCOLS:
        data = open_field_data(evaluation.data, settings)
    for database, (best, worst) in chosen.items():
        for title, frames in (("best", best), ("worst", worst)):
            figures = []
            for frame in frames:
                if num_left > 0:
                    figures.append(_figure(frame, data))
                    num_left -= sum(len(picture["source"]) for picture in figures[-1]["pictures"])
            if figures:
                groups.append({"title": f"{database}, {title}", "figures": figures})
    return groups


def choose_frames(evaluation: Evaluation) -> dict[str, tuple[list[_ChosenFrame], list[_ChosenFrame]]]:
    """Database -> the best and the worst frames of the predictions, the most extreme first."""
    distinct: dict[str, dict[int, VideoScores]] = {}
    for line in evaluation.listed[PREDICTIONS]:
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
    """The frames with the lowest (sign 1) or highest (-1) score: one per video, more if there are few videos."""
    names = list(dict.fromkeys(video.video for video in videos))
    per_video = math.ceil(FRAMES_EACH / len(names))
    ranked = []
    for name in names:
        candidates = [
            (sign * value, _ChosenFrame(video, row))
            for video in videos
            if video.video == name
            for row, value in enumerate(video.scores[FRAMES_METRIC].tolist())
            if not math.isnan(value)
        ]
        picked: list[tuple[float, _ChosenFrame]] = []
        for value, chosen in sorted(candidates, key=lambda candidate: candidate[0]):
            # Adjacent frames look the same: at least a second apart.
            if all(abs(chosen.frame - other.frame) >= chosen.scores.frame_rate for _, other in picked):
                picked.append((value, chosen))
            if len(picked) == per_video:
                break
        ranked += picked
    return [chosen for _, chosen in sorted(ranked, key=lambda candidate: candidate[0])[:FRAMES_EACH]]


def _figure(chosen: _ChosenFrame, data: Layout | FieldData) -> dict[str, Any]:
    scores, frame = chosen.scores, chosen.frame
    values = {metric: float(scores.scores[metric][chosen.row]) for metric in ordered_metrics(scores.scores)}
    density, fixations = _read_truth(scores, frame, data)
    size = (PICTURE_WIDTH, max(1, round(PICTURE_WIDTH * density.shape[0] / density.shape[1])))
    prediction = MapSource.at(Path(scores.source)).open().read(frame)
    pictures = []
    if isinstance(data, Layout):  # other data have no frames
        path = data.frame(scores.database, scores.video, frame)
        pictures.append(("frame", _read_picture(path, size)))
    pictures += [
        ("ground truth", _draw_map(density, size, fixations)),
        ("prediction", _draw_map(prediction if prediction is not None else np.zeros((1, 1)), size)),
    ]
    split = "" if scores.split is None else f" (split {scores.split})"
    return {
        "caption": f"{scores.video}{split}, frame {frame + 1}",
        "numbers": ", ".join(f"{METRIC_NAMES[m]} {format_score(v, 2)}" for m, v in values.items()),
        "pictures": [
            {"name": name, "width": size[0], "height": size[1], "source": _embed(p)} for name, p in pictures
        ],
    }


def _read_truth(
    scores: VideoScores, frame: int, data: Layout | FieldData
) -> tuple[maps.Array, npt.NDArray[np.bool_]]:
    """Density map and fixated pixels of a frame."""
    if isinstance(data, Layout):
        density = maps.read_density_map(data.density_map(scores.database, scores.video, frame))
        return density, maps.read_fixation_map(data.fixation_map(scores.database, scores.video, frame)) > 0
    truths = data.truths(scores.database, scores.video, [], lambda number: number == frame)
    truth = next(truth for number, truth in truths if number == frame)
    assert truth is not None  # it was scored
    fixations = np.zeros(truth.density.shape, dtype=np.bool_)
    fixations.reshape(-1)[truth.fixated] = True
    return truth.density, fixations


def _read_picture(path: Path, size: tuple[int, int]) -> Image.Image:
    """The frame, or a gray placeholder if the data folder has none."""
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
    """A map scaled from black to white, with fixations as dots."""
    stretched = normalize(np.asarray(values, dtype=np.float32))
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
