"""Signing, waiving, noting, exporting: what is asked, what is refused, what is told after the commit."""

from __future__ import annotations

from typing import Any

import pytest
from textual import events
from textual.widgets import Input

from dstui.catalogue import Catalogue
from dstui.model import JournalError, Lang, SideEffect, Verdict
from screens.acts import NoteForm, SignForm, WaiveForm
from screens.checklist import ChecklistScreen
from screens.confirm import confirm_risk
from screens.export import ExportForm
from screens.form import Choice
from screens.help import HelpScreen, help_lines
from screens.keys import ALL
from screens.lines import Bar, Block, LineView


def fill(app: Any, **values: str) -> None:
    for name, value in values.items():
        app.screen.query_one(f"#field-{name}", Input).value = value


def intro(hands: Any, app: Any) -> str:
    return " ".join(hands.text_of(app.screen.query_one("#intro", Block)).split())


def complaint(hands: Any, app: Any) -> str:
    return " ".join(hands.text_of(app.screen.query_one("#complaint", Block)).split())


async def test_signing_shows_what_and_who_and_tells_the_row(
    mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("s")
        assert isinstance(app.screen, SignForm)
        told = intro(hands, app)
        digest = mixed_engine.state.material_hash("hw.gpu-model")[:12]
        assert f"sha256 {digest} · 13 s old" in told
        assert "You are zhang.wei by the SSH login; the inventory does not let you sign for others." in told
        assert app.screen.query_one("#field-person", Input).disabled
        await pilot.press(*"lead", "enter", "enter")
        fill(app, note="seen on site")
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, ChecklistScreen)
        seq = mixed_engine.state.head_seq
        assert f"Recorded as #{seq}: zhang.wei signed hw.gpu-model." in hands.told(app)
        given = mixed_engine.checklist().statuses["hw.gpu-model"].attestation
        assert (given.person, given.role, given.note) == ("zhang.wei", "lead", "seen on site")


