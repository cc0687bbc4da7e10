"""Whatever a host answers, the parsers of hardware and software facts give facts or Missing, never an exception."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dstui.facts import clock, cpu, disk, gpu, links, mem, os, sw, versions
from dstui.facts.case import Group, HostSite, Site
from dstui.facts.raw import Answer, Missing, Op, Raw
from dstui.model import Reason

GROUPS = [module.GROUP for module in (clock, cpu, disk, gpu, links, mem, os, sw, versions)]

HOST = HostSite("gpu-01", frozenset({"head"}), "198.51.100.11", None, "198.51.100.11", 22, "dstui", True, 8)
PEER = HostSite("gpu-02", frozenset({"worker"}), "198.51.100.12", None, "198.51.100.12", 22, "dstui", True, 8)


def site(python: str | None) -> Site:
    return Site("lab", "lab", "pre", (HOST, PEER), "/mnt/x", python, None, "bare-metal", True, "sudo-n")


def ops_of(group: Group, python: str | None = "/opt/v/bin/python") -> tuple[Op, ...]:
    return group.ops(HOST, site(python))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=30), inner, max_size=3),
    max_leaves=8,
)
fragments = st.sampled_from(
    [
        "", "\x00", "\x1b[31m", "0-", "0-3,8", "MemTotal: x kB", '{"cuda": []}', "null", "[[]]", "[N/A]", "-1",
        "4294967295", "0, GPU-1, NVIDIA H100, 1, 2, 3, 4, 5", '"unclosed, quote', "Docker version , build",
        "release 12.1, V", "٣",
    ]
)  # fmt: skip
texts = fragments | st.text(max_size=60)
FILES = [
    "/sys/block/sda/size", "/sys/class/net/eth0/speed", "/sys/devices/system/cpu/cpu0/topology/core_id",
    "/sys/devices/system/memory/memory0/online", "/sys/bus/pci/devices/0000:1b:00.0/vendor",
    "/sys/class/infiniband/mlx5_0/ports/1/rate", "/opt/v/lib/python3.12/site-packages/vllm-1.dist-info/METADATA",
    "/usr/local/cuda/version.json", "/sys/devices/system/node/node0/meminfo", "/proc/7/exe",
]  # fmt: skip
file_tables = st.dictionaries(st.sampled_from(FILES), texts | st.lists(st.integers(), min_size=5, max_size=5))
answers = st.builds(
    lambda output, error, code, value, missing: Answer("k", "source", output, error, code, value, missing=missing),
    texts,
    texts,
    st.sampled_from([None, 0, 1, 2, 126, 127, -9]),
    file_tables | json_values,
    st.none() | st.just(Missing(Reason.TIMEOUT, "10 s")),
)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), python=st.sampled_from([None, "/opt/v/bin/python"]))
def test_any_answers_give_facts(group: Group, data: st.DataObject, python: str | None) -> None:
    table = {op.key: data.draw(answers) for op in ops_of(group, python)}
    assert isinstance(group.parse(Raw(table)), group.facts)
    for op in group.more(HOST, site(python), Raw(table)) if group.more else ():
        table[op.key] = data.draw(answers)
    assert isinstance(group.parse(Raw(table)), group.facts)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_no_answers_at_all_give_facts(group: Group) -> None:
    assert isinstance(group.parse(Raw()), group.facts)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_keys_lie_under_the_groups_name_and_are_asked_once(group: Group) -> None:
    keys = [op.key for op in ops_of(group)]
    assert all(key.startswith(group.name + ".") for key in keys)
    assert len(keys) == len(set(keys))


def test_a_host_without_gpu_is_not_asked_for_gpus() -> None:
    plain = HostSite("lb-01", frozenset({"lb"}), "198.51.100.21", None, "198.51.100.21", 22, "dstui", False, None)
    assert gpu.ops(plain, site(None)) == ()
    assert gpu.more(plain, site(None), Raw()) == ()
    assert not [op for op in versions.ops(plain, site(None)) if "nvcc" in op.key]
    assert not [op for op in sw.ops(plain, site(None)) if "ctk" in op.key]
