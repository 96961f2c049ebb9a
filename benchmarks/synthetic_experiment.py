"""Measures whether the network uses sound, by training with and without it in the generated world.

    python benchmarks/synthetic_experiment.py --output experiment [--quick]

1. generates four databases, one per preset (docs/synthetic.md), as `stavis synth` does;
2. trains three networks as `stavis train` does: a visual one (configs/synthetic_visual.toml); an audiovisual one that
   starts from it and from a SoundNet trained to classify sounds (configs/synthetic_audiovisual.toml,
   benchmarks/synthetic_soundnet.py); and a control that starts from the visual one and trains on as many clips as the
   audiovisual one, with the same recipe but without sound;
3. predicts the test videos as `stavis test` does: with the control, and with the audiovisual network with the video's
   own sound, no sound, the sound of another video, and its own sound shifted in time;
4. scores the maps as `stavis evaluate` does, with the true densities with and without sound, the density of 200 other
   observers, and a center prior;
5. writes results.md (tables with 95 % intervals over videos), results.json, results.png and curves.png.

Finished parts are not repeated, so it can be interrupted. --quick does everything with a few tiny videos in minutes, to
check that it runs; its numbers mean nothing.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

import stavis
from stavis.datasets.fold_lists import read_fold_list
from stavis.datasets.layout import FoldEntry, Layout
from stavis.evaluation.compare import Comparison, Difference, compare, read_evaluation
from stavis.evaluation.tables import markdown_line
from stavis.prediction.testrun import RunSettings, SoundTest, predict_test_videos
from stavis.runtime.files import atomic_path, write_text
from stavis.runtime.workers import Advance, default_jobs, run_parallel
from stavis.synthetic import PRESETS, Settings, read_truth, write_databases
from stavis.synthetic.databases import truth_path
from stavis.synthetic.oracle import fresh_observers, oracle_density
from stavis.training.runlog import draw_curves
from synthetic_soundnet import train_soundnet

Array = npt.NDArray[np.float64]

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FIRST_FRAME = 8  # from 0: the first that `stavis test` and `stavis evaluate` take
SHOWN = ("nss", "cc")
NAMES = {"nss": "NSS", "cc": "CC"}

CONTROL = "visual"
MAPS = {
    "center": "center prior",
    CONTROL: "visual network",
    "normal": "audiovisual network",
    "silent": "- without sound",
    "shuffled": "- with another video's sound",
    "time-shifted": "- with its sound shifted in time",
    "sees": "all that sight can tell",
    "hears": "all that sight and sound can tell",
    "others": "200 other observers",
}
"""All that is scored, in the tables' order."""

SOUND_COLUMNS = {
    "audiovisual - visual": ("normal", CONTROL),
    "own sound - none": ("normal", "silent"),
    "own sound - another video's": ("normal", "shuffled"),
    "own sound - shifted": ("normal", "time-shifted"),
    "without sound - visual": ("silent", CONTROL),
    "what sound can tell": ("hears", "sees"),
}
"""The differences that tell how much the network listens: which maps' score minus which."""


@dataclass(frozen=True)
class Scale:
    """How large the experiment is.

    Attributes:
        num_videos: Preset -> videos of its database.
        test_share: Share of them that is tested.
        seconds: Length of a video.
        size: (width, height) of its pictures in pixels.
        stride: Every so many frames are scored.
        num_observers: That make the ceiling.
        num_sound_steps: Of SoundNet's first training.
        settings: Of the recipes, changed in all stages.
    """

    num_videos: Mapping[str, int]
    test_share: float
    seconds: float
    size: tuple[int, int]
    stride: int
    num_observers: int
    num_sound_steps: int
    settings: tuple[str, ...] = ()


FULL = Scale(
    {"sound-decides": 200, "mixed": 80, "sight-decides": 60, "unrelated": 60},
    0.2,
    6.0,
    (256, 192),
    5,
    200,
    600,
)
QUICK = Scale(
    dict.fromkeys(PRESETS, 6),
    1 / 3,
    2.0,
    (96, 72),
    10,
    200,
    5,
    (
        "epochs=1",
        "batch.size=4",
        "data.workers=0",
        "validation.on=none",
        "log.overlays=0",
        "log.tensorboard=false",
    ),
)

RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "visual": ("synthetic_visual.toml", ()),
    "audiovisual": ("synthetic_audiovisual.toml", ()),
    "control": (
        "synthetic_audiovisual.toml",
        ("model.modality=visual", "initial_weights={runs}/visual/weights"),
    ),
}
"""Run -> its recipe, and what is changed in it."""

CONDITIONS: dict[str, tuple[str, SoundTest]] = {
    CONTROL: ("control", "normal"),
    **{sound: ("audiovisual", sound) for sound in get_args(SoundTest)},
}
"""Maps -> the run whose network makes them, and the sound that it gets."""


