"""Downloads against a server of our own that misbehaves on purpose."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from segkit.errors import DownloadError
from segkit_voc.download import exclusive, fetch

CONTENT = bytes(range(256)) * 5000
MD5 = hashlib.md5(CONTENT).hexdigest()
CHECKSUM = f"md5:{MD5}"


class Handler(BaseHTTPRequestHandler):
    """``/good`` knows Range, ``/plain`` does not; the other paths are the faults they are called."""

    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.path != "/plain" else 0
        body = CONTENT[start:]
        if self.path == "/missing":
            return self.send_error(404)
        if start >= len(CONTENT):
            return self.send_error(416)
        if self.path == "/wrong":
            body = b"x" * len(body)
        if self.path in ("/html", "/disguised"):
            body, start = b"<!DOCTYPE html><html>please log in</html>", 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8" if self.path == "/html" else "application/x-tar")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if self.path == "/endless":
            body = CONTENT * 4
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)
        return None

    def log_message(self, *arguments: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str | None]] = []

    def handle_error(self, *arguments: Any) -> None:
        pass  # a client that hangs up is what some tests are about

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_good_download_leaves_the_file_alone_in_its_folder(server: Server, tmp_path: Path) -> None:
    file = fetch([server.url("/good")], tmp_path / "a.tar", CHECKSUM)
    assert file.read_bytes() == CONTENT
    assert names(tmp_path) == ["a.tar"]


def test_a_file_that_is_there_is_verified_and_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(CONTENT)
    fetch([server.url("/good")], tmp_path / "a.tar", f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")
    assert server.asked == []


def test_a_wrong_file_put_there_by_hand_is_named_and_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"something else")
    with pytest.raises(
        DownloadError, match=f"a.tar: its md5 is {hashlib.md5(b'something else').hexdigest()}, not {MD5}"
    ):
        fetch([server.url("/good")], tmp_path / "a.tar", CHECKSUM)
    assert (tmp_path / "a.tar").exists()
    assert server.asked == []


@pytest.mark.parametrize("path", ["/good", "/plain"])
def test_a_cut_download_is_continued_by_the_next_mirror(server: Server, tmp_path: Path, path: str) -> None:
    file = fetch([server.url("/cut"), server.url(path)], tmp_path / "a.tar", CHECKSUM)
    assert file.read_bytes() == CONTENT
    assert server.asked == [("/cut", None), (path, f"bytes={len(CONTENT) // 2}-")]


@pytest.mark.fault("F39")
def test_a_cut_download_is_kept_for_the_next_call(server: Server, tmp_path: Path) -> None:
    half = len(CONTENT) // 2
    with pytest.raises(
        DownloadError, match=rf"cut after {half} of {len(CONTENT)} bytes.*{half} bytes are kept in .*a\.tar\.part"
    ):
        fetch([server.url("/cut")], tmp_path / "a.tar", CHECKSUM)
    assert names(tmp_path) == ["a.tar.part"]
    assert fetch([server.url("/good")], tmp_path / "a.tar", CHECKSUM).read_bytes() == CONTENT
    assert server.asked[-1] == ("/good", f"bytes={half}-")


def test_a_complete_part_is_used_though_the_server_has_nothing_left(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    assert fetch([server.url("/good")], tmp_path / "a.tar", CHECKSUM).read_bytes() == CONTENT


def test_a_part_of_another_file_is_thrown_away_and_fetched_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(b"an old page")
    assert fetch([server.url("/good")], tmp_path / "a.tar", CHECKSUM).read_bytes() == CONTENT
    assert server.asked == [("/good", "bytes=11-"), ("/good", None)]


@pytest.mark.fault("F39")
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/wrong", f"its md5 is {hashlib.md5(b'x' * len(CONTENT)).hexdigest()}, not {MD5}"),
        ("/disguised", f"its md5 is [0-9a-f]{{32}}, not {MD5}"),
        ("/html", "a web page came instead of the file"),
        ("/missing", r"HTTP status 404 \(Not Found\)"),
        ("/endless", "more than 2000000 bytes were sent"),
    ],
)
def test_a_bad_answer_is_one_line_and_leaves_nothing(server: Server, tmp_path: Path, path: str, reason: str) -> None:
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch([server.url(path)], tmp_path / "a.tar", CHECKSUM, most_bytes=2_000_000)
    message = str(caught.value)
    assert "\n" not in message
    assert server.url(path) in message
    assert f"put the file here: {tmp_path / 'a.tar'} ({CHECKSUM})" in message
    assert names(tmp_path) == []
    fetch([server.url(path), server.url("/good")], tmp_path / "a.tar", CHECKSUM, most_bytes=2_000_000)
    assert names(tmp_path) == ["a.tar"]


def test_a_web_page_does_not_spoil_what_is_there_already(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:1000])
    fetch([server.url("/html"), server.url("/good")], tmp_path / "a.tar", CHECKSUM)
    assert server.asked[-1] == ("/good", "bytes=1000-")


@pytest.mark.fault("F39")
def test_no_network(tmp_path: Path) -> None:
    with socket.socket() as closed:  # bound and not listening: nobody answers there
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a.tar"
        with pytest.raises(DownloadError, match=r"a\.tar: no connection \(.*refused.*put the file here: "):
            fetch([url], tmp_path / "a.tar", CHECKSUM)
    assert names(tmp_path) == []


@pytest.mark.fault("F39")
def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar"
        with pytest.raises(DownloadError, match="timed out"):
            fetch([url], tmp_path / "a.tar", CHECKSUM, timeout=0.2)


def test_the_lock_lets_one_at_a_time_in(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with exclusive(tmp_path / "lock"):
            order.append("second")

    thread = threading.Thread(target=second)
    with exclusive(tmp_path / "lock"):
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DownloadError, match="file: nothing can be downloaded to it"),
        exclusive(tmp_path / "file" / "lock"),
    ):
        pass
