"""Measures what listening is worth to the default weights, on generated test videos where sound decides.

    python benchmarks/default_sound.py --output sound-scores --data default-weights/data \
        --visual default-weights/runs/averaged/weights [--weights default] [--stride 10] [--database NAME]

The audiovisual network gets each video's own sound, none, that of another video, and its own shifted in time;
`--visual` is the network that only sees, which it was trained from. `make default-weights` makes both and the videos.
Differences are paired by frame, averaged by video, with 95 % intervals by a bootstrap over videos. What is finished is
not done again.
"""

import argparse
from pathlib import Path

import stavis
from stavis.evaluation.compare import compare, read_evaluation
from stavis.evaluation.tables import markdown_line
from stavis.prediction.testrun import RunSettings, SoundTest, predict_test_videos
from synthetic_experiment import format_difference

SOUNDS: tuple[SoundTest, ...] = ("normal", "silent", "shuffled", "time-shifted")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--visual", required=True, help="weights of the network that only sees")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--stride", type=int, default=10)
    parser.add_argument("--database", default="sound-decides")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    runs: dict[str, tuple[str, SoundTest]] = {"visual": (arguments.visual, "normal")}
    runs |= {sound: (arguments.weights, sound) for sound in SOUNDS}
    for name, (weights, sound) in runs.items():
        maps, scores = arguments.output / "maps" / name, arguments.output / "scores" / name
        settings = RunSettings(sound=sound, stride=arguments.stride)
        databases = [arguments.database]
        predict_test_videos(
            data=arguments.data, weights=weights, output=maps, split=1, databases=databases, settings=settings
        )
        stavis.evaluate(
            maps,
            arguments.data,
            scores,
            databases=databases,
            split=1,
            stride=arguments.stride,
            jobs=arguments.jobs,
        )
    found = {name: read_evaluation(arguments.output / "scores" / name) for name in runs}
    print(markdown_line(["maps", "NSS", "NSS - visual", "CC", "CC - visual"]))
    print(markdown_line(["---", "---:", "---:", "---:", "---:"]))
    for name in runs:
        cells = []
        for metric in ("nss", "cc"):
            difference = compare(found["visual"], found[name]).databases[arguments.database][metric]
            cells += [f"{difference.after:.3f}", "" if name == "visual" else format_difference(difference)]
        print(markdown_line([name, *cells]))
    for name in ("silent", "shuffled", "time-shifted"):
        difference = compare(found[name], found["normal"]).databases[arguments.database]["nss"]
        print(f"own sound - {name}: NSS {format_difference(difference)}")


if __name__ == "__main__":
    main()
