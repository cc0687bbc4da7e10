"""What the live view costs: seconds per host record, memory, and each view, for 10, 100 and 1,000 hosts × 8 GPUs.

    python bench/live_fold.py [--minutes N]

Time is simulated at 1 Hz. Memory growth is measured over the minutes after the histories are full.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

from dstui.facts.case import HostSite
from dstui.telemetry import live_views
from dstui.telemetry.live import Live
from dstui.telemetry.live_rings import HISTORY_SECONDS
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.watched import Watched

BEGAN = 1_800_000_000.0
GPUS = 8
REPAINTS_A_SECOND = 10


def main() -> int:
    """Prints the table; 1 when a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="simulated minutes for which memory is watched")
    minutes = parser.parse_args().minutes
    print("hosts  µs/record  core at 1 Hz  strip ms  grid ms  grid p99  trail ms  kB/host  growth kB/host/10 min")
    broken = False
    for hosts in (10, 100, 1000):
        broken |= not _measure(hosts, minutes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process {peak:.0f} MB")
    return int(broken)


def _measure(hosts: int, minutes: float) -> bool:
    fleet = Fleet(hosts)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    live = Live(Watched("bench", fleet.sites))
    for records in fleet.seconds(5):
        _feed(live, records)
    _look(live)
    gc.collect()
    full = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    costs = []
    for records in fleet.seconds(20):
        ready = list(records)
        began = time.process_time()
        _feed(live, ready)
        costs.append((time.process_time() - began) / hosts)
    views = _views(live, fleet)
    growth = _growth(fleet, minutes)
    cost = statistics.median(costs)
    grid = views["grid"]
    p99 = sorted(grid)[int(len(grid) * 0.99) - 1]
    print(
        f"{hosts:5}  {cost * 1e6:9.1f}  {cost * hosts:11.1%}  {statistics.median(views['strip']) * 1e3:8.2f}"
        f"  {statistics.median(grid) * 1e3:7.2f}  {p99 * 1e3:8.2f}  {statistics.median(views['trail']) * 1e3:8.2f}"
        f"  {full / hosts / 1024:7.1f}  {growth:10.2f}"
    )
    return cost <= 200e-6 and statistics.median(grid) <= 5e-3 and growth <= 1.0


class Fleet:
    """Made-up hosts that do much the same, some of them not."""

    def __init__(self, hosts: int) -> None:
        self.sites = tuple(
            HostSite(f"gpu-{n:04}", frozenset({"worker"}), f"10.0.{n >> 8}.{n & 255}", None, f"10.0.{n >> 8}.{n & 255}",
                     22, "ops", True, GPUS)
            for n in range(hosts)
        )  # fmt: skip
        self._random = random.Random(7)
        self._second = 0

    def seconds(self, count: int) -> Iterator[Iterator[Record]]:
        """One second after the other: a record of every host."""
        for _ in range(count):
            self._second += 1
            yield (self._record(number, site.name) for number, site in enumerate(self.sites))

    def _record(self, number: int, name: str) -> Record:
        at = BEGAN + self._second + number / len(self.sites)
        odd = number % 97 == 5
        data: dict[str, object] = {
            "seq": self._second, "lost": 0, "hz": 1.0, "late": 0.002, "cpu": self._random.uniform(5, 30), "load1": 12.5,
            "cpus": 192, "mem_total": 2.1e12, "mem_available": 1.4e12, "swap_used": 0, "swap_in": 0, "swap_out": 0,
            "oom_kill": 0, "net": {"bond0": {"rx": 2.1e8, "tx": 1.9e8, "speed": 2e11}, "mgmt0": {"rx": 1e4, "tx": 2e4,
            "speed": 1e9}}, "rdma": {f"mlx5_{n}/1": {"rx": 1e9, "tx": 1e9, "speed": 4e11} for n in range(8)},
            "gpu_source": "nvml", "gpu_missing": None, "gpu_age": 0.02, "slow_age": 2.0,
            "gpus": [self._gpu(number, index, odd and index == 5) for index in range(GPUS)],
        }  # fmt: skip
        return Record(at, f"host:{name}", RecordKind.SAMPLE, data)

    def _gpu(self, number: int, index: int, odd: bool) -> dict[str, object]:
        temp = 88 if odd else self._random.randint(60, 68)
        use = self._random.randint(30, 45) if odd else self._random.randint(92, 100)
        return {
            "index": index, "uuid": f"GPU-{number:08x}-{index:04x}", "name": "NVIDIA H100 80GB HBM3", "util": use,
            "mem_util": 60, "mem_used": 7.8e10, "mem_total": 8.5e10, "temp": temp, "power": 640.0, "power_limit": 700.0,
            "sm_mhz": 1755, "mem_mhz": 2619,
            "reasons": ["hw_thermal_slowdown"] if odd else [], "ecc_uncorrected": 0, "pcie_gen": 5, "pcie_width": 16,
            "pcie_rx": None, "pcie_tx": None, "pcie_age": None, "procs": [{"pid": 4000 + index, "mem": 7.7e10}],
            "error": None,
        }  # fmt: skip

    def now(self) -> float:
        """The end of the second that was simulated last."""
        return BEGAN + self._second + 1


def _feed(live: Live, records: Iterator[Record] | list[Record]) -> None:
    for record in records:
        live.feed(record)


def _look(live: Live) -> None:
    now = live.fed_at or BEGAN
    live_views.strip(live, now)
    live_views.grid(live, now)
    live_views.events(live)


def _views(live: Live, fleet: Fleet) -> dict[str, list[float]]:
    """Repaints while a tenth of the hosts has said something new before each of them."""
    looks: dict[str, Callable[[float], object]] = {
        "strip": lambda now: live_views.strip(live, now),
        "grid": lambda now: live_views.grid(live, now),
        "trail": lambda now: live_views.trail(live, fleet.sites[0].name, now),
    }
    costs: dict[str, list[float]] = {name: [] for name in looks}
    for name, look in looks.items():
        for records in fleet.seconds(10):
            ready = list(records)
            part = max(1, len(ready) // REPAINTS_A_SECOND)
            for start in range(0, len(ready), part):
                _feed(live, ready[start : start + part])
                now = ready[min(start + part, len(ready)) - 1].at
                began = time.process_time()
                look(now)
                costs[name].append(time.process_time() - began)
    return costs


def _growth(fleet: Fleet, minutes: float) -> float:
    """kB per host in ten minutes once the histories are full, which they are after 15 minutes.

    Only some hosts are fed for so long: all would take minutes.
    """
    few = Fleet(min(20, len(fleet.sites)))
    live = Live(Watched("bench", few.sites))
    tracemalloc.start()
    _live_through(live, few, HISTORY_SECONDS)
    before = _live_through(live, few, minutes * 60)
    grown = _live_through(live, few, minutes * 60) - before
    tracemalloc.stop()
    return grown / len(few.sites) / 1024 * 10 / minutes


def _live_through(live: Live, fleet: Fleet, seconds: float) -> int:
    """Feeds and looks, and says how much memory is in use afterwards."""
    for second, records in enumerate(fleet.seconds(int(seconds))):
        _feed(live, records)
        if second % 10 == 0:
            _look(live)
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
