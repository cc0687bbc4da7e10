"""One streamed chat request: what was sent when, what came back when, and what it counts as."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

from dstui.load.agent.http import Answer, HttpError, Target, ends

OK, SHED, ABORTED = "ok", "shed", "aborted"
_SHED = (429, 503)
_SPEAKS = re.compile(rb'"(?:content|reasoning|reasoning_content|text|arguments)":\s*"(?!")')
"""An event that brings text. Looking is ten times cheaper than parsing, and there are thousands a second."""
_SPLIT = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_TAIL = 3
"""The last events are parsed: how it ended, what was used, the mark of the end."""
SAMPLE_CHARS = 200


@dataclass
class Asked:
    """`due` is when the user or the schedule wanted it, `sent`, `first`, `last` and `ended` of `perf_counter`.

    `sent` is when the request went out over an open connection: what a connection costs is between `due` and `sent`.

    `outcome` is OK, SHED, ABORTED or a kind of error. `gaps` are seconds between events that brought text. Tokens are
    None without the server's `usage`; `said` is for the next turn of a conversation.
    """

    due: float
    sent: float
    ended: float = 0.0
    outcome: str = OK
    why: str = ""
    first: float | None = None
    last: float | None = None
    gaps: list[float] = field(default_factory=list)
    pieces: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    said: str = ""

    @property
    def failed(self) -> bool:
        return self.outcome not in (OK, SHED, ABORTED)


async def ask(target: Target, request: bytes, *, due: float, seconds: float, keep_text: bool = False) -> Asked:
    """Sends a request and reads its answer to the end, at most `seconds` long. Raises nothing but CancelledError."""
    asked = Asked(due, perf_counter())
    try:
        answer = await target.ask(request, seconds)
    except HttpError as error:
        asked.ended, asked.outcome, asked.why = perf_counter(), error.kind, str(error)
        return asked
    understand(asked, answer, keep_text=keep_text)
    return asked


def understand(asked: Asked, answer: Answer, *, keep_text: bool = False) -> None:
    """Fills in what an answer says."""
    asked.sent, asked.ended = answer.sent, answer.ended
    if answer.status != 200:
        asked.outcome = SHED if answer.status in _SHED else f"http-{answer.status}"
        asked.why = _text(answer)
        return
    if "text/event-stream" not in answer.headers.get("content-type", ""):
        asked.outcome, asked.why = "garbled", f"no event stream: {_text(answer)}"
        return
    events = _events(answer)
    spoken = _spoken(asked, events)
    tail = [_json(data) for data, _ in events[-_TAIL:]]
    wrong = next((each["error"] for each in tail if "error" in each), None)
    finished = any(data == b"[DONE]" for data, _ in events[-_TAIL:]) or any(_finish(each) for each in tail)
    usage = next((u for each in reversed(tail) if isinstance(u := each.get("usage"), dict)), {})
    asked.tokens_in, asked.tokens_out = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if wrong is not None:
        asked.outcome, asked.why = "error-event", str(wrong)[:SAMPLE_CHARS]
    elif not finished:
        asked.outcome, asked.why = "cut", f"the stream ended after {asked.pieces} pieces without its end"
    elif not spoken:
        asked.outcome, asked.why = "no-tokens", "an answer without text"
    elif keep_text:
        asked.said = "".join(_content(_json(data)) for data, _ in events)


def _events(answer: Answer) -> Sequence[tuple[bytes, float]]:
    """The data of every whole event, and when its last byte came."""
    body = b"".join(piece for _, piece in answer.pieces)
    if b"\r" not in body and body.count(b"\n") == 2 * body.count(b"\n\n"):
        return _plain_events(body, answer)
    came = ends(answer.pieces)
    found: list[tuple[bytes, float]] = []
    at, row = 0, 0
    for match in _SPLIT.finditer(body):
        block, at = body[at : match.start()], match.end()
        while came[row][0] < match.end():
            row += 1
        data = b"\n".join(line[5:].strip() for line in block.splitlines() if line.startswith(b"data:"))
        if data:
            found.append((data, came[row][1]))
    return found


def _plain_events(body: bytes, answer: Answer) -> Sequence[tuple[bytes, float]]:
    """The same of a stream in which every event is one line, as all that is known here send it."""
    found: list[tuple[bytes, float]] = []
    came = iter(ends(answer.pieces))
    size, at = 0, 0.0
    end = 0
    for block in body.split(b"\n\n")[:-1]:
        end += len(block) + 2
        while size < end:
            size, at = next(came)
        if block.startswith(b"data: "):
            found.append((block[6:], at))
        elif block.startswith(b"data:"):
            found.append((block[5:].strip(), at))
    return found


def _spoken(asked: Asked, events: Sequence[tuple[bytes, float]]) -> bool:
    speaks = _SPEAKS.search
    times = [at for data, at in events if speaks(data) is not None]
    asked.pieces = len(times)
    if not times:
        return False
    asked.first, asked.last = times[0], times[-1]
    # Python 3.9 has neither pairwise nor strict.
    asked.gaps = [later - earlier for earlier, later in zip(times, times[1:])]  # noqa: B905, RUF007
    return True


def _json(data: bytes) -> dict[str, object]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _choices(event: dict[str, object]) -> list[dict[str, object]]:
    rows = event.get("choices")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _finish(event: dict[str, object]) -> bool:
    return any(row.get("finish_reason") for row in _choices(event))


def _content(event: dict[str, object]) -> str:
    said = ""
    for row in _choices(event):
        delta = row.get("delta")
        if isinstance(delta, dict) and isinstance(content := delta.get("content"), str):
            said += content
    return said


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(answer: Answer) -> str:
    body = b"".join(piece for _, piece in answer.pieces)[:4096].decode("utf-8", "replace")
    return " ".join(body.split())[:SAMPLE_CHARS]
