"""What may begin when in a sweep: lanes of work, prerequisites between checks, checks that a person asks for first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from dstui.facts.raw import Missing
from dstui.judge.registry import Lane
from dstui.model import Reason, Verdict
from dstui.plan import Plan

_GOOD = frozenset({Verdict.PASS, Verdict.WARN, Verdict.NOT_APPLICABLE})


class Gates:
    """The gates of one sweep. Each check and each need of the plan is reported as it settles or is met."""

    def __init__(self, plan: Plan, prerequisites: Mapping[str, Sequence[str]], held: Mapping[str, Missing]) -> None:
        in_plan = set(plan.checks)
        self._before = {c: tuple(p for p in prerequisites.get(c, ()) if p in in_plan) for c in plan.checks}
        self._held = held
        self._waiting = {judge.check_id: judge.needs for judge in plan.fleet_judges}
        self._lanes: dict[str, Lane] = {}
        for judge in plan.fleet_judges:
            for need in judge.needs:
                self._lanes[need] = max(judge.lane, self._lanes.get(need, Lane.LOOK))
        self._met = {need: asyncio.Event() for need in self._lanes}
        self._settled = {check: asyncio.Event() for check in plan.checks}
        self._bad: set[str] = set()
        self._work = asyncio.Lock()

    @asynccontextmanager
    async def lane(self, need: str) -> AsyncIterator[None]:
        """Holds the lane of a need, once everything of the lanes before it is done."""
        mine = self._lanes.get(need, Lane.LOOK)
        for other, lane in self._lanes.items():
            if lane < mine:
                await self._met[other].wait()
        if mine is Lane.LOOK:
            yield
            return
        async with self._work:
            yield

    def met(self, need: str) -> None:
        """The need was met, or cannot be."""
        if need in self._met:
            self._met[need].set()

    def settled(self, check_id: str, verdicts: Sequence[Verdict]) -> None:
        """The check has its verdicts: it is bad when none of its targets is good."""
        if not any(verdict in _GOOD for verdict in verdicts):
            self._bad.add(check_id)
        if check_id in self._settled:
            self._settled[check_id].set()

    async def shut_check(self, check_id: str) -> Missing | None:
        """Why a check cannot be judged, once that is known; None when nothing stands against it."""
        if check_id in self._held:
            return self._held[check_id]
        for before in self._before.get(check_id, ()):
            await self._settled[before].wait()
            if before in self._bad:
                return Missing(Reason.BLOCKED_BY, before)
        return None

    async def shut_need(self, need: str) -> Missing | None:
        """Why there is no use in meeting a need: every check that waits for it is shut.

        Told as soon as one of them is open: another may wait for that very one, and so for this need.
        """
        asked = [asyncio.create_task(self.shut_check(c)) for c, needs in self._waiting.items() if need in needs]
        why: Missing | None = None
        try:
            for told in asyncio.as_completed(asked):
                missing = await told
                if missing is None:
                    return None
                why = why or missing
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return why
