"""What a TLS endpoint showed: its certificate and chain, what a client thinks of them, the protocols it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dstui.facts.exchange import Exchange
from dstui.facts.lb_seen import TLS, Front
from dstui.facts.raw import Missing
from dstui.model import Evidence, Target

VERSIONS = ("1.0", "1.1", "1.2", "1.3")


class Offer(StrEnum):
    """What came of offering one version of TLS alone."""

    TAKEN = "accepted"
    REFUSED = "refused"
    """By an alert of the server, or by choosing another version."""
    CLOSED = "closed"
    """The server ended the connection without an alert, so why is not known."""
    NOT_OFFERED = "not-offered"
    """This machine's OpenSSL cannot offer it."""
    LOST = "lost"
    """No connection, or no answer in time."""


@dataclass(frozen=True, slots=True)
class Offered:
    """`why` is the alert or what went wrong, in OpenSSL's words; the cipher where it was taken."""

    offer: Offer
    why: str = ""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate. Times are seconds since the epoch, `bits` of the key (RSA modulus, curve), hex in lower case."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: float
    not_after: float
    key: str
    bits: int
    hash: str
    fingerprint: str
    self_issued: bool


@dataclass(frozen=True, slots=True)
class Verified:
    """What verification came to: code 0 is well, others are OpenSSL's X509_V_ERR_*; `message` in its words."""

    code: int
    message: str = ""

    @property
    def good(self) -> bool:
        return self.code == 0


@dataclass(frozen=True, slots=True)
class TlsSeen:
    """One endpoint. `leaf` is Missing where no handshake at all succeeded. `chain` is what the server sent, the leaf
    first; `unsent` names intermediates that completed it only because they are at hand here. `chain_verified` is of the
    chain alone, `name_verified` of the host name alone. `redirect` is `GET http://<host>/`, `page` a request over TLS
    for the headers.

    `bundle` is what is trusted: `system` or a file.
    """

    leaf: Certificate | Missing
    chain: tuple[Certificate, ...] | Missing
    unsent: tuple[str, ...] | Missing
    chain_verified: Verified | Missing
    name_verified: Verified | Missing
    versions: Mapping[str, Offered]
    redirect: Exchange | None
    page: Exchange | None
    bundle: str


@dataclass(frozen=True, slots=True)
class LbTls:
    """`seen` is None when the endpoint is not https, or there is none."""

    front: Front
    seen: TlsSeen | None
    plain: Exchange | None = None
    """What plain http answered, where the endpoint is http."""

    def evidence(self, target: Target) -> tuple[Evidence, ...]:
        kept = [self.plain] if self.plain is not None else []
        if self.seen is None:
            return tuple(exchange.evidence() for exchange in kept)
        kept += [exchange for exchange in (self.seen.redirect, self.seen.page) if exchange is not None]
        lines = _lines(self.seen)
        source = f"openssl s_client -connect {self.front.host}:{self.front.port} -servername {self.front.host}"
        table = "\n".join(lines)
        handshakes = Evidence(f"{TLS}.handshakes", source, None, table, len(table.encode()), 0.0)
        return (handshakes, *(exchange.evidence() for exchange in kept))


def _lines(seen: TlsSeen) -> Sequence[str]:
    lines = []
    if isinstance(seen.leaf, Missing):
        lines.append(seen.leaf.why)
    else:
        lines += [
            f"subject: {seen.leaf.subject}",
            f"issuer: {seen.leaf.issuer}",
            f"names: {', '.join(seen.leaf.names)}",
            f"notAfter: {seen.leaf.not_after:.0f}",
            f"key: {seen.leaf.key} {seen.leaf.bits}, signed with {seen.leaf.hash}",
            f"sha256: {seen.leaf.fingerprint}",
        ]
    if not isinstance(seen.chain, Missing):
        lines += [f"chain {number}: {each.subject} <- {each.issuer}" for number, each in enumerate(seen.chain)]
    for what, verified in (("chain", seen.chain_verified), ("name", seen.name_verified)):
        said = verified.why if isinstance(verified, Missing) else f"{verified.code} {verified.message or 'ok'}"
        lines.append(f"{what} verified: {said}")
    lines += [f"TLS {version}: {each.offer} {each.why}".rstrip() for version, each in seen.versions.items()]
    return lines
