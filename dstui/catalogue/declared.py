"""An operator's own check as data: what to ask (a command or a URL) and what is expected of the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt

from dstui.catalogue.patterns import Pattern
from dstui.model import Verdict


@dataclass(frozen=True, slots=True)
class CommandProbe:
    """An argv to run on the target (never a shell), ended after `timeout` seconds; `root` means `sudo -n`."""

    argv: tuple[str, ...]
    timeout: float = 10.0
    root: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """A request header. With `secret` the value is `value` followed by what the inventory's `secrets.NAME` gives."""

    name: str
    value: str
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """A GET or HEAD from the jump host; redirects are not followed, `timeout` seconds in all."""

    url: str
    method: str = "GET"
    headers: tuple[Header, ...] = ()
    timeout: float = 5.0


COMPARE: dict[str, Callable[[float, float], bool]] = {">=": ge, "<=": le, ">": gt, "<": lt, "==": eq}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A number and how an observed number must stand to it."""

    operator: str
    limit: float

    def holds(self, observed: float) -> bool:
        return COMPARE[self.operator](observed, self.limit)

    def __str__(self) -> str:
        return f"{self.operator} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class ExpectCode:
    """The exit code of a command or the status of a response is one of these."""

    codes: tuple[int, ...]
    severity: Verdict = Verdict.FAIL


@dataclass(frozen=True, slots=True)
class ExpectText:
    """The output contains a text, or does not."""

    text: str
    present: bool = True
    severity: Verdict = Verdict.FAIL


@dataclass(frozen=True, slots=True)
class ExpectMatch:
    """A line of the output matches; with `number` the first group of the match is a number that holds."""

    pattern: Pattern
    number: Comparison | None = None
    severity: Verdict = Verdict.FAIL


@dataclass(frozen=True, slots=True)
class ExpectJson:
    """The output is JSON with something at `path` (keys and positions) that equals a value, holds, or just is there."""

    path: tuple[str | int, ...]
    written: str
    equals: tuple[object, ...] = ()
    number: Comparison | None = None
    severity: Verdict = Verdict.FAIL


Expectation = ExpectCode | ExpectText | ExpectMatch | ExpectJson


@dataclass(frozen=True, slots=True)
class Declared:
    """A probe and its expectations; without one on the code, exit 0 or a status of 200-299 is expected."""

    probe: CommandProbe | HttpProbe
    expect: tuple[Expectation, ...]
