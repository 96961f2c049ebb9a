"""Speed of decoding videos to RGB and of writing them.

    python benchmarks/media_speed.py CLIP...

prints the frames per second of `read_frames` and of `read_frames` with a `VideoWriter` with audio, and how many times
faster than real time audio is read.
"""

import sys
import tempfile
import time
from pathlib import Path

from stavis.media import AudioReader, VideoWriter, probe, read_frames


def main() -> None:
    print(f"{'clip':<28} {'size':>10} {'read/s':>8} {'rewrite/s':>9} {'sound x':>8}")
    for path in map(Path, sys.argv[1:]):
        info = probe(path)
        began = time.perf_counter()
        num_frames = sum(1 for _ in read_frames(path))
        reading = time.perf_counter() - began

        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            with VideoWriter(
                Path(folder) / "copy.mp4",
                width=info.width,
                height=info.height,
                frame_rate=info.frame_rate,
                audio_from=path,
            ) as writer:
                for frame in read_frames(path):
                    writer.write(frame.image, frame.time_seconds)
        writing = time.perf_counter() - began

        began = time.perf_counter()
        with AudioReader(path) as sound:
            seconds = (sound.num_samples or 0) / sound.sample_rate
            sound.read(0, sound.num_samples or 0)
        listening = time.perf_counter() - began
        size = f"{info.width}x{info.height}"
        speeds = f"{num_frames / reading:>8.0f} {num_frames / writing:>9.0f} {seconds / listening:>8.0f}"
        print(f"{path.name:<28} {size:>10} {speeds}")


if __name__ == "__main__":
    main()
