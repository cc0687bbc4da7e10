"""Identical findings told once: `gpu-01 … gpu-31 (31 hosts, same)`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dstui.model import Finding, Lang, TargetKind
from screens import words
from screens.plain import one_line

_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)")


@dataclass(frozen=True, slots=True)
class Group:
    """Findings that say the same of several targets, in the order they came; `first` speaks for all."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        return self.findings[0]

    @property
    def key(self) -> str:
        return self.first.target.key

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one_line(f.target.name) for f in self.findings)


def grouped(findings: Sequence[Finding]) -> list[Group]:
    """Findings by what they say; the order is that of the first of each."""
    alike: dict[object, list[Finding]] = {}
    for finding in findings:
        said = (finding.verdict, finding.reason, finding.detail, finding.observed, finding.expected, finding.notes)
        alike.setdefault((said, finding.target.kind), []).append(finding)
    return [Group(tuple(same)) for same in alike.values()]


def name_of(group: Group, lang: Lang) -> str:
    """`gpu-04`, or `gpu-01 … gpu-03 (3 hosts, same)`."""
    if len(group.findings) == 1:
        return group.names[0]
    return f"{ranges(group.names)}{words.SAME[lang].format(count=counted(group, lang))}"


def counted(group: Group, lang: Lang) -> str:
    """`3 hosts`, `6 pairs`, `2 targets`."""
    unit = {TargetKind.HOST: words.HOSTS, TargetKind.PAIR: words.PAIRS}.get(group.first.target.kind, words.TARGETS)
    return unit.of(len(group.findings), lang)


def ranges(names: Sequence[str]) -> str:
    """Names with consecutive numbers as `gpu-01 … gpu-03`; what does not fit a range stands by itself."""
    runs: list[list[str]] = []
    previous: tuple[str, int, str, int] | None = None
    for name in sorted(set(names), key=_natural):
        parts = _parts(name)
        joins = previous is not None and parts is not None and parts == (*_next(previous), previous[3])
        if joins or (joins := _widened(previous, parts)):
            runs[-1].append(name)
        else:
            runs.append([name])
        previous = parts
    shown = [run[0] if len(run) == 1 else f"{run[0]}{' … ' if len(run) > 2 else ', '}{run[-1]}" for run in runs]
    if len(shown) > 3:
        return ", ".join(shown[:2]) + f" … {shown[-1].split(' … ')[-1]}"
    return ", ".join(shown)


def _parts(name: str) -> tuple[str, int, str, int] | None:
    """Prefix, number, suffix and number of digits; None for a pair or a name without a number."""
    found = _NUMBERED.fullmatch(name)
    if found is None or ">" in name or len(found[2]) > 15:
        return None
    return found[1], int(found[2]), found[3], len(found[2])


def _next(parts: tuple[str, int, str, int]) -> tuple[str, int, str]:
    return parts[0], parts[1] + 1, parts[2]


def _widened(before: tuple[str, int, str, int] | None, after: tuple[str, int, str, int] | None) -> bool:
    """`gpu9` is followed by `gpu10`: one digit more, without leading zeros."""
    return (
        before is not None
        and after is not None
        and after[:3] == _next(before)
        and len(str(before[1])) == before[3]
        and len(str(after[1])) == after[3]
    )


def _natural(name: str) -> tuple[object, ...]:
    return tuple((0, int(p), "") if p.isdecimal() and len(p) < 16 else (1, 0, p) for p in re.split(r"(\d+)", name))
