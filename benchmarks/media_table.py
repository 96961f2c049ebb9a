"""Runs `stavis predict` with an overlay on every file of a folder and prints the results as a Markdown table.

    python benchmarks/media_table.py FOLDER [--weights untrained] [--stride 8] [--output DIR]

docs/media-trial.md is its output.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from stavis import media
from stavis.media.suffixes import VIDEO_SUFFIXES


def describe(video: Path, folder: Path, error: str) -> str:
    """One row: the file, what came out of it, and the warnings or the error."""
    if error:
        return f"| {video.name} | refused | | | {error} |"
    summary = json.loads((folder / "summary.json").read_text())
    overlay = media.probe(folder / "overlay.mp4")
    num_overlay = sum(1 for _ in media.read_frames(folder / "overlay.mp4"))
    rate = f"{float(overlay.frame_rate):.4g}"
    sound = "none" if overlay.audio is None else f"{overlay.audio.codec} {overlay.audio.sample_rate} Hz"
    notes = "; ".join(w.replace(str(video), video.name) for w in summary["warnings"])
    size = f"{summary['width']}x{summary['height']}"
    return f"| {video.name} | {summary['num_frames']} maps, {size} | {num_overlay} at {rate} fps | {sound} | {notes} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", default="untrained")
    parser.add_argument("--stride", default="8")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        output = options.output or Path(temporary)
        print("| file | maps | overlay | overlay's sound | said |\n|---|---|---|---|---|")
        for video in sorted(options.folder.iterdir()):
            if video.suffix.lower() not in VIDEO_SUFFIXES:
                continue
            command = [
                sys.executable,
                "-m",
                "stavis",
                "predict",
                str(video),
                "--output",
                str(output),
                "--quiet",
            ]
            command += ["--weights", options.weights, "--stride", options.stride, "--outputs", "overlay"]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            error = ""
            if result.returncode:
                error = result.stderr.strip().splitlines()[-1].removeprefix("stavis: error: ")
            print(describe(video, output / video.stem, error.replace(str(video), video.name)), flush=True)


if __name__ == "__main__":
    main()
