"""The JSON report: the same facts as the Markdown one for programs. Schema and version: docs/json.md."""

from __future__ import annotations

from collections.abc import Iterable

from dstui.events import encode_finding
from dstui.model import Attestation, Finding, Text, Waiver
from dstui.report.snapshot import Snapshot
from dstui.standing import CheckStatus, gate
from dstui.state import Run

FORMAT, VERSION = "dstui-report", 1
"""Keys are only ever added within a version; one that changes meaning or goes away raises it."""


def report(
    snapshot: Snapshot, scope: Iterable[str] | None = None, allow_unknown: frozenset[str] = frozenset()
) -> dict[str, object]:
    """The report as JSON-able values; only the checks in `scope`, all when None. Times are epoch seconds (UTC)."""
    wanted = set(scope) if scope is not None else None
    statuses = [st for check_id, st in snapshot.checklist.statuses.items() if wanted is None or check_id in wanted]
    verdict = gate(statuses, allow_unknown=allow_unknown, sound=snapshot.broken_at is None)
    return {
        "format": FORMAT,
        "version": VERSION,
        "cluster": snapshot.cluster,
        "environment": snapshot.environment,
        "simulated": snapshot.simulated,
        "made_at": snapshot.at,
        "operator": snapshot.operator,
        "versions": dict(snapshot.versions),
        "gate": {
            "open": verdict.open,
            "exit_code": verdict.exit_code,
            "counts": {standing.value: count for standing, count in verdict.standings.items()},
        },
        "journal": {
            "path": snapshot.journal,
            "head_seq": snapshot.head_seq,
            "head_hash": snapshot.head_hash,
            "broken_at": snapshot.broken_at,
        },
        "runs": [_run(run) for run in snapshot.runs],
        "checks": [_check(status) for status in statuses],
    }


def _text(text: Text) -> dict[str, str]:
    return {"en": text.en, "zh": text.zh}


def _run(run: Run) -> dict[str, object]:
    return {
        "number": run.number,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "operator": run.actor,
        "checks": list(run.checks),
        "hosts": list(run.hosts),
        "simulated": run.simulated,
        "versions": dict(run.versions),
    }


def _check(status: CheckStatus) -> dict[str, object]:
    check = status.check
    return {
        "id": check.id,
        "number": check.number,
        "section": check.section,
        "title": _text(check.title),
        "kind": check.kind.value,
        "scope": check.scope.value,
        "side_effect": check.side_effect.value,
        "verdict": status.verdict.value,
        "reason": status.reason.value if status.reason else None,
        "detail": status.detail,
        "standing": status.standing.value,
        "stale": status.stale,
        "observed_at": status.observed_at,
        "findings": [_finding(finding) for finding in status.findings],
        "signatures": [_signature(given) for given in status.signatures],
        "wants_second_signature": status.wants_second,
        "lapsed_signature": None if status.lapsed is None else {**_signature(status.lapsed), "why": status.lapsed_why},
        "waiver": _waiver(status.waiver) if status.waiver else None,
        "notes": [
            {"person": n.person, "at": n.at, "target": n.target.key if n.target else None, "text": n.text, "seq": n.seq}
            for n in status.notes
        ],
    }


def _finding(finding: Finding) -> dict[str, object]:
    encoded = dict(encode_finding(finding))
    del encoded["check"]
    return {**encoded, "run": finding.run}


def _signature(given: Attestation) -> dict[str, object]:
    return {
        "person": given.person,
        "role": given.role,
        "note": given.note,
        "link": given.link,
        "at": given.at,
        "expires_at": given.expires_at,
        "verdict_seen": given.verdict_seen.value,
        "material": given.material_hash,
        "seq": given.seq,
    }


def _waiver(waiver: Waiver) -> dict[str, object]:
    return {
        "person": waiver.person,
        "approver": waiver.approver,
        "reason": waiver.reason,
        "ticket": waiver.ticket,
        "at": waiver.at,
        "expires_at": waiver.expires_at,
        "seq": waiver.seq,
    }
