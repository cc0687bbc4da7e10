"""Why a host could not be reached or was lost, as one sentence that says what to do next."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from dstui.gather.wording import clean
from dstui.model import GatherError, Reason

if TYPE_CHECKING:
    from dstui.gather.clientkeys import PublicKeyFacts


class Stage(IntEnum):
    """How far a connection came."""

    TCP = 0
    GREETING = 1
    KEX = 2
    AUTH = 3
    OPEN = 4


@dataclass(slots=True)
class Attempt:
    """The diary of one connection. `via` is the jump host's address; `timeout` is in seconds."""

    label: str
    address: str
    port: int
    user: str
    timeout: float
    via: str | None = None
    stage: Stage = Stage.TCP
    methods: tuple[str, ...] = ()
    offered: tuple[PublicKeyFacts, ...] = ()
    remarks: str = ""
    banner: str = ""

    def saw_method(self, method: str) -> None:
        """The server lets users in by `method`."""
        if method not in self.methods:
            self.methods += (method,)

    @property
    def where(self) -> str:
        through = f" through {self.via}" if self.via else ""
        return f"{self.address}:{self.port}{through}"


class LoginRefusedError(GatherError):
    """The server was reached, its key is right, and it did not let the operator in."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.UNREACHABLE, message)


def explain(error: Exception, attempt: Attempt, *, session_open: bool = False) -> GatherError:
    """The GatherError for an exception of asyncssh or of a socket. With `session_open` an established link was lost."""
    import asyncssh

    if isinstance(error, GatherError):
        return error
    if session_open:
        return _lost(error, attempt)
    if isinstance(error, asyncssh.PermissionDenied) or _too_many_keys(error):
        return LoginRefusedError(_refused_user(attempt, too_many=not isinstance(error, asyncssh.PermissionDenied)))
    if isinstance(error, asyncssh.ChannelOpenError):
        return _unreachable(_no_channel(error.code, error.reason, attempt))
    if isinstance(error, TimeoutError):
        return _unreachable(_timed_out(attempt))
    if isinstance(error, asyncssh.DisconnectError):
        return _unreachable(_no_conversation(error, attempt))
    if isinstance(error, OSError):
        return _unreachable(_no_connection(error, attempt))
    return _unreachable(f"{attempt.label}: connecting to {attempt.where} failed: {clean(str(error))}")


def _unreachable(words: str) -> GatherError:
    return GatherError(Reason.UNREACHABLE, words)


def _too_many_keys(error: Exception) -> bool:
    return "too many authentication failures" in str(error).lower()


def _lost(error: Exception, attempt: Attempt) -> GatherError:
    if "keepalive" in str(error):
        return GatherError(
            Reason.TIMEOUT,
            f"{attempt.label}: stopped answering: no reply to SSH keepalives from {attempt.where}. "
            "The host or its sshd hangs, or the network to it is cut; look at its console and run again",
        )
    return _unreachable(
        f"{attempt.label}: the SSH connection to {attempt.where} was lost ({clean(str(error)) or 'closed'}); run again"
    )


def _timed_out(attempt: Attempt) -> str:
    within = f"within {attempt.timeout:g} s"
    if attempt.stage is Stage.TCP:
        return (
            f"{attempt.label}: no answer from {attempt.where} {within}. The host is down or a firewall drops packets; "
            f"try `nc -vz {attempt.address} {attempt.port}`"
        )
    if attempt.stage is Stage.GREETING:
        return (
            f"{attempt.label}: {attempt.where} accepts connections but sent no SSH greeting {within}. sshd hangs or is "
            "overloaded (MaxStartups); look at it on the host's console"
        )
    what = "the key exchange" if attempt.stage is Stage.KEX else f"the login as {attempt.user}"
    return (
        f"{attempt.label}: {attempt.where} did not finish {what} {within}. The host is overloaded or its login (PAM, "
        f"directory service, an agent waiting for a touch) hangs; time `ssh -p {attempt.port} {attempt.user}@"
        f"{attempt.address} true`, and raise ssh.connect_timeout_s if it is only slow"
    )


def _no_connection(error: OSError, attempt: Attempt) -> str:
    if isinstance(error, socket.gaierror):
        return (
            f"{attempt.label}: the name {attempt.address} does not resolve here ({clean(str(error.strerror))}). "
            "Correct the address in the inventory, or DNS or /etc/hosts on this machine"
        )
    if isinstance(error, ConnectionRefusedError):
        return (
            f"{attempt.label}: {attempt.where} refuses connections. Check the port in the inventory and that sshd "
            "runs: `systemctl status ssh` on the host's console"
        )
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN):
        return (
            f"{attempt.label}: there is no route to {attempt.where} ({error.strerror}). Check the address, "
            f"`ip route get {attempt.address}` and whether the host is up"
        )
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return _hung_up(attempt)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{attempt.label}: this machine has no file descriptors left for another connection; raise `ulimit -n`"
    return f"{attempt.label}: connecting to {attempt.where} failed: {clean(error.strerror or str(error))}"


def _hung_up(attempt: Attempt) -> str:
    if attempt.stage <= Stage.GREETING:
        return (
            f"{attempt.label}: {attempt.where} closed the connection before its SSH greeting. fail2ban, TCP wrappers "
            "or MaxStartups keep this machine out; look into the host's auth log"
        )
    step = "during the key exchange" if attempt.stage is Stage.KEX else f"while {attempt.user} logged in"
    return f"{attempt.label}: {attempt.where} closed the connection {step}; the reason is in the host's auth log"


def _no_conversation(error: Exception, attempt: Attempt) -> str:
    import asyncssh

    said = clean(str(error))
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return (
            f"{attempt.label}: the host key of {attempt.where} is not trusted: {said}. "
            "Ask the host's owner which key or certificate it should have, and correct known_hosts"
        )
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return (
            f"{attempt.label}: {attempt.where} and dstui have no algorithm in common ({said}). "
            "Update the host's OpenSSH or its sshd_config"
        )
    if isinstance(error, asyncssh.ConnectionLost):
        return _hung_up(attempt)
    if isinstance(error, asyncssh.ProtocolError | asyncssh.ProtocolNotSupported):
        return f"{attempt.label}: {attempt.where} does not speak SSH properly ({said}). Check the port in the inventory"
    return f"{attempt.label}: {attempt.where} ended the connection: {said}"


def _no_channel(code: int, reason: str, attempt: Attempt) -> str:
    import asyncssh

    said = clean(reason)
    if attempt.stage is Stage.OPEN:
        return (
            f"{attempt.label}: logged in, but {attempt.where} opens no session ({said}). "
            "Check MaxSessions and ForceCommand in its sshd_config"
        )
    if code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        return (
            f"{attempt.label}: the jump host {attempt.via} may not forward to {attempt.address}:{attempt.port} "
            f"({said}). Allow it there: AllowTcpForwarding and PermitOpen in sshd_config"
        )
    return (
        f"{attempt.label}: the jump host {attempt.via} cannot connect to {attempt.address}:{attempt.port} ({said}). "
        f"Try `nc -vz {attempt.address} {attempt.port}` on it"
    )


def _refused_user(attempt: Attempt, *, too_many: bool) -> str:
    words = f"{attempt.label}: {attempt.where} does not let {attempt.user} in."
    methods = ", ".join(attempt.methods) or "nothing that dstui knows"
    words += f" It offers {methods};"
    if not attempt.offered:
        words += " dstui had no key to offer" if "publickey" in attempt.methods else " dstui only uses keys"
    else:
        shown = ", ".join(f"{key.type} {key.fingerprint}" for key in attempt.offered[:3])
        more = f" and {len(attempt.offered) - 3} more" if len(attempt.offered) > 3 else ""
        words += f" it took none of {shown}{more}"
    if attempt.remarks:
        words += f" ({attempt.remarks})"
    if too_many:
        return words + ". It stopped listening after too many keys: name the right one as the identity in the inventory"
    if attempt.banner:
        words += f". It says: “{clean(attempt.banner)}”"
    return words + f". Install the key: `ssh-copy-id -p {attempt.port} {attempt.user}@{attempt.address}`"
