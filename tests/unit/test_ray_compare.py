"""Ray beside the inventory and NVML: expected, alive, dead, strangers, and three GPU counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dstui.facts.case import HostSite, Site
from dstui.model import Reason, same
from dstui.telemetry.ray import Fault, RayNode, RaySnapshot, Resources
from dstui.telemetry.ray_compare import GpuCounts, HostLoss, Joined, beliefs, compare


def host(name: str, ip: str, *roles: str, gpus: int | None = 8, gpu: bool = True) -> HostSite:
    return HostSite(
        name=name,
        roles=frozenset(roles or ("worker",)),
        data_ip=ip,
        mgmt_ip="192.168.0." + ip.rsplit(".", 1)[1],
        address=name,
        port=22,
        user="ops",
        gpu=gpu,
        gpus_per_host=gpus,
    )


def site(*hosts: HostSite) -> Site:
    return Site(
        name="lab",
        environment="test",
        phase="live",
        hosts=hosts,
        shared_path="/data",
        runtime_python=None,
        runtime_user=None,
        runtime_mode="bare-metal",
        docker_required=False,
        become="none",
    )


SITE = site(
    host("head-01", "10.0.0.1", "head", gpu=False, gpus=None),
    host("gpu-02", "10.0.0.2"),
    host("gpu-03", "10.0.0.3"),
    host("lb-01", "10.0.0.9", "lb"),
)
NVML: dict[str, int | None] = {"gpu-02": 8, "gpu-03": 8}


def node(name: str, ip: str | None, state: str = "ALIVE", gpu: float | None = 8.0, **more: object) -> RayNode:
    return RayNode(name, ip, state=state, total=Resources(gpu=gpu), **more)  # type: ignore[arg-type]


HEAD = node("h", "10.0.0.1", gpu=0.0, head=True)
SECOND, THIRD = node("a", "10.0.0.2"), node("b", "10.0.0.3")


def looked(*nodes: RayNode) -> RaySnapshot:
    return RaySnapshot(100.0, nodes=nodes)


def test_everything_agrees() -> None:
    seen = compare(looked(HEAD, SECOND, THIRD), SITE, NVML)
    assert [(each.host, each.joined, each.wrong_address) for each in seen.hosts] == [
        ("head-01", Joined.ALIVE, None),
        ("gpu-02", Joined.ALIVE, None),
        ("gpu-03", Joined.ALIVE, None),
    ]
    assert (seen.alive, len(seen.expected), seen.strangers, seen.complete) == (3, 3, (), True)
    assert seen.gpus == GpuCounts(16.0, 16, 16)
    assert all(each.gpus.agree for each in seen.hosts) and seen.gpus.agree is True


def test_a_dead_and_an_absent_host() -> None:
    dead = replace(THIRD, state="DEAD", message="health check failed")
    seen = compare(looked(dead), SITE, NVML)
    assert [(each.host, each.joined, each.deaths) for each in seen.hosts] == [
        ("head-01", Joined.ABSENT, 0),
        ("gpu-02", Joined.ABSENT, 0),
        ("gpu-03", Joined.DEAD, 1),
    ]
    assert seen.hosts[2].node == dead
    assert seen.hosts[2].gpus == GpuCounts(0.0, 8, 8)
    assert seen.hosts[2].gpus.agree is False
    assert seen.gpus.ray == 0.0


def test_the_living_row_counts_beside_two_dead_ones() -> None:
    rows = [
        node("old1", "10.0.0.2", "DEAD", started_at=9.0),
        node("new", "10.0.0.2", started_at=5.0),
        node("old2", "10.0.0.2", "DEAD"),
    ]
    gpu = compare(looked(*rows), SITE, NVML).hosts[1]
    assert (gpu.joined, gpu.deaths, gpu.gpus.ray) == (Joined.ALIVE, 2, 8.0)
    assert gpu.node is not None and gpu.node.node_id == "new"


def test_two_raylets_on_one_host_count_its_gpus_twice() -> None:
    seen = compare(looked(SECOND, node("a2", "10.0.0.2")), SITE, NVML)
    assert (seen.hosts[1].joined, seen.hosts[1].gpus) == (Joined.TWICE, GpuCounts(16.0, 8, 8))


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (node("x", "192.168.0.2"), "gpu-02"),
        (node("x", "172.16.5.2"), "gpu-02"),
        (node("x", "10.99.0.1", hostname="gpu-02.cluster.local"), "gpu-02"),
        (node("x", "127.0.0.1", head=True), "head-01"),
    ],
)
def test_a_node_that_joined_with_another_address_is_known_and_flagged(row: RayNode, name: str) -> None:
    seen = compare(looked(row), SITE, NVML, {"gpu-02": frozenset({"172.16.5.2", "127.0.0.1"})})
    (found,) = [each for each in seen.hosts if each.node is not None]
    assert (found.host, found.joined, found.wrong_address) == (name, Joined.ALIVE, row.ip)
    assert seen.strangers == ()


def test_strangers_are_alive_and_nobodys() -> None:
    living, dead = node("s", "10.9.9.9"), node("d", "10.9.9.8", "DEAD")
    assert compare(looked(living, dead), SITE, NVML).strangers == (living,)


def test_a_loopback_worker_is_a_stranger() -> None:
    row = node("x", "127.0.0.1")
    assert compare(looked(row), SITE, {}, {"gpu-02": frozenset({"127.0.0.1"})}).strangers == (row,)


def test_a_host_without_a_role_in_ray_that_joined_is_listed_as_unexpected() -> None:
    seen = compare(looked(node("x", "10.0.0.9")), SITE, NVML)
    assert [(each.host, each.expected) for each in seen.hosts if each.node] == [("lb-01", False)]
    assert seen.alive == 0


def test_what_is_not_known_agrees_with_nothing() -> None:
    unknown = compare(RaySnapshot(100.0), SITE, NVML)
    assert {each.joined for each in unknown.hosts} == {Joined.UNKNOWN}
    assert (unknown.gpus.ray, unknown.gpus.agree, unknown.complete) == (None, None, False)
    assert compare(looked(HEAD, SECOND, THIRD), SITE, {"gpu-02": 8}).gpus == GpuCounts(16.0, 16, None)
    assert compare(looked(HEAD, SECOND, node("b", "10.0.0.3", gpu=None)), SITE, NVML).gpus.ray is None
    loose = site(host("gpu-02", "10.0.0.2", gpus=None))
    assert compare(looked(SECOND), loose, NVML).gpus == GpuCounts(8.0, None, 8)
    assert compare(looked(), site(), {}).gpus.agree is None


def test_an_incomplete_list_proves_nobody_absent() -> None:
    fault = Fault("nodes", "/api/v0/nodes", Reason.CANNOT_TELL, same("part"), partial=True)
    seen = compare(replace(looked(SECOND), faults=(fault,)), SITE, NVML)
    assert [each.joined for each in seen.hosts] == [Joined.UNKNOWN, Joined.ALIVE, Joined.UNKNOWN]
    assert seen.gpus.ray is None


def test_a_state_that_dstui_does_not_know_is_unclear() -> None:
    seen = compare(looked(replace(SECOND, state="HIBERNATING")), SITE, NVML)
    assert (seen.hosts[1].joined, seen.hosts[1].gpus.ray) == (Joined.UNCLEAR, None)


def test_what_ray_believes_until_it_knows() -> None:
    seen = compare(looked(HEAD, SECOND, THIRD), SITE, NVML)
    losses = {"gpu-02": HostLoss(92.0, silent=True), "gpu-03": HostLoss(97.4, silent=False)}
    told = beliefs(seen, losses, 100.0)
    assert told["gpu-02"].en == "Ray still counts gpu-02 as alive; its host stopped answering 8 s ago"
    assert told["gpu-03"].en == "Ray still counts gpu-03 as alive; its raylet has been gone for 3 s, the host answers"
    known = compare(looked(HEAD, replace(SECOND, state="DEAD"), replace(THIRD, state="DEAD")), SITE, NVML)
    assert beliefs(known, losses, 112.0) == {}
