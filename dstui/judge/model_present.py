"""model.present: is the model on the shared storage, whole, and the same on every node."""

from __future__ import annotations

from collections.abc import Sequence

from dstui.facts import model_config
from dstui.facts.case import FleetCase
from dstui.facts.model_config import CONFIG, TEMPLATES, TOKENIZER_CONFIG, TOKENIZERS, Config
from dstui.facts.model_files import ModelFiles, WeightFiles
from dstui.facts.model_tree import ModelLook, Tree, barred
from dstui.facts.raw import Missing
from dstui.facts.storage import User
from dstui.judge.fleet import cluster_target, listed
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.model import Reason, Ruling, Text, same

_GONE = frozenset({"ENOENT", "ENOTDIR"})
_DENIED = frozenset({"EACCES", "EPERM"})


def judge(case: FleetCase) -> Sequence[Ruling]:
    """One ruling on the cluster; what a single host sees differently is named."""
    target, path = cluster_target(case.site), case.params.text("model_path")
    expected = Text(
        f"{path} whole on the shared storage, the same on every node", f"{path} 完整位于共享存储，各节点一致"
    )
    found = case.get(ModelFiles)
    if isinstance(found, Missing):
        return [unknown(target, found, expected)]
    if not found.looks:
        why = Missing(Reason.NO_TARGETS, "no head or worker in the inventory (hosts[].roles)")
        return [unknown(target, why, expected)]
    causes = Causes(target, expected)
    for name, look in found.looks.items():
        _weigh_host(case, name, look, causes)
    tree = found.tree
    config = found.config()
    if isinstance(tree, Tree):
        _weigh_same(found, tree, causes)
        _weigh_files(case, found, tree, config, causes)
    elif isinstance(found.place, Missing):
        causes.missing(found.place, same(path))
    return [causes.ruling(_observed(found, tree, config), _PASSED, material=_material(found, tree, config))]


_PASSED = Text("config, tokenizer and every weight file are there", "配置、分词器和全部权重文件齐全")


def _weigh_host(case: FleetCase, name: str, look: ModelLook, causes: Causes) -> None:
    tree = look.tree
    path = case.params.text("model_path")
    if isinstance(tree, Missing):
        what = f"{name}: {path}"
        if tree.reason is Reason.TIMEOUT:
            causes.unknown(
                Reason.TIMEOUT,
                Text(f"{what} hangs: the listing never came back", f"{what} 挂死：列目录没有返回"),
                quoted(tree.why, 300),
            )
        else:
            causes.missing(tree, same(what))
    elif tree.error in _GONE:
        causes.fail(Text(f"{name}: {path} is not there", f"{name}：{path} 不存在"))
    elif tree.error in _DENIED:
        _denied(case, name, look, path, causes)
    elif tree.error:
        # ENOTCONN, ESTALE, EIO: the share is what fails here, not the model.
        said = f"{quoted(tree.call, 30)}: {quoted(tree.error, 30)}"
        causes.unknown(Reason.CANNOT_TELL, Text(f"{name}: {path}: {said}", f"{name}：{path}：{said}"))
    else:
        _weigh_reader(case, name, look, tree, causes)
        _weigh_share(case, name, look, causes)


def _weigh_reader(case: FleetCase, name: str, look: ModelLook, tree: Tree, causes: Causes) -> None:
    """Whether the runtime user may read it; who it is decides whose permissions count."""
    denied = next((file for file, error in sorted(tree.errors.items()) if error in _DENIED), None)
    unread = next(
        (file for file, e in sorted(tree.files.items()) if "r" not in e.access and ".cache/" not in file), None
    )
    shown = denied if denied is not None else unread
    if shown is not None:
        _denied(case, name, look, quoted(shown, 80), causes)
    user = case.site.runtime_user
    if user is None or user == look.login or case.site.runtime_mode == "docker":
        return
    if isinstance(look.user, Missing):
        causes.missing(look.user, same(f"{name}: id {user}"))
    elif isinstance(look.user, User) and look.user.uid is None:
        causes.unknown(Reason.CANNOT_TELL, Text(f"{name}: no user {user}", f"{name}：没有用户 {user}"))
    elif isinstance(look.user, User) and (file := barred(tree, look.user)) is not None:
        what = quoted(file, 300)
        causes.fail(
            Text(f"{name}: {user} may not read {what} (permission bits)", f"{name}：{user} 无权读取 {what}（权限位）")
        )


