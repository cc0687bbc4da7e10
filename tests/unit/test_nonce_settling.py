"""A shared directory's names lag behind what other hosts did a moment ago; writing a nonce waits for them to settle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dstui.gather.collector import nonce

RUN = "0" * 32


def write(share: Path) -> dict[str, object]:
    return nonce.write({"dir": str(share / ".dstui-probe"), "run": RUN, "name": "gpu-01"})


def test_a_folder_that_only_seems_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another host has removed it; here its name is still known, so making it says EEXIST and using it ENOENT."""
    monkeypatch.setattr(nonce, "RETRY_SECONDS", 0.0)
    stale, real = [FileExistsError()] * 2, os.mkdir

    def mkdir(place: str) -> None:
        if stale and place.endswith(".dstui-probe"):
            raise stale.pop()
        real(place)

    monkeypatch.setattr(os, "mkdir", mkdir)
    answer = write(tmp_path)
    assert answer["written"] is True
    assert (tmp_path / ".dstui-probe" / RUN / "gpu-01.nonce").stat().st_size == 64


def test_a_share_that_is_missing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonce, "RETRY_SECONDS", 60.0)
    answer = write(tmp_path / "not-there")
    assert answer["written"] is False
    assert answer["error"] == "ENOENT"


def test_it_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonce, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(nonce, "SETTLE_SECONDS", 0.01)

    def mkdir(place: str) -> None:
        raise FileExistsError

    monkeypatch.setattr(os, "mkdir", mkdir)
    assert write(tmp_path)["error"] == "ENOENT"
