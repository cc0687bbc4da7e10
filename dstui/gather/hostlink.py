"""What a link to a host is to those who use it, who listen to it, and who carry its bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dstui.facts.case import Session
from dstui.facts.raw import Op, Raw
from dstui.model import GatherError


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a stream is to be: seconds between two samples (0.2 to 10), and whether to look at GPUs at all.

    `pcie` measures PCIe throughput as well: 40 ms in NVML for the one GPU that has its turn in a sample.
    """

    interval: float
    gpus: bool
    pcie: bool = False


class HostLink(Protocol):
    """A host that answers. All methods raise GatherError whose text names the host and says what to do next."""

    session: Session

    async def facts(self, ops: Sequence[Op], *, deadline: float) -> Raw:
        """Carry out operations; GatherError(TIMEOUT) when the host has not answered after `deadline` seconds."""

    async def call(self, verb: str, *, timeout: float, **args: object) -> Mapping[str, object]:  # noqa: ASYNC109
        """One request and its answer; GatherError when the host refuses, is lost, or is silent for `timeout` seconds.

        An argument of the verb that is itself called `timeout` is passed as `timeout_`.
        """

    async def sample(self, listener: Listener, asked: Sampling, *, timeout: float) -> None:  # noqa: ASYNC109
        """Begin the host's stream of samples. There is one per link: a second call replaces the first.

        GatherError as for `call`.
        """

    async def sample_stop(self, *, timeout: float) -> None:  # noqa: ASYNC109
        """End the stream; nothing more is heard from the moment this is called. Fine when there is none."""

    async def close(self) -> None:
        """End the collector (it cleans up after itself) and the connection. Never raises, takes at most seconds."""


class Listener(Protocol):
    """What a Link tells of a stream of samples. Both are called from the event loop and must not take long."""

    def heard(self, sample: bytes) -> None:
        """One sample as the JSON that came, not decoded: a newer one may make that needless."""

    def ended(self, error: GatherError) -> None:
        """The link is gone and so is the stream. Not called when the stream was stopped or replaced."""


class Wire(Protocol):
    """What a Link writes to. None of these raise; a wire that breaks calls `Link.lost`."""

    def write(self, data: bytes) -> None: ...

    def end_input(self) -> None: ...

    def abort(self) -> None: ...

    async def ended(self) -> None: ...
