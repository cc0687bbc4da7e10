"""How the fleet lives: requests, replicas, GPUs and Ray nodes as a function of time and of what is done to it.

Times are seconds since the epoch, by a clock that the caller reads. The same seed, beginning and acts give the same
life. Nothing here does I/O.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from dstui.demo.cast import Character, share
from dstui.demo.gpus import GPUS
from dstui.demo.traffic import rate
from dstui.demo.troubles import Spot, Troubles
from dstui.demo.vllm_engine import Engine

STEP = 0.5
WARM_UP = 90.0
"""Seconds that were lived before the beginning: nobody wants to watch a fleet start up."""
MOST_BEHIND = 600.0
"""After a longer sleep of this machine the rest of it is not made up for."""

MOST_REPLICAS = 16
"""Of the model, each with all GPUs of a host; other hosts run a batch job, so that a lost replica has to wait."""

NOTICED_SECONDS, STOPPED_SECONDS = 4.0, 6.0
"""After its death: Serve calls a replica unhealthy and wants another one; the old one is off its list."""
DECLARED_SECONDS = 12.0
"""Until Ray calls a node dead whose heartbeats are missing. Until then it counts it as alive, with its GPUs."""
JOIN_SECONDS, LOAD_SECONDS = 5.0, 20.0
"""From power to a raylet that has joined; from a placed replica to one that serves."""
MISSED = "Unexpected termination: health check failed due to missing too many heartbeats"

_RETRIED_SECONDS = 1.0
"""Requests still go to a replica for so long after its death, and are lost."""
_SLOWEST = 2.3
"""Added to the pace of a replica by a GPU at the height of its heat: all others wait for it."""
_WARMING_SECONDS = 20.0
_FIRST_PID = 31_000


class Work(StrEnum):
    """What a host is there for. IDLE ones have too few GPUs left to be given work."""

    SERVING = "serving"
    BATCH = "batch"
    IDLE = "idle"


class Phase(StrEnum):
    """Where a replica is: GONE is dead without Ray Serve knowing, PENDING waits for a node, LOADING reads weights."""

    RUNNING = "running"
    GONE = "gone"
    PENDING = "pending"
    LOADING = "loading"


@dataclass(slots=True)
class Node:
    """One raylet's life. `gone_at` is when its machine died, `ended_at` when Ray said so."""

    node_id: str
    host: Character
    started_at: float
    gone_at: float | None = None
    ended_at: float | None = None


@dataclass(slots=True)
class Body:
    """One made-up host as it is now. `use` is the share of time in which its GPUs are busy, `warm` °C above idle."""

    host: Character
    work: Work
    nodes: list[Node]
    up_since: float
    down_since: float | None = None
    use: float = 0.0
    warm: float = 0.0
    load: float = 4.0

    @property
    def node(self) -> Node | None:
        """The raylet that really runs there."""
        last = self.nodes[-1]
        return last if last.gone_at is None else None


@dataclass(slots=True)
class Copy:
    """One replica's place: it is always the same host, as all others are full. `turn` counts the replicas it had."""

    body: Body
    engine: Engine | None
    running_since: float
    turn: int = 0
    lost_at: float | None = None
    noticed: bool = False
    placed_at: float | None = None

    @property
    def host(self) -> Character:
        return self.body.host

    @property
    def phase(self) -> Phase:
        if self.engine is not None:
            return Phase.RUNNING
        if not self.noticed:
            return Phase.GONE
        return Phase.PENDING if self.placed_at is None else Phase.LOADING


