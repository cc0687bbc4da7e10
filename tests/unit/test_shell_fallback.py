"""The shell fallback in real shells: the same answers as the collector's, and nothing worse from damaged output."""

from __future__ import annotations

import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import raw
from dstui.gather import shell, ship

SHELLS = [name for name in ("dash", "bash", "busybox") if shutil.which(name)] or ["sh"]


def in_shell(
    ops: Sequence[raw.Op], name: str = "sh", *, become: str = "none", env: dict[str, str] | None = None
) -> dict[str, dict[str, object]]:
    argv = ["busybox", "sh", "-s"] if name == "busybox" else [name, "-s"]
    done = subprocess.run(
        argv, input=shell.script(ops, become), capture_output=True, timeout=60, env={**os.environ, **(env or {})},
        check=False,
    )  # fmt: skip
    assert done.stdout.endswith(shell.DONE)
    assert done.stderr == b""
    return shell.parse(done.stdout, ops)


def in_python(ops: Sequence[raw.Op]) -> dict[str, dict[str, object]]:
    with subprocess.Popen(ship.local_argv(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        request = [{"key": op.key, "kind": op.kind, "args": dict(op.args)} for op in ops]
        process.stdin.write(ship.bootstrap_payload())
        process.stdin.write(json.dumps({"id": 1, "verb": "facts", "ops": request}).encode() + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        return json.loads(process.stdout.readline()[1:])["answers"]


def make_tree(root: Path) -> Path:
    (root / "eth0").mkdir()
    (root / "eth1").mkdir()
    (root / "eth0" / "speed").write_text("1000\n")
    (root / "eth1" / "speed").write_text("no newline")
    (root / "odd name's \"$x`").write_bytes(b"\x00\x01\xff\x1b[0m*?[a]\n\n")
    (root / "link").symlink_to("eth0/speed")
    (root / ".hidden").write_text("h")
    (root / "名").write_text("é")
    (root / "long").write_bytes(b"x" * 5000)
    return root


@pytest.mark.parametrize("name", SHELLS)
def test_the_answers_are_the_collectors(name: str, tmp_path: Path) -> None:
    root = str(make_tree(tmp_path))
    ops = [
        raw.read("read", f"{root}/eth0/speed"),
        raw.read("odd", f"{root}/odd name's \"$x`"),
        raw.read("cut", f"{root}/long", limit=100),
        raw.glob("glob", f"{root}/eth[0-9]/speed", f"{root}/n*ne"),
        raw.glob("all", f"{root}/*", each=50),
        raw.glob("many", f"{root}/*", files=2),
        raw.listing("listing", f"{root}/*", f"{root}/.hid*", f"{root}/none"),
        raw.links("links", f"{root}/*"),
        raw.run("exit", "sh", "-c", "echo out; echo err >&2; exit 3"),
        raw.run("words", "printf", "%s|", "a b", "it's", '"$HOME`x`"', "*", "\\n", ""),
        raw.run("absent", "no-such-tool"),
        raw.run("limit", "sh", "-c", "head -c 5000 /dev/zero | tr '\\0' y", limit=1000),
        raw.run("quiet", "true"),
        raw.run("input", "cat"),
    ]
    mine, theirs = in_shell(ops, name), in_python(ops)
    for op in ops:
        expected = {key: value for key, value in theirs[op.key].items() if key not in ("s", "why")}
        got = {key: value for key, value in mine[op.key].items() if key != "why"}
        if op.key == "listing":
            expected["value"] = {path: [*row[:4], int(row[4])] for path, row in expected["value"].items()}
        got.setdefault("error", "")
        expected.setdefault("error", "")
        if name == "busybox" and op.key in ("cut", "limit"):
            assert op.args["limit"] <= got.pop("bytes") <= expected.pop("bytes")
        assert got == expected, op.key


@pytest.mark.parametrize("name", SHELLS)
def test_paths_and_self(name: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    ops = [raw.paths("p", str(tmp_path), str(tmp_path / "link"), "/nowhere", "/proc"), raw.own_process("s")]
    mine, theirs = in_shell(ops, name), in_python(ops)
    seen, real = mine["p"]["value"], theirs["p"]["value"]
    assert isinstance(seen, dict)
    assert isinstance(real, dict)
    for path, row in real.items():
        for key in ("dev", "parent_dev", "real", "access"):
            assert seen[path][key] == row[key], (path, key)
        for key in ("lstat", "stat"):
            assert seen[path][key] == (row[key] and [*row[key][:4], int(row[key][4])])
        for key in ("bsize", "frsize", "blocks", "files"):
            assert (seen[path]["statvfs"] or {}).get(key) == (row["statvfs"] or {}).get(key)
    assert seen["/nowhere"]["error"] == {"call": "lstat", "errno": "ENOENT", "message": "No such file or directory"}
    own, other = mine["s"]["value"], theirs["s"]["value"]
    assert isinstance(own, dict)
    assert isinstance(other, dict)
    assert {key: own[key] for key in own if key not in ("time", "python", "mode", "adjtimex")} == {
        key: other[key] for key in other if key not in ("time", "python", "mode", "adjtimex")
    }
    assert (own["mode"], own["python"], own["adjtimex"]) == ("sh", None, None)
    assert abs(own["time"] - time.time()) < 60


@pytest.mark.parametrize("timeout_tool", [True, False])
def test_a_command_that_is_too_slow_is_ended(timeout_tool: bool, tmp_path: Path) -> None:
    ops = [raw.run("slow", "sh", "-c", "echo so far; exec sleep 300", timeout=0.3), raw.run("after", "echo", "x")]
    if not timeout_tool:
        (tmp_path / "timeout").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "timeout").chmod(0o755)
    script = shell.script(ops, "none")
    if not timeout_tool:
        script = script.replace(b"PATH=/usr", f"PATH={tmp_path}:/usr".encode(), 1)
    started = time.monotonic()
    done = subprocess.run(["sh", "-s"], input=script, capture_output=True, timeout=60, check=False)
    answers = shell.parse(done.stdout, ops)
    assert time.monotonic() - started < 20
    assert answers["slow"]["missing"] == "timeout"
    assert "so far" in str(answers["slow"]["why"])
    assert answers["after"]["output"] == "x\n"


def test_what_needs_python_is_said_at_once() -> None:
    ops = [
        raw.nvml("n"),
        raw.resolve("r", "x"),
        raw.dns("d", "x"),
        raw.http("h", "http://x"),
        raw.connect("c", ("x", 1)),
    ]
    for answer in in_shell(ops).values():
        assert (answer["missing"], "python3" in str(answer["why"])) == ("tool-missing", True)


def test_unreadable_is_not_empty(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tmp_path / "secret").mkdir(mode=0o000)
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0)
    answers = in_shell(
        [
            raw.listing("l", f"{tmp_path}/secret/*"),
            raw.glob("literal", f"{tmp_path}/secret/a"),
            raw.glob("g", f"{tmp_path}/file"),
            raw.read("r", f"{tmp_path}/file"),
        ]
    )
    assert {answer["missing"] for answer in answers.values()} == {"permission"}


def test_denied_words_become_permission() -> None:
    output = (
        b"\x1eG g\n\x1eE g\nls: cannot access '/root/x': Permission denied\n"
        b"\x1eI r\n\x1eX r 1 0 10\ncat: /x: Permission denied\x1eZ\n"
    )
    answers = shell.parse(output)
    assert answers["g"]["missing"] == answers["r"]["missing"] == "permission"


@pytest.mark.parametrize(
    ("become", "sudo", "missing", "why"),
    [
        ("none", "exit 0", "permission", "become: none"),
        ("sudo-n", "echo 'sudo: a password is required' >&2; exit 1", "permission", "sudo -n refused sshd"),
        ("sudo-n", 'echo ran "$@"; exit 1', None, None),
        ("sudo-n", None, "permission", "no sudo"),
    ],
)
def test_root(tmp_path: Path, become: str, sudo: str | None, missing: str | None, why: str | None) -> None:
    tools = {"id": '[ "$1" = -un ] && echo ops || echo 1000', "sshd": "exit 0", "sudo": sudo}
    for name, body in tools.items():
        if body is not None:
            (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
            (tmp_path / name).chmod(0o755)
    if sudo is None and shutil.which("sudo"):
        pytest.skip("there is a sudo on this machine")
    op = raw.run("r", "sshd", "-T", "-C", "user=root,host=x", root=True)
    script = shell.script([op], become).replace(b"PATH=/usr", f"PATH={tmp_path}:/usr".encode(), 1)
    done = subprocess.run(["sh", "-s"], input=script, capture_output=True, timeout=60, check=False)
    answer = shell.parse(done.stdout)["r"]
    assert answer.get("missing") == missing
    if why is None:
        assert (answer["output"], answer["exit"]) == ("ran -n -- sshd -T -C user=root,host=x\n", 1)
    else:
        assert why in str(answer["why"])
        if sudo is not None:
            assert f"ops ALL=(root) NOPASSWD: {tmp_path}/sshd -T -C user\\=root\\,host\\=x" in str(answer["why"])


def test_a_path_that_hangs_loses_only_its_own_answer(tmp_path: Path) -> None:
    # As near to a dead mount as an ordinary user gets: stat(1) of one name stops and never answers.
    (tmp_path / "stat").write_text(
        f'#!/bin/sh\ncase "$*" in */stuck*) echo $$ >> {tmp_path}/pids; kill -STOP $$;; esac\nexec /usr/bin/stat "$@"\n'
    )
    (tmp_path / "stat").chmod(0o755)
    ops = [raw.paths("p", "/stuck1", "/proc", "/stuck2", timeout=1), raw.run("r", "echo", "x")]
    script = shell.script(ops, "none").replace(b"PATH=/usr", f"PATH={tmp_path}:/usr".encode(), 1)
    process = subprocess.Popen(["sh", "-s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(script)
        process.stdin.flush()
        output = b""
        while not output.endswith(shell.DONE):
            assert select.select([process.stdout], [], [], 20)[0]
            output += os.read(process.stdout.fileno(), 65536)
    finally:
        process.kill()
        for pid in (tmp_path / "pids").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        process.communicate()
    answers = shell.parse(output, ops)
    assert answers["r"]["output"] == "x\n"
    seen = answers["p"]["value"]
    assert isinstance(seen, dict)
    assert {path: "hung" in row for path, row in seen.items()} == {"/stuck1": True, "/proc": False, "/stuck2": True}


def test_a_session_without_python_from_end_to_end() -> None:
    command = ship.exec_command(("no-such-python",))
    with subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(ship.bootstrap_payload() + b'{"id": 1, "verb": "facts"}\n')
        process.stdin.flush()
        assert json.loads(process.stdout.readline()[1:])["mode"] == "sh"
        for word in ("first", "second"):
            ops = [raw.run("r", "echo", word)]
            process.stdin.write(shell.script(ops, "none"))
            process.stdin.flush()
            output = b""
            while not output.endswith(shell.DONE):
                assert select.select([process.stdout], [], [], 20)[0]
                output += os.read(process.stdout.fileno(), 65536)
            assert shell.parse(output, ops)["r"]["output"] == word + "\n"
        process.stdin.close()
        assert process.wait(10) == 0


SAMPLE_OPS = [
    raw.read("a", "/proc/self/mountinfo"),
    raw.glob("b", "/proc/sys/kernel/o*"),
    raw.run("c", "sh", "-c", "seq 20; echo e >&2"),
    raw.listing("d", "/etc/h*"),
    raw.links("e", "/proc/self/*"),
    raw.own_process("f"),
    raw.paths("g", "/", "/proc"),
    raw.run("h", "no-such-tool"),
]


@pytest.fixture(scope="module")
def sample() -> bytes:
    return subprocess.run(["sh", "-s"], input=shell.script(SAMPLE_OPS, "none"), capture_output=True, check=True).stdout


def test_output_that_is_cut_anywhere_gives_whole_answers_or_none(sample: bytes) -> None:
    whole = shell.parse(sample, SAMPLE_OPS)
    assert not [key for key, answer in whole.items() if "missing" in answer and key != "h"]
    for end in range(0, len(sample), 7):
        for key, answer in shell.parse(sample[:end], SAMPLE_OPS).items():
            assert answer == whole[key] or answer["missing"] == "timeout", (key, end)


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from("OIGLKPUXFNEMZ ab12\n"), max_size=60).map("\x1e".join).map(str.encode)
)
def test_any_output_is_answers(output: bytes) -> None:
    for answer in shell.parse(output, SAMPLE_OPS).values():
        json.dumps(answer)


@given(st.lists(st.text(min_size=1).filter(lambda word: "\0" not in word), min_size=1, max_size=4))
def test_every_word_is_quoted(words: list[str]) -> None:
    # All of a command's words come out of a real shell as they went in; one process for all examples would be unfair.
    line = shell._run(raw.run("k", *words), "k", "none")
    assert shlex.split(line)[4:] == words
