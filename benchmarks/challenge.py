"""Scores a long 1080p challenge video with `stavis evaluate` and in the way of the published script.

    python benchmarks/challenge.py                            # 2,000 frames, 40 of them in the published way
    python benchmarks/challenge.py --frames 200 --published-frames 20

Data are generated: 10-bit ground truth, an 8-bit prediction, 100 fixations per frame. The published way is written anew
from a description of its steps: both videos are decoded to PNG files by FFmpeg's command line, which are read again
frame by frame, averaged over channels, scaled to 0..1, resized bilinearly, and scored by plain numpy code that passes
over the map once for every fixation. Its scores must agree. One process each (FFmpeg has threads of its own); memory
and scratch space are watched from outside.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from stavis.maps.bilinear import resize_bilinear

SIZE = (1080, 1920)
FIXATIONS = 100
FRAME_RATE = 30
OURS = """
import sys, stavis
data, out = sys.argv[1:]
options = {"protocol": "challenge", "quirks": "reference", "jobs": 1, "references": False, "report": False}
stavis.evaluate(data + "/maps", data, out, **options)
"""


def blobs(frame: int, shift: float) -> np.ndarray:
    """(H, W) in 0..1: two Gaussians that move."""
    y, x = ((np.arange(n) + 0.5) / n for n in SIZE)
    total = np.zeros(SIZE, np.float32)
    for k, weight in ((0, 1.0), (1, 0.6)):
        cx, cy = 0.5 + 0.3 * np.sin(frame / 90 + k + shift), 0.5 + 0.25 * np.cos(frame / 70 + 2 * k)
        down, across = np.exp(-((y - cy) ** 2) / 0.01), np.exp(-((x - cx) ** 2) / 0.004)
        total += np.outer(down * weight, across).astype(np.float32)
    return total / total.max()


def write_data(root: Path, num_frames: int) -> None:
    rng = np.random.default_rng(0)
    lists = []
    for folder in (root / "SaliencyTest", root / "maps", root / "FixationsTest" / "long"):
        folder.mkdir(parents=True)
    outputs = [(root / "SaliencyTest" / "long.mp4", 10, 0.0), (root / "maps" / "long.mp4", 8, 0.4)]
    for path, bits, shift in outputs:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", FRAME_RATE, options={"crf": "0", "preset": "ultrafast"})
            stream.height, stream.width = SIZE
            stream.pix_fmt = "yuv420p10le" if bits == 10 else "yuv420p"
            for i in range(num_frames):
                values = blobs(i, shift)
                gray = (values * 65535).astype(np.uint16) if bits == 10 else (values * 255).astype(np.uint8)
                frame = av.VideoFrame.from_ndarray(gray, "gray16le" if bits == 10 else "gray")
                container.mux(stream.encode(frame))
                if bits == 10:
                    chosen = rng.choice(
                        values.size // 64, FIXATIONS, p=(p := values[::8, ::8].ravel()) / p.sum()
                    )
                    lists.append(
                        [[int(c) // (SIZE[1] // 8) * 8, int(c) % (SIZE[1] // 8) * 8] for c in chosen]
                    )
            container.mux(stream.encode())
    (root / "FixationsTest" / "long" / "fixations.json").write_text(json.dumps(lists))
    (root / "TrainTestSplit.json").write_text(json.dumps({"private_test": ["long"]}))


# --- The published way ------------------------------------------------------------------------------------------------


def decode_to_images(video: Path, folder: Path, num_frames: int) -> None:
    folder.mkdir(parents=True)
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        str(video),
        "-frames:v",
        str(num_frames),
        str(folder / "%03d.png"),
    ]
    subprocess.run(command, check=True)


def read_image(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        kind = "rgb48le" if "48" in frame.format.name else "rgb24"
        values = frame.reformat(format=kind).to_ndarray().mean(axis=2)
    values = values - values.min()
    return values / (values.max() + 2.0**-23)


def plain_scores(p: np.ndarray, g: np.ndarray, fixations: list[list[int]]) -> list[float]:
    zp, zg = ((v - v.mean()) / (v.std() + 1e-7) for v in (p, g))
    cc = (zp * zg).sum() / np.sqrt((zp**2).sum() * (zg**2).sum() + 1e-7)
    sim = np.minimum(p / (p.sum() + 1e-7), g / (g.sum() + 1e-7)).sum()
    rows, columns = np.array(fixations).T
    nss = zp[rows, columns].mean()
    thresholds = np.sort(p[rows, columns])[::-1]
    rates = [(0.0, 0.0)]
    for k, threshold in enumerate(thresholds, 1):
        above = (p >= threshold).sum()
        rates.append(((above - k) / (p.size - 2), k / len(thresholds)))
    false_positives, true_positives = zip(*rates, (1.0, 1.0), strict=True)
    return [cc, sim, nss, np.trapezoid(true_positives, false_positives)]


def score_in_the_published_way(root: Path, scratch: Path, num_frames: int) -> list[list[float]]:
    decode_to_images(root / "SaliencyTest" / "long.mp4", scratch / "truth", num_frames)
    decode_to_images(root / "maps" / "long.mp4", scratch / "maps", num_frames)
    lists = json.loads((root / "FixationsTest" / "long" / "fixations.json").read_text())
    scores = []
    for truth, image, points in zip(
        sorted((scratch / "truth").iterdir()), sorted((scratch / "maps").iterdir()), lists, strict=False
    ):
        g = read_image(truth)
        scores.append(plain_scores(resize_bilinear(read_image(image), g.shape), g, points))
    return scores


# --- Measuring --------------------------------------------------------------------------------------------------------


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def watch(command: list[str], scratch: Path) -> tuple[float, float, list[int], int]:
    """Wall-clock and processor seconds, memory over time, and the most scratch space, in bytes."""
    environment = os.environ | {"TMPDIR": str(scratch), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    begin, before = time.perf_counter(), os.times()
    process = subprocess.Popen(command, env=environment)
    memory, most = [], 0
    while process.poll() is None:
        time.sleep(0.25)
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            continue
        memory += [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")]
        most = max(most, folder_bytes(scratch))
    if process.returncode:
        raise SystemExit("the command failed")
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - begin, used, memory, most


def report(name: str, num_frames: int, measured: tuple[float, float, list[int], int]) -> None:
    wall, used, memory, scratch = measured
    quarters = [memory[min(len(memory) - 1, len(memory) * k // 4)] / 1e6 for k in (1, 2, 3, 4)]
    print(
        f"| {name} | {num_frames} | {num_frames / wall:.2f} | {num_frames / used:.2f} | "
        f"{' / '.join(f'{q:.0f}' for q in quarters)} | {scratch / 1e6:.1f} ({scratch / num_frames / 1e6:.2f}) |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--published-frames", type=int, default=40)
    parser.add_argument("--only-published", nargs=2, metavar=("ROOT", "SCRATCH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    num_published = min(arguments.published_frames, arguments.frames)
    if arguments.only_published:
        root, scratch = map(Path, arguments.only_published)
        scores = score_in_the_published_way(root, scratch, num_published)
        (root / "published.json").write_text(json.dumps(scores))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        write_data(root, arguments.frames)
        print(
            "| way | frames | frames per second | per second of processor time | memory at 1/4, 1/2, 3/4, end (MB) |",
            end="",
        )
        print(" scratch, MB (per frame) |\n|---|---:|---:|---:|---|---:|")
        for name, num, command in (
            (
                "stavis evaluate",
                arguments.frames,
                [sys.executable, "-c", OURS, str(root), str(Path(folder) / "out")],
            ),
            (
                "published, written anew",
                num_published,
                [sys.executable, __file__, "--published-frames", str(num_published), "--only-published"],
            ),
        ):
            scratch = Path(folder) / f"scratch{num}{name[:3]}"
            scratch.mkdir()
            if "--only-published" in command:
                command += [str(root), str(scratch)]
            report(name, num, watch(command, scratch))
        record = json.loads(next((Path(folder) / "out" / "videos").rglob("predictions.json")).read_text())
        theirs = np.array(json.loads((root / "published.json").read_text()))
        ours = np.array([record["scores"][m][:num_published] for m in ("cc", "sim", "nss", "auc_judd")]).T
        difference = np.abs(ours - theirs).max(axis=0)
        print(f"\nLargest differences of CC, SIM, NSS, AUC-Judd: {', '.join(f'{d:.0e}' for d in difference)}")
        if (difference > (1e-9, 1e-9, 1e-9, 3e-4)).any():
            raise SystemExit("the two ways differ")


if __name__ == "__main__":
    main()
