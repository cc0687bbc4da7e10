"""A host's messages as values: JSON that may be hostile or huge, and the answers to a `facts` request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from json.decoder import JSONDecoder
from json.scanner import py_make_scanner  # type: ignore[attr-defined]

from dstui.facts.raw import Answer, Missing, Op, Raw
from dstui.gather.wording import clean, reason_of
from dstui.model import Reason


class _YieldingDecoder(JSONDecoder):
    """Objects and lists in Python, strings in C: the interpreter lock is free between any two values.

    The C scanner holds the lock for a whole message, so that a thread would keep the event loop out all the same.
    """

    def __init__(self) -> None:
        super().__init__(parse_constant=_no_number, strict=False)
        self.scan_once = py_make_scanner(self)


def _no_number(_name: str) -> None:
    """NaN and the infinities compare as False with every threshold: as values they are not there."""


def decode(message: bytes) -> object:
    """The JSON value of one message, in one go; ValueError when it is none."""
    return _decode(message, json.JSONDecoder(parse_constant=_no_number, strict=False))


def decode_aside(message: bytes) -> object:
    """The same for a thread beside the event loop: slower, but the loop gets its turn every few milliseconds."""
    return _decode(message, _YieldingDecoder())


def _decode(message: bytes, decoder: JSONDecoder) -> object:
    text = message.decode("utf-8", "replace").strip()
    try:
        value = decoder.decode(text)
        return _whole(value) if "\\ud" in text or "\\uD" in text else value
    except RecursionError:
        raise ValueError("the message is nested too deeply") from None


def _whole(value: object) -> object:
    """Halves of surrogate pairs replaced: they are legal in JSON and break whatever encodes the text later."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return value


def raw_of(ops: Sequence[Op], answers: object) -> Raw:
    """The answers to `ops`; one that is absent or has the wrong shape is Missing(parse-error)."""
    table = answers if isinstance(answers, dict) else {}
    return Raw({op.key: _answer(op, table.get(op.key)) for op in ops})


def _answer(op: Op, found: object) -> Answer:
    if not isinstance(found, dict):
        return _not_there(op, Reason.PARSE_ERROR, "the host's answer to this is absent or has the wrong shape")
    if found.get("missing") is not None:
        seconds = found.get("s", 0.0)
        return _not_there(
            op,
            reason_of(found["missing"]),
            clean(str(found.get("why") or "the host gave no reason")),
            seconds if _is_number(seconds) else 0.0,
        )
    output, error, code = found.get("output", ""), found.get("error", ""), found.get("exit")
    full, seconds = found.get("bytes", 0), found.get("s", 0.0)
    if not (
        isinstance(output, str)
        and isinstance(error, str)
        and (code is None or (isinstance(code, int) and not isinstance(code, bool)))
        and isinstance(full, int)
        and _is_number(seconds)
    ):
        return _not_there(op, Reason.PARSE_ERROR, "the host's answer to this has the wrong shape")
    return Answer(
        key=op.key,
        source=op.source,
        output=output,
        error=error,
        exit=code,
        value=found.get("value"),
        output_bytes=full or len(output),
        seconds=float(seconds),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _not_there(op: Op, reason: Reason, why: str, seconds: float = 0.0) -> Answer:
    return Answer(key=op.key, source=op.source, seconds=seconds, missing=Missing(reason, why))
