"""Raylets that Ray calls alive, looked for on their hosts: operations answered from a table of files."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from dstui.facts.case import HostSite
from dstui.facts.raw import Answer, Missing, Op, Raw
from dstui.gather import ray_raylets
from dstui.gather.hostlink import HostLink
from dstui.gather.ray_raylets import Raylets, with_gone
from dstui.model import GatherError, Reason
from dstui.telemetry.ray import RayNode

NODE = "0238914cbae3acd6a447e4127598f9de9714dc890cb31794f5f082c1"
LINE = f"/opt/ray/raylet\0--node_manager_port=10010\0--node_id={NODE}\0--node_ip_address=10.0.0.3"


def stat(pid: int, started: int = 5000, state: str = "S", name: str = "raylet") -> str:
    return f"{pid} ({name}) {state} 1 1 1 0 -1 4194560 1 0 0 0 10 5 0 0 20 0 45 0 {started} 1 1 1\n"


def running(pid: int = 77, **more: object) -> dict[str, str]:
    place = f"/proc/{pid}"
    return {f"{place}/comm": "raylet\n", f"{place}/cmdline": LINE, f"{place}/stat": stat(pid, **more)}  # type: ignore[arg-type]


@dataclass
class Host:
    """Answers globs from `files`; `fault` stands in for all answers, `missing` for each of them."""

    files: dict[str, str] = field(default_factory=dict)
    fault: GatherError | None = None
    missing: Missing | None = None
    asked: list[str] = field(default_factory=list)

    async def facts(self, ops: Sequence[Op], *, deadline: float) -> Raw:
        if self.fault is not None:
            raise self.fault
        return Raw({op.key: self.answer(op) for op in ops})

    def answer(self, op: Op) -> Answer:
        self.asked.append(op.source)
        patterns = cast("list[str]", op.args["patterns"])
        found = {
            path: text
            for path, text in self.files.items()
            if any(fnmatch.fnmatch(path, pattern) for pattern in patterns)
        }
        return Answer(op.key, op.source, value=found, missing=self.missing)


@dataclass
class Pool:
    hosts: Mapping[str, Host]

    async def link(self, host: HostSite) -> HostLink:
        return cast(HostLink, self.hosts[host.name])


def site(name: str, ip: str) -> HostSite:
    return HostSite(
        name=name, roles=frozenset({"worker"}), data_ip=ip, mgmt_ip=None, address=ip, port=22, user="ops", gpu=True,
        gpus_per_host=8,
    )  # fmt: skip


SITES = {"10.0.0.3": site("gpu-03", "10.0.0.3")}
NODES = (RayNode(NODE, "10.0.0.3", state="ALIVE"),)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def watching(host: Host) -> tuple[Raylets, Clock]:
    clock = Clock()
    raylets = Raylets(Pool({"gpu-03": host}), SITES.get, clock=clock)
    raylets.expect(NODES)
    return raylets, clock


async def look(raylets: Raylets, *, answering: bool = True) -> Mapping[str, float]:
    await raylets.look(lambda name: answering)
    return dict(raylets.gone)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param({}, id="gone"),
        pytest.param(running(state="Z"), id="zombie"),
        pytest.param(running(started=9000), id="another-process-with-its-id"),
        pytest.param(running(state="Z", name="ray) let"), id="name-with-a-bracket"),
    ],
)
async def test_a_raylet_that_ran_and_does_not_any_more(after: dict[str, str]) -> None:
    host = Host(running())
    raylets, clock = watching(host)
    assert await look(raylets) == {}
    assert await look(raylets) == {}
    host.files = after
    clock.now = 104.0
    assert await look(raylets) == {NODE: 104.0}
    clock.now = 108.0
    assert await look(raylets) == {NODE: 104.0}, "since when, not when it was last looked at"


@pytest.mark.parametrize(
    "before",
    [
        pytest.param({}, id="none-found"),
        pytest.param({**running(), "/proc/77/cmdline": "raylet --node_id=another"}, id="of-another-node"),
        pytest.param({**running(), "/proc/77/comm": "python"}, id="of-another-name"),
        pytest.param({**running(), "/proc/77/stat": "garbled"}, id="garbled"),
        pytest.param(running(state="Z"), id="a-zombie-from-the-start"),
    ],
)
async def test_one_that_was_never_seen_running_is_not_gone(before: dict[str, str]) -> None:
    host = Host(before)
    raylets, _ = watching(host)
    await look(raylets)
    host.files = {}
    assert await look(raylets) == {}


async def test_no_answer_is_no_word_about_the_raylet() -> None:
    host = Host(running())
    raylets, _ = watching(host)
    await look(raylets)
    host.missing = Missing(Reason.BUDGET, "too much")
    assert await look(raylets) == {}
    host.missing, host.files["/proc/77/stat"] = None, "garbled"
    assert await look(raylets) == {}
    host.fault = GatherError(Reason.UNREACHABLE, "gpu-03: lost")
    assert await look(raylets) == {}
    host.fault, host.files = None, {}
    assert await look(raylets, answering=False) == {}
    assert await look(raylets) == {NODE: 100.0}


async def test_all_processes_are_looked_at_once_only() -> None:
    host = Host()
    raylets, _ = watching(host)
    for _ in range(3):
        await look(raylets)
    assert host.asked == ["/proc/[0-9]*/comm"]


async def test_what_ray_itself_calls_dead_is_forgotten() -> None:
    host = Host(running())
    raylets, _ = watching(host)
    await look(raylets)
    host.files = {}
    assert await look(raylets) == {NODE: 100.0}
    raylets.expect([RayNode(NODE, "10.0.0.3", state="DEAD")])
    assert raylets.gone == {}
    raylets.expect([RayNode("other", "10.9.9.9", state="ALIVE")])
    await look(raylets)
    assert len(host.asked) == 4, "a node that is no host of the inventory is nobody's to ask"


async def test_a_host_that_hangs_does_not_hold_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_raylets, "ANSWER_SECONDS", 0.05)

    class Hanging(Host):
        async def facts(self, ops: Sequence[Op], *, deadline: float) -> Raw:
            await asyncio.Event().wait()
            raise AssertionError

    raylets, _ = watching(Hanging())
    async with asyncio.timeout(5):
        assert await look(raylets) == {}


def test_nodes_carry_it_while_ray_calls_them_alive() -> None:
    dead, other = RayNode(NODE, state="DEAD"), RayNode("other", state="ALIVE")
    assert with_gone((*NODES, dead, other), {NODE: 5.0})[0].raylet_gone_at == 5.0
    assert with_gone((dead, other), {NODE: 5.0}) == (dead, other)
