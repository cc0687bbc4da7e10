"""sshd_config read the way sshd reads it: its tokens, Include, the first value wins, Match blocks apart.

Checked against `sshd -T` of OpenSSH 9.2. Keywords and the values compared here are lower case.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dstui.facts.raw import Missing
from dstui.model import Reason

DIRECTORY = "/etc/ssh"
MAIN = f"{DIRECTORY}/sshd_config"
_DEPTH = 16
"""Include nesting that sshd allows (SERVCONF_MAX_DEPTH)."""
_BLANK = " \t\r\n\f"
_ALIASES = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
    "dsaauthentication": "pubkeyauthentication",
}
DEFAULTS: Mapping[str, str] = {
    "permitrootlogin": "prohibit-password",
    "pubkeyauthentication": "yes",
    "passwordauthentication": "yes",
    "kbdinteractiveauthentication": "yes",
    "permitemptypasswords": "no",
    "authorizedkeysfile": ".ssh/authorized_keys .ssh/authorized_keys2",
}
"""What sshd takes when the configuration says nothing (sshd_config(5), OpenSSH 7.0 and newer)."""


@dataclass(frozen=True, slots=True)
class MatchBlock:
    """One Match section: its criteria as (name, pattern list), where it begins, and the values it sets."""

    criteria: tuple[tuple[str, str], ...]
    file: str
    line: int
    values: Mapping[str, str]

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def title(self) -> str:
        return " ".join(f"{name.capitalize()} {pattern}".strip() for name, pattern in self.criteria)


@dataclass(frozen=True, slots=True)
class SshdConfig:
    """A parsed configuration. `unread` names included files whose content could not be had.

    `settled` holds global values that no unread file can override, because they come before the first Include of one.
    """

    values: Mapping[str, str]
    settled: frozenset[str]
    matches: tuple[MatchBlock, ...]
    unread: tuple[str, ...]

    def value(self, keyword: str) -> str | Missing:
        """The global value or sshd's default; Missing when an unread file may say otherwise."""
        if self.unread and keyword not in self.settled:
            return Missing(Reason.PERMISSION, f"{', '.join(self.unread[:3])} could not be read")
        return self.values.get(keyword, DEFAULTS.get(keyword, ""))


