"""Downloads: whatever a server does, a file arrives whole, or one sentence says why not; the next run resumes."""

import gzip
import json
import os
import random
import re
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from servers import CLIPS, FILE, LATER, assert_in_place, endless, leave_part, make_zip, md5, tree, trickle

from common import InputError
from datasets import download, session
from datasets.archives import Archive, fetch_archive
from datasets.download import fetch_file, read_url
from tools.runtime import progress

pytestmark = pytest.mark.usefixtures("slept")


# --- resuming ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_etag", [True, False])
def test_a_download_resumes_after_an_interruption(server, raw, slept, has_etag):
    server.has_etag = has_etag
    server.faults = [{"break_after": 50_000}, {"break_after": 30_000}]
    fetch_archive(server.offer(CLIPS), raw)
    first, second, third = server.ranges()
    assert first is None
    assert 40_000 < int(second[6:-1]) <= 50_000
    assert 70_000 < int(third[6:-1]) <= 80_000
    assert slept == [1, 1]  # each try brought something new
    assert_in_place(raw)


def test_a_connection_cut_repeatedly_at_random_bytes_gives_the_whole_file(server, raw, slept):
    generator = random.Random(2023)
    cuts = [generator.randrange(20_000) for _ in range(20)]
    server.faults = [{"break_after": cut} for cut in cuts]
    fetch_archive(server.offer(CLIPS), raw)
    assert len(server.requests) > 5
    assert_in_place(raw)


def test_the_next_run_resumes(server, raw, monkeypatch):
    archive = server.offer(CLIPS)
    server.faults = [{"break_after": 50_000}]
    with monkeypatch.context() as patch, pytest.raises(InputError, match="run again later"):
        patch.setattr(download, "TRIES", 1)
        fetch_archive(archive, raw)
    assert tree(raw / "ToyCar") == {}
    fetch_archive(archive, raw)
    assert int(server.ranges()[1][6:-1]) > 40_000
    assert_in_place(raw)


def test_a_server_may_send_the_rest_in_pieces(server, raw):
    server.longest_range, server.faults = 20_000, [{"break_after": 50_000}]
    fetch_archive(server.offer(CLIPS), raw)
    assert len(server.requests) == 1 + 4
    assert_in_place(raw)


def test_without_ranges_a_download_starts_over(server, raw):
    server.has_ranges = False
    server.faults = [{"break_after": 50_000}]
    fetch_archive(server.offer(CLIPS), raw)
    assert_in_place(raw)


def test_only_interruptions_without_progress_are_limited(server, raw, slept):
    server.faults = [{"break_after": 8_192}] * 10
    fetch_archive(server.offer(CLIPS), raw)
    server.has_ranges, server.faults = False, [{"break_after": 8_192}] * 10
    with pytest.raises(InputError, match=rf"{FILE} cannot be fetched.*{download.TRIES} times in a row"):
        fetch_archive(server.offer(LATER), raw)
    assert tree(raw / "ToyCar") == CLIPS


@pytest.mark.parametrize("has_etag", [True, False])
@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_two_versions_are_never_mixed(server, raw, has_etag, heeds_if_range):
    old, new = server.offer(CLIPS), make_zip(LATER)
    server.has_etag, server.heeds_if_range = has_etag, heeds_if_range
    leave_part(server, old, raw)
    server.files[f"/{FILE}"] = new
    fetch_archive(Archive(old.url, FILE, "ToyCar", md5(new), None), raw)
    assert_in_place(raw, LATER)


def test_a_partial_download_longer_than_the_file_is_discarded(server, raw):
    server.heeds_if_range = False
    leave_part(server, server.offer(CLIPS), raw, after=120_000)
    fetch_archive(server.offer(LATER), raw)  # 416, then the whole
    assert_in_place(raw, LATER)


