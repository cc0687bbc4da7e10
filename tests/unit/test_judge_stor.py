from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dstui.facts import storage
from dstui.facts.case import FleetCase, HostFacts, HostSite, Params, Site
from dstui.facts.choreography import NonceMatrix, NonceRead, NonceWrite
from dstui.facts.raw import Answer, Missing, Raw
from dstui.judge import stor, stor_directory, stor_nonce, stor_service, stor_space
from dstui.judge.stor_service import normal_source
from dstui.model import Reason, Ruling, TargetKind, Threshold, Verdict

DATA = Path(__file__).parent.parent / "data" / "hosts" / "storage"
SHARE = "/mnt/deepseek-shared"
UNREACHABLE = Missing(Reason.UNREACHABLE, "connect timed out")


def host(name: str, role: str, at: int) -> HostSite:
    return HostSite(name, frozenset({role}), f"198.51.100.{at}", None, f"198.51.100.{at}", 22, "ops", True, 8)


HEAD, WORKER = host("gpu-01", "head", 11), host("gpu-02", "worker", 12)
NAS, LB = host("nas-01", "storage", 23), host("lb-01", "lb", 21)
SITE = Site("ds", "lab", "pre", (HEAD, WORKER), SHARE, None, "deepseek", "bare-metal", False, "none")


def text(name: str) -> str:
    return (DATA / f"{name}.txt").read_text()


def inode(mode: int, uid: int = 1001, gid: int = 1001) -> list[float]:
    return [mode, uid, gid, 4096, 1.7e9]


def directory(bits: int = 0o755, uid: int = 1001, gid: int = 1001) -> list[float]:
    return inode(stat.S_IFDIR | bits, uid, gid)


