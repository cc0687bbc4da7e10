from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import mounts, storage
from dstui.facts.case import HostSite, Site
from dstui.facts.mounts import Export, Mount, MountUnit, NfsHealth
from dstui.facts.raw import Answer, Missing, Raw
from dstui.facts.storage import Inode, Look, Quota, StorageFacts, User
from dstui.model import Reason

DATA = Path(__file__).parent.parent / "data" / "hosts" / "storage"
SHARE = "/mnt/deepseek-shared"
HOST = HostSite("gpu-01", frozenset({"head"}), "198.51.100.11", None, "198.51.100.11", 22, "ops", True, 8)
NAS = HostSite("nas-01", frozenset({"storage"}), "198.51.100.23", None, "198.51.100.23", 22, "ops", False, None)
SITE = Site("ds", "lab", "pre", (HOST, NAS), SHARE, None, "deepseek", "bare-metal", False, "none")

DIRECTORY = [stat.S_IFDIR | 0o755, 1001, 1001, 4096, 1.7e9]
ROOM = {"bsize": 1048576, "frsize": 1048576, "blocks": 1000, "bfree": 600, "bavail": 500, "files": 0, "ffree": 0}


def text(name: str) -> str:
    return (DATA / f"{name}.txt").read_text()


def look(**changed: object) -> dict[str, object]:
    seen = {"lstat": DIRECTORY, "stat": DIRECTORY, "dev": "0:55", "parent_dev": "254:0", "real": SHARE, "access": "rwx"}
    return {**seen, "statvfs": {**ROOM, "favail": 0, "flag": 4096}, "error": None, **changed}


def answers(share: object = None, mountinfo: str = "mountinfo_nfs", **printed: str) -> Raw:
    found = {
        "storage.share": Answer("storage.share", "stat", value={SHARE: look() if share is None else share}),
        "storage.around": Answer("storage.around", "stat /", value={"/": look(dev="254:0", real="/")}),
        "storage.mountinfo": Answer("storage.mountinfo", "/proc/self/mountinfo", text(mountinfo)),
    }
    found |= {f"storage.{key}": Answer(f"storage.{key}", key, output, exit=0) for key, output in printed.items()}
    return Raw(found)


def test_a_mounted_share() -> None:
    facts = storage.parse(answers())
    assert isinstance(facts.share, Look)
    assert facts.share.target == Inode(stat.S_IFDIR | 0o755, 1001, 1001)
    mount = facts.mount(SHARE)
    assert isinstance(mount, Mount)
    assert (mount.fstype, mount.source, mount.option("vers"), mount.option("hard"), mount.option("soft")) == (
        "nfs4",
        "nas-01:/export/deepseek",
        "4.2",
        "",
        None,
    )
    assert facts.on_root_filesystem(SHARE) is False


@pytest.mark.parametrize(
    ("mountinfo", "dev", "expected"),
    [("mountinfo_none", "254:0", True), ("mountinfo_bind", "254:0", True), ("mountinfo_local_disk", "259:1", False)],
)
def test_the_root_filesystem_is_known_by_its_device(mountinfo: str, dev: str, expected: bool) -> None:
    assert storage.parse(answers(look(dev=dev), mountinfo)).on_root_filesystem(SHARE) is expected


def test_space_counts_what_a_user_may_fill() -> None:
    facts = storage.parse(answers())
    assert isinstance(facts.share, Look)
    space = facts.share.space
    assert space is not None
    mib = 1048576
    assert (space.total, space.free, space.available) == (1000 * mib, 600 * mib, 500 * mib)
    assert space.used_pct == pytest.approx(44.44, abs=0.01)
    assert (space.inodes, space.read_only) == (0, False)


@pytest.mark.parametrize(
    "statvfs",
    [None, {}, {**ROOM, "favail": 0}, {**ROOM, "favail": 0, "flag": 0, "frsize": 0}, {**ROOM, "favail": -1, "flag": 0}],
)
def test_space_that_is_incomplete_is_none(statvfs: object) -> None:
    facts = storage.parse(answers(look(statvfs=statvfs)))
    assert isinstance(facts.share, Look)
    assert facts.share.space is None


def test_a_hung_path_is_known_to_hang() -> None:
    facts = storage.parse(answers({"hung": True}))
    assert facts.share == Look(hung=True)


