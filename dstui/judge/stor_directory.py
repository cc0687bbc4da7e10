"""stor.shared-dir: does the shared directory exist on every node, and is it really the share."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Sequence

from dstui.facts.case import FleetCase, HostSite
from dstui.facts.mounts import AUTOFS, Mount, under
from dstui.facts.raw import Missing
from dstui.facts.storage import Inode, Look, StorageFacts, User
from dstui.judge.fleet import facts_of, listed, share_hosts
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, not_applicable, quoted, unknown
from dstui.model import Reason, Ruling, Text, host_target, same

_DENIED = frozenset({"EACCES", "EPERM"})
_PASSED = Text(
    "the directory exists, is on a mount of its own, and the user may enter", "目录存在、位于独立挂载，且用户可进入"
)

Ids = tuple[int | None, int | None]


def judge(case: FleetCase) -> Sequence[Ruling]:
    inside = share_hosts(case.site)
    outside = [h for h in case.site.hosts if h not in inside]
    why = Text("does not use the shared storage (roles)", "该角色不使用共享存储")
    usual = _usual_ids(case, inside)
    return [
        *(_ruling(case, host, usual) for host in inside),
        *(not_applicable(host_target(host.name), why) for host in outside),
    ]


def expected(case: FleetCase) -> Text:
    path = case.site.shared_path
    return Text(f"{path} is a directory on a mounted share", f"{path} 是挂载的共享目录")


def serves_elsewhere(host: HostSite, facts: StorageFacts) -> str | None:
    """The exported paths of a pure storage server that has no directory at the shared path, else None."""
    if host.in_ray or isinstance(facts.exports, Missing) or not facts.exports:
        return None
    absent = isinstance(facts.share, Look) and facts.share.error == "ENOENT"
    return listed(sorted({export.path for export in facts.exports})) if absent else None


def exported(case: FleetCase, host: HostSite, facts: StorageFacts) -> bool:
    """Whether this storage host exports the directory itself or one above it."""
    if "storage" not in host.roles or isinstance(facts.exports, Missing):
        return False
    real = facts.share.real if isinstance(facts.share, Look) else None
    return any(under(export.path, real or case.site.shared_path) for export in facts.exports)


def _ruling(case: FleetCase, host: HostSite, usual: Ids | None) -> Ruling:
    target = host_target(host.name)
    facts = facts_of(case, host.name, StorageFacts)
    if isinstance(facts, Missing):
        return unknown(target, facts, expected(case))
    look = facts.share
    if isinstance(look, Missing):
        return unknown(target, look, expected(case))
    elsewhere = serves_elsewhere(host, facts)
    if elsewhere:
        return not_applicable(
            target, Text(f"serves the share from {elsewhere} itself", f"本机即共享服务器，导出 {elsewhere}")
        )
    causes = Causes(target, expected(case))
    if look.hung or look.target is None or look.error:
        _weigh_broken(case, look, causes)
    if look.target is not None and not look.hung:
        _weigh_directory(case, host, facts, look, look.target, causes)
        _weigh_user(case, facts, look, look.target, usual, causes)
    return causes.ruling(_observed(case, facts, look), _PASSED, material=_material(case, facts, look))


def _weigh_broken(case: FleetCase, look: Look, causes: Causes) -> None:
    path = case.site.shared_path
    if look.hung:
        causes.fail(Text(f"{path} hangs: the look never came back", f"{path} 挂死：访问没有返回"))
    elif look.error == "ENOENT":
        broken = look.link is not None
        en, zh = ("a symlink to nothing", "指向不存在目标的符号链接") if broken else ("missing", "不存在")
        causes.fail(Text(f"{path} is {en}", f"{path} {zh}"))
    elif look.error in _DENIED:
        causes.unknown(
            Reason.PERMISSION,
            Text(
                f"{path}: {look.call}: {look.error}, a parent may not be searched", f"{path}：{look.call}：{look.error}"
            ),
        )
    elif look.error:
        causes.fail(
            Text(f"{path}: {quoted(look.call, 30)}: {quoted(look.error, 30)}", f"{path}：{quoted(look.error, 30)}")
        )
    else:
        causes.unknown(Reason.PARSE_ERROR, Text(f"{path}: no answer to stat", f"{path}：stat 无结果"))


def _weigh_directory(
    case: FleetCase, host: HostSite, facts: StorageFacts, look: Look, target: Inode, causes: Causes
) -> None:
    path = case.site.shared_path
    if not stat.S_ISDIR(target.mode):
        causes.fail(Text(f"{path} is not a directory", f"{path} 不是目录"))
        return
    on_root = facts.on_root_filesystem(path)
    mount = facts.mount(path)
    if isinstance(mount, Mount) and mount.fstype == AUTOFS:
        causes.unknown(
            Reason.CANNOT_TELL, Text("autofs has not mounted it yet: run again", "autofs 尚未挂载：请重新运行")
        )
    if isinstance(on_root, Missing):
        causes.missing(on_root, Text("mount", "挂载点"))
    elif on_root and exported(case, host, facts):
        causes.warn(Text(f"{path} is exported from the root filesystem", f"{path} 从根文件系统导出"))
    elif on_root:
        causes.fail(
            Text(
                f"{path} lies on the root filesystem: the share is not mounted, writes fill the system disk",
                f"{path} 位于根文件系统：共享未挂载，写入会占满系统盘",
            )
        )
    if look.link is not None and stat.S_ISLNK(look.link.mode):
        where = quoted(look.real or "?", 80)
        causes.warn(Text(f"{path} is a symlink to {where}", f"{path} 是指向 {where} 的符号链接"))
    if target.mode & stat.S_IWOTH and not target.mode & stat.S_ISVTX:
        mode = f"{stat.S_IMODE(target.mode):o}"
        causes.warn(Text(f"world-writable without sticky bit ({mode})", f"所有人可写且无粘滞位（{mode}）"))


def _weigh_user(
    case: FleetCase, facts: StorageFacts, look: Look, target: Inode, usual: Ids | None, causes: Causes
) -> None:
    name = case.site.runtime_user
    if name is None or facts.user is None:
        if "x" not in look.access:
            causes.fail(Text("the login user may not enter the directory", "登录用户无法进入该目录"))
        return
    if isinstance(facts.user, Missing):
        causes.missing(facts.user, same(f"id {name}"))
        return
    if facts.user.uid is None:
        causes.warn(
            Text(f"no user {name} on this host: file owners will not match", f"本机没有用户 {name}：文件属主将不一致")
        )
        return
    if not _may_enter(target, facts.user):
        mode = f"{stat.S_IMODE(target.mode):o}"
        causes.fail(
            Text(
                f"{name} may not enter (mode {mode}, owner {target.uid}:{target.gid})",
                f"{name} 无法进入（权限 {mode}，属主 {target.uid}:{target.gid}）",
            )
        )
    if usual is not None and (facts.user.uid, facts.user.gid) != usual and case.params.flag("runtime_uid_equal"):
        causes.warn(
            Text(
                f"{name} is {facts.user.uid}:{facts.user.gid} here and {usual[0]}:{usual[1]} elsewhere",
                f"{name} 在本机为 {facts.user.uid}:{facts.user.gid}，其他主机为 {usual[0]}:{usual[1]}",
            )
        )


def _may_enter(directory: Inode, user: User) -> bool:
    """Search permission by mode bits; root may always, access lists are not seen."""
    if user.uid == 0:
        return True
    if user.uid == directory.uid:
        return bool(directory.mode & stat.S_IXUSR)
    if directory.gid in {user.gid, *user.groups}:
        return bool(directory.mode & stat.S_IXGRP)
    return bool(directory.mode & stat.S_IXOTH)


def _usual_ids(case: FleetCase, hosts: Sequence[HostSite]) -> Ids | None:
    """The runtime user's ids on most hosts; with a tie the smaller ones, so that the others are named."""
    seen: Counter[tuple[int, int]] = Counter()
    for host in hosts:
        facts = facts_of(case, host.name, StorageFacts)
        user = None if isinstance(facts, Missing) else facts.user
        if isinstance(user, User) and user.uid is not None and user.gid is not None:
            seen[user.uid, user.gid] += 1
    return min(seen, key=lambda ids: (-seen[ids], ids), default=None)


def _observed(case: FleetCase, facts: StorageFacts, look: Look) -> Text:
    if look.hung:
        return Text("hung", "挂死")
    if look.target is None:
        return same(f"{look.call}: {look.error}" if look.error else "-")
    mount = facts.mount(case.site.shared_path)
    on = "?" if isinstance(mount, Missing) or mount is None else f"{quoted(mount.source, 60)} {mount.fstype}"
    mode = f"{stat.S_IMODE(look.target.mode):o}"
    return same(f"{on}, mode {mode}, {look.target.uid}:{look.target.gid}")


def _material(case: FleetCase, facts: StorageFacts, look: Look) -> dict[str, object]:
    mount = facts.mount(case.site.shared_path)
    on_root = facts.on_root_filesystem(case.site.shared_path)
    user = facts.user
    return {
        "hung": look.hung,
        "error": look.error,
        "inode": [look.target.mode, look.target.uid, look.target.gid] if look.target else None,
        "source": None if isinstance(mount, Missing) or mount is None else mount.source,
        "on_root": None if isinstance(on_root, Missing) else on_root,
        "user": [user.uid, user.gid] if isinstance(user, User) else None,
    }


JUDGE = FleetJudge("stor.shared-dir", ("storage",), ("storage",), judge)