def room(free_gb: float = 500.0, total_gb: float = 1000.0, **changed: int) -> dict[str, int]:
    kib = 1024
    free = int(free_gb * 1e9) // kib
    counts = {"bsize": kib, "frsize": kib, "blocks": int(total_gb * 1e9) // kib, "bfree": free, "bavail": free}
    return {**counts, "files": 65_000_000, "ffree": 60_000_000, "favail": 60_000_000, "flag": 4096, **changed}


def look(**changed: object) -> dict[str, object]:
    seen = {"lstat": directory(), "stat": directory(), "dev": "0:55", "parent_dev": "254:0", "real": SHARE}
    return {**seen, "access": "rwx", "statvfs": room(), "error": None, **changed}


def failed(call: str, errno: str, **changed: object) -> dict[str, object]:
    nothing = {"lstat": None, "stat": None, "dev": None, "real": None, "statvfs": None, "access": ""}
    return look(**{**nothing, "error": {"call": call, "errno": errno, "message": errno}, **changed})


def gathered(
    share: object = None,
    mountinfo: str | None = "mountinfo_nfs",
    user: str = "uid=1001(deepseek) gid=1001(deepseek) groups=1001(deepseek)",
    fstab: str | None = "fstab_share",
    exports: str | None = None,
    **more: Answer,
) -> HostFacts:
    def printed(key: str, output: str) -> Answer:
        return Answer(key, key, output, exit=0)

    answers = {
        "storage.share": Answer("s", "stat", value={SHARE: look() if share is None else share}),
        "storage.around": Answer("a", "stat", value={"/": look(dev="254:0", real="/")}),
        "storage.user": printed("id", user),
        "storage.units": printed("systemctl", text("systemctl_by_hand")),
        "storage.mountstats": printed("mountstats", text("mountstats_nfs").replace("3000 3060", "3000 3000")),
    }
    if mountinfo:
        answers["storage.mountinfo"] = printed("mountinfo", text(mountinfo) if "\n" not in mountinfo else mountinfo)
    if fstab:
        answers["storage.fstab"] = printed("fstab", text(fstab))
    if exports:
        answers["storage.exportfs"] = printed("exportfs", text(exports))
    raw = Raw({**answers, **{f"storage.{key}": answer for key, answer in more.items()}})
    return HostFacts(None, None, raw, {storage.StorageFacts: storage.parse(raw)})


def changed(**answers: Answer) -> HostFacts:
    """A good host with other answers to some operations."""
    raw = Raw({**gathered().raw.answers, **{f"storage.{key}": answer for key, answer in answers.items()}})
    return HostFacts(None, None, raw, {storage.StorageFacts: storage.parse(raw)})


LOST = HostFacts(UNREACHABLE, None, Raw(), {})


def case(facts: Mapping[str, HostFacts], where: Site, observed: object = None, **values: object) -> FleetCase:
    params = Params([Threshold(name, value, "document", value) for name, value in values.items()])
    return FleetCase(where, facts, params, {}, {type(observed): observed} if observed else {}, 0.0)


def by_name(rulings: object) -> dict[str, Ruling]:
    return {r.target.name: r for r in rulings}  # type: ignore[attr-defined]


# stor.shared-dir


def directories(first: HostFacts, second: HostFacts | None = None, where: Site = SITE) -> dict[str, Ruling]:
    facts = {"gpu-01": first, "gpu-02": second or gathered(), "lb-01": gathered(), "nas-01": second or gathered()}
    return by_name(stor_directory.judge(case(facts, where, runtime_uid_equal=True)))


FILE = inode(stat.S_IFREG | 0o644)
LINK = inode(stat.S_IFLNK | 0o777)
BARE = {"dev": "254:0"}


@pytest.mark.parametrize(
    ("share", "mountinfo", "verdict", "words"),
    [
        (look(), "mountinfo_nfs", Verdict.PASS, "on a mount of its own"),
        (look(dev="259:1"), "mountinfo_local_disk", Verdict.PASS, "on a mount of its own"),
        (failed("lstat", "ENOENT"), "mountinfo_none", Verdict.FAIL, "is missing"),
        (failed("stat", "ENOENT", lstat=LINK), "mountinfo_none", Verdict.FAIL, "a symlink to nothing"),
        (look(stat=FILE, lstat=FILE), "mountinfo_nfs", Verdict.FAIL, "is not a directory"),
        (look(dev="254:0"), "mountinfo_none", Verdict.FAIL, "lies on the root filesystem"),
        (look(dev="254:0"), "mountinfo_bind", Verdict.FAIL, "lies on the root filesystem"),
        (failed("stat", "ESTALE", lstat=directory()), "mountinfo_nfs", Verdict.FAIL, "stat: ESTALE"),
        (failed("stat", "EIO", lstat=directory()), "mountinfo_nfs", Verdict.FAIL, "stat: EIO"),
        (failed("lstat", "ENOTCONN"), "mountinfo_sshfs", Verdict.FAIL, "ENOTCONN"),
        ({"hung": True}, "mountinfo_nfs", Verdict.FAIL, "hangs"),
        (failed("lstat", "EACCES"), "mountinfo_nfs", Verdict.UNKNOWN, "a parent may not be searched"),
        (look(lstat=LINK, real="/data/x"), "mountinfo_nfs", Verdict.FAIL, "root filesystem"),
        (look(stat=directory(0o777)), "mountinfo_nfs", Verdict.WARN, "world-writable without sticky bit (777)"),
        (look(stat=directory(0o1777)), "mountinfo_nfs", Verdict.PASS, "on a mount of its own"),
        (
            look(stat=directory(0o750, 0, 0)),
            "mountinfo_nfs",
            Verdict.FAIL,
            "deepseek may not enter (mode 750, owner 0:0)",
        ),
        (look(stat=directory(0o750, 0, 1001)), "mountinfo_nfs", Verdict.PASS, "on a mount of its own"),
        (look(stat=directory(0o677)), "mountinfo_nfs", Verdict.FAIL, "may not enter"),
    ],
)
def test_directory_rules(share: object, mountinfo: str, verdict: Verdict, words: str) -> None:
    ruling = directories(gathered(share, mountinfo))["gpu-01"]
    assert ruling.verdict is verdict
    assert words in ruling.rule.en


def test_a_symlink_to_the_mounted_share_warns() -> None:
    moved = text("mountinfo_nfs").replace(SHARE, "/data/shared")
    ruling = directories(gathered(look(lstat=LINK, real="/data/shared"), moved))["gpu-01"]
    assert ruling.verdict is Verdict.WARN
    assert "is a symlink to /data/shared" in ruling.rule.en


@pytest.mark.parametrize(
    ("share", "reason"),
    [
        ([], Reason.PARSE_ERROR),
        ("\x1b[31m", Reason.PARSE_ERROR),
        ({}, Reason.PARSE_ERROR),
    ],
)
def test_a_garbled_look_is_unknown(share: object, reason: Reason) -> None:
    ruling = directories(gathered(share))["gpu-01"]
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, reason)


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.PERMISSION, Reason.TOOL_MISSING])
def test_a_look_that_was_not_had_is_unknown(reason: Reason) -> None:
    answer = Answer("storage.share", "stat", missing=Missing(reason, "why"))
    ruling = directories(changed(share=answer))["gpu-01"]
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, reason)


