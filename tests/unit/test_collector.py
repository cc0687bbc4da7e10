"""The collector as a real child process, spoken to as the controller does: files, commands, limits, and its end."""

from __future__ import annotations

import ast
import fnmatch
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import raw
from dstui.gather import ship
from dstui.gather.collector import commands, facts, files, wire
from dstui.gather.collector.loop import Loop

COLLECTOR = Path(files.__file__).parent
PYENV = Path.home() / ".pyenv" / "versions"


class Host:
    """A collector process. Every read has a limit, so a silent one fails the test instead of hanging it."""

    def __init__(
        self, argv: list[str] | None = None, *, payload: bool = True, env: dict[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            argv or ship.local_argv(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            bufsize=0,
        )
        self._buffer = b""
        self._ids = iter(range(1, 1_000_000))
        if payload:
            self.write(ship.bootstrap_payload())

    def write(self, data: bytes) -> None:
        assert self.process.stdin
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) :]

    def message(self, seconds: float = 20.0) -> dict:
        assert self.process.stdout
        due = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            assert select.select([self.process.stdout], [], [], max(0.0, due - time.monotonic()))[0], "it said nothing"
            chunk = self.process.stdout.read(1 << 20)
            assert chunk, self.process.stderr.read() if self.process.stderr else ""
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        assert line[:1] == b"\x1e"
        return json.loads(line[1:])

    def send(self, verb: str, **args: object) -> int:
        number = next(self._ids)
        self.write(json.dumps({"id": number, "verb": verb, **args}).encode() + b"\n")
        return number

    def ask(self, verb: str, **args: object) -> dict:
        number = self.send(verb, **args)
        answer = self.message()
        assert answer["id"] == number
        return answer

    def facts(self, *ops: raw.Op, **args: object) -> dict:
        request = [{"key": op.key, "kind": op.kind, "args": dict(op.args)} for op in ops]
        answer = self.ask("facts", ops=request, **args)
        assert answer["ok"], answer
        return answer["answers"]

    def end(self, seconds: float = 10.0) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(seconds)

    def release(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


@pytest.fixture
def host() -> Iterator[Host]:
    started = Host()
    assert started.message()["mode"] == "python"
    yield started
    started.release()


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process ends within `seconds`; waits on the process itself."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def test_hello_says_version_and_python() -> None:
    host = Host()
    try:
        python = ".".join(map(str, sys.version_info[:3]))
        assert host.message() == {"id": 0, "ok": True, "mode": "python", "python": python, "version": 1}
        assert host.end() == 0
    finally:
        host.release()


def test_read(host: Host, tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"0123456789" * 100)
    (tmp_path / "bad").write_bytes(b"a\x00\xff\x1e\x1b[31m")
    answers = host.facts(
        raw.read("whole", str(tmp_path / "long")),
        raw.read("cut", str(tmp_path / "long"), limit=15),
        raw.read("bad", str(tmp_path / "bad")),
        raw.read("none", str(tmp_path / "none")),
        raw.read("folder", str(tmp_path)),
        raw.read("proc", "/proc/self/status", limit=10),
    )
    assert answers["whole"]["output"] == "0123456789" * 100
    assert (answers["cut"]["output"], answers["cut"]["bytes"]) == ("012345678901234", 1000)
    assert answers["bad"]["output"] == "a\x00\ufffd\x1e\x1b[31m"
    assert answers["none"]["missing"] == "cannot-tell"
    assert answers["none"]["why"].startswith(f"ENOENT: {tmp_path}/none")
    assert answers["folder"]["why"].startswith("EISDIR")
    assert answers["proc"]["bytes"] > 500


@pytest.mark.parametrize(
    ("code", "reason"), [(13, "permission"), (1, "permission"), (5, "cannot-tell"), (116, "cannot-tell")]
)
def test_read_names_the_error(monkeypatch: pytest.MonkeyPatch, code: int, reason: str) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "open", refuse)
    answer = files.read({"path": "/x", "limit": 10})
    assert answer["missing"] == reason
    assert str(answer["why"]).startswith(os.strerror(code)[:0] + wire.errno.errorcode[code])


