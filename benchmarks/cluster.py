"""Cost of the machinery around many videos: `--ray` against `--jobs`, and manifests and indexes of many rows.

    python benchmarks/cluster.py [--videos 200] [--jobs 2] [--frames 50] [--rows 100000]

Predicts the same manifest of copies of a generated 640x360 video with `--jobs` and with `--ray local`, in a process
each, one after the other and the first once more, so that a slow phase of the machine shows. The first run's time
without videos, which starts Python and loads the weights, is measured as well and subtracted: what remains is the cost
per video. Prints seconds and the ratio. Then reads a manifest of many rows, chooses a shard of it, records a result for
each row and writes the index. `--videos 0` or `--rows 0` leaves one of the two out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stavis.bench.machine import peak_megabytes, write_clip


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
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    if options.videos:
        compare(options)
    if options.rows:
        measure_rows(options.rows)


def compare(options: argparse.Namespace) -> None:
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


def measure_rows(num: int) -> None:
    from stavis.prediction.folder import FolderResult
    from stavis.prediction.manifest import Index, choose_shard, read_manifest

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = (f"s3://archive/films/{number:07}.mp4,{37_500_000 + number}" for number in range(num))
        (folder / "videos.csv").write_text("\n".join(["uri,size", *rows]))
        index = Index(folder / "out", (1, 1))
        before = peak_megabytes()
        times = [time.process_time()]
        manifest = read_manifest(folder / "videos.csv")
        choose_shard(manifest, (1, 100))
        times.append(time.process_time())
        read = peak_megabytes()
        for row in manifest:
            index.add(row, FolderResult(folder / "out" / row.name, 1500, 95.5))
        times.append(time.process_time())
        index.write()
        times.append(time.process_time())
        journal = (folder / "out" / "index" / "1-of-1.jsonl").stat().st_size
        print(
            f"{num} rows: manifest and shard {times[1] - times[0]:.1f} s of CPU, {read - before:.0f} MB; ",
            end="",
        )
        print(f"journal {journal / 1e6:.1f} MB in {times[2] - times[1]:.1f} s; ", end="")
        print(f"index {times[3] - times[2]:.1f} s, {peak_megabytes() - read:.0f} MB more")


if __name__ == "__main__":
    main()
