"""Downloads from a server that misbehaves: cuts, lies, error pages, redirects, silence."""

import gzip
import time
from collections import deque
from email.utils import formatdate
from pathlib import Path

import pytest
import requests

from stavis.errors import StavisError
from stavis.fetching import download as download_module
from stavis.fetching.download import DownloadError, download, remote_size
from stavis.fetching.fetch import fetch
from support.archives import FRAMES, archive_of, archives_of_one_length, frames_of, noise, tree
from support.site import Answer, Site, expect_frames, expect_frames_absent, fetch_frames


def test_a_cut_is_resumed_where_it_happened(site: Site, tmp_path: Path, pauses: list[float]) -> None:
    path = site.put(FRAMES, archive_of(FRAMES), Answer(cut_after=1000), Answer(cut_after=3000))
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)
    assert [headers.get("range") for headers in site.gets()] == [None, "bytes=1000-", "bytes=4000-"]
    assert site.gets()[1]["if-range"] == site.etags[path]


def test_a_later_call_resumes_an_interrupted_download(site: Site, tmp_path: Path) -> None:
    site.put(FRAMES, archive_of(FRAMES), Answer(cut_after=5000))
    with pytest.raises(
        StavisError, match=f"{site.url}/data/{FRAMES}.tar.gz: the connection broke off after 5000 of"
    ):
        fetch_frames(site, tmp_path, retries=0)
    assert tree(tmp_path) == {}
    fetch_frames(site, tmp_path, retries=0)
    expect_frames(tmp_path)
    assert site.gets()[-1]["range"] == "bytes=5000-"


@pytest.mark.parametrize("minds_if_range", [True, False])
def test_a_file_that_changed_in_between_is_fetched_whole(
    site: Site, tmp_path: Path, minds_if_range: bool
) -> None:
    path = site.put(FRAMES, archive_of(FRAMES), Answer(cut_after=5000))
    with pytest.raises(StavisError):
        fetch_frames(site, tmp_path, retries=0)
    content = frames_of("changed")
    site.put(FRAMES, archive_of(FRAMES, content=content))
    site.forever[path] = Answer(minds_if_range=minds_if_range)
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path, content)


@pytest.mark.parametrize("changed", ["etag", "date", "length", "range"])
def test_a_partial_answer_that_does_not_fit_is_not_appended(site: Site, tmp_path: Path, changed: str) -> None:
    old, new = archives_of_one_length()
    path = site.put(FRAMES, old, Answer(cut_after=5000))
    site.last_modified[path] = "Mon, 01 Jan 2024 00:00:00 GMT"
    url = f"{site.url}/data/{FRAMES}.tar.gz"
    with pytest.raises(DownloadError, match="broke off after 5000"):
        download(url, tmp_path / "a.tar.gz", retries=0, quiet=True)
    wrong = Answer(minds_if_range=False)
    if changed == "etag":
        site.etags[path] = '"another"'
    elif changed == "date":
        site.last_modified[path] = "Tue, 02 Jan 2024 00:00:00 GMT"
    elif changed == "length":
        new += b"longer"
    else:
        wrong = Answer(status=206, body=new, headers={"Content-Range": f"bytes 0-{len(new) - 1}/{len(new)}"})
    site.files[path] = new
    site.faults[path] = deque([wrong])
    download(url, tmp_path / "a.tar.gz", retries=3, quiet=True)
    assert (tmp_path / "a.tar.gz").read_bytes() == new
    assert [headers.get("range") for headers in site.gets()] == [None, "bytes=5000-", None]


def test_if_range_takes_a_date_instead_of_a_weak_etag(site: Site, tmp_path: Path) -> None:
    path = site.put(FRAMES, archive_of(FRAMES), Answer(cut_after=5000))
    site.etags[path] = 'W/"1"'
    site.last_modified[path] = formatdate(1_500_000_000, usegmt=True)
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)
    assert site.gets()[1]["if-range"] == site.last_modified[path]


def test_pieces_of_two_versions_without_any_validator_are_found_out(site: Site, tmp_path: Path) -> None:
    first, second = archives_of_one_length()
    path = site.put(FRAMES, first, Answer(cut_after=5000))
    del site.etags[path]
    with pytest.raises(StavisError):
        fetch_frames(site, tmp_path, retries=0)
    site.files[path] = second
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path, frames_of("second"))
    assert [headers.get("range") for headers in site.gets()] == [None, "bytes=5000-", None]


