"""The tabs of a finding, as lines. Pure: what was observed, run, known, decided before, and by which rule."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dstui.catalogue import Check, Guidance
from dstui.facts.case import HostFacts
from dstui.facts.raw import Answer, Missing
from dstui.model import Attestation, Evidence, Finding, Lang, Note, Verdict, Waiver
from screens import words
from screens.detail import plain_value, said_of, threshold_lines, without_name
from screens.grouping import Group, counted, ranges
from screens.lines import BLANK, Line, labelled, line, paragraph
from screens.marks import OF_VERDICT, SIGNED, WAIVED
from screens.moment import Moment
from screens.plain import fold, lines_of, one_line
from screens.times import day, size, span
from screens.times import moment as at_moment
from screens.tones import Tone

LABEL = 13
OUTPUT_LINES = 400
FACT_LINES = 600
ALL_THRESHOLDS = 99
_BYTES = re.compile(r"bytes|total|free|avail|size|limit|memory")
Copyable = tuple[Line, str]
"""A line and the command that it belongs to."""


def observed_lines(group: Group, finding: Finding, moment: Moment, width: int) -> list[Line]:
    """What was seen on one target (or the same on several), what was expected, by which rule."""
    lang = moment.lang
    mark = OF_VERDICT[finding.verdict]
    lines: list[Line] = [line((f"{mark.sign} {mark.word[lang]}", mark.tone))]
    lines.extend(labelled(words.OBSERVED[lang], said_of(finding, lang), width, LABEL))
    lines.extend(labelled(words.EXPECTED[lang], finding.expected[lang], width, LABEL))
    lines.extend(labelled(words.RULE_FIRED[lang], finding.rule[lang], width, LABEL))
    if finding.detail:
        lines.extend(labelled("", one_line(finding.detail), width, LABEL, Tone.DIM))
    for index, note in enumerate(dict.fromkeys(finding.notes)):
        lines.extend(labelled(words.ALSO[lang] if index == 0 else "", note[lang], width, LABEL))
    lines.append(BLANK)
    seen = words.SEEN_AT[lang].format(
        at=at_moment(finding.observed_at, moment.now, lang),
        took=span(finding.seconds),
        until=at_moment(finding.observed_at + finding.ttl, moment.now, lang),
    )
    stale = finding.stale(moment.now)
    lines.extend(labelled(words.SEEN[lang], seen, width, LABEL, Tone.UNKNOWN if stale else Tone.PLAIN))
    if stale:
        lines.extend(labelled("", f"~ {words.STALE_LONG[lang]}", width, LABEL, Tone.UNKNOWN))
    if len(group.findings) > 1:
        members = counted(group, lang) + words.COLON[lang] + ranges(group.names)
        lines.extend(labelled(words.MEMBERS[lang], members, width, LABEL))
    return lines


def command_lines(evidence: Sequence[Evidence], lang: Lang, width: int) -> list[Copyable]:
    """Every command or file with exit code, duration and redacted output; each line knows its command."""
    if not evidence:
        return [(part, "") for part in paragraph(words.NO_COMMANDS[lang], width, Tone.ACCENT)]
    told: list[Copyable] = []
    for piece in evidence:
        told.extend((part, piece.source) for part in _command(piece, lang, width))
        told.append((BLANK, piece.source))
    return told


def _command(piece: Evidence, lang: Lang, width: int) -> Iterator[Line]:
    yield from source_lines(piece.source, ran=was_run(piece), width=width)
    about = f"{ending(piece, lang)} · {span(piece.seconds)} · {size(piece.output_bytes)} · {one_line(piece.key)}"
    yield line((about, Tone.DIM if piece.exit in (None, 0) else Tone.WARN))
    yield from output_lines(piece.output, lang, width)
    if piece.truncated:
        shown = size(len(piece.output.encode("utf-8", "replace")))
        yield line((words.CUT[lang].format(shown=shown, total=size(piece.output_bytes)), Tone.WARN))
    if piece.error:
        yield line((words.ERROR_OUTPUT[lang], Tone.HEADING))
        yield from output_lines(piece.error, lang, width, Tone.WARN)


def was_run(look: Evidence | Answer) -> bool:
    """A command, as against a file that was read: only commands end with a code, or fail to end with an error."""
    return look.exit is not None or bool(look.error)


def source_lines(source: str, *, ran: bool, width: int) -> list[Line]:
    """The command behind `$`, or the file that was read."""
    return paragraph(f"{'$ ' if ran else ''}{one_line(source)}", width, Tone.STRONG)


def ending(look: Evidence | Answer, lang: Lang) -> str:
    """How a look ended: exit code, none, or simply read."""
    if look.exit is not None:
        return words.EXIT[lang].format(code=look.exit)
    return (words.NO_EXIT if was_run(look) else words.WAS_READ)[lang]


def output_lines(text: str, lang: Lang, width: int, tone: Tone = Tone.PLAIN) -> Iterator[Line]:
    """Remote output folded to the width; nothing in it is markup."""
    if not text.strip():
        yield line((f"  {words.NO_OUTPUT[lang]}", Tone.DIM))
        return
    rows = [part for row in lines_of(text.rstrip("\n")) for part in fold(row, max(width - 2, 8))]
    for row in rows[:OUTPUT_LINES]:
        yield line("  ", (row, tone))
    if len(rows) > OUTPUT_LINES:
        yield line((words.CUT_SCREEN[lang].format(count=len(rows) - OUTPUT_LINES), Tone.WARN))


def fact_lines(
    host: str | None, facts: HostFacts | None, prefixes: Iterable[str], lang: Lang, width: int
) -> list[Line]:
    """The parsed facts behind a finding: those groups that its evidence comes from."""
    if host is None:
        return paragraph(words.NO_HOST_FACTS[lang], width, Tone.ACCENT)
    if facts is None:
        return paragraph(words.NOT_GATHERED[lang].format(host=host), width, Tone.ACCENT)
    if facts.unreachable is not None:
        why = without_name(one_line(facts.unreachable.why), host)
        return paragraph(words.HOST_UNREACHABLE[lang].format(host=host, why=why), width, Tone.FAIL)
    wanted = {prefix.partition(".")[0] for prefix in prefixes}
    lines: list[Line] = []
    for kind, group in facts.groups.items():
        name = kind.__module__.rpartition(".")[2]
        if name in wanted:
            lines.append(line((name, Tone.HEADING)))
            lines.extend(value_lines(group, lang, width, 1))
            lines.append(BLANK)
    lines = lines[:FACT_LINES]
    lines.extend(paragraph(words.FACTS_MORE[lang].format(host=host), width, Tone.ACCENT))
    return lines


def value_lines(value: object, lang: Lang, width: int, depth: int) -> list[Line]:
    """Any parsed value, indented; what could not be had says why."""
    pairs = _pairs(value)
    if pairs is None:
        return [_leaf("", value, lang, depth)]
    lines: list[Line] = []
    for name, item in pairs:
        if _pairs(item) is None or depth >= 5:
            lines.extend(_wrapped(_leaf(name, item, lang, depth), width, depth))
        else:
            lines.append(line("  " * depth, (one_line(name), Tone.DIM)))
            lines.extend(value_lines(item, lang, width, depth + 1))
    return lines


def _pairs(value: object) -> list[tuple[str, object]] | None:
    """The named parts of a value; None for what is shown on one line."""
    if isinstance(value, Missing):
        return None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return [(str(key), item) for key, item in value.items()] or None
    if isinstance(value, list | tuple) and any(_pairs(item) is not None for item in value):
        return [(str(index), item) for index, item in enumerate(value)]
    return None


def _leaf(name: str, value: object, lang: Lang, depth: int) -> Line:
    lead = (f"{'  ' * depth}{one_line(name)}{'  ' if name else ''}", Tone.DIM)
    if isinstance(value, Missing):
        reason = words.REASONS[value.reason][lang]
        return line(lead, (words.MISSING[lang].format(reason=reason, why=one_line(value.why)), Tone.UNKNOWN))
    return line(lead, (one_line(plain_value(value)) or "-") + _in_words(name, value))


def _in_words(name: str, value: object) -> str:
    """A large number of bytes once more in GiB."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1024**2 or not _BYTES.search(name):
        return ""
    return f"  ({value / 1024**3:,.1f} GiB)"


