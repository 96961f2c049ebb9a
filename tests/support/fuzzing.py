"""Readers for the fuzz test and files for them to read. Run as a program, it reads mutated files of one kind.

A kind of file is added by adding it to `KINDS`: a function that writes good files to a folder, and one that reads
a file as the package does for a user.
"""

import io
import json
import os
import random
import resource
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

MAX_SECONDS = 60
MAX_MEGABYTES = 2048


class Kind(NamedTuple):
    write: Callable[[Path], list[Path]]
    read: Callable[[Path], object]


def write_media(folder: Path) -> list[Path]:
    import numpy as np
    from PIL import Image

    from support.videos import make_video, numbered_picture, tone

    sounds = [("aac", tone(1, 16000, num_channels=2), 16000, 0.0)]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(numbered_picture(5)).save(folder / "image.jpg", exif=exif)
    frames = [Image.fromarray(numbered_picture(i)) for i in range(3)]
    frames[0].save(folder / "animated.webp", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "pages.tiff", save_all=True, append_images=frames[1:])
    wide = [np.zeros((18, 640, 3), np.uint8)] * 3
    return [
        make_video(folder / "a.mp4", 20, sounds=sounds),
        make_video(folder / "a.mkv", 20, sounds=[("flac", tone(1, 16000), 16000, 0.2)]),
        make_video(folder / "a.ts", 20, sounds=sounds),
        make_video(folder / "a.avi", 20, codec="mpeg4", sounds=[("libmp3lame", tone(1, 16000), 16000, 0.0)]),
        make_video(folder / "a.flv", 20, codec="flv1", sounds=[("libmp3lame", tone(1, 22050), 22050, 0.0)]),
        make_video(folder / "a.webm", wide, codec="libvpx-vp9"),
        make_video(folder / "a.gif", 8, codec="gif", pixel_format="rgb8"),
        folder / "image.jpg",
        folder / "animated.webp",
        folder / "pages.tiff",
    ]


def read_media(path: Path) -> None:
    """Reads frames and audio, and writes the video again, as a prediction does."""
    from stavis.media import AudioReader, VideoWriter, probe, read_frames

    info = probe(path)
    with tempfile.TemporaryDirectory() as folder, AudioReader(path) as audio:
        size = {"width": info.width, "height": info.height, "frame_rate": info.frame_rate}
        with VideoWriter(Path(folder) / "copy.mp4", audio_from=path, **size) as writer:  # type: ignore[arg-type]
            for frame in read_frames(path):
                center = round(frame.time_seconds * audio.sample_rate)
                audio.read(center, max(center, audio.find_end(center, center + 16000)))
                writer.write(frame.image, frame.time_seconds)


def write_gaze(folder: Path) -> list[Path]:
    rows = [(i % 3, 0.04 * i, 10 + i, 20 + i) for i in range(60)]
    lines = [f"{observer},{time:.2f},{x},{y}" for observer, time, x, y in rows]
    table = "\n".join(["observer,time,x,y", *lines]) + "\n"
    (folder / "talk.csv").write_text(table)
    (folder / "talk.tsv").write_text(table.replace(",", "\t"), encoding="utf-16")
    diem = "\n".join(f"{i + 1} {x}.0 {y}.0 4.1 1 {x}.0 {y}.0 4.0 1" for i, (_, _, x, y) in enumerate(rows))
    (folder / "talk.txt").write_text(diem + "\n")
    return [folder / "talk.csv", folder / "talk.tsv", folder / "talk.txt"]


def read_gaze(path: Path) -> None:
    from stavis.gaze import read_gaze as read

    read([path], video="talk", width=160, height=120)


def write_archive(folder: Path) -> list[Path]:
    paths = []
    for mode, name in (("w:gz", "a.tar.gz"), ("w", "a.tar")):
        with tarfile.open(folder / name, mode) as archive:  # type: ignore[call-overload]
            for number in range(4):
                member = tarfile.TarInfo(f"data/part_{number}/list.txt")
                member.size = 700
                archive.addfile(member, io.BytesIO(bytes(range(70)) * 10))
        paths.append(folder / name)
    return paths


def read_archive(path: Path) -> None:
    from stavis.fetching.archive import unpack

    with tempfile.TemporaryDirectory() as folder:
        unpack(path, Path(folder) / "unpacked", max_ratio=100)