def test_glob_listing_and_links(host: Host, tmp_path: Path) -> None:
    for name in ("eth0", "eth1", "lo"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "speed").write_text(name + "\n")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "speed").write_text("no")
    (tmp_path / "link").symlink_to("eth0/speed")
    (tmp_path / "dangling").symlink_to("nowhere")
    answers = host.facts(
        raw.glob("g", f"{tmp_path}/eth[0-9]/speed", f"{tmp_path}/none*", each=3),
        raw.glob("literal", f"{tmp_path}/lo/speed", f"{tmp_path}/none"),
        raw.glob("many", f"{tmp_path}/*/speed", files=2),
        raw.listing("l", f"{tmp_path}/*", f"{tmp_path}/.hidden"),
        raw.links("k", f"{tmp_path}/*"),
    )
    assert answers["g"]["value"] == {f"{tmp_path}/eth0/speed": "eth", f"{tmp_path}/eth1/speed": "eth"}
    assert answers["literal"]["value"] == {f"{tmp_path}/lo/speed": "lo\n"}
    assert answers["many"]["missing"] == "budget"
    assert set(answers["l"]["value"]) == {
        f"{tmp_path}/{name}" for name in ("eth0", "eth1", "lo", "link", "dangling", ".hidden")
    }
    status = (tmp_path / "link").lstat()
    assert answers["l"]["value"][f"{tmp_path}/link"] == [
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_mtime,
    ]
    assert answers["k"]["value"] == {f"{tmp_path}/link": "eth0/speed", f"{tmp_path}/dangling": "nowhere"}


def test_a_place_that_may_not_be_looked_into_is_not_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> list[bytes]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.os, "listdir", refuse)
    answer = files.listing({"patterns": ["/secret/*"]})
    assert answer == {"missing": "permission", "why": "EACCES: /secret"}


def test_unreadable_files_are_named_beside_those_that_were_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    really = os.open

    def sometimes(path: bytes, flags: int) -> int:
        if path.endswith(b"/b"):
            raise OSError(5, "Input/output error")
        return really(path, flags)

    monkeypatch.setattr(files.os, "open", sometimes)
    answer = files.glob({"patterns": [f"{tmp_path}/*"]})
    assert answer == {"value": {f"{tmp_path}/a": "1"}, "error": f"EIO: {tmp_path}/b"}


@given(name=st.text("ab-]^!.", min_size=1, max_size=6), pattern=st.text("ab-*?[]^!.", min_size=1, max_size=8))
def test_wildcards_are_those_of_fnmatch(name: str, pattern: str) -> None:
    if "[^" in pattern or "--" in pattern:
        return  # fnmatch takes ^ literally, the shell and the collector do not; odd ranges differ
    import re

    if any(len(found) == 3 and found[0] > found[2] for found in re.findall(r"\w-\w", pattern)):
        return
    mine = files._matches(name.encode(), files._tokens(pattern.encode()))
    assert mine == fnmatch.fnmatchcase(name, pattern)


def test_run(host: Host) -> None:
    answers = host.facts(
        raw.run("both", "sh", "-c", "echo out; echo err >&2; exit 3"),
        raw.run("none", "no-such-tool"),
        raw.run("path", "/nowhere/tool"),
        raw.run("cut", "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x", limit=1000),
        raw.run("env", "sh", "-c", 'echo "$LC_ALL|$PATH"; cat'),
        raw.run("signal", "sh", "-c", "kill -TERM $$"),
        raw.run("err", "sh", "-c", "head -c 100000 /dev/zero >&2"),
        raw.run("odd", "printf", "%s", "a b'\"$HOME`é\n"),
        raw.run("pipe", "sh", "-c", "trap; kill -PIPE $$; echo ignored"),
    )
    assert answers["both"] | {"s": 0} == {"output": "out\n", "error": "err\n", "exit": 3, "bytes": 4, "s": 0}
    assert answers["none"] == {"missing": "tool-missing", "why": "no-such-tool is not on the host"}
    assert answers["path"]["missing"] == "tool-missing"
    assert (answers["cut"]["output"], answers["cut"]["bytes"]) == ("x" * 1000, 100_000)
    assert answers["env"]["output"].startswith(f"C|{commands.STANDARD_PATH}")
    assert answers["signal"]["exit"] == -signal.SIGTERM
    assert len(answers["err"]["error"]) == 4096
    assert answers["odd"]["output"] == "a b'\"$HOME`é\n"
    assert (answers["pipe"]["exit"], answers["pipe"]["output"]) == (-signal.SIGPIPE, "")