def _wrapped(leaf: Line, width: int, depth: int) -> list[Line]:
    lead, (text, tone) = leaf
    parts = paragraph(text, max(width - len(lead[0]), 12), tone)
    return [(lead, *parts[0]), *(((" " * len(lead[0]), Tone.PLAIN), *part) for part in parts[1:])]


def timeline_lines(
    check: Check,
    moment: Moment,
    attestations: Sequence[Attestation],
    waivers: Sequence[Waiver],
    notes: Sequence[Note],
    width: int,
) -> list[Line]:
    """All that happened to a check, latest first: what runs found, who signed, waived, remarked."""
    lang = moment.lang
    told: list[tuple[float, list[Line]]] = []
    for past in moment.history.get(check.id, []):
        mark = OF_VERDICT[past.verdict]
        tally = "  ".join(f"{OF_VERDICT[v].sign} {n}" for v, n in past.counts.items())
        text = f"{mark.sign} {mark.word[lang]} · {words.RUN_NUMBER[lang].format(run=past.run)} · {tally}"
        told.append((past.at, _event(past.at, text, mark.tone, moment, width)))
    for given in attestations:
        role = f" ({one_line(given.role)})" if given.role else ""
        said = " · ".join(one_line(t) for t in (given.note, given.link) if t)
        text = f"{SIGNED.sign} {SIGNED.word[lang]} · {one_line(given.person)}{role} · #{given.seq} {said}"
        told.append((given.at, _event(given.at, text, Tone.PLAIN, moment, width)))
    for waiver in waivers:
        text = words.WAIVER_LINE[lang].format(
            approver=one_line(waiver.approver),
            reason=one_line(waiver.reason),
            until=day(waiver.expires_at),
            person=one_line(waiver.person),
            ticket=f" · {one_line(waiver.ticket)}" if waiver.ticket else "",
            seq=waiver.seq,
        )
        told.append((waiver.at, _event(waiver.at, f"{WAIVED.sign} {text}", Tone.WARN, moment, width)))
    for note in notes:
        about = f" [{one_line(note.target.name)}]" if note.target else ""
        text = f"{words.NOTE[lang]}{about} · {one_line(note.person)} · #{note.seq} {one_line(note.text)}"
        told.append((note.at, _event(note.at, text, Tone.PLAIN, moment, width)))
    told.sort(key=lambda pair: -pair[0])
    if not told:
        return paragraph(words.NOTHING_RUN[lang], width, Tone.ACCENT)
    return [row for _, rows in told for row in rows]