def write_checkpoint(folder: Path) -> list[Path]:
    import torch

    from stavis.clips.preprocess import Preprocessing
    from stavis.model import ModelConfig, STAViS
    from stavis.weights import save_model

    config = ModelConfig("visual", 10, preprocessing=Preprocessing(input_size=(64, 64)))
    network = STAViS(config)
    save_model(network, folder / "weights")
    small = {f"module.{name}": value for name, value in network.state_dict().items() if value.numel() < 5000}
    torch.save({"state_dict": small, "epoch": 3}, folder / "small.pth")
    weights = next(path for path in (folder / "weights").iterdir() if path.suffix == ".safetensors")
    return [weights, folder / "small.pth"]


def read_checkpoint(path: Path) -> None:
    from stavis.weights import load_model

    load_model(path, device="cpu")


KINDS = {
    "media": Kind(write_media, read_media),
    "gaze": Kind(write_gaze, read_gaze),
    "archive": Kind(write_archive, read_archive),
    "checkpoint": Kind(write_checkpoint, read_checkpoint),
}


def mutate(content: bytes, source: random.Random) -> bytes:
    """Damages a file as broken disks, cut copies and hostile authors do; most damage is near its beginning."""
    data = bytearray(content)
    for _ in range(source.choice([1, 1, 2, 5, 20])):
        place = min(int(source.random() ** source.choice([1, 3]) * len(data)), len(data) - 1)
        kind = source.choice(["byte", "bit", "number", "delete", "repeat", "zeros", "cut", "digits"])
        if kind == "byte":
            data[place] = source.randrange(256)
        elif kind == "bit":
            data[place] ^= 1 << source.randrange(8)
        elif kind == "number":
            number = source.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, source.getrandbits(32)])
            data[place : place + 4] = number.to_bytes(4, source.choice(["little", "big"]))
        elif kind == "delete":
            del data[place : place + source.choice([1, 4, 188, 1000])]
        elif kind == "repeat":
            data[place:place] = data[place : place + source.choice([1, 16, 500])] * source.choice([1, 3, 50])
        elif kind == "zeros":
            size = source.choice([8, 64, 2000])
            data[place : place + size] = bytes(len(data[place : place + size]))
        elif kind == "cut" and source.random() < 0.3:
            del data[max(1, place) :]
        elif kind == "digits":
            data[place : place + 3] = source.choice([b"9e9", b"nan", b"-1\0", b"999", b",,;"])
        if not data:
            return b"\0"
    return bytes(data)


def judge(read: Callable[[Path], object], path: Path) -> str:
    """Reads a file in a child process; returns what is wrong with how that ended, or nothing."""
    from stavis.errors import StavisError

    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiver)
        problem = ""
        try:
            read(path)
        except StavisError as error:
            problem = f"not one line: {error!r}" if "\n" in str(error) or not str(error) else ""
        except BaseException as error:
            problem = f"{type(error).__name__}: {error}"
        os.write(sender, problem.encode(errors="replace")[:4000])
        os._exit(0)
    os.close(sender)
    deadline = time.monotonic() + MAX_SECONDS * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    status, usage = 0, None
    while usage is None and time.monotonic() < deadline:
        done, status, used = os.wait4(child, os.WNOHANG)
        usage = used if done else None
        time.sleep(0 if done else 0.005)
    if usage is None:
        os.kill(child, signal.SIGKILL)
        os.wait4(child, 0)
        os.close(receiver)
        return f"took more than {MAX_SECONDS} s"
    with os.fdopen(receiver, "rb") as pipe:
        problem = pipe.read().decode(errors="replace")
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    if usage.ru_maxrss > MAX_MEGABYTES * 1024:
        return f"took {usage.ru_maxrss // 1024} MB"
    return problem


def main(name: str, num_files: int, folder: Path) -> None:
    """Prints the problems found, as a JSON list; files that cause them stay in `folder`."""
    kind = KINDS[name]
    paths = kind.write(folder)
    kind.read(paths[0])  # imports what the child processes need
    contents = [(path.suffix, path.read_bytes()) for path in paths]
    problems = []
    for number in range(num_files):
        source = random.Random(f"{name} {number}")
        suffix, content = contents[number % len(contents)]
        path = folder / f"talk_{number}{suffix}"
        path.write_bytes(mutate(content, source) if number >= len(contents) else content)
        if problem := judge(kind.read, path):
            problems.append(f"{path.name}: {problem}")
        else:
            path.unlink()
    print(json.dumps(problems))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
