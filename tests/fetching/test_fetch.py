"""`stavis fetch`: parts, checksums, disk space, what is there already, and the command."""

import gzip
import hashlib
import json
from pathlib import Path

import filelock
import pytest

from stavis.datasets.layout import DATABASES
from stavis.errors import StavisError
from stavis.fetching import download as download_module
from stavis.fetching import fetch as fetch_module
from stavis.fetching.fetch import fetch
from stavis.fetching.site import PART_NAMES, select_parts
from support.archives import ALL_PARTS, FRAMES, archive_of, content_of, frames_of, make_archive, tree
from support.site import Answer, Site, Stavis, expect_frames, expect_frames_absent, fetch_frames, run_process


def test_all_parts_arrive_in_the_published_layout(site: Site, tmp_path: Path) -> None:
    for part in ALL_PARTS:
        site.put(part, archive_of(part))
    fetched = fetch(data=tmp_path, base_url=site.url, retries=3, quiet=True)
    assert tree(tmp_path) == {
        f"{part}/{name}": data for part in ALL_PARTS for name, data in content_of(part).items()
    }
    assert [part.part.name for part in fetched] == ALL_PARTS
    assert {
        part.part.name: part.num_items
        for part in fetched
        if "AVAD" in part.part.name or not part.part.database
    } == {
        "fold_lists": 32,
        "pretrained_models": 4,
        "video_audio/AVAD": 3,
        "annotations/AVAD": 3,
        "video_frames/AVAD": 3,
    }
    frames = fetched[ALL_PARTS.index(FRAMES)]
    assert (frames.num_files, frames.num_bytes, frames.status) == (6, 12000, "fetched")
    assert frames.sha256 == hashlib.sha256(archive_of(FRAMES)).hexdigest()


def test_a_finished_part_is_never_fetched_twice(site: Site, tmp_path: Path) -> None:
    site.put(FRAMES, archive_of(FRAMES))
    fetch_frames(site, tmp_path)
    site.requests.clear()
    [again] = fetch_frames(site, tmp_path)
    assert site.requests == []
    assert again.status == "finished"
    assert again.num_files == 6


def test_parts_and_databases_are_selected_by_name() -> None:
    assert [part.name for part in select_parts(["audio"], ["DIEM", "AVAD"])] == [
        "video_audio/AVAD",
        "video_audio/DIEM",
    ]
    assert select_parts("audio", "AVAD") == select_parts(["audio"], ["AVAD"])
    assert [part.name for part in select_parts(["weights", "lists"])] == ["fold_lists", "pretrained_models"]
    assert [part.name for part in select_parts()] == ALL_PARTS
    with pytest.raises(
        StavisError, match="no part 'frames'; parts are datasets, annotations, audio, lists, weights"
    ):
        select_parts(["frames"])
    with pytest.raises(StavisError, match=r"no database 'diem'; databases are AVAD, .*DIEM"):
        select_parts([], ["diem"])


@pytest.mark.parametrize(
    "prefix", ["AVAD/", "./AVAD/", "video_frames/AVAD/", "data/video_frames/AVAD/", "", "./", "avad/"]
)
def test_an_archive_may_start_anywhere_in_the_path(site: Site, tmp_path: Path, prefix: str) -> None:
    site.put(FRAMES, archive_of(FRAMES, prefix))
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)


@pytest.mark.parametrize(
    "part", ["fold_lists", "pretrained_models", "annotations/SumMe", "video_audio/SumMe"]
)
@pytest.mark.parametrize("prefix", ["", "data/{part}/", "./{last}/"])
def test_archives_of_other_parts_may_start_anywhere_in_the_path(
    site: Site, tmp_path: Path, part: str, prefix: str
) -> None:
    site.put(part, archive_of(part, prefix.format(part=part, last=part.rpartition("/")[2])))
    name = {
        "fold_lists": "lists",
        "pretrained_models": "weights",
        "annotations": "annotations",
        "video_audio": "audio",
    }
    fetch(
        [name[part.partition("/")[0]]],
        databases=["SumMe"],
        data=tmp_path,
        base_url=site.url,
        retries=0,
        quiet=True,
    )
    assert tree(tmp_path) == {f"{part}/{name}": data for name, data in content_of(part).items()}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"DIEM/v/img_00001.jpg": b"x"}, "contains DIEM instead of video_frames/AVAD"),
        ({"AVAD/v/v.wav": b"x"}, "contains no video_frames/AVAD"),
        ({"AVAD/v/img_00001.jpg": b"x", "other/v/img_00001.jpg": b"x"}, "in it are 'AVAD', 'other'"),
        ({}, "in it are nothing|empty"),
    ],
)
def test_an_archive_of_something_else_is_an_error(
    site: Site, tmp_path: Path, members: dict[str, bytes], message: str
) -> None:
    site.put(FRAMES, make_archive(dict(members)))
    with pytest.raises(StavisError, match=message):
        fetch_frames(site, tmp_path)
    assert tree(tmp_path) == {}


