"""Small archives of the published data, good ones and others."""

import gzip
import io
import os
import random
import tarfile
from pathlib import Path

from stavis.datasets.layout import DATABASES

FRAMES = "video_frames/AVAD"


def noise(seed: str, num_bytes: int) -> bytes:
    return random.Random(seed).randbytes(num_bytes)


def make_archive(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """A gzipped tar file of files (bytes) and of whatever else a TarInfo can say."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, member in members.items():
            if isinstance(member, bytes):
                info = tarfile.TarInfo(name)
                info.size = len(member)
                info.mtime = 1_500_000_000
                tar.addfile(info, io.BytesIO(member))
            else:
                tar.addfile(member)
    return gzip.compress(buffer.getvalue(), mtime=0)


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info


def frames_of(database: str = "AVAD", num_videos: int = 3, num_bytes: int = 2000) -> dict[str, bytes]:
    return {
        f"v{video}/img_{frame:05d}.jpg": noise(f"{database}{video}{frame}", num_bytes)
        for video in range(num_videos)
        for frame in (1, 2)
    }


def content_of(part: str) -> dict[str, bytes]:
    """A small stand-in for what the site has of a part: paths below the part's folder."""
    kind, _, database = part.partition("/")
    if kind == "video_frames":
        return frames_of(database)
    if kind == "video_audio":
        return {f"v{video}/v{video}.wav": noise(f"{part}{video}", 500) for video in range(3)}
    if kind == "annotations":
        names = ("maps/eyeMap_00001.jpg", "fixMap_00001.mat", "maps/eyeMap_00002.jpg")
        return {
            f"v{video}/{name}": noise(f"{part}{video}{name}", 300) for video in range(3) for name in names
        }
    if kind == "fold_lists":
        names = [
            f"{d}_list_{s}_{k}_fps.txt"
            for d in DATABASES
            if d != "DIEM"
            for s in ("train", "test")
            for k in (1, 2, 3)
        ]
        names += ["DIEM_list_train_fps.txt", "DIEM_list_test_fps.txt"]
        return {name: f"v0 2 25.000000 \n# {name}"[:16].encode() for name in names}
    return {
        "stavis_visual_only/visual_split1_save_60.pth": noise("v", 900),
        "stavis_audiovisual/audiovisual_split1_save_60.pth": noise("av", 900),
        "resnet-50-kinetics.pth": noise("r", 900),
        "soundnet8.pth": noise("s", 900),
    }


def archive_of(part: str, prefix: str | None = None, content: dict[str, bytes] | None = None) -> bytes:
    prefix = part.rpartition("/")[2] + "/" if prefix is None else prefix
    return make_archive({prefix + name: data for name, data in (content or content_of(part)).items()})


ALL_PARTS = [
    "fold_lists",
    "pretrained_models",
    *(f"{kind}/{name}" for kind in ("video_audio", "annotations", "video_frames") for name in DATABASES),
]


def archives_of_one_length() -> tuple[bytes, bytes]:
    """Two versions of an archive that nothing but their content tells apart."""
    tars = [gzip.decompress(archive_of(FRAMES, content=frames_of(seed))) for seed in ("first", "second")]
    first, second = (gzip.compress(tar, compresslevel=0, mtime=0) for tar in tars)
    assert len(first) == len(second)
    return first, second


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder, what `fetch` keeps for itself aside."""
    paths = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    found = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        for name, path in found.items()
        if not name.startswith(".stavis-fetch/")
    }
