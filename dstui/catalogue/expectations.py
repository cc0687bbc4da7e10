"""The `command`, `http` and `expect` of an operator's own check: plain values into a probe and its expectations."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dstui.catalogue.declared import (
    COMPARE,
    CommandProbe,
    Comparison,
    Declared,
    Expectation,
    ExpectCode,
    ExpectJson,
    ExpectMatch,
    ExpectText,
    Header,
    HttpProbe,
)
from dstui.catalogue.fields import Fields
from dstui.catalogue.patterns import Pattern, compile_pattern
from dstui.model import Verdict

MAX_TIMEOUT = 300.0
"""Seconds; a longer wait belongs in a load test, not in a check."""

_SECRET = re.compile(r"(?P<before>(?:[A-Za-z]+ )?)secrets\.(?P<name>[a-z0-9_]+)")
_PRIVATE = re.compile(r"authorization|cookie|token|secret|api[-_]?key|password", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_URL = re.compile(r"https?://[^\s/@?#]+(?:[/?#]\S*)?")
_COMPARISON = re.compile(r"\s*(>=|<=|==|>|<)\s*(-?\d+(?:\.\d+)?)\s*")
_JSON_STEP = re.compile(
    r"(?:^|\.)(?P<key>[^.\[\]\s]+)|\[(?P<position>\d+)\]|\[(?P<quote>[\"'])(?P<quoted>.+?)(?P=quote)\]"
)

_COMMAND = ("argv", "timeout", "root")
_HTTP = ("url", "method", "headers", "timeout")
_TEXT_LOOKS = ("contains", "not_contains", "matches", "json")
_EXPECT = ("exit", "status", *_TEXT_LOOKS, "equals", "value", "severity")


def declared(check: Fields) -> Declared | None:
    """The probe and expectations of an own check; None (with faults) when it has no usable probe."""
    if ("command" in check) == ("http" in check):
        check.fault("needs either command or http, and not both")
        return None
    probe = _command(check) if "command" in check else _http(check.below("http", _HTTP))
    fallback = check.word("severity", Verdict, Verdict.FAIL)
    if fallback not in (Verdict.FAIL, Verdict.WARN):
        check.fault("must be fail or warn", "severity")
    if not check.require("expect"):
        return None
    value = check.raw("expect")
    items = check.each("expect") if isinstance(value, list) else (((*check.path, "expect"), value),)
    if not items:
        check.fault("must not be empty: without an expectation nothing could fail", "expect")
    code_word = "exit" if isinstance(probe, CommandProbe) else "status"
    expect: list[Expectation] = []
    for path, item in items:
        expect += _expectations(Fields(item, path, check.faults, _EXPECT), code_word, fallback)
    return Declared(probe, tuple(expect))


def _command(check: Fields) -> CommandProbe:
    value = check.raw("command")
    if isinstance(value, Mapping):
        table = check.below("command", _COMMAND)
        argv = table.texts("argv")
        probe = CommandProbe(argv, table.number("timeout", 10.0, most=MAX_TIMEOUT), table.flag("root"))
    else:
        argv = check.texts("command")
        probe = CommandProbe(argv, check.number("timeout", 10.0, most=MAX_TIMEOUT), check.flag("root"))
    if not argv or not argv[0].strip():
        check.fault("must be a list of words: the program, then its arguments (no shell)", "command")
    elif any("\0" in word or "secrets." in word for word in argv):
        check.fault("must hold no NUL and no secret: an argv is seen by every user of the host", "command")
    return probe


def _http(table: Fields) -> HttpProbe:
    url = table.text("url")
    if url and not _URL.fullmatch(url):
        table.fault("must be an http(s) address without user, password or blanks", "url")
    method = table.text("method", "GET")
    if method not in ("GET", "HEAD"):
        table.fault("must be GET or HEAD: an own check changes nothing", "method")
    headers = table.below("headers")
    return HttpProbe(
        url,
        method,
        tuple(_header(headers, name) for name in headers.names),
        table.number("timeout", 5.0, most=MAX_TIMEOUT),
    )


def _header(headers: Fields, name: str) -> Header:
    value = headers.text(name)
    if not _HEADER_NAME.fullmatch(name):
        headers.fault("is not a header name", name)
    if "\n" in value or "\r" in value:
        headers.fault("must be one line", name)
    found = _SECRET.fullmatch(value)
    if found is not None:
        return Header(name, found["before"], found["name"])
    if _PRIVATE.search(name):
        headers.fault("must be a reference such as `Bearer secrets.api_key`, never the secret itself", name)
    elif "secrets." in value:
        headers.fault("must be `secrets.NAME`, at most with one word before it", name)
    return Header(name, value)


def _expectations(item: Fields, code_word: str, fallback: Verdict) -> list[Expectation]:
    severity = item.word("severity", Verdict, fallback)
    if severity not in (Verdict.FAIL, Verdict.WARN):
        item.fault("must be fail or warn", "severity")
    other = "status" if code_word == "exit" else "exit"
    if other in item:
        item.fault(
            f"does not belong here; this probe has an {code_word}"
            if code_word == "exit"
            else f"does not belong here; this probe has a {code_word}",
            other,
        )
    found: list[Expectation] = []
    if code_word in item:
        found.append(ExpectCode(_codes(item, code_word), severity))
    if "contains" in item:
        found.append(ExpectText(item.text("contains"), True, severity))
    if "not_contains" in item:
        found.append(ExpectText(item.text("not_contains"), False, severity))
    number = _comparison(item)
    if "matches" in item:
        found.append(_match(item, None if "json" in item else number, severity))
    if "json" in item:
        found.append(_json(item, number, severity))
    if not found:
        item.fault(f"expects nothing; give {code_word}, {', '.join(_TEXT_LOOKS)}")
    return found


def _codes(item: Fields, key: str) -> tuple[int, ...]:
    value = item.raw(key)
    codes = value if isinstance(value, list) else [value]
    if not codes or not all(isinstance(code, int) and not isinstance(code, bool) for code in codes):
        item.fault("must be a whole number or a list of them", key)
        return ()
    return tuple(codes)


def _comparison(item: Fields) -> Comparison | None:
    if "value" not in item:
        return None
    if "matches" not in item and "json" not in item:
        item.fault("needs matches (with a group) or json beside it", "value")
    found = _COMPARISON.fullmatch(item.text("value"))
    if found is None:
        item.fault(f'must be a comparison such as ">= 24", with one of {", ".join(COMPARE)}', "value")
        return None
    return Comparison(found[1], float(found[2]))


def _match(item: Fields, number: Comparison | None, severity: Verdict) -> ExpectMatch:
    pattern = _pattern(item)
    if number is not None and pattern.compiled.groups < 1:
        item.fault("needs a group ( ) around the number that value compares", "matches")
    return ExpectMatch(pattern, number, severity)


def _pattern(item: Fields) -> Pattern:
    text = item.text("matches")
    try:
        return compile_pattern(text)
    except ValueError as error:
        item.fault(str(error), "matches")
        return compile_pattern("")


def _json(item: Fields, number: Comparison | None, severity: Verdict) -> ExpectJson:
    written = item.text("json")
    if "equals" in item and number is not None:
        item.fault("stands beside value; give one of the two", "equals")
    equals = (item.raw("equals"),) if "equals" in item else ()
    return ExpectJson(_json_path(item, written), written, equals, number, severity)


def _json_path(item: Fields, written: str) -> tuple[str | int, ...]:
    rest = written.removeprefix("$").removeprefix(".") if written.startswith("$") else written
    path: list[str | int] = []
    at = 0
    while at < len(rest):
        found = _JSON_STEP.match(rest, at)
        if found is None:
            item.fault('must be a path such as data.items[0].state or ["a.b"].c', "json")
            return ()
        position = found["position"]
        path.append(int(position) if position is not None else found["key"] or found["quoted"])
        at = found.end()
    return tuple(path)
