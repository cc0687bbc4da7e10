"""The tree as rows and lines. Pure: which rows there are, and how one row looks in a given width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dstui.catalogue import Catalogue, Check, Part, Section
from dstui.model import Kind, Lang, Reason, Scope, Verdict
from dstui.standing import OPEN_STANDINGS, CheckStatus, Standing
from screens import words
from screens.lines import Line, Piece, cropped, width_of
from screens.marks import OF_STANDING, SIGNED, mark_of
from screens.moment import Moment, counts, worst_standing
from screens.plain import fit, one_line, shorten
from screens.times import day
from screens.tones import Tone


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a heading (`check` is None) with the checks under it, or a check. `key` is unique in the tree."""

    key: str
    depth: int
    heading: Part | Section | None
    check: Check | None
    members: tuple[Check, ...]
    parent: str


def outline(catalogue: Catalogue, folded: frozenset[str], wanted: Callable[[Check], bool] | None = None) -> list[Row]:
    """The visible rows, in document order. With `wanted`, only checks it accepts and the headings above them."""
    rows: list[Row] = []
    for part in catalogue.parts:
        checks = tuple(c for s in part.sections for c in s.checks if wanted is None or wanted(c))
        if not checks:
            continue
        top = f"part:{part.id}"
        rows.append(Row(top, 0, part, None, checks, ""))
        if top in folded:
            continue
        for section in part.sections:
            inside = tuple(c for c in section.checks if wanted is None or wanted(c))
            if not inside:
                continue
            key, depth = top, 1
            if not part.is_section:
                key, depth = f"section:{section.id}", 2
                rows.append(Row(key, 1, section, None, inside, top))
                if key in folded:
                    continue
            rows.extend(Row(c.id, depth, None, c, (c,), key) for c in inside)
    return rows


def ancestors(catalogue: Catalogue, check_id: str) -> frozenset[str]:
    """The headings that must be unfolded for a check to be visible."""
    for part in catalogue.parts:
        for section in part.sections:
            if any(c.id == check_id for c in section.checks):
                return frozenset({f"part:{part.id}", f"section:{section.id}"})
    return frozenset()


def searcher(catalogue: Catalogue, query: str) -> Callable[[Check], bool]:
    """Whether a check matches: every word of the query is in its id, titles (both languages) or section heading."""
    wanted = query.casefold().split()
    headings = {s.id: f"{s.heading.en} {s.heading.zh}" for s in catalogue.sections}

    def matches(check: Check) -> bool:
        text = " ".join(
            (check.id, check.title.en, check.title.zh, check.label.en, check.label.zh, headings.get(check.section, ""))
        ).casefold()
        return all(word in text for word in wanted)

    return matches


def row_line(row: Row, moment: Moment, width: int, *, at_cursor: bool, folded: bool) -> Line:
    """One row in exactly `width` cells."""
    if row.check is None:
        return _heading_line(row, moment, width, at_cursor=at_cursor, folded=folded)
    return _check_line(row.check, row.depth, moment, width, at_cursor=at_cursor)


def _heading_line(row: Row, moment: Moment, width: int, *, at_cursor: bool, folded: bool) -> Line:
    assert row.heading is not None
    statuses = moment.statuses(row.members)
    found = counts(statuses)
    done = sum(count for standing, count in found.items() if standing in OPEN_STANDINGS)
    busy = any(moment.running(c.id) for c in row.members)
    score: Piece = (f"{done}/{len(statuses)}".rjust(6), Tone.PLAIN if done else Tone.DIM)
    tail: Line = (score, (" ", Tone.PLAIN), *_worst(found, done == len(statuses)), *_busy(moment, busy))
    sign = "›" if at_cursor else " "
    lead: Line = (
        (sign + "  " * row.depth + ("▸ " if folded else "▾ "), Tone.DIM),
        (row.heading.heading[moment.lang], Tone.STRONG if row.depth == 0 else Tone.HEADING),
    )
    return _joined(lead, tail, width)


def _worst(found: dict[Standing, int], done: bool) -> tuple[Piece, ...]:
    standing = worst_standing(found)
    if standing is None:
        return (("     ", Tone.DIM),)
    mark = OF_STANDING[standing]
    if done and standing in (Standing.PASSED, Standing.SIGNED, Standing.NOT_APPLICABLE):
        mark = SIGNED if standing is Standing.SIGNED else OF_STANDING[Standing.PASSED]
        return ((f"{mark.sign}    ", mark.tone),)
    return ((fit(f"{mark.sign} {found[standing]}", 5), mark.tone),)


def _busy(moment: Moment, busy: bool) -> tuple[Piece, ...]:
    return ((moment.spinner, Tone.RUNNING) if busy else (" ", Tone.PLAIN),)


