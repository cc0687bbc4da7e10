"""The small types of the inventory: what a name, an address, a URL, a window may look like.

Every ValueError here completes the sentence "`where` …" with what is wrong and what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from ipaddress import ip_address, ip_network
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from dstui.inventory.secrets import (
    CommandReference,
    DirectReference,
    EnvReference,
    NamedReference,
    Reference,
    parse_reference,
)


class Block(BaseModel):
    """A block of the inventory: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, defer_build=True, allow_inf_nan=False, protected_namespaces=()
    )


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty; write a value, or remove the key")
    if any(ord(c) < 0x20 and c != "\n" for c in value):
        raise ValueError("has control characters; remove them")
    return value


def _shaped(pattern: str, wording: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(wording)
        return value

    return AfterValidator(check)


def _address(value: str) -> str:
    try:
        address = ip_address(value)
    except ValueError:
        raise ValueError("is not an IP address; write one such as 198.51.100.11") from None
    if address.is_unspecified or address.is_multicast:
        raise ValueError("is not the address of one host; write the host's own address")
    return str(address)


def _network(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError:
        pass
    try:
        meant = ip_network(value, strict=False)
    except ValueError:
        raise ValueError("is not a network; write one such as 198.51.100.0/24") from None
    raise ValueError(f"has host bits set; write {meant}")


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        port_is_right = False
    if not port_is_right or any(c.isspace() or ord(c) < 0x20 for c in value):
        raise ValueError("is not a URL; write one such as https://host:8443")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not an http URL; start it with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("has a login in it; remove that and give the login by reference")
    return value


def _url_or_path(value: str) -> str:
    return value if value.startswith("/") else _url(value)


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        if _has_zones():
            raise ValueError("is not a time zone; write one such as Asia/Shanghai") from None
    return value


def _has_zones() -> bool:
    try:
        ZoneInfo("Asia/Shanghai")
    except (ZoneInfoNotFoundError, OSError):
        return False
    return True


def _day(value: object) -> date:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError("is not a date; write one such as 2026-09-01")


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _direct(value: object) -> DirectReference:
    reference = parse_reference(value)
    if isinstance(reference, NamedReference):
        raise ValueError("refers to another secret; write `env:NAME`, `file:/absolute/path` or `{cmd: [program]}`")
    return reference


def _identity(value: object) -> Reference:
    reference = parse_reference(value)
    if isinstance(reference, EnvReference | CommandReference):
        raise ValueError("must be `file:/absolute/path` of a private key; or leave it out and use ssh-agent")
    return reference


def _flag_or_auto(value: object) -> str:
    if value is True or value is False or value == "auto":
        return str(value).lower()
    raise ValueError("is not one of `auto`, `true`, `false`")


def _fraction(wording: str) -> Callable[[float], float]:
    def check(value: float) -> float:
        if not 0 < value <= 1:
            raise ValueError(wording)
        return value

    return check


TextValue = Annotated[str, AfterValidator(_text)]
Name = Annotated[
    str,
    _shaped(
        r"[a-z0-9][a-z0-9.-]{0,62}",
        "is not a name; use small letters, digits, `.` and `-`, at most 63, such as gpu-01",
    ),
]
Key = Annotated[str, _shaped(r"[a-z][a-z0-9_]*", "is not a name; use small letters, digits and `_`, such as api_key")]
Person = Annotated[str, _shaped(r"[^\s:/]{1,64}", "is not a person's id; write one word such as zhang.wei")]
Login = Annotated[str, _shaped(r"[A-Za-z_][A-Za-z0-9_.@-]{0,63}\$?", "is not a login name; write one such as dstui")]
HostOrAddress = Annotated[
    str,
    _shaped(
        r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,252}", "is not a host name or an address; write one such as gpu-01.example.com"
    ),
]
Address = Annotated[str, AfterValidator(_address)]
Network = Annotated[str, AfterValidator(_network)]
Url = Annotated[str, AfterValidator(_url)]
UrlOrPath = Annotated[str, AfterValidator(_url_or_path)]
UrlList = Annotated[tuple[Url, ...], BeforeValidator(_one_or_more)]
AbsolutePath = Annotated[str, AfterValidator(_text), _shaped(r"/[^\n]*", "is not an absolute path; start it with /")]
HomePath = Annotated[
    str, AfterValidator(_text), _shaped(r"(?:/|~/)[^\n]*", "is not an absolute path; start it with / or ~/")
]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[
    float, AfterValidator(_fraction("is not a share; write a number above 0 and up to 1, such as 0.9"))
]
TimeZone = Annotated[str, AfterValidator(_zone)]
FlagOrAuto = Annotated[str, PlainValidator(_flag_or_auto)]
Day = Annotated[date, PlainValidator(_day)]
Argv = Annotated[tuple[TextValue, ...], Field(min_length=1)]

_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d"
_WEEKDAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
Window = Annotated[
    str,
    _shaped(rf"(?:{_WEEKDAY}|Daily) {_CLOCK}-{_CLOCK}", "is not a window; write one such as `Sun 02:00-06:00`"),
]
DailyTime = Annotated[str, _shaped(_CLOCK, 'is not a time of day; write one such as "08:30"')]
WeeklyTime = Annotated[str, _shaped(rf"{_WEEKDAY} {_CLOCK}", 'is not a day and time; write one such as "Mon 09:00"')]
MonthlyTime = Annotated[
    str, _shaped(rf"(?:[1-9]|1\d|2[0-8]) {_CLOCK}", 'is not a day of the month (1-28) and time; write "1 09:30"')
]
QuarterlyTime = Annotated[
    str, _shaped(rf"Q\+\d{{1,2}} {_CLOCK}", 'is not days into the quarter and a time; write "Q+5 10:00"')
]

UseReference = Annotated[Reference, PlainValidator(parse_reference)]
IdentityReference = Annotated[Reference, PlainValidator(_identity)]
SecretReference = Annotated[DirectReference, PlainValidator(_direct)]

ThresholdKey = Annotated[
    str,
    _shaped(
        r"[a-z]+\.[a-z0-9-]+\.[a-z0-9_]+",
        "is not a threshold; write section.check.parameter, such as hw.memory.mem_min_gb",
    ),
]
Thresholds = dict[ThresholdKey, object]
