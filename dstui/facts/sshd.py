"""Group `sshd`: how this host lets people log in, as sshd says itself or as its configuration reads."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts.case import Group, HostSite, Site
from dstui.facts.raw import Missing, Op, Raw, glob, listing
from dstui.facts.sshd_config import DIRECTORY, MAIN, SshdConfig, parse_config
from dstui.facts.sudoers import SSHD, SSHD_AS_ROOT, granted, privileged, with_controller
from dstui.model import Reason

_DROP_INS = f"{DIRECTORY}/sshd_config.d"
_CRYPTO_POLICY = "/etc/crypto-policies/back-ends/opensshserver.config"
"""Included by the drop-ins of RHEL and its kin; holds algorithms only."""
_CONFIG_BYTES = 65_536
_KEYS_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class AuthorizedKey:
    """A public key that may log in: its type (`ssh-rsa`), size in bits and OpenSSH SHA256 fingerprint."""

    type: str
    bits: int | None
    fingerprint: str


@dataclass(frozen=True, slots=True)
class AuthorizedKeys:
    """The login user's keys; `unread` counts lines that are no key dstui understands."""

    keys: tuple[AuthorizedKey, ...]
    unread: int


@dataclass(frozen=True, slots=True)
class SshdFacts:
    """`for_root` is `sshd -T -C` for root from the controller, `effective` plain `sshd -T` (Match blocks ignored).

    `config` is what the files say. `loose` names those of the login user's home, `.ssh` and key files that group or
    others may write, each as `path mode`.
    """

    for_root: Mapping[str, str] | Missing
    effective: Mapping[str, str] | Missing
    config: SshdConfig | Missing
    loose: tuple[str, ...] | Missing
    authorized: AuthorizedKeys | Missing


def ops(host: HostSite, site: Site) -> tuple[Op, ...]:
    try:
        as_root: tuple[Op, ...] = (granted("sshd.for-root", with_controller(SSHD_AS_ROOT, host.controller_ip or "")),)
    except ValueError:
        as_root = ()
    return (
        *as_root,
        granted("sshd.effective", SSHD),
        glob("sshd.config", MAIN, f"{_DROP_INS}/*", _CRYPTO_POLICY, each=_CONFIG_BYTES, files=256),
        listing("sshd.names", MAIN, f"{DIRECTORY}/*", f"{_DROP_INS}/*", _CRYPTO_POLICY),
        listing("sshd.home", "~", "~/.ssh", "~/.ssh/authorized_keys", "~/.ssh/authorized_keys2"),
        glob("sshd.authorized", "~/.ssh/authorized_keys", "~/.ssh/authorized_keys2", each=_KEYS_BYTES),
    )


def parse_effective(text: str) -> Mapping[str, str] | None:
    """`sshd -T`: `keyword value` lines, the first of a keyword counts; None when it is not such output."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        keyword, _, value = line.strip().partition(" ")
        values.setdefault(keyword.lower(), value.strip())
    if values.get("permitrootlogin") is None and values.get("pubkeyauthentication") is None:
        return None
    if "kbdinteractiveauthentication" not in values and "challengeresponseauthentication" in values:
        values["kbdinteractiveauthentication"] = values["challengeresponseauthentication"]
    return values


def _effective(raw: Raw, key: str) -> Mapping[str, str] | Missing:
    found = privileged(raw, key)
    if isinstance(found, Missing):
        return found
    values = parse_effective(found.output)
    return values if values is not None else Missing(Reason.PARSE_ERROR, f"{found.source}: not sshd's configuration")


def _complained(error: str, directory: str) -> bool:
    """Whether a host's complaint, in the collector's words or a shell tool's, is about the directory itself."""
    return re.search(rf"{re.escape(directory)}(?![\w./-])", error) is not None


def _config(raw: Raw) -> SshdConfig | Missing:
    files = raw.files("sshd.config")
    names = raw.answer("sshd.names")
    listed = raw.stats("sshd.names")
    if isinstance(files, Missing):
        return files
    if isinstance(listed, Missing) or isinstance(names, Missing):
        return listed if isinstance(listed, Missing) else Missing(Reason.NOT_RUN, "the names in /etc/ssh were not read")
    if MAIN not in listed:
        return Missing(Reason.TOOL_MISSING, f"there is no {MAIN}")
    if MAIN not in files:
        return Missing(Reason.PERMISSION, f"{MAIN} may not be read")
    whole = {path: text for path, text in files.items() if len(text.encode("utf-8", "replace")) < _CONFIG_BYTES}
    open_directories = {f"{place}/" for place in (DIRECTORY, _DROP_INS) if not _complained(names.error, place)}
    return parse_config(whole, frozenset(listed) | open_directories)


def _loose(raw: Raw) -> tuple[str, ...] | Missing:
    stats = raw.stats("sshd.home")
    if isinstance(stats, Missing):
        return stats
    return tuple(
        f"{path} {stat.S_IMODE(row.mode):04o}"
        for path, row in sorted(stats.items())
        if not stat.S_ISLNK(row.mode) and row.mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
_KEY = re.compile(r"(?:^|\s)((?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+)\s+([A-Za-z0-9+/=]+)")
_CURVE = re.compile(r"nistp(\d+)")


def _fields(blob: bytes) -> list[bytes]:
    """The length-prefixed strings of an SSH public key (RFC 4253, 6.6); ValueError when it is cut off."""
    fields = []
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            raise ValueError("cut off")
        fields.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return fields


def _bits(kind: str, fields: list[bytes]) -> int | None:
    if kind == "ssh-rsa" and len(fields) == 3:
        return int.from_bytes(fields[2], "big").bit_length()
    if kind == "ssh-dss" and len(fields) == 5:
        return int.from_bytes(fields[1], "big").bit_length()
    if "ed25519" in kind:
        return 256
    curve = _CURVE.search(kind)
    return int(curve[1][:4]) if curve else None


def parse_authorized(text: str) -> AuthorizedKeys:
    """authorized_keys as types, sizes and fingerprints; the keys themselves are dropped here."""
    keys: list[AuthorizedKey] = []
    unread = 0
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = _KEY.search(_QUOTED.sub('""', line))
        try:
            blob = base64.b64decode(found[2], validate=True) if found else b""
            fields = _fields(blob)
        except (binascii.Error, ValueError):
            fields = []
        if found is None or not fields or fields[0].decode("ascii", "replace") != found[1]:
            unread += 1
            continue
        digest = base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")
        keys.append(AuthorizedKey(found[1], _bits(found[1], fields), f"SHA256:{digest}"))
    return AuthorizedKeys(tuple(keys), unread)


def _authorized(raw: Raw) -> AuthorizedKeys | Missing:
    files = raw.files("sshd.authorized")
    if isinstance(files, Missing):
        return files
    return parse_authorized("\n".join(content for _, content in sorted(files.items())))


def parse(raw: Raw) -> SshdFacts:
    return SshdFacts(
        for_root=_effective(raw, "sshd.for-root"),
        effective=_effective(raw, "sshd.effective"),
        config=_config(raw),
        loose=_loose(raw),
        authorized=_authorized(raw),
    )


GROUP = Group("sshd", SshdFacts, ops, parse)
