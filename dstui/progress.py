"""Where a run stands at this moment. Not recorded: the journal holds what settled, this holds what is under way."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class HostProgress:
    """One host in a run. `phase` is `waiting`, `connecting`, `gathering`, `done` or `unreachable`; `since` an epoch."""

    phase: str
    since: float
    note: str = ""


@dataclass(slots=True)
class CheckProgress:
    """One check that has not settled: how many of its targets have, and the host it waits for."""

    done: int
    total: int
    waiting_for: str = ""


@dataclass(slots=True)
class Progress:
    """The run under way, or the last one. `checks` holds only those that have not settled."""

    running: bool = False
    run: int = 0
    started_at: float = 0.0
    checks: dict[str, CheckProgress] = field(default_factory=dict)
    hosts: dict[str, HostProgress] = field(default_factory=dict)
    done: int = 0
    total: int = 0
    message: str = ""

    def waiting_hosts(self) -> list[str]:
        """Hosts that are neither done nor given up, longest wait first."""
        open_hosts = [(h.since, name) for name, h in self.hosts.items() if h.phase not in ("done", "unreachable")]
        return [name for _, name in sorted(open_hosts)]
