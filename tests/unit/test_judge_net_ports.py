from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dstui.facts import listeners
from dstui.facts.case import FleetCase, HostFacts, HostSite, Params, Site
from dstui.facts.choreography import Listener, PortMatrix, PortTry
from dstui.facts.raw import Answer, Missing, Raw
from dstui.judge import net_ports
from dstui.judge.net_port_setup import PINNED, port_range
from dstui.model import Reason, Ruling, TargetKind, Threshold, Verdict

NET = Path(__file__).parent.parent / "data" / "hosts" / "net"
SAMPLES = (10001, 10002, 15000, 19999)
HEAD_PORTS = (6379, 8265, 10001)
PINS = {name: 10010 + at for at, name in enumerate(PINNED)}
HEAD = HostSite("gpu-01", frozenset({"head"}), "198.51.100.11", None, "198.51.100.11", 22, "ops", True, 8)
WORKER = HostSite("gpu-02", frozenset({"worker"}), "198.51.100.12", None, "198.51.100.12", 22, "ops", True, 8)
LB = HostSite("lb-01", frozenset({"lb"}), "198.51.100.21", None, "198.51.100.21", 22, "ops", False, None)
PLAIN = Site(
    *("ds", "lab", "pre", (HEAD, WORKER, LB), "/mnt/deepseek-shared", None, None, "bare-metal", False, "none"),
    ray_ports=PINS,
)
VALUES = {"ports_head": HEAD_PORTS, "port_range": "10001-19999", "range_samples": 4, "ports_extra": (52365,)}


def ports_of(host: HostSite) -> tuple[int, ...]:
    return tuple(dict.fromkeys((*(HEAD_PORTS if "head" in host.roles else ()), *SAMPLES, 52365)))


def matrix(
    hosts: Sequence[HostSite] = (HEAD, WORKER),
    held: Mapping[tuple[str, int], Listener] | None = None,
    outcomes: Mapping[tuple[str, int], str] | None = None,
    **changed: object,
) -> PortMatrix:
    """Every port listening and reached, but for `held` (host, port) and `outcomes` (destination, port)."""
    usual = {(h.name, p): Listener(h.name, p, "listening") for h in hosts for p in ports_of(h)}
    found = {**usual, **(held or {})}
    tries = [
        PortTry(a.name, b.name, port, (outcomes or {}).get((b.name, port), "ok"), 0.2)
        for a in hosts
        for b in hosts
        if a is not b
        for port in ports_of(b)
    ]
    whole = PortMatrix("ds", SAMPLES, 10001, 19999, True, tuple(found.values()), tuple(tries), {})
    return replace(whole, **changed)  # type: ignore[arg-type]


def facts(ss: str = "ss_unprivileged.txt", ephemeral: str = "32768 60999", reserved: str = "") -> HostFacts:
    answers = {
        "listeners.ss": Answer("listeners.ss", "ss", (NET / ss).read_text(), exit=0),
        "listeners.range": Answer("listeners.range", "range", ephemeral),
        "listeners.reserved": Answer("listeners.reserved", "reserved", reserved),
    }
    raw = Raw(answers)
    return HostFacts(None, None, raw, {listeners.ListenerFacts: listeners.parse(raw)})


def judged(
    found: PortMatrix | Missing | None,
    where: Site = PLAIN,
    seen: Mapping[str, HostFacts] | None = None,
    **changed: object,
) -> dict[str, Ruling]:
    params = Params([Threshold(n, v, "document", v) for n, v in {**VALUES, **changed}.items()])
    hosts = {h.name: facts() for h in where.hosts} if seen is None else dict(seen)
    observed = {} if found is None else {PortMatrix: found}
    return {r.target.name: r for r in net_ports.judge(FleetCase(where, hosts, params, {}, observed, 0.0))}


TO_HEAD, TO_WORKER = "gpu-02>gpu-01", "gpu-01>gpu-02"


def busy(host: str, port: int, holder: str | None) -> dict[tuple[str, int], Listener]:
    return {(host, port): Listener(host, port, "busy", holder)}


