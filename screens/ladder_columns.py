"""The columns of the ladder's table: what each shows of a stage, how wide it is, which stay where there is no room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.cells import cell_len

from dstui.load.live import Phase
from dstui.model import Lang, Text, same
from screens import ladder_words as words
from screens.fitting import fitting
from screens.ladder_rows import NOT_COUNTED, RUNNING, LevelRow, Seen, State
from screens.lines import Line, Piece, cropped
from screens.plain import fit, one_line, shorten
from screens.times import clock_left
from screens.tones import Tone

STATE_CELLS = 13
"""The least room for the state; it gets all that the columns leave."""

NAME_CELLS = (9, 16)
NOTHING: Piece = ("-", Tone.DIM)
NOT_KNOWN: Piece = ("?", Tone.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Column:
    """`over` stands above the head. `weight`: the lower, the sooner it is left out where there is no room."""

    over: Text
    head: Text
    cells: int
    weight: int
    of: Callable[[LevelRow], Piece]


def milliseconds(value: float | None) -> str:
    """`8.4`, `310`, `12,345`: milliseconds of seconds; `?` of nothing."""
    if value is None:
        return "?"
    ms = value * 1000
    return f"{ms:.1f}" if ms < 9.95 else f"{ms:,.0f}"


def percent(seen: Seen, factor: float = 1.0, *, most: bool = True) -> Piece:
    """`71%`; `≥71%` of a maximum, `71%?` of a mean, when not everything told its part."""
    if seen.value is None:
        return NOT_KNOWN
    text = f"{seen.value * factor:.0f}%"
    if seen.whole:
        return text, Tone.PLAIN
    return (f"≥{text}" if most else f"{text}?"), Tone.UNKNOWN


def _time(value: float | None) -> Piece:
    return NOTHING if value is None else (milliseconds(value), Tone.PLAIN)


def _count(value: int, tone: Tone = Tone.PLAIN) -> Piece:
    return f"{value:,}", tone if value else Tone.PLAIN


def _failed(row: LevelRow) -> Piece:
    assert row.counts is not None
    return _count(row.counts.failed, Tone.WARN)


def _ok(row: LevelRow) -> Piece:
    assert row.counts is not None
    return _count(row.counts.ok)


def _shed(row: LevelRow) -> Piece:
    assert row.counts is not None
    return _count(row.counts.shed, Tone.WARN)


def _rate(row: LevelRow) -> Piece:
    rate = row.tokens_per_second
    if rate is None:
        return NOTHING
    return (f"{rate:,.0f}" if rate >= 9.95 else f"{rate:.1f}"), Tone.PLAIN


def generator(row: LevelRow) -> Piece:
    """`12ms 34%`, with `!` from where on the generator itself may be what is measured; `?` while nothing is known."""
    if row.lag is None and row.cpu is None:
        return NOT_KNOWN
    lag = "?" if row.lag is None else f"{row.lag * 1000:.0f}ms" if row.lag < 0.9995 else f"{row.lag:.1f}s"
    cpu = "?" if row.cpu is None else f"{row.cpu:.0%}"
    if row.generator_strained:
        return f"{lag} {cpu}!", Tone.WARN
    return f"{lag} {cpu}", Tone.PLAIN


_BLANK = same("")
COLUMNS: tuple[Column, ...] = (
    Column(_BLANK, words.USERS, 5, 20, lambda row: (f"{row.stage.users:,}", Tone.PLAIN)),
    Column(_BLANK, words.OK, 7, 16, _ok),
    Column(_BLANK, words.ERRORS, 6, 17, _failed),
    Column(_BLANK, words.SHED, 5, 11, _shed),
    Column(same("TTFT"), same("p50"), 6, 14, lambda row: _time(row.ttft_p50)),
    Column(same("ms"), same("p95"), 6, 15, lambda row: _time(row.ttft_p95)),
    Column(same("ITL ms"), same("p95"), 6, 10, lambda row: _time(row.itl_p95)),
    Column(words.TOKENS, words.PER_SECOND, 7, 13, _rate),
    Column(same("GPU"), words.USE, 6, 12, lambda row: percent(row.gpu_use, most=False)),
    Column(words.HOST, words.MEMORY, 5, 8, lambda row: percent(row.memory, 100.0)),
    Column(same("KV"), words.CACHE, 5, 9, lambda row: percent(row.kv, 100.0)),
    Column(_BLANK, words.NETWORK, 5, 7, lambda row: percent(row.network, 100.0)),
    Column(words.GENERATOR, words.LAG_CPU, 11, 6, generator),
)

_SIGNS: dict[State, tuple[str, Tone]] = {
    State.WAITING: ("·", Tone.DIM),
    State.PAUSE: ("·", Tone.DIM),
    State.NOT_RUN: ("·", Tone.DIM),
    State.DONE: (" ", Tone.PLAIN),
    State.STOPPED: ("!", Tone.WARN),
    State.LOST: ("?", Tone.UNKNOWN),
    State.GENERATOR: ("?", Tone.UNKNOWN),
    State.NOTHING: ("?", Tone.UNKNOWN),
    State.SUMS: ("?", Tone.UNKNOWN),
    State.ERRORS: ("!", Tone.WARN),
    State.SHED: ("!", Tone.WARN),
}
_ENDED: dict[State, Text] = {
    State.NOT_RUN: words.NOT_RUN,
    State.STOPPED: words.STOPPED,
    State.LOST: words.WORKER_LOST,
    State.GENERATOR: words.GENERATOR_BOUND,
    State.NOTHING: words.NOTHING_COUNTS,
    State.SUMS: words.SUMS,
}


def name_cells(rows: tuple[LevelRow, ...]) -> int:
    """The width of the names' column."""
    longest = max((cell_len(row.name) for row in rows), default=0)
    return min(max(longest, NAME_CELLS[0]), NAME_CELLS[1])


