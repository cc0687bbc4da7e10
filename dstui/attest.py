"""What people add, as rules without I/O: when a check may be signed, how long it holds, what a waiver must say."""

from __future__ import annotations

from collections.abc import Mapping

from dstui.model import Attestation, Text, UsageError, Verdict, Waiver
from dstui.standing import CheckStatus, may_sign_unobserved

SIGN_OFF_DAYS = 180
"""How long a signature holds (CATALOGUE 0.2)."""

WAIVER_DAYS_MAX = 366
"""A waiver that never ends is a changed requirement; it belongs into the inventory's thresholds."""

DAY = 86_400.0


def refusal(status: CheckStatus, *, built: bool) -> Text | None:
    """Why a check cannot be signed now; None when it can."""
    if status.check.disabled is not None:
        return Text("the check is disabled by an overlay; there is nothing to sign", "该检查已被覆盖文件停用，无可签署")
    if status.verdict is Verdict.FAIL:
        return Text(
            "a failed check cannot be signed: fix it and run it again (r), or waive it (w)",
            "失败的检查不能签署：请修复后重新运行 (r)，或申请豁免 (w)",
        )
    if status.verdict is Verdict.UNKNOWN:
        return Text(
            "nobody can vouch for what could not be seen: resolve the cause and run again (r), or waive it (w)",
            "无法观测的结果不能签署：请排除原因后重新运行 (r)，或申请豁免 (w)",
        )
    if status.stale:
        return Text("the evidence is stale: run it again (r), then sign", "证据已过期：请重新运行 (r) 后再签署")
    if status.verdict is Verdict.NOT_RUN and (status.findings or not may_sign_unobserved(status.check, built=built)):
        return Text("run it first (r): a signature needs evidence", "请先运行 (r)：签署需要证据")
    return None


def attestation(
    status: CheckStatus, *, person: str, role: str, note: str, link: str, material: str, now: float
) -> Attestation:
    """A signature on what is observed now. Raises UsageError when the person is not named."""
    if not person.strip():
        raise UsageError("a signature needs a name")
    if status.verdict is Verdict.NOT_RUN and not note.strip() and not link.strip():
        raise UsageError("nothing was probed, so say in the note or the link what the signature rests on")
    return Attestation(
        check_id=status.check.id,
        person=person.strip(),
        role=role.strip(),
        note=note.strip(),
        link=link.strip(),
        material_hash=material,
        verdict_seen=status.verdict,
        at=now,
        expires_at=now + SIGN_OFF_DAYS * DAY,
    )


def waiver(
    check_id: str, *, person: str, approver: str, reason: str, ticket: str, expires_at: float, now: float
) -> Waiver:
    """A waiver of a check. Raises UsageError when approver or reason is missing or the end is not ahead."""
    if not approver.strip():
        raise UsageError("a waiver needs the name of who approved it")
    if len(reason.strip()) < 3:
        raise UsageError("a waiver needs a reason that a reader in a year's time understands")
    if expires_at <= now:
        raise UsageError("a waiver must end in the future")
    if expires_at > now + WAIVER_DAYS_MAX * DAY:
        raise UsageError(f"a waiver ends within {WAIVER_DAYS_MAX} days; for longer, change the threshold instead")
    return Waiver(check_id, person, approver.strip(), reason.strip(), ticket.strip(), now, expires_at)


def plain(value: object) -> object:
    """A parsed value as JSON in one canonical form: sets sorted, tuples as lists, enums and the rest as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))}
    if isinstance(value, frozenset | set):
        return sorted(str(item) for item in value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return round(value, 6) if value == value and abs(value) != float("inf") else str(value)
    return str(value)
