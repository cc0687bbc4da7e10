"""Reads ~/.ssh/config for `dstui init`: which hosts it names and how they are reached. Runs nothing it finds there.

Host, Include, HostName, User, Port, IdentityFile and ProxyJump are understood, the first value wins as in ssh.
`Match` blocks other than `Match all` are passed over: they may need a command to be run.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from dstui.model import UsageError

_KEYS = frozenset({"hostname", "user", "port", "identityfile", "proxyjump"})
_MAX_INCLUDES = 16
_MAX_BYTES = 1024 * 1024
_LINE = re.compile(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*)")
_HOP = re.compile(r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?P<host>\[[^\]]+\]|[^:\s]+)(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class ConfiguredHop:
    """A host on the way, with everything the configuration says of it."""

    host: str
    user: str | None
    port: int
    identity: Path | None


@dataclass(frozen=True, slots=True)
class ConfiguredHost:
    """One `Host` entry without wildcards; `hostname` is the alias itself where none is given."""

    alias: str
    hostname: str
    user: str | None
    port: int
    identity: Path | None
    jump: tuple[ConfiguredHop, ...]


@dataclass
class SshConfig:
    """Settings in the order of the file, each with the `Host` patterns it stands under."""

    home: Path
    settings: list[tuple[tuple[str, ...], str, str]] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)

    def hosts(self) -> tuple[ConfiguredHost, ...]:
        """Every named host in file order."""
        return tuple(self._host(alias) for alias in dict.fromkeys(self.aliases))

    def jump_aliases(self) -> frozenset[str]:
        """The names that others give as ProxyJump."""
        written = [value for _, key, value in self.settings if key == "proxyjump"]
        return frozenset(self._hop_alias(part) for value in written for part in value.split(","))

    def _host(self, alias: str) -> ConfiguredHost:
        said = self._said(alias)
        return ConfiguredHost(
            alias=alias,
            hostname=said.get("hostname", "%h").replace("%h", alias),
            user=said.get("user"),
            port=_port(said.get("port")),
            identity=self._identity(said.get("identityfile"), alias),
            jump=self._jump(said.get("proxyjump"), depth=0),
        )

    def _said(self, alias: str) -> dict[str, str]:
        said: dict[str, str] = {}
        for patterns, key, value in self.settings:
            if _matches(alias, patterns):
                said.setdefault(key, value)
        return said

    def _identity(self, written: str | None, alias: str) -> Path | None:
        if written is None or written.lower() == "none":
            return None
        text = written.replace("%d", str(self.home)).replace("%h", alias).replace("%%", "%")
        if text.startswith("~/"):
            text = str(self.home / text[2:])
        return Path(text) if text.startswith("/") and "%" not in text and "$" not in text else None

    def _jump(self, written: str | None, depth: int) -> tuple[ConfiguredHop, ...]:
        if written is None or written.lower() == "none" or depth > 8:
            return ()
        hops: list[ConfiguredHop] = []
        for i, part in enumerate(written.split(",")):
            match = _HOP.fullmatch(part.strip())
            if not match:
                continue
            alias = match["host"].strip("[]")
            said = self._said(alias)
            if i == 0:
                hops.extend(self._jump(said.get("proxyjump"), depth + 1))
            hops.append(
                ConfiguredHop(
                    host=said.get("hostname", "%h").replace("%h", alias),
                    user=match["user"] or said.get("user"),
                    port=_port(match["port"] or said.get("port")),
                    identity=self._identity(said.get("identityfile"), alias),
                )
            )
        return tuple(hops)

    @staticmethod
    def _hop_alias(part: str) -> str:
        match = _HOP.fullmatch(part.strip())
        return match["host"].strip("[]") if match else ""


def read_ssh_config(path: Path, *, home: Path | None = None) -> SshConfig:
    """The configuration in a file and what it includes; UsageError when it cannot be read."""
    config = SshConfig(home or Path.home())
    _read(path, config, ("*",), depth=0)
    return config


def _read(path: Path, config: SshConfig, patterns: tuple[str, ...], depth: int) -> tuple[str, ...]:
    """Reads one file into `config`, starting under `patterns`; the patterns in force at its end."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); or name hosts: `dstui init gpu-01`") from None
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if not match:
            continue
        key, words = match[1].lower(), _words(match[2])
        if key == "host":
            patterns = tuple(words)
            config.aliases.extend(word for word in words[:1] if not re.search(r"[*?!]", word))
        elif key == "match":
            patterns = ("*",) if [word.lower() for word in words] == ["all"] else ()
        elif key == "include" and depth < _MAX_INCLUDES:
            for included in _included(words, config.home):
                _read(included, config, patterns, depth + 1)
        elif key in _KEYS and words:
            config.settings.append((patterns, key, words[0]))
    return patterns


def _included(words: list[str], home: Path) -> list[Path]:
    found: list[Path] = []
    for word in words:
        text = str(home / word[2:]) if word.startswith("~/") else word
        base = Path("/") if text.startswith("/") else home / ".ssh"
        try:
            found.extend(sorted(p for p in base.glob(text.lstrip("/")) if p.is_file()))
        except (ValueError, OSError, NotImplementedError):
            continue
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()


def _matches(alias: str, patterns: tuple[str, ...]) -> bool:
    matched = False
    for pattern in patterns:
        negated = pattern.startswith("!")
        shape = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern.removeprefix("!"))
        if re.fullmatch(shape, alias):
            if negated:
                return False
            matched = True
    return matched


def _port(written: str | None) -> int:
    return int(written) if written and written.isdecimal() and 0 < int(written) < 65536 else 22
