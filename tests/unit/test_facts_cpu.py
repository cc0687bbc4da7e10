"""Cores, threads and what the session may use of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dstui.facts import cgroup
from dstui.facts.case import HostSite, Site
from dstui.facts.cpu import GROUP, Topology, more, parse
from dstui.facts.numbers import cpu_list
from dstui.facts.raw import Answer, Missing, Raw
from dstui.model import Reason

HOSTS = Path(__file__).parent.parent / "data" / "hosts"
HOST = HostSite("gpu-01", frozenset({"head"}), "198.51.100.11", None, "198.51.100.11", 22, "dstui", True, None)
PEER = HostSite("gpu-02", frozenset({"worker"}), "198.51.100.12", None, "198.51.100.12", 22, "dstui", True, None)
SITE = Site("lab", "lab", "pre", (HOST, PEER), "/mnt/x", None, None, "bare-metal", True, "none")


def captured(name: str, **changes: Answer) -> Raw:
    """A captured host; `changes` are answers put in the place of others (`__` for `.`, `_` for `-`)."""
    sources = {op.key: op.source for op in GROUP.ops(HOST, SITE)}
    table = {
        key: Answer(
            key, sources.get(key, key), row.get("output", ""), row.get("error", ""), row.get("exit"), row.get("value"),
            missing=Missing(Reason(row["missing"]), row["why"]) if "missing" in row else None,
        )
        for key, row in json.loads((HOSTS / f"{name}.json").read_text()).items()
    }  # fmt: skip
    return Raw(table | {key.replace("__", ".").replace("_", "-"): answer for key, answer in changes.items()})


def text(output: str, error: str = "", code: int | None = None) -> Answer:
    return Answer("k", "source", output, error, code)


def value(found: object) -> Answer:
    return Answer("k", "source", value=found)


def missing(reason: Reason, why: str = "why") -> Answer:
    return Answer("k", "source", missing=Missing(reason, why))


@pytest.mark.parametrize(
    ("host", "topology", "logical", "hypervisor", "nodes"),
    [
        ("dgx-h100", Topology(112, 2, "sysfs"), 224, False, 2),
        ("a100-pcie", Topology(64, 2, "sysfs"), 128, False, 2),
        ("vm-virtio", Topology(2, 1, "sysfs"), 2, True, 1),
    ],
)
def test_captured(host: str, topology: Topology, logical: int, hypervisor: bool, nodes: int) -> None:
    facts = parse(captured(host))
    assert (facts.topology, facts.logical, facts.affinity) == (topology, logical, logical)
    assert (facts.hypervisor, facts.nodes, facts.session_quota) == (hypervisor, nodes, None)


def test_offline_cpus_are_not_counted() -> None:
    facts = parse(captured("dgx-h100", cpu__online=text("0-111\n")))
    assert (facts.logical, facts.present) == (112, 224)
    assert facts.topology == Topology(112, 2, "sysfs")


def test_cores_of_several_dies_have_equal_numbers() -> None:
    base = "/sys/devices/system/cpu/cpu{}/topology/{}"
    names = ("physical_package_id", "die_id", "core_id")
    table = {
        base.format(cpu, name): content
        for cpu in (0, 1)
        for name, content in zip(names, ("0", str(cpu), "0"), strict=True)
    }
    facts = parse(captured("dgx-h100", cpu__topology=value(table), cpu__online=text("0-1")))
    assert facts.topology == Topology(2, 1, "sysfs")


def test_lscpu_where_sysfs_is_silent() -> None:
    silent = captured("dgx-h100", cpu__topology=missing(Reason.PERMISSION), cpu__online=missing(Reason.PERMISSION))
    assert [op.key for op in more(HOST, SITE, silent)] == ["cpu.limits", "cpu.lscpu"]
    said = "# The following is the parsable format\n# CPU,Core,Socket\n0,0,0\n1,1,0\n2,0,0\n3,1,0\n"
    facts = parse(Raw({**silent.answers, "cpu.lscpu": text(said, code=0)}))
    assert (facts.topology, facts.logical) == (Topology(2, 1, "lscpu"), 4)


def test_nothing_readable() -> None:
    gone = missing(Reason.PERMISSION)
    facts = parse(captured("dgx-h100", cpu__topology=gone, cpu__online=gone, cpu__lscpu=gone))
    assert isinstance(facts.topology, Missing) and isinstance(facts.logical, Missing)


def test_an_online_cpu_without_topology_leaves_the_count_unknown() -> None:
    facts = parse(captured("dgx-h100", cpu__online=text("0-300")))
    assert isinstance(facts.topology, Missing) and facts.logical == 301


def test_session_quota() -> None:
    limits = {"/sys/fs/cgroup/a/cpu.max": "1600000 100000\n", "/sys/fs/cgroup/cpu.max": "max 100000\n"}
    assert parse(captured("dgx-h100", cpu__limits=value(limits))).session_quota == 16.0


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("0::/user.slice/s-1.scope\n", ("user.slice/s-1.scope/", "user.slice/", "")),
        ("0::/\n", ("",)),
        ("0::/../../x\n", ()),
        ("", ()),
    ],
)
def test_cgroup_ancestors(own: str, expected: tuple[str, ...]) -> None:
    found = cgroup.ancestors(own, "cpu", "cpu.max", "cpu.cfs_quota_us")
    assert found == tuple(f"/sys/fs/cgroup/{place}cpu.max" for place in expected)


def test_cgroup_v1() -> None:
    own = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n"
    found = cgroup.ancestors(own, "memory", "memory.max", "memory.limit_in_bytes")
    assert found[0] == "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes"
    assert cgroup.byte_limit({"a": "9223372036854771712", "b": "1073741824", "c": "max", "d": "x"}) == 1 << 30
    quota, period = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"
    assert cgroup.cpu_limit({quota: "400000", period: "100000"}) == 4.0
    assert cgroup.cpu_limit({quota: "-1", period: "100000"}) is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [("0-3,8\n", frozenset({0, 1, 2, 3, 8})), ("\n", frozenset()), ("5", frozenset({5}))],
)
def test_cpu_list(written: str, expected: frozenset[int]) -> None:
    assert cpu_list("online", written) == expected


@pytest.mark.parametrize("written", ["0-", "a", "3-1", "0-9999999", "-1", "0--3"])
def test_cpu_list_garbled(written: str) -> None:
    assert isinstance(cpu_list("online", written), Missing)
