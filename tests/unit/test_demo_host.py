"""The made-up hosts: they answer as the collector and the shell would, are on loopback only, and run nothing."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import asyncssh
import pytest

from dstui import probes
from dstui.catalogue import load_catalogue
from dstui.demo.cast import Character, Traits, cast
from dstui.demo.fleet import Fleet, Keys
from dstui.demo.inventory import inventory_yaml
from dstui.demo.machine import Machine, build
from dstui.demo.nginx import Proxy
from dstui.demo.shellside import END_OF_SCRIPT, operations, printed
from dstui.demo.together import Together
from dstui.demo.tree import Entry, Layer, Tree, folder, link
from dstui.facts import raw
from dstui.facts.case import HostSite, Site
from dstui.facts.raw import Op, OpKind, Raw
from dstui.gather import shell, ship
from dstui.gather.answers import raw_of
from dstui.gather.collector import files as collector_files
from dstui.inventory import load_inventory
from dstui.opening import site_of

IN_SHELL = frozenset({OpKind.READ, OpKind.GLOB, OpKind.LISTING, OpKind.LINKS, OpKind.RUN, OpKind.PATHS, OpKind.SELF})


def machine(number: int = 1, of: int = 8) -> Machine:
    fleet = cast(of)
    proxy = Proxy("127.0.0.8:8000", [f"http://{host.ssh_ip}:8000" for host in fleet]) if number == 1 else None
    key = "ssh-ed25519 AAAA dstui@demo\n"
    return build(fleet[number - 1], fleet, ssh_port=40022, authorized_key=key, proxy=proxy)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """As the demo's inventory makes it."""
    identity, path = tmp_path / "id", tmp_path / "inventory.yaml"
    identity.write_text("k")
    identity.chmod(0o600)
    text = inventory_yaml(cast(8), port=40022, identity=identity, known_hosts=tmp_path / "known_hosts")
    path.write_text(text)
    return site_of(load_catalogue(), load_inventory(path), {})


def asked(host: HostSite, site: Site) -> list[Op]:
    return [op for group in probes.groups().values() for op in group.ops(host, site)]


def carried_out(host: Machine, ops: Sequence[Op]) -> Raw:
    request = [{"key": op.key, "kind": op.kind.value, "args": op.args} for op in ops]
    answers = json.loads(json.dumps(host.answers(json.loads(json.dumps(request)))))
    return raw_of(ops, answers)


def test_every_operation_of_every_group_is_answered(site: Site) -> None:
    host = site.host("gpu-01")
    ops = asked(host, site)
    told = carried_out(machine(), ops)
    more = [op for group in probes.groups().values() if group.more for op in group.more(host, site, told)]
    # These are asked for by observations, not by groups.
    assert {op.kind for op in ops} == set(OpKind) - {OpKind.TREE, OpKind.PIECES, OpKind.SHA256}
    answers = {**told.answers, **carried_out(machine(), more).answers}
    missing = {key: answer.missing.reason.value for key, answer in answers.items() if answer.missing}
    # What a healthy Ubuntu server has no use for.
    assert missing == {
        "addresses.nmcli": "tool-missing",
        "addresses.netplan_files": "permission",
        "firewall.nft": "tool-missing",
        "firewall.firewalld": "tool-missing",
        "listeners.tcp": "cannot-tell",
        "listeners.tcp6": "cannot-tell",
        "storage.quota": "tool-missing",
    }
    failed = {key for key, answer in answers.items() if answer.exit not in (0, None)}
    assert failed == {"agents.sizes", "sw.packages"}


@pytest.mark.parametrize(
    ("op", "reason", "why"),
    [
        (raw.read("x", "/etc/nothing"), "cannot-tell", "ENOENT: /etc/nothing: No such file or directory"),
        (raw.read("x", "/etc/netplan/50-cloud-init.yaml"), "permission", "EACCES: "),
        (raw.read("x", "/etc/ssh"), "cannot-tell", "EISDIR: "),
        (raw.run("x", "no-such-tool", "-v"), "tool-missing", "no-such-tool is not on the host"),
        (raw.glob("x", "/etc/netplan/*.yaml"), "permission", "EACCES: /etc/netplan/50-cloud-init.yaml"),
        (Op("x", OpKind.READ, {"path": 7}, ""), "probe-error", "the collector could not do this"),
    ],
)
def test_what_is_not_there_is_told_in_the_collectors_words(op: Op, reason: str, why: str) -> None:
    found = carried_out(machine(), [op]).answers["x"].missing
    assert found is not None
    assert found.reason.value == reason
    assert found.why.startswith(why)


def test_an_unknown_argument_is_a_usage_error_not_an_answer() -> None:
    ran = carried_out(machine(), [raw.run("x", "docker", "run", "--rm", "busybox")]).answers["x"]
    assert (ran.exit, ran.output) == (2, "")


# --- wildcards ---------------------------------------------------------------

