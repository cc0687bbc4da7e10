"""model.integrity: do the weight files hold together, and are they the bytes that were published."""

from __future__ import annotations

from collections.abc import Sequence

from dstui.facts.case import FleetCase
from dstui.facts.model_config import Index
from dstui.facts.model_shards import Hashed, ModelIntegrity, Shard
from dstui.facts.raw import Missing
from dstui.facts.safetensors import Breach, Header
from dstui.judge.fleet import cluster_target, listed
from dstui.judge.model_present import gib
from dstui.judge.registry import FleetJudge, Lane
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.model import Reason, Ruling, Text, same

_EXPECTED = Text("every weight file whole, every hash as published", "每个权重文件结构完整，哈希与发布的一致")
_PASSED = Text("structure clean and every hash matches", "结构无误，全部哈希一致")


def judge(case: FleetCase) -> Sequence[Ruling]:
    target = cluster_target(case.site)
    found = case.get(ModelIntegrity)
    if isinstance(found, Missing):
        return [unknown(target, found, _EXPECTED)]
    tree = found.files.tree
    if isinstance(tree, Missing):
        return [unknown(target, tree, _EXPECTED)]
    causes = Causes(target, _EXPECTED)
    _weigh_index(case, found, causes)
    _weigh_shards(found, causes)
    _weigh_hashes(case, found, causes)
    _weigh_reads(found, causes)
    return [causes.ruling(_observed(found), _PASSED, material=_material(found))]


def _weigh_index(case: FleetCase, found: ModelIntegrity, causes: Causes) -> None:
    weights = found.weight_files
    if weights.kind == "none":
        causes.fail(Text("no weight files", "没有权重文件"))
    if weights.kind == "bin":
        causes.warn(
            Text("pickled weights: only the directory of each archive is checked", "pickle 权重：只检查归档目录")
        )
    index = weights.index
    if isinstance(index, Missing):
        if index.reason is Reason.PARSE_ERROR:
            why = quoted(index.why, 200)
            causes.fail(Text(f"the index is broken: {why}", f"索引损坏：{why}"))
        elif weights.kind != "none":
            causes.missing(index, same(weights.index_name))
    if isinstance(index, Index) and weights.kind == "safetensors":
        _weigh_map(case, found, index, causes)


def _weigh_map(case: FleetCase, found: ModelIntegrity, index: Index, causes: Causes) -> None:
    """Each tensor in the header of its shard, and together as large as the index says."""
    headers = {shard.name: shard.header for shard in found.shards if isinstance(shard.header, Header)}
    sizes = {(name, tensor.name): tensor.size for name, header in headers.items() for tensor in header.tensors}
    lost = [name for name, file in index.weight_map.items() if file in headers and (file, name) not in sizes]
    if lost:
        shown = quoted(listed(lost[:3]), 200)
        causes.fail(
            Text(
                f"{len(lost)} tensors are not in the file that the index names: {shown}",
                f"{len(lost)} 个张量不在索引指明的文件里：{shown}",
            )
        )
    listed_ = {(file, name) for name, file in index.weight_map.items()}
    further = [name for file, name in sizes if (file, name) not in listed_]
    if further:
        shown = quoted(listed(further[:3]), 200)
        causes.warn(
            Text(f"{len(further)} tensors that no index names: {shown}", f"{len(further)} 个张量不在索引里：{shown}")
        )
    tree = found.files.tree
    shards = set(index.shards)
    if not isinstance(tree, Missing):
        unused = sorted(n for n in tree.files if n.endswith(".safetensors") and "/" not in n and n not in shards)
        if unused:
            shown = quoted(listed(unused), 200)
            causes.warn(Text(f"files that no index names: {shown}", f"不在索引里的文件：{shown}"))
    total = sum(size for key, size in sizes.items() if key in listed_)
    complete = len(headers) == len(shards) and not lost
    if case.params.flag("size_total_check") and index.total_size is not None and complete and total != index.total_size:
        causes.fail(
            Text(
                f"the tensors have {total:,} bytes, the index says {index.total_size:,}",
                f"张量共 {total:,} 字节，索引写的是 {index.total_size:,}",
            )
        )