def test_ids_that_differ_between_hosts_warn_on_the_odd_one() -> None:
    odd = gathered(look(stat=directory(0o755)), user="uid=1002(deepseek) gid=1002(deepseek) groups=1002(deepseek)")
    rulings = directories(gathered(), odd)
    assert rulings["gpu-01"].verdict is Verdict.PASS
    assert rulings["gpu-02"].verdict is Verdict.WARN
    assert "deepseek is 1002:1002 here and 1001:1001 elsewhere" in rulings["gpu-02"].rule.en


def test_a_host_without_the_runtime_user_warns() -> None:
    answer = Answer("storage.user", "id deepseek", "", "id: 'deepseek': no such user", 1)
    ruling = directories(changed(user=answer))["gpu-01"]
    assert ruling.verdict is Verdict.WARN
    assert "no user deepseek" in ruling.rule.en


@pytest.mark.parametrize(("access", "verdict"), [("rwx", Verdict.PASS), ("rw", Verdict.FAIL), ("", Verdict.FAIL)])
def test_without_a_runtime_user_the_login_user_counts(access: str, verdict: Verdict) -> None:
    where = replace(SITE, runtime_user=None)
    assert directories(gathered(look(access=access)), where=where)["gpu-01"].verdict is verdict


def test_an_unreadable_mount_table_is_unknown_unless_devices_tell() -> None:
    told = directories(gathered(mountinfo=None))["gpu-01"]
    assert told.verdict is Verdict.PASS
    blind = directories(gathered(look(dev=None), mountinfo=None))["gpu-01"]
    assert (blind.verdict, blind.reason) == (Verdict.UNKNOWN, Reason.NOT_RUN)


def test_other_roles_do_not_need_the_share_and_unreachable_hosts_are_unknown() -> None:
    rulings = directories(LOST, where=replace(SITE, hosts=(HEAD, WORKER, LB)))
    assert rulings["lb-01"].verdict is Verdict.NOT_APPLICABLE
    assert (rulings["gpu-01"].verdict, rulings["gpu-01"].reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)


NAS_SITE = replace(SITE, hosts=(HEAD, WORKER, NAS))


@pytest.mark.parametrize(
    ("nas", "verdict"),
    [
        (gathered(failed("lstat", "ENOENT"), "mountinfo_none", exports="exportfs_v"), Verdict.NOT_APPLICABLE),
        (gathered(failed("lstat", "ENOENT"), "mountinfo_none"), Verdict.FAIL),
        (gathered(look(dev="254:0"), "mountinfo_none", exports="exportfs_v"), Verdict.FAIL),
        (gathered(look(dev="254:0", real="/export/deepseek"), "mountinfo_none", exports="exportfs_v"), Verdict.WARN),
    ],
)
def test_the_storage_server_may_keep_the_share_elsewhere(nas: HostFacts, verdict: Verdict) -> None:
    assert directories(gathered(), nas, NAS_SITE)["nas-01"].verdict is verdict


# stor.shared-service

TYPES = ("nfs", "nfs4", "lustre", "ceph", "fuse.ceph", "beegfs", "cifs", "fuse.s3fs")
SERVICE = {
    "shared_fs_types": TYPES,
    "shared_source": None,
    "nfs_hard": True,
    "nfs_vers_min": 4.1,
    "persistent_mount": True,
}


