"""The home screen, driven by keys against the silent engine."""

from __future__ import annotations

from typing import Any

import pytest

from dstui.catalogue import Catalogue
from dstui.events import EventKind
from dstui.model import DstuiError, Lang, Verdict, same
from screens.lines import Bar, LineView
from screens.search import SearchLine

HOSTS = ("gpu-01", "gpu-02", "gpu-03", "gpu-04")


async def test_counts_and_gate_are_told(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, _):
        top = hands.text_of(app.screen.query_one("#top", Bar))
        assert "run 7 · 12:04:14 CST" in top
        assert "SSH 4/4" in top
        assert "✗ 1" in top and "w 1" in top
        assert "SHUT  (1 FAIL, 1 unknown, 1 stale, 78 not run)" in top


async def test_walking_the_not_green_goes_round_and_back(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        seen = []
        for _ in range(4):
            await pilot.press("n")
            seen.append(hands.home(app).outline_list.cursor)
        assert seen == ["hw.nic-speed", "sw.docker", "net.outbound", "net.ports"]
        await pilot.press("N", "N")
        assert hands.home(app).outline_list.cursor == "sw.docker"
        await pilot.press("N", "N")
        assert hands.home(app).outline_list.cursor == "per.quarterly-security-audit"


async def test_detail_tells_the_finding_and_folds_the_rest(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n")
        detail = hands.text_of(hands.home(app).detail)
        assert "✗ FAIL on 1 of 4 hosts" in detail
        assert "gpu-01 … gpu-03 (3 hosts, same)" in detail
        assert "bond0 to gpu-01: ens5f0 down, ens5f1 10 Gb/s" in detail
        assert "optic ordered, swap tonight [gpu-04]" in detail
        assert "nobody" in detail
        assert "run 6" in detail


async def test_folding_hides_and_shows(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        rows = len(hands.home(app).outline_list.keys)
        await pilot.press("space")
        assert hands.home(app).outline_list.cursor == "section:hw"
        assert len(hands.home(app).outline_list.keys) == rows - 5
        await pilot.press("right")
        assert len(hands.home(app).outline_list.keys) == rows
        await pilot.press("left", "left")
        assert hands.home(app).outline_list.cursor == "part:pre"
        await pilot.press("enter")
        assert len(hands.home(app).outline_list.keys) == rows - 5 - 25
        await pilot.press("n")
        assert hands.home(app).outline_list.cursor == "hw.nic-speed"


@pytest.mark.parametrize(
    ("query", "found"),
    [("nic", "hw.nic-speed"), ("网络带宽", "hw.nic-speed"), ("HW gpu", "hw.gpu-model"), ("sw.docker", "sw.docker")],
)
async def test_search_knows_ids_and_both_languages(
    query: str, found: str, mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("slash")
        app.screen.query_one(SearchLine).value = query
        await pilot.pause()
        assert found in hands.home(app).outline_list.keys
        await pilot.press("enter")
        assert hands.home(app).outline_list.has_focus
        await pilot.press("escape")
        assert len([k for k in hands.home(app).outline_list.keys if ":" not in k]) == 99


async def test_typing_a_search_narrows_and_escape_restores(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("slash", "d", "o", "c", "k", "e", "r")
        assert [k for k in hands.home(app).outline_list.keys if ":" not in k] == ["sw.docker", "sw.container-toolkit"][
            :1
        ] or ("sw.docker" in hands.home(app).outline_list.keys)
        assert hands.home(app).selected is not None
        await pilot.press("escape")
        assert hands.home(app).sheet.query == ""
        assert hands.home(app).outline_list.has_focus


async def test_a_search_without_hits_says_what_to_press(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("slash", "z", "q", "z")
        assert hands.home(app).outline_list.keys == []
        assert "press esc to see all" in hands.text_of(hands.home(app).detail)
        await pilot.press("enter", "r", "s", "n", "space", "enter", "escape")
        assert len(hands.home(app).outline_list.keys) > 99


async def test_the_filter_keeps_a_row_that_turned_green(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("f")
        keys = hands.home(app).outline_list.keys
        assert "hw.nic-speed" in keys and "hw.memory" not in keys
        assert hands.home(app).outline_list.cursor == "hw.nic-speed"
        fixed = [hands.settled("hw.nic-speed", h, mixed_engine.now) for h in HOSTS]
        mixed_engine.settle(*fixed)
        await hands.painted(app, pilot)
        assert hands.home(app).outline_list.cursor == "hw.nic-speed"
        assert mixed_engine.checklist().statuses["hw.nic-speed"].verdict is Verdict.PASS
        await pilot.press("f", "f")
        assert "hw.nic-speed" not in hands.home(app).outline_list.keys


async def test_nothing_jumps_while_25_checks_settle(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue, (80, 24)) as (app, pilot):
        await pilot.press("R")
        await hands.painted(app, pilot)
        await pilot.press(*["down"] * 20)
        tree = hands.home(app).outline_list
        where = (tree.cursor, tree.scroll_offset, tree.cursor_index)
        assert where[1].y > 0
        for check_id in list(mixed_engine.progress.checks):
            verdict = Verdict.FAIL if check_id.endswith("s") else Verdict.PASS
            mixed_engine.settle(*(hands.settled(check_id, h, mixed_engine.now, verdict) for h in HOSTS))
            mixed_engine.changed()
            await hands.painted(app, pilot)
            assert (tree.cursor, tree.scroll_offset, tree.cursor_index) == where
        assert mixed_engine.progress.done == 25


async def test_rows_inserted_above_leave_the_cursor_where_it_was(
    mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(mixed_engine, catalogue, (80, 24)) as (app, pilot):
        await pilot.press("f")
        await pilot.press(*["down"] * 25)
        tree = hands.home(app).outline_list
        on_screen = tree.cursor_index - tree.scroll_offset.y
        cursor, rows = tree.cursor, len(tree.keys)
        for check_id in ("hw.memory", "hw.cpu-cores"):
            mixed_engine.settle(*(hands.settled(check_id, h, mixed_engine.now, Verdict.FAIL) for h in HOSTS))
        mixed_engine.changed()
        await hands.painted(app, pilot)
        assert len(tree.keys) == rows + 2
        assert (tree.cursor, tree.cursor_index - tree.scroll_offset.y) == (cursor, on_screen)


async def test_a_storm_of_changes_is_few_repaints_of_few_rows(
    mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("R")
        await hands.painted(app, pilot)
        tree = hands.home(app).outline_list
        repaints, rows = app.repaint_clock.repaints, tree.repainted
        for _ in range(100):
            mixed_engine.progress.checks["hw.memory"].done += 1
            for _ in range(10):
                mixed_engine.changed()
        await hands.painted(app, pilot)
        assert app.repaint_clock.repaints - repaints <= 2
        assert tree.repainted - rows <= 2


async def test_an_idle_app_does_not_repaint(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await hands.painted(app, pilot)
        counted = (app.repaint_clock.repaints, hands.home(app).outline_list.repainted, hands.home(app).detail.repainted)
        await pilot.pause(0.35)
        assert counted == (
            app.repaint_clock.repaints,
            hands.home(app).outline_list.repainted,
            hands.home(app).detail.repainted,
        )


async def test_spinning_repaints_only_what_runs(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, _):
        mixed_engine.begin_progress(["hw.memory"])
        app.repaint()
        tree = hands.home(app).outline_list
        rows = tree.repainted
        app.spin()
        # The check's own row and the two headings above it.
        assert tree.repainted - rows == 3


async def test_running_shows_progress_and_what_it_waits_for(
    mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(mixed_engine, catalogue, (200, 60)) as (app, pilot):
        await pilot.press("r")
        await hands.painted(app, pilot)
        assert mixed_engine.asked == [("hw.gpu-model",)]
        strip = hands.text_of(app.screen.query_one("#strip", Bar))
        assert "run 8 · 0 of 1 checks · 4.2 s" in strip
        assert "waits for gpu-01 (gathering 3.9 s) and 3 more" in strip
        assert "0 of 4 hosts" in hands.text_of(hands.home(app).outline_list)
        await pilot.press("R")
        assert "Run 8 is under way" in hands.told(app)
        mixed_engine.settle(*(hands.settled("hw.gpu-model", h, mixed_engine.now) for h in HOSTS))
        mixed_engine.finish.set()
        await hands.painted(app, pilot)
        assert "Run 8 finished in 0 ms: ✓ 1 pass" in hands.told(app)


async def test_r_on_a_heading_runs_its_checks(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (_, pilot):
        await pilot.press("left", "r")
        assert mixed_engine.asked == [("hw.gpu-model", "hw.cpu-cores", "hw.memory", "hw.ssd-capacity", "hw.nic-speed")]


async def test_f_runs_what_failed_is_unknown_or_stale(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (_, pilot):
        await pilot.press("F")
        assert mixed_engine.asked == [("hw.nic-speed", "net.outbound", "net.dns", "stor.free-space")]


async def test_what_has_no_probe_says_so(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        hands.home(app).reveal("ops.upgrade")
        await pilot.press("r")
        assert mixed_engine.asked == []
        assert "sign (s) or waive (w) by hand" in hands.told(app)


@pytest.mark.parametrize(
    "error", [DstuiError("gpu-04: the host key changed; see known_hosts:7"), RuntimeError("[/boom]")]
)
async def test_a_run_that_breaks_is_a_sentence(
    error: Exception, mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        mixed_engine.run_error = error
        await pilot.press("R")
        await pilot.pause()
        assert str(error) in hands.told(app)
        assert app.is_running


async def test_quit_asks_only_while_something_runs(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("R")
        await pilot.press("q")
        assert type(app.screen).__name__ == "Question"
        await pilot.press("n", "q", "x")
        await hands.painted(app, pilot)
        assert not mixed_engine.progress.running
        assert "stopped" in hands.told(app)
        await pilot.press("q")
        await pilot.pause()
        assert app._exit
    assert app.return_value is None


async def test_leaving_ends_the_run_before_the_journal_closes(
    mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(mixed_engine, catalogue) as (_, pilot):
        await pilot.press("R", "q", "y")
    assert mixed_engine.closed
    assert mixed_engine.let_go
    assert not mixed_engine.progress.running


async def test_language_switches_everything(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n", "l")
        assert hands.home(app).outline_list.cursor == "hw.nic-speed"
        shown = "\n".join(hands.text_of(view) for view in app.screen.query(Bar)) + hands.text_of(hands.home(app).detail)
        assert "网络带宽" in hands.text_of(hands.home(app).outline_list)
        for word in ("第 7 次运行", "门禁", "全部运行", "确认服务器之间网络连接至少为25Gbps", "期望"):
            assert word in shown
        for word in ("FAIL", "gate", "Expected", "run all"):
            assert word not in shown
        titles = [c.title for c in app.get_system_commands(app.screen)]
        assert "全部运行 (R)" in titles and "主题" in titles
        await pilot.press("l")
        assert "NIC speed" in hands.text_of(hands.home(app).outline_list)


async def test_an_interrupted_run_is_offered_to_go_on(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    order = [c.id for c in catalogue.checks if c.section == "hw"]
    mixed_engine.start(8, order, mixed_engine.now - 60)
    mixed_engine.settle(*(hands.settled("hw.memory", h, mixed_engine.now - 59) for h in HOSTS))
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        strip = hands.text_of(app.screen.query_one("#strip", Bar))
        assert "run 8 was cut short with 1 of 5 settled" in strip
        assert "Resume the interrupted run" in [c.title for c in app.get_system_commands(app.screen)]
        app.resume_run()
        await pilot.pause()
        assert mixed_engine.asked == [tuple(order)]


async def test_before_the_first_run_every_pane_says_what_to_press(
    engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(engine, catalogue) as (app, pilot):
        assert "R runs every check" in hands.text_of(app.screen.query_one("#strip", Bar))
        assert "Press r to run this check" in hands.text_of(hands.home(app).detail)
        await pilot.press("left")
        assert "r runs the 5 checks here" in hands.text_of(hands.home(app).detail)
        hands.home(app).reveal("doc.architecture")
        await pilot.pause()
        assert "Press s to sign" in hands.text_of(hands.home(app).detail)


@pytest.mark.parametrize("lang", list(Lang))
async def test_simulated_is_said_as_every_export_says_it(
    lang: Lang, catalogue: Catalogue, mixed_engine: Any, hands: Any
) -> None:
    mixed_engine.simulated = True
    async with hands.driven(mixed_engine, catalogue, (80, 24), lang) as (app, _):
        assert "SIMULATED" in hands.text_of(app.screen.query_one("#top", Bar))


async def test_a_narrow_strip_says_less_and_cuts_nothing(catalogue: Catalogue, mixed_engine: Any, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue, (70, 24)) as (app, pilot):
        await pilot.press("R")
        await hands.painted(app, pilot)
        strip = hands.text_of(app.screen.query_one("#strip", Bar)).rstrip()
        assert strip.endswith("waits for gpu-01 and 3 more")
        mixed_engine.finish.set()


async def test_a_broken_journal_is_said(catalogue: Catalogue, mixed_engine: Any, hands: Any) -> None:
    mixed_engine.state.broken_at = 12
    async with hands.driven(mixed_engine, catalogue) as (app, _):
        assert "JOURNAL BROKEN at row 12" in hands.text_of(app.screen.query_one("#top", Bar))


async def test_narrow_shows_one_pane_at_a_time(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue, (80, 24)) as (app, pilot):
        assert hands.home(app).outline_list.display and not hands.home(app).detail.display
        await pilot.press("n", "tab")
        assert hands.home(app).detail.has_focus
        assert "✗ FAIL on 1 of 4 hosts" in hands.text_of(hands.home(app).detail)
        assert not hands.home(app).outline_list.display
        await pilot.press("escape")
        assert hands.home(app).outline_list.has_focus


HOSTILE = (
    "[/foo] [bold]x[/] dev=[nvme0n1]",
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "x" * 100_000,
    "机架三" * 2000,
    "\ud800\u202e\u200b\x00",
    "a\rb\nc",
)


@pytest.mark.parametrize("hostile", HOSTILE, ids=["markup", "escapes", "100kB", "wide", "broken", "lines"])
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_hostile_remote_text_is_only_text(
    hostile: str, size: tuple[int, int], mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    from dataclasses import replace

    from dstui.model import Evidence

    evil = replace(
        hands.settled(
            "hw.nic-speed", hostile[:200].encode("utf-8", "replace").decode(), mixed_engine.now, Verdict.UNKNOWN
        ),
        observed=same(hostile),
        notes=(same(hostile),),
        detail=hostile,
        evidence=(Evidence("k", hostile, 1, hostile[:4096], len(hostile), 0.1, hostile[:1024]),),
    )
    mixed_engine.state.findings["hw.nic-speed"] = {evil.target.key: evil}
    mixed_engine.begin_progress(["hw.nic-speed"])
    mixed_engine.progress.checks["hw.nic-speed"].waiting_for = hostile
    async with hands.driven(mixed_engine, catalogue, size) as (app, pilot):
        hands.home(app).reveal("hw.nic-speed")
        await pilot.press("enter")
        for tab in "12345":
            await pilot.press(tab)
            for view in app.screen.query(LineView):
                for y in range(view.size.height):
                    strip = view.render_line(y)
                    assert strip.text.isprintable()
                    assert strip.cell_length == view.size.width
        await pilot.press("y")
        app.tell(hostile)
        await pilot.press("escape")
        assert app.is_running


async def test_a_check_with_a_thousand_hosts_opens(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    many = [hands.settled("hw.memory", f"gpu-{n:04}", mixed_engine.now) for n in range(1000)]
    mixed_engine.settle(*many)
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        hands.home(app).reveal("hw.memory")
        await pilot.pause()
        assert "gpu-0000 … gpu-0999 (1000 hosts, same)" in hands.text_of(hands.home(app).detail)
        await pilot.press("enter", "space")
        assert len(app.screen.query_one("#targets", LineView).lines) == 1001


async def test_waived_and_signed_rows_say_so(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        hands.home(app).reveal("stor.free-space")
        await pilot.pause()
        detail = " ".join(hands.text_of(hands.home(app).detail).split())
        assert "✗ FAIL" in detail
        assert "w waived; the verdict stays as observed" in detail
        assert "li.na accepts until 2025-12-01: second NVMe shelf arrives on the 28th · OPS-4411" in detail
        hands.home(app).reveal("doc.architecture")
        await pilot.pause()
        assert "zhang.wei (SRE lead)" in hands.text_of(hands.home(app).detail)


async def test_a_signature_that_lapsed_says_why(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    mixed_engine.settle(hands.settled("doc.architecture", "gpu-01", mixed_engine.now))
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        hands.home(app).reveal("doc.architecture")
        await pilot.pause()
        assert "lapsed, the evidence has changed since" in hands.text_of(hands.home(app).detail)


async def test_what_another_operator_records_appears(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n")
        payload = {"check": "hw.nic-speed", "target": None, "person": "li.na", "text": "swapped"}
        mixed_engine.commit(EventKind.NOTE, payload)
        mixed_engine.changed()
        await hands.painted(app, pilot)
        assert "swapped" in hands.text_of(hands.home(app).detail)
