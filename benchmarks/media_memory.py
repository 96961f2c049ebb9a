"""Peak memory of decoding a long video, compared with its first 30 seconds.

    python benchmarks/media_memory.py CLIP [MINUTES]

makes a video of 10 (or MINUTES) minutes by repeating the packets of CLIP. It reads frames and audio of both in separate
processes, in the windows that a prediction reads.
"""

import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av

from stavis.media import AudioReader, probe, read_frames

CLIP_LENGTH = 16  # frames of sound around each picture
SHORT_SECONDS = 30.0


def loop_video(source: Path, target: Path, seconds: float) -> None:
    """Repeats the packets of `source`'s first video and audio stream until `target` lasts `seconds`."""
    with av.open(str(target), "w") as output:
        offset = Fraction(0)
        streams = None
        while offset < seconds:
            with av.open(str(source)) as clip:
                chosen = [*clip.streams.video[:1], *clip.streams.audio[:1]]
                streams = streams or [output.add_stream_from_template(stream) for stream in chosen]
                first: dict[int, Fraction] = {}
                period = Fraction(0)
                for packet in clip.demux(chosen):
                    if packet.dts is None or packet.pts is None:
                        continue
                    index = chosen.index(packet.stream)
                    begin = first.setdefault(index, packet.dts * packet.time_base)
                    period = max(period, (packet.dts + (packet.duration or 0)) * packet.time_base - begin)
                    shift = round(offset / packet.time_base)
                    packet.pts += shift
                    packet.dts += shift
                    packet.stream = streams[index]
                    output.mux(packet)
                offset += period


def read(path: Path, seconds: float) -> None:
    """Reads the first `seconds` and prints the number of frames, the frames per second and the peak memory in MB."""
    frame_rate = float(probe(path).frame_rate)
    num_frames = 0
    began = time.perf_counter()
    with AudioReader(path) as sound:
        for frame in read_frames(path, end_seconds=seconds):
            center = frame.time_seconds * sound.sample_rate
            half = CLIP_LENGTH / 2 / frame_rate * sound.sample_rate
            sound.read(round(center - half), round(center + half))
            num_frames += 1
    elapsed = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{num_frames} {num_frames / elapsed:.1f} {peak:.1f}")


def main() -> None:
    if sys.argv[1] == "read":
        read(Path(sys.argv[2]), float(sys.argv[3]))
        return
    clip = Path(sys.argv[1])
    minutes = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    with tempfile.TemporaryDirectory() as folder:
        looped = Path(folder) / f"looped{clip.suffix}"
        loop_video(clip, looped, minutes * 60)
        print(f"{'seconds':>8} {'frames':>8} {'frames/s':>9} {'peak MB':>8}")
        for seconds in (SHORT_SECONDS, minutes * 60):
            command = [sys.executable, __file__, "read", str(looped), str(seconds)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            num_frames, rate, peak = output.split()
            print(f"{seconds:>8.0f} {num_frames:>8} {rate:>9} {peak:>8}")


if __name__ == "__main__":
    main()