def services(
    first: HostFacts, second: HostFacts | None = None, where: Site = SITE, **values: object
) -> dict[str, Ruling]:
    facts = {h.name: first for h in where.hosts} | {"gpu-02": second or first}
    if NAS in where.hosts:
        facts |= {"nas-01": second or first, "gpu-02": first}
    return by_name(stor_service.judge(case(facts, where, **{**SERVICE, **values})))


def nfs(old: str = "", new: str = "") -> str:
    return text("mountinfo_nfs").replace(old, new)


@pytest.mark.parametrize(
    ("mountinfo", "fstab", "values", "verdict", "words"),
    [
        (nfs(), "fstab_share", {}, Verdict.PASS, "mounted again at boot"),
        (nfs(), "fstab_share", {"shared_source": "nas-01:/export/deepseek/"}, Verdict.PASS, "mounted again"),
        (
            nfs(),
            "fstab_share",
            {"shared_source": "nas-02:/export/deepseek"},
            Verdict.FAIL,
            "not nas-02:/export/deepseek",
        ),
        (nfs(",hard", ",soft"), "fstab_share", {}, Verdict.WARN, "soft mount"),
        (nfs(",hard", ",softerr"), "fstab_share", {}, Verdict.WARN, "softerr mount"),
        (nfs(",hard", ",soft"), "fstab_share", {"nfs_hard": False}, Verdict.PASS, "mounted again"),
        (nfs("vers=4.2", "vers=4.0"), "fstab_share", {}, Verdict.WARN, "NFS 4.0 is older than 4.1"),
        (nfs("vers=4.2", "vers=4.1"), "fstab_share", {}, Verdict.PASS, "mounted again"),
        (nfs("vers=4.2", "vers=3"), "fstab_share", {}, Verdict.WARN, "NFS 3 is older"),
        (nfs("vers=4.2,", ""), "fstab_share", {}, Verdict.WARN, "version is not shown"),
        (nfs(), "fstab_empty", {}, Verdict.WARN, "neither fstab nor systemd"),
        (nfs(), "fstab_empty", {"persistent_mount": False}, Verdict.PASS, "mounted again"),
        (nfs(), None, {}, Verdict.UNKNOWN, "/etc/fstab"),
        (text("mountinfo_autofs_mounted"), "fstab_empty", {}, Verdict.PASS, "mounted again"),
        (text("mountinfo_autofs"), "fstab_share", {}, Verdict.UNKNOWN, "autofs has not mounted"),
        (text("mountinfo_lustre"), "fstab_share", {}, Verdict.PASS, "mounted again"),
        (text("mountinfo_sshfs"), "fstab_share", {}, Verdict.FAIL, "fuse.sshfs is not one of shared_fs_types"),
        (text("mountinfo_sshfs"), "fstab_share", {"shared_fs_types": ("fuse.sshfs",)}, Verdict.PASS, "mounted again"),
        (nfs(" nfs4 ", " fuse.s3fs "), "fstab_share", {}, Verdict.WARN, "unfit for model weights"),
        (nfs(" nfs4 ", " cifs "), "fstab_share", {}, Verdict.WARN, "unfit for model weights"),
        (text("mountinfo_none"), "fstab_share", {}, Verdict.FAIL, "ext4 is a local filesystem"),
        (text("mountinfo_local_disk"), "fstab_share", {}, Verdict.FAIL, "xfs is a local filesystem"),
        (text("mountinfo_bind"), "fstab_share", {}, Verdict.FAIL, "ext4 is a local filesystem"),
        ("garbage\n", "fstab_share", {}, Verdict.UNKNOWN, "/proc/self/mountinfo"),
    ],
)
def test_service_rules(
    mountinfo: str, fstab: str | None, values: dict[str, object], verdict: Verdict, words: str
) -> None:
    ruling = services(gathered(look(dev=None), mountinfo, fstab=fstab), **values)["gpu-01"]
    assert ruling.verdict is verdict
    assert words in ruling.rule.en