def _denied(case: FleetCase, name: str, look: ModelLook, what: str, causes: Causes) -> None:
    user = case.site.runtime_user
    if user is not None and user == look.login:
        causes.fail(Text(f"{name}: {user} may not read {what}", f"{name}：{user} 无权读取 {what}"))
        return
    who = look.login or "?"
    causes.unknown(
        Reason.PERMISSION,
        Text(
            f"{name}: the login user {who} may not read {what}, so nothing can be said for the runtime user",
            f"{name}：登录用户 {who} 无权读取 {what}，无法判断运行用户能否读取",
        ),
    )


def _weigh_share(case: FleetCase, name: str, look: ModelLook, causes: Causes) -> None:
    if not case.params.flag("under_shared"):
        return
    share = case.site.shared_path
    if isinstance(look.on_share, Missing):
        causes.missing(look.on_share, same(f"{name}: {share}"))
    elif not look.on_share:
        causes.warn(
            Text(f"{name}: not under {share}: every node keeps a copy", f"{name}：不在 {share} 下：各节点各存一份")
        )


def _weigh_same(found: ModelFiles, tree: Tree, causes: Causes) -> None:
    """All nodes against the one that was read. Copies have times of their own; on a share times are the same."""
    for name, look in found.looks.items():
        if name == found.host or isinstance(look.tree, Missing) or look.tree.error:
            continue
        assert isinstance(found.place, str)
        other = look.tree.below(found.place)
        different = tree.differs(other)
        if different is not None:
            what = quoted(different, 80)
            causes.fail(
                Text(f"{name} and {found.host} see {what} differently", f"{name} 与 {found.host} 看到的 {what} 不同")
            )
        elif look.on_share is True and tree.digest() != other.digest():
            causes.warn(
                Text(f"{name} and {found.host} see other file times", f"{name} 与 {found.host} 看到的文件时间不同")
            )


def _weigh_files(case: FleetCase, found: ModelFiles, tree: Tree, config: Config | Missing, causes: Causes) -> None:
    if not tree.files and not tree.errors:
        causes.fail(Text("the directory is empty", "目录是空的"))
        return
    weights = found.weights()
    wanted = (CONFIG, *weights.names, *((weights.index_name,) if weights.index_name else ()))
    gone = [name for name in wanted if name not in tree.files and tree.errors.get(name, "ENOENT") not in _DENIED]
    if gone:
        names = quoted(listed(gone), 200)
        causes.fail(Text(f"{len(gone)} not there: {names}", f"缺 {len(gone)} 个文件：{names}"))
    empty = [name for name in (*wanted, *TOKENIZERS) if name in tree.files and tree.files[name].size == 0]
    if empty:
        names = quoted(listed(empty), 200)
        causes.fail(Text(f"empty: {names}", f"空文件：{names}"))
    pointers = found.pointers()
    if pointers:
        names = quoted(listed(pointers), 200)
        causes.fail(Text(f"git LFS pointers, not the files: {names}", f"只是 git LFS 指针，不是文件本身：{names}"))
    for name, head in found.heads.items():
        if isinstance(head, Missing):
            causes.missing(head, same(quoted(name, 80)))
    marks = found_marks(found)
    if marks:
        names = quoted(listed(marks), 200)
        causes.fail(Text(f"a download did not end: {names}", f"下载没有完成：{names}"))
    _weigh_weights(weights, causes)
    _weigh_config(case, found, config, causes)
    _weigh_tokenizer(found, tree, causes)


def found_marks(found: ModelFiles) -> tuple[str, ...]:
    """Of the whole folder: in a Hugging Face cache they lie beside the blobs, not in the revision."""
    look = found.looks[found.host] if found.host is not None else None
    return look.tree.unfinished() if look is not None and isinstance(look.tree, Tree) else ()


