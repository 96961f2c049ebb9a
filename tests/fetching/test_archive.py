"""Archives that should not be trusted: hostile and damaged ones."""

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stavis.errors import StavisError
from stavis.fetching.archive import ArchiveError, refuse_links_out, unpack
from support.archives import FRAMES, archive_of, frames_of, make_archive, noise, special, tree
from support.site import Site, expect_frames_absent, fetch_frames

GOOD = {"AVAD/v/img_00001.jpg": b"1"}


def raw_header(name: str, size: int, kind: bytes = b"0") -> bytes:
    """A tar header by hand, for sizes that tarfile would not write."""
    encoded = (256**12 + size).to_bytes(12, "big") if size < 0 else f"{size:011o}\0".encode()
    block = bytearray(
        name.encode().ljust(100, b"\0")
        + b"0000644\0"
        + b"0000000\0" * 2
        + encoded
        + b"00000000000\0"
        + b" " * 8
        + kind
    ).ljust(512, b"\0")
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def gzipped_blocks(*blocks: bytes) -> bytes:
    return gzip.compress(b"".join(block + b"\0" * (-len(block) % 512) for block in blocks) + b"\0" * 1024)


def nested_pax_headers(num: int) -> bytes:
    record = b"12 path=AVAD\n"[:12]
    return gzipped_blocks(
        *[part for _ in range(num) for part in (raw_header("x", len(record), b"x"), record)]
    )


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "absolute path": (lambda: make_archive({**GOOD, "/tmp/stavis-evil": b"x"}), "absolute path"),
    "parent path": (lambda: make_archive({**GOOD, "AVAD/../../../evil": b"x"}), r"'\.\.' in its path"),
    "parent folder": (
        lambda: make_archive({**GOOD, "..": special("..", tarfile.DIRTYPE)}),
        r"'\.\.' in its path",
    ),
    "absolute link": (
        lambda: make_archive({**GOOD, "l": special("AVAD/l", tarfile.SYMTYPE, "/etc/passwd")}),
        "a link to the absolute path '/etc/passwd'",
    ),
    "link out": (
        lambda: make_archive({**GOOD, "l": special("AVAD/l", tarfile.SYMTYPE, "../../../evil")}),
        "not plain data|a link out|a link to nothing",
    ),
    "write through a link": (
        lambda: make_archive({**GOOD, "l": special("AVAD/l", tarfile.SYMTYPE, "v"), "AVAD/l/f": b"x"}),
        "twice",
    ),
    "write through a link out": (
        lambda: make_archive({**GOOD, "l": special("AVAD/l", tarfile.SYMTYPE, "../.."), "AVAD/l/evil": b"x"}),
        "not plain data|twice",
    ),
    "links that lead out together": (
        lambda: make_archive(
            {
                "AVAD/a/b/c/f": b"x",
                **GOOD,
                "up": special("AVAD/a/b/c/up", tarfile.SYMTYPE, "../../.."),
                "out": special("AVAD/out", tarfile.SYMTYPE, "a/b/c/up/../../.."),
            }
        ),
        "a link out|not plain data",
    ),
    "link to nothing": (
        lambda: make_archive({**GOOD, "l": special("AVAD/l", tarfile.SYMTYPE, "w")}),
        "a link to nothing",
    ),
    "link to itself": (
        lambda: make_archive({**GOOD, "l": special("AVAD/l", tarfile.SYMTYPE, "l")}),
        "a link to nothing",
    ),
    "link out of the part": (
        lambda: make_archive({**GOOD, "README": b"r", "l": special("AVAD/l", tarfile.SYMTYPE, "../README")}),
        "a link out",
    ),
    "long link": (
        lambda: make_archive({**GOOD, "l": special("AVAD/l", tarfile.SYMTYPE, "w/" * 5000)}),
        "not a path of 1 to 1024 bytes",
    ),
    "hard link out": (
        lambda: make_archive({**GOOD, "h": special("AVAD/h", tarfile.LNKTYPE, "../../../evil")}),
        r"not plain data|'\.\.' in its path",
    ),
    "absolute hard link": (
        lambda: make_archive({**GOOD, "h": special("AVAD/h", tarfile.LNKTYPE, "/etc/passwd")}),
        "a link to the absolute path",
    ),
    "hard link to nothing": (
        lambda: make_archive({**GOOD, "h": special("AVAD/h", tarfile.LNKTYPE, "AVAD/w")}),
        "not a file before it",
    ),
    "hard link to a folder": (
        lambda: make_archive({**GOOD, "h": special("AVAD/h", tarfile.LNKTYPE, "AVAD/v")}),
        "not a file before it",
    ),
    "character device": (lambda: make_archive({**GOOD, "d": special("AVAD/d", tarfile.CHRTYPE)}), "a device"),
    "block device": (lambda: make_archive({**GOOD, "d": special("AVAD/d", tarfile.BLKTYPE)}), "a device"),
    "fifo": (lambda: make_archive({**GOOD, "d": special("AVAD/d", tarfile.FIFOTYPE)}), "a device"),
    "unknown kind": (lambda: make_archive({**GOOD, "d": special("AVAD/d", b"Z")}), "a device"),
    "one name twice": (lambda: make_archive({**GOOD, "./AVAD/v/img_00001.jpg": b"2"}), "occurs twice"),
    "link over a file": (
        lambda: make_archive(
            {**GOOD, "h": special("AVAD/v/img_00001.jpg", tarfile.SYMTYPE, "img_00002.jpg")}
        ),
        "occurs twice",
    ),
    "hard link over a file": (
        lambda: make_archive(
            {**GOOD, "AVAD/f": b"2", "h": special("AVAD/f", tarfile.LNKTYPE, "AVAD/v/img_00001.jpg")}
        ),
        "occurs twice",
    ),
    "file over a folder": (lambda: make_archive({**GOOD, "AVAD/v": b"2"}), "occurs twice"),
    "folder over a file": (
        lambda: make_archive({**GOOD, "AVAD/v/img_00001.jpg/f": b"2"}),
        "both a file and a folder",
    ),
    "long name": (lambda: make_archive({**GOOD, "AVAD/" + "n" * 256: b"x"}), "a name above 255"),
    "long path": (lambda: make_archive({**GOOD, "AVAD/" + "d/" * 5000 + "f": b"x"}), "a path above 1024"),
    "no name": (lambda: gzipped_blocks(raw_header("./.", 1), b"x"), "has no name"),
    "zeros": (lambda: make_archive({**GOOD, "AVAD/zeros": bytes(65 << 20)}), "bomb"),
    "zeros after the end": (
        lambda: gzip.compress(gzip.decompress(make_archive(dict(GOOD))) + bytes(65 << 20), compresslevel=1),
        "bomb",
    ),
    "zeros compressed twice": (
        lambda: gzip.compress(
            gzip.compress(raw_header("AVAD/f", 65 << 20) + bytes(65 << 20), compresslevel=1)
        ),
        "bomb",
    ),
    "long header": (
        lambda: gzipped_blocks(raw_header("x", 64 << 20, b"x"), b"30 path=x\n"),
        "a header of 67108864 bytes",
    ),
    "headers of headers": (lambda: nested_pax_headers(3000), "damaged|bomb"),
    "negative size": (lambda: gzipped_blocks(raw_header("AVAD/f", -512)), "damaged"),
    "negative header": (lambda: gzipped_blocks(raw_header("x", -1024, b"L")), "damaged"),
    "broken header": (
        lambda: gzipped_blocks(raw_header("AVAD/f", 1), b"x", b"\1" * 512, raw_header("AVAD/g", 1), b"y"),
        "no valid entry at byte 1024",
    ),
    "size beyond the end": (
        lambda: gzip.compress(raw_header("AVAD/f", 9000) + b"x" * 512),
        "unexpected end of data",
    ),
    "not a tar file": (lambda: gzip.compress(b"text" * 500), "not a tar file"),
    "rubbish behind": (lambda: make_archive(dict(GOOD)) + b"rubbish", "not a tar file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(site: Site, tmp_path: Path, name: str) -> None:
    make, message = HOSTILE[name]
    path = site.put(FRAMES, make())
    (tmp_path / "evil").write_bytes(b"innocent")
    with pytest.raises(StavisError, match=message) as error:
        fetch_frames(site, tmp_path / "data")
    assert path in str(error.value)
    assert str(error.value).count("\n") == 0
    assert len(str(error.value)) < 400
    expect_frames_absent(tmp_path / "data")
    assert {entry.name for entry in tmp_path.iterdir()} == {"evil", "data"}
    assert (tmp_path / "evil").read_bytes() == b"innocent"
    assert (tmp_path / "evil").stat().st_nlink == 1
    assert not Path("/tmp/stavis-evil").exists()


def test_sparse_files_and_too_many_entries_are_refused(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 20)
        file.seek(1 << 20)
        file.write(b"end")
    for form in ("gnu", "posix"):
        subprocess.run(
            ["tar", "-C", tmp_path, f"--format={form}", "-S", "-czf", tmp_path / "sparse.tar.gz", "sparse"],
            check=True,
        )
        with pytest.raises(ArchiveError, match="a sparse file"):
            unpack(tmp_path / "sparse.tar.gz", tmp_path / form, max_ratio=1000.0)
    (tmp_path / "many.tar.gz").write_bytes(archive_of(FRAMES))
    with pytest.raises(ArchiveError, match="bomb: over 5 entries"):
        unpack(tmp_path / "many.tar.gz", tmp_path / "many", max_ratio=20.0, max_members=5)


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.size": "abc"},
        {"GNU.sparse.map": "x,y", "GNU.sparse.size": "4"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f"},
    ],
)
def test_broken_headers_of_sparse_files_are_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    info = tarfile.TarInfo("f")
    info.size = 600
    info.pax_headers = headers
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"z" * 600))
    with pytest.raises(ArchiveError, match=r"a\.tar: damaged, or not a tar file"):
        unpack(tmp_path / "a.tar", tmp_path / "out", max_ratio=200)