def test_a_server_without_ranges_starts_over(site: Site, tmp_path: Path) -> None:
    path = site.put(FRAMES, archive_of(FRAMES), Answer(cut_after=5000))
    site.forever[path] = Answer(knows_ranges=False)
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)


@pytest.mark.parametrize("how", [Answer(chunked=True), Answer(tells_length=False)])
def test_a_server_that_announces_no_length(site: Site, tmp_path: Path, how: Answer) -> None:
    path = site.put(FRAMES, archive_of(FRAMES))
    site.forever[path] = how
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)


@pytest.mark.parametrize("fields", [{"chunked": True}, {"tells_length": False}])
def test_a_cut_without_an_announced_length(site: Site, tmp_path: Path, fields: dict[str, bool]) -> None:
    path = site.put(FRAMES, archive_of(FRAMES), Answer(cut_after=5000, **fields))
    site.forever[path] = Answer(knows_ranges=False, **fields)
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)


def test_a_file_that_became_shorter_starts_over(site: Site, tmp_path: Path) -> None:
    path = site.put(FRAMES, archive_of(FRAMES), Answer(cut_after=5000))
    with pytest.raises(StavisError):
        fetch_frames(site, tmp_path, retries=0)
    content = {"v/img_00001.jpg": b"small"}
    site.put(FRAMES, archive_of(FRAMES, content=content))
    site.forever[path] = Answer(minds_if_range=False)
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path, content)


def test_pieces_without_a_note_or_with_a_broken_one_are_not_trusted(site: Site, tmp_path: Path) -> None:
    archive = archive_of(FRAMES)
    site.put(FRAMES, archive)
    for note in (None, "{", '{"url": "u"}', "[]"):
        (tmp_path / "a.tar.gz.part").write_bytes(b"garbage")
        if note is not None:
            (tmp_path / "a.tar.gz.json").write_text(note)
        download(f"{site.url}/data/{FRAMES}.tar.gz", tmp_path / "a.tar.gz", retries=0, quiet=True)
        assert (tmp_path / "a.tar.gz").read_bytes() == archive
        download_module.remove_download(tmp_path / "a.tar.gz")
        assert list(tmp_path.iterdir()) == []
    assert all("range" not in headers for headers in site.gets())


def test_failures_are_counted_again_after_progress(site: Site, tmp_path: Path, pauses: list[float]) -> None:
    content = {"v/img_00001.jpg": noise("big", 6 << 20)}
    cuts = [Answer(cut_after=1_500_000) for _ in range(4)]
    site.put(FRAMES, archive_of(FRAMES, content=content), *cuts)
    fetch_frames(site, tmp_path, retries=1)
    expect_frames(tmp_path, content)


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(
    site: Site, tmp_path: Path, pauses: list[float]
) -> None:
    path = site.put(FRAMES, archive_of(FRAMES, content={"v/img_00001.jpg": noise("big", 3 << 20)}))
    site.forever[path] = Answer(cut_after=1_500_000, knows_ranges=False)
    with pytest.raises(StavisError, match="broke off after 1500000 of 31"):
        fetch_frames(site, tmp_path)
    # The first brings the file further; three more do not.
    assert len(site.gets()) == 4


def test_a_length_too_great_is_found_out_by_asking_for_the_rest(site: Site, tmp_path: Path) -> None:
    archive = archive_of(FRAMES)
    site.put(FRAMES, archive, Answer(announced=len(archive) + 100))
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)


def test_a_length_always_too_great_is_an_error(site: Site, tmp_path: Path) -> None:
    archive = archive_of(FRAMES)
    path = site.put(FRAMES, archive)
    site.forever[path] = Answer(announced=len(archive) + 100, knows_ranges=False)
    with pytest.raises(StavisError, match=f"broke off after {len(archive)} of {len(archive) + 100} bytes"):
        fetch_frames(site, tmp_path)
    assert tree(tmp_path) == {}


