"""TREE, PIECES and SHA256 on real directories, by the collector as a child process and by its functions."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import zlib
from pathlib import Path

import pytest

from dstui.facts.model_tree import Tree, tree_of
from dstui.facts.raw import Missing, Op, Raw, pieces, sha256, tree
from dstui.gather.collector import trees
from dstui.gather.local import open_local
from dstui.gather.shell import script
from dstui.model import Reason


def asked(*ops: Op) -> Raw:
    async def ask() -> Raw:
        link = await open_local("here", become="none")
        try:
            return await link.facts(ops, deadline=20)
        finally:
            await link.close()

    return asyncio.run(ask())


def seen(path: Path, **limits: int) -> Tree | Missing:
    return tree_of(asked(tree("t", str(path), **limits)), "t", str(path))


def test_everything_below_with_links_followed(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "b").write_bytes(b"12345")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("blobs/b")
    (tmp_path / "folder").symlink_to("blobs")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    found = seen(tmp_path)
    assert isinstance(found, Tree)
    assert {name: entry.size for name, entry in found.files.items()} == {"blobs/b": 5, "deep/er/file": 1, "link": 5}
    assert found.entries["link"].link == "blobs/b"
    assert found.errors == {"dangling": "ENOENT"}
    # What two names lead to is there once.
    assert found.size == 6
    assert found.above[0].path == "/"
    assert found.real == str(tmp_path.resolve())


@pytest.mark.parametrize(("name", "error"), [("nowhere", "ENOENT"), ("file", "ENOTDIR"), ("file/x", "ENOTDIR")])
def test_what_is_no_directory(tmp_path: Path, name: str, error: str) -> None:
    (tmp_path / "file").write_text("x")
    found = seen(tmp_path / name)
    assert isinstance(found, Tree)
    assert (found.error, found.entries) == (error, {})


def test_more_than_may_be_looked_at_is_not_taken_for_all(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).touch()
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    for limits in ({"entries": 5}, {"depth": 2}):
        found = seen(tmp_path, **limits)
        assert isinstance(found, Missing)
        assert found.reason is Reason.BUDGET


def test_pieces_of_files(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(bytes(range(256)) * 10)
    os.mkfifo(tmp_path / "pipe")
    parts = [(str(file), 0, 8), (str(file), -4, 100), (str(file), 2550, 100), (str(file), 9999, 5)]
    raw = asked(
        pieces("p", *parts, (str(tmp_path / "no"), 0, 1), (str(tmp_path / "pipe"), 0, 1), (str(tmp_path), 0, 1))
    )
    value = raw.value("p")
    assert isinstance(value, list)
    assert [row[0] for row in value] == [2560] * 4 + [None] * 3
    got = [zlib.decompress(base64.b64decode(row[1])) for row in value[:4]]
    assert got == [bytes(range(8)), bytes(range(252, 256)), bytes(range(246, 256)), b""]
    assert [row[1] for row in value[4:]] == ["ENOENT", "EINVAL", "EINVAL"]


def test_pieces_that_are_too_large_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(os.urandom(1 << 20))
    wide = asked(pieces("p", (str(file), 0, (128 << 20) + 1))).value("p")
    assert isinstance(wide, Missing)
    many = asked(pieces("p", *[(str(file), 0, 1 << 20)] * 20)).value("p")
    assert isinstance(many, Missing)
    assert many.reason is Reason.BUDGET


def test_the_hash_of_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(os.urandom(3_000_000))
    value = asked(sha256("h", str(file), timeout=10)).value("h")
    status = file.stat()
    assert value == {
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "size": 3_000_000,
        "mtime_ns": status.st_mtime_ns,
        "inode": status.st_ino,
    }
    gone = asked(sha256("h", str(tmp_path / "no"), timeout=10)).value("h")
    assert isinstance(gone, Missing)


def test_a_file_that_changes_while_it_is_read_has_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x" * 100)
    monkeypatch.setattr(trees, "_stand_back", lambda: None)
    read = os.read

    def meddled(fd: int, length: int) -> bytes:
        block = read(fd, length)
        if not block:
            os.utime(file, (1, 1))
        return block

    monkeypatch.setattr(os, "read", meddled)
    assert trees.sha256({"path": str(file)})["missing"] == "cannot-tell"


def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    file = tmp_path / "f"
    with file.open("wb") as opened:
        opened.truncate(256 << 30)
    found = asked(sha256("h", str(file), timeout=0.3)).value("h")
    assert isinstance(found, Missing)
    assert found.reason is Reason.TIMEOUT


def test_a_host_without_python_says_so() -> None:
    ops = [tree("t", "/x"), pieces("p", ("/x", 0, 1)), sha256("h", "/x", timeout=1)]
    text = script(ops, "none").decode()
    assert all(f"missing {op.key} tool-missing" in text for op in ops)
