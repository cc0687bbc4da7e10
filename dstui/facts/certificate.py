"""A certificate's fields, read from its DER form with `cryptography`."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from dstui.facts.lb_tls import Certificate
from dstui.facts.raw import Missing
from dstui.model import Reason

_NAME_LENGTH = 200


def parse_certificate(der: bytes) -> Certificate | Missing:
    """The certificate; Missing(parse-error) for anything that is none."""
    try:
        return _read(x509.load_der_x509_certificate(der))
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension) as error:
        return Missing(Reason.PARSE_ERROR, f"the certificate cannot be read ({type(error).__name__})")


def _read(found: x509.Certificate) -> Certificate:
    kind, bits = _key(found)
    hashed = found.signature_hash_algorithm
    return Certificate(
        subject=found.subject.rfc4514_string()[:_NAME_LENGTH],
        issuer=found.issuer.rfc4514_string()[:_NAME_LENGTH],
        names=_names(found),
        not_before=found.not_valid_before_utc.timestamp(),
        not_after=found.not_valid_after_utc.timestamp(),
        key=kind,
        bits=bits,
        # Ed25519 hashes within, and has no name for it.
        hash=hashed.name if hashed is not None else "none",
        fingerprint=found.fingerprint(hashes.SHA256()).hex(),
        self_issued=found.issuer == found.subject,
    )


def _key(found: x509.Certificate) -> tuple[str, int]:
    try:
        key = found.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "unknown", 0
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA", key.key_size
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "ECDSA", key.key_size
    if isinstance(key, dsa.DSAPublicKey):
        return "DSA", key.key_size
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "Ed25519", 256
    return ("Ed448", 456) if isinstance(key, ed448.Ed448PublicKey) else ("unknown", 0)


def _names(found: x509.Certificate) -> tuple[str, ...]:
    """DNS names and addresses that it is for."""
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    dns = names.get_values_for_type(x509.DNSName)
    return (*dns, *(str(address) for address in names.get_values_for_type(x509.IPAddress)))
