"""The finding and host screens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from dstui.catalogue import Catalogue
from dstui.facts.case import HostFacts
from dstui.facts.raw import Answer, Missing, Raw
from dstui.model import Lang, Reason, Verdict
from screens.finding import FindingScreen
from screens.host import HostScreen
from screens.lines import Bar, LineView
from screens.search import SearchLine
from screens.telling import output_lines, value_lines
from screens.tones import Tone


def opened(app: Any) -> FindingScreen:
    assert isinstance(app.screen, FindingScreen)
    return app.screen


async def test_outliers_come_first_and_identical_hosts_unfold(
    mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n", "enter")
        screen = opened(app)
        assert screen.target_list.keys == ["group:host:gpu-04", "group:host:gpu-01"]
        await pilot.press("down", "space")
        assert screen.target_list.keys[2:] == ["host:gpu-01", "host:gpu-02", "host:gpu-03"]
        await pilot.press("down", "down")
        assert "mlx5_bond_0 200 Gb/s, active" in hands.text_of(screen.pane)
        assert screen.chosen()[1].target.name == "gpu-02"
        await pilot.press("home", "down", "enter")
        assert len(screen.target_list.keys) == 2


async def test_the_top_names_definition_and_thresholds_with_origin(
    mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n", "enter")
        top = hands.text_of(app.screen.query_one("#top", Bar))
        assert "hw.nic-speed  Server-to-server links are at least 25 Gb/s" in top
        assert "nic_min_gbps 25 (document)" in top
        assert "✗ FAIL" in top


async def test_tabs_tell_everything(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n", "enter")
        pane = opened(app).pane
        assert "the two ends of the link differ in MTU" in hands.text_of(pane)
        assert "12:04:18 · took 0.8 s · holds until 13:04:18" in hands.text_of(pane)
        await pilot.press("right_square_bracket")
        assert "$ ip -j route get 10.0.0.1" in hands.text_of(pane)
        assert "exit 0 · 40 ms · 56 B · links.route" in hands.text_of(pane)
        await pilot.press("4")
        history = hands.text_of(pane)
        assert history.index("optic ordered, swap tonight") < history.index("run 7") < history.index("run 6")
        await pilot.press("5")
        rule = hands.text_of(pane)
        assert "› ✗ FAIL" in rule and "fired: fail: the rule that fired" in rule
        assert "  ✓ pass" in rule and "Pitfalls" in rule
        await pilot.press("left_square_bracket", "left_square_bracket")
        assert "g shows everything known of gpu-04" in hands.text_of(pane)
        await pilot.press("left_square_bracket", "left_square_bracket", "left_square_bracket")
        assert opened(app).tab == 4


async def test_y_copies_the_command_under_the_cursor(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n", "enter", "y")
        assert app.clipboard == "ip -j route get 10.0.0.1"
        await pilot.press("2", "tab", *["down"] * 5, "y")
        assert app.clipboard == "cat /sys/class/net/ens5f1/speed"
        await pilot.press("end", "y")
        assert app.clipboard == "ethtool ens5f0"
        assert "Copied: ethtool ens5f0" in hands.told(app)


async def test_y_without_evidence_says_so(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        hands.home(app).reveal("ops.upgrade")
        await pilot.press("enter", "2", "y", "g")
        assert "no command to copy" in hands.told(app)
        assert "not a host" in hands.told(app)
        assert "Press s to sign" in hands.text_of(opened(app).pane)


async def test_n_walks_on_and_back_lands_on_that_check(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n", "enter", "n")
        assert opened(app).check_id == "sw.docker"
        assert "only root may use the socket" in hands.text_of(opened(app).pane)
        await pilot.press("N", "n", "n", "escape")
        assert hands.home(app).outline_list.cursor == "net.outbound"


async def test_a_finding_settles_while_it_is_open(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n", "enter", "r")
        await hands.painted(app, pilot)
        assert "waits for gpu-04" in hands.text_of(app.screen.query_one("#top", Bar))
        mixed_engine.settle(
            *(hands.settled("hw.nic-speed", h, mixed_engine.now) for h in ("gpu-01", "gpu-02", "gpu-03", "gpu-04"))
        )
        mixed_engine.finish.set()
        await hands.painted(app, pilot)
        assert "✓ pass" in hands.text_of(app.screen.query_one("#top", Bar))
        assert opened(app).target_list.keys == ["group:host:gpu-01"]


async def test_cut_output_says_how_much_there_was(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    found = hands.settled("hw.memory", "gpu-01", mixed_engine.now)
    from dstui.model import Evidence

    cut = Evidence("mem", "dmidecode -t 17", 1, "x" * 4096, 262_144, 0.2, "no permission\n")
    mixed_engine.settle(replace(found, evidence=(cut,)))
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        hands.home(app).reveal("hw.memory")
        await pilot.press("enter", "2")
        told = hands.text_of(opened(app).pane)
        assert "4.0 KiB of 256.0 KiB" in told
        assert "error output" in told and "no permission" in told
        assert "exit 1" in told


async def test_g_opens_the_host_with_session_findings_and_answers(
    mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n", "enter", "g")
        screen = app.screen
        assert isinstance(screen, HostScreen)
        assert screen.key_list.keys == ["session", "findings", "gpu.smi", "links.route", "mem.dmi", "os.release"]
        session = hands.text_of(screen.pane)
        assert "publickey" in session and "ssh-ed25519 256 bit SHA256:Zk3" in session and "refused" in session
        await pilot.press("down")
        assert "bond0 to gpu-01" in hands.text_of(screen.pane)
        await pilot.press("down", "down", "down")
        assert "missing (no permission): sudo wants a password" in hands.text_of(screen.pane)
        await pilot.press("slash", *"ubuntu")
        assert screen.key_list.keys == ["session", "findings", "os.release"]
        await pilot.press("enter", "y")
        assert app.clipboard == "/etc/os-release"
        await pilot.press("escape")
        assert len(screen.key_list.keys) == 6
        await pilot.press("escape", "escape")
        assert hands.home(app).outline_list.cursor == "hw.nic-speed"


async def test_a_host_that_was_never_reached_says_why(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    down = HostFacts(Missing(Reason.UNREACHABLE, "connection refused by 10.0.0.4:22"), None, Raw(), {})
    mixed_engine.facts["gpu-04"] = down
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        assert "SSH 3/4" in hands.text_of(app.screen.query_one("#top", Bar))
        await pilot.press("n", "enter", "3")
        assert "gpu-04 could not be reached: connection refused" in hands.text_of(opened(app).pane)
        await pilot.press("g")
        assert "connection refused by 10.0.0.4:22" in hands.text_of(app.screen.query_one("#tab", LineView))


async def test_facts_not_gathered_in_this_session_say_what_to_press(
    mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    mixed_engine.facts.clear()
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n", "enter", "3")
        assert "has not gathered gpu-04 yet. Press r" in hands.text_of(opened(app).pane)
        await pilot.press("g")
        assert "Press R to run all checks" in hands.text_of(app.screen.query_one("#tab", LineView))


async def test_the_host_screen_searches_100_kb_answers(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    from dataclasses import replace as changed

    big = Answer("os.env", "env", "\x1b[2J[/x]" * 30_000 + " needle", exit=0)
    facts = mixed_engine.facts["gpu-04"]
    raw = Raw({**facts.raw.answers, "os.env": big, "gpu.nvml": Answer("gpu.nvml", "NVML", value={"gpus": [{"i": 0}]})})
    mixed_engine.facts["gpu-04"] = changed(facts, raw=raw)
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n", "enter", "g", "slash")
        app.screen.query_one(SearchLine).value = "needle"
        await pilot.pause()
        assert app.screen.key_list.keys == ["session", "findings", "os.env"]
        assert len(app.screen.pane.lines) < 500
        app.screen.query_one(SearchLine).value = "gpus"
        await pilot.pause()
        assert '"i": 0' in hands.text_of(app.screen.pane)


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    temp: float | Missing


@dataclass(frozen=True, slots=True)
class GpuFacts:
    driver: str
    gpus: tuple[Gpu, ...]
    modules: tuple[str, ...]


def test_parsed_facts_are_told_with_what_is_missing() -> None:
    facts = GpuFacts("535.104.05", (Gpu("H800", Missing(Reason.TIMEOUT, "no [answer]")),), ("nvidia", "nvidia_uvm"))
    told = ["".join(text for text, _ in row).rstrip() for row in value_lines(facts, Lang.EN, 80, 0)]
    assert told == [
        "driver  535.104.05",
        "gpus",
        "  0",
        "    name  H800",
        "    temp  missing (timed out): no [answer]",
        "modules  nvidia, nvidia_uvm",
    ]


@pytest.mark.parametrize(("text", "count"), [("", 1), ("a\nb\n", 2), ("x" * 1000, 1000 // 38 + 1), ("y\n" * 5000, 401)])
def test_output_is_bounded(text: str, count: int) -> None:
    assert len(list(output_lines(text, Lang.EN, 40))) == count


async def test_facts_tab_shows_the_groups_the_evidence_came_from(
    mixed_engine: Any, catalogue: Catalogue, hands: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GpuFacts, "__module__", "dstui.facts.links")
    facts = mixed_engine.facts["gpu-04"]
    mixed_engine.facts["gpu-04"] = replace(facts, groups={GpuFacts: GpuFacts("535", (), ())})
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n", "enter", "3")
        assert "driver  535" in hands.text_of(opened(app).pane)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_a_tone_that_a_stylesheet_knows(verdict: Verdict) -> None:
    from screens.marks import OF_VERDICT

    assert OF_VERDICT[verdict].tone in set(Tone)
