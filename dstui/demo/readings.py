"""What a made-up host's collector reads in one moment of its life: the fields of a `sample`, all but its number."""

from __future__ import annotations

import math
from functools import cache

from dstui.demo import gpus, hardware
from dstui.demo.cast import Character, share
from dstui.demo.life import LOAD_SECONDS, Body, Copy, Life, Phase, Work, life_number, worker_pid
from dstui.demo.network import BOND, IB_PORTS, LINK_SPEEDS, MEMBERS, MGMT, RDMA_SPEEDS
from dstui.demo.troubles import FELL_OFF, FELL_OFF_BEFORE, REMAP_AT, REMAPPED

Json = dict[str, object]

_GIB = 1 << 30
_UNUSED_BYTES = 548_405_248
"""Of GPU memory that the driver keeps, as the facts have it."""
_ENGINE_BYTES, _JOB_BYTES = 76_900_000_000, 61_200_000_000
"""GPU memory of a vLLM engine with `gpu_memory_utilization` 0.9, and of the batch job's worker."""
_IDLE_WATTS, _READY_WATTS, _LIMIT_WATTS = 72.0, 118.0, 700.0
_IDLE_MHZ, _FULL_MHZ, _MEMORY_MHZ = 345, 1_980, 2_619
_HOTTER = 27.0
"""°C that an overheating GPU has above its neighbours."""
_SLOWED_FROM = 0.4
"""How far a GPU has to be overheated until its clocks are cut."""
_SLOWDOWN = ["hw_slowdown", "hw_thermal_slowdown"]
_PCIE_KB = 900_000.0
_KB_A_TOKEN, _KB_A_REQUEST = 0.18, 6.0
XIDS_SECONDS = 3_600.0
"""For how long a collector tells of an XID."""


def reading(life: Life, name: str, now: float, *, with_gpus: bool, pcie: bool) -> Json:
    """The sample of a host at `now`; `life` is advanced to it. KeyError for a host that is not of the fleet."""
    life.advance(now)
    body = life.bodies[name]
    copy = life.copy_on(name)
    row = _host(body, copy, now)
    row |= _traffic(body, copy, now)
    row |= {"xids": _xids(life, body, now), "xid_missing": None}
    if not with_gpus:
        return row | {"gpu_source": None, "gpu_missing": None, "gpus": []}
    rows = [_gpu(life, body, copy, n, now, pcie=pcie) for n in range(body.host.traits.gpus_answering)]
    slow_age = round((now + 5 * share(name)) % 5.0, 1)
    return row | {"gpu_source": "nvml", "gpu_missing": None, "slow_age": slow_age, "gpus": rows, "gpu_age": 0.02}


def _wave(name: str, now: float, seconds: float) -> float:
    """From -1 to 1, out of step with other hosts."""
    return math.sin(now * 6.28 / seconds + 6.28 * _phase(name))


@cache
def _phase(name: str) -> float:
    return share(f"{name} phase")


def _host(body: Body, copy: Copy | None, now: float) -> Json:
    name, total = body.host.name, hardware.memory_total(body.host.traits.memory_gib)
    running = copy.engine.running if copy is not None and copy.engine is not None else 0
    cpu = 1.2 + 0.035 * running + (19.0 * body.use if body.work is Work.BATCH else 0.0) + 0.4 * _wave(name, now, 9.0)
    used = total * 0.05 + (24 * _GIB if _held(body, copy) else 0) + 0.4 * _GIB * (1 + _wave(name, now, 61.0))
    return {
        "cpu": round(max(0.1, cpu), 1),
        "load1": round(body.load * (1 + 0.05 * _wave(name, now, 17.0)), 2),
        "cpus": hardware.THREADS,
        "mem_total": total,
        "mem_available": int(total - used),
        "swap_used": 0,
        "swap_in": 0.0,
        "swap_out": 0.0,
        "oom_kill": 0,
    }


def _held(body: Body, copy: Copy | None) -> bool:
    """Whether processes hold the host's GPUs."""
    if body.node is None or body.work is Work.IDLE:
        return False
    return copy is None or copy.phase in (Phase.RUNNING, Phase.LOADING)