def test_a_length_too_small_is_an_error(site: Site, tmp_path: Path) -> None:
    archive = archive_of(FRAMES)
    path = site.put(FRAMES, archive)
    site.forever[path] = Answer(announced=len(archive) - 100)
    with pytest.raises(StavisError, match=f"{path}: cut short: .* after {len(archive) - 100} bytes"):
        fetch_frames(site, tmp_path)
    expect_frames_absent(tmp_path)


@pytest.mark.parametrize("status", [404, 403, 410, 500, 503])
def test_only_errors_that_may_pass_are_retried(site: Site, tmp_path: Path, status: int) -> None:
    site.forever[site.put(FRAMES, archive_of(FRAMES))] = Answer(status=status)
    with pytest.raises(StavisError, match=rf"^{FRAMES}: {site.url}/data/{FRAMES}.tar.gz: .*status {status}"):
        fetch_frames(site, tmp_path)
    assert len(site.gets()) == (4 if status >= 500 else 1)


def test_another_site_does_not_continue_a_download(site: Site, other_site: Site, tmp_path: Path) -> None:
    site.put(FRAMES, archive_of(FRAMES), Answer(cut_after=5000))
    with pytest.raises(StavisError, match="broke off"):
        fetch_frames(site, tmp_path, retries=0)
    content = frames_of("other")
    other_site.put(FRAMES, archive_of(FRAMES, content=content))
    fetch_frames(other_site, tmp_path)
    expect_frames(tmp_path, content)
    assert "range" not in other_site.gets()[0]


def test_503_is_retried_when_the_server_says(site: Site, tmp_path: Path, pauses: list[float]) -> None:
    soon = formatdate(time.time() + 100, usegmt=True)
    site.put(
        FRAMES,
        archive_of(FRAMES),
        Answer(status=503, headers={"Retry-After": "7"}),
        Answer(status=429, headers={"Retry-After": soon}),
        Answer(status=503, headers={"Retry-After": "rubbish"}),
    )
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)
    assert pauses[0] == 7.0
    assert 90 < pauses[1] <= 100
    assert 4.0 <= pauses[2] <= 4.5


def test_a_retry_after_of_an_hour_is_given_up(site: Site, tmp_path: Path, pauses: list[float]) -> None:
    path = site.put(FRAMES, archive_of(FRAMES))
    site.forever[path] = Answer(status=503, headers={"Retry-After": "3600"})
    with pytest.raises(StavisError, match="status 503 Service Unavailable and asks to come back in 3600 s"):
        fetch_frames(site, tmp_path)
    assert pauses == []


def test_pauses_double_and_have_an_end(site: Site, tmp_path: Path, pauses: list[float]) -> None:
    path = site.put(FRAMES, archive_of(FRAMES))
    site.forever[path] = Answer(status=500)
    with pytest.raises(StavisError, match="status 500"):
        fetch_frames(site, tmp_path, retries=9)
    assert len(pauses) == 9
    assert pauses[0] == 0.0
    for number, pause in enumerate(pauses[1:], 1):
        assert min(2.0**number, 60.0) <= pause <= min(2.0**number + 0.5, 60.0)


LOGIN = b"<!DOCTYPE html><html><title>Log in</title><form>...</form></html>"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (LOGIN, "not an archive: the server sent text/html; charset=utf-8 beginning with '<!DOCTYPE html>"),
        (b"", "not an archive: the server sent text/html"),
        (b"PK\x03\x04 a zip file", r"not an archive: .* beginning with 'PK"),
        (gzip.compress(LOGIN), "damaged, or not a tar file"),
        (gzip.compress(b""), "damaged, or not a tar file"),
    ],
    ids=["login", "nothing", "zip", "gzipped page", "gzipped nothing"],
)
def test_a_page_instead_of_an_archive_is_an_error(
    site: Site, tmp_path: Path, page: bytes, message: str
) -> None:
    path = site.put(FRAMES, archive_of(FRAMES))
    site.forever[path] = Answer(body=page, headers={"Content-Type": "text/html; charset=utf-8"})
    with pytest.raises(StavisError, match=f"http://127.0.0.1:{site.port}{path}: {message}"):
        fetch_frames(site, tmp_path)
    expect_frames_absent(tmp_path)


