"""Memory blocks, MemTotal, modules and limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dstui.facts.case import HostSite, Site
from dstui.facts.mem import GROUP, more, parse
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


GIB = 1 << 30


def test_dgx() -> None:
    facts = parse(captured("dgx-h100"))
    assert facts.online_blocks_bytes == 2048 * GIB
    assert facts.dimms == (64 * GIB,) * 32
    assert facts.installed == 2048 * GIB
    assert facts.nodes is not None and not isinstance(facts.nodes, Missing) and len(facts.nodes) == 2


def test_a_256_gib_machine_shows_less() -> None:
    facts = parse(captured("a100-pcie"))
    assert isinstance(facts.total, int) and 251 < facts.total / GIB < 252
    assert facts.installed == 256 * GIB
    assert isinstance(facts.dimms, Missing) and facts.dimms.reason is Reason.PERMISSION


def test_block_size_is_hex_without_0x() -> None:
    facts = parse(captured("vm-virtio"))
    assert facts.online_blocks_bytes == 192 * 0x8000000 == 24 * GIB
    assert facts.total == 24684084 * 1024
    assert facts.session_limit is None


def test_offline_blocks_do_not_count() -> None:
    blocks = {f"/sys/devices/system/memory/memory{i}/online": "1" if i else "0" for i in range(4)}
    facts = parse(captured("a100-pcie", mem__blocks=value(blocks)))
    assert facts.online_blocks_bytes == 3 * 2 * GIB


@pytest.mark.parametrize("size", ["", "0x8000000", "zz", "-1"])
def test_garbled_block_size(size: str) -> None:
    facts = parse(captured("a100-pcie", mem__block_size=text(size)))
    assert isinstance(facts.online_blocks_bytes, Missing) and isinstance(facts.installed, Missing)


@pytest.mark.parametrize(
    "said", ["", "MemFree: 1 kB\n", "MemTotal: lots kB\n", "MemTotal:        99999999999999999999999 kB\n"]
)
def test_garbled_meminfo(said: str) -> None:
    facts = parse(captured("a100-pcie", mem__meminfo=text(said)))
    assert isinstance(facts.total, Missing) and facts.total.reason is Reason.PARSE_ERROR


def test_modules_that_are_not_there_are_no_size() -> None:
    said = "Memory Device\n\tSize: No Module Installed\nMemory Device\n\tSize: 65536 MB\n\tVolatile Size: 64 GB\n"
    assert parse(captured("a100-pcie", mem__dimms=text(said, code=0))).dimms == (64 * GIB,)


def test_limits_of_the_session_and_of_ray() -> None:
    limits = {"/sys/fs/cgroup/user.slice/memory.max": "137438953472\n", "/sys/fs/cgroup/memory.max": "max\n"}
    raw = captured("a100-pcie", mem__limits=value(limits), mem__raylets=text("4242\n", code=0))
    keys = [op.key for op in more(HOST, SITE, raw)]
    assert keys == ["mem.limits", "mem.ray-cgroup", "mem.ray-limits"]
    ray = {
        "mem.ray-cgroup": value({"/proc/4242/cgroup": "0::/system.slice/ray.service\n"}),
        "mem.ray-limits": value(
            {
                "/sys/fs/cgroup/system.slice/ray.service/memory.max": "68719476736\n",
                "/sys/fs/cgroup/system.slice/other.service/memory.max": "1024\n",
            }
        ),
    }
    facts = parse(Raw({**raw.answers, **ray}))
    assert (facts.session_limit, facts.ray_limit) == (128 * GIB, 64 * GIB)


def test_no_raylet_no_limit_known() -> None:
    assert isinstance(parse(captured("a100-pcie")).ray_limit, Missing)
