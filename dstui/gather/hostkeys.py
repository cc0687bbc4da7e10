"""Which SSH host keys are trusted: known_hosts files, read strictly, and what to tell the operator when one is not.

Stricter than OpenSSH in two places: a host that is known by keys of other types only counts as changed, and
`--accept-new-host-keys` never accepts for a host of which any key is known.
"""

from __future__ import annotations

import fcntl
import os
import threading
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from dstui.model import GatherError, Reason

if TYPE_CHECKING:
    from asyncssh import SSHKey, SSHKnownHosts

DEFAULT_KNOWN_HOSTS = Path("~/.ssh/known_hosts")


class Trusted(Enum):
    """What known_hosts says of a key that a host presented."""

    KNOWN = "known"
    NEW = "new"
    CHANGED = "changed"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class HostTrust:
    """What a known_hosts file says of one host and port. `name` is the host as such a file spells it.

    `keys` may be presented; `own` says that they stand under exactly this name, not only under the host without its
    port; `authorities` may sign host certificates; `revoked` keys are refused whatever else is said of them.
    """

    path: Path
    name: str
    keys: tuple[SSHKey, ...] = ()
    own: bool = False
    authorities: tuple[SSHKey, ...] = ()
    revoked: tuple[SSHKey, ...] = ()
    remark: str = ""

    def judge(self, key: SSHKey) -> Trusted:
        if key in self.revoked:
            return Trusted.REVOKED
        if key in self.keys:
            return Trusted.KNOWN
        return Trusted.CHANGED if self.own else Trusted.NEW


@dataclass(slots=True)
class _Parsed:
    stamp: tuple[int, int, int]
    hosts: SSHKnownHosts
    bad_lines: tuple[int, ...]


@dataclass(slots=True)
class HostKeys:
    """All known_hosts files in use; each is parsed once, and again when it has changed.

    `trust` and `record` read and write files: call them in a thread.
    """

    accept_new: bool = False
    _parsed: dict[Path, _Parsed] = field(default_factory=dict)
    _accepted: dict[tuple[Path, str], SSHKey] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def trust(self, path: Path | None, host: str, port: int) -> HostTrust:
        """What is known of `host` and `port`; a file that does not exist knows nothing. GatherError if unreadable."""
        file = (path or DEFAULT_KNOWN_HOSTS).expanduser()
        host = host.lower()
        name = host if port == 22 else f"[{host}]:{port}"
        with self._lock:
            try:
                parsed = self._load(file)
            except FileNotFoundError:
                return HostTrust(file, name, remark=", which does not exist yet")
            except OSError as error:
                raise GatherError(
                    Reason.UNREACHABLE,
                    f"{host}: the known_hosts file {file} cannot be read ({error.strerror}), "
                    "so its host key cannot be checked; make it readable for you or name another one",
                ) from error
        keys, authorities, revoked = _match(parsed.hosts, name)
        own = bool(keys)
        if name != host:
            # As OpenSSH does: an entry without the port also vouches for the host on another port.
            bare_keys, bare_authorities, bare_revoked = _match(parsed.hosts, host)
            keys, authorities = keys or bare_keys, authorities or bare_authorities
            revoked += bare_revoked
        lines = ", ".join(map(str, parsed.bad_lines[:3]))
        return HostTrust(
            file,
            name,
            tuple(key for key in keys if key not in revoked),
            own,
            authorities,
            revoked,
            f" (line {lines} of which makes no sense)" if lines else "",
        )

    def may_accept(self, trust: HostTrust, key: SSHKey) -> bool:
        """Whether a NEW key is to be accepted now: only when asked to, and only one key per host."""
        if not self.accept_new or trust.judge(key) is not Trusted.NEW:
            return False
        return self._accepted.setdefault((trust.path, trust.name), key) == key

    def record(self, trust: HostTrust, key: SSHKey) -> None:
        """Append an accepted key to its file (made with mode 0600), once, whoever else is doing the same. OSError."""
        line = f"{trust.name} {key.export_public_key().decode('ascii').strip()}\n"
        wanted = " ".join(line.split()[:3])
        with self._lock:
            trust.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(trust.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                there = file.read().decode("utf-8", "replace")
                if any(" ".join(known.split()[:3]) == wanted for known in there.splitlines()):
                    return
                separator = "" if not there or there.endswith("\n") else "\n"
                file.write((separator + line).encode())
                os.fsync(file.fileno())

    def _load(self, path: Path) -> _Parsed:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            known = self._parsed.get(path)
            if known is None or known.stamp != stamp:
                known = self._parsed[path] = _parse(file.read().decode("utf-8", "replace"), stamp)
            return known


def _parse(text: str, stamp: tuple[int, int, int]) -> _Parsed:
    from asyncssh import import_known_hosts

    try:
        return _Parsed(stamp, import_known_hosts(text), ())
    except ValueError:
        # One line that cannot be read must not take all other hosts away, as it does not in OpenSSH.
        good, bad = [], []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                import_known_hosts(line)
                good.append(line)
            except ValueError:
                bad.append(number)
        return _Parsed(stamp, import_known_hosts("\n".join(good)), tuple(bad))


def _match(hosts: SSHKnownHosts, name: str) -> tuple[tuple[SSHKey, ...], tuple[SSHKey, ...], tuple[SSHKey, ...]]:
    # The peer's address is left out on purpose: what is known of an address vouches for no name that points to it.
    keys, authorities, revoked, *_ = hosts.match(name, "", None)
    return tuple(keys), tuple(authorities), tuple(revoked)


def refusal(host: str, address: str, port: int, trust: HostTrust, key: SSHKey, *, jumped: bool) -> str:
    """Why a key was refused, with its fingerprint and the commands that change it."""
    kind = key.get_algorithm()
    shown = f"{kind} {key.get_fingerprint()}"
    where = f"{address}:{port}"
    scan = f"ssh-keyscan -p {port} -t {_scan_type(kind)} {quote(address)} >> {quote(str(trust.path))}"
    if jumped:
        scan = f"`ssh` to it once by hand through the jump host with UserKnownHostsFile={quote(str(trust.path))}"
    else:
        scan = f"`{scan}`"
    verdict = trust.judge(key)
    if verdict is Trusted.REVOKED:
        return (
            f"{host}: {where} presented the host key {shown}, which {trust.path} marks as @revoked. "
            "Do not connect; give the host a new key, or remove the @revoked line if it is wrong"
        )
    if verdict is Trusted.NEW:
        return (
            f"{host}: the host key of {where} is not known: {shown} is not in {trust.path}{trust.remark}. "
            f"Compare the fingerprint on the host's console, then accept it with "
            f"`dstui run --accept-new-host-keys` or {scan}"
        )
    known = ", ".join(f"{k.get_algorithm()} {k.get_fingerprint()}" for k in trust.keys)
    return (
        f"{host}: THE HOST KEY OF {where} HAS CHANGED: it presented {shown}, {trust.path} knows "
        f"{known or 'only revoked keys'}. The host was reinstalled, or somebody is listening in; dstui never accepts "
        f"this by itself. Ask its owner, then `ssh-keygen -f {quote(str(trust.path))} -R {quote(trust.name)}` "
        f"and {scan}"
    )


def _scan_type(algorithm: str) -> str:
    for prefix, name in (("ssh-ed25519", "ed25519"), ("ecdsa", "ecdsa"), ("sk-ecdsa", "ecdsa-sk")):
        if algorithm.startswith(prefix):
            return name
    return "ed25519-sk" if algorithm.startswith("sk-") else "rsa"
