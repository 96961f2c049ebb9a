"""Peak memory of `stavis predict`: whether it grows with the length, and what each engine takes.

    python benchmarks/predict_memory.py VIDEO [--minutes 10] [--stride 24] [--outputs maps,overlay] [--engines torch]

For each engine three commands, a line each: the video's first 30 seconds with an empty cache (OpenVINO compiles the
network), the same again, and the video repeated until it lasts so many minutes. With --minutes 0 the last one is
left out. Every pipeline stage sees every frame; only the network is spared by the stride, as its memory does not depend
on the length. A megabyte is 10^6 bytes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from media_memory import loop_video


def peak_megabytes(arguments: list[str], cache: str) -> float:
    """Runs the command line in a process of its own; its peak resident memory."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stavis", *arguments], env={**os.environ, "XDG_CACHE_HOME": cache}
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"stavis {' '.join(arguments)} failed")
    return usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--stride", type=int, default=24)
    parser.add_argument("--outputs", default="maps,overlay")
    parser.add_argument("--weights", default="untrained", help="the published network's size by default")
    parser.add_argument("--engines", default="torch")
    options = parser.parse_args()
    print(f"{options.video.name}, {options.outputs}, stride {options.stride}")
    with tempfile.TemporaryDirectory() as folder:
        common = ["--weights", options.weights, "--stride", str(options.stride), "--outputs", options.outputs]
        common += ["--quiet", "--overwrite", "--output", f"{folder}/output"]
        commands = {
            "30 s, first command": [str(options.video), "--end", "30"],
            "30 s, later command": [str(options.video), "--end", "30"],
        }
        if options.minutes:
            long = Path(folder) / f"long{options.video.suffix}"
            loop_video(options.video, long, options.minutes * 60)
            commands[f"{options.minutes:g} min"] = [str(long)]
        for engine in options.engines.split(","):
            for name, what in commands.items():
                peak = peak_megabytes(["predict", *what, *common, "--engine", engine], f"{folder}/{engine}")
                print(f"{engine:10}{name:20}{peak:8.0f} MB", flush=True)


if __name__ == "__main__":
    main()
