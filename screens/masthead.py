"""The two lines at the top and the live strip at the bottom of the checklist. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from dstui.model import Lang
from dstui.standing import OPEN_STANDINGS, Checklist, Standing
from screens import ladder_words, words
from screens.lines import Line, Piece, line, spread, width_of
from screens.marks import COUNTED, OF_STANDING
from screens.moment import LadderBrief, Moment, counts
from screens.plain import one_line, shorten
from screens.times import clock_left, span, zone
from screens.times import moment as at_moment
from screens.tones import Tone

BARS = (
    ("█", Tone.PASS, (Standing.PASSED, Standing.SIGNED)),
    ("▓", Tone.WARN, (Standing.WARNED, Standing.WAIVED)),
    ("▒", Tone.FAIL, (Standing.FAILED,)),
    ("▒", Tone.UNKNOWN, (Standing.UNKNOWN, Standing.STALE)),
    ("░", Tone.DIM, (Standing.UNSIGNED, Standing.NOT_RUN, Standing.NOT_APPLICABLE)),
)
"""What the progress bar is made of, left to right; shade and colour say the same."""


def top_lines(moment: Moment, width: int) -> list[Line]:
    """Where we are and how it stands, in two lines."""
    return [_place(moment, width), _standing(moment, width)]


def _place(moment: Moment, width: int) -> Line:
    head, lang = moment.masthead, moment.lang
    if not moment.opened:
        return spread(_whose(moment), ((words.OPENING[lang] + " ", Tone.DIM),), width)
    when = words.NO_RUN_YET[lang]
    if head.run:
        at = at_moment(head.run_at, moment.now, lang)
        when = f"{words.RUN_NUMBER[lang].format(run=head.run)} · {at} {zone(moment.now)}"
    ssh = words.SSH_REACHABLE[lang].format(reachable=head.reachable if head.asked else "-", total=head.hosts)
    ssh_tone = Tone.PLAIN if head.reachable == head.asked or not head.asked else Tone.FAIL
    rights: list[list[Piece]] = [
        [(f"{when}  ", Tone.PLAIN)],
        [(f"{one_line(head.operator)}  ", Tone.PLAIN)],
        [(f"{words.HOSTS.of(head.hosts, lang)} · ", Tone.PLAIN)],
        [(f"{words.GPUS[lang].format(count=head.gpus)} · ", Tone.PLAIN)] if head.gpus else [],
        [(f"{ssh} ", ssh_tone)],
    ]
    # What gives way first when the line is narrow: GPU count, host count (SSH x/y has it), operator, the badge's
    # second word, the run's time. That the data are simulated never does.
    for gone, brief in ((None, False), (3, False), (2, False), (1, False), (1, True), (0, True)):
        if gone is not None:
            rights[gone] = []
        left, right = _whose(moment, brief=brief), tuple(piece for group in rights for piece in group)
        if width_of(left) + width_of(right) + 2 <= width:
            break
    return spread(left, right, width)


def _whose(moment: Moment, *, brief: bool = False) -> Line:
    """The cluster, and what must be known about everything that is shown of it."""
    head, lang = moment.masthead, moment.lang
    pieces: list[Piece] = [(" dstui ", Tone.ACCENT)]
    if head.cluster:
        name, environment = shorten(one_line(head.cluster), 28), shorten(one_line(head.environment), 14)
        pieces += [(f" {name}", Tone.STRONG), (f" · {environment}", Tone.PLAIN)]
    if head.simulated:
        badge = words.SIMULATED[Lang.EN if brief else lang]
        pieces += [("  ", Tone.PLAIN), (f" {badge} ", Tone.BADGE)]
    if head.broken_at is not None:
        pieces += [("  ", Tone.PLAIN), (f" {words.JOURNAL_BROKEN[lang].format(seq=head.broken_at)} ", Tone.GATE_SHUT)]
    return tuple(pieces)


def _standing(moment: Moment, width: int) -> Line:
    lang = moment.lang
    found = counts(moment.checklist.statuses.values())
    gate = _gate(moment, found, lang)
    worded = _tally(found, lang, worded=True)
    room = width - width_of(worded) - width_of(gate) - 3
    if room < 10:
        worded = _tally(found, lang, worded=False)
        room = width - width_of(worded) - width_of(gate) - 3
    if room < 6:
        gate = _gate(moment, found, lang, brief=True)
        room = width - width_of(worded) - width_of(gate) - 3
    bar = _bar(found, min(room, 60)) if room >= 6 else ()
    return spread((*worded, *bar), (*gate, (" ", Tone.PLAIN)), width)


def _tally(found: Mapping[Standing, int], lang: Lang, *, worded: bool) -> Line:
    pieces: list[Piece] = [(" ", Tone.PLAIN)]
    for standing in COUNTED:
        if count := found.get(standing, 0):
            mark = OF_STANDING[standing]
            if standing is Standing.UNSIGNED and not worded:
                continue
            word = f" {mark.word[lang]}" if worded else ""
            extra = found.get(Standing.UNSIGNED, 0) if standing is Standing.NOT_RUN and not worded else 0
            pieces.append((f"{mark.sign} {count + extra}{word}  ", mark.tone))
    return tuple(pieces)


def _bar(found: Mapping[Standing, int], width: int) -> Line:
    total = sum(found.values())
    pieces: list[Piece] = []
    done = used = 0
    for sign, tone, standings in BARS:
        done += sum(found.get(s, 0) for s in standings)
        upto = round(width * done / total) if total else 0
        if upto > used:
            pieces.append((sign * (upto - used), tone))
            used = upto
    return tuple(pieces)


def _gate(moment: Moment, found: Mapping[Standing, int], lang: Lang, *, brief: bool = False) -> Line:
    opened = moment.checklist.gate.open
    pieces: list[Piece] = [(f"{words.GATE[lang]} ", Tone.PLAIN)]
    if opened:
        return (*pieces, (f" {words.GATE_OPEN[lang]} ", Tone.GATE_OPEN))
    pieces.append((f" {words.GATE_SHUT[lang]} ", Tone.GATE_SHUT))
    shutting = [(s, n) for s, n in found.items() if s not in OPEN_STANDINGS and n]
    shutting.sort(key=lambda pair: COUNTED.index(pair[0]))
    if not brief:
        why = words.AND_ALSO[lang].join(f"{n} {OF_STANDING[s].word[lang]}" for s, n in shutting[:4])
        pieces.append((words.BRACKETED[lang].format(what=why), Tone.PLAIN))
    return tuple(pieces)


def strip_line(moment: Moment, width: int) -> Line:
    """What happens on the hosts now, and what a run waits for; between runs, how the last one ended."""
    if not moment.opened:
        return line((f" {words.OPENING[moment.lang]}", Tone.DIM))
    ladder = _ladder(moment)
    room = width - width_of(ladder)
    return (*ladder, *(_run_strip(moment, room) if moment.progress.running else _idle_strip(moment, room)))


def _ladder(moment: Moment) -> Line:
    """That a load ladder runs, how far it is, and the key that leads to it."""
    brief = moment.ladder
    if brief is None:
        return ()
    told = ladder_told(brief, moment.now, moment.lang)
    tone = Tone.WARN if brief.stopping else Tone.STRONG
    return ((f" {brief.spinner} ", Tone.RUNNING), (told, tone), (" L", Tone.ACCENT), (" │", Tone.DIM))


def ladder_told(brief: LadderBrief, now: float, lang: Lang) -> str:
    """`ladder level-100 window 1:12`."""
    name = f"{ladder_words.STRIP[lang]} {brief.stage}".rstrip()
    if brief.stopping:
        return f"{name} ! {ladder_words.STRIP_STOPPING[lang]}"
    left = f" {clock_left(brief.until - now)}" if brief.until else ""
    return f"{name} {brief.phase[lang]}{left}"


def _run_strip(moment: Moment, width: int) -> Line:
    lang, progress = moment.lang, moment.progress
    pieces: list[Piece] = [(f" {moment.spinner} ", Tone.RUNNING)]
    if not progress.run:
        return (*pieces, (words.STRIP_STARTING[lang], Tone.PLAIN))
    elapsed = span(max(moment.now - progress.started_at, 0))
    text = words.STRIP_RUNNING[lang].format(run=progress.run, done=progress.done, total=progress.total, elapsed=elapsed)
    pieces.append((text, Tone.STRONG))
    waiting = progress.waiting_hosts()
    if waiting:
        pieces += [(" · ", Tone.DIM), (_waits(moment, waiting, width - width_of(tuple(pieces)) - 4), Tone.PLAIN)]
    elif progress.message:
        pieces += [(" · ", Tone.DIM), (one_line(progress.message), Tone.PLAIN)]
    return _with_hosts(moment, pieces, width)


def _waits(moment: Moment, waiting: Sequence[str], room: int) -> str:
    """Whom the run waits for and what that host does; in less room only who, and how many more."""
    lang, name = moment.lang, one_line(waiting[0])
    host = moment.progress.hosts[waiting[0]]
    phase = words.PHASES[host.phase][lang] if host.phase in words.PHASES else one_line(host.phase)
    since = span(max(moment.now - host.since, 0))
    more = f" {words.WAITS_MORE[lang].format(count=len(waiting) - 1)}" if len(waiting) > 1 else ""
    notes = [f" ({phase} {since}, {one_line(host.note)})"] if host.note else []
    for doing in (*notes, f" ({phase} {since})", ""):
        said = words.WAITS_FOR[lang].format(what=f"{name}{doing}{more}")
        if cell_len(said) <= room:
            break
    return said


def _idle_strip(moment: Moment, width: int) -> Line:
    lang, head = moment.lang, moment.masthead
    if not head.run:
        return line((f" {words.STRIP_NEVER[lang]}", Tone.PLAIN))
    run = moment.last_run
    if head.interrupted and run is not None:
        text = words.STRIP_INTERRUPTED[lang].format(run=run.number, done=len(run.settled), total=len(run.checks))
        return line((f" {shorten(text, width - 2)}", Tone.WARN))
    ended = run.finished_at if run is not None and run.finished_at is not None else head.run_at
    text = words.STRIP_IDLE[lang].format(run=head.run, at=at_moment(ended, moment.now, lang))
    return _with_hosts(moment, [(f" {text}", Tone.PLAIN)], width)


def _with_hosts(moment: Moment, pieces: list[Piece], width: int) -> Line:
    """Each host with its mark where they all fit, else how many are in which phase."""
    lang, hosts = moment.lang, moment.progress.hosts
    if not hosts:
        return tuple(pieces)
    room = width - width_of(tuple(pieces)) - 4
    each: list[Piece] = []
    for name, host in hosts.items():
        sign, tone = _host_mark(host.phase, moment)
        each += [(f"  {one_line(name)} ", Tone.PLAIN), (sign, tone)]
    if width_of(tuple(each)) <= room:
        return (*pieces, (" │", Tone.DIM), *each)
    phases: dict[str, int] = {}
    for host in hosts.values():
        phases[host.phase] = phases.get(host.phase, 0) + 1
    told: list[Piece] = []
    for phase, count in phases.items():
        sign, tone = _host_mark(phase, moment)
        word = words.PHASES[phase][lang] if phase in words.PHASES else one_line(phase)
        told += [(f"  {sign} {count} {word}", tone)]
    return (*pieces, (" │", Tone.DIM), *told) if width_of(tuple(told)) <= room else tuple(pieces)


def _host_mark(phase: str, moment: Moment) -> tuple[str, Tone]:
    if phase == "done":
        return "✓", Tone.PASS
    if phase == "unreachable":
        return "✗", Tone.FAIL
    if phase == "waiting" or not moment.progress.running:
        return "·", Tone.DIM
    return moment.spinner, Tone.RUNNING


def run_ended(checklist: Checklist, chosen: Sequence[str], run: int, elapsed: float, lang: Lang) -> str:
    """What a run came to, in one sentence; `elapsed` in seconds."""
    found = counts(checklist.statuses[check_id] for check_id in chosen)
    marks = [(OF_STANDING[standing], found[standing]) for standing in COUNTED if standing in found]
    told = words.AND_ALSO[lang].join(f"{mark.sign} {count} {mark.word[lang]}" for mark, count in marks)
    return words.RUN_FINISHED[lang].format(run=run, elapsed=span(elapsed), counts=told)
