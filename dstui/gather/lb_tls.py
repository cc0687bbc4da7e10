"""Shakes hands with a TLS endpoint in every way that tells something: what it shows, who believes it, what it takes."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dstui.facts.certificate import parse_certificate
from dstui.facts.exchange import Exchange
from dstui.facts.lb_seen import TLS, Front
from dstui.facts.lb_tls import VERSIONS, Certificate, LbTls, Offer, Offered, TlsSeen, Verified
from dstui.facts.raw import Missing
from dstui.gather.call_faults import connect_fault
from dstui.gather.http import CONNECT_SECONDS
from dstui.gather.lb import Fronting, fronting
from dstui.gather.observing import Observing
from dstui.gather.wording import clean
from dstui.model import Reason

HANDSHAKE_SECONDS = 5.0
_OLD_CIPHERS = "ALL:@SECLEVEL=0"
"""Without this OpenSSL 3 offers no cipher for TLS 1.0 and 1.1, and a probe reports `refused` without having asked."""
_ENCODING_DER = 2
_LEGACY_SERVER_CONNECT = 0x4
"""SSL_OP_LEGACY_SERVER_CONNECT: servers that know no secure renegotiation are still asked for their version."""
_WIRE: Mapping[str, tuple[ssl.TLSVersion, bytes]] = {
    "1.0": (ssl.TLSVersion.TLSv1, b"\x03\x01"),
    "1.1": (ssl.TLSVersion.TLSv1_1, b"\x03\x02"),
    "1.2": (ssl.TLSVersion.TLSv1_2, b"\x03\x03"),
    "1.3": (ssl.TLSVersion.TLSv1_3, b"\x03\x03"),
}
"""How each version is called, and how a ClientHello says it (RFC 8446 4.1.2: 1.3 says that it is 1.2)."""


async def observe_lb_tls(o: Observing) -> object:
    """Handshakes, the redirect on port 80, and the headers of one page."""
    at = await fronting(o, TLS)
    if at.front.url is None:
        return LbTls(at.front, None)
    if not at.front.encrypted:
        async with at.unverified() as asking:
            return LbTls(at.front, None, await asking.get("plain", at.health_path))
    shaken = await _shake(at.front, at.trust)
    redirect, page = await _pages(at)
    bundle = o.inventory.document.lb.ca_bundle or "system"
    return LbTls(
        at.front,
        TlsSeen(
            leaf=shaken.leaf,
            chain=shaken.chain,
            unsent=shaken.unsent,
            chain_verified=shaken.chain_verified,
            name_verified=shaken.name_verified,
            versions=shaken.versions,
            redirect=redirect,
            page=page,
            bundle=bundle,
        ),
    )


async def _pages(at: Fronting) -> tuple[Exchange, Exchange]:
    host = f"[{at.front.host}]" if ":" in at.front.host else at.front.host
    async with at.unverified() as asking:
        redirect = await asking.caller.call(
            f"{TLS}.front.redirect", "GET", f"http://{host}/", seconds=HANDSHAKE_SECONDS
        )
        return redirect, await asking.get("page", at.health_path, seconds=HANDSHAKE_SECONDS)


@dataclass(slots=True)
class _Shaken:
    leaf: Certificate | Missing
    chain: tuple[Certificate, ...] | Missing
    unsent: tuple[str, ...] | Missing
    chain_verified: Verified | Missing
    name_verified: Verified | Missing
    versions: dict[str, Offered]


async def _shake(front: Front, trust: ssl.SSLContext) -> _Shaken:
    never = Missing(Reason.NOT_RUN, "no certificate came")
    lost: Missing
    try:
        async with _connected(front, _open_context()) as tls:
            der = tls.getpeercert(binary_form=True) or b""
            sent = _chain(tls, "get_unverified_chain")
    except (OSError, ValueError, EOFError) as error:
        lost = _lost(front, error)
        return _Shaken(lost, lost, lost, lost, lost, {})
    chain = never if sent is None else _certificates(sent)
    verified, unsent = await _verify_chain(front, trust, sent)
    return _Shaken(
        leaf=parse_certificate(der),
        chain=chain,
        unsent=unsent,
        chain_verified=verified,
        name_verified=await _verify(front, _pinned(der)),
        versions={version: await _offer(front, version) for version in VERSIONS},
    )


def _open_context() -> ssl.SSLContext:
    """Takes whatever the server has."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _lenient(context)
    return context


def _lenient(context: ssl.SSLContext) -> None:
    """Nothing but trust keeps it from a handshake: versions and key sizes are judged apart."""
    with warnings.catch_warnings():
        # Python warns of old versions; asking for them is the point.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.options |= _LEGACY_SERVER_CONNECT
    context.set_ciphers(_OLD_CIPHERS)


