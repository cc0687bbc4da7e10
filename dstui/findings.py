"""Makes findings of rulings: times, thresholds and evidence added, everything redacted before it is recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dstui import attest
from dstui.catalogue import Catalogue
from dstui.events import canonical
from dstui.facts.ladder import LadderSeen
from dstui.model import Evidence, Finding, Ruling, Text, Verdict
from dstui.redact import Redactor
from dstui.sweep import Judged

EVIDENCE_PER_FINDING = 64
"""A finding on the whole cluster keeps at most this many pieces of evidence; all are in the per-host findings."""

NOTES_PER_FINDING = 64
DETAIL_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Findings:
    """What every finding of a session has in common."""

    catalogue: Catalogue
    redactor: Redactor
    simulated: bool

    def of_all(self, judged: Sequence[Judged], run: int, now: float) -> list[Finding]:
        """The findings of some rulings, judged at `now` in run number `run`."""
        return [self._of(item, run, now) for item in judged]

    def _of(self, judged: Judged, run: int, now: float) -> Finding:
        ruling, check = judged.ruling, self.catalogue.check(judged.check_id)
        evidence = self._evidence(judged)
        material = canonical({"verdict": ruling.verdict.value, "material": attest.plain(ruling.material)})
        return Finding(
            check_id=check.id,
            target=ruling.target,
            verdict=ruling.verdict,
            observed=self._scrubbed(ruling.observed),
            expected=self._scrubbed(ruling.expected),
            rule=self._scrubbed(ruling.rule),
            reason=ruling.reason,
            detail=self.redactor.sentence(ruling.detail)[:DETAIL_LIMIT],
            notes=tuple(self._scrubbed(note) for note in ruling.notes[:NOTES_PER_FINDING]),
            material_hash=hashlib.sha256(material.encode("utf-8", "replace")).hexdigest(),
            thresholds=tuple(
                replace(t, value=self.redacted(t.value), default=self.redacted(t.default))
                for t in judged.params.thresholds
            ),
            evidence=evidence,
            observed_at=_observed_at(judged, now),
            ttl=check.ttl,
            seconds=sum(e.seconds for e in evidence),
            run=run,
            simulated=self.simulated,
        )

    def _scrubbed(self, text: Text) -> Text:
        return Text(self.redactor.sentence(text.en), self.redactor.sentence(text.zh))

    def redacted(self, value: object) -> object:
        """A parameter's value as it may be stored: a mirror's URL can hold a login."""
        if isinstance(value, str):
            return self.redactor.sentence(value)
        if isinstance(value, Mapping):
            return {key: self.redacted(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return tuple(self.redacted(item) for item in value)
        return value

    def _evidence(self, judged: Judged) -> tuple[Evidence, ...]:
        prefixes = judged.ruling.evidence_keys or judged.prefixes
        several = len(judged.raws) > 1
        pieces: list[Evidence] = []
        for name, raw in judged.raws:
            found = raw.evidence(prefixes)
            pieces.extend(replace(piece, key=f"{name}/{piece.key}") if several else piece for piece in found)
        for item in judged.observed:
            pieces[:0] = _shown(item, judged.ruling)
        return tuple(self.redactor.evidence(piece) for piece in pieces[:EVIDENCE_PER_FINDING])


def _observed_at(judged: Judged, now: float) -> float:
    """What was told from a record is as old as the record; not being able to tell is of now."""
    if judged.ruling.verdict is Verdict.UNKNOWN:
        return now
    told = (item.observed_at(judged.check_id) for item in judged.observed if isinstance(item, LadderSeen))
    return min((at for at in told if at is not None), default=now)


def _shown(observed: object, ruling: Ruling) -> list[Evidence]:
    """What an observation shows of a ruling's target; of many pieces those whose keys the judge named."""
    render = getattr(observed, "evidence", None)
    said = render(ruling.target) if callable(render) else None
    if isinstance(said, Evidence):
        return [said]
    pieces = [piece for piece in said if isinstance(piece, Evidence)] if isinstance(said, tuple) else []
    return [piece for piece in pieces if not ruling.evidence_keys or piece.key.startswith(ruling.evidence_keys)]