TREE: Mapping[str, Entry | str] = {
    "/a/eth0/speed": "1000\n",
    "/a/eth1/speed": "25000\n",
    "/a/.hidden": "h",
    "/a/lo": link("../virtual/lo"),
    "/b/c/d/e": "deep",
    "/f": folder(),
}


@pytest.mark.parametrize(
    "pattern",
    [
        "/a/eth[0-9]/speed",
        "/a/*",
        "/a/.*",
        "/a/*/speed",
        "/*/*/*/*",
        "/f",
        "/none",
        "/a/eth?/none",
        "/a/[a-k]*",
        "/b/*/d/e",
    ],
)
def test_wildcards_find_what_the_collector_finds(pattern: str, tmp_path: Path) -> None:
    for path, entry in TREE.items():
        place = tmp_path / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, str):
            place.write_text(entry)
        elif entry.target is not None:
            place.symlink_to(entry.target)
        else:
            place.mkdir()
    root = str(tmp_path)
    real = collector_files.Matches({"patterns": [root + pattern]}).paths
    assert list(Tree((Layer(TREE),)).glob([pattern])) == [path.decode().removeprefix(root) for path in real]


def test_layers_are_one_tree() -> None:
    tree = Tree((Layer({"/a/x": "1", "/b": "old"}), Layer({"/a/y": "2", "/b": "new"})))
    assert tree.glob(["/a/*", "/*"]) == ["/a", "/a/x", "/a/y", "/b"]
    found = tree.entry("/b")
    assert found is not None
    assert found.content == "new"
    directory = tree.entry("/a")
    assert directory is not None
    assert stat.S_ISDIR(directory.mode)
    assert tree.entry("/a/z") is None


def test_who_may_read() -> None:
    assert Entry(mode=0o100644).readable
    assert not Entry(mode=0o100600).readable
    assert Entry(mode=0o100600, uid=1001).readable


# --- the shell's side --------------------------------------------------------


def test_a_script_is_read_back_as_its_operations(site: Site) -> None:
    ops = asked(site.host("gpu-07"), site)
    script = shell.script(ops, "sudo-n")
    assert script.endswith(END_OF_SCRIPT)
    found = {each.key: each for each in operations(script)}
    assert set(found) == {op.key for op in ops}
    for op in ops:
        each = found[op.key]
        if op.kind not in IN_SHELL:
            assert each.kind is None
            continue
        assert each.kind is op.kind
        for name in ("path", "patterns", "argv", "paths"):
            assert each.args.get(name) == op.args.get(name), op.key
        for name in ("limit", "each"):
            assert each.args.get(name, op.args.get(name)) == op.args.get(name), op.key


def test_what_the_shell_prints_is_what_the_collector_answers(site: Site) -> None:
    host, ops = machine(7), asked(site.host("gpu-07"), site)
    told = raw_of(ops, shell.parse(printed(shell.script(ops, "sudo-n"), host.answer), ops))
    whole = carried_out(host, ops)
    for op in ops:
        mine, theirs = told.answers[op.key], whole.answers[op.key]
        if op.kind not in IN_SHELL:
            assert mine.missing is not None
            assert mine.missing.reason.value == "tool-missing"
        elif theirs.missing is not None:
            assert mine.missing is not None
            assert mine.missing.reason is theirs.missing.reason, op.key
        elif op.kind is OpKind.SELF:
            assert isinstance(mine.value, dict)
            assert isinstance(theirs.value, dict)
            for name in ("uid", "user", "groups", "home", "hostname", "affinity", "controller_ip"):
                assert mine.value[name] == theirs.value[name]
        elif op.kind is OpKind.PATHS:
            assert isinstance(mine.value, dict)
            assert isinstance(theirs.value, dict)
            for path, look in theirs.value.items():
                for name in ("lstat", "stat", "dev", "parent_dev", "real", "access"):
                    assert mine.value[path][name] == look[name], (path, name)
        else:
            assert (mine.output, mine.exit, mine.value) == (theirs.output, theirs.exit, theirs.value), op.key


# --- what hosts do together --------------------------------------------------


def host(number: int, traits: Traits | None = None) -> Character:
    return Character(number, traits or Traits(), "")


def test_ports_are_held_for_each_other() -> None:
    together, one, two = Together(), host(1), host(2)
    listen = {"verb": "listen", "address": two.data_ip, "port": 10002, "nonce": "n", "seconds": 20.0}
    assert together.perform(two, listen) == {"state": "listening", "holder": None, "why": ""}
    connect = {
        "verb": "connect",
        "endpoints": [[two.data_ip, 10002, "n"], [two.data_ip, 10002, "m"], [two.data_ip, 9, "n"]],
    }
    answer = together.perform(one, connect)
    assert answer is not None
    assert isinstance(answer["tries"], list)
    assert [row[2] for row in answer["tries"]] == ["ok", "wrong-nonce", "refused"]
    together.forget(two)
    again = together.perform(one, connect)
    assert again is not None
    assert isinstance(again["tries"], list)
    assert {row[2] for row in again["tries"]} == {"refused"}
    foreign = together.perform(one, listen)
    assert foreign is not None
    assert foreign["state"] == "failed"


