"""Reads a table that somebody wrote, key by key, and collects every fault instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from dstui.catalogue.entries import nearest
from dstui.catalogue.source import Fault, Step, YamlPath
from dstui.model import Text

E = TypeVar("E", bound=StrEnum)


class Fields:
    """One table. Every getter notes a fault and gives a harmless value where the file is wrong.

    Whoever holds the shared `faults` must refuse the file before using what was read.
    """

    def __init__(self, value: object, path: YamlPath, faults: list[Fault], known: Sequence[str] | None = None) -> None:
        self.path = path
        self.faults = faults
        self._table: Mapping[object, object] = {}
        if isinstance(value, Mapping):
            self._table = value
        else:
            self.fault("must be a table of key: value")
        for key in self._table:
            if not isinstance(key, str):
                self.fault(f"the key {key!r} must be text; put it in quotes", str(key))
            elif known is not None and key not in known:
                self.fault(f"is not known here{nearest(key, known)}", key)

    def fault(self, message: str, *steps: Step) -> None:
        self.faults.append(Fault((*self.path, *steps), message))

    def __contains__(self, key: str) -> bool:
        return key in self._table

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(str(key) for key in self._table)

    def raw(self, key: str) -> object:
        return self._table.get(key)

    def require(self, key: str) -> bool:
        if key not in self._table:
            self.fault(f"{key} is missing")
        return key in self._table

    def text(self, key: str, default: str | None = None) -> str:
        if key not in self._table and default is not None:
            return default
        if not self.require(key):
            return ""
        value = self._table[key]
        if not isinstance(value, str) or not value.strip():
            self.fault("must be text that is not empty", key)
            return ""
        return value

    def flag(self, key: str) -> bool:
        value = self._table.get(key, False)
        if not isinstance(value, bool):
            self.fault("must be true or false", key)
            return False
        return value

    def number(self, key: str, default: float | None = None, *, most: float = float("inf")) -> float:
        if key not in self._table and default is not None:
            return default
        if not self.require(key):
            return 0.0
        value = self._table[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            self.fault("must be a number above 0", key)
            return 1.0
        if value > most:
            self.fault(f"must not be above {most:g}", key)
        return float(value)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._table.get(key, ())
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            self.fault("must be a list of texts", key)
            return ()
        return tuple(value)

    def word(self, key: str, words: type[E], default: E) -> E:
        """One word of an enumeration; `default` when the key is not there."""
        value = self._table.get(key, default)
        try:
            return words(value)  # type: ignore[arg-type]
        except ValueError:
            self.fault(f"must be one of {', '.join(words)}", key)
            return default

    def bilingual(self, key: str, *, copy: bool = False) -> Text:
        """A text in both languages; with `copy` one language, or a plain text, stands for both."""
        if not self.require(key):
            return Text("", "")
        value = self._table[key]
        if copy and isinstance(value, str) and value.strip():
            return Text(value, value)
        languages = self.below(key, ("en", "zh"))
        if copy and len(languages.names) == 1:
            only = languages.text(languages.names[0])
            return Text(only, only)
        return Text(languages.text("en"), languages.text("zh"))

    def below(self, key: str, known: Sequence[str] | None = None) -> Fields:
        """The table under a key; an absent one is empty."""
        return Fields(self._table.get(key, {}), (*self.path, key), self.faults, known)

    def each(self, key: str) -> tuple[tuple[YamlPath, object], ...]:
        """Path and value of every item of the list under a key; an absent one is empty."""
        value = self._table.get(key, [])
        if not isinstance(value, list):
            self.fault("must be a list", key)
            return ()
        return tuple(((*self.path, key, position), item) for position, item in enumerate(value))
