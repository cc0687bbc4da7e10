"""One pass over the hosts: connect, gather, judge, hand over findings as they settle.

Each host is one task with its own deadline, so a sick one delays no other. Host judges rule as soon as their groups
are there; fleet judges wait for every host to have answered or failed. Whatever goes wrong on the way becomes a finding
(UNKNOWN with a reason), never an exception and never a gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from dstui.facts.case import FleetCase, Group, HostCase, HostFacts, HostSite, Params, Session, Site
from dstui.facts.choreography import Asked
from dstui.facts.raw import Missing, Op, Raw
from dstui.gates import Gates
from dstui.gather.link import HostLink
from dstui.judge.registry import FleetJudge, HostJudge
from dstui.model import DstuiError, GatherError, Reason, Ruling, Target, TargetKind, Text, Verdict, host_target, same
from dstui.plan import SLOW_GROUPS, Plan
from dstui.progress import CheckProgress, HostProgress, Progress


class LinkPool(Protocol):
    """Where links come from: SSH and local connections that are kept between runs."""

    async def link(self, host: HostSite) -> HostLink:
        """A live link to the host. Raises GatherError."""
        ...

    async def try_root(self, host: HostSite) -> str:
        """One login as root with the operator's own key: `refused`, `succeeded`, `unreachable` or `not-tried`."""
        ...


Choreography = Callable[[str, Mapping[str, HostLink], Mapping[str, Missing], Asked], Awaitable[object]]
"""Carries out one need (`ports`, `nonce`, `api` …) over the links that are up and returns what was observed."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A ruling with what it rested on, before it becomes a Finding."""

    check_id: str
    ruling: Ruling
    params: Params
    raws: tuple[tuple[str, Raw], ...]
    prefixes: tuple[str, ...]
    observed: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a sweep works with and reports to. `clock` gives seconds since the epoch."""

    site: Site
    groups: Mapping[str, Group]
    params: Callable[[str, str | None], Params]
    links: LinkPool
    choreography: Choreography
    settle: Callable[[Sequence[Judged]], Awaitable[None]]
    close: Callable[[str, Sequence[str]], Awaitable[None]]
    changed: Callable[[], None]
    clock: Callable[[], float]
    host_timeout: float
    known: Mapping[str, HostFacts]
    """Facts gathered earlier in this session; used for hosts that this sweep does not visit."""
    prerequisites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By check: those that must not have failed. Only those that are part of the sweep count."""
    held: Mapping[str, Missing] = field(default_factory=dict)
    """Checks that a person has to ask for first, and why."""
    confirmed: frozenset[str] = frozenset()
    given: Mapping[str, object] = field(default_factory=dict)
    """By need: what was observed before, so that nothing has to be done for it."""