def test_an_error_keeps_its_name_and_call() -> None:
    gone = look(stat=None, statvfs=None, dev=None, real=None, error={"call": "stat", "errno": "ESTALE", "message": "x"})
    facts = storage.parse(answers(gone))
    assert isinstance(facts.share, Look)
    assert (facts.share.error, facts.share.call, facts.share.target) == ("ESTALE", "stat", None)


@pytest.mark.parametrize("share", [[], "x", 3, {"lstat": None}, {"lstat": ["a", "b", "c"]}])
def test_a_look_that_says_nothing_is_missing(share: object) -> None:
    facts = storage.parse(answers(share))
    assert isinstance(facts.share, Missing)
    assert facts.share.reason is Reason.PARSE_ERROR


def test_a_host_that_ran_out_of_time_is_no_hung_path() -> None:
    late = Missing(Reason.TIMEOUT, "not finished when the host's 60 s were over")
    facts = storage.parse(Raw({"storage.share": Answer("storage.share", "stat", missing=late)}))
    assert facts.share == late


def test_autofs_is_read_again_after_the_touch() -> None:
    first = answers(mountinfo="mountinfo_autofs")
    again = storage.more(HOST, SITE, first)
    assert [op.key for op in again] == ["storage.mountinfo_again"]
    second = Answer("storage.mountinfo_again", "/proc/self/mountinfo", text("mountinfo_autofs_mounted"))
    mount = storage.parse(Raw({**first.answers, "storage.mountinfo_again": second})).mount(SHARE)
    assert isinstance(mount, Mount)
    assert mount.fstype == "nfs4"


def test_the_nfs_servers_port_is_tried() -> None:
    (asked,) = storage.more(HOST, SITE, answers())
    assert asked.args["endpoints"] == [["nas-01", 2049]]
    assert storage.more(HOST, SITE, answers(mountinfo="mountinfo_lustre")) == ()
    tried = Raw({"storage.server": Answer("storage.server", "c", value=[["nas-01", 2049, "refused", 0.2]])})
    assert storage.parse(tried).server == {"nas-01": "refused"}


def test_a_later_mount_further_up_does_not_hide_the_device() -> None:
    deep = Mount("/mnt/a/b", "nfs4", "n:/b", "/", "0:55", ())
    over = Mount("/mnt/a", "xfs", "/dev/sdb", "/", "8:16", ())
    assert mounts.covering([deep, over], "/mnt/a/b", "8:16") == over
    assert mounts.covering([deep, over], "/mnt/a/b", "0:55") == deep
    assert mounts.covering([deep, over], "/mnt/a/b", None) == deep
    assert mounts.covering([deep], "/mnt/ab", None) is None


def test_mountinfo_escapes_and_bare_options() -> None:
    found = mounts.mountinfo(text("mountinfo_escaped"))
    assert not isinstance(found, Missing)
    assert (found[1].point, found[1].source) == ("/mnt/deep seek", "nas-01:/export/deep seek")
    assert found[1].option("soft") == ""


@pytest.mark.parametrize("content", ["", "garbage", text("mountinfo_nfs") + "98 27 0:55 / /cut"])
def test_a_table_of_mounts_that_is_cut_is_missing(content: str) -> None:
    assert isinstance(mounts.mountinfo(content), Missing)


def test_fstab() -> None:
    entries = mounts.fstab(text("fstab_share"))
    assert [(e.source, e.point, e.fstype) for e in entries] == [
        ("UUID=6f1c", "/", "ext4"),
        ("nas-01:/export/deepseek", SHARE, "nfs4"),
    ]
    assert "_netdev" in entries[1].options
    assert mounts.fstab(text("fstab_empty")) == ()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (SHARE, r"mnt-deepseek\x2dshared"),
        ("/", "-"),
        ("//mnt//a_b/", "mnt-a_b"),
        ("/.hidden/x.y", r"\x2ehidden-x.y"),
        ("/数据", r"\xe6\x95\xb0\xe6\x8d\xae"),
    ],
)
def test_unit_names_are_escaped_as_systemd_does(path: str, expected: str) -> None:
    assert mounts.unit_name(path) == expected


def test_mount_units() -> None:
    generated, _ = mounts.mount_units(text("systemctl_units"))
    assert generated.persistent
    assert not any(unit.persistent for unit in mounts.mount_units(text("systemctl_by_hand")))
    assert not MountUnit("a.mount", "disabled", "/etc/systemd/system/a.mount").persistent