@dataclass(slots=True)
class _Reading:
    files: Mapping[str, str]
    known: frozenset[str]
    values: dict[str, str] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    blocks: list[tuple[tuple[tuple[str, str], ...], str, int, dict[str, str]]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def _keyword(line: str) -> tuple[str, str]:
    """The first word and the rest, split at blanks, a quote or one `=`, as sshd's strdelim does."""
    line = line.strip(_BLANK)
    if line.startswith('"'):
        word, quote, rest = line[1:].partition('"')
        return (word, rest.lstrip(_BLANK)) if quote else ("", "")
    end = next((i for i, c in enumerate(line) if c in _BLANK or c in '="'), len(line))
    word, rest = line[:end], line[end:].lstrip(_BLANK)
    return word, rest[1:].lstrip(_BLANK) if rest.startswith("=") else rest


def words(rest: str) -> list[str] | None:
    """Arguments split as sshd's argv_split does: quotes, backslashes, `#` at a word's start ends the line.

    None when a quote is left open, which sshd refuses.
    """
    found: list[str] = []
    i = 0
    while i < len(rest):
        if rest[i] in " \t":
            i += 1
            continue
        if rest[i] == "#":
            break
        word, quote = "", ""
        while i < len(rest) and (quote or rest[i] not in " \t"):
            char = rest[i]
            following = rest[i + 1] if i + 1 < len(rest) else ""
            if char == "\\" and following and (following in "'\"\\" or (not quote and following == " ")):
                word += following
                i += 1
            elif not quote and char in "'\"":
                quote = char
            elif quote and char == quote:
                quote = ""
            else:
                word += char
            i += 1
        if quote:
            return None
        found.append(word)
    return found


def _criteria(arguments: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        name = name.lower()
        if name in ("all", "invalid-user"):
            pairs.append((name, ""))
        else:
            pairs.append((name, value if equals else rest.pop(0) if rest else ""))
    return tuple(pairs)


def _included(reading: _Reading, pattern: str) -> list[str]:
    """The files a pattern stands for, sorted as glob(3) does; files that exist but were not read are noted."""
    if not pattern.startswith("/"):
        pattern = posixpath.join(DIRECTORY, pattern)
    directory, name = posixpath.split(pattern)
    if not any(c in pattern for c in "*?["):
        present = [pattern] if pattern in reading.files or pattern in reading.known else []
        if not present and not _looked_into(reading, directory):
            reading.unread.append(pattern)
        return present
    if not _looked_into(reading, directory):
        reading.unread.append(pattern)
        return []
    everything = sorted(reading.known | reading.files.keys())
    return [
        path
        for path in everything
        if posixpath.dirname(path) == directory
        and fnmatch.fnmatchcase(posixpath.basename(path), name)
        and (name.startswith(".") or not posixpath.basename(path).startswith("."))
    ]


def _looked_into(reading: _Reading, directory: str) -> bool:
    return f"{directory}/" in reading.known


def _walk(
    reading: _Reading, path: str, criteria: tuple[tuple[str, str], ...] | None, depth: int, origin: tuple[str, int]
) -> None:
    """Take in one file. `criteria` is the Match in force where it was included; its own Match ends with the file."""
    content = reading.files.get(path)
    if content is None or depth > _DEPTH:
        reading.unread.append(path)
        return
    current: dict[str, str] | None = None
    if criteria is not None:
        current = {}
        reading.blocks.append((criteria, *origin, current))
    active = criteria
    for number, line in enumerate(content.split("\n"), 1):
        keyword, rest = _keyword(line)
        keyword = _ALIASES.get(keyword.lower(), keyword.lower())
        if not keyword or keyword.startswith("#"):
            continue
        arguments = words(rest)
        if arguments is None:
            reading.unread.append(f"{path}:{number}")
        elif keyword == "match":
            current = {}
            active = (*(criteria or ()), *_criteria(arguments))
            reading.blocks.append((active, path, number, current))
        elif keyword == "include":
            for pattern in arguments:
                for included in _included(reading, pattern):
                    _walk(reading, included, active, depth + 1, (path, number))
            if active is not None:
                # What follows is a block of its own, so that it stays behind what was included.
                current = {}
                reading.blocks.append((active, path, number, current))
        elif arguments:
            value = " ".join(arguments)
            value = value if keyword == "authorizedkeysfile" else value.lower()
            if current is not None:
                current.setdefault(keyword, value)
            elif keyword not in reading.values:
                reading.values[keyword] = value
                if not reading.unread:
                    reading.settled.add(keyword)


def parse_config(files: Mapping[str, str], known: frozenset[str]) -> SshdConfig:
    """The configuration that begins at /etc/ssh/sshd_config.

    `files` are contents by path; `known` are paths that exist, and directories with a trailing slash whose names could
    be listed. An Include of anything outside both is noted as unread.
    """
    reading = _Reading(files, known)
    _walk(reading, MAIN, None, 0, (MAIN, 0))
    return SshdConfig(
        values=reading.values,
        settled=frozenset(reading.settled),
        matches=tuple(MatchBlock(c, file, line, values) for c, file, line, values in reading.blocks if values),
        unread=tuple(dict.fromkeys(reading.unread)),
    )


def _pattern_list(patterns: str, subject: str) -> bool:
    """Whether a name matches sshd's comma-separated wildcards; a match of a `!` pattern says no at once."""
    hit = False
    for pattern in patterns.split(","):
        negated = pattern.startswith("!")
        glob = pattern.removeprefix("!").replace("[", "[[]")
        if fnmatch.fnmatchcase(subject, glob):
            if negated:
                return False
            hit = True
    return hit


def _address_list(patterns: str, address: str) -> bool | None:
    """Whether an address is in a list of CIDRs and wildcards; None when the list is not understood."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    hit = False
    for pattern in patterns.split(","):
        bare = pattern.strip().removeprefix("!")
        try:
            inside = ip in ipaddress.ip_network(bare, strict=False)
        except ValueError:
            if "/" in bare:
                return None
            inside = fnmatch.fnmatchcase(address, bare)
        if inside and pattern.strip().startswith("!"):
            return False
        hit = hit or inside
    return hit


def applies_to_root(block: MatchBlock, address: str | None) -> bool | None:
    """Whether a Match block holds for root coming from `address`: yes, never for root, or None for "from elsewhere".

    A block that names another user is never for root; one that depends on an address, group, host name or port may be.
    """
    certain = True
    for name, pattern in block.criteria:
        if name == "all":
            continue
        if name == "user":
            if not _pattern_list(pattern, "root"):
                return False
        elif name == "invalid-user":
            return False
        elif name == "address" and address is not None:
            certain = certain and _address_list(pattern, address) is True
        else:
            certain = False
    return True if certain else None