def test_good_archives_of_the_usual_tools_are_taken(tmp_path: Path) -> None:
    """GNU tar in its formats, links inside, names in any script, permissions that would lock us out."""
    source = tmp_path / "AVAD"
    (source / "vidéo 1" / "deep" / ("x" * 90)).mkdir(parents=True)
    (source / "vidéo 1" / "img_00001.jpg").write_bytes(noise("a", 100_000))
    (source / "vidéo 1" / "deep" / ("x" * 90) / "f").write_bytes(b"")
    os.link(source / "vidéo 1" / "img_00001.jpg", source / "hard")
    (source / "soft").symlink_to("vidéo 1/img_00001.jpg")
    (source / "folder").symlink_to("vidéo 1/deep")
    os.utime(source / "hard", (1_400_000_000, 1_400_000_000))
    (source / "hard").chmod(0o4777)
    for form in ("gnu", "posix", "ustar"):
        archive = tmp_path / f"{form}.tar.gz"
        subprocess.run(["tar", "-C", tmp_path, f"--format={form}", "-czf", archive, "AVAD"], check=True)
        seen: list[int] = []
        result = unpack(archive, tmp_path / form, max_ratio=20.0, advance=seen.append)
        assert tree(tmp_path / form / "AVAD") == tree(source)
        assert result.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
        assert sum(seen) == archive.stat().st_size
        assert result.num_files == 5
        assert {str(link) for link in result.links} == {"AVAD/soft", "AVAD/folder"}
        hard = (tmp_path / form / "AVAD" / "hard").stat()
        assert hard.st_mtime == 1_400_000_000
        assert hard.st_mode & 0o7111 == 0
        refuse_links_out(archive, tmp_path / form, result.links, tmp_path / form / "AVAD")


