"""What a report is made of: the state at one moment and the facts that stand in its head. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo

from dstui.catalogue import Catalogue
from dstui.model import Lang
from dstui.standing import Checklist
from dstui.state import Run


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`at` is seconds since the epoch, `zone` the cluster's time zone name (UTC where it is not known)."""

    cluster: str
    environment: str
    at: float
    zone: str
    operator: str
    catalogue: Catalogue
    runs: tuple[Run, ...]
    head_seq: int
    head_hash: str
    broken_at: int | None
    checklist: Checklist
    lang: Lang
    journal: str
    simulated: bool
    versions: Mapping[str, str]
    built: frozenset[str]

    @property
    def timezone(self) -> tzinfo:
        return ZoneInfo(self.zone)

    def when(self, at: float) -> str:
        """A time as `2026-11-24 12:04:31 +0800`."""
        return datetime.fromtimestamp(at, self.timezone).strftime("%Y-%m-%d %H:%M:%S %z")

    def day(self, at: float) -> str:
        return datetime.fromtimestamp(at, self.timezone).strftime("%Y-%m-%d")
