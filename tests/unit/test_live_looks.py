"""A look at a thousand hosts is not made of a thousand rows each time, and is never older than it says."""

from __future__ import annotations

import pytest

from dstui.facts.case import HostSite
from dstui.telemetry import live_views
from dstui.telemetry.live import Live
from dstui.telemetry.live_grid import GridCache, GridRow
from dstui.telemetry.live_host import HostFold
from dstui.telemetry.live_marks import Norm
from dstui.telemetry.live_status import Shown, Status
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.watched import Watched

T = 1_800_000_000.0


def site(number: int) -> HostSite:
    return HostSite(
        f"h{number:02}", frozenset({"worker"}), f"10.0.0.{number}", None, f"10.0.0.{number}", 22, "o", True, 1
    )


def sample(at: float, number: int, use: float = 90.0) -> Record:
    gpu = {"index": 0, "uuid": f"GPU-{number}", "util": use, "temp": 60, "reasons": [], "procs": [], "error": None}
    data = {"seq": 1, "hz": 1.0, "gpu_source": "nvml", "gpus": [gpu]}
    return Record(at, f"host:h{number:02}", RecordKind.SAMPLE, data)


def built(live: Live, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the hosts whose rows are made from now on."""
    made: list[str] = []
    original = GridCache._built

    def counting(self: GridCache, fold: HostFold, how: Shown, norm: Norm) -> GridRow:
        made.append(fold.name)
        return original(self, fold, how, norm)

    monkeypatch.setattr(GridCache, "_built", counting)
    return made


def test_rows_are_made_as_hosts_speak_and_not_when_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    live = Live(Watched("ds", tuple(site(n) for n in range(1, 31))))
    for number in range(1, 31):
        live.feed(sample(T, number))
    live_views.grid(live, T)
    made = built(live, monkeypatch)
    live.feed(sample(T + 1, 7))
    assert made == ["h07"]
    live_views.grid(live, T + 1)
    live_views.strip(live, T + 1)
    assert made == ["h07"], "a look makes none of those that are live and said nothing new"


def test_the_same_look_twice_is_one_and_a_later_one_is_another() -> None:
    live = Live(Watched("ds", (site(1),)))
    live.feed(sample(T, 1, use=90.0))
    first = live_views.grid(live, T)
    assert live_views.grid(live, T).rows == first.rows
    live.feed(sample(T, 1, use=10.0))
    assert live_views.grid(live, T).rows[0].mean_use == 10.0, "new values at the same moment are seen"
    assert live_views.grid(live, T + 60).rows[0].shown.status is Status.UNKNOWN, "and old ones grow old"
    assert live_views.grid(live, T).rows[0].shown.status is Status.LIVE


def test_losses_are_of_the_moment_that_is_looked_at() -> None:
    live = Live(Watched("ds", (site(1),)))
    live.feed(sample(T, 1))
    assert not live.losses(T)
    assert set(live.losses(T + 60)) == {"h01"}
    assert not live.losses(T)
