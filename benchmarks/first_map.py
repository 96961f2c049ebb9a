"""How long `stavis predict` takes to write its first map: a first command, with an empty cache, and later ones.

    python benchmarks/first_map.py VIDEO [--seconds 10] [--weights WEIGHTS] [--engine auto]

Each command is ended when its first map is there. Close what else is running.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LONGEST = 120.0  # seconds


def main() -> None:
    """Prints seconds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", type=Path)
    parser.add_argument("--weights", default="untrained", help="the published network's size by default")
    parser.add_argument("--seconds", type=float, default=10, help="of the video that are predicted")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--later", type=int, default=2, help="commands after the first")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        for number in range(1 + arguments.later):
            seconds = time_first_map(arguments, cache)
            print(f"{'first' if number == 0 else 'later'} command: first map after {seconds:.1f} s")


def time_first_map(options: argparse.Namespace, cache: str) -> float:
    """Seconds from the command's start to its first map."""
    with tempfile.TemporaryDirectory() as output:
        command = [
            sys.executable,
            "-m",
            "stavis",
            "predict",
            str(options.video),
            "--output",
            output,
            "--quiet",
        ]
        command += ["--weights", options.weights, "--engine", options.engine, "--outputs", "maps"]
        command += ["--end", str(options.seconds)]
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env={**os.environ, "XDG_CACHE_HOME": cache}, stderr=subprocess.DEVNULL
        )
        try:
            # Maps are written in a hidden folder first.
            while not any(name.endswith(".png") for _, _, names in os.walk(output) for name in names):
                if process.poll() is not None or time.perf_counter() - began > LONGEST:
                    raise SystemExit(f"{options.video}: no map was written")
                time.sleep(0.02)
            return time.perf_counter() - began
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
