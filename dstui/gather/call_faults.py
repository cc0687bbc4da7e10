"""What went wrong with a request, in words an operator can act on: never an exception's own, which may quote a key."""

from __future__ import annotations

import errno
import socket
import ssl

import httpx

from dstui.facts.exchange import Fault
from dstui.facts.raw import Missing
from dstui.gather.causes import causes
from dstui.gather.wording import clean
from dstui.model import Reason

_CERTIFICATE = {
    9: "its certificate is not valid yet; compare the clocks",
    10: "its certificate has expired",
    18: "its certificate is self-signed; name the CA in lb.ca_bundle",
    19: "its chain ends in a CA that is not trusted here; name the CA in lb.ca_bundle",
    20: "its issuer is not trusted here, or the chain is incomplete; name the CA in lb.ca_bundle",
    21: "its issuer is not trusted here, or the chain is incomplete; name the CA in lb.ca_bundle",
    23: "its certificate has been revoked",
    62: "its certificate is for another name",
    64: "its certificate is for another address",
}
"""OpenSSL's X509_V_ERR_* (x509_vfy.h)."""

_HANDSHAKE = {
    "WRONG_VERSION_NUMBER": "what listens there does not speak TLS; is it http?",
    "HTTP_REQUEST": "what listens there does not speak TLS; is it http?",
    "RECORD_LAYER_FAILURE": "what listens there does not speak TLS; is it http?",
    "UNSUPPORTED_PROTOCOL": "it offers only TLS versions that are too old",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it refuses TLS 1.2 and newer",
    "NO_PROTOCOLS_AVAILABLE": "there is no TLS version in common",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refused the handshake: no cipher in common, or it wants a client certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a client certificate",
    "TLSV1_UNRECOGNIZED_NAME": "it does not know this host name",
    "UNEXPECTED_EOF_WHILE_READING": "it closed the connection during the handshake",
    "DH_KEY_TOO_SMALL": "its key exchange is too weak",
    "EE_KEY_TOO_SMALL": "the key of its certificate is too short",
    "CA_MD_TOO_WEAK": "its chain is signed with a hash that is too weak",
}
"""OpenSSL's reasons as Python's ssl names them."""


def connect_fault(url: str, error: BaseException, seconds: float) -> tuple[Fault, Missing]:
    """Why no connection was made. `seconds` is how long was waited for it."""
    found = list(causes(error))
    for cause in found:
        if isinstance(cause, ssl.SSLWantReadError):
            return Fault.TLS, Missing(Reason.TIMEOUT, f"{url}: TLS: no answer to the handshake within {seconds:g} s")
        if isinstance(cause, ssl.SSLError):
            return Fault.TLS, Missing(Reason.CANNOT_TELL, f"{url}: TLS: {tls_words(cause)}")
    if any(isinstance(cause, socket.gaierror) for cause in found):
        return Fault.NAME, Missing(Reason.UNREACHABLE, f"{url}: the host name does not resolve here")
    numbers = {cause.errno for cause in found if isinstance(cause, OSError)}
    if errno.ECONNREFUSED in numbers:
        return Fault.REFUSED, Missing(Reason.UNREACHABLE, f"{url}: connection refused: nothing listens there")
    if numbers & {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN}:
        return Fault.ROUTE, Missing(Reason.UNREACHABLE, f"{url}: there is no route to it")
    if errno.ENOENT in numbers:
        return Fault.REFUSED, Missing(Reason.UNREACHABLE, f"{url}: the tunnel to it is gone")
    timed_out = isinstance(error, httpx.TimeoutException) or any(isinstance(c, TimeoutError) for c in found)
    if timed_out or errno.ETIMEDOUT in numbers:
        why = f"{url}: no connection within {seconds:g} s; is a firewall in between?"
        return Fault.CONNECT_TIMEOUT, Missing(Reason.TIMEOUT, why)
    if numbers & {errno.ECONNRESET, errno.EPIPE}:
        return Fault.BROKE_OFF, Missing(Reason.CANNOT_TELL, f"{url}: the connection was reset while it was being made")
    return Fault.ROUTE, Missing(Reason.UNREACHABLE, f"{url}: no connection ({clean(str(error), limit=120)})")


def tls_words(error: ssl.SSLError) -> str:
    """A failed handshake in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        known = _CERTIFICATE.get(error.verify_code)
        if known is None or error.verify_code in (62, 64):
            said = clean(error.verify_message or "the certificate is not accepted", limit=160)
            return said if known is None else f"{known} ({said})"
        return known
    reason = error.reason or ""
    return _HANDSHAKE.get(reason) or f"the handshake failed ({clean(reason or str(error), limit=80)})"


def broke_off(url: str, error: BaseException) -> tuple[Fault, Missing]:
    """Why an answer did not come over a connection that had been made."""
    for cause in causes(error):
        if isinstance(cause, ssl.SSLError):
            return Fault.TLS, Missing(Reason.CANNOT_TELL, f"{url}: TLS: {tls_words(cause)}")
    if isinstance(error, httpx.RemoteProtocolError):
        # h11 quotes what the server sent; that is evidence, cut short.
        return Fault.BROKE_OFF, Missing(
            Reason.CANNOT_TELL, f"{url}: the server broke off ({clean(str(error), limit=120)})"
        )
    numbers = {cause.errno for cause in causes(error) if isinstance(cause, OSError)}
    if errno.ECONNRESET in numbers:
        return Fault.BROKE_OFF, Missing(Reason.CANNOT_TELL, f"{url}: the server reset the connection")
    return Fault.BROKE_OFF, Missing(Reason.CANNOT_TELL, f"{url}: the connection broke ({type(error).__name__})")