def _pinned(der: bytes) -> ssl.SSLContext:
    """Trusts this one certificate, so that only its name can be wrong (or its time)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _lenient(context)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=der)
    return context


async def _verify_chain(
    front: Front, trust: ssl.SSLContext, sent: list[bytes] | None
) -> tuple[Verified | Missing, tuple[str, ...] | Missing]:
    """What the trusted roots say of the chain, and the intermediates that they had to add themselves."""
    trust.check_hostname = False
    _lenient(trust)
    untold = Missing(Reason.TOOL_MISSING, "this Python does not tell the chain")
    try:
        async with _connected(front, trust) as tls:
            built = _chain(tls, "get_verified_chain")
    except (OSError, ValueError, EOFError) as error:
        return _verification(front, error), Missing(Reason.NOT_RUN, "the chain does not verify")
    if built is None or sent is None:
        return Verified(0), untold
    added = _certificates([der for der in built[1:] if der not in sent])
    unsent = added if isinstance(added, Missing) else tuple(each.subject for each in added if not each.self_issued)
    return Verified(0), unsent


async def _verify(front: Front, context: ssl.SSLContext) -> Verified | Missing:
    try:
        async with _connected(front, context):
            return Verified(0)
    except (OSError, ValueError, EOFError) as error:
        return _verification(front, error)


def _verification(front: Front, error: BaseException) -> Verified | Missing:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Verified(error.verify_code, clean(error.verify_message, limit=120))
    return _lost(front, error)


def _lost(front: Front, error: BaseException) -> Missing:
    url = front.url or ""
    if isinstance(error, TimeoutError):
        return Missing(Reason.TIMEOUT, f"{url}: no handshake within {CONNECT_SECONDS + HANDSHAKE_SECONDS:g} s")
    return connect_fault(url, error, CONNECT_SECONDS)[1]


@asynccontextmanager
async def _connected(front: Front, context: ssl.SSLContext) -> AsyncIterator[ssl.SSLObject]:
    """One connection with its handshake done. Raises OSError (also its TLS and timeout kinds), ValueError, EOFError."""
    async with asyncio.timeout(CONNECT_SECONDS + HANDSHAKE_SECONDS):
        _, writer = await asyncio.open_connection(front.host, front.port, ssl=context, server_hostname=front.host)
    try:
        found = writer.get_extra_info("ssl_object")
        if not isinstance(found, ssl.SSLObject):
            raise EOFError("the connection ended")
        yield found
    finally:
        writer.transport.abort()


def _chain(tls: ssl.SSLObject, method: str) -> list[bytes] | None:
    """A chain in DER form. Public from Python 3.13 on; before, the object within has it. None where neither does."""
    for holder in (tls, getattr(tls, "_sslobj", None)):
        give = getattr(holder, method, None)
        if callable(give):
            return [each if isinstance(each, bytes) else each.public_bytes(_ENCODING_DER) for each in give() or ()]
    return None


def _certificates(chain: list[bytes]) -> tuple[Certificate, ...] | Missing:
    found: list[Certificate] = []
    for der in chain[:10]:
        each = parse_certificate(der)
        if isinstance(each, Missing):
            return each
        found.append(each)
    return tuple(found)


async def _offer(front: Front, version: str) -> Offered:
    """Offers one version alone, after making sure that this machine's OpenSSL really does."""
    context = _only(version)
    if isinstance(context, Offered):
        return context
    try:
        async with _connected(front, context) as tls:
            cipher = tls.cipher()
            return Offered(Offer.TAKEN, cipher[0] if cipher is not None else "")
    except ssl.SSLError as error:
        return _unaccepted(error)
    except (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, EOFError) as error:
        return Offered(Offer.CLOSED, type(error).__name__)
    except (OSError, ValueError) as error:
        return Offered(Offer.LOST, clean(str(error) or type(error).__name__, limit=80))


def _unaccepted(error: ssl.SSLError) -> Offered:
    reason = clean(error.reason or str(error), limit=80)
    if "ALERT" in reason or reason in ("UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW"):
        return Offered(Offer.REFUSED, reason)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or "EOF" in reason:
        return Offered(Offer.CLOSED, reason)
    # The server went on with the version, and something else broke: it may well have taken it.
    return Offered(Offer.LOST, reason)


def _only(version: str) -> ssl.SSLContext | Offered:
    """A context that offers one version; Offered(not-offered) when OpenSSL makes no ClientHello with it."""
    wanted, wire = _WIRE[version]
    context = _open_context()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = wanted
            context.maximum_version = wanted
        outgoing = ssl.MemoryBIO()
        hello = context.wrap_bio(ssl.MemoryBIO(), outgoing)
        try:
            hello.do_handshake()
        except ssl.SSLWantReadError:
            said = outgoing.read()
    except (ssl.SSLError, ValueError) as error:
        why = getattr(error, "reason", None) or str(error)
        return Offered(Offer.NOT_OFFERED, f"{clean(str(why), limit=80)}, {ssl.OPENSSL_VERSION}")
    # Record header of 5 bytes, handshake header of 4, then the version (RFC 5246 7.4.1.2).
    if said[9:11] != wire:
        return Offered(Offer.NOT_OFFERED, f"{ssl.OPENSSL_VERSION} offers another version instead")
    return context
