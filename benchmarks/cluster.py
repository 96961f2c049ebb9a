"""Cost of the machinery around many videos: `--ray` against `--jobs`, and requests and bytes per video.

    python benchmarks/cluster.py [--videos 200] [--jobs 2] [--frames 50]

Predicts the same manifest of copies of a generated 640x360 video with `--jobs` and with `--ray local`, in a process
each, one after the other and the first once more, so that a slow phase of the machine shows. The first run's time
without videos, which starts Python and loads the weights, is measured as well and subtracted: what remains is the cost
per video. Prints seconds and the ratio.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stavis.bench.machine import write_clip


def run(manifest: Path, output: Path, *how: str) -> float:
    command = [
        sys.executable,
        "-m",
        "stavis",
        "predict",
        "--manifest",
        str(manifest),
        "--outputs",
        "npz",
        "--quiet",
    ]
    began = time.perf_counter()
    subprocess.run([*command, "--output", str(output), *how], check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--frames", type=int, default=50, help="of each video")
    options = parser.parse_args()
    ways = {"--jobs": ["--jobs", str(options.jobs)], "--ray": ["--jobs", str(options.jobs), "--ray", "local"]}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_clip(folder / "v0.mp4", options.frames, (640, 360))
        for number in range(1, options.videos):
            os.link(folder / "v0.mp4", folder / f"v{number}.mp4")
        for name, num in (("all", options.videos), ("few", options.jobs)):
            rows = [json.dumps({"uri": f"v{number}.mp4", "name": f"v{number}"}) for number in range(num)]
            (folder / f"{name}.jsonl").write_text("\n".join(rows))
        seconds = {}
        for turn, name in enumerate((*ways, "--jobs")):
            few = run(folder / "few.jsonl", folder / f"few{turn}", *ways[name])
            whole = run(folder / "all.jsonl", folder / f"all{turn}", *ways[name])
            each = (whole - few) / (options.videos - options.jobs)
            seconds.setdefault(name, []).append(each)
            print(
                f"{name:7} {options.videos} videos {whole:7.1f} s, {options.jobs} videos {few:6.1f} s",
                end=", ",
            )
            print(f"{each:.3f} s per video more", flush=True)
        base = sum(seconds["--jobs"]) / 2
        print(f"--ray takes {seconds['--ray'][0] / base:.3f} of the time of --jobs per video")


if __name__ == "__main__":
    main()
