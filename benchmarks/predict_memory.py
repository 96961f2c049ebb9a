"""Peak memory of `stavis predict` on a video's first 30 seconds and on 10 minutes of it, looped.

    python benchmarks/predict_memory.py VIDEO [--minutes 10] [--stride 24] [--outputs overlay,npz]

Every pipeline stage sees every frame; only the network is spared by the stride, as its memory does not depend on the
length. Prints a table.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from media_memory import loop_video


def peak_megabytes(arguments: list[str]) -> float:
    """Runs the command line in a process of its own; its peak resident memory."""
    process = subprocess.Popen([sys.executable, "-m", "stavis", *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"stavis {' '.join(arguments)} failed")
    return usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--stride", type=int, default=24)
    parser.add_argument("--outputs", default="overlay,npz")
    parser.add_argument("--weights", default="untrained")
    parser.add_argument(
        "--engine", default="torch", help="OpenVINO's compilation alone takes more than all the rest"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / f"long{options.video.suffix}"
        loop_video(options.video, long, options.minutes * 60)
        common = ["predict", str(long), "--weights", options.weights, "--stride", str(options.stride)]
        common += ["--outputs", options.outputs, "--quiet", "--engine", options.engine]
        short_peak = peak_megabytes([*common, "--output", f"{folder}/short", "--end", "30"])
        long_peak = peak_megabytes([*common, "--output", f"{folder}/long"])
    print(f"{options.video.name}, {options.outputs}, stride {options.stride}, engine {options.engine}")
    print(f"first 30 s  {short_peak:8.0f} MB")
    print(f"{options.minutes:g} min      {long_peak:8.0f} MB")
    print(f"difference  {long_peak - short_peak:8.0f} MB")


if __name__ == "__main__":
    main()