def columns_for(width: int, names: int) -> tuple[Column, ...]:
    """What fits beside cursor, sign and name, and leaves room for the state."""
    return fitting(COLUMNS, width - names - 5 - STATE_CELLS)


def head_lines(width: int, names: int, lang: Lang) -> tuple[Line, Line]:
    """The two lines above the rows."""
    columns = columns_for(width, names)
    over = [" " * (names + 4), *(f" {right(each.over[lang], each.cells)}" for each in columns)]
    head = ["    " + fit(words.STAGE[lang], names), *(f" {right(each.head[lang], each.cells)}" for each in columns)]
    above, below = (
        cropped(tuple((text, Tone.HEADING) for text in texts), width)
        for texts in (over, [*head, f" {words.STATE[lang]}"])
    )
    return above, below


@dataclass(frozen=True, slots=True)
class Look:
    """What a row's line needs besides the row. `knee` marks the last level from which more users paid."""

    names: int
    now: float
    spinner: str
    lang: Lang
    knee: bool = False


def row_line(row: LevelRow, look: Look, width: int, *, at_cursor: bool) -> Line:
    """One stage in exactly `width` cells."""
    sign, tone = _SIGNS.get(row.state, (look.spinner, Tone.RUNNING))
    grey = row.state in NOT_COUNTED or row.state in (State.WAITING, State.NOT_RUN)
    pieces: list[Piece] = [
        ("› " if at_cursor else "  ", Tone.ACCENT),
        (f"{sign} ", tone),
        (fit(row.name, look.names), Tone.DIM if grey else Tone.STRONG if row.state in RUNNING else Tone.PLAIN),
    ]
    for column in columns_for(width, look.names):
        if row.begun or column.head is words.USERS:
            text, at = column.of(row)
        else:
            text, at = NOTHING
        pieces.append((f" {right(text, column.cells)}", Tone.DIM if grey and at is Tone.PLAIN else at))
    pieces.append((" ", Tone.PLAIN))
    pieces.extend(state_pieces(row, look))
    return cropped(tuple(pieces), width)


def state_pieces(row: LevelRow, look: Look) -> list[Piece]:
    """The state in words, what is known of why, and the knee."""
    lang = look.lang
    told: list[Piece] = []
    if look.knee:
        told.append((f"^ {words.KNEE_MARK[lang]} ", Tone.ACCENT))
    told.append(_state(row, look))
    if row.why:
        why = "; ".join(one_line(each[lang]) for each in row.why)
        told.append((f" {why}", Tone.DIM))
    return told


def _state(row: LevelRow, look: Look) -> Piece:
    lang, state = look.lang, row.state
    if state in RUNNING:
        word = words.PHASES[Phase(state.value)][lang]
        text = f"{word} {clock_left(row.until - look.now)}" if row.until else word
        return text, Tone.RUNNING
    if state in (State.ERRORS, State.SHED):
        assert row.counts is not None
        which = words.ERRORS_SHARE if state is State.ERRORS else words.SHED_SHARE
        rate = row.counts.error_rate if state is State.ERRORS else row.counts.shed_rate
        return which[lang].format(share=share(rate)), Tone.WARN
    if state in _ENDED:
        return _ENDED[state][lang], Tone.DIM if state is State.NOT_RUN else _SIGNS[state][1]
    return words.PHASES[Phase(state.value)][lang], Tone.DIM if state is State.WAITING else Tone.PLAIN


def share(value: float | None) -> str:
    """`0.4%`, `12%`; what is above 0 never reads as 0, what is below 1 never as 100."""
    if value is None:
        return "?"
    if 0 < value < 0.001:
        return "<0.1%"
    if value < 0.0995:
        return f"{value:.1%}"
    return f"{min(value, 0.99) if value < 1 else value:.0%}"


def right(text: str, cells: int) -> str:
    """Exactly `cells` cells, the text at the right edge."""
    text = shorten(text, cells)
    return " " * (cells - cell_len(text)) + text
