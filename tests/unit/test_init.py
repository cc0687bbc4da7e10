"""`dstui init`: what it writes is an inventory that loads as it is, and nothing is made up."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstui.gather.ssh import JumpHop
from dstui.inventory import Inventory, discover
from dstui.inventory.discover import (
    fetch_ray_nodes,
    resolve_names,
    starter_from_hosts,
    starter_from_ray,
    starter_from_ssh_config,
)
from dstui.inventory.loader import parse_inventory
from dstui.inventory.ssh_config import read_ssh_config
from dstui.inventory.starter import host_name, yaml_text
from dstui.inventory.yaml_tree import core_value
from dstui.model import GatherError, Reason, SecretError, UsageError

DATA = Path(__file__).parents[1] / "data/inventory"
NODES = json.loads((DATA / "ray_nodes.json").read_text("utf-8"))
DASHBOARD = "http://10.77.0.11:8265"


def nobody(names: Sequence[str]) -> Mapping[str, str]:
    return {}


def loaded(text: str) -> Inventory:
    return parse_inventory(text, Path("inventory.yaml"))


def from_hosts(*lines: str, known: Mapping[str, str] | None = None) -> str:
    return starter_from_hosts(lines, resolve=lambda names: known or {}, login="ops")


def test_hosts_by_name_and_address() -> None:
    text = from_hosts(
        "gpu-01=198.51.100.11", "# a comment", "", "GPU_02 = 198.51.100.12  # rack 3", "lb-01", "198.51.100.14",
        known={"lb-01": "198.51.100.13"},
    )  # fmt: skip
    inventory = loaded(text)
    hosts = {host.name: host for host in inventory.site().hosts}
    assert {name: host.data_ip for name, host in hosts.items()} == {
        "gpu-01": "198.51.100.11",
        "gpu-02": "198.51.100.12",
        "lb-01": "198.51.100.13",
        "198.51.100.14": "198.51.100.14",
    }
    assert hosts["gpu-01"].roles == {"head"}
    assert hosts["gpu-02"].roles == {"worker"}
    assert hosts["lb-01"].roles == {"lb"}
    assert hosts["lb-01"].address == "lb-01", "ssh dials the name, known_hosts has it"
    assert inventory.ssh.user == "ops"
    assert "from a list of hosts: 4 hosts." in text
    assert "`dstui inventory check`" in text


def test_a_name_that_says_head_is_the_head() -> None:
    site = loaded(from_hosts("gpu-01=10.0.0.1", "ray-head=10.0.0.2", "head-2=10.0.0.3", "nas1=10.0.0.4")).site()
    assert [sorted(host.roles) for host in site.hosts] == [["worker"], ["head"], ["worker"], ["storage"]]


def test_hosts_without_an_address_are_left_for_a_person() -> None:
    known = {"here": "127.0.1.1", "gpu-02": "10.0.0.1"}
    text = from_hosts("gpu-01=10.0.0.1", "gone", "here", "gpu-02", "gpu-01=10.0.0.9", known=known)
    assert [host.name for host in loaded(text).site().hosts] == ["gpu-01"]
    assert "# - {name: gone, roles: [worker], data_ip: }   # the name has no address here\n" in text
    assert "# - {name: here, roles: [worker], data_ip: }   # the name means 127.0.1.1 on this machine\n" in text
    assert "data_ip: 10.0.0.1}   # has the address of gpu-01\n" in text
    assert "data_ip: 10.0.0.9}   # the name is taken\n" in text


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "no hosts were named; write `dstui init gpu-01=10.0.0.11 gpu-02=10.0.0.12`"),
        (["", "# x"], "no hosts were named"),
        (["a b"], "host 1: `a b` is not a host; write gpu-01 or gpu-01=10.0.0.11"),
        (["x", "-o=1.2.3.4"], "host 2: `-o=1.2.3.4` is not a host"),
        (["a=b"], "host 1: `b` is not an IP address; write a=10.0.0.11"),
        (["a="], "host 1: `` is not an IP address; write a=10.0.0.11"),
        (["a=0.0.0.0"], "is not an IP address"),
        (["\x1b[31m"], r"host 1: `\?\[31m` is not a host"),
        (["gone"], "no host could be taken from a list of hosts; write them as name=ip"),
    ],
)
def test_hosts_that_cannot_be(lines: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        starter_from_hosts(lines, resolve=nobody)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    ssh = tmp_path / ".ssh"
    (ssh / "conf.d").mkdir(parents=True)
    (ssh / "config").write_text((DATA / "ssh/config").read_text("utf-8"), "utf-8")
    (ssh / "conf.d/extra").write_text("Host extra\n  HostName 198.51.100.30\n  User extra\n  ProxyJump none\n")
    (ssh / "id_ops").write_text("key")
    (ssh / "id_ops").chmod(0o600)
    return tmp_path


def from_config(home: Path, known: Mapping[str, str] | None = None) -> str:
    known = {"gpu-03.example.com": "198.51.100.13"} if known is None else known
    return starter_from_ssh_config(home / ".ssh/config", resolve=lambda names: known, login="me", home=home)


def test_ssh_config(home: Path) -> None:
    text = from_config(home)
    inventory = loaded(text)
    key = home / ".ssh/id_ops"
    hop = JumpHop("bastion.example.com", 2200, "jumper", key)
    found = {host.name: inventory.ssh_for(host.name) for host in inventory.site().hosts}
    assert list(found) == ["extra", "gpu-01", "gpu-02", "gpu-03", "nas-01"]
    assert {name: (ssh.address, ssh.user, ssh.port, ssh.jump) for name, ssh in found.items()} == {
        "extra": ("198.51.100.30", "extra", 22, ()),
        "gpu-01": ("198.51.100.11", "dstui", 22, (hop,)),
        "gpu-02": ("198.51.100.12", "root", 2222, ()),
        "gpu-03": ("gpu-03.example.com", "dstui", 22, (hop,)),
        "nas-01": ("198.51.100.23", "ops", 22, ()),
    }
    assert {ssh.identity for ssh in found.values()} == {key}
    assert inventory.site().host("gpu-03").data_ip == "198.51.100.13"
    assert "# - {name: bastion, data_ip: }   # others use it as jump host\n" in text
    assert "# - {name: nowhere, roles: [worker], data_ip: }   # the name has no address here\n" in text
    assert "# has the address of gpu-01\n" in text


def test_ssh_config_runs_nothing(home: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    config = home / ".ssh/config"
    config.write_text(
        f'Match exec "touch {mark}"\n  User x\nHost a\n  HostName 10.0.0.1\n  ProxyCommand touch {mark}\n'
    )
    assert loaded(from_config(home)).ssh.user == "me"
    assert not mark.exists()


def test_an_open_key_is_not_taken_but_told(home: Path) -> None:
    (home / ".ssh/id_ops").chmod(0o644)
    text = from_config(home)
    assert "has mode 0644; make it private: chmod 600. Then write:\n" in text
    assert f'# identity_ref: "file:{home}/.ssh/id_ops"\n' in text
    assert loaded(text).ssh_for("gpu-01").identity is None


def test_chained_jumps_and_settings_from_wildcards(home: Path) -> None:
    (home / ".ssh/config").write_text(
        "Host inner\n ProxyJump outer\n HostName 10.1.0.1\nHost gpu\n HostName 10.0.0.1\n ProxyJump me@inner:2222\n"
        "Host six\n HostName 10.0.0.6\n ProxyJump [2001:db8::1]:2022,last\nHost *\n Port 2200\n"
    )
    hosts = {host.alias: host for host in read_ssh_config(home / ".ssh/config", home=home).hosts()}
    assert [(hop.host, hop.user, hop.port) for hop in hosts["gpu"].jump] == [
        ("outer", None, 2200),
        ("10.1.0.1", "me", 2222),
    ]
    assert [(hop.host, hop.port) for hop in hosts["six"].jump] == [("2001:db8::1", 2022), ("last", 2200)]
    assert hosts["gpu"].port == 2200
    assert loaded(from_config(home)).ssh_for("gpu").jump[1].user == "me"


def test_a_file_that_includes_itself_ends(home: Path) -> None:
    (home / ".ssh/config").write_text("Include config\nHost a\n HostName 10.0.0.1\n")
    assert [host.alias for host in read_ssh_config(home / ".ssh/config", home=home).hosts()] == ["a"]


def test_a_jump_through_itself_ends(home: Path) -> None:
    (home / ".ssh/config").write_text("Host *\n ProxyJump a\nHost a\n HostName 10.0.0.1\nHost b\n HostName 10.0.0.2\n")
    assert "others use it as jump host" in from_config(home)


@pytest.mark.parametrize("content", [None, "", "Host *\n  User x\n", "User x\n"])
def test_ssh_config_without_hosts(tmp_path: Path, content: str | None) -> None:
    config = tmp_path / "config"
    if content is not None:
        config.write_text(content)
    why = "cannot be read" if content is None else "names no host without a wildcard"
    with pytest.raises(UsageError, match=why):
        starter_from_ssh_config(config, home=tmp_path, resolve=nobody)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Host", "HostName", "User", "Port", "ProxyJump", "IdentityFile", "Match", "Include", "x"]),
            st.one_of(
                st.text(max_size=12),
                st.sampled_from(
                    ["a", "b c", "*", "10.0.0.1", "10.0.0.2", "a,b", "u@a:1", "/nope", '"', "none", "::1", "a%h"]
                ),
            ),
        ),
        max_size=14,
    )
)
def test_any_ssh_config_gives_an_inventory_or_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str]]
) -> None:
    home = tmp_path_factory.getbasetemp() / "any"
    home.mkdir(exist_ok=True)
    config = home / "config"
    config.write_text("".join(f"{key} {value}\n" for key, value in lines), "utf-8", errors="replace")
    try:
        text = starter_from_ssh_config(config, home=home, resolve=lambda names: {"b": "10.9.9.9"}, login="me")
    except UsageError:
        return
    assert loaded(text).site().hosts


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(st.text(max_size=10), st.from_regex(r"[a-zA-Z0-9_.]{1,6}=10\.0\.0\.[1-5]", fullmatch=True)),
        max_size=8,
    )
)
def test_any_lines_give_an_inventory_or_a_usage_error(lines: list[str]) -> None:
    try:
        text = starter_from_hosts(lines, resolve=lambda names: dict.fromkeys(names, "10.9.9.9"), login="me")
    except UsageError:
        return
    assert loaded(text).site().hosts


def test_ray_nodes_with_the_head_first() -> None:
    text = starter_from_ray(NODES, DASHBOARD + "/", login="ops")
    inventory = loaded(text)
    assert [(h.name, sorted(h.roles), h.data_ip, h.gpu, h.gpus_per_host) for h in inventory.site().hosts] == [
        ("head", ["head"], "10.77.0.11", False, None),
        ("worker-01", ["worker"], "10.77.0.12", True, 8),
        ("worker-02", ["worker"], "10.77.0.13", True, 8),
    ]
    assert inventory.value("ray.dashboard_url") == DASHBOARD
    assert "gpu: false}   # Ray declares no GPU here; correct this if there is one\n" in text
    assert "# expect: {gpu_models: [H100]}\n" in text


def test_a_token_is_kept_as_its_reference() -> None:
    inventory = loaded(starter_from_ray(NODES, DASHBOARD, token_ref="env:RAY_AUTH_TOKEN"))
    assert inventory.value("ray.token_ref") == "env:RAY_AUTH_TOKEN"


def test_dead_ray_nodes_are_left_for_a_person() -> None:
    nodes = json.loads((DATA / "ray_nodes_one_dead.json").read_text("utf-8"))
    text = starter_from_ray(nodes, DASHBOARD)
    assert len(loaded(text).site().hosts) == 2
    assert "data_ip: 10.77.0.13}   # Ray says it is dead\n" in text


def test_a_node_that_came_back_is_taken_once() -> None:
    rows = NODES["data"]["result"]["result"]
    again = {"data": {"result": {"result": [{**rows[0], "state": "DEAD"}, *rows]}}}
    text = starter_from_ray(again, DASHBOARD)
    assert len(loaded(text).site().hosts) == 3
    assert "dead" not in text


def test_ray_nodes_keep_their_names() -> None:
    rows = [{**row, "node_name": f"GPU-{i}.example.com"} for i, row in enumerate(NODES["data"]["result"]["result"])]
    site = loaded(starter_from_ray({"data": {"result": {"result": rows}}}, DASHBOARD)).site()
    assert [host.name for host in site.hosts] == ["gpu-1.example.com", "gpu-0.example.com", "gpu-2.example.com"]


@pytest.mark.parametrize("nodes", [None, [], {}, {"data": None}, {"data": {"result": {"result": {}}}}, "x"])
def test_what_is_no_list_of_nodes(nodes: object) -> None:
    with pytest.raises(UsageError, match="this is not a Ray dashboard's list of nodes"):
        starter_from_ray(nodes, DASHBOARD)


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
_NODE = st.fixed_dictionaries(
    {
        "node_ip": st.one_of(_JSON, st.sampled_from(["10.0.0.1", "10.0.0.2", "::1"])),
        "is_head_node": st.one_of(_JSON, st.booleans()),
        "state": st.sampled_from(["ALIVE", "DEAD", None]),
        "node_name": _JSON,
        "resources_total": st.one_of(
            _JSON, st.dictionaries(st.sampled_from(["GPU", "accelerator_type:H100", "accelerator_type:\n- x"]), _JSON)
        ),
    }
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(_NODE, _JSON), max_size=5))
def test_any_nodes_give_an_inventory_or_a_usage_error(rows: list[object]) -> None:
    try:
        text = starter_from_ray({"data": {"result": {"result": rows}}}, DASHBOARD, login="me")
    except UsageError:
        return
    assert loaded(text).site().hosts


class _Dashboard(BaseHTTPRequestHandler):
    """A dashboard that wants the token `t0ken` and notes what it was asked."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        right = self.headers.get("Authorization") == "Bearer t0ken-value"
        body = json.dumps(NODES).encode() if right else b"Unauthorized: Missing authentication token"
        self.send_response(200 if right else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error."""


@pytest.fixture
def dashboard() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Dashboard", (_Dashboard,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


async def test_nodes_are_fetched_with_the_token(
    dashboard: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = dashboard
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t0ken-value")
    assert await fetch_ray_nodes(url + "/", "env:RAY_AUTH_TOKEN") == NODES
    assert asked == ["/api/v0/nodes?detail=1&limit=10000"]


async def test_a_dashboard_that_wants_a_token(
    dashboard: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wr0ng-value")
    with pytest.raises(GatherError, match="it wants a token: add --ray-token env:RAY_AUTH_TOKEN") as caught:
        await fetch_ray_nodes(dashboard[0])
    assert caught.value.reason is Reason.NO_CREDENTIAL
    with pytest.raises(GatherError, match="it refused this token") as caught:
        await fetch_ray_nodes(dashboard[0], "env:RAY_AUTH_TOKEN")
    assert "wr0ng" not in str(caught.value)


async def test_a_dashboard_that_is_not_there() -> None:
    with pytest.raises(GatherError) as caught:
        await fetch_ray_nodes("http://127.0.0.1:1")
    assert caught.value.reason is Reason.UNREACHABLE


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (404, "not found", "answered with status 404; is this a Ray dashboard?"),
        (200, "<!doctype html>", "answered with something else than JSON"),
        (200, "[" * 100_000, "answered with something else than JSON"),
    ],
)
async def test_an_answer_that_is_no_list(status: int, body: str, why: str) -> None:
    async def answer(url: str, headers: Mapping[str, str]) -> tuple[int, str]:
        return status, body

    with pytest.raises(GatherError, match=why.replace("?", r"\?")):
        await fetch_ray_nodes(DASHBOARD, fetch=answer)


@pytest.mark.parametrize(
    "url", ["10.0.0.1:8265", "ftp://x", "http://", "http://x:99999", "http://x y", "http://x\n", ""]
)
async def test_what_is_no_dashboard_url(url: str) -> None:
    with pytest.raises(UsageError, match="is not a dashboard's URL; write one such as http"):
        await fetch_ray_nodes(url)


async def test_a_login_in_the_url_is_refused_unseen() -> None:
    with pytest.raises(UsageError, match="has a login in it") as caught:
        await fetch_ray_nodes("http://admin:hunter2@x:8265")
    assert "hunter2" not in str(caught.value)


async def test_a_token_that_is_no_reference() -> None:
    with pytest.raises(SecretError, match="is no reference") as caught:
        await fetch_ray_nodes(DASHBOARD, "hunter2hunter2")
    assert "hunter2" not in str(caught.value)


def test_names_are_looked_up_together_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = threading.Event()

    def getaddrinfo(name: str, *_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if name == "hangs":
            hanging.wait()
        if name == "gone":
            raise OSError("no such name")
        return [(10, 1, 6, "", ("2001:db8::1", 0)), (2, 1, 6, "", ("198.51.100.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(discover, "RESOLVE_SECONDS", 0.2)
    assert resolve_names(["gpu-01", "gone", "hangs"]) == {"gpu-01": "198.51.100.1"}
    hanging.set()


@pytest.mark.parametrize(
    ("written", "name"),
    [("GPU_01", "gpu-01"), ("a.b.", "a.b"), ("::1", None), ("2001:db8::1", "2001-db8--1"),
     ("-x", None), ("机架", None), ("a b", None), ("x" * 64, None)],
)  # fmt: skip
def test_names_of_hosts(written: str, name: str | None) -> None:
    assert host_name(written) == name


@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=20))
def test_text_is_quoted_where_yaml_needs_it(text: str) -> None:
    written = yaml_text(text)
    assert written.startswith('"') or core_value(written) == text
    host = "{name: a, data_ip: 10.0.0.1, roles: [lb]}"
    document = f"version: 1\ncluster: {{name: a}}\nssh: {{user: u}}\nhosts: [{host}]\nvars: {{x: {written}}}\n"
    if "${" not in text:
        assert loaded(document).document.vars == {"x": text}
