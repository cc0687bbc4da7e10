"""The live strip: as much as fits, the sick first, and nothing old without its age."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from dstui.facts.case import HostSite
from dstui.model import Lang
from dstui.telemetry import ray
from dstui.telemetry.live import Live
from dstui.telemetry.ray import Application, Deployment, RayNode, RaySnapshot, Replica, Serve
from dstui.telemetry.record import Record, RecordKind
from dstui.telemetry.watched import Watched
from screens.livestrip import live_line
from screens.tones import Tone

T = 1_800_000_000.0


def site(number: int) -> HostSite:
    ip = f"10.0.0.{number}"
    roles = frozenset({"head" if number == 1 else "worker"})
    return HostSite(f"gpu-{number:02}", roles, ip, None, ip, 22, "ops", True, 2)


SITES = tuple(site(number) for number in range(1, 4))


def gpu(index: int, **more: object) -> dict[str, object]:
    row: dict[str, object] = {
        "index": index, "uuid": f"GPU-{index}", "name": "H100", "util": 95, "mem_used": 72e9, "mem_total": 80e9,
        "temp": 65, "power": 600.0, "reasons": [], "procs": [], "error": None,
    }  # fmt: skip
    return row | more


def host(at: float, name: str, *gpus: dict[str, object]) -> Record:
    data = {"seq": 1, "hz": 1.0, "gpu_source": "nvml", "gpus": list(gpus or (gpu(0), gpu(1)))}
    return Record(at, f"host:{name}", RecordKind.SAMPLE, data)


def fleet(*, sick: bool = False) -> Live:
    live = Live(Watched("ds", SITES))
    for each in SITES:
        hot = gpu(1, reasons=["hw_thermal_slowdown"], temp=88, util=41)
        live.feed(host(T, each.name, *((gpu(0), hot) if sick and each.name == "gpu-03" else ())))
    return live


def told(live: Live, now: float = T, width: int = 200, lang: Lang = Lang.EN) -> str:
    return "".join(text for text, _ in live_line(live, now, lang, width))


def test_all_is_well() -> None:
    text = told(fleet())
    assert "GPU 6/6  95%" in text
    assert "✗" not in text
    assert "!" not in text


def test_what_is_not_watched_says_so_and_gives_no_number() -> None:
    text = told(fleet())
    assert "Ray ? unknown" in text
    assert "vLLM ? unknown" in text
    assert "0/" not in text


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("lang", list(Lang))
def test_the_sick_host_is_named_at_every_width(width: int, lang: Lang) -> None:
    text = told(fleet(sick=True), width=width, lang=lang)
    assert "gpu-03" in text
    assert cell_len(text) <= width


@pytest.mark.parametrize("lang", list(Lang))
def test_every_part_has_its_place_at_80_columns(lang: Lang) -> None:
    """With a sick host, silent ones and all sources answering, as in the demo."""
    live = fleet(sick=True)
    live.feed(ray_of())
    live.feed(host(T + 60, "gpu-03", gpu(0), gpu(1, reasons=["hw_thermal_slowdown"], temp=88)))
    live.feed(Record(T + 60, "ray", RecordKind.SAMPLE, {**ray_of().data, "at": T + 60}))
    text = told(live, T + 60, width=80, lang=lang)
    assert cell_len(text) <= 80
    for part in ("GPU ! 2/6", "✗ gpu-01", "Serve 2/2", "vLLM ?"):
        assert part in text, part


def test_hosts_that_fell_silent_are_counted() -> None:
    live = fleet()
    for each in SITES[:2]:
        live.feed(host(T + 60, each.name))
    text = told(live, T + 60)
    assert "! 1 hosts silent" in text
    assert "4/6" in text


def test_nothing_is_current_when_all_fell_silent() -> None:
    text = told(fleet(), T + 60)
    assert "GPU ? unknown" in text
    assert "95%" not in text


def ray_of(*, dead: bool = False) -> Record:
    nodes = tuple(
        RayNode(f"n{n}", each.data_ip, head=n == 0, state="DEAD" if dead and n == 2 else "ALIVE")
        for n, each in enumerate(SITES)
    )
    replicas = (Replica("r1", "RUNNING"), Replica("r2", "STARTING" if dead else "RUNNING"))
    deployment = Deployment("LLMServer", "UNHEALTHY" if dead else "HEALTHY", target=2, replicas=replicas)
    app = Application("llm", "UNHEALTHY" if dead else "RUNNING", deployments=(deployment,))
    return ray.record(RaySnapshot(T, nodes=nodes, serve=Serve(True, (app,))))


def test_ray_and_serve() -> None:
    live = Live(Watched("ds", SITES))
    live.feed(ray_of())
    assert "Ray 3/3 nodes · Serve RUNNING 2/2" in told(live)


def test_a_dead_node_and_a_sick_application_are_marked_without_colour() -> None:
    live = Live(Watched("ds", SITES))
    live.feed(ray_of(dead=True))
    assert "Ray ! 2/3 nodes · Serve ✗ UNHEALTHY 1/2" in told(live)


def test_what_is_late_is_grey_and_says_how_old() -> None:
    live = Live(Watched("ds", SITES))
    live.feed(ray_of())
    late = live_line(live, T + 8, Lang.EN, 200)
    assert "Ray 3/3 nodes ! 8 s old" in "".join(text for text, _ in late)
    assert {tone for text, tone in late if "3/3" in text} == {Tone.DIM}