def _weigh_shards(found: ModelIntegrity, causes: Causes) -> None:
    broken = [(shard, shard.header) for shard in found.shards if isinstance(shard.header, Breach)]
    for shard, breach in broken[:8]:
        name = quoted(shard.name, 100)
        causes.fail(Text(f"{name} {breach.en}", f"{name} {breach.zh}"))
    if broken[8:]:
        causes.fail(Text(f"and {len(broken) - 8} more files", f"还有 {len(broken) - 8} 个文件"))
    gone = [
        shard.name
        for shard in found.shards
        if shard.size is None and isinstance(shard.header, Missing) and shard.header.reason is Reason.CANNOT_TELL
    ]
    if gone:
        names = quoted(listed(gone), 200)
        causes.fail(Text(f"not there: {names}", f"缺少：{names}"))
    for shard in [shard for shard in found.shards if _unread(shard) and shard.name not in gone][:8]:
        assert isinstance(shard.header, Missing)
        causes.missing(shard.header, same(quoted(shard.name, 100)))


def _unread(shard: Shard) -> bool:
    return isinstance(shard.header, Missing)


def _weigh_hashes(case: FleetCase, found: ModelIntegrity, causes: Causes) -> None:
    if found.manifest is not None:
        causes.missing(found.manifest, Text("manifest", "哈希清单"))
        return
    weights = found.weight_files.names
    known = [name for name in weights if name in found.wanted]
    if not known:
        causes.warn(Text("no hashes to compare with", "没有可比对的哈希"))
    elif len(known) < len(weights):
        names = quoted(listed([name for name in weights if name not in found.wanted]), 200)
        causes.warn(Text(f"no hash is known for {names}", f"没有以下文件的哈希：{names}"))
    tree = found.files.tree
    gone = [name for name in sorted(found.wanted) if not isinstance(tree, Missing) and name not in tree.files]
    if gone:
        names = quoted(listed(gone), 200)
        causes.fail(Text(f"the manifest names files that are not there: {names}", f"清单里的文件不存在：{names}"))
    if found.wanted and not found.hashes and case.params.text("hash") == "never":
        causes.unknown(Reason.NOT_RUN, Text("not hashed: hash is never", "未计算哈希：hash 为 never"))
        return
    kept = sum(isinstance(hashed, Hashed) and hashed.kept for hashed in found.hashes.values())
    if kept:
        causes.note(
            Text(
                f"{kept} hashes are from an earlier look: size, time and inode are as then (hash: always reads anew)",
                f"{kept} 个哈希来自上次计算：大小、时间和 inode 未变（hash: always 可重新读取）",
            )
        )
    for name, hashed in found.hashes.items():
        if isinstance(hashed, Missing):
            causes.missing(hashed, same(quoted(name, 100)))
    wrong = [
        name for name, h in found.hashes.items() if isinstance(h, Hashed) and h.sha256 != found.wanted[name].sha256
    ]
    for name in wrong[:8]:
        hashed = found.hashes[name]
        assert isinstance(hashed, Hashed)
        should = found.wanted[name]
        what, source = quoted(name, 100), quoted(should.source, 100)
        causes.fail(
            Text(
                f"{what} has SHA-256 {hashed.sha256[:12]}, {source} says {should.sha256[:12]}",
                f"{what} 的 SHA-256 为 {hashed.sha256[:12]}，{source} 为 {should.sha256[:12]}",
            )
        )


def _weigh_reads(found: ModelIntegrity, causes: Causes) -> None:
    for host, look in found.files.looks.items():
        if isinstance(look.tree, Missing):
            causes.missing(look.tree, same(host))
    for host, errors in found.reads.items():
        if isinstance(errors, Missing):
            causes.missing(errors, same(host))
        elif errors:
            name, why = next(iter(errors.items()))
            said = f"{host}: {quoted(name, 80)}: {quoted(why, 60)}"
            causes.unknown(Reason.CANNOT_TELL, Text(f"read error on {said}", f"读取出错：{said}"))


def _observed(found: ModelIntegrity) -> Text:
    tensors = sum(len(shard.header.tensors) for shard in found.shards if isinstance(shard.header, Header))
    size = gib(sum(shard.size or 0 for shard in found.shards))
    good = sum(isinstance(h, Hashed) and h.sha256 == found.wanted[name].sha256 for name, h in found.hashes.items())
    en = f"{good}/{len(found.wanted)} hashes match" if found.wanted else "no hashes"
    zh = f"哈希一致 {good}/{len(found.wanted)}" if found.wanted else "无哈希"
    return Text(
        f"{len(found.shards)} weight files, {size}, {tensors} tensors; {en}",
        f"{len(found.shards)} 个权重文件，{size}，{tensors} 个张量；{zh}",
    )


def _material(found: ModelIntegrity) -> dict[str, object]:
    return {
        "shards": [[shard.name, shard.size] for shard in found.shards],
        "hashes": {name: h.sha256 for name, h in found.hashes.items() if isinstance(h, Hashed)},
    }


JUDGE = FleetJudge("model.integrity", (), (), judge, ("model-integrity",), Lane.WORK)
