"""hw.ssd-capacity: enough local solid-state storage, and disks whose kind cannot be told are never counted as SSD."""

from __future__ import annotations

from dstui.facts.case import HostCase
from dstui.facts.disk import Disk, DiskFacts, Wear
from dstui.facts.raw import Missing
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.model import Reason, Ruling, Text, host_target

TB = 1_000_000_000_000
WORN_PCT = 80
"""`percentage_used` above which an SSD is worth a warning (CATALOGUE hw.ssd-capacity)."""


def ssd_capacity(case: HostCase) -> Ruling:
    target = host_target(case.host.name)
    if not (case.host.in_ray or "storage" in case.host.roles):
        return not_applicable(target, Text("no head, worker or storage role", "该主机不是 head、worker 或存储节点"))
    wanted, tolerance = case.params.number("disk_min_tb"), case.params.number("disk_tolerance_pct")
    least = wanted * (1 - tolerance / 100) * TB
    expected = Text(
        f"at least {wanted:g} TB of SSD ({tolerance:g} % tolerance: {least / TB:.2f} TB)",
        f"至少 {wanted:g} TB SSD（容差 {tolerance:g} %：{least / TB:.2f} TB）",
    )
    facts = case.facts.get(DiskFacts)
    if isinstance(facts, Missing):
        return unknown(target, facts, expected)
    if isinstance(facts.local, Missing):
        return unknown(target, facts.local, expected)
    declared = case.params.text("storage_is_ssd")
    solid = [disk for disk in facts.local if _is_ssd(disk, declared) is True]
    untold = [disk for disk in facts.local if _is_ssd(disk, declared) is None]
    ssd_bytes, untold_bytes = sum(d.bytes for d in solid), sum(d.bytes for d in untold)
    causes = Causes(target, expected)
    if ssd_bytes < least:
        if untold and ssd_bytes + untold_bytes >= least:
            causes.unknown(Reason.CANNOT_TELL, _ask(untold), detail="storage_is_ssd")
        else:
            causes.fail(
                Text(
                    f"{_tb(ssd_bytes + untold_bytes)} of local SSD is below {least / TB:.2f} TB",
                    f"本地 SSD 共 {_tb(ssd_bytes + untold_bytes)}，低于 {least / TB:.2f} TB",
                )
            )
    elif not _one_store(facts, solid, least):
        largest = _tb(max(d.bytes for d in solid))
        causes.warn(
            Text(
                f"only several smaller drives together reach it (largest {largest}), and no md, LVM or ZFS joins them",
                f"只有多块较小的盘相加才达到要求（最大 {largest}），且未组成 RAID/LVM/ZFS",
            )
        )
    _judge_wear(causes, solid)
    for name, why in facts.left_out.items():
        if why not in ("not a disk of its own", "no medium", "removable"):
            causes.note(Text(f"{name} is not counted: {why}", f"{name} 未计入：{why}"))
    if declared != "auto" and any(disk.virtual for disk in facts.local):
        causes.note(
            Text(
                f"storage_is_ssd: {declared} ({case.params.origin('storage_is_ssd')}) decides for virtual disks",
                f"虚拟磁盘按 storage_is_ssd: {declared}（{case.params.origin('storage_is_ssd')}）判断",
            )
        )
    return causes.ruling(
        _observed(facts.local, ssd_bytes),
        Text("local solid-state disks reach the minimum less tolerance", "本地 SSD 总容量达到下限（含容差）"),
        material={
            "disks": [[d.name, d.bytes, d.rotational, d.virtual] for d in facts.local],
            "ssd_bytes": ssd_bytes,
            "storage_is_ssd": declared,
        },
    )


def _is_ssd(disk: Disk, declared: str) -> bool | None:
    """Whether a disk is solid state; None when nobody can tell.

    virtio reports rotational=1 whatever is behind it: a virtual disk's 1 says nothing, only the inventory can.
    """
    if disk.virtual and declared != "auto":
        return declared == "true"
    if disk.rotational is None or (disk.virtual and disk.rotational):
        return None
    return not disk.rotational


def _one_store(facts: DiskFacts, solid: list[Disk], least: float) -> bool:
    """Whether one drive is large enough, or md, LVM or ZFS makes drives that are large enough together into one."""
    if max(disk.bytes for disk in solid) >= least:
        return True
    stores: dict[str, int] = {}
    for disk in solid:
        pools = {"zpool"} if disk.name in facts.zpool_members else set()
        for holder in disk.holders | pools:
            stores[holder] = stores.get(holder, 0) + disk.bytes
    return any(size >= least for size in stores.values())


def _judge_wear(causes: Causes, disks: list[Disk]) -> None:
    for disk in disks:
        if not isinstance(disk.wear, Wear):
            continue
        used, warning = disk.wear.percentage_used, disk.wear.critical_warning
        if used > WORN_PCT:
            causes.warn(Text(f"{disk.name}: {used} % of its endurance is used", f"{disk.name}：寿命已消耗 {used} %"))
        if warning:
            causes.warn(
                Text(f"{disk.name}: critical warning 0x{warning:02x}", f"{disk.name}：严重告警 0x{warning:02x}")
            )


def _ask(untold: list[Disk]) -> Text:
    names = ", ".join(disk.name for disk in untold[:8])
    return Text(
        f"cannot tell whether {names} is solid state (virtual disk or RAID volume): set storage_is_ssd",
        f"无法判断 {names} 是否为 SSD（虚拟磁盘或 RAID 卷）：请设置 storage_is_ssd 为 true 或 false",
    )


def _tb(size: int) -> str:
    return f"{size / TB:.2f} TB"


def _observed(disks: tuple[Disk, ...], ssd_bytes: int) -> Text:
    kinds = {True: "HDD", False: "SSD", None: "?"}
    shown = ", ".join(
        f"{quoted(d.name, 16)} {_tb(d.bytes)} {'virtual' if d.virtual else kinds[d.rotational]}"
        + (f" {quoted(d.model, 32)}" if d.model else "")
        for d in disks[:6]
    )
    more = f", + {len(disks) - 6}" if len(disks) > 6 else ""
    if not disks:
        return Text("no local disk", "没有本地磁盘")
    return Text(f"{_tb(ssd_bytes)} of SSD: {shown}{more}", f"SSD 共 {_tb(ssd_bytes)}：{shown}{more}")