class Sweep:
    """One run of a plan. `facts` holds what was learnt of each host, whole only when `run` has returned."""

    def __init__(self, plan: Plan, hosts: Sequence[HostSite], terms: Terms, progress: Progress) -> None:
        self.plan = plan
        self.hosts = tuple(hosts)
        self.terms = terms
        self.progress = progress
        self.facts: dict[str, HostFacts] = dict(terms.known)
        self._links: dict[str, HostLink] = {}
        self._missing: dict[str, Missing] = {}
        self._connected = {h.name: asyncio.Event() for h in hosts}
        self._gathered = {(h.name, g): asyncio.Event() for h in hosts for g in plan.groups}
        self._attempting: set[str] = set()
        self._observed: dict[str, object] = {}
        self._observed_event = {need: asyncio.Event() for need in plan.needs if need != "root-attempt"}
        self._ruled: dict[str, set[str]] = {j.check_id: set() for j in plan.host_judges}
        self._recorded: dict[str, set[str]] = {j.check_id: set() for j in plan.host_judges}
        self._verdicts: dict[str, list[Verdict]] = {}
        self._gates = Gates(plan, terms.prerequisites, terms.held)

    async def run(self) -> None:
        """Returns when every check of the plan has settled. Cancelling it cancels every task it started."""
        now = self.terms.clock()
        for host in self.hosts:
            self.progress.hosts[host.name] = HostProgress("waiting", now)
            self.facts[host.name] = HostFacts(None, None, Raw(), {})
        for judge in self.plan.host_judges:
            self.progress.checks[judge.check_id] = CheckProgress(0, len(self.terms.site.hosts))
        for fleet in self.plan.fleet_judges:
            self.progress.checks[fleet.check_id] = CheckProgress(0, len(self.terms.site.hosts))
        self.terms.changed()
        async with asyncio.TaskGroup() as tasks:
            for host in self.hosts:
                tasks.create_task(self._visit(host), name=f"host {host.name}")
            for need in self._observed_event:
                tasks.create_task(self._choreograph(need), name=f"choreography {need}")
            for fleet in self.plan.fleet_judges:
                tasks.create_task(self._rule_fleet(fleet), name=f"judge {fleet.check_id}")
        for judge in self.plan.host_judges:
            if judge.check_id in self.progress.checks:
                await self._close_host_check(judge.check_id)

    async def _visit(self, host: HostSite) -> None:
        self._phase(host, "connecting")
        try:
            link = await self.terms.links.link(host)
        except DstuiError as error:
            self._give_up(host, Missing(_reason(error), str(error)))
        except Exception as error:  # a bug in the transport is that host's finding, not the end of the run
            self._give_up(host, Missing(Reason.PROBE_ERROR, f"{type(error).__name__}: {error}"))
        else:
            self._links[host.name] = link
            self._set(host.name, session=link.session)
            self._connected[host.name].set()
            self._phase(host, "gathering")
            await self._gather(replace(host, controller_ip=link.session.controller_ip), link)
            self._phase(host, "done")
        await self._rule_host(host, everything=True)

    def _give_up(self, host: HostSite, missing: Missing) -> None:
        self._missing[host.name] = missing
        self.facts[host.name] = HostFacts(missing, None, Raw(), {})
        self._phase(host, "unreachable", missing.why)
        self._connected[host.name].set()
        for group in self.plan.groups:
            self._gathered[host.name, group].set()

    async def _gather(self, host: HostSite, link: HostLink) -> None:
        jobs: list[Awaitable[None]] = [self._ask(host, link, batch) for batch in self.plan.batches]
        if self._wants_root_attempt(host, link):
            self._attempting.add(host.name)
            jobs.insert(0, self._attempt_root(host))
        async with asyncio.TaskGroup() as tasks:
            for job in jobs:
                tasks.create_task(_as_coroutine(job))

    def _wants_root_attempt(self, host: HostSite, link: HostLink) -> bool:
        """Not where the inventory forbids it, and not from an address that fail2ban would count against us."""
        asking = [j for j in self.plan.host_judges if "root-attempt" in j.needs]
        if host.local or not asking:
            return False
        params = self.terms.params(asking[0].check_id, host.name)
        spared = params.texts("fail2ban_ignore")
        return params.flag("root_login_attempt") and (not spared or link.session.controller_ip in spared)

    async def _attempt_root(self, host: HostSite) -> None:
        try:
            outcome = await self.terms.links.try_root(host)
        except Exception:  # not having tried is what the judge then hears; it never makes anything green
            outcome = "not-tried"
        self._attempting.discard(host.name)
        session = self.facts[host.name].session
        if session is not None:
            self._set(host.name, session=replace(session, root_attempt=outcome))
        await self._rule_host(host)

    async def _ask(self, host: HostSite, link: HostLink, names: Sequence[str]) -> None:
        """One request for some groups, then a second round for those that ask for more, then their judges."""
        groups = [self.terms.groups[name] for name in names]
        try:
            async with asyncio.timeout(self.terms.host_timeout):
                raw = await self._answers(host, link, groups)
                whole = Raw({**self.facts[host.name].raw.answers, **raw.answers})
                parsed = await asyncio.to_thread(_parse, groups, whole)
        except TimeoutError:
            why = f"{host.name} did not answer within {self.terms.host_timeout:.0f} s"
            raw, parsed = Raw(), {g.facts: Missing(Reason.TIMEOUT, why) for g in groups}
        except DstuiError as error:
            raw, parsed = Raw(), {g.facts: Missing(_reason(error), str(error)) for g in groups}
        except Exception as error:  # a bug in an operation list or the protocol must not take the run down
            what = f"{type(error).__name__}: {error}"
            raw, parsed = Raw(), {g.facts: Missing(Reason.PROBE_ERROR, what) for g in groups}
        self._set(host.name, raw=raw, parsed=parsed)
        for name in names:
            self._gathered[host.name, name].set()
        await self._rule_host(host)

    async def _answers(self, host: HostSite, link: HostLink, groups: Sequence[Group]) -> Raw:
        site = self.terms.site
        ops: list[Op] = [op for group in groups for op in group.ops(host, site)]
        # Some groups have nothing to ask of some hosts.
        raw = await link.facts(ops, deadline=self.terms.host_timeout) if ops else Raw()
        if not any(group.more for group in groups):
            return raw
        # A second round may build on what the quick groups found (ping takes the MTU from the addresses).
        quick = [name for name in self.plan.groups if name not in SLOW_GROUPS]
        for name in () if groups[0].name in quick else quick:
            await self._gathered[host.name, name].wait()
        whole = Raw({**self.facts[host.name].raw.answers, **raw.answers})
        more = [op for group in groups if group.more is not None for op in group.more(host, site, whole)]
        if more:
            second = await link.facts(more, deadline=self.terms.host_timeout)
            raw = Raw({**raw.answers, **second.answers})
        return raw

    def _set(
        self,
        name: str,
        *,
        session: Session | None = None,
        raw: Raw | None = None,
        parsed: Mapping[type, object] | None = None,
    ) -> None:
        old = self.facts[name]
        answers = {**old.raw.answers, **raw.answers} if raw is not None else old.raw.answers
        groups = {**old.groups, **parsed} if parsed is not None else old.groups
        self.facts[name] = HostFacts(old.unreachable, session or old.session, Raw(answers), groups)

    def _phase(self, host: HostSite, phase: str, note: str = "") -> None:
        self.progress.hosts[host.name] = HostProgress(phase, self.terms.clock(), note)
        self.terms.changed()

    async def _rule_host(self, host: HostSite, *, everything: bool = False) -> None:
        """Rules every host judge whose groups are there and that has not ruled on this host yet."""
        facts = self.facts[host.name]
        ready = [judge for judge in self.plan.host_judges if self._ready(judge, host, facts, everything)]
        if not ready:
            return
        for judge in ready:
            self._ruled[judge.check_id].add(host.name)
        now = self.terms.clock()
        judged = await asyncio.to_thread(lambda: [self._rule(judge, host, facts, now) for judge in ready])
        await self.terms.settle(judged)
        for item in judged:
            self._verdicts.setdefault(item.check_id, []).append(item.ruling.verdict)
        for judge in ready:
            recorded = self._recorded[judge.check_id]
            recorded.add(host.name)
            progress = self.progress.checks.get(judge.check_id)
            if progress is None:
                continue
            # Ruled is not yet recorded: a check must not settle before the last finding of it is in the journal.
            progress.done = len(recorded)
            waiting = [h.name for h in self.hosts if h.name not in recorded]
            progress.waiting_for = waiting[0] if waiting else ""
            if not waiting:
                await self._close_host_check(judge.check_id)
        self.terms.changed()

    def _ready(self, judge: HostJudge, host: HostSite, facts: HostFacts, everything: bool) -> bool:
        if host.name in self._ruled[judge.check_id]:
            return False
        if everything:
            return True
        if "root-attempt" in judge.needs and host.name in self._attempting:
            return False
        return all(self._gathered[host.name, group].is_set() for group in judge.groups)

    def _rule(self, judge: HostJudge, host: HostSite, facts: HostFacts, now: float) -> Judged:
        params = self.terms.params(judge.check_id, host.name)
        try:
            ruling = judge.rule(HostCase(host, self.terms.site, facts, params, now))
        except Exception as error:  # a bad check cannot kill a run; it is that check's own UNKNOWN
            ruling = _broken(judge.check_id, host_target(host.name), error)
        return Judged(judge.check_id, ruling, params, ((host.name, facts.raw),), judge.evidence, ())

    async def _close_host_check(self, check_id: str) -> None:
        if self.progress.checks.pop(check_id, None) is None:
            return
        self._gates.settled(check_id, self._verdicts.get(check_id, []))
        targets = [host_target(h.name).key for h in self.terms.site.hosts]
        await self._closed(check_id, targets)

    async def _closed(self, check_id: str, targets: Sequence[str]) -> None:
        self.progress.done += 1
        await self.terms.close(check_id, targets)

    async def _choreograph(self, need: str) -> None:
        if need in self.terms.given:
            self._observed[need] = self.terms.given[need]
        else:
            for event in self._connected.values():
                await event.wait()
            async with self._gates.lane(need):
                self._observed[need] = await self._observation(need)
        self._gates.met(need)
        self._observed_event[need].set()

    async def _observation(self, need: str) -> object:
        if (shut := await self._gates.shut_need(need)) is not None:
            return shut
        asked = Asked(self.terms.confirmed, lambda word: self._tell(need, word))
        try:
            return await self.terms.choreography(need, dict(self._links), dict(self._missing), asked)
        except DstuiError as error:
            return Missing(_reason(error), str(error))
        except Exception as error:  # as above: the checks that need it become UNKNOWN
            return Missing(Reason.PROBE_ERROR, f"{type(error).__name__}: {error}")

    def _tell(self, need: str, word: str) -> None:
        """A word of progress of a need, shown at the checks that wait for it."""
        for judge in self.plan.fleet_judges:
            if need in judge.needs and (progress := self.progress.checks.get(judge.check_id)) is not None:
                progress.waiting_for = word
        self.terms.changed()

    async def _rule_fleet(self, judge: FleetJudge) -> None:
        progress = self.progress.checks[judge.check_id]
        for done, host in enumerate(self.hosts):
            progress.done, progress.waiting_for = done, host.name
            for group in judge.groups:
                await self._gathered[host.name, group].wait()
            self.terms.changed()
        progress.done, progress.waiting_for = len(self.hosts), ""
        for need in judge.needs:
            await self._observed_event[need].wait()
        shut = await self._gates.shut_check(judge.check_id)
        judged = await asyncio.to_thread(self._rule_all, judge, self.terms.clock(), shut)
        await self.terms.settle(judged)
        self._gates.settled(judge.check_id, [item.ruling.verdict for item in judged])
        self.progress.checks.pop(judge.check_id, None)
        await self._closed(judge.check_id, [j.ruling.target.key for j in judged])
        self.terms.changed()

    def _rule_all(self, judge: FleetJudge, now: float, shut: Missing | None) -> list[Judged]:
        site, params = self.terms.site, self.terms.params
        per_host = {h.name: params(judge.check_id, h.name) for h in site.hosts}
        cluster = params(judge.check_id, None)
        needed = [self._observed[need] for need in judge.needs]
        observed = {type(item): item for item in needed}
        facts = {h.name: self.facts.get(h.name) or _not_visited(h.name) for h in site.hosts}
        case = FleetCase(site, facts, cluster, per_host, observed, now)
        lost = shut or next((item for item in needed if isinstance(item, Missing)), None)
        try:
            rulings = list(judge.rule(case)) if lost is None else [_not_observed(site, lost)]
            if not rulings:
                rulings = [_nothing_ruled(judge.check_id, site)]
        except Exception as error:  # a bad check cannot kill a run; it is that check's own UNKNOWN
            rulings = [_broken(judge.check_id, Target(TargetKind.CLUSTER, site.name), error)]
        return [
            Judged(
                judge.check_id,
                ruling,
                per_host.get(ruling.target.name, cluster),
                _sources(ruling.target, facts),
                judge.evidence,
                tuple(needed),
            )
            for ruling in rulings
        ]