def live_head(dashboard: str = "python3") -> dict[tuple[str, int], Listener]:
    holders = ((6379, "gcs_server"), (8265, dashboard), (10001, "ray::Client"))
    return {key: item for port, holder in holders for key, item in busy("gpu-01", port, holder).items()}


LIVE = replace(PLAIN, phase="live")


def test_free_and_reachable_before_ray_starts() -> None:
    rulings = judged(matrix())
    assert set(rulings) == {TO_HEAD, TO_WORKER, "ds"}
    assert {r.verdict for r in rulings.values()} == {Verdict.PASS}
    assert rulings[TO_HEAD].observed.en == "7 ok"
    assert rulings["ds"].observed.en == "4 of 9999 ports sampled, 2 of 2 pairs"
    assert "seed ds" in rulings["ds"].notes[-1].en


@pytest.mark.parametrize(
    ("held", "outcomes", "verdict", "words"),
    [
        (busy("gpu-01", 6379, "redis-server"), {}, Verdict.FAIL, "gpu-01:6379 is occupied by redis-server"),
        (busy("gpu-01", 6379, None), {("gpu-01", 6379): "refused"}, Verdict.FAIL, "gpu-01:6379 is occupied by ?"),
        (busy("gpu-01", 52365, "java"), {}, Verdict.FAIL, "gpu-01:52365 is occupied by java"),
        ({}, {("gpu-01", 8265): "timeout"}, Verdict.FAIL, "packets are dropped on the way: 8265"),
        ({}, {("gpu-01", 8265): "unreach"}, Verdict.FAIL, "host unreachable: 8265"),
        (
            {},
            {("gpu-01", 15000): "refused"},
            Verdict.FAIL,
            "refused although the listener was up (a REJECT rule): 15000",
        ),
        ({}, {("gpu-01", 15000): "wrong-nonce"}, Verdict.FAIL, "something else answers: 15000"),
        ({}, {("gpu-01", 15000): "error"}, Verdict.UNKNOWN, "the connect failed locally: 15000"),
        (busy("gpu-01", 15000, "java"), {("gpu-01", 15000): "wrong-nonce"}, Verdict.WARN, "1 of 3 sampled ports"),
        (busy("gpu-01", 15000, "java"), {("gpu-01", 15000): "timeout"}, Verdict.FAIL, "dropped on the way: 15000"),
        (
            {("gpu-01", 15000): Listener("gpu-01", 15000, "failed", None, "EACCES: bind")},
            {},
            Verdict.UNKNOWN,
            "could not listen on gpu-01:15000: EACCES: bind",
        ),
    ],
)
def test_before_ray_starts(
    held: dict[tuple[str, int], Listener], outcomes: dict[tuple[str, int], str], verdict: Verdict, words: str
) -> None:
    rulings = judged(matrix(held=held, outcomes=outcomes))
    assert rulings[TO_HEAD].verdict is verdict
    assert words in rulings[TO_HEAD].rule.en
    assert rulings[TO_WORKER].verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("held", "outcomes", "verdict", "words"),
    [
        (live_head(), {}, Verdict.PASS, "Ray holds its ports"),
        (live_head() | busy("gpu-01", 6379, "redis-server"), {}, Verdict.FAIL, "held by redis-server, not by Ray"),
        (live_head("nginx"), {}, Verdict.FAIL, "gpu-01:8265 is held by nginx"),
        (live_head() | busy("gpu-01", 8265, None), {}, Verdict.WARN, "by whom cannot be seen"),
        ({}, {}, Verdict.FAIL, "nothing listens on gpu-01:6379"),
        (live_head(), {("gpu-01", 6379): "refused"}, Verdict.FAIL, "held, but connects are refused: 6379"),
        (live_head(), {("gpu-01", 6379): "timeout"}, Verdict.FAIL, "packets are dropped on the way: 6379"),
        (live_head(), {("gpu-01", 6379): "error"}, Verdict.UNKNOWN, "the connect failed locally: 6379"),
        (live_head() | busy("gpu-01", 15000, "ray::IDLE"), {}, Verdict.PASS, "Ray holds its ports"),
        (
            live_head() | busy("gpu-01", 15000, "java"),
            {},
            Verdict.WARN,
            "1 of 3 sampled ports are occupied: 15000 java",
        ),
        (
            live_head() | busy("gpu-01", 15000, None),
            {("gpu-01", 15000): "refused"},
            Verdict.PASS,
            "Ray holds its ports",
        ),
        (live_head(), {("gpu-01", 15000): "refused"}, Verdict.FAIL, "a REJECT rule"),
    ],
)
def test_while_ray_runs(
    held: dict[tuple[str, int], Listener], outcomes: dict[tuple[str, int], str], verdict: Verdict, words: str
) -> None:
    ruling = judged(matrix(held=held, outcomes=outcomes), LIVE)[TO_HEAD]
    assert ruling.verdict is verdict
    assert words in ruling.rule.en


