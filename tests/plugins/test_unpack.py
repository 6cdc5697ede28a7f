"""Archives that try to leave their folder, and archives that are cut short."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from segkit.errors import DownloadError
from segkit_voc import unpack
from segkit_voc.unpack import extract, unfinished


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"bad"
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def tar(file: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:") -> Path:
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return file


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_files_are_unpacked_beside_what_is_there(tmp_path: Path) -> None:
    target = tmp_path / "data"
    (target / "kit" / "old").mkdir(parents=True)
    (target / "kit" / "old" / "mine.txt").write_bytes(b"mine")
    (target / "kit" / "same.txt").write_bytes(b"before")
    archive = tar(
        tmp_path / "a.tar",
        member("kit/", tarfile.DIRTYPE),
        member("kit/old/yours.txt", content=b"yours"),
        member("./kit/new/deep.txt", content=b"deep"),
        member("kit/same.txt", content=b"after"),
    )
    extract(archive, target)
    assert files(target) == {
        "kit/new/deep.txt": b"deep",
        "kit/old/mine.txt": b"mine",
        "kit/old/yours.txt": b"yours",
        "kit/same.txt": b"after",
    }
    assert not unfinished(archive, target)
    assert [path.name for path in target.iterdir()] == ["kit"]


@pytest.mark.fault("F38")
@pytest.mark.parametrize(
    ("evil", "reason"),
    [
        (member("../evil"), "points outside the folder"),
        (member("good/../../evil"), "points outside the folder"),
        (member("/tmp/evil"), "points outside the folder"),
        (member("C:\\evil"), "points outside the folder"),
        (member("..\\evil"), "points outside the folder"),
        (member("evil", tarfile.SYMTYPE, "/etc"), "is a link, a device or a sparse file"),
        (member("evil", tarfile.LNKTYPE, "good.txt"), "is a link, a device or a sparse file"),
        (member("evil", tarfile.CHRTYPE), "is a link, a device or a sparse file"),
        (member("evil", tarfile.BLKTYPE), "is a link, a device or a sparse file"),
        (member("evil", tarfile.FIFOTYPE), "is a link, a device or a sparse file"),
        (member("evil", tarfile.CONTTYPE), "is a link, a device or a sparse file"),
        (member("good.txt"), "File exists"),
        (member("good.txt/below"), "good.txt"),
        (member("evil", content=b"0" * 3000), "larger than 2000 bytes"),
    ],
    ids=lambda value: value[0].name if isinstance(value, tuple) else "",
)
def test_an_evil_member_spoils_the_whole_archive(
    tmp_path: Path, evil: tuple[tarfile.TarInfo, bytes], reason: str
) -> None:
    target = tmp_path / "data"
    archive = tar(tmp_path / "a.tar", member("good.txt", content=b"good"), evil)
    with pytest.raises(DownloadError, match=rf"a\.tar: not unpacked into .*{reason}"):
        extract(archive, target, most_bytes=2000)
    assert files(target) == {}
    assert not unfinished(archive, target)
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "data"}


@pytest.mark.fault("F38")
def test_a_sparse_file_cannot_claim_more_than_the_archive_holds(tmp_path: Path) -> None:
    info, content = member("bomb")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(10**12)}
    content = b"1\n0\n3\n".ljust(512, b"\0") + b"bad"
    info.size = len(content)
    with tarfile.open(tmp_path / "a.tar", "w:", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(content))
    with pytest.raises(DownloadError, match="sparse file"):
        extract(tmp_path / "a.tar", tmp_path / "data")


@pytest.mark.fault("F38")
def test_the_number_of_members_is_limited(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", *(member(f"{index}.txt") for index in range(4)))
    extract(archive, tmp_path / "data", most_members=4)
    with pytest.raises(DownloadError, match="more than 3 members"):
        extract(archive, tmp_path / "data", most_members=3)


@pytest.mark.fault("F38")
@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_compressed_archive_is_refused_before_it_can_grow(tmp_path: Path, mode: str) -> None:
    archive = tar(tmp_path / "a.tar", member("bomb", content=b"0" * 10_000_000), mode=mode)
    with pytest.raises(DownloadError, match="not unpacked"):
        extract(archive, tmp_path / "data", most_bytes=20_000_000)
    assert files(tmp_path / "data") == {}


@pytest.mark.parametrize("size", [0, 100, 700, 2000])
def test_a_short_archive_leaves_nothing(tmp_path: Path, size: int) -> None:
    archive = tar(tmp_path / "a.tar", member("one", content=b"1" * 100), member("two", content=b"2" * 2000))
    archive.write_bytes(archive.read_bytes()[:size])
    with pytest.raises(DownloadError, match=r"a\.tar: not unpacked"):
        extract(archive, tmp_path / "data")
    assert files(tmp_path / "data") == {}


def test_an_interrupted_unpacking_is_seen_and_redone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, target = tar(tmp_path / "a.tar", member("kit/one"), member("kit/two")), tmp_path / "data"
    (target / "kit").mkdir(parents=True)
    moves = []

    def stopped(self: Path, place: Path) -> None:
        if moves:
            raise OSError("power cut")
        moves.append(self.rename(place))

    with monkeypatch.context() as patch:
        patch.setattr(unpack.Path, "replace", stopped)
        with pytest.raises(DownloadError, match="stopped half-way: power cut"):
            extract(archive, target)
    assert (target / "kit" / "one").exists()
    assert unfinished(archive, target)
    extract(archive, target)
    assert files(target) == {"kit/one": b"bad", "kit/two": b"bad"}
    assert not unfinished(archive, target)


@pytest.mark.fault("F38")
def test_folders_in_folders_without_end_are_refused(tmp_path: Path) -> None:
    # with 1900 of them, Python's own limit of recursion was met, and what was unpacked stayed
    deep = tar(tmp_path / "deep.tar", member("good.txt"), member("a/" * 1900 + "f"), mode="w:")
    with pytest.raises(DownloadError, match=r"deep\.tar: not unpacked .* more than 32 folders deep"):
        extract(deep, tmp_path / "data")
    assert files(tmp_path / "data") == {}
    assert not unfinished(deep, tmp_path / "data")
    extract(tar(tmp_path / "a.tar", member("a/" * 31 + "f")), tmp_path / "data")


@pytest.mark.fault("F38")
def test_a_file_of_negative_size_is_refused(tmp_path: Path) -> None:
    # CVE-2025-8194 was an endless loop
    content = bytearray(tar(tmp_path / "a.tar", member("one"), member("two")).read_bytes())
    content[124:136] = b"\xff" * 10 + b"\xfc\x00"
    content[148:156] = b"%06o\0 " % (sum(content[:148]) + sum(content[156:512]) + 8 * ord(" "))
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DownloadError, match=r"a\.tar: not unpacked"):
        extract(tmp_path / "a.tar", tmp_path / "data")