def test_an_enabled_mount_unit_is_as_good_as_fstab() -> None:
    units = Answer("u", "systemctl", text("systemctl_units"), exit=0)
    assert services(gathered(fstab="fstab_empty", units=units))["gpu-01"].verdict is Verdict.PASS


def test_an_fstab_line_that_waits_for_a_hand_is_not_persistent() -> None:
    noauto = Answer("f", "fstab", text("fstab_share").replace("rw,hard", "noauto,rw,hard"))
    units = Answer("u", "systemctl", text("systemctl_units"), exit=0)
    ruling = services(changed(fstab=noauto, units=units))["gpu-01"]
    assert ruling.verdict is Verdict.WARN


@pytest.mark.parametrize(("sent", "verdict"), [(3039, Verdict.PASS), (3040, Verdict.WARN)])
def test_retransmissions_above_one_percent(sent: int, verdict: Verdict) -> None:
    # 4000 calls in all, of which one GETATTR was sent twice as well.
    stats = text("mountstats_nfs").replace("READ: 3000 3060", f"READ: 3000 {sent}")
    ruling = services(changed(mountstats=Answer("m", "m", stats)))["gpu-01"]
    assert ruling.verdict is verdict


def test_a_hung_path_is_unknown_and_tells_of_the_server() -> None:
    server = Answer("c", "connect", value=[["nas-01", 2049, "timeout", 2000.0]])
    share = Answer("s", "stat", value={SHARE: {"hung": True}})
    ruling = services(changed(share=share, server=server))["gpu-01"]
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.TIMEOUT)
    assert "nas-01:2049 timeout" in ruling.rule.en


def test_sources_that_differ_fail_the_odd_one_and_warn_the_rest() -> None:
    third = host("gpu-03", "worker", 13)
    where = replace(SITE, hosts=(HEAD, WORKER, third))
    rulings = services(gathered(), gathered(mountinfo=nfs("nas-01:", "nas-02:")), where)
    assert {name: r.verdict for name, r in rulings.items()} == {
        "gpu-01": Verdict.WARN,
        "gpu-02": Verdict.FAIL,
        "gpu-03": Verdict.WARN,
    }
    assert "nas-01:/export/deepseek ×2, nas-02:/export/deepseek ×1" in rulings["gpu-02"].rule.en


def test_two_hosts_with_two_sources_both_fail() -> None:
    rulings = services(gathered(), gathered(mountinfo=nfs("nas-01:", "nas-02:")))
    assert {r.verdict for r in rulings.values()} == {Verdict.FAIL}


def test_a_directory_below_the_mount_is_compared_as_a_whole() -> None:
    above = nfs("/mnt/deepseek-shared rw", "/mnt rw").replace("/export/deepseek rw", "/export rw")
    rulings = services(gathered(mountinfo=above, fstab="fstab_share"), shared_source="nas-01:/export/deepseek-shared")
    assert rulings["gpu-01"].verdict is Verdict.WARN  # /mnt itself is not in fstab
    assert "source is" not in rulings["gpu-01"].rule.en


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("NAS-01:/export/deepseek/", "nas-01:/export/deepseek"),
        ("198.51.100.23:/export/deepseek", "nas-01:/export/deepseek"),
        ("10.0.0.2:6789,10.0.0.1:6789:/", "10.0.0.1:6789,10.0.0.2:6789:/"),
        ("//nas/share/", "//nas/share"),
        ("[fd00::23]:/x", "fd00::23:/x"),
        ("beegfs_nodev", "beegfs_nodev"),
    ],
)
def test_sources_in_one_spelling(source: str, expected: str) -> None:
    assert normal_source(source, NAS_SITE) == expected


@pytest.mark.parametrize(
    ("exports", "verdict", "words"),
    [
        ("etab", Verdict.PASS, "this host serves the share"),
        ("exportfs_v", Verdict.WARN, "no_root_squash to the world: /export/scratch"),
    ],
)
def test_the_storage_server_is_judged_by_its_exports(exports: str, verdict: Verdict, words: str) -> None:
    nas = gathered(failed("lstat", "ENOENT"), "mountinfo_none", exports=exports)
    ruling = services(gathered(), nas, NAS_SITE)["nas-01"]
    assert ruling.verdict is verdict
    assert words in ruling.rule.en