def test_a_command_that_is_too_slow_is_ended_with_all_it_started(host: Host) -> None:
    answer = host.facts(raw.run("slow", "sh", "-c", "sleep 300 & echo $!; wait", timeout=0.3))["slow"]
    assert answer["missing"] == "timeout"
    assert 0.3 <= answer["s"] < 5
    said = answer["why"].partition("so far it said: ")[2]
    assert gone(int(said))


def test_a_command_that_leaves_a_child_behind_keeps_its_answer(host: Host) -> None:
    answer = host.facts(raw.run("daemon", "sh", "-c", "setsid sleep 300 & echo $!", timeout=0.5))["daemon"]
    os.kill(int(answer["output"]), signal.SIGKILL)
    assert answer["exit"] == 0


def test_endless_output_is_ended_and_said_so(host: Host) -> None:
    answer = host.facts(raw.run("flood", "cat", "/dev/zero", limit=10))["flood"]
    assert answer["output"] == "\x00" * 10
    assert "exit" not in answer or answer["exit"] is None
    assert answer["bytes"] > commands.MOST_BYTES
    assert "ended after" in answer["error"]


def test_at_most_sixteen_commands_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0

    class Counted(commands.Command):
        def _start(self, become: str) -> None:
            nonlocal most
            super()._start(become)
            most = max(most, len(self._family))

    monkeypatch.setattr(facts, "Command", Counted)
    ops = [{"key": f"k{number}", "kind": "run", "args": {"argv": ["cat"]}} for number in range(40)]
    replies: list[str] = []
    loop = Loop()
    facts.Facts(loop, {"ops": ops}, replies.append, set())
    due = time.monotonic() + 20
    while not replies and time.monotonic() < due:
        loop.turn()
    assert most == facts.MOST_COMMANDS
    assert len(json.loads(replies[0])) == 40


def run_here(monkeypatch: pytest.MonkeyPatch, tools: Path, become: str, argv: list[str]) -> dict[str, object]:
    """One root command as an ordinary user would have it, with only the programs in `tools`."""
    monkeypatch.setattr(commands.os, "getuid", lambda: 54321)
    monkeypatch.setattr(commands, "STANDARD_PATH", str(tools))
    monkeypatch.setenv("PATH", "")
    answers: list[dict[str, object]] = []
    loop = Loop()
    commands.Command(loop, {"argv": argv, "root": True}, become, answers.append, set())
    while not answers:
        loop.turn()
    return answers[0]


def tool(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text("#!/bin/sh\n" + body)
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("become", "sudo", "missing", "why"),
    [
        ("none", "exit 0", "permission", "become: none"),
        ("sudo-n", None, "permission", "no sudo on the host"),
        ("sudo-n", "echo 'sudo: a password is required' >&2; exit 1", "permission", "sudo -n refused sshd"),
        ("sudo-n", "echo 'Sorry, user x is not allowed to execute y as root' >&2; exit 1", "permission", "NOPASSWD: "),
        ("sudo-n", 'echo ran "$@"; exit 1', None, None),
    ],
)
def test_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, become: str, sudo: str | None, missing: str | None, why: str | None
) -> None:
    tool(tmp_path, "sshd", "exit 0\n")
    if sudo is not None:
        tool(tmp_path, "sudo", sudo + "\n")
    answer = run_here(monkeypatch, tmp_path, become, ["sshd", "-T", "-C", "user=root,host=dstui"])
    assert answer.get("missing") == missing
    if why is None:
        assert (answer["output"], answer["exit"]) == ("ran -n -- sshd -T -C user=root,host=dstui\n", 1)
    else:
        assert why in str(answer["why"])
    if missing and sudo is not None:
        assert f"NOPASSWD: {tmp_path}/sshd -T -C user\\=root\\,host\\=dstui" in str(answer["why"])


