"""Hashes that were computed before, kept between runs on the controller: a large model takes minutes to read."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from dataclasses import astuple, dataclass
from pathlib import Path

from platformdirs import user_state_path

from dstui.facts.untyped import rows, table

MOST_KEPT = 20_000
MOST_BYTES = 16 << 20
_VERSION = 1
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Known:
    """What a file is known again by: a file that has all of these as before is not read anew (CATALOGUE 027)."""

    path: str
    size: int
    mtime_ns: int
    inode: int


class KeptHashes:
    """The hashes of one cluster's files. A file of them that cannot be read or written only costs time."""

    def __init__(self, file: Path | None) -> None:
        """`file` None keeps nothing beyond this process."""
        self._file = file
        self._hashes: dict[Known, str] = {}

    def load(self) -> None:
        """What an earlier run has left; nothing when that is damaged. Blocks."""
        if self._file is None:
            return
        try:
            with self._file.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
            found = table(json.loads(content)) or {} if len(content) <= MOST_BYTES else {}
        except (OSError, ValueError, RecursionError):
            return
        if found.get("version") != _VERSION:
            return
        for row in rows(found.get("hashes")) or []:
            match row:
                case [str(path), int(size), int(mtime_ns), int(inode), str(digest)] if _HEX.fullmatch(digest):
                    self._hashes[Known(path, size, mtime_ns, inode)] = digest

    def get(self, known: Known) -> str | None:
        return self._hashes.get(known)

    def keep(self, known: Known, sha256: str) -> None:
        """The newest of a path; the oldest of all go first."""
        for old in [each for each in self._hashes if each.path == known.path]:
            del self._hashes[old]
        self._hashes[known] = sha256
        while len(self._hashes) > MOST_KEPT:
            del self._hashes[next(iter(self._hashes))]

    def save(self) -> None:
        """In one step, for its owner only. Blocks."""
        if self._file is None:
            return
        text = json.dumps(
            {"version": _VERSION, "hashes": [[*astuple(k), digest] for k, digest in self._hashes.items()]}
        )
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, name = tempfile.mkstemp(dir=self._file.parent, prefix=self._file.name)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
                    file.write(text)
                Path(name).replace(self._file)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise


def kept_for(cluster: str, *, simulated: bool) -> KeptHashes:
    """Beside the cluster's journal; for made-up hosts nothing is kept."""
    return KeptHashes(None if simulated else user_state_path("dstui") / f"{cluster}.hashes")