def test_the_hosts_own_list_names_a_holder_that_the_bind_could_not() -> None:
    seen = {"gpu-01": facts("ss_ray_head.txt"), "gpu-02": facts()}
    hidden = {key: replace(item, holder=None) for key, item in live_head().items()}
    assert judged(matrix(held=hidden), LIVE, seen)[TO_HEAD].verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("holder", "verdict"), [("gcs_server", Verdict.PASS), ("redis-server", Verdict.FAIL), (None, Verdict.UNKNOWN)]
)
def test_an_undecided_phase_is_found_out_from_the_holder_of_6379(holder: str | None, verdict: Verdict) -> None:
    auto = replace(PLAIN, phase="auto")
    held = live_head() | busy("gpu-01", 6379, holder)
    if holder != "gcs_server":
        held = busy("gpu-01", 6379, holder)
    assert judged(matrix(held=held), auto)[TO_HEAD].verdict is verdict


@pytest.mark.parametrize("found", [None, Missing(Reason.BUDGET, "no time left")])
def test_without_a_matrix_nothing_is_known(found: Missing | None) -> None:
    (ruling,) = judged(found).values()
    assert ruling.verdict is Verdict.UNKNOWN
    assert ruling.reason is (found.reason if found else Reason.NOT_RUN)


def test_a_lost_side_makes_both_directions_unknown() -> None:
    lost = {"gpu-02": Missing(Reason.UNREACHABLE, "connect timed out")}
    rulings = judged(matrix(missing=lost, tries=()))
    assert {rulings[name].verdict for name in (TO_HEAD, TO_WORKER)} == {Verdict.UNKNOWN}
    assert rulings[TO_HEAD].reason is Reason.UNREACHABLE


def test_a_pair_that_was_not_tried_is_unknown_not_passed() -> None:
    whole = matrix()
    one_way = replace(whole, tries=tuple(t for t in whole.tries if t.source == "gpu-01"))
    assert (judged(one_way)[TO_HEAD].verdict, judged(one_way)[TO_HEAD].reason) == (Verdict.UNKNOWN, Reason.NOT_RUN)
    some = replace(whole, tries=tuple(t for t in whole.tries if t.port != 15000))
    assert "not tried: 15000" in judged(some)[TO_HEAD].rule.en
    assert judged(replace(whole, samples=(), tries=()))[TO_WORKER].verdict is Verdict.UNKNOWN


def test_a_head_port_that_nobody_looked_at_is_unknown() -> None:
    ruling = judged(matrix(), ports_head=(*HEAD_PORTS, 7000))[TO_HEAD]
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NOT_RUN)


@pytest.mark.parametrize(
    ("where", "seen", "changed", "words"),
    [
        (replace(PLAIN, ray_ports={}), {}, {}, "Ray ports not pinned, so random: node_manager, object_manager"),
        (
            replace(PLAIN, ray_ports={**PINS, "metrics_export": 40000}),
            {},
            {},
            "pinned outside 10001-19999: metrics_export",
        ),
        (PLAIN, {"ephemeral": "1024 65535"}, {}, "ephemeral ports overlap 10001-19999: gpu-01 1024-65535, gpu-02"),
        (PLAIN, {"ephemeral": "19999 65535"}, {}, "ephemeral ports overlap"),
        (PLAIN, {"ephemeral": "1024 65535", "reserved": "10001-15000"}, {}, "ephemeral ports overlap"),
        (PLAIN, {}, {"range_samples": 12}, "only 4 of 12 sample ports"),
    ],
)
def test_setup_warns(where: Site, seen: dict[str, str], changed: dict[str, object], words: str) -> None:
    hosts = {h.name: facts(**seen) for h in PLAIN.hosts}
    ruling = judged(matrix(), where, hosts, **changed)["ds"]
    assert (ruling.verdict, ruling.target.kind) == (Verdict.WARN, TargetKind.CLUSTER)
    assert words in ruling.rule.en


