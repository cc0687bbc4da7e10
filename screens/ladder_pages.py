"""What stands below the levels: charts over users, the seconds of a window, all that is known of a stage. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from dstui.load.live import LiveLadder, LiveStage
from dstui.load.result import LadderResult, StageResult
from dstui.model import Lang
from screens import ladder_words as words
from screens.ladder_charts import over_time, over_users
from screens.ladder_detail import stage_lines
from screens.ladder_rows import RUNNING, LadderView, State, timeline_of_live, timeline_of_result
from screens.lines import Line, paragraph
from screens.plain import one_line
from screens.tones import Tone

PAGES = ("users", "time", "detail")


@dataclass(frozen=True, slots=True)
class Subject:
    """What the screen speaks of: a ladder that runs, one that was recorded, or the one that would run."""

    view: LadderView | None
    live: LiveLadder | None = None
    recorded: LadderResult | None = None
    token: object = None
    """Differs when anything of it differs."""

    def stage(self, number: int) -> LiveStage | StageResult | None:
        """What is known of the stage at a position."""
        if self.live is not None:
            return self.live.stages[number] if number < len(self.live.stages) else None
        if self.recorded is not None and number < len(self.recorded.stages):
            return self.recorded.stages[number]
        if self.view is not None and number < len(self.view.rows):
            return LiveStage(self.view.rows[number].stage)
        return None


def page_lines(page: str, subject: Subject, number: int, now: float, lang: Lang, width: int, height: int) -> list[Line]:
    """One of PAGES for the stage at position `number`, in a pane of `width` and `height` cells."""
    view = subject.view
    if view is None:
        return []
    if page == "users":
        if found := over_users(view, lang, width, height):
            return found
        planned = subject.live is None and subject.recorded is None
        return paragraph((words.PLANNED if planned else words.NOTHING_YET)[lang], width, Tone.ACCENT)
    stage = subject.stage(number)
    if stage is None:
        return []
    if page == "detail":
        return stage_lines(view.ladder, stage, lang, width)
    state = view.rows[number].state
    timeline = timeline_of_result(stage) if isinstance(stage, StageResult) else timeline_of_live(stage)
    if found := over_time(timeline, now if state in RUNNING else None, lang, width, height):
        return found
    return _no_timeline(stage, state, lang, width)


def _no_timeline(stage: LiveStage | StageResult, state: State, lang: Lang, width: int) -> list[Line]:
    """Why there are no seconds to show."""
    name = stage.stage.name
    if state in (State.WAITING, State.PAUSE, State.NOT_RUN):
        return paragraph(words.WINDOW_NOT_BEGUN[lang].format(stage=name), width, Tone.DIM)
    window = stage.window if isinstance(stage, StageResult) else stage.cluster
    text = words.NOT_SEEN[lang].format(stage=name)
    if window.why:
        text = words.NOT_SEEN_BECAUSE[lang].format(stage=name, why=one_line(window.why))
    return paragraph(f"? {text}", width, Tone.UNKNOWN)