def test_a_partial_download_is_resumed_only_with_a_valid_description(server, raw):
    archive = server.offer(CLIPS)
    description = raw.parent / "downloads" / f"{FILE}.part.json"
    for change in ({"etag": "x\r\nEvil: 1"}, {"modified": 7}, {"size": "all"}, {"etag": []}, {"url": "elsewhere"}):
        leave_part(server, archive, raw)
        description.write_text(json.dumps(json.loads(description.read_text()) | change))
        server.requests.clear()
        fetch_archive(archive, raw)
        assert server.ranges() == [None]
        assert_in_place(raw)
        shutil.rmtree(raw / "ToyCar")


# --- errors of a server -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(server, raw, slept, status):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    server.faults = [{"status": status, "headers": {"Retry-After": value}} for value in ("7", date, "nonsense")]
    fetch_archive(server.offer(CLIPS), raw)
    assert slept[0] == 7
    assert 60 < slept[1] <= 90
    assert slept[2] == 4  # the back-off of the third failure
    assert_in_place(raw)


def test_a_server_that_asks_to_wait_for_hours_is_not_retried(server, raw, slept):
    server.faults = [{"status": 429, "headers": {"Retry-After": "7200"}}]
    with pytest.raises(InputError, match="asks to wait 7200 s"):
        fetch_archive(server.offer(CLIPS), raw)
    assert slept == []


def test_server_errors_are_retried_with_back_off(server, raw, slept):
    server.faults = [{"status": 500}] * download.TRIES
    with pytest.raises(InputError, match="500"):
        fetch_archive(server.offer(CLIPS), raw)
    assert slept == [1, 2, 4, 8, 16]
    assert len(server.requests) == download.TRIES


def test_a_refused_connection_is_retried(server, raw, slept):
    archive = server.offer(CLIPS, url="http://127.0.0.1:1/x.zip")
    with pytest.raises(InputError, match=r"http://127.0.0.1:1/x.zip cannot be fetched: Connection refused"):
        fetch_archive(archive, raw)
    assert len(slept) == download.TRIES - 1


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_not_retried(server, raw, slept, status):
    server.faults = [{"status": status}]
    with pytest.raises(InputError, match=rf"http://.*{FILE} cannot be fetched: the server answers {status}.*catalogue"):
        fetch_archive(server.offer(CLIPS), raw)
    assert slept == []


def test_an_invalid_address_is_reported(server, raw):
    with pytest.raises(InputError, match="zenodo cannot be fetched"):
        fetch_archive(server.offer(CLIPS, url="zenodo"), raw)


def test_redirects_are_followed_and_their_number_is_limited(server, raw):
    archive = server.offer(CLIPS)
    server.faults = [{"status": 302, "headers": {"Location": f"/{FILE}"}}, {"break_after": 50_000}]
    fetch_archive(archive, raw)
    assert_in_place(raw)
    server.faults = [{"status": 302, "headers": {"Location": "/again"}}] * 30
    with pytest.raises(InputError, match="more than 10 redirects"):
        read_url(server.url("first"))
    server.faults = [{"status": 302, "headers": {"Location": "file:///etc/passwd"}}]
    with pytest.raises(InputError, match="cannot be fetched"):
        read_url(server.url("first"))


# --- files ------------------------------------------------------------------------------------------------------------


def test_pooch_can_use_the_downloader(server, tmp_path):
    import pooch

    archive = server.offer(CLIPS)
    server.faults = [{"break_after": 50_000}]
    path = pooch.retrieve(archive.url, f"md5:{archive.md5}", FILE, tmp_path, downloader=download.download)
    assert Path(path).read_bytes() == server.files[f"/{FILE}"]
    assert os.listdir(tmp_path) == [FILE]  # noqa: PTH208


def test_a_small_file_is_written_whole_or_not_at_all(server, tmp_path):
    path = tmp_path / "labels" / "eval_data_list_2023.csv"
    server.files["/list"] = b"ToyDrone\n"
    server.faults = [{"break_after": 4}, {"status": 503}]
    fetch_file(server.url("list"), path)
    server.faults = [{"status": 404}]
    with pytest.raises(InputError, match="list cannot be fetched"):
        fetch_file(server.url("list"), path)
    assert path.read_bytes() == b"ToyDrone\n"