def test_an_error_page_does_not_discard_a_partial_download(site: Site, tmp_path: Path) -> None:
    path = site.put(FRAMES, archive_of(FRAMES), Answer(cut_after=5000))
    site.forever[path] = Answer(body=LOGIN)
    with pytest.raises(StavisError, match="not an archive"):
        fetch_frames(site, tmp_path)
    del site.forever[path]
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)
    assert site.gets()[-1]["range"] == "bytes=5000-"


def test_redirects_are_followed_ranges_and_all(site: Site, tmp_path: Path) -> None:
    there = site.put("elsewhere", archive_of(FRAMES), Answer(cut_after=5000))
    path = f"/stavis/data/{FRAMES}.tar.gz"
    site.forever[path] = Answer(status=302, headers={"Location": there})
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)
    assert [headers.get("range") for headers in site.gets()] == [None, None, "bytes=5000-", "bytes=5000-"]


def test_redirects_have_an_end(site: Site, tmp_path: Path) -> None:
    path = f"/stavis/data/{FRAMES}.tar.gz"
    site.forever[path] = Answer(status=302, headers={"Location": path})
    with pytest.raises(StavisError, match="redirected more than 5 times, or in a circle"):
        fetch_frames(site, tmp_path)
    for step in range(10):
        site.forever[f"/step{step}"] = Answer(status=302, headers={"Location": f"/step{step + 1}"})
    site.forever[path] = Answer(status=302, headers={"Location": "/step0"})
    site.requests.clear()
    with pytest.raises(StavisError, match="redirected more than 5 times"):
        fetch_frames(site, tmp_path)
    assert len(site.gets()) <= 6


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[::1", "http://127.0.0.1:x/"]
)
def test_redirects_lead_to_http_only(site: Site, tmp_path: Path, target: str) -> None:
    site.forever[f"/stavis/data/{FRAMES}.tar.gz"] = Answer(status=302, headers={"Location": target})
    with pytest.raises(StavisError, match=r"neither http nor https|not a valid URL"):
        fetch_frames(site, tmp_path)
    assert len(site.gets()) == 1


def test_silence_counts_as_a_broken_connection(site: Site, tmp_path: Path) -> None:
    site.put(FRAMES, archive_of(FRAMES), Answer(silent_seconds=1.0))
    fetch_frames(site, tmp_path, retries=1, timeout_seconds=0.2)
    expect_frames(tmp_path)
    assert len(site.gets()) == 2


def test_unreachable_host(closed_url: str, tmp_path: Path, pauses: list[float]) -> None:
    with pytest.raises(
        StavisError, match=r"20 of 20 parts not fetched: fold_lists: .*no connection to the host.*17 more"
    ):
        fetch(data=tmp_path, base_url=closed_url, retries=3, quiet=True)
    assert len(pauses) == 3


def test_a_failed_part_does_not_stop_the_others(site: Site, tmp_path: Path) -> None:
    site.put("video_audio/AVAD", archive_of("video_audio/AVAD"))
    site.put(FRAMES, archive_of(FRAMES))
    with pytest.raises(StavisError, match=r"1 of 3 parts not fetched: annotations/AVAD: .*not found"):
        fetch(
            ["datasets", "annotations", "audio"],
            databases=["AVAD"],
            data=tmp_path,
            base_url=site.url,
            retries=0,
            quiet=True,
        )
    assert len(tree(tmp_path)) == 9


@pytest.mark.parametrize(
    "url", ["", "cvsp.cs.ntua.gr", "file:///tmp", "http://", "http://a b/", "http://a?b", "http://a:b/"]
)
def test_invalid_base_urls(url: str, tmp_path: Path) -> None:
    with pytest.raises(StavisError, match="not a base URL"):
        fetch(data=tmp_path, base_url=url)


def test_impossible_retries_and_timeouts() -> None:
    for bad in ({"retries": -1}, {"timeout_seconds": 0.0}):
        with pytest.raises(ValueError, match="allowed: >= 0, > 0"):
            fetch(**bad)  # type: ignore[arg-type]


