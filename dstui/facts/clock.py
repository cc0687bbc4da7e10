"""The host's clock: what the kernel says of its synchronisation (adjtimex) and the wall time when it was asked."""

from __future__ import annotations

from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.raw import Missing, Op, Raw, own_process
from dstui.facts.untyped import real, table, whole
from dstui.model import Reason

_STA_UNSYNC = 0x40
_TIME_ERROR = 5


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """`time` is seconds since the epoch on the host; the errors are microseconds as the kernel estimates them."""

    time: float | Missing
    synchronised: bool | Missing
    offset_us: float | Missing
    max_error_us: float | Missing


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    return (own_process("clock.self"),)


def parse(raw: Raw) -> ClockFacts:
    value = raw.value("clock.self")
    if isinstance(value, Missing):
        return ClockFacts(value, value, value, value)
    own = table(value) or {}
    kernel = table(own.get("adjtimex"))
    time, untold = real(own.get("time")), Missing(Reason.CANNOT_TELL, "the host does not tell its adjtimex state")
    state, status = (whole(kernel.get("state")), whole(kernel.get("status"))) if kernel else (None, None)
    offset, error = (real(kernel.get("offset_us")), real(kernel.get("maxerror_us"))) if kernel else (None, None)
    return ClockFacts(
        time=Missing(Reason.PARSE_ERROR, "the session does not tell its time") if time is None else time,
        synchronised=untold if state is None or status is None else state != _TIME_ERROR and not status & _STA_UNSYNC,
        offset_us=untold if offset is None else offset,
        max_error_us=untold if error is None else error,
    )


GROUP = Group("clock", ClockFacts, ops, parse)
