"""Scores weights on generated test videos and on two real clips with real gaze: the table of the model card.

    python benchmarks/default_weights.py --output scores [--weights W] [--data experiment/data] [--shared ../shared]

--data is a folder of generated databases (benchmarks/synthetic_experiment.py makes one); every fifth frame of their
test videos is scored. --shared contains the two clips and their gaze (media/, gaze/), all scored. They
are for reporting only; nothing was chosen by them. Either folder may be missing. Finished parts are not repeated.
Overlays of the two clips go to OUTPUT/overlays.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import stavis
from stavis.evaluation.baselines import Baseline
from stavis.evaluation.compare import compare, read_evaluation
from stavis.evaluation.tables import METRIC_NAMES, format_score, markdown_line
from stavis.gaze import GazeOptions
from stavis.maps.overlay import OverlayStyle
from stavis.prediction.testrun import RunSettings, SoundTest, predict_test_videos
from stavis.preparation import PrepareOptions
from stavis.runtime.files import write_text
from stavis.runtime.workers import default_jobs
from stavis.synthetic import PRESETS
from synthetic_experiment import format_difference

METRICS = ("cc", "nss", "auc_judd", "auc_shuffled", "sim")
SOUNDS: tuple[SoundTest, ...] = ("normal", "silent")


class Clip(NamedTuple):
    """A real clip with real gaze.

    Attributes:
        database: What it is called.
        video: Below `shared/media`.
        gaze: Below `shared/gaze`.
        sigma_pixels: Of its density maps: a thirty-second of the picture's width.
        screen: Width and height of the screen that its gaze is in pixels of; None if they are the video's.
    """

    database: str
    video: str
    gaze: str
    sigma_pixels: float
    screen: tuple[int, int] | None


CLIPS = (
    Clip("find_012", "find_012_talk.mp4", "find_012", 40.0, None),
    Clip("dhf1k_002", "dhf1k_002.avi", "dhf1k_002", 20.0, (1440, 900)),
)


class Group(NamedTuple):
    """Databases that are scored alike.

    Attributes:
        name: Of its folders.
        data: The data folder.
        databases: In it.
        stride: Every so many frames are scored.
        baselines: Scored besides.
    """

    name: str
    data: Path
    databases: list[str]
    stride: int
    baselines: list[Baseline]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--data", type=Path, default=Path("experiment/data"))
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--jobs", type=int, default=default_jobs())
    arguments = parser.parse_args()
    output, weights, jobs = arguments.output, arguments.weights, arguments.jobs
    groups = []
    if arguments.data.is_dir():
        groups.append(Group("generated", arguments.data, list(PRESETS), 5, ["center"]))
    if (arguments.shared / "media").is_dir():
        prepare_clips(arguments.shared, output / "data")
        databases = [clip.database for clip in CLIPS]
        groups.append(Group("real", output / "data", databases, 1, ["center", "inter-observer"]))
        stavis.predict_files(
            [arguments.shared / "media" / clip.video for clip in CLIPS],
            output / "overlays",
            weights=weights,
            outputs="overlay",
            style=OverlayStyle(contour=0.2, peak=True),
        )
    for group in groups:
        score(group, weights, output, jobs)
    text = make_table(groups, output)
    write_text(output / "table.md", text)
    print(text, end="")


def prepare_clips(shared: Path, data: Path) -> None:
    """Makes a database of each real clip."""
    for clip in CLIPS:
        stavis.prepare(
            shared / "media" / clip.video,
            data,
            clip.database,
            gaze=shared / "gaze" / clip.gaze,
            options=PrepareOptions(sigma_pixels=clip.sigma_pixels, gaze=GazeOptions(screen=clip.screen)),
        )


def score(group: Group, weights: str, output: Path, jobs: int) -> None:
    """Predicts and scores the test videos of a group, with their sound and without."""
    for sound in SOUNDS:
        name = f"{group.name}_{sound}"
        predict_test_videos(
            data=group.data,
            weights=weights,
            output=output / "maps" / name,
            split=1,
            databases=group.databases,
            settings=RunSettings(sound=sound, stride=group.stride),
        )
        stavis.evaluate(
            output / "maps" / name,
            group.data,
            output / "scores" / name,
            databases=group.databases,
            split=1,
            stride=group.stride,
            baselines=group.baselines if sound == "normal" else (),
            jobs=jobs,
        )


def make_table(groups: list[Group], output: Path) -> str:
    """The scores of every database: the weights' with sound and without, the center prior's, other observers'."""
    head = ["videos", "maps", *(METRIC_NAMES[m] for m in METRICS), "NSS - center prior"]
    lines = [head, ["---", "---", *["---:"] * (len(METRICS) + 1)]]
    for group in groups:
        own = output / "scores" / f"{group.name}_normal"
        center = read_evaluation(own, "center")
        rows = {
            "these weights": read_evaluation(own),
            "- without sound": read_evaluation(output / "scores" / f"{group.name}_silent"),
        }
        if "inter-observer" in group.baselines:
            rows["one observer by the others"] = read_evaluation(own, "inter-observer")
        comparisons = {name: compare(center, evaluation) for name, evaluation in rows.items()}
        for database in group.databases:
            with_sound = comparisons["these weights"]
            videos = [video for name, video in with_sound.videos if name == database]
            title = database if len(videos) == 1 else f"{database} ({len(videos)})"
            # One video's interval is over its seconds, several videos' over the videos.
            found = {
                name: one.videos[database, videos[0]] if len(videos) == 1 else one.databases[database]
                for name, one in comparisons.items()
            }
            before = found["these weights"]
            lines.append([title, "center prior", *(format_score(before[m].before) for m in METRICS), ""])
            for name, differences in found.items():
                cells = [format_score(differences[m].after) for m in METRICS]
                lines.append(["", name, *cells, format_difference(differences["nss"])])
    return "\n".join(map(markdown_line, lines)) + "\n"


if __name__ == "__main__":
    main()
