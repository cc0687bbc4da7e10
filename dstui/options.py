"""What the command line named. Apart from the rest so that parsing it costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line named. `live`: the app watches hosts, Ray and vLLM as long as it is open."""

    inventory: Path
    overlays: tuple[Path, ...] = ()
    journal: Path | None = None
    new_run: bool = False
    accept_new_host_keys: bool = False
    overrides: tuple[str, ...] = ()
    live: bool = False
