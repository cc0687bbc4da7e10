"""Who is in the fleet: each made-up host, what is wrong with it, and how quickly it answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

MOST_HOSTS = 64
FIRST_ADDRESS = 10
"""Host number n has n + 10 as the last part of all of its addresses."""

_QUICKEST, _SPREAD = 0.05, 0.35
"""Seconds: hosts answer within 50 to 400 ms."""
_SLOW, _SLOW_SPREAD = 1.3, 0.3
"""Seconds in which the slow host answers. It is asked three times in a row, and a run has to end within seconds."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a made-up host is like; the defaults are a healthy one. Memory in GiB."""

    driver: str = "580.95.05"
    memory_gib: int = 2048
    share_mounted: bool = True
    ssh_answers: bool = True
    slow: bool = False
    python3: bool = True
    root_login: bool = False
    docker: str = "28.2.2"
    icmp: bool = True
    gpus_answering: int = 8
    firewall: bool = True
    leased_address: bool = False
    log_shipper: bool = True
    passwords: bool = False
    runtime_python: str = "3.12.9"
    vllm: str | None = None
    """Another version than the one that all others have."""
    takes_revoked_key: bool = False


@dataclass(frozen=True, slots=True)
class Character:
    """One made-up host. `story` says in a few words what is wrong with it."""

    number: int
    traits: Traits
    story: str

    @property
    def name(self) -> str:
        return f"gpu-{self.number:02d}"

    @property
    def data_ip(self) -> str:
        return f"198.51.100.{FIRST_ADDRESS + self.number}"

    @property
    def mgmt_ip(self) -> str:
        return f"192.0.2.{FIRST_ADDRESS + self.number}"

    @property
    def ssh_ip(self) -> str:
        """Where its SSH server really is."""
        return f"127.0.0.{FIRST_ADDRESS + self.number}"

    def delay(self, what: str) -> float:
        """Seconds until it answers the request `what`: the same every time."""
        quickest, spread = (_SLOW, _SLOW_SPREAD) if self.traits.slow else (_QUICKEST, _SPREAD)
        return quickest + spread * (share(self.name) + share(f"{self.name} {what}")) / 2

    def aside(self, what: str) -> float:
        """Seconds for a small thing, such as opening a port."""
        return (0.2 if self.traits.slow else 0.005) * (1 + share(f"{self.name} {what}"))


def share(text: str) -> float:
    """A number from 0 to 1 that looks drawn and is always the same for a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 0xFFFF_FFFF


_HEALTHY = (Traits(), "healthy")
_PARTS: tuple[tuple[Traits, str], ...] = (
    _HEALTHY,
    (Traits(driver="535.54.03"), "the driver is too old: 535.54.03"),
    (Traits(memory_gib=128), "half of the memory that is asked for: 125 GiB"),
    (Traits(share_mounted=False), "the share is not mounted, its directory is on the system disk"),
    (Traits(ssh_answers=False), "SSH refuses connections"),
    (Traits(slow=True, vllm="0.31.1"), "takes seconds to answer, and was forgotten when vLLM was updated"),
    (Traits(python3=False), "no python3, so it is asked through sh"),
    (Traits(root_login=True, takes_revoked_key=True), "root may log in over SSH, and a revoked API key still works"),
    (Traits(docker="24.0.0~rc1"), "Docker is a pre-release: 24.0.0~rc1"),
    (Traits(icmp=False), "ICMP is blocked"),
    (Traits(gpus_answering=7), "a GPU fell off the bus"),
    (Traits(firewall=False), "no firewall"),
    (Traits(leased_address=True), "its data address is leased"),
    (Traits(log_shipper=False), "no log shipper runs"),
    (Traits(passwords=True), "SSH accepts passwords"),
    (Traits(runtime_python="3.12.4"), "another patch level of Python than the head"),
)


def cast(hosts: int) -> tuple[Character, ...]:
    """The first `hosts` of the fleet; beyond those with a story all are healthy."""
    parts = (*_PARTS, *([_HEALTHY] * max(0, hosts - len(_PARTS))))[:hosts]
    return tuple(Character(number, traits, story) for number, (traits, story) in enumerate(parts, 1))