def _traffic(body: Body, copy: Copy | None, now: float) -> Json:
    """Tokens go over the bond; weights come over it; the batch job's gradients go over InfiniBand."""
    name = body.host.name
    engine = copy.engine if copy is not None else None
    tokens = engine.token_rate if engine is not None else 0.0
    loading = copy is not None and copy.phase is Phase.LOADING
    noise = 1 + 0.1 * _wave(name, now, 5.0)
    received = (1.1e6 + tokens * 16 * _KB_A_REQUEST + (6.4e9 if loading else 0.0)) * noise
    sent = (0.9e6 + tokens * 1000 * _KB_A_TOKEN) * noise
    fabric = 2.6e10 * body.use * noise if body.work is Work.BATCH else 1_400.0 * noise
    net: Json = {}
    rdma: Json = {"mlx5_bond_0/1": _way(received * 0.4, sent * 0.1, RDMA_SPEEDS["mlx5_bond_0/1"])}
    for link, speed in LINK_SPEEDS.items():
        part = 1.0 if link == BOND else 0.5 if link in MEMBERS else 0.0
        at = _way(received * part, sent * part, speed) if part else _way(2_600.0 * noise, 3_900.0 * noise, speed)
        net[link] = _way(90.0, 90.0, speed) if link not in (BOND, *MEMBERS, MGMT) else at
    for port in IB_PORTS:
        rdma[port] = _way(fabric, fabric * 0.98, RDMA_SPEEDS[port])
    return {"net": net, "rdma": rdma}


def _way(rx: float, tx: float, speed: int) -> Json:
    return {"rx": round(rx, 1), "tx": round(tx, 1), "speed": speed}


def _gpu(life: Life, body: Body, copy: Copy | None, n: int, now: float, *, pcie: bool) -> Json:
    name, held = body.host.name, _held(body, copy)
    heat, anywhere = life.heat(name, n), life.heat(name)
    slowed = heat > _SLOWED_FROM
    use = min(1.0, max(0.0, body.use + (0.02 * math.sin(now * 1.7 + n) if body.use else 0.0)))
    # In step with the slowest one, the others wait in the same kernel: busy, and cooler.
    strain = use * (1.0 - 0.45 * heat if heat else 1.0 - 0.3 * anywhere)
    watts = _READY_WATTS + 530.0 * strain if held else _IDLE_WATTS + 9.0 * _steady(name, n)
    celsius = 27.0 + 9.0 * _steady(name, n) + body.warm * (1.0 - 0.2 * anywhere if not heat else 1.0) + _HOTTER * heat
    clock = _FULL_MHZ - 15 * round(62.0 * max(0.0, heat - _SLOWED_FROM)) if held else _IDLE_MHZ
    memory, pid = _memory(body, copy, n, now), worker_pid(name, life_number(body, copy), n)
    row: Json = {
        "index": n, "uuid": _serial(body.host, n), "name": gpus.NAME, "util": round(100 * use),
        "mem_util": round(62 * use), "mem_used": memory, "mem_total": gpus.MEMORY,
        "temp": round(celsius), "power": round(watts + 6.0 * math.sin(now * 2.3 + n) * (use > 0), 1),
        "power_limit": _LIMIT_WATTS, "sm_mhz": clock, "mem_mhz": _MEMORY_MHZ,
        "reasons": _SLOWDOWN if slowed else [] if use > 0 else ["gpu_idle"],
        "ecc_uncorrected": 0, "pcie_gen": 5, "pcie_width": 16, "pcie_rx": None, "pcie_tx": None,
        "procs": [{"pid": pid, "mem": memory - _UNUSED_BYTES}] if held else [],
        "error": None, "pci": gpus.pci_address(n),
    }  # fmt: skip
    if pcie:
        row |= {"pcie_rx": round(_PCIE_KB * use), "pcie_tx": round(_PCIE_KB * use / 3), "pcie_age": float(n)}
    return row


@cache
def _steady(name: str, n: int) -> float:
    """How warm a GPU is by its place in the air, 0 to 1: as the facts have it."""
    return share(f"{name} gpu {n}")


@cache
def _serial(host: Character, n: int) -> str:
    return gpus.serial(host, n)


def _memory(body: Body, copy: Copy | None, n: int, now: float) -> int:
    if not _held(body, copy):
        return _UNUSED_BYTES
    if copy is None:
        return _JOB_BYTES + n * (1 << 21)
    if copy.phase is Phase.LOADING:
        loaded = min(1.0, max(0.0, (now - (copy.placed_at or now)) / LOAD_SECONDS))
        return _UNUSED_BYTES + int((_ENGINE_BYTES - _UNUSED_BYTES) * loaded)
    return _ENGINE_BYTES + n * (1 << 21)


def _xids(life: Life, body: Body, now: float) -> list[Json]:
    """Those that the kernel has logged since it started, of the last hour."""
    lost_at, remapped_at, spot = life.began - FELL_OFF_BEFORE, life.began + REMAP_AT, life.troubles.remapped
    found = [(lost_at, n, FELL_OFF) for n in range(body.host.traits.gpus_answering, gpus.GPUS)]
    if spot is not None and spot.host == body.host.name:
        found.append((remapped_at, spot.gpu, REMAPPED))
    return [
        {"at": round(at, 3), "pci": gpus.pci_address(n)[4:-2].lower(), "xid": number, "text": text}
        for at, n, (number, text) in found
        if at >= body.up_since and 0 <= now - at <= XIDS_SECONDS
    ]
