"""stor.*: one node alone, autofs that has not mounted, another server in fstab, free bytes that never stand still."""

import stat
from collections.abc import Mapping
from dataclasses import replace

import pytest

from dstui.facts import storage
from dstui.facts.case import FleetCase, HostFacts, HostSite, Params, Site
from dstui.facts.choreography import NonceMatrix, NonceRead, NonceWrite
from dstui.facts.raw import Answer, Missing, Raw
from dstui.judge import stor_directory, stor_nonce, stor_service, stor_space
from dstui.model import Reason, Ruling, Threshold, Verdict

SHARE = "/mnt/deepseek-shared"
HOST = HostSite("gpu-01", frozenset({"head"}), "198.51.100.11", None, "198.51.100.11", 22, "ops", True, 8)
SITE = Site("ds", "lab", "pre", (HOST,), SHARE, None, None, "bare-metal", False, "none")
ROOT_LINE = "27 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n"
NFS = f"98 27 0:55 / {SHARE} rw shared:6 - nfs4 nas-01:/export rw,vers=4.2,hard\n"
AUTOFS = f"98 27 0:55 / {SHARE} rw shared:6 - autofs auto.direct rw,fd=5\n"
PARAMS = {
    "shared_fs_types": ("nfs4",), "shared_source": None, "nfs_hard": True, "nfs_vers_min": 4.1,
    "persistent_mount": True, "visible_within_s": 5, "visible_max_s": 40, "as_user": None, "runtime_uid_equal": True,
    "shared_free_min_gb": 100, "model_size_gb": None, "inode_min": 10_000, "skew_pct": 1,
}  # fmt: skip


def gathered(
    mountinfo: str = ROOT_LINE + NFS, fstab: str = "", device: str = "0:55", space: Mapping[str, object] | None = None
) -> HostFacts:
    row = [stat.S_IFDIR | 0o755, 1001, 1001, 4096, 1.0]
    counts = {"bsize": 1024, "frsize": 1024, "blocks": 1_000_000_000, "bfree": 500_000_000, "bavail": 500_000_000,
              "files": 65_000_000, "ffree": 60_000_000, "favail": 60_000_000, "flag": 0, **(space or {})}  # fmt: skip
    look = {"lstat": row, "stat": row, "dev": device, "parent_dev": "254:0", "real": SHARE, "access": "rwx",
            "statvfs": counts, "error": None}  # fmt: skip
    answers = {
        "storage.share": Answer("s", "stat", value={SHARE: look}),
        "storage.around": Answer("a", "stat", value={"/": {**look, "dev": "254:0"}}),
        "storage.mountinfo": Answer("m", "mountinfo", mountinfo),
        "storage.fstab": Answer("f", "fstab", fstab or f"nas-01:/export {SHARE} nfs4 rw,_netdev 0 0\n"),
    }
    raw = Raw(answers)
    return HostFacts(None, None, raw, {storage.StorageFacts: storage.parse(raw)})


ALONE = NonceMatrix(
    "r", SHARE, (NonceWrite("gpu-01", True, "", "ops", 1.0),), (NonceRead("gpu-01", "gpu-01", "match", "", 0.1),), {}
)


def case(facts: HostFacts, site: Site = SITE) -> FleetCase:
    params = Params([Threshold(name, value, "document", value) for name, value in PARAMS.items()])
    return FleetCase(site, {h.name: facts for h in site.hosts}, params, {}, {NonceMatrix: ALONE}, 0.0)


def first(found: object) -> Ruling:
    return next(iter(found))  # type: ignore[call-overload,no-any-return]


def test_one_node_that_reads_its_own_system_disk_is_no_proof() -> None:
    assert first(stor_nonce.judge(case(gathered()))).verdict is Verdict.PASS
    ruling = first(stor_nonce.judge(case(gathered(ROOT_LINE, device="254:0"))))
    assert (ruling.verdict, ruling.reason, ruling.detail) == (Verdict.UNKNOWN, Reason.BLOCKED_BY, "stor.shared-dir")


def test_an_autofs_that_has_not_mounted_is_not_the_share() -> None:
    assert first(stor_directory.judge(case(gathered()))).verdict is Verdict.PASS
    assert first(stor_directory.judge(case(gathered(ROOT_LINE + AUTOFS)))).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("fstab", "verdict"),
    [
        (f"NAS-01:/export/ {SHARE} nfs defaults 0 0\n", Verdict.PASS),
        (f"old-nas:/export {SHARE} nfs4 defaults 0 0\n", Verdict.WARN),
    ],
)
def test_fstab_must_name_what_is_mounted(fstab: str, verdict: Verdict) -> None:
    assert first(stor_service.judge(case(gathered(fstab=fstab)))).verdict is verdict


def test_free_bytes_that_change_by_the_second_change_no_signature() -> None:
    def material(**space: object) -> object:
        return first(stor_space.judge(case(gathered(space=space)))).material

    assert material() == material(bavail=499_999_000, bfree=499_999_000, favail=59_999_999)
    assert material() == material(bavail=480_000_000, bfree=480_000_000)
    assert material() != material(bavail=110_000_000)
    assert material() != material(favail=9_999)
    assert material() != material(flag=1)


def test_a_host_without_python_says_what_is_lacking() -> None:
    ruling = first(stor_space.judge(case(gathered(space={"favail": None, "flag": None}))))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.TOOL_MISSING)
    assert "python3" in ruling.rule.en


def test_a_run_id_changes_nothing_that_a_signature_rests_on() -> None:
    one = first(stor_nonce.judge(case(gathered())))
    other = replace(case(gathered()), observed={NonceMatrix: replace(ALONE, run="s")})
    assert one.material == first(stor_nonce.judge(other)).material


def test_a_share_that_could_not_be_looked_at_is_not_fine_by_its_mount() -> None:
    facts = gathered()
    raw = Raw({**facts.raw.answers, "storage.share": Answer("s", "stat", missing=Missing(Reason.TIMEOUT, "hung"))})
    hidden = HostFacts(None, None, raw, {storage.StorageFacts: storage.parse(raw)})
    ruling = first(stor_service.judge(case(hidden)))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.TIMEOUT)