def _event(at: float, text: str, tone: Tone, moment: Moment, width: int) -> list[Line]:
    return labelled(at_moment(at, moment.now, moment.lang), text, width, 18, tone)


def rule_lines(finding: Finding | None, check: Check, guidance: Guidance | None, lang: Lang, width: int) -> list[Line]:
    """Every rule of the check in words with the one that fired marked; then thresholds and what misleads."""
    lines: list[Line] = []
    if guidance is not None:
        lines.append(line((words.THE_RULES[lang], Tone.HEADING)))
        for verdict, rule in guidance.rules.items():
            lines.extend(_rule(verdict, rule[lang], finding, lang, width))
        lines.append(BLANK)
    thresholds = finding.thresholds if finding and finding.thresholds else [p.threshold() for p in check.params]
    if rows := threshold_lines(thresholds, guidance, lang, width, ALL_THRESHOLDS):
        lines.append(line((words.THRESHOLDS[lang], Tone.HEADING)))
        lines.extend(rows)
    if guidance is not None:
        for label, text in (
            (words.WHY, guidance.why),
            (words.REMEDY, guidance.remedy),
            (words.PITFALLS, guidance.pitfalls),
            (words.PRIVILEGES, guidance.privileges),
        ):
            if text[lang]:
                lines.extend(labelled(label[lang], text[lang], width, LABEL))
        if guidance.snippet is not None:
            lines.append(line((words.SNIPPET[lang], Tone.HEADING)))
            lines.extend(output_lines(guidance.snippet.code, lang, width))
    return lines


def _rule(verdict: Verdict, rule: str, finding: Finding | None, lang: Lang, width: int) -> list[Line]:
    mark = OF_VERDICT[verdict]
    fired = finding is not None and finding.verdict is verdict
    lead = f"{'›' if fired else ' '} {mark.sign} {mark.word[lang]}"
    lines = labelled(lead, rule, width, LABEL, mark.tone if fired else Tone.PLAIN)
    if fired and finding is not None:
        text = words.FIRED[lang] + words.COLON[lang] + finding.rule[lang]
        lines.extend(labelled("", text, width, LABEL, mark.tone))
    return lines
