"""What the fleet does together: the real choreography over the real links, but for the view from outside.

A view from outside is made of connects to the hosts' own addresses, and those of made-up hosts belong to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

from dstui.demo.fleet import Fleet
from dstui.facts.choreography import Asked, VantageReach
from dstui.facts.raw import Missing
from dstui.gather.choreographer import Choreographer
from dstui.gather.link import HostLink

VANTAGE_IP = "203.0.113.9"


class DemoChoreographer:
    """Called as a Choreographer is; `sensitive_ports` are those that the vantage tries."""

    def __init__(self, real: Choreographer, fleet: Fleet, sensitive_ports: tuple[int, ...]) -> None:
        self._real = real
        self._fleet = fleet
        self._ports = sensitive_ports

    async def __call__(
        self, need: str, links: Mapping[str, HostLink], missing: Mapping[str, Missing], asked: Asked
    ) -> object:
        """What was observed for a need. Raises GatherError."""
        if need != "vantage":
            return await self._real(need, links, missing, asked)
        outcomes = {name: machine.seen_from_outside(self._ports) for name, machine in self._fleet.machines.items()}
        return VantageReach("controller", VANTAGE_IP, inside=False, outcomes=outcomes)