def hexed(text: str, digits: int) -> str:
    """An id in hexadecimal digits, up to 64, that is always the same for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


@dataclass(slots=True)
class Life:
    """The fleet's state at the moment to which it was last advanced. Belongs to one thread."""

    hosts: Sequence[Character]
    began: float
    seed: int = 1
    bodies: dict[str, Body] = field(init=False)
    copies: tuple[Copy, ...] = field(init=False)
    troubles: Troubles = field(init=False)
    hot: tuple[Spot, float] | None = field(init=False, default=None)
    """The GPU that overheats now, and how far it is: above 0 and up to 1."""
    _at: float = field(init=False)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._at = self.began - WARM_UP
        self._random = random.Random(self.seed)  # noqa: S311 - no secret
        self.bodies = {
            host.name: self._body(host, work) for host, work in zip(self.hosts, _works(self.hosts), strict=True)
        }
        serving = [body for body in self.bodies.values() if body.work is Work.SERVING]
        self.copies = tuple(Copy(body, self._engine(self._at), self._at) for body in serving)
        self.troubles = Troubles(self.seed, _seen([body.host for body in serving]), GPUS)

    def advance(self, now: float) -> None:
        """Live on until `now`. A clock that went back changes nothing."""
        self._at = max(self._at, now - MOST_BEHIND)
        while self._at + STEP <= now:
            self._at += STEP
            self._step(self._at)

    @property
    def since(self) -> float:
        """Seconds since the beginning; below 0 before it."""
        return self._at - self.began

    def copy_on(self, host: str) -> Copy | None:
        """The replica whose place the host is."""
        return next((copy for copy in self.copies if copy.host.name == host), None)

    def down(self, host: str) -> bool:
        return self.bodies[host].down_since is not None

    def kill(self, host: str, now: float) -> None:
        """The host loses power. KeyError for one that is not of the fleet; nothing happens to one that is down."""
        self.advance(now)
        body = self.bodies[host]
        if body.down_since is not None:
            return
        body.down_since = now
        body.use = 0.0
        if body.node is not None:
            body.node.gone_at = now
        copy = self.copy_on(host)
        if copy is not None:
            # One that was only being started is begun anew: Serve has not called it healthy yet.
            copy.lost_at = now if copy.engine is not None else copy.lost_at
            copy.engine = copy.placed_at = None

    def revive(self, host: str, now: float) -> None:
        """The host has power again. KeyError as above; nothing happens to one that is up."""
        self.advance(now)
        body = self.bodies[host]
        if body.down_since is not None:
            body.down_since, body.up_since = None, now
            body.warm, body.load = 0.0, 0.0

    def _body(self, host: Character, work: Work) -> Body:
        born = self.began - 3_600.0 - 60.0 * share(f"{host.name} joined")
        return Body(host, work, [Node(hexed(f"{host.name} node 0", 56), host, born)], born)

    def _engine(self, now: float) -> Engine:
        return Engine(now, random.Random(self._random.random()))  # noqa: S311 - no secret

    def _step(self, now: float) -> None:
        self.hot = self.troubles.drifting(now - self.began)
        for body in self.bodies.values():
            self._ray(body, now)
        for copy in self.copies:
            self._serve(copy, now)
        self._requests(now)
        for body in self.bodies.values():
            self._burn(body, now)

    def _ray(self, body: Body, now: float) -> None:
        for node in body.nodes:
            if node.ended_at is None and node.gone_at is not None and now - node.gone_at >= DECLARED_SECONDS:
                node.ended_at = now
        if body.node is None and body.down_since is None and now - body.up_since >= JOIN_SECONDS:
            number = len(body.nodes)
            body.nodes.append(Node(hexed(f"{body.host.name} node {number}", 56), body.host, now))

    def _serve(self, copy: Copy, now: float) -> None:
        if copy.engine is not None or copy.lost_at is None:
            return
        if not copy.noticed:
            if now - copy.lost_at < NOTICED_SECONDS:
                return
            copy.noticed, copy.turn = True, copy.turn + 1
        if copy.body.node is None:
            return
        if copy.placed_at is None:
            copy.placed_at = now
        elif now - copy.placed_at >= LOAD_SECONDS:
            copy.engine, copy.running_since = self._engine(now), now
            copy.lost_at, copy.placed_at, copy.noticed = None, None, False

    def _requests(self, now: float) -> None:
        since = now - self.began
        every = rate(self.seed, since) * len(self.copies) * STEP
        weights = [self._weight(copy, now) for copy in self.copies]
        together = sum(weights)
        for index, (copy, weight) in enumerate(zip(self.copies, weights, strict=True)):
            arrived = self._drawn(every * weight / together) if together else 0
            if copy.engine is not None:
                lengths = 1.0 + 0.1 * math.sin(since / 15.0 + index)
                copy.engine.step(now, STEP, arrived, pace=self.pace(copy), lengths=lengths)

    def _weight(self, copy: Copy, now: float) -> float:
        """Who has a queue is given less."""
        if copy.engine is not None:
            return 1.0 / (1.0 + copy.engine.waiting / 60.0)
        return 1.0 if copy.lost_at is not None and now - copy.lost_at <= _RETRIED_SECONDS else 0.0

    def _drawn(self, mean: float) -> int:
        """About as irregular as independent users are."""
        return max(0, math.floor(self._random.gauss(mean, math.sqrt(mean)) + 0.5)) if mean > 0 else 0

    def heat(self, host: str, gpu: int | None = None) -> float:
        """How far a GPU of the host overheats, 0 to 1; any of them when `gpu` is None. A cold host does not."""
        if self.hot is None or self.hot[0].host != host or gpu not in (None, self.hot[0].gpu):
            return 0.0
        return self.hot[1] if self.bodies[host].use > 0 else 0.0

    def pace(self, copy: Copy) -> float:
        """How many times slower than usual a replica is now."""
        return 1.0 + _SLOWEST * self.heat(copy.host.name)

    def _burn(self, body: Body, now: float) -> None:
        body.use = self._use(body, now)
        share_now = STEP / _WARMING_SECONDS
        body.warm += share_now * (36.0 * body.use - body.warm)
        body.load += share_now * (2.0 + 40.0 * body.use - body.load)

    def _use(self, body: Body, now: float) -> float:
        if body.node is None:
            return 0.0
        if body.work is Work.BATCH:
            phase = 6.28 * share(f"{body.host.name} batch")
            ready = min(1.0, max(0.0, (now - body.node.started_at - 10.0) / 10.0))
            return ready * (0.8 + 0.08 * math.sin(now / 37.0 + phase) + 0.04 * math.sin(now / 7.0 + phase))
        copy = self.copy_on(body.host.name) if body.work is Work.SERVING else None
        return busy(copy.engine.running) if copy is not None and copy.engine is not None else 0.0


def busy(running: int) -> float:
    """The share of time in which GPUs work when so many requests run together."""
    return 0.12 + 0.86 * running / (running + 40.0) if running else 0.0


def life_number(body: Body, copy: Copy | None) -> int:
    """How many sets of processes the host's GPUs had before these: a new node or a new replica begins another."""
    return len(body.nodes) - 1 + (copy.turn if copy is not None else 0)


def worker_pid(host: str, number: int, gpu: int) -> int:
    """The process that holds a GPU of the host in its life `number`."""
    return _FIRST_PID + 997 * (number % 900) + 29 * (gpu + 1) + int(200 * share(f"{host} pid"))


def _works(hosts: Sequence[Character]) -> list[Work]:
    works: list[Work] = []
    for host in hosts:
        if host.traits.gpus_answering < GPUS:
            works.append(Work.IDLE)
        else:
            works.append(Work.SERVING if works.count(Work.SERVING) < MOST_REPLICAS else Work.BATCH)
    return works


def _seen(serving: Sequence[Character]) -> list[str]:
    """Hosts that send samples, without the head where there are others: what happens to them can be watched."""
    seen = [host.name for host in serving if host.traits.ssh_answers and host.traits.python3]
    return seen[1:] or seen
