"""What can be done to the running fleet: a host dies, and comes back."""

from __future__ import annotations

from dataclasses import dataclass

from dstui.demo.fleet import Fleet
from dstui.model import Text

KILL = Text("a node dies", "节点宕机")
REVIVE = Text("the node comes back", "节点恢复")
_ONLY_THE_HEAD = Text(
    "the head is the only node that is up, and with it all of Ray would go",
    "只剩 head 节点在运行，它一停整个 Ray 都会停止",
)
_ALL_UP = Text("no simulated node is down", "没有宕机的模拟节点")


@dataclass(frozen=True, slots=True)
class DemoActs:
    """The acts, each with what was done in words. Callable from any thread but the fleet's; they take milliseconds.

    All of them raise UsageError when the fleet has ended or does not know the host.
    """

    fleet: Fleet

    @property
    def down(self) -> tuple[str, ...]:
        """The hosts without power."""
        return self.fleet.down()

    @property
    def label(self) -> Text:
        """What `perish` would do now."""
        return REVIVE if self.down else KILL

    def kill(self, host: str | None = None) -> Text:
        """A host loses power: the named one, else the busiest that is not the head."""
        victim = host if host is not None else self.fleet.busiest()
        if victim is None:
            return _ONLY_THE_HEAD
        self.fleet.kill(victim)
        return Text(f"{victim} has lost its power (simulated)", f"{victim} 已断电（模拟）")

    def revive(self, host: str | None = None) -> Text:
        """Power comes back: to the named host, else to all that are down."""
        hosts = (host,) if host is not None else self.down
        if not hosts:
            return _ALL_UP
        for each in hosts:
            self.fleet.revive(each)
        names = ", ".join(hosts)
        return Text(f"{names} has power again (simulated)", f"{names} 已恢复供电（模拟）")

    def perish(self) -> Text:
        """One key for both: a node dies, and when it is pressed again it comes back."""
        return self.revive() if self.down else self.kill()