def test_sizes_come_from_head_requests(site: Site) -> None:
    path = site.put(FRAMES, archive_of(FRAMES))
    url = f"{site.url}/data/{FRAMES}.tar.gz"
    assert remote_size(url) == len(site.files[path])
    site.forever["/stavis/moved"] = Answer(status=301, headers={"Location": path})
    assert remote_size(f"{site.url}/moved") == len(site.files[path])
    assert {method for method, _, _ in site.requests} == {"HEAD"}
    site.forever[path] = Answer(body=LOGIN, headers={"Content-Type": "text/html"})
    with pytest.raises(DownloadError, match="a web page, not an archive"):
        remote_size(url)
    site.has_head = False
    assert remote_size(url) is None


# --- archives that are not the usual .tar.gz, errors that no retry mends ---


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("num_layers", [0, 2, 3])
def test_archives_compressed_again_or_not_at_all_are_unpacked(
    site: Site, tmp_path: Path, num_layers: int, announced: bool
) -> None:
    archive = gzip.decompress(archive_of(FRAMES))
    for _ in range(num_layers):
        archive = gzip.compress(archive)
    path = site.put(FRAMES, archive)
    site.forever[path] = Answer(headers={"Content-Encoding": "gzip"} if announced and num_layers else {})
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)
    assert len(site.gets()) == 1


@pytest.mark.parametrize("num_bytes", [0, 1, 300])
def test_a_plain_tar_file_cut_in_its_first_block_is_resumed(
    site: Site, tmp_path: Path, num_bytes: int
) -> None:
    site.put(FRAMES, gzip.decompress(archive_of(FRAMES)), Answer(cut_after=num_bytes))
    fetch_frames(site, tmp_path)
    expect_frames(tmp_path)


def test_too_many_layers_are_not_an_archive(site: Site, tmp_path: Path) -> None:
    archive = archive_of(FRAMES)
    for _ in range(3):
        archive = gzip.compress(archive)
    site.put(FRAMES, archive)
    with pytest.raises(StavisError, match="damaged, or not a tar file"):
        fetch_frames(site, tmp_path)


@pytest.mark.parametrize(
    ("variable", "proxy", "message"),
    [
        ("all_proxy", "socks5h://127.0.0.1:9", "SOCKS proxies need the package PySocks"),
        ("http_proxy", "socks4://127.0.0.1:9", "SOCKS proxies need the package PySocks"),
        ("http_proxy", "http://127.0.0.1:9", "through the proxy http://127.0.0.1:9 .*: .*refused"),
        ("http_proxy", "http://", "http_proxy, https_proxy or all_proxy name it"),
        ("http_proxy", "http:///nowhere", "http_proxy, https_proxy or all_proxy name it"),
    ],
)
def test_a_proxy_that_cannot_work_is_named_at_once(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pauses: list[float],
    variable: str,
    proxy: str,
    message: str,
) -> None:
    def missing(
        *arguments: object, **options: object
    ) -> None:  # what requests has where PySocks is not installed
        raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")

    monkeypatch.setattr("requests.adapters.SOCKSProxyManager", missing)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv(variable, proxy)
    site.put(FRAMES, archive_of(FRAMES))
    with pytest.raises(StavisError, match=message) as error:
        fetch_frames(site, tmp_path)
    assert "\n" not in str(error.value)
    assert pauses == []
    assert site.requests == []


def test_an_unknown_host_is_not_retried(tmp_path: Path, pauses: list[float]) -> None:
    with pytest.raises(StavisError, match=r"no connection to the host: "):
        fetch_frames("http://stavis.invalid/x", tmp_path)
    # Some resolvers say that they do not know now; that may pass.
    assert pauses == [] or len(pauses) == 3


def test_an_invalid_certificate_is_not_retried(site: Site, tmp_path: Path, pauses: list[float]) -> None:
    with pytest.raises(StavisError, match=r"no connection to the host: .*(SSL|wrong version)"):
        fetch_frames(f"https://127.0.0.1:{site.port}/stavis", tmp_path)
    assert pauses == []


def test_a_refusing_proxy_is_not_retried(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{site.port}")
    with pytest.raises(StavisError, match=r"through the proxy http://127.*: Tunnel connection failed: 407"):
        fetch_frames("https://127.0.0.1:9/stavis", tmp_path)
    assert pauses == []
