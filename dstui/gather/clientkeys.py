"""The operator's own SSH keys: identity files and the agent, and what can be said of a public key.

Only public halves and file names ever appear in messages. Keys behind a passphrase are left to the agent.
"""

from __future__ import annotations

import asyncio
import binascii
import copy
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dstui.model import GatherError, Reason

if TYPE_CHECKING:
    from asyncssh import SSHAgentClient, SSHKeyPair

DEFAULT_IDENTITIES = ("id_ed25519_sk", "id_ecdsa_sk", "id_ed25519", "id_ecdsa", "id_rsa")
AGENT_SECONDS = 5.0
"""How long the agent may take to list its keys; signing may wait for a person's touch and has the connect timeout."""


@dataclass(frozen=True, slots=True)
class PublicKeyFacts:
    """`ssh-ed25519`, `SHA256:…`, 256; bits are None for a type this does not know."""

    type: str
    fingerprint: str
    bits: int | None


def public_key_facts(blob: bytes) -> PublicKeyFacts:
    """Type, fingerprint and size of a public key (not a certificate) in SSH's binary form."""
    kind = _strings(blob, 1)[0].decode("ascii", "replace") if len(blob) > 4 else ""
    fingerprint = "SHA256:" + binascii.b2a_base64(hashlib.sha256(blob).digest(), newline=False).decode().rstrip("=")
    bits: int | None = None
    if kind in ("ssh-rsa", "ssh-dss"):
        # rsa: exponent, modulus; dss: p first.
        number = _strings(blob, 3)[2 if kind == "ssh-rsa" else 1]
        bits = int.from_bytes(number, "big").bit_length()
    elif "ed25519" in kind or "nistp256" in kind:
        bits = 256
    elif "nistp384" in kind:
        bits = 384
    elif "nistp521" in kind:
        bits = 521
    elif "ed448" in kind:
        bits = 456
    return PublicKeyFacts(kind, fingerprint, bits)


def _strings(blob: bytes, count: int) -> list[bytes]:
    found, at = [], 0
    for _ in range(count):
        length = int.from_bytes(blob[at : at + 4], "big")
        found.append(blob[at + 4 : at + 4 + length])
        at += 4 + length
    return found


@dataclass(frozen=True, slots=True)
class Identity:
    """What an identity file holds: usable pairs, or, behind a passphrase, only the public half (None if unknown)."""

    path: Path
    pairs: tuple[SSHKeyPair, ...]
    locked: bool
    public: bytes | None


@dataclass(slots=True)
class ClientKeys:
    """Identity files, read once and again when they change. `load` reads files: call it in a thread."""

    _known: dict[Path, tuple[tuple[int, int], Identity]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self, host: str, identity: Path | None) -> tuple[Identity, ...]:
        """The named identity, GatherError when it cannot be used at all; without a name, those in ~/.ssh."""
        if identity is None:
            return tuple(self._defaults())
        try:
            return (self._read(identity.expanduser()),)
        except OSError as error:
            fault = f"cannot be read ({error.strerror}); correct its path or mode"
        except PermissionsError:
            fault = "can be read by others, so it is not used; make it private: chmod 600"
        except ValueError:
            fault = "holds no private key that can be used"
        raise GatherError(Reason.UNREACHABLE, f"{host}: the SSH identity {identity} {fault}")

    def _defaults(self) -> Iterator[Identity]:
        for name in DEFAULT_IDENTITIES:
            try:
                yield self._read(Path("~/.ssh").expanduser() / name)
            except (OSError, ValueError):
                continue

    def _read(self, path: Path) -> Identity:
        with self._lock:
            status = path.stat()
            if status.st_mode & 0o077:
                raise PermissionsError(path)
            stamp = (status.st_mtime_ns, status.st_size)
            known = self._known.get(path)
            if known is None or known[0] != stamp:
                known = self._known[path] = (stamp, _identity(path))
            return known[1]


class PermissionsError(ValueError):
    """A private key that others can read; ssh does not use those either."""


