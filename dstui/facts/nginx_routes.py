"""Where nginx sends a request: the server and location that take it, what holds there, and the upstream behind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from dstui.facts.nginx_config import Directive, NginxConfig, named
from dstui.facts.raw import Missing
from dstui.model import Reason

DEFAULT_BODY = "1m"
DEFAULT_READ_TIMEOUT = "60s"
"""nginx's own defaults of client_max_body_size and proxy_read_timeout."""

_UNITS = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
    "M": 2_592_000.0,
    "y": 31_536_000.0,
}
_TIME = re.compile(r"\s*(\d{1,9})(ms|[smhdwMy])?")
_SET_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
_LISTEN_PORT = re.compile(r"(?:(.*):)?(\d{1,5})")
_MODIFIER = re.compile(r"(=|\^~|~\*|~)?(.*)", re.DOTALL)
_NAMED_GROUP = re.compile(r"\(\?<(?=[A-Za-z_])")


@dataclass(frozen=True, slots=True)
class Place:
    """A point in the configuration: the blocks around it, innermost first. `label` is `location /v1/` or `server`."""

    label: str
    where: str
    blocks: tuple[tuple[Directive, ...], ...]

    def one(self, name: str) -> Directive | None:
        """The directive of that name that holds here: the last of the innermost block that has one."""
        for block in self.blocks:
            found = list(named(block, name))
            if found:
                return found[-1]
        return None

    def all(self, name: str) -> tuple[Directive, ...]:
        """Those that hold here of one that may stand many times: a block that has one drops all from outside."""
        return next((found for block in self.blocks if (found := tuple(named(block, name)))), ())

    def value(self, name: str, default: str = "") -> str:
        """Its first argument."""
        found = self.one(name)
        return found.first if found is not None else default

    def own(self, name: str) -> Directive | None:
        """One that stands in the innermost block itself; `proxy_pass` is not inherited."""
        return next(named(self.blocks[0], name), None) if self.blocks else None


@dataclass(frozen=True, slots=True)
class Listen:
    port: int
    ssl: bool
    default: bool


@dataclass(frozen=True, slots=True)
class Server:
    """One server block. `around` is the http block."""

    directive: Directive
    around: tuple[Directive, ...]
    listens: tuple[Listen, ...]
    names: tuple[str, ...]

    @property
    def place(self) -> Place:
        return Place("server", self.directive.where, (self.directive.block or (), self.around))


@dataclass(frozen=True, slots=True)
class Member:
    """One server of an upstream. `port` 0 is a Unix socket."""

    host: str
    port: int
    down: bool = False
    backup: bool = False
    max_fails: str = "1"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host


@dataclass(frozen=True, slots=True)
class Upstream:
    """`algorithm` as the checklist calls it: `round-robin`, `least_conn`, `random two least_conn`, `hash`,
    `hash-consistent`, `ip_hash`, `least_time`, `sticky`. `key` is what a hash is made of."""

    name: str
    members: tuple[Member, ...]
    algorithm: str = "round-robin"
    key: str = ""
    zone: bool = False
    keepalive: bool = False


def seconds(written: str) -> float | None:
    """A time as nginx writes it (`600s`, `1h 30m`, `75`); None when it is none."""
    whole, at = 0.0, 0
    text = written.strip()
    if not text:
        return None
    while at < len(text):
        found = _TIME.match(text, at)
        if found is None:
            return None
        whole += int(found[1]) * _UNITS[found[2] or "s"]
        at = found.end()
    return whole


def servers(config: NginxConfig) -> tuple[Server, ...]:
    """The HTTP servers, in order."""
    found = []
    for http in named(config.directives, "http"):
        around = http.block or ()
        found += [_server(directive, around) for directive in named(around, "server")]
    return tuple(found)


def _server(directive: Directive, around: tuple[Directive, ...]) -> Server:
    listens = tuple(listen for each in directive.named("listen") if (listen := _listen(each)) is not None)
    names = tuple(name for each in directive.named("server_name") for name in each.args)
    return Server(directive, around, listens if any(directive.named("listen")) else (Listen(80, False, False),), names)


def _listen(directive: Directive) -> Listen | None:
    options = directive.args[1:]
    written = directive.first
    if written.startswith("unix:"):
        return None
    found = _LISTEN_PORT.fullmatch(written)
    # An address without a port means 80; the parts of an IPv6 address look like one.
    port = int(found[2]) if found is not None and not (found[1] or "").startswith("[") else None
    if written.startswith("["):
        after = written.rpartition("]")[2]
        port = int(after[1:]) if re.fullmatch(r":\d{1,5}", after) else 80
    return Listen(80 if port is None else port, "ssl" in options, "default_server" in options or "default" in options)


def server_for(config: NginxConfig, host: str, port: int) -> Server | None:
    """The server that takes requests for a host name on a port.

    Where nothing listens on the port (it is mapped on the way), those with that name on any port, TLS first.
    """
    every = servers(config)
    there = [server for server in every if any(listen.port == port for listen in server.listens)]
    if there:
        default = next((s for s in there if any(each.default and each.port == port for each in s.listens)), there[0])
        return _by_name(there, host) or default
    by_tls = sorted(every, key=lambda server: not any(listen.ssl for listen in server.listens))
    return _by_name(by_tls, host) or next((s for s in by_tls if any(s.directive.named("location"))), None)


def _by_name(among: Sequence[Server], host: str) -> Server | None:
    """Exact name, then a wildcard in front, then one at the end, then the first regular expression."""
    name = host.lower().rstrip(".")
    for fits in (_exact, _front, _end, _regex):
        found = [
            (len(written), -n, s) for n, s in enumerate(among) for written in s.names if fits(written.lower(), name)
        ]
        if found:
            return max(found, key=lambda each: (each[0] if fits is not _regex else 0, each[1]))[2]
    return None


