"""stor.rw-all-nodes: every node wrote a nonce on the share, and every node read all of them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dstui.facts.case import FleetCase
from dstui.facts.choreography import NonceMatrix, NonceRead, NonceWrite
from dstui.facts.raw import Missing
from dstui.facts.storage import StorageFacts
from dstui.judge.fleet import cluster_target, facts_of, listed
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.model import Reason, Ruling, Text, same

_ROWS_SHOWN = 16
"""Readers whose whole row is shown; beyond, only rows with something wrong in them."""
_PASSED = Text("every node read every node's nonce", "每个节点都读到了所有节点的校验文件")


def judge(case: FleetCase) -> Sequence[Ruling]:
    target = cluster_target(case.site)
    within = case.params.number("visible_within_s")
    expected = Text(
        f"all writes readable on all nodes within {within:g} s", f"所有写入在 {within:g} 秒内对所有节点可读"
    )
    names = [host.name for host in case.site.hosts if host.in_ray]
    if not names:
        return [unknown(target, Missing(Reason.NO_TARGETS, "no head or worker in the inventory"), expected)]
    matrix = case.get(NonceMatrix)
    if isinstance(matrix, Missing):
        return [unknown(target, matrix, expected)]
    causes = Causes(target, expected)
    if len(names) == 1:
        _weigh_alone(case, names[0], causes)
    writes = {write.host: write for write in matrix.writes}
    reads = {(read.reader, read.writer): read for read in matrix.reads}
    names = list(dict.fromkeys((*names, *writes)))
    for name in names:
        _weigh_write(case, matrix, name, writes.get(name), causes)
    wrote = [name for name in names if name in writes and writes[name].ok]
    for reader in names:
        _weigh_reader(case, matrix, reader, wrote, reads, causes)
    _weigh_users(case, matrix.writes, causes)
    _weigh_leftovers(matrix.writes, causes)
    _show_rows(names, wrote, reads, causes)
    good = sum((r, w) in reads and reads[r, w].outcome == "match" for r in names for w in names)
    every = len(names) ** 2
    return [
        causes.ruling(
            Text(
                f"{good} of {every} reads match, run {matrix.run}", f"{every} 次读取中 {good} 次匹配，运行 {matrix.run}"
            ),
            _PASSED,
            material={
                "path": matrix.path,
                "writes": {name: writes[name].error or "ok" for name in names if name in writes},
                "reads": {f"{r}<{w}": read.outcome for (r, w), read in sorted(reads.items())},
            },
        )
    ]


def _weigh_alone(case: FleetCase, name: str, causes: Causes) -> None:
    """One node reads back what it wrote on any disk; only the mount shows that it is the share."""
    facts = facts_of(case, name, StorageFacts)
    on_root = facts if isinstance(facts, Missing) else facts.on_root_filesystem(case.site.shared_path)
    if isinstance(on_root, Missing):
        causes.missing(on_root, Text("mount", "挂载点"))
    elif on_root and "storage" not in case.site.host(name).roles:
        causes.unknown(
            Reason.BLOCKED_BY,
            Text("the share is not mounted: what was written lies on the system disk", "共享未挂载：写入位于系统盘"),
            "stor.shared-dir",
        )


def _weigh_write(case: FleetCase, matrix: NonceMatrix, name: str, write: NonceWrite | None, causes: Causes) -> None:
    if name in matrix.missing:
        causes.missing(matrix.missing[name], same(name))
    elif write is None:
        causes.unknown(Reason.NOT_RUN, Text(f"{name} was not asked to write", f"未要求 {name} 写入"))
    elif not write.ok:
        why = quoted(write.error, 80) or "?"
        causes.fail(
            Text(f"{name} cannot write as {write.as_user}: {why}", f"{name} 无法以 {write.as_user} 写入：{why}")
        )


def _weigh_reader(
    case: FleetCase,
    matrix: NonceMatrix,
    reader: str,
    wrote: Sequence[str],
    reads: Mapping[tuple[str, str], NonceRead],
    causes: Causes,
) -> None:
    if reader in matrix.missing:
        return
    seen = [(writer, reads.get((reader, writer))) for writer in wrote]
    holes = [writer for writer, read in seen if read is None]
    if holes:
        said = listed(holes)
        causes.unknown(
            Reason.NOT_RUN, Text(f"{reader} was not asked to read {said}", f"未要求 {reader} 读取 {said} 的文件")
        )
    bad = [f"{writer} {_trouble(read)}" for writer, read in seen if read is not None and read.outcome != "match"]
    if bad:
        causes.fail(Text(f"{reader} does not read: {listed(bad)}", f"{reader} 读取失败：{listed(bad)}"))
    _weigh_delay(case, reader, [read for _, read in seen if read is not None and read.outcome == "match"], causes)


def _weigh_delay(case: FleetCase, reader: str, matches: Sequence[NonceRead], causes: Causes) -> None:
    within, most = case.params.number("visible_within_s"), case.params.number("visible_max_s")
    late = [f"{read.writer} {read.seconds:.1f} s" for read in matches if read.seconds > most]
    if late:
        said = listed(late)
        causes.fail(
            Text(f"{reader} saw too late (> {most:g} s): {said}", f"{reader} 可见过晚（> {most:g} 秒）：{said}")
        )
    slow = [f"{read.writer} {read.seconds:.1f} s" for read in matches if within < read.seconds <= most]
    if slow:
        said = listed(slow)
        causes.warn(
            Text(f"{reader} saw late (> {within:g} s): {said}", f"{reader} 可见较慢（> {within:g} 秒）：{said}")
        )


def _trouble(read: NonceRead) -> str:
    return f"{quoted(read.outcome, 20)} {quoted(read.error, 40)}".strip()


def _weigh_users(case: FleetCase, writes: Sequence[NonceWrite], causes: Causes) -> None:
    wanted = case.params.optional_text("as_user") or case.site.runtime_user
    others = sorted({write.as_user for write in writes if write.as_user != wanted})
    if wanted and others:
        said = listed([quoted(user, 40) for user in others])
        causes.warn(Text(f"tested as {said}, not as {wanted}", f"以 {said} 测试，而非 {wanted}"))
    elif not wanted and "root" in others:
        causes.warn(
            Text(
                "tested as root: root_squash may map it to another user than the service",
                "以 root 测试：root_squash 可能将其映射为其他用户",
            )
        )


def _weigh_leftovers(writes: Sequence[NonceWrite], causes: Causes) -> None:
    found = max((write.leftovers for write in writes), default=0)
    if found:
        causes.warn(Text(f"{found} files of earlier runs were left behind", f"发现先前运行遗留的 {found} 个文件"))


def _show_rows(
    names: Sequence[str], wrote: Sequence[str], reads: Mapping[tuple[str, str], NonceRead], causes: Causes
) -> None:
    for reader in names:
        cells = {writer: reads.get((reader, writer)) for writer in names}
        sound = all((read := cells[writer]) is not None and read.outcome == "match" for writer in names)
        if len(names) > _ROWS_SHOWN and sound:
            continue
        shown = "  ".join(f"{writer} {_cell(read)}" for writer, read in cells.items())
        causes.note(same(f"{reader} < {shown}"))


def _cell(read: NonceRead | None) -> str:
    if read is None:
        return "·"
    return f"{read.seconds * 1000:.0f} ms" if read.outcome == "match" else _trouble(read)


JUDGE = FleetJudge("stor.rw-all-nodes", ("storage",), ("storage.share", "storage.mountinfo"), judge, needs=("nonce",))