def _identity(path: Path) -> Identity:
    from asyncssh import KeyImportError, load_keypairs

    try:
        pairs = tuple(load_keypairs([str(path)]))
    except KeyImportError as error:
        if "assphrase" not in str(error):
            raise
        return Identity(path, (), True, _public_half(path))
    return Identity(path, pairs, False, pairs[0].key_public_data if pairs else None)


def _public_half(path: Path) -> bytes | None:
    """The public half of a locked key: from the `.pub` beside it, else from the clear part of OpenSSH's own format."""
    try:
        return binascii.a2b_base64(Path(f"{path}.pub").read_text("utf-8").split()[1])
    except (OSError, ValueError, IndexError):
        pass
    lines = path.read_text("utf-8", "replace").splitlines()
    if not lines or "OPENSSH PRIVATE KEY" not in lines[0]:
        return None
    try:
        body = binascii.a2b_base64("".join(line for line in lines if "-----" not in line))
    except ValueError:
        return None
    magic = b"openssh-key-v1\0"
    if not body.startswith(magic):
        return None
    rest = body[len(magic) :]
    cipher, kdf, options = _strings(rest, 3)
    # Then the number of keys, four bytes, and the first public key.
    return _strings(rest[12 + len(cipher) + len(kdf) + len(options) + 4 :], 1)[0] or None


@dataclass(slots=True)
class Offer:
    """The keys to offer one host, in order, and a diary of it for the error message.

    A named identity goes first, because servers count attempts; a named identity that is locked makes the agent's copy
    of it go first. Every connection has its own agent client: a client whose request was cancelled is out of step.
    """

    identities: tuple[Identity, ...]
    named: bool
    use_agent: bool
    offered: list[PublicKeyFacts] = field(default_factory=list)
    agent_fault: str = ""
    _agent: SSHAgentClient | None = None
    _queue: list[SSHKeyPair] = field(default_factory=list)
    _seen: set[bytes] = field(default_factory=set)
    _turn: int = 0

    async def next(self) -> SSHKeyPair | None:
        """The next pair, best first, each public half once; asks the agent only when it comes to that."""
        while True:
            while self._queue:
                pair = self._queue.pop(0)
                if pair.public_data not in self._seen:
                    self._seen.add(pair.public_data)
                    self.offered.append(public_key_facts(pair.key_public_data))
                    return pair
            locked = {identity.public for identity in self.identities if identity.locked}
            self._turn += 1
            if self._turn > 2:
                return None
            if (self._turn == 1) == (bool(locked) or not self.named):
                self._queue = await self._agent_pairs() if self.use_agent else []
                self._queue.sort(key=lambda pair: pair.key_public_data not in locked)
            else:
                # Copies, because a connection notes in a pair which signature the server wants.
                self._queue = [copy.copy(pair) for identity in self.identities for pair in identity.pairs]

    async def _agent_pairs(self) -> list[SSHKeyPair]:
        from asyncssh import connect_agent

        if not os.environ.get("SSH_AUTH_SOCK"):
            self.agent_fault = "no agent is running (SSH_AUTH_SOCK is not set)"
            return []
        try:
            async with asyncio.timeout(AGENT_SECONDS):
                if self._agent is None:
                    self._agent = await connect_agent()
                return list(await self._agent.get_keys())
        except TimeoutError:
            self.agent_fault = f"the agent did not answer within {AGENT_SECONDS:g} s"
        except (OSError, ValueError) as error:
            self.agent_fault = f"the agent cannot be asked ({error})"
        return []

    def remarks(self) -> str:
        """What an operator should know of keys that could not be offered."""
        offered = {facts.fingerprint for facts in self.offered}
        said = [
            f"{identity.path} is locked by a passphrase and not in the agent: run `ssh-add {identity.path}`"
            for identity in self.identities
            if identity.locked
            and not (identity.public is not None and public_key_facts(identity.public).fingerprint in offered)
        ]
        if self.use_agent and self.agent_fault:
            said.append(self.agent_fault)
        return "; ".join(said)

    def close(self) -> None:
        """End the connection to the agent."""
        if self._agent is not None:
            self._agent.close()