def _check_line(check: Check, depth: int, moment: Moment, width: int, *, at_cursor: bool) -> Line:
    status = moment.status(check.id)
    mark = mark_of(status)
    running = moment.running(check.id)
    sign: Piece = (moment.spinner, Tone.RUNNING) if running else (mark.sign, mark.tone)
    label_tone = Tone.DIM if status.standing is Standing.NOT_APPLICABLE else Tone.PLAIN
    lead: Line = (
        ("›" if at_cursor else " ", Tone.ACCENT),
        ("  " * depth, Tone.PLAIN),
        sign,
        (" ", Tone.PLAIN),
        (check.label[moment.lang], label_tone),
    )
    text, tone = tail_of(status, moment)
    room = max(width - width_of(lead) - 2, width // 3)
    return _joined(lead, ((shorten(text, room), tone), (" ", Tone.PLAIN)), width)


def _joined(lead: Line, tail: Line, width: int) -> Line:
    room = width - width_of(tail) - 1
    return (*cropped(lead, max(room, 0)), (" ", Tone.PLAIN), *tail) if room > 0 else cropped(lead, width)


def tail_of(status: CheckStatus, moment: Moment) -> tuple[str, Tone]:
    """The few words at the end of a check's row."""
    lang = moment.lang
    if (running := moment.running(status.check.id)) is not None:
        return words.DONE_OF[lang].format(done=running.done, total=targets(status, running.total, lang)), Tone.RUNNING
    standing = status.standing
    if status.wants_second:
        return words.NEEDS_SECOND[lang], Tone.ACCENT
    if standing is Standing.FAILED:
        return _how_many(status, Verdict.FAIL, lang), Tone.FAIL
    if standing is Standing.WARNED:
        return _how_many(status, Verdict.WARN, lang), Tone.WARN
    if standing is Standing.UNKNOWN:
        return why_unknown(status, lang), Tone.UNKNOWN
    if standing is Standing.WAIVED and status.waiver is not None:
        return words.UNTIL[lang].format(day=day(status.waiver.expires_at)), Tone.WARN
    if standing is Standing.NOT_RUN:
        return (words.SIGNATURE_LAPSED[lang], Tone.WARN) if status.lapsed else (_not_run(status, moment), Tone.DIM)
    if standing in (Standing.SIGNED, Standing.UNSIGNED, Standing.STALE):
        mark = OF_STANDING[standing]
        lapsed = standing is Standing.UNSIGNED and status.lapsed is not None
        return (words.SIGNATURE_LAPSED if lapsed else mark.word)[lang], Tone.DIM if mark is SIGNED else mark.tone
    if standing is Standing.NOT_APPLICABLE:
        return OF_STANDING[standing].word[lang], Tone.DIM
    return "", Tone.DIM


def _how_many(status: CheckStatus, verdict: Verdict, lang: Lang) -> str:
    count = status.counts.get(verdict, 0)
    if status.check.scope in (Scope.EACH_HOST, Scope.EACH_PAIR) and count:
        return targets(status, count, lang)
    return ""


def targets(status: CheckStatus, count: int, lang: Lang) -> str:
    """`3 hosts`, `6 pairs`, or only the number where the scope has no plural."""
    if status.check.scope is Scope.EACH_HOST:
        return words.HOSTS.of(count, lang)
    if status.check.scope is Scope.EACH_PAIR:
        return words.PAIRS.of(count, lang)
    return str(count)


def why_unknown(status: CheckStatus, lang: Lang) -> str:
    """The reason code in words, with the blocking check's id."""
    if status.reason is None:
        return ""
    text = words.REASONS[status.reason][lang]
    if status.reason is Reason.BLOCKED_BY and status.detail:
        return words.BLOCKED_BY[lang].format(what=one_line(status.detail))
    return text


def _not_run(status: CheckStatus, moment: Moment) -> str:
    if status.reason is not Reason.NOT_BUILT or not moment.opened:
        return ""
    person = status.check.kind in (Kind.MANUAL, Kind.ASSISTED)
    return (words.NEEDS_A_PERSON if person else words.NO_PROBE)[moment.lang]


def next_open(checks: Sequence[Check], moment: Moment, after: str | None, step: int) -> str | None:
    """The id of the next (`step` 1) or previous (-1) check that is not green, going round; None when all are."""
    ids = [c.id for c in checks]
    if not ids:
        return None
    start = ids.index(after) if after in ids else (-1 if step > 0 else 0)
    for offset in range(1, len(ids) + 1):
        candidate = ids[(start + step * offset) % len(ids)]
        if moment.status(candidate).not_green:
            return candidate
    return None