def test_a_program_that_may_not_be_run(host: Host, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o644)
    assert host.facts(raw.run("x", str(tmp_path / "tool")))["x"]["missing"] == "permission"


def test_paths(host: Host, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    seen = host.facts(raw.paths("p", str(tmp_path), str(tmp_path / "link"), "/nowhere/at/all", "/proc"))["p"]["value"]
    status, space = tmp_path.stat(), os.statvfs(tmp_path)
    own = seen[str(tmp_path)]
    assert own["lstat"] == [status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime]
    assert own["dev"] == f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}" == own["parent_dev"]
    assert (own["real"], own["access"], own["error"]) == (str(tmp_path), "rwx", None)
    assert own["statvfs"]["blocks"] == space.f_blocks
    assert seen[str(tmp_path / "link")]["real"] == str(tmp_path)
    assert seen[str(tmp_path / "link")]["lstat"] != seen[str(tmp_path / "link")]["stat"]
    assert seen["/proc"]["dev"] != seen["/proc"]["parent_dev"]
    lost = seen["/nowhere/at/all"]
    assert lost["error"]["call"], lost["error"]["errno"] == ("lstat", "ENOENT")
    assert lost["stat"] is None


# A child stuck in state D cannot be made without a hanging filesystem. This comes close to what is seen of it: the
# child stops in the middle of stat, never to answer, and something that outlives it holds its pipe open.
STUCK = """
import os, signal, sys
from dstui.gather.collector import core, files
really = files.look
def look(args):
    if args["path"].startswith("/stuck"):
        holder = os.fork()
        if not holder:
            os.setsid()
            signal.pause()
        note = sys.argv[1] + "/" + args["path"].strip("/")
        with open(note + ".part", "w") as part:
            part.write("%d %d" % (os.getpid(), holder))
        os.rename(note + ".part", note)
        os.kill(os.getpid(), signal.SIGSTOP)
    return really(args)
files.look = look
core.main({})
"""


def test_a_stuck_path_loses_only_its_own_answer_and_never_the_session(tmp_path: Path) -> None:
    root = str(COLLECTOR.parents[2])
    host = Host([sys.executable, "-c", STUCK, str(tmp_path)], payload=False, env={"PYTHONPATH": root})
    try:
        host.message()
        started = time.monotonic()
        answers = host.facts(
            raw.paths("p", "/stuck1", "/", "/stuck2", "/proc", timeout=1.5),
            raw.read("after", "/proc/uptime"),
            raw.run("r", "echo", "fine"),
        )
        assert time.monotonic() - started < 8
        seen = answers["p"]["value"]
        assert {name: "hung" in row for name, row in seen.items()} == {
            "/stuck1": True,
            "/": False,
            "/stuck2": True,
            "/proc": False,
        }
        assert answers["after"]["output"]
        assert answers["r"]["output"] == "fine\n"
        assert host.end(5.0) == 0
    finally:
        for note in tmp_path.iterdir():
            stopped, holder = map(int, note.read_text().split())
            os.kill(holder, signal.SIGKILL)
            assert gone(stopped)
        host.release()


def test_end_of_input_while_a_path_is_stuck_ends_the_session_at_once(tmp_path: Path) -> None:
    root = str(COLLECTOR.parents[2])
    host = Host([sys.executable, "-c", STUCK, str(tmp_path)], payload=False, env={"PYTHONPATH": root})
    try:
        host.message()
        op = raw.paths("p", "/stuck1", timeout=600)
        host.send("facts", ops=[{"key": "p", "kind": "paths", "args": dict(op.args)}], deadline=600)
        due = time.monotonic() + 10
        while not (tmp_path / "stuck1").exists() and time.monotonic() < due:
            host.ask("close", port=1)
        started = time.monotonic()
        assert host.end(5.0) == 0
        assert time.monotonic() - started < 3
    finally:
        for note in tmp_path.iterdir():
            os.kill(int(note.read_text().split()[1]), signal.SIGKILL)
        host.release()


