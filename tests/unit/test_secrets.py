"""References, the store that resolves them, and a Secret that does not give itself away."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import select
import sys
import time
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.inventory import secrets
from dstui.inventory.secrets import (
    CommandReference,
    EnvReference,
    FileReference,
    NamedReference,
    Secret,
    SecretStore,
    parse_reference,
)
from dstui.model import SecretError

VALUE = "s3cr3t-value-0123"


def command(program: str) -> CommandReference:
    return CommandReference((sys.executable, "-c", program))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("env:DSTUI_API_KEY", EnvReference("DSTUI_API_KEY")),
        ("env:_X9", EnvReference("_X9")),
        ("file:/etc/dstui/ray.token", FileReference(Path("/etc/dstui/ray.token"))),
        ("file:/with space/and:colon", FileReference(Path("/with space/and:colon"))),
        ({"cmd": ("pass", "show", "x")}, CommandReference(("pass", "show", "x"))),
        ({"cmd": ["pass"]}, CommandReference(("pass",))),
        ("secrets.ray_token", NamedReference("ray_token")),
        (EnvReference("X"), EnvReference("X")),
    ],
)
def test_forms_of_references(written: object, expected: object) -> None:
    assert parse_reference(written) == expected


@pytest.mark.parametrize(
    "written",
    ["", "hunter2hunter2", {"cmd": "pass show"}, "env:", "env:lower", "env:A B", "ENV:A", "file:", "file:relative",
     "file:~/x", "file:/a\nb",
     "cmd:pass", "secrets.", "secrets.A", "secrets.a.b", None, 3, True, [], ["cmd"], {}, {"cmd": []},
     {"cmd": [1]}, {"cmd": [""]}, {"cmd": ["a\0b"]}, {"cmd": ["a"], "timeout": 3}, "file:/a\0b"],
)  # fmt: skip
def test_what_is_no_reference(written: object) -> None:
    with pytest.raises(ValueError) as caught:
        parse_reference(written)
    assert "hunter2" not in str(caught.value)
    assert "env:NAME" in str(caught.value) or ":" in str(caught.value) or "remove it" in str(caught.value)


@given(st.one_of(st.text(), st.dictionaries(st.text(max_size=3), st.text(max_size=5)), st.lists(st.text(max_size=3))))
def test_any_value_is_a_reference_or_a_value_error(written: object) -> None:
    try:
        reference = parse_reference(written)
    except ValueError:
        return
    assert str(reference)


def test_a_secret_shows_its_label_only() -> None:
    secret = Secret(VALUE, "secrets.api_key")
    logger = logging.getLogger("dstui.test")
    record = logger.makeRecord("dstui.test", logging.INFO, __file__, 1, "key %s %r", (secret, secret), None)
    try:
        raise RuntimeError(secret)
    except RuntimeError:
        trace = traceback.format_exc()
    for shown in (str(secret), repr(secret), f"{secret}", f"{secret!s:>40}", f"{[secret]}", record.getMessage(), trace):
        assert VALUE not in shown
        assert "‹secrets.api_key›" in shown
    assert secret.reveal() == VALUE
    assert secret.label == "secrets.api_key"


def test_a_secret_cannot_be_pickled_or_copied() -> None:
    secret = Secret(VALUE, "x")
    for carry in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            carry(secret)
    assert not hasattr(secret, "__dict__")
    with pytest.raises(TypeError):
        hash(secret)


def test_secrets_are_equal_by_value() -> None:
    assert Secret(VALUE, "a") == Secret(VALUE, "b")
    assert Secret(VALUE, "a") != Secret(VALUE + "x", "a")
    assert Secret("密钥", "a") == Secret("密钥", "a")
    assert Secret(VALUE, "a") != VALUE


def test_environment() -> None:
    store = SecretStore(
        {"api_key": EnvReference("KEY")}, {"KEY": VALUE, "EMPTY": "  ", "BAD": "a\x1bb", "RAW": "a\udcff"}
    )
    assert store.resolve("secrets.api_key").reveal() == VALUE
    assert store.resolve("env:KEY").reveal() == VALUE
    for reference, why in [
        ("env:GONE", "env:GONE: the variable is not set; export it before you start dstui"),
        ("env:EMPTY", "env:EMPTY: it is empty"),
        ("env:BAD", "control characters"),
        ("env:RAW", "not UTF-8"),
        ("secrets.gone", "secrets.gone is not defined; add it to `secrets:` in the inventory"),
        ("opensesame", "this secret reference is no reference"),
    ]:
        with pytest.raises(SecretError, match=why) as caught:
            store.resolve(reference)
        assert "opensesame" not in str(caught.value)


def test_resolution_is_lazy_and_remembered() -> None:
    environ = {"KEY": VALUE}
    store = SecretStore({"a": EnvReference("KEY"), "b": EnvReference("OTHER")}, environ)
    assert store.resolved() == ()
    first = store.resolve("secrets.a")
    environ.clear()
    assert store.resolve("secrets.a") is first
    assert store.resolve(EnvReference("KEY")) is first
    assert store.resolved() == (("secrets.a", VALUE),)


def test_failures_are_not_remembered() -> None:
    environ: dict[str, str] = {}
    store = SecretStore({"a": EnvReference("KEY")}, environ)
    assert store.faults() == (("a", "env:KEY: the variable is not set; export it before you start dstui"),)
    environ["KEY"] = VALUE
    assert store.faults() == ()


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_file(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text(f"{VALUE}\n")
    path.chmod(mode)
    assert SecretStore().resolve(FileReference(path)).reveal() == VALUE


def test_file_keeps_inner_lines(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("-----BEGIN X-----\nabc\n-----END X-----\n")
    path.chmod(0o600)
    assert SecretStore().resolve(FileReference(path)).reveal().count("\n") == 2


def test_file_may_be_a_link_to_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(VALUE)
    path.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert SecretStore().resolve(FileReference(link)).reveal() == VALUE


def test_files_that_give_nothing(tmp_path: Path) -> None:
    open_file = tmp_path / "open"
    open_file.write_text(VALUE)
    open_file.chmod(0o640)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe" + VALUE.encode())
    large = tmp_path / "large"
    large.write_bytes(b"x" * 70_000)
    empty = tmp_path / "empty"
    empty.touch()
    for path in (binary, large, empty):
        path.chmod(0o600)
    for path, why in [
        (tmp_path / "gone", "cannot be opened: No such file or directory"),
        (tmp_path, "is not a regular file"),
        (pipe, "is not a regular file"),
        (open_file, "has mode 0640; make it private: chmod 600"),
        (binary, "it is not UTF-8 text"),
        (large, "it is larger than 64 KiB; that is no secret"),
        (empty, "it is empty"),
    ]:
        with pytest.raises(SecretError, match=why) as caught:
            SecretStore().resolve(FileReference(path))
        assert str(path) in str(caught.value)
        assert VALUE not in str(caught.value)


def test_command_gives_its_first_line() -> None:
    assert SecretStore().resolve(command(f"print('{VALUE}'); print('second')")).reveal() == VALUE


def test_command_has_no_shell_and_no_input() -> None:
    reference = CommandReference(
        (sys.executable, "-c", "import sys; print(sys.stdin.read() + sys.argv[1])", "$HOME;id")
    )
    assert SecretStore().resolve(reference).reveal() == "$HOME;id"


def test_command_that_leaves_a_daemon_with_the_pipe_does_not_wait_for_it(tmp_path: Path) -> None:
    ended = tmp_path / "pid"
    program = (
        "import os, sys, time\n"
        f"print('{VALUE}', flush=True)\n"
        "pid = os.fork()\n"
        "if pid:\n"
        f"    open({str(ended)!r}, 'w').write(str(pid))\n"
        "    os._exit(0)\n"
        "os.setsid()\n"
        "time.sleep(60)\n"
    )
    began = time.monotonic()
    try:
        assert SecretStore().resolve(command(program)).reveal() == VALUE
        assert time.monotonic() - began < secrets.COMMAND_SECONDS
    finally:
        os.kill(int(ended.read_text()), 9)


def test_endless_output_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "COMMAND_SECONDS", 0.3)
    with pytest.raises(SecretError, match="gave nothing within 0 s; it must not ask anybody"):
        SecretStore().resolve(command("import sys\nwhile True: sys.stdout.write('y' * 4096 + chr(10))"))


def test_a_command_that_hangs_is_ended_with_its_children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(secrets, "COMMAND_SECONDS", 1.0)
    pid = tmp_path / "pid"
    program = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen(['sleep', '60'])\nopen({str(pid)!r}, 'w').write(str(child.pid))\nchild.wait()"
    )
    with pytest.raises(SecretError, match="gave nothing within"):
        SecretStore().resolve(command(program))
    assert _ends(int(pid.read_text()))


def _ends(pid: int) -> bool:
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([ended], [], [], 10)[0])
    finally:
        os.close(ended)


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        (command(f"import sys; print('{VALUE}'); sys.stderr.write('{VALUE}'); sys.exit(3)"), "ended with exit code 3"),
        (command("pass"), "it is empty"),
        (command("import sys; sys.stdout.buffer.write(b'\\xff')"), "it is not UTF-8 text"),
        (CommandReference(("/nonexistent/program",)), "cannot be started: No such file or directory"),
    ],
)
def test_commands_that_give_nothing(reference: CommandReference, why: str) -> None:
    with pytest.raises(SecretError, match=why) as caught:
        SecretStore().resolve(reference)
    assert VALUE not in str(caught.value)
    assert str(reference) in str(caught.value)
