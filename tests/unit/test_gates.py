"""Gates of a sweep: lanes, prerequisites, checks that are held."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from dstui import probes
from dstui.catalogue import load_catalogue
from dstui.facts.raw import Missing
from dstui.gates import Gates
from dstui.judge.registry import FleetJudge, Lane
from dstui.model import Reason, Verdict
from dstui.plan import Plan, plan


def judge(check_id: str, need: str, lane: Lane = Lane.LOOK) -> FleetJudge:
    return FleetJudge(check_id, (), (), lambda case: [], (need,), lane)


def a_plan(*judges: FleetJudge) -> Plan:
    needs = frozenset(need for each in judges for need in each.needs)
    return Plan(tuple(each.check_id for each in judges), (), judges, (), needs)


LOOK, WORK, MORE, BURST = (
    judge("api.started", "look"),
    judge("func.concurrent", "work", Lane.WORK),
    judge("lb.algorithm", "more", Lane.WORK),
    judge("api.rate-limit", "burst", Lane.BURST),
)


async def test_work_waits_for_looking_and_a_burst_for_all_work() -> None:
    gates = Gates(a_plan(BURST, WORK, MORE, LOOK), {}, {})
    order: list[str] = []
    inside = 0

    async def meet(need: str) -> None:
        nonlocal inside
        async with gates.lane(need):
            inside += 1
            assert inside == 1 or need == "look"
            await asyncio.sleep(0)
            order.append(need)
            inside -= 1
        gates.met(need)

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        for need in ("burst", "more", "work", "look"):
            tasks.create_task(meet(need))
    assert order[0] == "look"
    assert set(order[1:3]) == {"work", "more"}
    assert order[3] == "burst"


@pytest.mark.parametrize(
    ("verdicts", "shut"),
    [
        ([Verdict.PASS], False),
        ([Verdict.WARN, Verdict.FAIL], False),
        ([Verdict.NOT_APPLICABLE], False),
        ([Verdict.FAIL], True),
        ([Verdict.UNKNOWN, Verdict.FAIL], True),
        ([], True),
    ],
)
async def test_a_prerequisite_without_one_good_target_shuts(verdicts: list[Verdict], shut: bool) -> None:
    gates = Gates(a_plan(LOOK, WORK), {"func.concurrent": ("api.started",)}, {})
    gates.settled("api.started", verdicts)
    found = await gates.shut_check("func.concurrent")
    assert (found == Missing(Reason.BLOCKED_BY, "api.started")) is shut
    assert await gates.shut_need("work") == found
    assert await gates.shut_check("api.started") is None


async def test_what_is_not_part_of_the_sweep_shuts_nothing() -> None:
    gates = Gates(a_plan(WORK), {"func.concurrent": ("api.started",)}, {})
    assert await gates.shut_check("func.concurrent") is None


async def test_a_need_is_met_as_long_as_one_check_wants_it() -> None:
    held = Missing(Reason.NOT_RUN, "asks first")
    both = (judge("a", "n"), judge("b", "n"))
    assert await Gates(a_plan(*both), {}, {"a": held}).shut_need("n") is None
    assert await Gates(a_plan(*both), {}, {"a": held, "b": held}).shut_need("n") == held


async def test_a_need_that_a_prerequisite_and_what_waits_for_it_share() -> None:
    """The one that waits is asked first, and must not keep the need from the one that it waits for."""
    gates = Gates(a_plan(judge("later", "n"), judge("first", "n")), {"later": ("first",)}, {})
    async with asyncio.timeout(5):
        assert await gates.shut_need("n") is None


async def test_a_whole_sweep_comes_to_its_end() -> None:
    """Every judge of this dstui with its needs and prerequisites: nobody waits for somebody who waits for him."""
    catalogue = load_catalogue()
    whole = plan(catalogue, [check.id for check in catalogue.checks], probes.judges())
    gates = Gates(whole, {check.id: check.prerequisites for check in catalogue.checks}, {})
    for each in whole.host_judges:
        gates.settled(each.check_id, [Verdict.PASS])
    met = {need: asyncio.Event() for each in whole.fleet_judges for need in each.needs}

    async def meet(need: str) -> None:
        async with gates.lane(need):
            assert await gates.shut_need(need) is None
        gates.met(need)
        met[need].set()

    async def rule(each: FleetJudge) -> None:
        for need in each.needs:
            await met[need].wait()
        assert await gates.shut_check(each.check_id) is None
        gates.settled(each.check_id, [Verdict.PASS])

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        for need in met:
            tasks.create_task(meet(need))
        for each in whole.fleet_judges:
            tasks.create_task(rule(each))


def test_no_check_waits_for_one_of_a_later_lane() -> None:
    """Else a sweep would wait for ever: the lane is held while a prerequisite is waited for."""
    catalogue = load_catalogue()
    whole = plan(catalogue, [check.id for check in catalogue.checks], probes.judges())
    lanes: Mapping[str, Lane] = {each.check_id: each.lane for each in whole.fleet_judges}
    for check in catalogue.checks:
        for before in check.prerequisites:
            if check.id in lanes and before in lanes:
                assert lanes[before] is Lane.LOOK or lanes[before] < lanes[check.id], (check.id, before)
