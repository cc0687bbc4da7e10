"""Made-up commands: what a program prints when it is called with certain arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a command. `seconds` are those that it would have taken on the host; nobody waits for them."""

    output: str = ""
    error: str = ""
    exit: int = 0
    seconds: float = 0.01


Tool = Callable[[tuple[str, ...]], Ran]
"""A program, given its arguments without its own name."""


def printing(ran: Ran) -> Tool:
    """A program that always does the same."""
    return lambda _: ran


def choosing(by_first_words: Mapping[str, Ran]) -> Tool:
    """A program that looks at how its arguments begin, the longest beginning first; a usage error for anything else."""
    ordered = sorted(by_first_words.items(), key=lambda item: -len(item[0]))

    def tool(arguments: tuple[str, ...]) -> Ran:
        line = " ".join(arguments)
        found = next((ran for words, ran in ordered if line == words or line.startswith(f"{words} ")), None)
        return found or Ran(error=f"invalid arguments: {line}\n", exit=2)

    return tool