def test_mountstats_sums_operations() -> None:
    assert mounts.mountstats(text("mountstats_nfs")) == (NfsHealth(SHARE, 4000, 61, 6500 / 4000),)
    assert NfsHealth(SHARE, 4000, 61, 1.0).retransmit_pct == pytest.approx(1.525)
    assert NfsHealth(SHARE, 0, 0, None).retransmit_pct == 0.0


def test_exports_in_their_three_spellings() -> None:
    running = mounts.exports(text("exportfs_v"))
    assert [(e.path, e.client, e.to_the_world) for e in running] == [
        ("/export/deepseek", "198.51.100.0/24", False),
        ("/export/scratch", "<world>", True),
    ]
    assert "no_root_squash" in running[1].options
    assert [(e.path, e.client) for e in mounts.exports(text("etab"))] == [("/export/deepseek", "198.51.100.0/24")]
    assert [(e.path, e.client) for e in mounts.exports(text("exports"))] == [
        ("/export/deepseek", "198.51.100.0/24"),
        ("/export/deepseek", "*"),
        ("/export/with space", "*"),
    ]


def test_exports_without_root_come_from_the_files() -> None:
    denied = Answer("e", "sudo -n exportfs -v", missing=Missing(Reason.PERMISSION, "sudo refused"))
    files = Answer("f", "f", value={"/var/lib/nfs/etab": text("etab"), "/etc/exports": text("exports")})
    found = storage.parse(Raw({"storage.exportfs": denied, "storage.exports": files})).exports
    assert not isinstance(found, Missing)
    assert [e.client for e in found] == ["198.51.100.0/24"]
    nothing = Answer("f", "f", value={})
    assert isinstance(storage.parse(Raw({"storage.exportfs": denied, "storage.exports": nothing})).exports, Missing)


def test_an_export_with_one_client() -> None:
    assert mounts.exports("/a 10.0.0.1(rw)") == (Export("/a", "10.0.0.1", ("rw",)),)


@pytest.mark.parametrize(
    ("output", "error", "exit_code", "expected"),
    [
        (
            "uid=1001(deepseek) gid=1001(deepseek) groups=1001(deepseek),27(sudo)\n",
            "",
            0,
            User(1001, 1001, frozenset({1001, 27})),
        ),
        ("uid=1001 gid=100 groups=100 context=unconfined_u:s0\n", "", 0, User(1001, 100, frozenset({100}))),
        ("", "id: 'deepseek': no such user\n", 1, User(None, None, frozenset())),
        ("", "id: unknown user deepseek\n", 1, User(None, None, frozenset())),
    ],
)
def test_the_runtime_users_ids(output: str, error: str, exit_code: int, expected: User) -> None:
    raw = Raw({"storage.user": Answer("storage.user", "id deepseek", output, error, exit_code)})
    assert storage.parse(raw).user == expected


@pytest.mark.parametrize(("output", "exit_code"), [("", 0), ("", 1), ("garbage", 0)])
def test_ids_that_cannot_be_read_are_missing(output: str, exit_code: int) -> None:
    raw = Raw({"storage.user": Answer("storage.user", "id deepseek", output, exit=exit_code)})
    assert isinstance(storage.parse(raw).user, Missing)


def test_quota_in_bytes_also_when_exceeded() -> None:
    raw = Raw({"storage.quota": Answer("storage.quota", "quota", text("quota"), exit=1)})
    assert storage.parse(raw).quotas == (Quota("nas-01:/export/deepseek", 104857600 * 1024, 110000000 * 1024),)


def test_only_the_storage_host_is_asked_for_exports() -> None:
    keys = [op.key for op in storage.ops(NAS, SITE)]
    assert {"storage.exportfs", "storage.exports", "storage.user"} <= set(keys)
    assert "storage.exportfs" not in [op.key for op in storage.ops(HOST, SITE)]
    assert keys.index("storage.share") < keys.index("storage.mountinfo")


@given(st.text())
def test_any_text_gives_facts(content: str) -> None:
    keys = ("mountinfo", "fstab", "units", "mountstats", "exportfs", "user", "quota")
    raw = Raw({f"storage.{key}": Answer(key, key, content, exit=0) for key in keys})
    assert isinstance(storage.parse(raw), StorageFacts)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_structure_gives_facts(value: object) -> None:
    keys = ("share", "around", "exports", "server")
    raw = Raw({f"storage.{key}": Answer(key, key, value=value) for key in keys})
    assert isinstance(storage.parse(raw), StorageFacts)
    for name in ("lstat", "stat", "statvfs", "error", "dev", "real"):
        assert isinstance(storage.parse(answers(look(**{name: value}))), StorageFacts)