def test_clients_that_mount_what_the_server_does_not_export() -> None:
    nas = gathered(failed("lstat", "ENOENT"), "mountinfo_none", exports="etab")
    ruling = services(gathered(mountinfo=nfs("/export/deepseek", "/export/old")), nas, NAS_SITE)["nas-01"]
    assert ruling.verdict is Verdict.FAIL
    assert "/export/old, which is not exported" in ruling.rule.en


def test_a_storage_server_whose_exports_cannot_be_read_is_unknown() -> None:
    denied = Answer("e", "sudo -n exportfs -v", missing=Missing(Reason.PERMISSION, "sudo refused"))
    nas = gathered(look(dev="259:1"), "mountinfo_local_disk", exportfs=denied)
    ruling = services(gathered(), nas, NAS_SITE)["nas-01"]
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.PERMISSION)


def test_service_is_not_for_other_roles_and_unknown_when_unreachable() -> None:
    rulings = services(LOST, where=replace(SITE, hosts=(HEAD, LB)))
    assert rulings["lb-01"].verdict is Verdict.NOT_APPLICABLE
    assert rulings["gpu-01"].verdict is Verdict.UNKNOWN


# stor.rw-all-nodes


def matrix(
    reads: Mapping[tuple[str, str], NonceRead | None] | None = None,
    writes: Mapping[str, NonceWrite | None] | None = None,
    **changed: object,
) -> NonceMatrix:
    names = ("gpu-01", "gpu-02")
    wrote = {n: NonceWrite(n, True, "", "deepseek", 3.0) for n in names} | dict(writes or {})
    read = {(r, w): NonceRead(r, w, "match", "", 0.1) for r in names for w in names} | dict(reads or {})
    whole = NonceMatrix(
        *("ab" * 16, f"{SHARE}/.dstui-probe"),
        tuple(w for w in wrote.values() if w),
        tuple(r for r in read.values() if r),
        {},
    )
    return replace(whole, **changed)  # type: ignore[arg-type]


def nonce(found: NonceMatrix | Missing | None, where: Site = SITE, as_user: str | None = "deepseek") -> Ruling:
    values = {"visible_within_s": 5, "visible_max_s": 40, "as_user": as_user}
    (ruling,) = stor_nonce.judge(case({}, where, found, **values))
    return ruling


def reading(outcome: str, error: str = "", seconds: float = 0.1) -> dict[tuple[str, str], NonceRead | None]:
    return {("gpu-02", "gpu-01"): NonceRead("gpu-02", "gpu-01", outcome, error, seconds)}


@pytest.mark.parametrize(
    ("reads", "verdict", "words"),
    [
        ({}, Verdict.PASS, "every node read every node's nonce"),
        (reading("match", seconds=5.0), Verdict.PASS, "every node read"),
        (reading("match", seconds=5.1), Verdict.WARN, "gpu-02 saw late (> 5 s): gpu-01 5.1 s"),
        (reading("match", seconds=40.0), Verdict.WARN, "gpu-02 saw late"),
        (reading("match", seconds=40.5), Verdict.FAIL, "gpu-02 saw too late (> 40 s)"),
        (reading("absent"), Verdict.FAIL, "gpu-02 does not read: gpu-01 absent"),
        (reading("mismatch"), Verdict.FAIL, "gpu-01 mismatch"),
        (reading("error", "EACCES"), Verdict.FAIL, "gpu-01 error EACCES"),
        ({("gpu-02", "gpu-01"): None}, Verdict.UNKNOWN, "gpu-02 was not asked to read gpu-01"),
    ],
)
def test_nonce_reads(reads: dict[tuple[str, str], NonceRead | None], verdict: Verdict, words: str) -> None:
    ruling = nonce(matrix(reads))
    assert ruling.verdict is verdict
    assert words in ruling.rule.en
    assert (ruling.target.kind, ruling.target.name) == (TargetKind.CLUSTER, "ds")