def test_files_outside_the_part_are_left_out_and_reported(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {f"AVAD/{name}": data for name, data in frames_of().items()}
    litter = {"README": b"1", "._AVAD": b"2", "AVAD/.DS_Store": b"3", "AVAD/v0/._img_00001.jpg": b"4"}
    site.put(FRAMES, make_archive({**content, **litter}))
    [fetched] = fetch_frames(site, tmp_path, quiet=False)
    expect_frames(tmp_path)
    assert fetched.num_files == 6
    assert fetched.num_bytes == 12000
    assert "4 files of the archive left out" in capsys.readouterr().err


def set_free(monkeypatch: pytest.MonkeyPatch, num_bytes: int) -> None:
    usage = type("Usage", (), {"free": num_bytes})
    monkeypatch.setattr(fetch_module.shutil, "disk_usage", lambda path: usage)


@pytest.mark.parametrize("has_head", [True, False])
def test_insufficient_space_is_reported_before_anything_is_written(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_head: bool
) -> None:
    path = site.put(FRAMES, archive_of(FRAMES))
    site.has_head = has_head
    set_free(monkeypatch, fetch_module.SPARE_BYTES + 10_000)
    with pytest.raises(StavisError, match=r"not enough room for .*about 67\.1 MB needed.* 67\.1 MB free"):
        fetch_frames(site, tmp_path)
    assert len(site.gets()) == (0 if has_head else 1)
    expect_frames_absent(tmp_path)
    set_free(monkeypatch, fetch_module.SPARE_BYTES + 3 * len(site.files[path]) + 50_000)
    fetch_frames(site, tmp_path)


def test_an_endless_file_stops_when_the_room_does(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = site.put(FRAMES, archive_of(FRAMES))
    site.forever[path] = Answer(tells_length=False)
    set_free(monkeypatch, fetch_module.SPARE_BYTES + 5000)
    monkeypatch.setattr(download_module, "CHUNK_BYTES", 10)
    with pytest.raises(StavisError, match="not enough room"):
        fetch_frames(site, tmp_path)
    assert (tmp_path / ".stavis-fetch" / "archives" / f"{FRAMES}.tar.gz.part").stat().st_size < 6000


def test_too_little_room_to_unpack_keeps_the_archive(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Many small files take more room than the check beforehand can know.
    content = {f"v/img_{frame:05d}.jpg": b"x" for frame in range(1, 101)}
    site.put(FRAMES, archive_of(FRAMES, content=content))
    set_free(monkeypatch, fetch_module.SPARE_BYTES + 100_000)
    with pytest.raises(StavisError, match="needs more room unpacked than the 100000 bytes free"):
        fetch_frames(site, tmp_path)
    assert tree(tmp_path) == {}
    set_free(monkeypatch, 1 << 40)
    site.requests.clear()
    fetch_frames(site, tmp_path)
    assert site.gets() == []
    expect_frames(tmp_path, content)


def remove_folder(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def test_the_checksum_is_recorded_and_checked_when_a_part_is_fetched_again(
    site: Site, tmp_path: Path
) -> None:
    site.put(FRAMES, archive_of(FRAMES))
    [first] = fetch_frames(site, tmp_path)
    remove_folder(tmp_path / FRAMES)
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)

    remove_folder(tmp_path / FRAMES)
    changed = archive_of(FRAMES, content=frames_of("changed"))
    site.put(FRAMES, changed)
    with pytest.raises(StavisError) as error:
        fetch_frames(site, tmp_path)
    assert str(first.sha256) in str(error.value)
    assert hashlib.sha256(changed).hexdigest() in str(error.value)
    assert tree(tmp_path) == {}

    site.requests.clear()
    [taken] = fetch_frames(site, tmp_path, accept_changed=True)
    assert site.gets() == []
    assert taken.sha256 == hashlib.sha256(changed).hexdigest()
    expect_frames(tmp_path, frames_of("changed"))


def rewrapped(archive: bytes, how: str) -> bytes:
    """The same files in an archive of other bytes."""
    if how == "compressed again":
        return gzip.compress(gzip.decompress(archive), compresslevel=1, mtime=1)
    if how == "plain tar":
        return gzip.decompress(archive)
    content = dict(reversed(frames_of().items()))
    return archive_of(FRAMES, "./AVAD/" if how == "other names" else "AVAD/", content)


@pytest.mark.parametrize("how", ["compressed again", "plain tar", "other order", "other names"])
def test_a_changed_archive_of_the_same_files_is_accepted_and_reported(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    site.put(FRAMES, archive_of(FRAMES))
    [first] = fetch_frames(site, tmp_path)
    remove_folder(tmp_path / FRAMES)
    site.put(FRAMES, rewrapped(archive_of(FRAMES), how))
    capsys.readouterr()
    [again] = fetch_frames(site, tmp_path, quiet=False)
    expect_frames(tmp_path)
    assert again.sha256 != first.sha256
    assert "but the files in it are the same as then" in capsys.readouterr().err


def test_a_record_of_the_first_version_is_read(site: Site, tmp_path: Path) -> None:
    site.put(FRAMES, archive_of(FRAMES))
    fetch_frames(site, tmp_path)
    path = tmp_path / ".stavis-fetch" / "state.json"
    state = json.loads(path.read_text())
    del state["parts"][FRAMES]["content_sha256"]
    path.write_text(json.dumps(state))
    remove_folder(tmp_path / FRAMES)
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)


def test_what_was_removed_from_a_fetched_part_is_restored(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.put(FRAMES, archive_of(FRAMES))
    site.put("fold_lists", archive_of("fold_lists"))

    def again() -> list[str]:
        parts = fetch(["lists", "datasets"], databases=["AVAD"], data=tmp_path, base_url=site.url, retries=0)
        return [part.status for part in parts]

    assert again() == ["fetched", "fetched"]
    whole = tree(tmp_path)
    remove_folder(tmp_path / FRAMES / "v1")
    (tmp_path / "fold_lists" / "AVAD_list_test_1_fps.txt").unlink()
    [planned] = fetch(["lists"], data=tmp_path, base_url=site.url, dry_run=True)
    assert planned.status == "missing"
    capsys.readouterr()
    assert again() == ["fetched", "fetched"]
    assert tree(tmp_path) == whole
    assert "fold_lists: 31 of 32 fold lists are there; the others are fetched" in capsys.readouterr().err
    assert again() == ["finished", "finished"]

    changed = next(iter((tmp_path / FRAMES / "v0").iterdir()))
    changed.write_bytes(b"mine")
    remove_folder(tmp_path / FRAMES / "v1")
    with pytest.raises(StavisError, match=f"{changed.name}: differs from the published file"):
        again()
    assert changed.read_bytes() == b"mine"
    changed.unlink()
    assert again() == ["finished", "fetched"]
    assert tree(tmp_path) == whole


def test_a_folder_from_elsewhere_is_left_alone(site: Site, tmp_path: Path) -> None:
    site.put(FRAMES, archive_of(FRAMES))
    mine = tmp_path / FRAMES / "v0" / "img_00001.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    [part] = fetch_frames(site, tmp_path)
    assert part.status == "foreign"
    assert site.requests == []
    assert tree(tmp_path) == {f"{FRAMES}/v0/img_00001.jpg": b"mine"}


def test_an_empty_folder_does_not_count_as_fetched(site: Site, tmp_path: Path) -> None:
    site.put(FRAMES, archive_of(FRAMES))
    (tmp_path / FRAMES).mkdir(parents=True)
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)


def test_a_link_in_place_of_the_folder_is_an_error(site: Site, tmp_path: Path) -> None:
    site.put(FRAMES, archive_of(FRAMES))
    (tmp_path / "disk2").mkdir()
    (tmp_path / "data" / "video_frames").mkdir(parents=True)
    (tmp_path / "data" / FRAMES).symlink_to(tmp_path / "disk2")
    with pytest.raises(StavisError, match="video_frames/AVAD: cannot be put there"):
        fetch_frames(site, tmp_path / "data")
    (tmp_path / "data" / FRAMES).unlink()
    site.requests.clear()
    fetch_frames(site, tmp_path / "data")
    assert site.requests == []
    expect_frames(tmp_path / "data")


def test_own_lists_stay_beside_the_published_ones(site: Site, tmp_path: Path) -> None:
    site.put("fold_lists", archive_of("fold_lists"))
    own = tmp_path / "fold_lists" / "mine_list_test_1_fps.txt"
    own.parent.mkdir()
    own.write_text("v 1 25")
    same = tmp_path / "fold_lists" / "DIEM_list_test_fps.txt"
    same.write_bytes(content_of("fold_lists")[same.name])
    other = tmp_path / "fold_lists" / "AVAD_list_test_1_fps.txt"
    other.write_text("different")
    with pytest.raises(StavisError, match=r"AVAD_list_test_1_fps.txt: differs from the published file"):
        fetch(["lists"], data=tmp_path, base_url=site.url, retries=0, quiet=True)
    assert other.read_text() == "different"
    assert len(list(own.parent.iterdir())) == 3
    other.unlink()
    site.requests.clear()
    [part] = fetch(["lists"], data=tmp_path, base_url=site.url, retries=0, quiet=True)
    assert site.requests == []
    assert part.num_items == 32
    expected = {f"fold_lists/{name}": data for name, data in content_of("fold_lists").items()}
    assert tree(tmp_path) == {**expected, "fold_lists/mine_list_test_1_fps.txt": b"v 1 25"}


@pytest.mark.parametrize("subfolder", ["", "data"])
def test_local_archives_need_no_network(closed_url: str, tmp_path: Path, subfolder: str) -> None:
    archive = tmp_path / "archives" / subfolder / f"{FRAMES}.tar.gz"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(archive_of(FRAMES))
    data = tmp_path / "data"
    pieces = data / ".stavis-fetch" / "archives" / f"{FRAMES}.tar.gz.part"
    pieces.parent.mkdir(parents=True)
    pieces.write_bytes(b"what an interrupted download has left")
    [part] = fetch_frames(closed_url, data, archives=tmp_path / "archives")
    expect_frames(data)
    assert part.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert archive.exists()
    assert not pieces.exists()
    with pytest.raises(
        StavisError, match=r"1 of 2 parts not fetched: annotations/AVAD: .*no annotations/AVAD.tar.gz in it"
    ):
        fetch(
            ["datasets", "annotations"],
            databases=["AVAD"],
            data=data,
            archives=tmp_path / "archives",
            quiet=True,
        )
    with pytest.raises(StavisError, match="nowhere: no such folder of archives"):
        fetch_frames(closed_url, data, archives=tmp_path / "nowhere")


def test_archives_are_kept_on_request_and_used_again(site: Site, tmp_path: Path) -> None:
    site.put(FRAMES, archive_of(FRAMES))
    fetch_frames(site, tmp_path, keep_archives=True)
    fetch_frames(site, tmp_path)
    archive = tmp_path / ".stavis-fetch" / "archives" / f"{FRAMES}.tar.gz"
    assert archive.read_bytes() == archive_of(FRAMES)
    remove_folder(tmp_path / FRAMES)
    site.requests.clear()
    fetch_frames(site, tmp_path)
    assert site.gets() == []
    expect_frames(tmp_path)


def test_one_process_at_a_time(site: Site, tmp_path: Path) -> None:
    site.put(FRAMES, archive_of(FRAMES))
    (tmp_path / ".stavis-fetch").mkdir()
    with filelock.FileLock(tmp_path / ".stavis-fetch" / "lock"):
        with pytest.raises(StavisError, match="another `stavis fetch` is at work there"):
            fetch_frames(site, tmp_path)
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"parts": {"x": {"status": 1}}}', "\udcff"])
def test_a_broken_record_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / ".stavis-fetch").mkdir()
    (tmp_path / ".stavis-fetch" / "state.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StavisError, match=r"state.json: not a record of earlier fetches"):
        fetch(["lists"], data=tmp_path, dry_run=True)


def test_the_command_says_what_arrived(site: Site, tmp_path: Path) -> None:
    site.put(FRAMES, archive_of(FRAMES))
    site.put("fold_lists", archive_of("fold_lists"))
    arguments = ("datasets", "lists", "--databases", "AVAD", "--data", tmp_path, "--base-url", site.url)
    done = run_process(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"2 parts in {tmp_path}: 2 fetched, 0 there already\n"
    assert f"video_frames/AVAD: 3 videos, 6 files, 12.0 kB in {tmp_path / FRAMES}\n" in done.stderr
    assert f"fold_lists: 32 fold lists, 32 files, 512 bytes in {tmp_path / 'fold_lists'}\n" in done.stderr
    assert "video_frames/AVAD.tar.gz: " in done.stderr
    assert "unpacking video_frames/AVAD: " in done.stderr


def test_the_command_again_and_quiet(site: Site, tmp_path: Path, stavis: Stavis) -> None:
    site.put(FRAMES, archive_of(FRAMES))
    arguments = ("datasets", "--databases", "AVAD", "--data", tmp_path, "--base-url", site.url)
    assert stavis(*arguments, "--quiet") == (0, "", "")
    assert stavis(*arguments)[:2] == (0, f"1 part in {tmp_path}: 0 fetched, 1 there already\n")
    assert stavis(*arguments, "-q") == (0, "", "")


def test_dry_run_lists_and_writes_nothing(site: Site, tmp_path: Path, stavis: Stavis) -> None:
    archive = archive_of(FRAMES)
    site.put(FRAMES, archive, Answer(cut_after=5000))
    site.put("annotations/AVAD", archive_of("annotations/AVAD"))
    site.put("video_audio/AVAD", archive_of("video_audio/AVAD"))
    common = ("--databases", "AVAD", "--data", tmp_path, "--base-url", site.url)
    assert stavis("audio", *common)[0] == 0
    status, _, errors = stavis("datasets", *common, "--retries", "0")
    assert status == 1
    assert f"stavis: error: {FRAMES}: " in errors
    (tmp_path / "fold_lists").mkdir()
    site.requests.clear()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    status, output, errors = stavis(*common, "--dry-run")
    assert (status, errors) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert site.gets() == []
    lines = output.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("fold_lists: ")
    assert lines[0].endswith("not found on the server (status 404), size unknown")
    assert lines[2] == f"video_audio/AVAD: there already, from {site.url}/data/video_audio/AVAD.tar.gz"
    assert lines[3].startswith(f"annotations/AVAD: {site.url}/data/annotations/AVAD.tar.gz, ")
    size = f"{len(archive) / 1000:.1f} kB, 5.0 kB of it here"
    assert lines[4] == f"{FRAMES}: {site.url}/data/{FRAMES}.tar.gz, {size}"
    assert lines[5].startswith(f"4 of 5 parts to fetch into {tmp_path}: ")
    assert lines[5].endswith(" and 2 archives of unknown size")
    stavis("--dry-run", "--data", tmp_path / "new", "--base-url", site.url)
    assert not (tmp_path / "new").exists()


def test_the_command_reports_mistakes_in_one_line(tmp_path: Path, stavis: Stavis) -> None:
    for arguments, message in (
        (["frames"], "no part 'frames'; parts are datasets, annotations, audio, lists, weights"),
        (["--databases", "AVAD,DIEM2"], "no database 'DIEM2'; databases are AVAD, Coutrot_db1"),
        (["--base-url", "nowhere"], "'nowhere' is not a base URL"),
        (["--archives", tmp_path / "none"], f"{tmp_path / 'none'}: no such folder of archives"),
    ):
        status, output, errors = stavis(*arguments, "--data", tmp_path)
        assert (status, output) == (1, "")
        assert errors.startswith("stavis: error: ")
        assert message in errors
        assert errors.count("\n") == 1
    _, _, errors = stavis("lists", "--databases", "AVAD", "--archives", tmp_path, "--data", tmp_path)
    assert "note: --databases does not matter for lists" in errors


def test_help_names_all_parts_and_databases(stavis: Stavis) -> None:
    status, output, _ = stavis("--help")
    assert status == 0
    for name in (*DATABASES, *PART_NAMES):
        assert name in output
