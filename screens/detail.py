"""The right pane of the checklist: one check, or one heading, told in full. Pure: lines from a moment and a width."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from dstui.catalogue import Check, Guidance
from dstui.model import Finding, Kind, Lang, Reason, Scope, Threshold, Verdict
from dstui.standing import OPEN_STANDINGS, CheckStatus, Standing
from screens import words
from screens.grouping import Group, grouped, name_of
from screens.lines import BLANK, Line, Piece, labelled, line, paragraph, spread
from screens.marks import OF_STANDING, OF_VERDICT, RUNNING_WORD, mark_of
from screens.moment import Moment, counts
from screens.outline import Row, tail_of, targets, why_unknown
from screens.plain import fit, lines_of, one_line, shorten, wrap
from screens.times import day, size, span
from screens.times import moment as at_moment
from screens.tones import Tone

VERDICT_COLUMN = 11
SHOWN_GROUPS = 40
SHOWN_HISTORY = 6
SHOWN_THRESHOLDS = 6
SHOWN_COMMANDS = 4
SHOWN_OUTPUT = 5
RICH_WIDTH = 110


def check_lines(check: Check, moment: Moment, guidance: Guidance | None, width: int) -> list[Line]:
    """Everything about a check that fits a glance; `enter` opens the rest."""
    status = moment.status(check.id)
    lang = moment.lang
    column = 12 if lang is Lang.EN else 10
    lines: list[Line] = [*paragraph(check.title[lang], width, Tone.STRONG)]
    lines.append(spread(verdict_line(status, lang), ((_looked(status, moment), Tone.DIM),), width))
    lines.extend(_on_top(status, moment, width))
    lines.append(line((_nature(check, lang), Tone.DIM)))
    lines.append(BLANK)
    lines.extend(threshold_lines(thresholds_of(status), guidance, lang, width, SHOWN_THRESHOLDS))
    if status.findings:
        lines.extend(finding_table(status.findings, lang, width))
    else:
        lines.extend(paragraph(nothing_yet(status, moment), width, Tone.ACCENT))
    lines.append(BLANK)
    if guidance is not None:
        lines.extend(labelled(words.WHY[lang], guidance.why[lang], width, column))
        if status.standing not in (Standing.PASSED, Standing.SIGNED, Standing.NOT_APPLICABLE):
            lines.extend(labelled(words.REMEDY[lang], guidance.remedy[lang], width, column))
        lines.append(BLANK)
    lines.extend(_people(status, moment, width, column))
    lines.extend(labelled(words.EVIDENCE[lang], evidence_summary(status.findings, lang), width, column))
    lines.extend(history_lines(check.id, moment, width, column, SHOWN_HISTORY))
    if width >= RICH_WIDTH and guidance is not None:
        lines.extend(_with_room(status, guidance, lang, width, column))
    return lines


def _with_room(status: CheckStatus, guidance: Guidance, lang: Lang, width: int, column: int) -> list[Line]:
    """What a wide terminal shows besides: all rules, what misleads, the deciding evidence."""
    lines: list[Line] = [BLANK, line((words.THE_RULES[lang], Tone.HEADING))]
    for verdict, rule in guidance.rules.items():
        mark = OF_VERDICT[verdict]
        tone = mark.tone if status.findings and verdict is status.verdict else Tone.PLAIN
        lines.extend(labelled(f"  {mark.sign} {mark.word[lang]}", rule[lang], width, column, tone))
    if guidance.pitfalls[lang]:
        lines.append(BLANK)
        lines.extend(labelled(words.PITFALLS[lang], guidance.pitfalls[lang], width, column))
    deciding = status.findings[0] if status.findings else None
    if deciding is not None and deciding.evidence:
        lines.append(BLANK)
        about = words.EVIDENCE_OF[lang].format(target=one_line(deciding.target.name))
        lines.append(line((about, Tone.HEADING)))
        for piece in deciding.evidence[:SHOWN_COMMANDS]:
            lines.append(line((shorten(f"  $ {one_line(piece.source)}", width), Tone.STRONG)))
            rows = [row for row in lines_of(piece.output) if row.strip()]
            lines.extend(line("    ", shorten(row, width - 4)) for row in rows[:SHOWN_OUTPUT])
    return lines


def verdict_line(status: CheckStatus, lang: Lang) -> Line:
    """`✗ FAIL on 1 of 4 hosts`, `? unknown on 2 of 8 hosts: no credential`."""
    mark = OF_VERDICT[status.verdict]
    pieces: list[Piece] = [(f"{mark.sign} {mark.word[lang]}", mark.tone)]
    total = len(status.findings)
    count = status.counts.get(status.verdict, 0)
    if status.check.scope in (Scope.EACH_HOST, Scope.EACH_PAIR) and total and count:
        pieces.append((words.ON_OF[lang].format(count=count, total=targets(status, total, lang)), Tone.PLAIN))
    if status.verdict is Verdict.UNKNOWN:
        pieces.append((words.COLON[lang] + why_unknown(status, lang), Tone.UNKNOWN))
    if status.check.disabled is not None:
        why = status.check.disabled
        where = words.BRACKETED[lang].format(what=one_line(why.origin))
        pieces.append((f"{words.COLON[lang]}{one_line(why.reason)}{where}", Tone.PLAIN))
    return tuple(pieces)


def _looked(status: CheckStatus, moment: Moment) -> str:
    if status.observed_at is None:
        return ""
    seconds = max((f.seconds for f in status.findings), default=0.0)
    return f" {span(seconds)} · {at_moment(status.observed_at, moment.now, moment.lang)}"


def _on_top(status: CheckStatus, moment: Moment, width: int) -> list[Line]:
    """What stands on top of the verdict: running, stale, waived, unsigned."""
    lang = moment.lang
    lines: list[Line] = []
    if (running := moment.running(status.check.id)) is not None:
        done = words.DONE_OF[lang].format(done=running.done, total=targets(status, running.total, lang))
        waits = f" · {words.WAITS_FOR[lang].format(what=one_line(running.waiting_for))}" if running.waiting_for else ""
        lines.append(line((f"{moment.spinner} {RUNNING_WORD[lang]} · {done}{waits}", Tone.RUNNING)))
    mark = mark_of(status)
    if status.stale:
        lines.extend(paragraph(f"~ {words.STALE_LONG[lang]}", width, Tone.UNKNOWN))
    if status.standing is Standing.WAIVED:
        lines.append(line((f"{mark.sign} {words.WAIVED_LONG[lang]}", mark.tone)))
    if status.wants_second:
        lines.extend(paragraph(f"{mark.sign} {words.SECOND_LONG[lang]}", width, Tone.ACCENT))
    elif status.standing is Standing.UNSIGNED:
        lines.extend(paragraph(f"{mark.sign} {words.UNSIGNED_LONG[lang]}", width, mark.tone))
    return lines


def _nature(check: Check, lang: Lang) -> str:
    side = words.SIDE_EFFECTS[check.side_effect][lang]
    return f"{check.id} · {words.KINDS[check.kind][lang]} · {words.SCOPES[check.scope][lang]} · {side}"


def thresholds_of(status: CheckStatus) -> Sequence[Threshold]:
    """What the check was judged by; before the first run, what the catalogue and overlays say."""
    for finding in status.findings:
        if finding.thresholds:
            return finding.thresholds
    return [p.threshold() for p in status.check.params]


def threshold_lines(
    thresholds: Sequence[Threshold], guidance: Guidance | None, lang: Lang, width: int, most: int
) -> list[Line]:
    """`mem_min_gb 256 · document`; a value that differs from the document's names both."""
    shown = [t for t in thresholds if t.value not in (None, "", (), [], {})]
    shown.sort(key=lambda t: not t.differs)
    lines: list[Line] = []
    for threshold in shown[:most]:
        value, origin = one_line(plain_value(threshold.value)), one_line(origin_of(threshold.origin, lang))
        was = words.DOCUMENT_SILENT[lang]
        if threshold.default is not None:
            was = words.DOCUMENT_SAYS[lang].format(value=one_line(plain_value(threshold.default)))
        text = f"{value} · {origin}" + (words.BRACKETED[lang].format(what=was) if threshold.differs else "")
        parts = wrap(text, max(width - cell_len(threshold.param) - 2, 16))
        tone = Tone.WARN if threshold.differs else Tone.PLAIN
        lines.append(line((threshold.param + "  ", Tone.DIM), (parts[0], tone)))
        lines.extend(line(" " * (cell_len(threshold.param) + 2), (part, tone)) for part in parts[1:3])
        if guidance is not None and most > SHOWN_THRESHOLDS and threshold.param in guidance.params:
            lines.extend(paragraph(guidance.params[threshold.param][lang], width, Tone.DIM, indent=2))
    if len(shown) > most:
        lines.append(line((words.MORE_ENTER[lang].format(count=len(shown) - most), Tone.DIM)))
    return [*lines, BLANK] if lines else []


