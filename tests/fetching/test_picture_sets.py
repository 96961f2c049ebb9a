"""Picture sets, fetched as archives of their GitHub repositories."""

import tarfile
from pathlib import Path

import pytest

from stavis import fetch
from stavis.errors import StavisError
from stavis.fetching.site import select_parts
from support.archives import make_archive, noise
from support.site import Answer, Site, Stavis

# Sets of pictures: the repository at GitHub, its commit, and the folder of the fixations in it.
PICTURES = {
    "osie": ("NUS-VIP/predicting-human-gaze-beyond-pixels", "4a467890", "eye"),
    "eyecrowd": ("NUS-VIP/saliency-in-crowd", "8bb0416e", "eye"),
    "scene500": ("Yanakz/Scene", "2cf042b0", "tidy"),
}


def put_picture_set(site: Site, name: str, extra: dict[str, bytes | tarfile.TarInfo] | None = None) -> str:
    """What GitHub sends: a redirect to a stream of unknown length with everything below one folder."""
    repository, commit, folder = PICTURES[name]
    top = f"{repository.partition('/')[2]}-{commit}"
    files = {f"data/{folder}/fixations.mat": noise(name, 400), "README.md": b"#", "src/demo.m": b"%"}
    files |= {f"data/stimuli/{i:03d}.jpg": noise(f"{name}{i}", 900) for i in range(1, 4)}
    archive = make_archive({f"{top}/{path}": data for path, data in files.items()} | (extra or {}))
    path = f"/stavis/{repository}/archive/{commit}.tar.gz"
    there = f"/codeload/{name}"
    site.files[there] = archive
    site.forever[there] = Answer(chunked=True, knows_ranges=False)
    site.forever[path] = Answer(status=302, headers={"Location": there})
    return path


def test_picture_sets_come_from_their_repositories_at_one_commit(
    site: Site, tmp_path: Path, stavis: Stavis
) -> None:
    paths = [put_picture_set(site, name) for name in PICTURES]
    status, output, errors = stavis("pictures", "--data", tmp_path, "--base-url", site.url)
    assert (status, output) == (0, f"3 parts in {tmp_path}: 3 fetched, 0 there already\n")
    assert (
        f"picture_sets/osie: 3 pictures, 6 files, 3.1 kB in {tmp_path / 'picture_sets' / 'osie'}\n" in errors
    )
    assert [path for method, path, _ in site.requests if method == "GET" and path in paths] == paths
    for name, (_, _, folder) in PICTURES.items():
        assert (tmp_path / "picture_sets" / name / "data" / folder / "fixations.mat").read_bytes() == noise(
            name, 400
        )
        assert len(list((tmp_path / "picture_sets" / name / "data" / "stimuli").glob("*.jpg"))) == 3
    site.requests.clear()
    assert stavis("pictures", "--data", tmp_path, "--base-url", site.url)[0] == 0
    assert site.requests == []


def test_addresses_of_the_picture_sets() -> None:
    urls = [part.url(None) for part in select_parts(["pictures"])]
    assert urls == [
        f"https://github.com/{repo}/archive/{commit}.tar.gz" for repo, commit, _ in PICTURES.values()
    ]
    assert all(part.kind.name != "pictures" for part in select_parts())
    with pytest.raises(StavisError, match="no database 'AVAD'; databases are osie, eyecrowd, scene500"):
        select_parts(["pictures"], ["AVAD"])
    assert [part.name for part in select_parts(["pictures", "audio"], ["osie", "AVAD"])] == [
        "video_audio/AVAD",
        "picture_sets/osie",
    ]


def test_a_picture_set_is_unpacked_with_all_checks(site: Site, tmp_path: Path) -> None:
    put_picture_set(site, "osie", {"x/../../evil": b"x"})
    with pytest.raises(StavisError, match=r"archive/4a467890.tar.gz: refused: .*'\.\.' in its path"):
        fetch(["pictures"], databases=["osie"], data=tmp_path, base_url=site.url, quiet=True)
    assert not (tmp_path / "picture_sets" / "osie").exists()


def test_a_repository_without_the_pictures_is_an_error(site: Site, tmp_path: Path) -> None:
    put_picture_set(site, "eyecrowd")
    site.files["/codeload/eyecrowd"] = make_archive({"saliency-in-crowd-8bb0416e/README.md": b"moved"})
    with pytest.raises(StavisError, match=r"contains no picture_sets/eyecrowd: in it are 'README.md'"):
        fetch(["pictures"], databases=["eyecrowd"], data=tmp_path, base_url=site.url, quiet=True)
