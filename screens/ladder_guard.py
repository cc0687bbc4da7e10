"""Questions about the ladder: before it puts load on anything, and before one leaves while it does."""

from __future__ import annotations

from dstui.load.ladder import Ladder, Lengths, Prompts
from dstui.model import Lang
from dstui.progress import Progress
from screens import ladder_words as words
from screens import words as house
from screens.confirm import Question
from screens.ladder_columns import share
from screens.ladder_header import engine_words
from screens.lines import BLANK, Line, labelled, paragraph
from screens.plain import one_line
from screens.times import moment, span
from screens.tones import Tone

LABEL = 13


def confirm_ladder(ladder: Ladder, environment: str, now: float) -> Question:
    """Start it? Names what it does, to what, for how long and until when. Only `y` starts it."""

    def body(width: int, lang: Lang) -> list[Line]:
        return guard_lines(ladder, environment, now, lang, width)

    answers = (("y", "yes", words.GUARD_YES), ("n", "no", words.GUARD_NO))
    return Question(words.GUARD_TITLE, body, answers)


def guard_lines(ladder: Ladder, environment: str, now: float, lang: Lang, width: int) -> list[Line]:
    """What a person agrees to."""
    users = f"{ladder.most_users:,}"
    where = one_line(environment)
    lines = paragraph(f"! {words.GUARD_LOAD[lang].format(environment=where, users=users)}", width, Tone.WARN)
    lines.append(BLANK)
    how = words.LOOPS[ladder.loop][lang]
    names = ", ".join(stage.name for stage in ladder.stages)
    until = moment(now + ladder.seconds, now, lang)
    if until[:1].isdigit() and len(until) == len("12:04:31"):
        until = until[:5]
    told = (
        (words.GUARD_ENDPOINT, one_line(ladder.url), Tone.STRONG),
        *(
            (house.AND_ALSO, words.AGAINST[lang].format(url=f"{one_line(stage.url)} ({stage.name})"), Tone.STRONG)
            for stage in ladder.stages
            if stage.url is not None
        ),
        (words.GUARD_MODEL, one_line(ladder.model), Tone.PLAIN),
        (words.GUARD_USERS, words.USERS_MOST[lang].format(users=users, how=how), Tone.PLAIN),
        (words.GUARD_STAGES, words.STAGES_LINE[lang].format(count=len(ladder.stages), names=names), Tone.PLAIN),
        (words.GUARD_PROMPTS, _prompts(ladder.prompts, lang), Tone.PLAIN),
        (words.GUARD_FROM, engine_words(ladder, lang), Tone.PLAIN),
        (words.GUARD_TAKES, words.TAKES_LINE[lang].format(span=_about(ladder.seconds), until=until), Tone.STRONG),
        (
            words.GUARD_STOPS,
            words.STOPS_LINE[lang].format(rate=share(ladder.error_rate_stop), seconds=span(ladder.error_seconds_stop)),
            Tone.PLAIN,
        ),
    )
    for label, text, tone in told:
        shown = "" if label is house.AND_ALSO else label[lang]
        lines.extend(labelled(shown, text, width, LABEL, tone))
    return lines


def _about(seconds: float) -> str:
    """A span to the minute from ten minutes on."""
    return span(seconds) if seconds < 600 else span(round(seconds / 60) * 60.0)


def _prompts(prompts: Prompts, lang: Lang) -> str:
    cache = (words.FRESH if prompts.fresh else words.CACHED)[lang]
    if prompts.file is not None:
        return words.PROMPTS_FILE[lang].format(file=one_line(prompts.file), cache=cache)
    return words.PROMPTS_LINE[lang].format(
        into=_length(prompts.tokens_in), out=_length(prompts.tokens_out), cache=cache
    )


def _length(lengths: Lengths) -> str:
    return f"{lengths.mean}" if not lengths.spread else f"{lengths.mean} ± {lengths.spread:.0%}"


def confirm_leaving(stage: str, progress: Progress | None) -> Question:
    """Leave although a ladder runs, at `stage`? `progress` is of the checks that run too; None when none do."""

    def body(width: int, lang: Lang) -> list[Line]:
        lines = paragraph(words.QUIT_LADDER[lang].format(stage=stage or words.STARTING[lang]), width)
        if progress is not None:
            text = house.QUIT_ASK[lang].format(run=progress.run, done=progress.done, total=progress.total)
            lines += [BLANK, *paragraph(text, width)]
        return lines

    answers = (("y", "yes", house.QUIT_YES), ("x", "stop", words.QUIT_STOP), ("n", "no", house.QUIT_NO))
    return Question(words.QUIT_TITLE, body, answers)