def _weigh_weights(weights: WeightFiles, causes: Causes) -> None:
    if weights.kind == "none":
        causes.fail(Text("no weights (model.safetensors or its index)", "没有权重（model.safetensors 或其索引）"))
    elif isinstance(weights.index, Missing):
        why = quoted(weights.index.why, 200)
        if weights.index.reason is Reason.PARSE_ERROR:
            causes.fail(Text(f"the index is broken: {why}", f"索引损坏：{why}"))
        else:
            causes.missing(weights.index, same(weights.index_name))
    if weights.unindexed:
        causes.warn(Text("several weight files without an index", "有多个权重文件但没有索引"))
    if weights.kind == "bin":
        causes.warn(
            Text(
                "only pytorch_model*.bin: a pickle executes code on load",
                "只有 pytorch_model*.bin：pickle 加载时会执行代码",
            )
        )


def _weigh_config(case: FleetCase, found: ModelFiles, config: Config | Missing, causes: Causes) -> None:
    if isinstance(config, Missing):
        if CONFIG in found.texts:
            if config.reason is Reason.PARSE_ERROR:
                why = quoted(config.why, 200)
                causes.fail(Text(f"config.json is broken: {why}", f"config.json 损坏：{why}"))
            else:
                causes.missing(config, same(CONFIG))
        return
    wanted = case.params.optional_text("model_architecture")
    named = quoted(", ".join(config.architectures)) or "?"
    if not config.architectures:
        causes.fail(Text("config.json names no architecture", "config.json 没有声明架构"))
    elif wanted is not None and wanted not in config.architectures:
        causes.fail(Text(f"the architecture is {named}, expected {wanted}", f"架构为 {named}，期望 {wanted}"))
    if config.custom_code:
        causes.warn(Text("auto_map: needs trust_remote_code", "有 auto_map：需要 trust_remote_code"))


def _weigh_tokenizer(found: ModelFiles, tree: Tree, causes: Causes) -> None:
    there = {*tree.files, *tree.errors}
    if not there & {*TOKENIZERS}:
        causes.fail(
            Text("no tokenizer (tokenizer.json or tokenizer.model)", "没有分词器（tokenizer.json 或 tokenizer.model）")
        )
    if TOKENIZER_CONFIG not in there:
        causes.warn(Text("no tokenizer_config.json", "没有 tokenizer_config.json"))
    template = any(name in there for name in TEMPLATES)
    content = found.texts.get(TOKENIZER_CONFIG)
    if content is not None:
        told = content if isinstance(content, Missing) else model_config.tokenizer_config(content)
        if isinstance(told, Missing):
            causes.missing(told, same(TOKENIZER_CONFIG))
            return
        template = template or told.template
        if told.custom_code:
            causes.warn(
                Text(
                    "the tokenizer has an auto_map: needs trust_remote_code",
                    "分词器有 auto_map：需要 trust_remote_code",
                )
            )
    if not template:
        causes.warn(
            Text("no chat template: /v1/chat/completions refuses", "没有对话模板：/v1/chat/completions 会拒绝请求")
        )


def gib(size: float) -> str:
    """`12.9 GiB`, `2.8 MiB` for what is smaller."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**28 else f"{size / 2**20:,.1f} MiB"


def _observed(found: ModelFiles, tree: Tree | Missing, config: Config | Missing) -> Text:
    nodes = sum(isinstance(look.tree, Tree) and not look.tree.error for look in found.looks.values())
    hosts = f"{nodes}/{len(found.looks)}"
    if isinstance(tree, Missing) or tree.error:
        return Text(f"{found.path}: seen on {hosts} nodes", f"{found.path}：{hosts} 个节点可见")
    kind = "?" if isinstance(config, Missing) else quoted(config.name)
    revision = f", {found.place.rpartition('/')[2][:12]}" if isinstance(found.place, str) and found.place else ""
    files, size, digest = len(tree.files), gib(tree.size), tree.digest()[:12]
    return Text(
        f"{files} files, {size}, {kind}{revision}; listing {digest} on {hosts} nodes",
        f"{files} 个文件，{size}，{kind}{revision}；列表摘要 {digest}，{hosts} 个节点可见",
    )


def _material(found: ModelFiles, tree: Tree | Missing, config: Config | Missing) -> dict[str, object]:
    return {
        "path": found.path,
        "digest": None if isinstance(tree, Missing) else tree.digest(),
        "architectures": None if isinstance(config, Missing) else list(config.architectures),
    }


JUDGE = FleetJudge("model.present", (), (), judge, ("model-files",))
