"""How the collector starts: through the command line that an SSH exec gets, whatever is on the host."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from dstui.facts import raw
from dstui.gather import ship
from dstui.gather.collector import core
from dstui.gather.protocol import MAX_MESSAGE_BYTES, VERSION

ECHO = raw.run("r", "echo", 'it\'s "$HOME" `x` !a \\n')


def hello(argv: list[str], *, payload: bytes | None = None, env: dict[str, str] | None = None) -> tuple[dict, dict]:
    """The first message and the answers to one request that was sent without waiting for it."""
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **(env or {})}
    )
    assert process.stdin
    assert process.stdout
    try:
        ops = [{"key": ECHO.key, "kind": ECHO.kind, "args": dict(ECHO.args)}]
        process.stdin.write(ship.bootstrap_payload() if payload is None else payload)
        process.stdin.write(json.dumps({"id": 1, "verb": "facts", "ops": ops}).encode() + b"\n")
        process.stdin.flush()
        messages = []
        while True:
            assert select.select([process.stdout], [], [], 20)[0], "it said nothing"
            line = process.stdout.readline()
            if not line.startswith(b"\x1e"):
                assert line, (process.stderr.read() if process.stderr else b"", process.wait(5))
                continue
            messages.append(json.loads(line[1:]))
            if messages[0]["mode"] == "sh" or len(messages) == 2:
                return messages[0], messages[-1]
    finally:
        process.kill()
        process.communicate()


SHELLS = [path for path in map(shutil.which, ("sh", "dash", "bash", "fish", "tcsh", "zsh", "ksh")) if path]


@pytest.mark.parametrize("shell", SHELLS, ids=[Path(shell).name for shell in SHELLS])
def test_the_command_line_starts_python_from_any_login_shell(shell: str) -> None:
    first, answer = hello([shell, "-c", ship.exec_command()])
    assert (first["mode"], first["version"]) == ("python", VERSION)
    assert answer["answers"]["r"]["output"] == 'it\'s "$HOME" `x` !a \\n\n'


@pytest.mark.parametrize("shell", SHELLS, ids=[Path(shell).name for shell in SHELLS])
def test_without_python_it_says_hello_as_a_shell(shell: str) -> None:
    command = ship.exec_command(("/nowhere/python3", "no-such-python"))
    assert hello([shell, "-c", command])[0] == {
        "id": 0,
        "ok": True,
        "mode": "sh",
        "python": None,
        "version": VERSION,
    }


def test_a_python_that_is_too_old_or_broken_passes_the_turn_on(tmp_path: Path) -> None:
    for name, code in (("old", ship.TOO_OLD), ("broken", 1), ("aborting", 134), ("ancient", 2)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "folder").mkdir()
    tried = tuple(f"{tmp_path}/{name}" for name in ("old", "broken", "aborting", "ancient", "folder", "none"))
    assert hello(["sh", "-c", ship.exec_command((*tried, sys.executable))])[0]["mode"] == "python"
    assert hello(["sh", "-c", ship.exec_command(tried)])[0]["mode"] == "sh"


def test_python_2_is_too_old() -> None:
    found = sorted((Path.home() / ".pyenv" / "versions").glob("2.7.*/bin/python2.7"))
    if not found:
        pytest.skip("no Python 2.7 in ~/.pyenv")
    assert hello(["sh", "-c", ship.exec_command((str(found[0]), sys.executable))])[0]["mode"] == "python"


def test_start_up_noise_is_not_in_the_way() -> None:
    first, answer = hello(["sh", "-c", f"echo Welcome; echo to >&2; {ship.exec_command()}"])
    assert first["mode"] == "python"
    assert answer["ok"]


def test_another_bytecode_gets_the_source() -> None:
    payload = ship.bootstrap_payload().replace(sys.implementation.cache_tag.encode(), b"another-python", 1)
    assert payload != ship.bootstrap_payload()
    assert hello(ship.local_argv(), payload=payload)[1]["answers"]["r"]["exit"] == 0


@pytest.mark.parametrize("damage", ["cut", "zeroed", "empty"])
def test_a_damaged_payload_ends_it_with_one_sentence(damage: str) -> None:
    whole = ship.bootstrap_payload()
    payload = {"cut": whole[: len(whole) // 2], "zeroed": whole[:-60_000] + b"\0" * 60_000, "empty": b""}[damage]
    done = subprocess.run(
        ["sh", "-c", ship.exec_command()], input=payload, capture_output=True, timeout=20, check=False
    )
    assert done.returncode == core.FAULT
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


def test_the_command_line_is_portable() -> None:
    command = ship.exec_command()
    assert re.fullmatch(r"exec /bin/sh -c '[^'\n!]*'", command)
    assert r"\\" not in command
    assert len(command) < 2000


def test_the_payload_is_small_and_the_same_every_time() -> None:
    assert len(ship.bootstrap_payload()) < 100_000
    assert ship.bootstrap_payload() is ship.bootstrap_payload()


def test_nothing_is_written_to_disk(tmp_path: Path) -> None:
    before = set(Path(core.__file__).parent.rglob("*"))
    hello(ship.local_argv(), env={"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""})
    assert list(tmp_path.iterdir()) == []
    assert set(Path(core.__file__).parent.rglob("*")) == before


def test_modules_for_operations() -> None:
    source = ship.module_source("nvml")
    assert source is not None
    assert b"def nvmlInit" in zlib.decompress(base64.b64decode(source))
    assert ship.module_source("read") is None


def test_both_ends_speak_the_same_version() -> None:
    assert (core.VERSION, core.MAX_MESSAGE_BYTES) == (VERSION, MAX_MESSAGE_BYTES)