@pytest.mark.parametrize(
    ("ephemeral", "reserved"),
    [("20000 65535", ""), ("1024 65535", "10001-19999"), ("1024 65535", "8265,10001-12000,12001-19999")],
)
def test_reserved_ports_are_not_handed_out(ephemeral: str, reserved: str) -> None:
    hosts = {h.name: facts(ephemeral=ephemeral, reserved=reserved) for h in PLAIN.hosts}
    assert judged(matrix(), seen=hosts)["ds"].verdict is Verdict.PASS


def test_a_pin_among_the_extra_ports_is_opened() -> None:
    where = replace(PLAIN, ray_ports={**PINS, "dashboard_agent_grpc": 52365})
    assert judged(matrix(), where)["ds"].verdict is Verdict.PASS


@pytest.mark.parametrize("ephemeral", ["", "garbage"])
def test_an_unreadable_ephemeral_range_is_unknown(ephemeral: str) -> None:
    hosts = {h.name: facts(ephemeral=ephemeral) for h in PLAIN.hosts}
    assert judged(matrix(), seen=hosts)["ds"].verdict is Verdict.UNKNOWN


def test_a_sample_of_pairs_warns_once() -> None:
    rulings = judged(matrix(all_pairs=False))
    assert rulings["ds"].verdict is Verdict.WARN
    assert "not all pairs: 2 of 2" in rulings["ds"].rule.en


def many(count: int) -> tuple[Site, tuple[HostSite, ...]]:
    hosts = tuple(
        replace(HEAD if at == 0 else WORKER, name=f"gpu-{at:02}", data_ip=f"198.51.100.{at + 1}") for at in range(count)
    )
    return replace(PLAIN, hosts=hosts), hosts


def test_more_than_16_hosts_are_judged_by_source() -> None:
    where, hosts = many(17)
    rulings = judged(matrix(hosts, outcomes={("gpu-05", 15000): "timeout"}), where)
    assert len(rulings) == 18
    assert rulings["gpu-00"].verdict is Verdict.FAIL
    assert rulings["gpu-00"].rule.en.startswith("gpu-05: no answer")
    assert rulings["gpu-05"].verdict is Verdict.PASS
    assert rulings["gpu-05"].observed.en == "16 of 16 peers without fault"


def test_a_large_host_without_any_try_is_unknown() -> None:
    where, hosts = many(17)
    whole = matrix(hosts, all_pairs=False)
    silent = replace(whole, tries=tuple(t for t in whole.tries if t.source != "gpu-03"))
    assert judged(silent, where)["gpu-03"].verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("held", "verdict"), [({}, Verdict.PASS), (busy("gpu-01", 6379, "redis-server"), Verdict.FAIL)]
)
def test_a_single_node_still_needs_its_ports(held: dict[tuple[str, int], Listener], verdict: Verdict) -> None:
    where = replace(PLAIN, hosts=(HEAD, LB))
    assert judged(matrix((HEAD,), held), where)["gpu-01"].verdict is verdict


def test_no_node_at_all_is_unknown() -> None:
    (ruling,) = judged(matrix(), replace(PLAIN, hosts=(LB,))).values()
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NO_TARGETS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10001-19999", (10001, 19999)), (" 1 - 2 ", (1, 2)), ("9-1", None), ("1-99999", None), ("x", None), ("", None)],
)
def test_port_range(text: str, expected: tuple[int, int] | None) -> None:
    assert port_range(text) == expected