@pytest.mark.parametrize(
    ("write", "verdict", "words"),
    [
        (NonceWrite("gpu-01", False, "EROFS", "deepseek", 1.0), Verdict.FAIL, "gpu-01 cannot write as deepseek: EROFS"),
        (NonceWrite("gpu-01", True, "", "ops", 1.0), Verdict.WARN, "tested as ops, not as deepseek"),
        (NonceWrite("gpu-01", True, "", "deepseek", 1.0, 2), Verdict.WARN, "2 files of earlier runs"),
        (None, Verdict.UNKNOWN, "gpu-01 was not asked to write"),
    ],
)
def test_nonce_writes(write: NonceWrite | None, verdict: Verdict, words: str) -> None:
    ruling = nonce(matrix(writes={"gpu-01": write}))
    assert ruling.verdict is verdict
    assert words in ruling.rule.en


@pytest.mark.parametrize(("user", "verdict"), [("root", Verdict.WARN), ("ops", Verdict.PASS)])
def test_root_hides_root_squash(user: str, verdict: Verdict) -> None:
    writes = {name: NonceWrite(name, True, "", user, 1.0) for name in ("gpu-01", "gpu-02")}
    assert nonce(matrix(writes=writes), replace(SITE, runtime_user=None), None).verdict is verdict


def test_a_lost_host_leaves_a_hole_unless_something_fails() -> None:
    hole = {"missing": {"gpu-02": UNREACHABLE}}
    alone = {("gpu-02", "gpu-01"): None, ("gpu-02", "gpu-02"): None, ("gpu-01", "gpu-02"): None}
    ruling = nonce(matrix(alone, {"gpu-02": None}, **hole))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)
    assert ruling.observed.en.startswith("1 of 4 reads match")
    denied = NonceWrite("gpu-01", False, "EACCES", "deepseek", 1.0)
    assert nonce(matrix(alone, {"gpu-01": denied, "gpu-02": None}, **hole)).verdict is Verdict.FAIL


@pytest.mark.parametrize("found", [None, Missing(Reason.TIMEOUT, "45 s")])
def test_without_a_nonce_matrix_nothing_is_known(found: Missing | None) -> None:
    assert nonce(found).verdict is Verdict.UNKNOWN


def test_an_empty_matrix_is_no_proof() -> None:
    assert nonce(matrix(writes={"gpu-01": None, "gpu-02": None})).verdict is Verdict.UNKNOWN
    assert nonce(NonceMatrix("ab" * 16, SHARE, (), (), {})).verdict is Verdict.UNKNOWN


def test_the_times_are_shown_and_are_no_part_of_what_is_signed() -> None:
    quick, slow = nonce(matrix()), nonce(matrix(reading("match", seconds=4.0)))
    assert quick.notes != slow.notes
    assert quick.material == slow.material


# stor.free-space


def free(
    first: HostFacts, second: HostFacts | None = None, where: Site = SITE, model: float | None = None, **others: object
) -> Ruling:
    values = {"shared_free_min_gb": 100, "model_size_gb": model, "inode_min": 10_000, "skew_pct": 1}
    facts = {"gpu-01": first, "gpu-02": second or first, "nas-01": first}
    (ruling,) = stor_space.judge(case(facts, where, **{**values, **others}))
    return ruling


def roomy(free_gb: float, total_gb: float = 1000.0, **counts: int) -> HostFacts:
    return gathered(look(statvfs=room(free_gb, total_gb, **counts)))