def decompresses_to(archive: bytes, content: bytes) -> bool:
    try:
        return gzip.decompress(archive) == content
    except (OSError, EOFError, zlib.error):
        return False


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_cut_or_changed_archive_never_passes_for_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    archive = archive_of(FRAMES, content=frames_of(num_videos=2, num_bytes=200))
    (folder / "whole.tar.gz").write_bytes(archive)
    unpack(folder / "whole.tar.gz", folder / "whole", max_ratio=20.0)
    if data.draw(st.booleans(), label="cut"):
        damaged = archive[: data.draw(st.integers(0, len(archive) - 1))]
    else:
        # The first ten bytes say when, by which system and with which name it was compressed.
        position = data.draw(st.integers(10, len(archive) - 1))
        changed = archive[position] ^ data.draw(st.integers(1, 255))
        damaged = archive[:position] + bytes([changed]) + archive[position + 1 :]
        # Some bits say nothing, as those that fill the compressed data's last byte.
        assume(not decompresses_to(damaged, gzip.decompress(archive)))
    (folder / "damaged.tar.gz").write_bytes(damaged)
    with pytest.raises(ArchiveError):
        unpack(folder / "damaged.tar.gz", folder / "damaged", max_ratio=20.0)


NAMES = st.text(st.sampled_from("ab./\\~\0é\n"), max_size=12) | st.sampled_from(
    ["..", "a/../..", "/a", "./a", "a//b"]
)


@settings(max_examples=150, deadline=None)
@given(members=st.lists(st.tuples(NAMES, NAMES, st.sampled_from([b"0", b"1", b"2", b"5"])), max_size=8))
def test_no_member_name_escapes_the_folder(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("names")
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "a").write_bytes(b"outside")
    archive = make_archive(
        {
            str(i): special(name, kind, link if kind in (b"1", b"2") else "")
            for i, (name, link, kind) in enumerate(members)
        }
    )
    (folder / "archive.tar.gz").write_bytes(archive)
    out = folder / "deep" / "er" / "out"
    try:
        unpack(folder / "archive.tar.gz", out, max_ratio=20.0)
    except ArchiveError:
        pass
    else:
        for path in out.rglob("*"):
            assert path.resolve().is_relative_to(out.resolve())
    assert sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if out not in [path, *path.parents]
    ) == [
        "archive.tar.gz",
        "deep",
        "deep/a",
        "deep/er",
    ]
    assert (folder / "deep" / "a").stat().st_nlink == 1