async def test_the_signer_changes_only_where_the_inventory_lets(
    mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    from dstui.identity import Identity

    mixed_engine.identity = Identity("zhang.wei", "login", True)
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("s")
        fill(app, person="wang.fang")
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert mixed_engine.checklist().statuses["hw.gpu-model"].attestation.person == "wang.fang"


@pytest.mark.parametrize(("check", "why"), [("hw.nic-speed", "a failed check cannot be signed"), ("net.dns", "stale")])
@pytest.mark.parametrize("lang", list(Lang))
async def test_signing_is_refused_with_the_engines_sentence(
    check: str, why: str, lang: Lang, mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(mixed_engine, catalogue, (80, 24), lang) as (app, pilot):
        hands.home(app).reveal(check)
        await pilot.press("s")
        refusal = mixed_engine.sign_refusal(check)
        assert refusal is not None and why in refusal.en
        assert refusal[lang].rstrip(".。").replace(" ", "") in intro(hands, app).replace(" ", "")
        assert not app.screen.query(Input)
        await pilot.press("ctrl+s", "escape")
        assert isinstance(app.screen, ChecklistScreen)
        assert mixed_engine.state.attestations.get(check) is None


async def test_signing_what_nobody_probed_needs_a_basis(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        hands.home(app).reveal("team.raci")
        await pilot.press("s", "ctrl+s")
        assert "Nothing was probed" in complaint(hands, app)
        assert "nothing was probed" in intro(hands, app)
        await pilot.press("ctrl+l")
        assert "没有自动检查" in complaint(hands, app)
        fill(app, link="https://wiki/raci")
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert mixed_engine.checklist().statuses["team.raci"].standing == "signed"


async def test_two_people_are_asked_for_where_two_are_needed(
    mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        hands.home(app).reveal("ops.upgrade")
        await pilot.press("s")
        assert "This check takes two people" in intro(hands, app)
        fill(app, note="drill done")
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert "second person" in hands.text_of(hands.home(app).outline_list)
        await pilot.press("s")
        assert "zhang.wei has signed already. A different person is needed now." in intro(hands, app)


async def test_waiving_asks_for_everything_and_shows_it(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n", "w")
        assert isinstance(app.screen, WaiveForm)
        for values, sentence in (
            ({}, "Name who approved the waiver."),
            ({"approver": "li.na"}, "Give a reason"),
            ({"reason": "optic ordered"}, "Say when the waiver ends"),
            ({"expires": "soon"}, "The expiry is a date such as 2025-12-24"),
            ({"expires": "2025-11-23"}, "A waiver must end in the future."),
            ({"expires": "+900d"}, "A waiver ends within a year"),
        ):
            fill(app, **values)
            await pilot.press("ctrl+s")
            assert sentence in complaint(hands, app)
        fill(app, expires="+30d", ticket="OPS-1")
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert "hw.nic-speed is waived until 2025-12-24" in hands.told(app)
        status = mixed_engine.checklist().statuses["hw.nic-speed"]
        assert (status.standing, status.verdict) == ("waived", Verdict.FAIL)
        assert (status.waiver.approver, status.waiver.ticket) == ("li.na", "OPS-1")


async def test_an_open_waiver_is_shown_and_withdrawn(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        hands.home(app).reveal("stor.free-space")
        await pilot.press("w")
        assert "There is an open waiver: li.na accepts until 2025-12-01" in intro(hands, app)
        assert "withdraw waiver" in hands.text_of(app.screen.query_one("#hints", Bar))
        await pilot.press("ctrl+r")
        await pilot.pause()
        assert "the waiver of stor.free-space is withdrawn" in hands.told(app)
        assert mixed_engine.checklist().statuses["stor.free-space"].standing == "fail"


async def test_a_note_goes_to_the_target_it_was_made_on(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n", "enter", "o")
        assert isinstance(app.screen, NoteForm)
        assert "on gpu-04 in hw.nic-speed" in intro(hands, app)
        await pilot.press("enter")
        assert "An empty note is not recorded." in complaint(hands, app)
        await pilot.press(*"cable", "enter")
        await pilot.pause()
        note = mixed_engine.state.notes["hw.nic-speed"][-1]
        assert (note.text, note.target.name) == ("cable", "gpu-04")
        await pilot.press("down", "o")
        assert "on the check hw.nic-speed" in intro(hands, app)


async def test_exporting_proposes_a_file_and_follows_the_format(
    mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("e")
        assert isinstance(app.screen, ExportForm)
        entry = app.screen.query_one("#field-path", Input)
        assert entry.value == "ds-prod-run7.md"
        await pilot.press("space", "down", "left")
        assert entry.value == "ds-prod-run7.json"
        assert app.screen.query_one("#field-language", Choice).value == "zh"
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert "wrote ds-prod-run7.json" in hands.told(app)
        assert mixed_engine.state.exports[-1][3] == "ds-prod-run7.json"


@pytest.mark.parametrize("error", [JournalError("/var/x.journal: disk is full"), RuntimeError("[/odd]")])
async def test_a_commit_that_fails_is_told_and_what_was_typed_stays(
    error: Exception, mixed_engine: Any, catalogue: Catalogue, hands: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(mixed_engine, "note", broken)
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("o", *"hm", "enter")
        await pilot.pause()
        assert str(error) in complaint(hands, app)
        assert app.screen.query_one("#field-text", Input).value == "hm"
        assert "Recorded" not in hands.told(app)
        await pilot.press("escape")
        assert isinstance(app.screen, ChecklistScreen)


async def test_forms_on_a_heading_ask_for_a_check(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("left", "s", "w", "o")
        assert isinstance(app.screen, ChecklistScreen)
        assert hands.told(app).count("Choose a check first") == 3


async def test_printable_keys_in_a_field_are_text(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("o", *"rRFnNfswoelq")
        assert app.screen.query_one("#field-text", Input).value == "rRFnNfswoelq"


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_help_opens_everywhere_scrolls_and_switches_language(
    size: tuple[int, int], mixed_engine: Any, catalogue: Catalogue, hands: Any
) -> None:
    async with hands.driven(mixed_engine, catalogue, size) as (app, pilot):
        await pilot.press("n", "enter", "question_mark")
        assert isinstance(app.screen, HelpScreen)
        view = app.screen.query_one("#lines", LineView)
        assert "next not-green" in hands.text_of(view)
        for _ in range(50):
            await pilot.press("end")
            if view.scroll_offset.y:
                break
        assert view.scroll_offset.y > 0
        await pilot.press("l")
        assert "门禁" in hands.text_of(view)
        await pilot.press("question_mark")
        assert not isinstance(app.screen, HelpScreen)


@pytest.mark.parametrize("lang", list(Lang))
def test_help_names_every_key_and_every_mark(lang: Lang) -> None:
    told = "\n".join("".join(text for text, _ in row) for row in help_lines(lang, 100))
    missing = [key.id for key in ALL if key.tip[lang] not in told and key.id not in ("yes", "no", "stop-run")]
    assert missing == []
    for sign in "✓✗!?·-~ws":
        assert f"\n{sign} " in told


async def test_load_asks_before_it_runs(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    risky = [c for c in catalogue.checks if c.side_effect in (SideEffect.S3, SideEffect.S4)]
    assert risky
    mixed_engine.built = mixed_engine.built | {risky[0].id}
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        hands.home(app).reveal(risky[0].id)
        await pilot.press("r")
        body = hands.text_of(app.screen.query_one("#body", Block))
        assert risky[0].id in body
        await pilot.press("enter", "x")
        assert mixed_engine.asked == []
        await pilot.press("n")
        assert mixed_engine.asked == []
        await pilot.press("r", "y")
        await pilot.pause()
        assert mixed_engine.asked == [(risky[0].id,)]
        assert mixed_engine.confirmed == {risky[0].id}


async def test_what_is_not_agreed_to_is_left_out(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    risky = next(c.id for c in catalogue.checks if c.side_effect is SideEffect.S3)
    mixed_engine.built = mixed_engine.built | {risky}
    async with hands.driven(mixed_engine, catalogue) as (_, pilot):
        await pilot.press("R", "x")
        await pilot.pause()
        assert len(mixed_engine.asked) == 1
        assert mixed_engine.asked[0]
        assert risky not in mixed_engine.asked[0]
        assert mixed_engine.confirmed == frozenset()


def test_the_question_names_every_risky_check(catalogue: Catalogue) -> None:
    risky = [c for c in catalogue.checks if c.side_effect in (SideEffect.S3, SideEffect.S4)]
    question = confirm_risk(risky, others=True)
    told = "\n".join("".join(text for text, _ in row) for row in question.body(60, Lang.EN))
    assert all(check.id in told for check in risky)


async def test_the_palette_speaks_the_language(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue, lang=Lang.ZH) as (app, pilot):
        await pilot.press("ctrl+p")
        assert app.screen.query_one(Input).placeholder == "搜索命令 …"
        await pilot.press("escape")
        assert isinstance(app.screen, ChecklistScreen)


async def test_fast_typing_after_enter_stays_in_its_field(mixed_engine: Any, catalogue: Catalogue, hands: Any) -> None:
    async with hands.driven(mixed_engine, catalogue) as (app, pilot):
        await pilot.press("n", "w")
        fields = [w for w in app.screen.query(Input) if w.focusable]
        for key in ("b", "o", "s", "s", "enter", "r", "e", "d"):
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        await pilot.pause()
        assert [w.value for w in fields[:2]] == ["boss", "red"]