@pytest.mark.parametrize(
    ("facts", "model", "verdict", "words"),
    [
        (roomy(500), None, Verdict.PASS, "enough room"),
        (roomy(120.01), None, Verdict.PASS, "enough room"),
        (roomy(119.9), None, Verdict.WARN, "less than 1.2 × the need (120 GB)"),
        (roomy(100.01), None, Verdict.WARN, "less than 1.2"),
        (roomy(99.9), None, Verdict.FAIL, "99.9 GB free < 100 GB"),
        (roomy(500), 135, Verdict.PASS, "enough room"),
        (roomy(160), 135, Verdict.WARN, "less than 1.2 × the need (178.2 GB)"),
        (roomy(148), 135, Verdict.UNKNOWN, "enough only if the model is already on the share"),
        (roomy(90), 625, Verdict.FAIL, "90.0 GB free < 100 GB"),
        (roomy(500, 4000), None, Verdict.PASS, "enough room"),
        (roomy(500, 5100), None, Verdict.WARN, "90 % used"),
        (roomy(500, favail=0), None, Verdict.FAIL, "no inode left"),
        (roomy(500, favail=9_999), None, Verdict.WARN, "9999 inodes left < 10000"),
        (roomy(500, favail=10_000), None, Verdict.PASS, "enough room"),
        (roomy(500, files=0, favail=0), None, Verdict.PASS, "enough room"),
        (roomy(500, flag=4097), None, Verdict.FAIL, "mounted read-only"),
        (gathered(mountinfo=nfs("shared rw,", "shared ro,")), None, Verdict.FAIL, "mounted read-only"),
        (roomy(0, 0), None, Verdict.UNKNOWN, "reports no size"),
        (gathered({"hung": True}), None, Verdict.UNKNOWN, "hangs"),
        (gathered(look(statvfs=None)), None, Verdict.UNKNOWN, "statvfs"),
        (gathered(failed("lstat", "EACCES")), None, Verdict.UNKNOWN, "permission denied"),
        (gathered(look(dev="254:0"), "mountinfo_none"), None, Verdict.UNKNOWN, "blocked by another check"),
        (gathered(failed("lstat", "ENOENT"), "mountinfo_none"), None, Verdict.UNKNOWN, "the share is not there"),
        (gathered(look(dev=None), "mountinfo_autofs"), None, Verdict.UNKNOWN, "autofs"),
        (gathered([]), None, Verdict.UNKNOWN, "not understood"),
        (LOST, None, Verdict.UNKNOWN, "host not reachable"),
    ],
)
def test_space_rules(facts: HostFacts, model: float | None, verdict: Verdict, words: str) -> None:
    ruling = free(facts, model=model)
    assert ruling.verdict is verdict
    assert words in ruling.rule.en
    assert (ruling.target.kind, ruling.target.name) == (TargetKind.CLUSTER, "ds")


@pytest.mark.parametrize(("other", "verdict"), [(495.1, Verdict.PASS), (494.0, Verdict.WARN)])
def test_nodes_that_see_different_room(other: float, verdict: Verdict) -> None:
    assert free(roomy(500), roomy(other)).verdict is verdict


def test_one_lost_node_makes_the_whole_unknown_unless_another_fails() -> None:
    ruling = free(roomy(500), LOST)
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)
    assert "1 of 2 nodes measured" in ruling.observed.en
    assert free(roomy(50), LOST).verdict is Verdict.FAIL


def test_an_unmounted_share_names_the_check_that_blocks() -> None:
    ruling = free(roomy(500), gathered(look(dev="254:0"), "mountinfo_none"))
    assert (ruling.verdict, ruling.reason, ruling.detail) == (Verdict.UNKNOWN, Reason.BLOCKED_BY, "stor.shared-dir")


@pytest.mark.parametrize(("limit_kib", "verdict"), [(400_000_000, Verdict.WARN), (900_000_000, Verdict.PASS)])
def test_a_quota_smaller_than_the_free_space(limit_kib: int, verdict: Verdict) -> None:
    output = f"     Filesystem blocks quota limit grace\nnas-01:/export/deepseek 1000 0 {limit_kib} 0 1 0 0 0\n"
    assert free(gathered(quota=Answer("q", "quota", output, exit=0))).verdict is verdict


def test_a_site_without_nodes_is_unknown() -> None:
    ruling = free(roomy(500), where=replace(SITE, hosts=(LB,)))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NO_TARGETS)


def test_every_judge_is_announced() -> None:
    assert [judge.check_id for judge in stor.JUDGES] == [
        "stor.shared-dir",
        "stor.shared-service",
        "stor.rw-all-nodes",
        "stor.free-space",
    ]