def test_the_deadline_answers_what_is_not_finished(host: Host, tmp_path: Path) -> None:
    answers = host.facts(
        raw.run("slow", "sleep", "300", timeout=100), raw.run("quick", "echo", "hi"), raw.read("r", "/proc/uptime"),
        deadline=0.6,
    )  # fmt: skip
    assert answers["slow"]["missing"] == "timeout"
    assert "0.6 s" in answers["slow"]["why"]
    assert answers["quick"]["output"] == "hi\n"
    assert answers["r"]["output"]


def test_self(host: Host) -> None:
    own = host.facts(raw.own_process("s"))["s"]["value"]
    assert own["uid"] == os.getuid()
    assert own["hostname"] == os.uname().nodename
    assert own["affinity"] == sorted(os.sched_getaffinity(0))
    assert abs(own["time"] - time.time()) < 30
    assert (own["mode"], own["python"]) == ("python", ".".join(map(str, sys.version_info[:3])))
    assert set(own) == {
        "uid", "user", "groups", "home", "hostname", "kernel", "machine", "affinity", "time", "adjtimex", "python",
        "controller_ip", "mode",
    }  # fmt: skip
    assert own["adjtimex"] is None or set(own["adjtimex"]) == {"state", "status", "offset_us", "maxerror_us"}


def test_one_bad_operation_does_not_lose_the_others(host: Host) -> None:
    ops = [
        {"key": "unknown", "kind": "teleport", "args": {}},
        {"key": "no-path", "kind": "read", "args": {"path": 7}},
        {"key": "wrong", "kind": "run", "args": {"argv": "ls"}},
        {"key": "empty", "kind": "run", "args": {"argv": []}},
        {"key": "nul", "kind": "run", "args": {"argv": ["echo", "a\0b"]}},
        {"key": "nul-path", "kind": "read", "args": {"path": "/a\0b"}},
        {"key": "paths", "kind": "paths", "args": {"paths": []}},
        {"key": "good", "kind": "run", "args": {"argv": ["echo", "hi"]}},
    ]
    answers = host.ask("facts", ops=ops)["answers"]
    assert answers["good"]["output"] == "hi\n"
    assert answers["paths"]["value"] == {}
    for key in ("unknown", "no-path", "wrong", "empty", "nul", "nul-path"):
        assert answers[key]["missing"] == "probe-error", key


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"{",
        b'{"id": 5}',
        b'[1, 2]',
        b'{"id": 5, "verb": "fly"}',
        b'{"id": 5, "verb": ["facts"]}',
        b'{"id": 5, "verb": "facts"}',
        b'{"id": 5, "verb": "facts", "ops": 7}',
        b'{"id": 5, "verb": "facts", "ops": [{"kind": "read"}]}',
        b'{"id": 5, "verb": "listen", "address": "127.0.0.1", "port": "x"}',
        b'{"id": 5, "verb": "connect", "endpoints": "x"}',
        b'{"id": 5, "verb": "module", "name": 3}',
        b"\xff\xfe\x00\x1e" * 10,
        b"x" * 100_000,
        b"[" * 5_000,
    ],
)  # fmt: skip
def test_a_bad_request_is_refused_and_the_session_goes_on(host: Host, line: bytes) -> None:
    host.write(line + b"\n\n")
    answer = host.message()
    assert (answer["ok"], answer["reason"]) == (False, "probe-error")
    assert answer["id"] == (5 if b'"id": 5' in line else None)
    assert host.facts(raw.run("r", "echo", "still here"))["r"]["output"] == "still here\n"


def test_answers_come_when_they_are_ready(host: Host) -> None:
    slow = host.send("facts", ops=[{"key": "a", "kind": "run", "args": {"argv": ["sleep", "300"], "timeout": 0.5}}])
    quick = host.send("facts", ops=[{"key": "b", "kind": "run", "args": {"argv": ["true"]}}])
    assert [host.message()["id"], host.message()["id"]] == [quick, slow]


def test_a_reader_that_is_slow_gets_everything(host: Host, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"\x01" * 1_000_000)
    number = host.send("facts", ops=[{"key": "a", "kind": "read", "args": {"path": f"{tmp_path}/big", "limit": 10**6}}])
    # The answer is far larger than a pipe: it is still being written while the next request is served.
    host.send("facts", ops=[{"key": "b", "kind": "run", "args": {"argv": ["touch", f"{tmp_path}/served"]}}])
    due = time.monotonic() + 10
    while not (tmp_path / "served").exists():
        assert time.monotonic() < due
    answers = {answer["id"]: answer["answers"] for answer in (host.message(), host.message())}
    assert answers[number]["a"]["output"] == "\x01" * 1_000_000