def brief_thresholds(thresholds: Sequence[Threshold], lang: Lang) -> str:
    """All thresholds on one line, those that differ from the document first."""
    shown = [t for t in thresholds if t.value not in (None, "", (), [], {})]
    shown.sort(key=lambda t: not t.differs)
    return one_line(
        ", ".join(
            f"{t.param} {plain_value(t.value)}{words.BRACKETED[lang].format(what=origin_of(t.origin, lang))}"
            for t in shown
        )
    )


def plain_value(value: object) -> str:
    """A threshold's value as an operator would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "-"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(plain_value(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {plain_value(item)}" for key, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def origin_of(origin: str, lang: Lang) -> str:
    """Where a threshold comes from; the document is named in the reader's language."""
    return words.ORIGIN_DOCUMENT[lang] if origin == "document" else origin


def nothing_yet(status: CheckStatus, moment: Moment) -> str:
    """What to press on a check that nobody has looked at."""
    lang = moment.lang
    if not moment.opened:
        return words.OPENING[lang]
    if status.check.disabled is not None:
        return words.DISABLED_LONG[lang]
    if moment.running(status.check.id) is not None:
        return words.FIRST_RESULTS_SOON[lang]
    if status.reason is Reason.NOT_BUILT:
        if status.attestation is not None:
            return words.SIGNED_WITHOUT_EVIDENCE[lang]
        person = status.check.kind in (Kind.MANUAL, Kind.ASSISTED)
        return (words.NOTHING_PERSON if person else words.NOTHING_NOT_BUILT)[lang]
    return words.NOTHING_RUN[lang]


