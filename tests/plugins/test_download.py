"""Downloads from a server of our own that misbehaves on purpose, and archives that try to leave their folder."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from segkit_voc import download
from segkit_voc.download import DownloadError, fetch, unfinished, unpack

CONTENT = bytes(range(256)) * 5000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Every path but ``/good`` is the fault it is called."""

    server: Server

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path))
        body = {"/wrong": b"x" * len(CONTENT), "/html": b"<!DOCTYPE html><html>please log in</html>"}.get(
            self.path, CONTENT
        )
        if self.path == "/missing":
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)
        return None

    def log_message(self, *arguments: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str]] = []

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
    file = fetch([server.url("/good")], tmp_path / "a.tar", MD5)
    assert file.read_bytes() == CONTENT
    assert names(tmp_path) == ["a.tar"]


def test_a_file_that_is_there_is_verified_and_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(CONTENT)
    fetch([server.url("/good")], tmp_path / "a.tar", MD5)
    assert server.asked == []


def test_a_wrong_file_put_there_by_hand_is_named_and_kept(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"something else")
    with pytest.raises(
        DownloadError, match=f"a.tar: its md5 is {hashlib.md5(b'something else').hexdigest()}, not {MD5}"
    ):
        fetch([server.url("/good")], tmp_path / "a.tar", MD5)
    assert (tmp_path / "a.tar").exists()
    assert server.asked == []


def test_what_an_earlier_call_left_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.part").write_bytes(b"an old page")
    assert fetch([server.url("/good")], tmp_path / "a.tar", MD5).read_bytes() == CONTENT


@pytest.mark.fault("F39")
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/wrong", f"its md5 is {hashlib.md5(b'x' * len(CONTENT)).hexdigest()}, not {MD5}"),
        ("/html", f"its md5 is [0-9a-f]{{32}}, not {MD5}"),
        ("/cut", f"its md5 is [0-9a-f]{{32}}, not {MD5}"),
        ("/missing", r"HTTP status 404 \(Not Found\)"),
    ],
)
def test_a_bad_answer_is_one_line_and_leaves_nothing(
    server: Server, tmp_path: Path, path: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch([server.url(path)], tmp_path / "a.tar", MD5)
    message = str(caught.value)
    assert "\n" not in message
    assert server.url(path) in message
    assert f"put the file here: {tmp_path / 'a.tar'} (md5 {MD5})" in message
    assert names(tmp_path) == []
    fetch([server.url(path), server.url("/good")], tmp_path / "a.tar", MD5)
    assert names(tmp_path) == ["a.tar"]
    assert capfd.readouterr().err == ""  # no bar where the output is no terminal


@pytest.mark.fault("F39")
def test_no_network(tmp_path: Path) -> None:
    with socket.socket() as closed:  # bound and not listening: nobody answers there
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a.tar"
        with pytest.raises(DownloadError, match=r"a\.tar: no connection \(.*refused.*put the file here: "):
            fetch([url], tmp_path / "a.tar", MD5)
    assert names(tmp_path) == []


@pytest.mark.fault("F39")
def test_a_server_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar"
        with pytest.raises(DownloadError, match="timed out"):
            fetch([url], tmp_path / "a.tar", MD5)


def test_one_process_at_a_time_downloads(tmp_path: Path) -> None:
    order: list[str] = []

    def wanted(name: str) -> list[tuple[str, str]]:
        order.append(name)
        if name == "first":
            thread.start()
            thread.join(0.2)
            order.append("first is done")
        return []

    thread = threading.Thread(target=lambda: download.download("2012", tmp_path, lambda: wanted("second")))
    download.download("2012", tmp_path, lambda: wanted("first"))
    thread.join()
    assert order == ["first", "first is done", "second"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="file: nothing can be downloaded to it"):
        download.download("2012", tmp_path / "file", lambda: [("a", "b")])


# --- archives


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"bad") -> tuple[Any, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def tar(file: Path, *members: tuple[Any, bytes], mode: Any = "w:") -> Path:
    with tarfile.open(file, mode) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return file


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_files_are_unpacked_beside_what_is_there(tmp_path: Path) -> None:
    target = tmp_path / "data"
    (target / "kit").mkdir(parents=True)
    (target / "kit" / "mine.txt").write_bytes(b"mine")
    archive = tar(tmp_path / "a.tar", member("kit/", tarfile.DIRTYPE), member("kit/new/deep.txt", content=b"deep"))
    unpack(archive, target)
    assert files(target) == {"kit/new/deep.txt": b"deep", "kit/mine.txt": b"mine"}
    assert not unfinished(archive, target)
    assert [path.name for path in target.iterdir()] == ["kit"]


@pytest.mark.fault("F38")
@pytest.mark.parametrize(
    "evil",
    [
        member("../evil"),
        member("good/../../evil"),
        member("evil", tarfile.SYMTYPE, "/etc"),
        member("evil", tarfile.SYMTYPE, "../.."),
        member("evil", tarfile.LNKTYPE, "../../good.txt"),
        member("evil", tarfile.CHRTYPE),
        member("evil", tarfile.FIFOTYPE),
    ],
    ids=lambda value: f"{value[0].name} {value[0].type!r}" if isinstance(value, tuple) else "",
)
def test_an_evil_member_is_refused_and_the_archive_stays_unfinished(tmp_path: Path, evil: tuple[Any, bytes]) -> None:
    target = tmp_path / "deep" / "data"
    archive = tar(tmp_path / "a.tar", member("good.txt", content=b"good"), evil)
    with pytest.raises(DownloadError, match=r"a\.tar: not unpacked into "):
        unpack(archive, target)
    assert files(tmp_path).keys() == {"a.tar", "deep/data/good.txt"}
    assert unfinished(archive, target)


@pytest.mark.fault("F38")
@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_compressed_archive_is_refused_before_it_can_grow(tmp_path: Path, mode: str) -> None:
    archive = tar(tmp_path / "a.tar", member("bomb", content=b"0" * 10_000_000), mode=mode)
    with pytest.raises(DownloadError, match="not unpacked"):
        unpack(archive, tmp_path / "data")
    assert files(tmp_path / "data") == {}


def test_an_interrupted_unpacking_is_seen_and_redone(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", member("one", content=b"1" * 100), member("two", content=b"2" * 2000))
    whole = archive.read_bytes()
    archive.write_bytes(whole[:1900])
    with pytest.raises(DownloadError, match=r"a\.tar: not unpacked"):
        unpack(archive, tmp_path / "data")
    assert unfinished(archive, tmp_path / "data")
    archive.write_bytes(whole)
    unpack(archive, tmp_path / "data")
    assert files(tmp_path / "data") == {"one": b"1" * 100, "two": b"2" * 2000}
    assert not unfinished(archive, tmp_path / "data")