def test_answers_too_large_for_a_message_lose_only_themselves(host: Host, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"\x01" * 6_000_000)
    answers = host.facts(
        raw.read("big", f"{tmp_path}/big", limit=10**7),
        raw.run("small", "echo", "hi"),
    )
    assert answers["big"]["missing"] == "budget"
    assert answers["small"]["output"] == "hi\n"


@pytest.mark.parametrize("how", ["end of input", "bye", "SIGTERM", "SIGHUP"])
def test_nothing_is_left_behind(host: Host, tmp_path: Path, how: str) -> None:
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    argv = ["sh", "-c", f"sleep 300 & echo $! > {fifo}; wait"]
    host.send("facts", ops=[{"key": "a", "kind": "run", "args": {"argv": argv, "timeout": 300}}])
    pid = int(fifo.read_text())
    if how == "bye":
        assert host.ask("bye")["ok"]
        assert host.process.wait(10) == 0
    elif how == "end of input":
        assert host.end() == 0
    else:
        host.process.send_signal(getattr(signal, how))
        assert host.process.wait(10) == 0
    assert gone(pid)


def test_a_reader_that_went_away_ends_the_session(host: Host) -> None:
    assert host.process.stdout
    host.process.stdout.close()
    host.send("facts", ops=[])
    assert host.process.wait(10) == 0


@pytest.mark.parametrize("path", sorted(COLLECTOR.glob("*.py")), ids=lambda path: path.name)
def test_the_files_are_python_3_6(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 6))


@pytest.mark.parametrize("minor", [6, 8, 13])
def test_on_other_pythons(minor: int, tmp_path: Path) -> None:
    found = sorted(PYENV.glob(f"3.{minor}.*/bin/python3"))
    if not found:
        pytest.skip(f"no Python 3.{minor} in ~/.pyenv")
    host = Host([str(found[0]), *ship.local_argv()[1:]])
    try:
        assert host.message()["python"].startswith(f"3.{minor}.")
        (tmp_path / "名").write_text("é")
        answers = host.facts(
            raw.read("r", f"{tmp_path}/名"),
            raw.glob("g", f"{tmp_path}/*"),
            raw.run("c", "sh", "-c", "echo $1; kill -PIPE $$", "x", "é"),
            raw.run("slow", "sleep", "300", timeout=0.2),
            raw.own_process("s"),
            raw.paths("p", "/"),
            raw.resolve("n", "localhost"),
            raw.connect("t", ("127.0.0.1", 1)),
            raw.http("h", "http://127.0.0.1:1/", proxy="-"),
        )
        assert answers["r"]["output"] == "é"
        assert answers["g"]["value"] == {f"{tmp_path}/名": "é"}
        assert (answers["c"]["output"], answers["c"]["exit"]) == ("é\n", -signal.SIGPIPE)
        assert answers["slow"]["missing"] == "timeout"
        assert answers["s"]["value"]["uid"] == os.getuid()
        assert answers["p"]["value"]["/"]["real"] == "/"
        assert answers["n"]["value"]["localhost"]["addresses"]
        assert answers["t"]["value"][0][2] == "refused"
        assert answers["h"]["value"]["http://127.0.0.1:1/"]["kind"] == "connect"
        assert host.end() == 0
    finally:
        host.release()


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(), lambda x: st.lists(x)))
def test_lean_json_is_json(value: object) -> None:
    assert json.loads(wire.dumps({"v": value})) == {"v": value} == wire.loads(json.dumps({"v": value}))


@given(st.text(max_size=40))
def test_lean_json_refuses_what_json_refuses(line: str) -> None:
    try:
        expected = json.loads(line)
    except ValueError:
        with pytest.raises(ValueError):
            wire.loads(line)
    else:
        assert repr(wire.loads(line)) == repr(expected)  # NaN is not equal to itself