def finding_table(findings: Sequence[Finding], lang: Lang, width: int) -> list[Line]:
    """Findings, outliers first, identical ones folded; one `expected` above all of them when they share it."""
    groups = grouped(findings)
    expected = {f.expected for f in findings}
    lines: list[Line] = []
    if len(expected) == 1 and (wanted := next(iter(expected))[lang]):
        lines.extend(labelled(words.EXPECTED[lang], wanted, width, 10))
    names = [name_of(group, lang) for group in groups]
    room = min(max(width // 3, 12), 24)
    column = max([cell_len(n) for n in names if cell_len(n) <= room], default=6) + 2
    for group, name in zip(groups[:SHOWN_GROUPS], names, strict=False):
        lines.extend(_group_lines(group, name, column, lang, width, say_expected=len(expected) > 1))
    if len(groups) > SHOWN_GROUPS:
        lines.append(line((words.MORE_ENTER[lang].format(count=len(groups) - SHOWN_GROUPS), Tone.DIM)))
    return lines


def _group_lines(group: Group, name: str, column: int, lang: Lang, width: int, *, say_expected: bool) -> list[Line]:
    finding = group.first
    mark = OF_VERDICT[finding.verdict]
    left = column + VERDICT_COLUMN
    said = wrap(one_line(said_of(finding, lang)), max(width - left, 16))
    verdict: Piece = (fit(f"{mark.sign} {mark.word[lang]}", VERDICT_COLUMN), mark.tone)
    lines: list[Line] = []
    if cell_len(name) + 2 > column:
        lines.extend(paragraph(name, width, Tone.STRONG))
        lines.append(line(" " * column, verdict, said[0]))
    else:
        lines.append(line((fit(name, column), Tone.STRONG), verdict, said[0]))
    lines.extend(line(" " * left, part) for part in said[1:])
    if say_expected and finding.expected[lang]:
        lines.extend(
            paragraph(words.EXPECTED_IS[lang].format(what=finding.expected[lang]), width, Tone.DIM, indent=left)
        )
    for note in dict.fromkeys(finding.notes):
        lines.extend(paragraph(f"- {note[lang]}", width, Tone.DIM, indent=left))
    return lines


def said_of(finding: Finding, lang: Lang) -> str:
    """What was observed; for an UNKNOWN the reason comes first, once: judges often begin with it too."""
    said = finding.observed[lang]
    if finding.verdict is not Verdict.UNKNOWN or finding.reason is None:
        return said
    reason = words.REASONS[finding.reason][lang]
    if finding.reason is Reason.BLOCKED_BY and finding.detail:
        reason = words.BLOCKED_BY[lang].format(what=finding.detail)
    from dstui.judge.rulings import COULD_NOT_LOOK  # brings the facts along: not before the tree is painted

    for lead in (COULD_NOT_LOOK[finding.reason][lang], words.REASONS[finding.reason][lang]):
        if said.casefold().startswith(lead.casefold()):
            rest = said[len(lead) :]
            if rest and rest[0] not in ":：":
                return said
            said = without_name(rest[1:].strip(), finding.target.name)
            break
    return reason + words.COLON[lang] + said if said else reason


def without_name(why: str, host: str) -> str:
    """A cause without the host it begins with, where the host already stands beside it."""
    return why.removeprefix(f"{host}: ")


def evidence_summary(findings: Sequence[Finding], lang: Lang) -> str:
    """`2 commands · 1.2 KiB · enter opens them`."""
    pieces = [e for f in findings for e in f.evidence]
    if not pieces:
        return words.NO_EVIDENCE[lang]
    stored = sum(len(e.output.encode("utf-8", "replace")) for e in pieces)
    return f"{words.COMMANDS.of(len(pieces), lang)} · {size(stored)} · {words.ENTER_OPENS[lang]}"


def _people(status: CheckStatus, moment: Moment, width: int, column: int) -> list[Line]:
    lang = moment.lang
    lines = labelled(words.SIGNED_BY[lang], signature(status, moment), width, column)
    if (waiver := status.waiver) is not None:
        text = words.WAIVER_LINE[lang].format(
            approver=one_line(waiver.approver),
            reason=one_line(waiver.reason),
            until=day(waiver.expires_at),
            person=one_line(waiver.person),
            ticket=f" · {one_line(waiver.ticket)}" if waiver.ticket else "",
            seq=waiver.seq,
        )
        lines.extend(labelled(words.WAIVER[lang], text, width, column, Tone.WARN))
    for note in status.notes[-4:]:
        about = f" [{one_line(note.target.name)}]" if note.target else ""
        text = f"{one_line(note.text)}{about} · {one_line(note.person)}, {at_moment(note.at, moment.now, lang)}"
        lines.extend(labelled(words.NOTE[lang], text, width, column))
    return lines


def signature(status: CheckStatus, moment: Moment) -> str:
    """Who vouches for a check and until when; who did, and why it no longer counts; or nobody."""
    lang = moment.lang
    given = status.attestation or (status.signatures[-1] if status.signatures else status.lapsed)
    if given is None:
        return words.NOBODY[lang]
    role = f" ({one_line(given.role)})" if given.role else ""
    text = f"{one_line(given.person)}{role} · {at_moment(given.at, moment.now, lang)} · #{given.seq}"
    if given.note:
        text += f" · {one_line(given.note)}"
    if given.link:
        text += f" · {one_line(given.link)}"
    if given is status.lapsed:
        return f"{words.LAPSED[status.lapsed_why][lang]} · {text}"
    return f"{text} · {words.UNTIL[lang].format(day=day(given.expires_at))}"


def history_lines(check_id: str, moment: Moment, width: int, column: int, most: int) -> list[Line]:
    """What the check came to in the runs before, latest first."""
    lang = moment.lang
    settled = list(reversed(moment.history.get(check_id, [])))
    if not settled:
        return labelled(words.HISTORY[lang], words.NO_HISTORY[lang], width, column)
    lines: list[Line] = []
    for index, past in enumerate(settled[:most]):
        mark = OF_VERDICT[past.verdict]
        label = words.HISTORY[lang] if index == 0 else ""
        tally = "  ".join(f"{OF_VERDICT[v].sign} {n}" for v, n in past.counts.items())
        run = words.RUN_NUMBER[lang].format(run=past.run)
        lines.append(
            line(
                (fit(label, column), Tone.HEADING),
                (fit(f"{mark.sign} {mark.word[lang]}", VERDICT_COLUMN), mark.tone),
                (f"{run} · {at_moment(past.at, moment.now, lang)}", Tone.PLAIN),
                (f"   {tally}" if sum(past.counts.values()) > 1 else "", Tone.DIM),
            )
        )
    return lines


def heading_lines(row: Row, moment: Moment, width: int) -> list[Line]:
    """A part or section: how its checks stand, which are not green, what to press."""
    assert row.heading is not None
    lang = moment.lang
    statuses = moment.statuses(row.members)
    found = counts(statuses)
    done = sum(n for standing, n in found.items() if standing in OPEN_STANDINGS)
    lines: list[Line] = [*paragraph(row.heading.heading[lang], width, Tone.STRONG)]
    lines.append(line((words.DONE_CHECKS[lang].format(done=done, total=len(statuses)), Tone.PLAIN)))
    for standing, count in found.items():
        mark = OF_STANDING[standing]
        lines.append(line((f"  {mark.sign} {count} {mark.word[lang]}", mark.tone)))
    lines.append(BLANK)
    open_ones = [s for s in statuses if s.not_green]
    for status in open_ones:
        mark = mark_of(status)
        tail, tone = tail_of(status, moment)
        lines.append(spread(line((f"{mark.sign} ", mark.tone), status.check.label[lang]), ((f" {tail}", tone),), width))
    if not open_ones:
        lines.append(line((words.ALL_GREEN_HERE[lang], Tone.PASS)))
    lines.append(BLANK)
    probed = sum(1 for check in row.members if check.id in moment.built)
    if moment.opened:
        text = words.R_RUNS_SECTION[lang].format(count=probed) if probed else words.NO_PROBE_HERE[lang]
        lines.extend(paragraph(text, width, Tone.ACCENT))
    return lines