def _exact(written: str, name: str) -> bool:
    return written == name or (written.startswith(".") and written[1:] == name)


def _front(written: str, name: str) -> bool:
    return written.startswith((".", "*.")) and name.endswith(written.removeprefix("*"))


def _end(written: str, name: str) -> bool:
    return written.endswith(".*") and name.startswith(written[:-1])


def _regex(written: str, name: str) -> bool:
    found = _compiled(written[1:], False) if written.startswith("~") else None
    return found is not None and found.search(name) is not None


def _compiled(pattern: str, lower: bool) -> re.Pattern[str] | None:
    """A PCRE pattern, as far as Python's are the same."""
    try:
        return re.compile(_NAMED_GROUP.sub("(?P<", pattern), re.IGNORECASE if lower else 0)
    except (re.error, RecursionError, OverflowError):
        return None


def place_of(server: Server, path: str) -> Place | Missing:
    """Where a request for a path is handled, by nginx's rules; the server itself when no location takes it.

    Missing when a regular expression on the way is not understood.
    """
    try:
        found, _ = _location(server.place, path)
    except _PatternError as error:
        return Missing(Reason.CANNOT_TELL, str(error))
    return found or server.place


class _PatternError(Exception):
    pass


def _location(around: Place, path: str) -> tuple[Place | None, bool]:
    """The location that takes a path, and whether no regular expression further out may take it instead."""
    best: tuple[int, Place, bool] | None = None
    patterns: list[tuple[str, bool, Place]] = []
    for directive in named(around.blocks[0], "location"):
        modifier, written = _modifier(directive)
        if written.startswith("@") and not modifier:
            continue
        place = Place(f"location {' '.join(directive.args)}", directive.where, (directive.block or (), *around.blocks))
        if modifier == "=" and written == path:
            return place, True
        if modifier in ("~", "~*"):
            patterns.append((written, modifier == "~*", place))
        elif modifier != "=" and path.startswith(written) and (best is None or len(written) > best[0]):
            best = len(written), place, modifier == "^~"
    found: Place | None = None
    if best is not None:
        inner, final = _location(best[1], path)
        found = inner or best[1]
        if final or best[2]:
            return found, True
    for pattern, lower, place in patterns:
        compiled = _compiled(pattern, lower)
        if compiled is None:
            raise _PatternError(f"{place.where}: the expression {pattern[:60]!r} is not understood")
        if compiled.search(path) is not None:
            inner, _ = _location(place, path)
            return inner or place, True
    return found, False


def _modifier(directive: Directive) -> tuple[str, str]:
    if len(directive.args) > 1:
        return directive.args[0], directive.args[1]
    found = _MODIFIER.fullmatch(directive.first)
    return (found[1] or "", found[2]) if found is not None else ("", directive.first)


def passed_to(place: Place) -> str | Missing | None:
    """The address in `proxy_pass`, variables that are `set` on the spot filled in; None when nothing is passed on."""
    passing = place.own("proxy_pass")
    if passing is None:
        return None
    written = passing.first
    values = {each.first.lstrip("$"): each.args[1] for each in _sets(place) if len(each.args) == 2}
    for _ in range(4):
        written = _SET_VARIABLE.sub(lambda found: values.get(found[1], found[0]), written)
    host = written.partition("://")[2].partition("/")[0]
    if "$" in host or ("$" in written and "://" not in written):
        return Missing(Reason.CANNOT_TELL, f"{passing.where}: proxy_pass {passing.first} depends on a variable")
    return written


def _sets(place: Place) -> Iterator[Directive]:
    for block in reversed(place.blocks):
        yield from named(block, "set")


def upstream_of(config: NginxConfig, address: str) -> Upstream:
    """The upstream that an address of `proxy_pass` names; the server itself when it is no upstream's name."""
    parts = urlsplit(address)
    named_one = parts.netloc.rpartition("@")[2]
    for http in named(config.directives, "http"):
        for directive in http.named("upstream"):
            if directive.first == named_one:
                return _upstream(directive)
    return Upstream(named_one, (_member((named_one,), 443 if parts.scheme == "https" else 80),))


def _upstream(directive: Directive) -> Upstream:
    algorithm, key = "round-robin", ""
    for each in directive.block or ():
        if each.name in ("least_conn", "ip_hash", "least_time", "sticky"):
            algorithm = each.name
        elif each.name == "random":
            algorithm = " ".join(("random", *each.args)) if each.args[:1] == ("two",) else "random"
            algorithm = "random two least_conn" if each.args == ("two",) else algorithm
        elif each.name == "hash":
            algorithm, key = ("hash-consistent" if "consistent" in each.args[1:] else "hash"), each.first
    keepalive = next(directive.named("keepalive"), None)
    return Upstream(
        name=directive.first,
        members=tuple(_member(each.args, 80) for each in directive.named("server") if each.args),
        algorithm=algorithm,
        key="$remote_addr" if algorithm == "ip_hash" else key,
        zone=any(directive.named("zone")),
        keepalive=keepalive is not None and keepalive.first != "0",
    )


def _member(args: Sequence[str], default: int) -> Member:
    address, options = args[0], args[1:]
    given = {name: value for name, _, value in (option.partition("=") for option in options)}
    if address.startswith("unix:"):
        host, port = address, 0
    else:
        found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?", address)
        host, port = (found[1].strip("[]"), int(found[2] or default)) if found is not None else (address, default)
    return Member(host, port, "down" in options, "backup" in options, given.get("max_fails", "1"))
