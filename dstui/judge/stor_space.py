"""stor.free-space: is there room for the model on the share, as every node sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dstui.facts.case import FleetCase, HostSite
from dstui.facts.mounts import AUTOFS, Mount
from dstui.facts.raw import Missing
from dstui.facts.storage import Quota, Space, StorageFacts
from dstui.judge.fleet import cluster_target, facts_of, listed
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted, unknown, why_missing
from dstui.model import Reason, Ruling, Text, same

GB = 1e9
MODEL_MARGIN = 1.1
"""Room needed per byte of model (document catalogue, D9)."""
TIGHT = 1.2
USED_WARN_PCT = 90.0
_PASSED = Text("enough room on every node, inodes too", "各节点可用空间与 inode 充足")


@dataclass(frozen=True, slots=True)
class _Need:
    """GB that must be free: `floor` in any case, `most` when nothing of the model is on the share yet.

    How much of it is there already is not measured here, so free space in between cannot be judged.
    """

    floor: float
    most: float

    @classmethod
    def of(cls, case: FleetCase) -> _Need:
        floor = case.params.number("shared_free_min_gb")
        model = case.params.optional_number("model_size_gb")
        return cls(floor, max(floor, round(MODEL_MARGIN * (model or 0.0), 1)))


@dataclass(frozen=True, slots=True)
class _Seen:
    name: str
    space: Space
    quota: Quota | None
    read_only_mount: bool


def judge(case: FleetCase) -> Sequence[Ruling]:
    target = cluster_target(case.site)
    need = _Need.of(case)
    expected = Text(f">= {need.most:g} GB free on the share", f"共享存储可用 >= {need.most:g} GB")
    nodes = [host for host in case.site.hosts if host.in_ray]
    if not nodes:
        return [unknown(target, Missing(Reason.NO_TARGETS, "no head or worker in the inventory"), expected)]
    causes = Causes(target, expected)
    seen: list[_Seen] = []
    for host in nodes:
        found = _look(case, host)
        if isinstance(found, Missing):
            why = why_missing(found)
            blocked = "stor.shared-dir" if found.reason is Reason.BLOCKED_BY else ""
            causes.unknown(found.reason, Text(f"{host.name}: {why.en}", f"{host.name}：{why.zh}"), blocked)
        else:
            seen.append(found)
            _weigh_space(case, found, need, causes)
            causes.note(_row(found))
    _weigh_skew(case, seen, causes)
    _explain_need(case, causes)
    least = min(seen, key=lambda one: one.space.available, default=None)
    if least is None:
        observed = Text(f"0 of {len(nodes)} nodes measured", f"{len(nodes)} 个节点均未测得")
    else:
        free = f"{least.space.available / GB:.1f} GB"
        observed = Text(
            f"{free} free at least ({least.name}), {len(seen)} of {len(nodes)} nodes measured",
            f"最少可用 {free}（{least.name}），测得 {len(seen)}/{len(nodes)} 个节点",
        )
    material = {one.name: _standing(case, one, need) for one in seen}
    return [causes.ruling(observed, _PASSED, material={"need_gb": need.most, "nodes": material})]


def _standing(case: FleetCase, seen: _Seen, need: _Need) -> dict[str, object]:
    """What a signature rests on: the side of the limits that a node is on, not bytes that always change."""
    free, inodes = seen.space.available / GB, seen.space.inodes_available
    return {
        "enough": free >= need.floor and free >= need.most,
        "tight": free < need.most * TIGHT,
        "full": seen.space.used_pct > USED_WARN_PCT,
        "inodes": seen.space.inodes == 0 or inodes >= case.params.count("inode_min"),
        "read_only": seen.read_only_mount,
        "quota": seen.quota is not None,
    }


def _explain_need(case: FleetCase, causes: Causes) -> None:
    model = case.params.optional_number("model_size_gb")
    if model is None:
        causes.note(Text("model size not declared: only the floor is judged", "未声明模型大小：仅按下限判断"))


def _look(case: FleetCase, host: HostSite) -> _Seen | Missing:
    """What a node measured on the share; a path that is not the share is no measurement of it."""
    facts = facts_of(case, host.name, StorageFacts)
    if isinstance(facts, Missing):
        return facts
    look = facts.share
    if isinstance(look, Missing):
        return look
    if look.hung:
        return Missing(Reason.TIMEOUT, f"{case.site.shared_path} hangs")
    on_root = facts.on_root_filesystem(case.site.shared_path)
    served = "storage" in host.roles and not isinstance(facts.exports, Missing) and bool(facts.exports)
    if look.target is None and look.error in {"EACCES", "EPERM"}:
        return Missing(Reason.PERMISSION, f"{look.call}: {look.error}")
    if look.target is None or (on_root is True and not served):
        return Missing(Reason.BLOCKED_BY, "the share is not there")
    if isinstance(on_root, Missing):
        return on_root
    if look.space is None:
        denied = look.error in {"EACCES", "EPERM"}
        if not look.error and look.target is not None:
            why = "statvfs: no whole answer; a host without python3 does not tell inodes and mount flags, install it"
            return Missing(Reason.TOOL_MISSING, why)
        return Missing(Reason.PERMISSION if denied else Reason.CANNOT_TELL, f"statvfs: {look.error or 'no answer'}")
    mount = facts.mount(case.site.shared_path)
    if isinstance(mount, Mount) and mount.fstype == AUTOFS:
        return Missing(Reason.CANNOT_TELL, "autofs has not mounted the share")
    return _Seen(
        host.name,
        look.space,
        _quota(facts, mount),
        look.space.read_only or (isinstance(mount, Mount) and mount.option("ro") is not None),
    )


def _quota(facts: StorageFacts, mount: Mount | Missing | None) -> Quota | None:
    if isinstance(facts.quotas, Missing) or not isinstance(mount, Mount):
        return None
    return next((q for q in facts.quotas if q.filesystem in {mount.source, mount.point}), None)


def _weigh_space(case: FleetCase, seen: _Seen, need: _Need, causes: Causes) -> None:
    name, space = seen.name, seen.space
    free = space.available / GB
    if seen.read_only_mount:
        causes.fail(Text(f"{name}: mounted read-only", f"{name}：只读挂载"))
    if space.total == 0:
        causes.unknown(
            Reason.CANNOT_TELL, Text(f"{name}: the filesystem reports no size", f"{name}：文件系统未报告容量")
        )
        return
    _weigh_free(name, free, need, causes)
    if space.used_pct > USED_WARN_PCT:
        causes.warn(Text(f"{name}: {space.used_pct:.0f} % used", f"{name}：已用 {space.used_pct:.0f} %"))
    _weigh_inodes(case, seen, causes)
    if seen.quota is not None and seen.quota.limit - seen.quota.used < space.available:
        left = f"{max(0, seen.quota.limit - seen.quota.used) / GB:.1f} GB"
        causes.warn(Text(f"{name}: a quota leaves {left}", f"{name}：配额仅剩 {left}"))


def _weigh_free(name: str, free: float, need: _Need, causes: Causes) -> None:
    if free < need.floor:
        text = Text(
            f"{name}: {free:.1f} GB free < {need.floor:g} GB", f"{name}：可用 {free:.1f} GB < {need.floor:g} GB"
        )
        causes.fail(text)
    elif free < need.most:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"{name}: {free:.1f} GB free < {need.most:g} GB, enough only if the model is already on the share",
                f"{name}：可用 {free:.1f} GB < {need.most:g} GB，仅当模型已在共享存储上时才足够",
            ),
        )
    elif free < need.most * TIGHT:
        least = f"{need.most * TIGHT:g} GB"
        causes.warn(
            Text(
                f"{name}: {free:.1f} GB free, less than {TIGHT:g} × the need ({least})",
                f"{name}：可用 {free:.1f} GB，低于需求的 {TIGHT:g} 倍（{least}）",
            )
        )


def _weigh_inodes(case: FleetCase, seen: _Seen, causes: Causes) -> None:
    least, left = case.params.count("inode_min"), seen.space.inodes_available
    if seen.space.inodes == 0:
        return
    if left == 0:
        causes.fail(Text(f"{seen.name}: no inode left", f"{seen.name}：inode 已耗尽"))
    elif left < least:
        causes.warn(Text(f"{seen.name}: {left} inodes left < {least}", f"{seen.name}：剩余 inode {left} < {least}"))


def _weigh_skew(case: FleetCase, seen: Sequence[_Seen], causes: Causes) -> None:
    free = [one.space.available for one in seen]
    allowed = case.params.number("skew_pct")
    if len(free) < 2 or max(free) == 0:
        return
    skew = 100.0 * (max(free) - min(free)) / max(free)
    if skew > allowed:
        said = listed([f"{one.name} {one.space.available / GB:.1f} GB" for one in seen])
        causes.warn(
            Text(
                f"nodes differ by {skew:.1f} % > {allowed:g} %, perhaps not one filesystem: {said}",
                f"各节点相差 {skew:.1f} % > {allowed:g} %，可能不是同一文件系统：{said}",
            )
        )


def _row(seen: _Seen) -> Text:
    space = seen.space
    inodes = f"{space.inodes_available} inodes" if space.inodes else "inodes –"
    size = f"{space.available / GB:.1f} / {space.total / GB:.1f} GB, {space.used_pct:.0f} %"
    quota = f", quota {quoted(seen.quota.filesystem, 60)}" if seen.quota else ""
    return same(f"{seen.name}: {size}, {inodes}{quota}")


JUDGE = FleetJudge("stor.free-space", ("storage",), ("storage",), judge)
