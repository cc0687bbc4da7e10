"""The SSH algorithms that dstui offers: the cheapest sound ones first, older servers still find something at the end.

Measured against asyncssh's own order; answers are small, so nothing is compressed.
"""

from __future__ import annotations

KEY_EXCHANGES = (
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "mlkem768x25519-sha256",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
)
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
    "aes192-ctr",
)
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
    "hmac-sha1",
)
HOST_KEYS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-ed448",
    "ssh-rsa",
)


def host_key_algorithms(known: list[str], *, certificates: bool) -> list[str]:
    """What to ask a server to prove itself with: certificates if an authority is known, then the known types first.

    The others follow, so that a host whose key has changed its type is seen as changed, not as incompatible.
    """
    plain = [name for name in known if name in HOST_KEYS]
    plain += [name for name in HOST_KEYS if name not in plain]
    if not certificates:
        return plain
    return [f"{name.removesuffix('@openssh.com')}-cert-v01@openssh.com" for name in HOST_KEYS] + plain