def test_progress_is_lines_in_a_log_and_a_bar_on_a_terminal(server, raw, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0)
    fetch_archive(server.offer(CLIPS), raw)
    shown = capsys.readouterr().out
    assert re.search(r"^dev_ToyCar.zip: 5\d ?% of [\d.,]+ M?B", shown, re.MULTILINE)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch_archive(server.offer(LATER), raw)
    assert re.search(r"dev_ToyCar.zip .*%.*/60.7k B, ", capsys.readouterr().err)


# --- attacks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "largest", "free", "reason"),
    [
        (b"", 5_000_000, 10**12, r"it sends more than 5\.0 MB, the announced size or what fits on the disk"),
        (b"", 10**10, 10_000_000, r"it sends more than 4\.0 MB"),
        (
            b"\r\nContent-Length: 999999999999",
            10**10,
            10**13,
            r"its size is 999,999\.9+\d* MB|its size is 1,000,000\.0 MB",
        ),
    ],
    ids=["longer than any archive", "longer than the disk takes", "announced longer than any archive"],
)
def test_an_endless_archive_is_refused_and_nothing_is_kept(serve, raw, monkeypatch, head, largest, free, reason):
    monkeypatch.setattr(download, "LARGEST", largest)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: download.shutil._ntuple_diskusage(0, 0, free))
    server = serve(endless(b"HTTP/1.1 200 OK" + head))
    with pytest.raises(InputError, match=reason):
        fetch_archive(Archive(server.url(FILE), FILE, "ToyCar", "0" * 32), raw)
    assert server.n_connections == 1
    assert not list((raw.parent / "downloads").glob("*.part"))


def test_a_small_file_that_never_ends_is_refused(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGEST_TEXT", 3_000_000)
    with pytest.raises(InputError, match=r"it is longer than 3\.0 MB"):
        fetch_file(serve(endless(b"HTTP/1.1 200 OK")).url(FILE), tmp_path / "list.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [b"404 Not Found", b"503 Busy", b"302 Found\r\nLocation: /elsewhere"])
def test_the_body_of_an_error_or_a_redirect_is_not_read(serve, slept, status):
    server = serve(endless(b"HTTP/1.1 " + status))
    started = time.monotonic()
    with pytest.raises(InputError, match="cannot be fetched"):
        read_url(server.url(FILE), 3)
    assert time.monotonic() - started < 5


def test_a_compressed_response_is_refused(serve, tmp_path):
    bomb = gzip.compress(bytes(50_000_000))
    server = serve(lambda _: [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + bomb])
    with pytest.raises(InputError, match="the server sends 'gzip' compression, which was not asked for"):
        fetch_file(server.url(FILE), tmp_path / "list.csv")


def test_no_compression_is_requested(serve):
    received = []

    def answer(request):
        received.append(request)
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    assert read_url(serve(answer).url(FILE)) == b"ok"
    assert b"accept-encoding: identity\r\n" in received[0].lower()


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),  # the body
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),  # the length of a chunk
        (b"HTTP/1.1 200 OK\r\n", b"X-Long: 1\r\n"),  # headers
        (b"HTTP/1.1 200", b"0"),  # the status
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_a_server_that_sends_a_few_bytes_a_second_is_abandoned(serve, slept, raw, monkeypatch, head, piece):
    """Each byte came in time, so it used to block the program for ever."""
    monkeypatch.setattr(session, "WINDOW", 0.4)
    monkeypatch.setattr(download, "TRIES", 3)
    server = serve(trickle(head, piece))
    started = time.monotonic()
    with pytest.raises(InputError, match=r"less than 1000 bytes a second.*3 times in a row; run again later"):
        fetch_archive(Archive(server.url(FILE), FILE, "ToyCar", "0" * 32), raw)
    assert time.monotonic() - started < 10
    assert slept == [1, 2]