def test_files_are_seen_where_the_share_is_mounted() -> None:
    together, one, two, off = Together(), host(1), host(2), host(3, Traits(share_mounted=False))
    place = {"dir": "/mnt/s/.dstui-probe", "run": "0" * 32}
    digests = {}
    for each in (one, off):
        answer = together.perform(each, {"verb": "nonce-write", "name": each.name, "as_user": "deepseek", **place})
        assert answer is not None
        assert (answer["written"], answer["as_user"]) == (True, "deepseek")
        digests[each.name] = answer["sha256"]
    look = {"verb": "nonce-read", "sha256": digests, "within": 40.0, **place}
    outcomes = {}
    for each in (two, off):
        reads = together.perform(each, look)
        assert reads is not None
        assert isinstance(reads["reads"], dict)
        outcomes[each.name] = {writer: row[0] for writer, row in reads["reads"].items()}
    assert outcomes == {
        "gpu-02": {"gpu-01": "match", "gpu-03": "absent"},
        "gpu-03": {"gpu-01": "absent", "gpu-03": "match"},
    }
    together.perform(one, {"verb": "nonce-clean", "name": one.name, **place})
    gone = together.perform(two, {**look, "sha256": {one.name: digests[one.name]}})
    assert gone is not None
    assert isinstance(gone["reads"], dict)
    assert gone["reads"]["gpu-01"][0] == "absent"


# --- the server --------------------------------------------------------------


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    running = Fleet(cast(8), Keys.fresh())
    running.start()
    yield running
    running.stop()


def connecting(fleet: Fleet, number: int, user: str = "dstui", key: asyncssh.SSHKey | None = None) -> object:
    return asyncssh.connect(
        fleet.characters[number - 1].ssh_ip,
        fleet.port,
        username=user,
        client_keys=[key or fleet.keys.client],
        known_hosts=([fleet.keys.server.convert_to_public()], [], []),
        agent_path=None,
        config=None,
    )


def test_hosts_are_on_loopback_only(fleet: Fleet) -> None:
    assert {host.ssh_ip.split(".")[0] for host in cast(64)} == {"127"}
    assert len({host.ssh_ip for host in cast(64)}) == 64
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if " 0A " in line]
    ours = [address for address, _, port in (word.partition(":") for word in listening) if int(port, 16) == fleet.port]
    # Little-endian: the first byte of the address is the last pair of digits.
    assert len(ours) == 7
    assert {address[-2:] for address in ours} == {"7F"}


async def test_only_the_fleets_own_key_opens_it(fleet: Fleet) -> None:
    for number, user, key in ((1, "ops", None), (1, "root", None), (1, "dstui", Keys.fresh().client)):
        with pytest.raises(asyncssh.PermissionDenied):
            await connecting(fleet, number, user, key)  # type: ignore[misc]
    async with connecting(fleet, 8, "root") as connection:  # type: ignore[attr-defined]
        assert connection.get_extra_info("username") == "root"
    with pytest.raises(ConnectionRefusedError):
        await connecting(fleet, 5)  # type: ignore[misc]


async def test_nothing_is_ever_run(fleet: Fleet) -> None:
    async with connecting(fleet, 1) as connection:  # type: ignore[attr-defined]
        for command in ("id", "true; " + ship.exec_command(), None):
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.create_process(command)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.start_sftp_client()
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", fleet.port)


async def test_a_bad_request_is_answered_and_the_session_lives(fleet: Fleet) -> None:
    async with connecting(fleet, 1) as connection:  # type: ignore[attr-defined]
        process = await connection.create_process(ship.exec_command(), encoding=None)
        process.stdin.write(ship.bootstrap_payload())
        hello = json.loads((await process.stdout.readline())[1:])
        assert (hello["id"], hello["mode"], hello["version"]) == (0, "python", 1)
        for line in (
            b"{",
            b"[]",
            b'{"id":3,"verb":"dance"}',
            b'{"id":4,"verb":"facts"}',
            b'{"id":5,"verb":"nonce-read"}',
        ):
            process.stdin.write(line + b"\n")
            answer = json.loads((await process.stdout.readline())[1:])
            assert (answer["ok"], answer["reason"]) == (False, "probe-error")
        process.stdin.write(b'{"id":6,"verb":"bye"}\n')
        assert json.loads((await process.stdout.readline())[1:]) == {"id": 6, "ok": True}
        assert (await process.wait()).exit_status == 0


def test_a_fleet_can_be_stopped_again_and_again() -> None:
    running = Fleet(cast(2), Keys.fresh())
    running.stop()
    running.start()
    running.stop()
    running.stop()
