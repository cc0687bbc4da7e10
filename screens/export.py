"""Writing the report of what the journal holds now."""

from __future__ import annotations

from pathlib import Path

from textual import on

from dstui.model import Lang, Text
from screens import words
from screens.form import Choice, Field, Form, Values
from screens.lines import Line, labelled
from screens.plain import one_line
from screens.tones import Tone

SUFFIXES = {"markdown": ".md", "json": ".json"}
LABEL = 14


class ExportForm(Form):
    """Format, language and file."""

    TITLE_TEXT = words.EXPORT_TITLE
    AUTO_FOCUS = "#field-format"

    def fields(self) -> tuple[Field, ...]:
        return (
            Field("format", words.FIELD_FORMAT, value="markdown", choices=tuple(words.FORMATS.items())),
            Field(
                "language",
                words.FIELD_LANGUAGE,
                value=self.lang.value,
                choices=tuple((lang.value, name) for lang, name in words.LANGUAGES.items()),
            ),
            Field("path", words.FIELD_PATH, value=self._proposal("markdown")),
        )

    def _proposal(self, name: str) -> str:
        head = self.moment.masthead
        cluster = "".join(c if c.isalnum() or c in "-_." else "-" for c in head.cluster) or "dstui"
        return f"{cluster}-run{head.run}{SUFFIXES[name]}"

    def intro(self, width: int) -> list[Line]:
        head, lang = self.moment.masthead, self.lang
        about = f"{one_line(head.cluster)} · {one_line(head.environment)}"
        if head.run:
            about += f" · {words.RUN_NUMBER[lang].format(run=head.run)}"
        if head.simulated:
            about += f" · {words.SIMULATED[lang]}"
        lines = labelled("", about, width, 0, Tone.STRONG)
        lines.extend(labelled("", str(Path.cwd()), width, 0, Tone.DIM))
        return lines

    @on(Choice.Changed)
    def _suffix(self, event: Choice.Changed) -> None:
        """The file's ending follows the format, as long as it is one of ours."""
        from textual.widgets import Input

        if event.choice.id != "field-format":
            return
        entry = self.query_one("#field-path", Input)
        for suffix in SUFFIXES.values():
            if entry.value.endswith(suffix):
                entry.value = entry.value.removesuffix(suffix) + SUFFIXES[event.value]
                return

    def complaint(self, values: Values) -> Text | None:
        return None if values["path"].strip() else words.NEED_PATH

    async def record(self, values: Values) -> str:
        assert self.engine is not None
        path = _path_of(values["path"])
        event = await self.engine.export(path, format=values["format"], lang=Lang(values["language"]))
        return words.RECORDED_EXPORT[self.lang].format(seq=event.seq, path=path)


def _path_of(written: str) -> Path:
    """The file that somebody typed; `~` is their home."""
    return Path(written.strip()).expanduser()
