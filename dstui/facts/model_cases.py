"""The team's own inference test cases, as the controller read them (`model.test-cases`)."""

from __future__ import annotations

from dataclasses import dataclass

from dstui.facts.raw import Missing
from dstui.model import EVIDENCE_HEAD_BYTES, Evidence, Target, Text

BUILT_IN = "example-"
"""How the ids of the cases that come with dstui begin; a copy of them is nobody's own work."""


@dataclass(frozen=True, slots=True)
class InferenceCase:
    """One case. `place` is `file:line`; `expects` whether it says anything of the answer at all."""

    id: str
    category: str
    expects: bool
    place: str

    @property
    def built_in(self) -> bool:
        return self.id.startswith(BUILT_IN)


@dataclass(frozen=True, slots=True)
class CaseFault:
    """What is wrong at `file:line:column`, and what to write instead."""

    place: str
    text: Text


@dataclass(frozen=True, slots=True)
class CaseFile:
    """One file. `missing` is why it could not be read."""

    name: str
    sha256: str = ""
    cases: tuple[InferenceCase, ...] = ()
    faults: tuple[CaseFault, ...] = ()
    missing: Missing | None = None


@dataclass(frozen=True, slots=True)
class ModelCases:
    """`pattern` is what the inventory says, `place` where that is looked for. `missing`: the place cannot be read."""

    pattern: str
    place: str
    files: tuple[CaseFile, ...]
    missing: Missing | None = None
    seconds: float = 0.0

    @property
    def cases(self) -> tuple[InferenceCase, ...]:
        return tuple(case for file in self.files for case in file.cases)

    def evidence(self, target: Target) -> tuple[Evidence, ...]:
        rows = []
        for file in self.files:
            rows.append(f"{file.name} sha256 {file.sha256[:12] or '-'} {len(file.cases)} cases")
            rows += [f"{fault.place}: {fault.text.en}" for fault in file.faults]
            rows += [f"{case.place} {case.id} {case.category}" for case in file.cases]
        text = "\n".join(rows)
        error = self.missing.why[:1024] if self.missing else ""
        shown = text[:EVIDENCE_HEAD_BYTES]
        return (Evidence("model.cases", self.place, None, shown, len(text), self.seconds, error),)
