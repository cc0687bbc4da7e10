"""What the made-up hosts share: ports that they hold open for each other, and files on the share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from dstui.demo.cast import Character, share
from dstui.demo.processes import held
from dstui.gather.collector.wire import number, string

ABSENT_SECONDS = 1.0
"""A host that does not see a file says so after this time, and that it has waited as long as it was asked to."""
_WRITE_MS, _READ_SECONDS = 6.0, 0.02


@dataclass(slots=True)
class Together:
    """The state that is common to the fleet. Belongs to the server's event loop."""

    listeners: dict[tuple[str, int], str] = field(default_factory=dict)
    nonces: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    busy: set[tuple[str, int]] = field(default_factory=set)
    """Ports that were asked for and that Ray holds."""

    def perform(self, host: Character, request: Mapping[str, object]) -> dict[str, object] | None:
        """The answer to one request of a choreography; None for a verb that is not known. Raises TypeError."""
        asked = dict(request)
        match asked.get("verb"):
            case "listen":
                return self._listen(host, asked)
            case "close":
                self.listeners.pop((host.data_ip, int(number(asked, "port", 0))), None)
                return {}
            case "connect":
                return {"tries": [self._try(host, row) for row in _rows(asked)]}
            case "nonce-write":
                return self._write(host, asked)
            case "nonce-read":
                return {"reads": self._read(host, asked)}
            case "nonce-clean":
                self.nonces.get(self._place(host, asked), {}).pop(string(asked, "name"), None)
                return {}
        return None

    def seconds(self, host: Character, request: Mapping[str, object]) -> float:
        """How long a host takes over a request."""
        seconds = host.aside(f"{request.get('verb')} {request.get('port', '')}")
        if request.get("verb") != "nonce-read":
            return seconds
        outcomes = [outcome for outcome, _, _ in self._read(host, dict(request)).values()]
        return seconds + (ABSENT_SECONDS if "absent" in outcomes else 0.0)

    def forget(self, host: Character) -> None:
        """A host's session has ended: its listeners are closed."""
        for place in [place for place in self.listeners if place[0] == host.data_ip]:
            del self.listeners[place]

    def _listen(self, host: Character, asked: dict[str, object]) -> dict[str, object]:
        address, port = string(asked, "address"), int(number(asked, "port", 0))
        if address != host.data_ip:
            return {"state": "failed", "holder": None, "why": "EADDRNOTAVAIL: Cannot assign requested address"}
        holder = held(host).get(port)
        if holder is not None:
            self.busy.add((address, port))
            return {"state": "busy", "holder": holder, "why": "EADDRINUSE: Address already in use"}
        self.listeners[address, port] = string(asked, "nonce")
        return {"state": "listening", "holder": None, "why": ""}

    def _try(self, host: Character, row: tuple[str, int, str | None]) -> list[object]:
        """Inside the cluster the firewall lets everything through."""
        address, port, nonce = row
        known = self.listeners.get((address, port))
        outcome = "refused" if known is None else "ok" if known == nonce else "wrong-nonce"
        if nonce is None and (address, port) in self.busy:
            outcome = "ok"
        return [address, port, outcome, round(0.08 + 0.1 * share(f"{host.name} {address}:{port}"), 3)]

    def _place(self, host: Character, asked: dict[str, object]) -> tuple[str, str]:
        """A folder on the share, or on the host's own disk where nothing is mounted."""
        disk = "share" if host.traits.share_mounted else host.name
        return disk, f"{string(asked, 'dir')}/{string(asked, 'run')}"

    def _write(self, host: Character, asked: dict[str, object]) -> dict[str, object]:
        name = string(asked, "name")
        digest = hashlib.sha256(f"{asked['run']} {name}".encode()).hexdigest()
        self.nonces.setdefault(self._place(host, asked), {})[name] = digest
        written = {"written": True, "error": "", "sha256": digest, "as_user": asked.get("as_user"), "leftovers": 0}
        return {**written, "ms": round(_WRITE_MS * (1 + share(name)), 3)}

    def _read(self, host: Character, asked: dict[str, object]) -> dict[str, tuple[str, str, float]]:
        wanted = asked.get("sha256")
        if not isinstance(wanted, dict):
            raise TypeError("sha256 is not a table of writers")
        seen, within = self.nonces.get(self._place(host, asked), {}), number(asked, "within", 40.0)
        reads: dict[str, tuple[str, str, float]] = {}
        for writer, digest in wanted.items():
            if writer not in seen:
                reads[writer] = ("absent", "ENOENT", within)
            else:
                seconds = round(_READ_SECONDS * (1 + share(f"{host.name}<{writer}")), 3)
                reads[writer] = ("match" if seen[writer] == digest else "mismatch", "", seconds)
        return reads


def _rows(asked: dict[str, object]) -> list[tuple[str, int, str | None]]:
    rows = asked.get("endpoints")
    if not isinstance(rows, list):
        raise TypeError("endpoints is not a list")
    return [(str(address), int(port), None if nonce is None else str(nonce)) for address, port, nonce in rows]