async def _as_coroutine(job: Awaitable[None]) -> None:
    await job


def _sources(target: Target, facts: Mapping[str, HostFacts]) -> tuple[tuple[str, Raw], ...]:
    """Whose answers are the evidence: the host's, both ends of a pair, or everybody's."""
    if target.kind is TargetKind.HOST:
        names = [target.name]
    elif target.kind is TargetKind.PAIR:
        names = target.name.split(">")
    else:
        names = list(facts)
    return tuple((name, facts[name].raw) for name in names if name in facts)


def _parse(groups: Sequence[Group], raw: Raw) -> dict[type, object]:
    parsed: dict[type, object] = {}
    for group in groups:
        try:
            parsed[group.facts] = group.parse(raw)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            why = f"{group.name}: the host's answer makes no sense ({type(error).__name__}: {error})"
            parsed[group.facts] = Missing(Reason.PARSE_ERROR, why)
    return parsed


def _reason(error: DstuiError) -> Reason:
    return error.reason if isinstance(error, GatherError) else Reason.CANNOT_TELL


def _not_visited(name: str) -> HostFacts:
    missing = Missing(Reason.NOT_RUN, f"{name} was not part of this run")
    return HostFacts(missing, None, Raw(), {})


def _unknown(target: Target, reason: Reason, detail: str, rule: Text) -> Ruling:
    return Ruling(target, Verdict.UNKNOWN, same(detail[:400]), same(""), rule, reason=reason, detail=detail[:400])


def _broken(check_id: str, target: Target, error: Exception) -> Ruling:
    rule = Text(
        f"the judge of {check_id} stopped with an error; this is a fault of dstui, please report it",
        f"{check_id} 的判定程序出错；这是 dstui 的缺陷，请报告",
    )
    return _unknown(target, Reason.PROBE_ERROR, f"{type(error).__name__}: {error}", rule)


def _not_observed(site: Site, missing: Missing) -> Ruling:
    target = Target(TargetKind.CLUSTER, site.name)
    rule = Text("could not be observed", "无法观测")
    if missing.reason is Reason.BLOCKED_BY:
        rule = Text("waits for a check that did not pass", "所依赖的检查未通过")
    return _unknown(target, missing.reason, missing.why, rule)


def _nothing_ruled(check_id: str, site: Site) -> Ruling:
    target = Target(TargetKind.CLUSTER, site.name)
    rule = Text("no target: an empty list is no evidence", "没有对象：空列表不能作为证据")
    return _unknown(target, Reason.NO_TARGETS, f"{check_id} has no target in this inventory", rule)
