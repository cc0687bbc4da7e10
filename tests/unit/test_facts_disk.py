"""Which block devices are local disks, and what is known of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dstui.facts.case import HostSite, Site
from dstui.facts.disk import GROUP, Disk, Wear, more, parse
from dstui.facts.raw import Answer, Missing, Raw
from dstui.model import Reason

HOSTS = Path(__file__).parent.parent / "data" / "hosts"
HOST = HostSite("gpu-01", frozenset({"head"}), "198.51.100.11", None, "198.51.100.11", 22, "dstui", True, None)
PEER = HostSite("gpu-02", frozenset({"worker"}), "198.51.100.12", None, "198.51.100.12", 22, "dstui", True, None)
SITE = Site("lab", "lab", "pre", (HOST, PEER), "/mnt/x", None, None, "bare-metal", True, "none")


def captured(name: str, **changes: Answer) -> Raw:
    """A captured host; `changes` are answers put in the place of others (`__` for `.`, `_` for `-`)."""
    sources = {op.key: op.source for op in GROUP.ops(HOST, SITE)}
    table = {
        key: Answer(
            key, sources.get(key, key), row.get("output", ""), row.get("error", ""), row.get("exit"), row.get("value"),
            missing=Missing(Reason(row["missing"]), row["why"]) if "missing" in row else None,
        )
        for key, row in json.loads((HOSTS / f"{name}.json").read_text()).items()
    }  # fmt: skip
    return Raw(table | {key.replace("__", ".").replace("_", "-"): answer for key, answer in changes.items()})


def text(output: str, error: str = "", code: int | None = None) -> Answer:
    return Answer("k", "source", output, error, code)


def value(found: object) -> Answer:
    return Answer("k", "source", value=found)


def missing(reason: Reason, why: str = "why") -> Answer:
    return Answer("k", "source", missing=Missing(reason, why))


def disks(raw: Raw) -> dict[str, Disk]:
    local = parse(Raw({"disk.path": value({}), **raw.answers})).local
    assert not isinstance(local, Missing)
    return {disk.name: disk for disk in local}


def block(**attributes: str) -> dict[str, str]:
    """Files of /sys/block: `sdb_queue_rotational="0"` is a file of sdb."""
    return {f"/sys/block/{name.replace('_', '/')}": content for name, content in attributes.items()}


def test_dgx() -> None:
    facts, found = parse(captured("dgx-h100")), disks(captured("dgx-h100"))
    assert len(found) == 10
    assert found["nvme0n1"].bytes == 3750748848 * 512
    assert not found["nvme0n1"].rotational and not found["nvme0n1"].virtual
    assert found["nvme0n1"].holders == {"md0"} and found["nvme5n1"].holders == {"md1"}
    assert set(facts.left_out) == {"md0", "md1", "loop0"}


def test_mixed_host() -> None:
    found = disks(captured("a100-pcie"))
    assert {name: disk.rotational for name, disk in found.items()} == {
        "nvme0n1": False, "sda": False, "sdb": False, "sdc": True,
    }  # fmt: skip
    assert found["sda"].transport == "sata"


def test_virtio_says_rotational_whatever_it_is() -> None:
    found = disks(captured("vm-virtio"))
    assert set(found) == {"vda"}
    assert found["vda"].virtual and found["vda"].rotational and found["vda"].bytes == 274877906944


@pytest.mark.parametrize(
    ("name", "vendor", "model"),
    [
        ("sda", "QEMU", "QEMU HARDDISK"),
        ("sda", "Msft", "Virtual Disk"),
        ("sda", "ATA", "VBOX HARDDISK"),
        ("sda", "DELL", "PERC H755 Front"),
        ("sda", "AVAGO", "MR9361-8i"),
        ("sda", "HPE", "LOGICAL VOLUME"),
        ("xvda", "", ""),
        ("vdb", "", ""),
    ],
)
def test_virtual_disks_and_raid_volumes(name: str, vendor: str, model: str) -> None:
    files = block(**{f"{name}_size": "4000000000", f"{name}_queue_rotational": "1"})
    files |= {f"/sys/block/{name}/device/vendor": vendor, f"/sys/block/{name}/device/model": model}
    assert disks(Raw({"disk.block": value(files)}))[name].virtual


@pytest.mark.parametrize(
    ("name", "attributes", "transport"),
    [
        ("zram0", {}, None), ("dm-0", {}, None), ("md127", {}, None), ("sr0", {}, None), ("nbd0", {}, None),
        ("rbd1", {}, None), ("drbd0", {}, None), ("fd0", {}, None), ("zd16", {}, None), ("nvme0c0n1", {}, None),
        ("sdb", {"removable": "1"}, None), ("sdb", {"size": "0"}, None), ("sdb", {"ro": "1"}, None),
        ("sdb", {}, "iscsi"), ("sdb", {}, "fc"), ("nvme3n1", {"device/transport": "tcp"}, None),
        ("nvme3n1", {}, "nvme-rdma"),
    ],
)  # fmt: skip
def test_left_out(name: str, attributes: dict[str, str], transport: str | None) -> None:
    row = {"size": "4000000000", "queue/rotational": "0", **attributes}
    listed = {"blockdevices": [{"name": name, "tran": transport}]}
    facts = parse(
        Raw(
            {
                "disk.block": value({f"/sys/block/{name}/{file}": content for file, content in row.items()}),
                "disk.lsblk": text(json.dumps(listed), code=0),
                "disk.path": value({}),
            }
        )
    )
    assert facts.local == () and set(facts.left_out) == {name}


def test_nvme_over_the_network_behind_native_multipath() -> None:
    """lsblk says `nvme` for both; only the controllers of the subsystem tell."""
    files = block(nvme0n1_size="4000000000", nvme1n1_size="4000000000")
    paths = {f"/sys/block/nvme{i}n1": f"../devices/virtual/nvme-subsystem/nvme-subsys{i}/nvme{i}n1" for i in (0, 1)}
    base = "/sys/class/nvme-subsystem/nvme-subsys"
    answers = {
        "disk.block": value(files),
        "disk.path": value(paths),
        "disk.controllers": value({f"{base}0/nvme0/transport": "pcie\n", f"{base}1/nvme1/transport": "tcp\n"}),
        "disk.lsblk": text(
            json.dumps({"blockdevices": [{"name": f"nvme{i}n1", "tran": "nvme"} for i in (0, 1)]}), code=0
        ),
    }
    facts = parse(Raw(answers))
    assert set(disks(Raw(answers))) == {"nvme0n1"}
    assert facts.left_out == {"nvme1n1": "over the network (tcp)"}


def test_network_disk_by_its_path_without_lsblk() -> None:
    files = block(sdb_size="4000000000", sdb_queue_rotational="0")
    path = {"/sys/block/sdb": "../devices/platform/host9/session1/target9:0:0/9:0:0:1/block/sdb"}
    facts = parse(Raw({"disk.block": value(files), "disk.path": value(path)}))
    assert facts.local == ()


def test_two_paths_to_one_disk_count_once() -> None:
    files = block(
        sda_size="1000", sda_wwid="naa.5", sdb_size="1000", sdb_wwid="naa.5", sdc_size="1000", sdc_wwid="naa.6"
    )
    assert set(disks(Raw({"disk.block": value(files)}))) == {"sda", "sdc"}


def test_unreadable_rotational_is_not_solid() -> None:
    assert disks(Raw({"disk.block": value(block(sda_size="1000"))}))["sda"].rotational is None


@pytest.mark.parametrize(
    "answer", [value({}), missing(Reason.PERMISSION), value("x"), value(block(sda_size="many"))], ids=str
)
def test_nothing_to_tell(answer: Answer) -> None:
    assert isinstance(parse(Raw({"disk.block": answer})).local, Missing)


def test_wear_is_asked_by_root_only() -> None:
    raw = captured("dgx-h100")
    assert more(HOST, SITE, raw) == ()
    root = captured("dgx-h100", disk__self=value({"uid": 0}))
    assert len(more(HOST, SITE, root)) == 20
    nvme = text('{"critical_warning": 4, "percent_used": 91}', code=0)
    smart = text('{"nvme_smart_health_information_log": {"critical_warning": 0, "percentage_used": 3}}', code=64)
    found = disks(Raw({**root.answers, "disk.nvme.nvme0n1": nvme, "disk.smart.nvme1n1": smart}))
    assert found["nvme0n1"].wear == Wear(91, 4)
    assert found["nvme1n1"].wear == Wear(3, 0)
    assert isinstance(found["nvme2n1"].wear, Missing)


def test_zfs_members() -> None:
    raw = captured("a100-pcie", disk__zfs=value({"/proc/spl/kstat/zfs/tank/state": [33188, 0, 0, 1, 1.0]}))
    assert [op.key for op in more(HOST, SITE, raw)] == ["disk.zpool"]
    said = "tank\t1.7T\t1K\n\t/dev/sda1\t888G\n\t/dev/nvme0n1p2\t888G\n"
    assert parse(Raw({**raw.answers, "disk.zpool": text(said, code=0)})).zpool_members == {"sda", "nvme0n1"}