def main() -> None:
    """Runs all stages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the experiment")
    parser.add_argument("--quick", action="store_true", help="a few tiny videos: to see that it works")
    parser.add_argument(
        "--jobs", type=int, default=default_jobs(), help="processes that generate and score videos"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    arguments = parser.parse_args()
    run_experiment(
        arguments.output, QUICK if arguments.quick else FULL, jobs=arguments.jobs, quiet=arguments.quiet
    )
    print((arguments.output / "results.md").read_text(encoding="utf-8"))


def run_experiment(output: Path, scale: Scale, *, jobs: int, quiet: bool) -> None:
    """Does what is not done yet."""
    data, runs, maps = output / "data", output / "runs", output / "maps"
    for preset, num in scale.num_videos.items():
        settings = Settings(preset=preset, seconds=scale.seconds, size=scale.size)
        write_databases(
            data, [preset], settings, num_videos=num, test_share=scale.test_share, jobs=jobs, quiet=quiet
        )
    soundnet = runs / "soundnet.pth"
    if not soundnet.exists():
        train_soundnet(data, sorted(scale.num_videos), soundnet, num_steps=scale.num_sound_steps, quiet=quiet)
    for name, (config, changes) in RUNS.items():
        if not (runs / name / "weights").is_dir():
            settings_of_run = [f"data.root={data}", *changes, *scale.settings]
            recipe = stavis.load_recipe(CONFIGS / config, settings_of_run)
            if stavis.train(recipe, runs / name, quiet=quiet).weights is None:
                raise SystemExit("interrupted; the same command resumes")
    for name, (run, sound) in CONDITIONS.items():
        predict_test_videos(
            data=data,
            weights=str(runs / run / "weights"),
            output=maps / name,
            split=1,
            databases=list(scale.num_videos),
            settings=RunSettings(sound=sound, stride=scale.stride),
            quiet=quiet,
        )
    write_bounds(data, maps, scale, jobs=jobs, quiet=quiet)
    for name in MAPS.keys() - {"center"}:
        stavis.evaluate(
            maps / name,
            data,
            output / "scores" / name,
            databases=list(scale.num_videos),
            split=1,
            stride=scale.stride,
            baselines=["center"] if name == CONTROL else (),
            report=name == "normal",
            jobs=jobs,
            quiet=True,
        )
    write_results(output, scale)
    draw_curves([runs / name for name in RUNS], output / "curves.png")


# --- What can be known ------------------------------------------------------------------------------------------------


def write_bounds(data: Path, maps: Path, scale: Scale, *, jobs: int, quiet: bool) -> None:
    """Writes maps of those who know the world, as predictions: the truth's densities, and other observers'."""
    tasks = [
        (data, maps, preset, entry, scale)
        for preset in scale.num_videos
        for entry in read_fold_list(Layout(data).fold_list(preset, "test", 1))
        if not bound_path(maps, "others", preset, entry).exists()
    ]
    total = sum(entry.num_frames for *_, entry, _ in tasks)
    run_parallel(
        _write_bounds_of_video,
        tasks,
        jobs=jobs,
        description="bounds",
        total=total,
        unit="frames",
        quiet=quiet,
    )


def bound_path(maps: Path, name: str, database: str, entry: FoldEntry) -> Path:
    """Where a bound's maps of a video are, as `stavis evaluate` looks for them."""
    return maps / name / database / f"{entry.video}.npz"


def _write_bounds_of_video(task: tuple[Path, Path, str, FoldEntry, Scale], advance: Advance) -> None:
    data, maps, database, entry, scale = task
    truth = read_truth(truth_path(data, database, entry.video))
    others = fresh_observers(truth, scale.num_observers)
    found: dict[str, list[Array]] = {"sees": [], "hears": [], "others": []}
    frames = range(FIRST_FRAME, entry.num_frames, scale.stride)
    for frame in frames:
        found["sees"].append(oracle_density(truth, frame, hears=False))
        found["hears"].append(oracle_density(truth, frame, hears=True))
        found["others"].append(others.density_map(frame, (truth.width, truth.height), truth.sigma_pixels))
        advance(scale.stride)
    for name, of_frames in found.items():  # "others" last: from now on the video counts as done
        saliency = np.stack([density / max(density.max(), 1e-12) for density in of_frames])
        with atomic_path(bound_path(maps, name, database, entry)) as path, path.open("wb") as file:
            np.savez_compressed(file, saliency=saliency.astype(np.float16), index=np.array(frames))


# --- Results ----------------------------------------------------------------------------------------------------------


def write_results(output: Path, scale: Scale) -> None:
    """Writes results.md, results.json and results.png."""
    evaluations = {name: read_evaluation(output / "scores" / name) for name in MAPS if name != "center"}
    evaluations["center"] = read_evaluation(output / "scores" / CONTROL, "center")
    to_control = {
        name: compare(evaluations[CONTROL], evaluation)
        for name, evaluation in evaluations.items()
        if name != CONTROL
    }
    columns = {
        title: compare(evaluations[before], evaluations[after])
        for title, (after, before) in SOUND_COLUMNS.items()
    }
    presets = list(scale.num_videos)
    parts = [
        f"Mean scores of every {scale.stride}th frame of the test videos; differences with 95 % intervals "
        "(bootstrap over videos, paired); \\* where they leave out 0.\n"
    ]
    for metric in SHOWN:
        parts.append(f"What the sound is worth, {NAMES[metric]}\n\n" + _sound_table(columns, presets, metric))
    parts.append("All maps\n\n" + _score_table(to_control, presets))
    write_text(output / "results.md", "\n".join(parts))
    record = {
        "scores": {name: _to_json(one) for name, one in to_control.items()},
        "sound": {title: _to_json(one) for title, one in columns.items()},
    }
    write_text(output / "results.json", json.dumps(record, indent=1) + "\n")
    draw_results(to_control, columns, presets, output / "results.png")


def _sound_table(columns: Mapping[str, Comparison], presets: list[str], metric: str) -> str:
    lines = [["preset", "videos", *columns], ["---", "---:", *["---:"] * len(columns)]]
    for preset in presets:
        num = str(sum(database == preset for database, _ in next(iter(columns.values())).videos))
        lines.append(
            [preset, num, *(format_difference(c.databases[preset][metric]) for c in columns.values())]
        )
    return "\n".join(map(markdown_line, lines)) + "\n"


def _score_table(to_control: Mapping[str, Comparison], presets: list[str]) -> str:
    titles = [title for metric in SHOWN for title in (NAMES[metric], f"{NAMES[metric]} - visual")]
    lines = [["preset", "maps", *titles], ["---", "---", *["---:"] * len(titles)]]
    for preset in presets:
        for number, (name, title) in enumerate(MAPS.items()):
            cells = []
            for metric in SHOWN:
                difference = to_control["normal" if name == CONTROL else name].databases[preset][metric]
                own = difference.before if name == CONTROL else difference.after
                cells += [f"{own:.3f}", "" if name == CONTROL else format_difference(difference)]
            lines.append([preset if number == 0 else "", title, *cells])
    return "\n".join(map(markdown_line, lines)) + "\n"


def format_difference(difference: Difference) -> str:
    """The mean difference with its interval, starred where that leaves out 0."""
    low, high = difference.interval
    star = "\\*" if difference.is_clear else ""
    return f"{difference.mean:+.3f} [{low:+.3f}, {high:+.3f}]{star}"


def _to_json(comparison: Comparison) -> dict[str, Any]:
    return {
        database: {
            metric: {
                "before": d.before,
                "after": d.after,
                "difference": d.mean,
                "interval": list(d.interval),
            }
            for metric, d in of_metric.items()
        }
        for database, of_metric in comparison.databases.items()
    }


def draw_results(
    to_control: Mapping[str, Comparison], columns: Mapping[str, Comparison], presets: list[str], path: Path
) -> None:
    """Draws the NSS of all maps, and below what the sound is worth, a group of bars a preset."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1)
    networks = (CONTROL, "normal", "silent", "shuffled", "time-shifted")
    colors = ("#7a7a7a", "#1f6fb4", "#8fbbdd", "#e0a458", "#c9713a")
    bounds = (("center", ":", "#000000"), ("sees", "--", "#8a2be2"), ("hears", "-", "#8a2be2"))
    width = 0.8 / len(networks)
    for group, preset in enumerate(presets):
        for number, (name, color) in enumerate(zip(networks, colors, strict=True)):
            difference = to_control["normal" if name == CONTROL else name].databases[preset]["nss"]
            height = difference.before if name == CONTROL else difference.after
            place = group + (number - 2) * width
            above.bar(place, height, width * 0.92, color=color, label=MAPS[name] if group == 0 else None)
        for name, line, color in bounds:
            height = to_control[name].databases[preset]["nss"].after
            above.plot(
                [group - 0.44, group + 0.44],
                [height, height],
                line,
                color=color,
                label=MAPS[name] if group == 0 else None,
            )
    above.set_ylabel("NSS")
    width = 0.8 / len(columns)
    for group, preset in enumerate(presets):
        for number, (title, comparison) in enumerate(columns.items()):
            difference = comparison.databases[preset]["nss"]
            low, high = difference.interval
            below.bar(
                group + (number - (len(columns) - 1) / 2) * width,
                difference.mean,
                width * 0.92,
                yerr=[[max(0.0, difference.mean - low)], [max(0.0, high - difference.mean)]],
                color=f"C{number}",
                capsize=2,
                label=title if group == 0 else None,
            )
    below.axhline(0, color="black", linewidth=0.8)
    below.set_ylabel("difference in NSS, 95 % intervals")
    for axes in (above, below):
        axes.set_xticks(range(len(presets)), presets)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend(fontsize="small", ncols=2)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


if __name__ == "__main__":
    main()
