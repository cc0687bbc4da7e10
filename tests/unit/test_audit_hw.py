"""hw.*: what must not pass: a lost GPU that is still named, persistent memory, disks of the network, cut text."""

import json
from pathlib import Path

import pytest

from dstui.facts import cpu, disk, gpu, links, mem, os
from dstui.facts.case import FleetCase, HostCase, HostFacts, HostSite, Params, Site
from dstui.facts.raw import Answer, Missing, Raw
from dstui.judge.hw import memory
from dstui.judge.hw_gpu import gpu_model
from dstui.judge.hw_nic import nic_speed
from dstui.model import Reason, Ruling, Threshold, Verdict

HOSTS = Path(__file__).parent.parent / "data" / "hosts"
GROUPS = (cpu.GROUP, disk.GROUP, gpu.GROUP, links.GROUP, mem.GROUP, os.GROUP)
DEFAULTS: dict[str, object] = {
    "gpu_min_count": 1, "gpus_per_host": None, "gpu_models": ["H100"], "gpu_models_note": {}, "mig_allowed": False,
    "gpu_mem_min_gb": None, "mem_min_gb": 256, "mem_tolerance_pct": 5, "nic_min_gbps": 25, "nic_declared_gbps": None,
    "measure": False, "measure_min_ratio": 0.8,
}  # fmt: skip


def host(name: str, ip: str, role: str) -> HostSite:
    return HostSite(name, frozenset({role}), ip, None, ip, 22, "dstui", True, None)


FIRST, SECOND = host("gpu-01", "198.51.100.11", "head"), host("gpu-02", "198.51.100.12", "worker")
SITE = Site("lab", "lab", "pre", (FIRST, SECOND), "/mnt/x", None, None, "bare-metal", True, "none")
GONE = Answer("k", "k", missing=Missing(Reason.TOOL_MISSING, "not on the host"))


def raw(**changes: Answer) -> Raw:
    rows = json.loads((HOSTS / "dgx-h100.json").read_text())
    table = {
        key: Answer(
            key, key, row.get("output", ""), row.get("error", ""), row.get("exit"), row.get("value"),
            missing=Missing(Reason(row["missing"]), row["why"]) if "missing" in row else None,
        )
        for key, row in rows.items()
    }  # fmt: skip
    return Raw(table | {key.replace("__", "."): answer for key, answer in changes.items()})


def facts(found: Raw) -> HostFacts:
    return HostFacts(None, None, found, {group.facts: group.parse(found) for group in GROUPS})


def params(**changed: object) -> Params:
    return Params([Threshold(n, changed.get(n, v), "document", v) for n, v in DEFAULTS.items()])


def case(found: Raw, **changed: object) -> HostCase:
    return HostCase(FIRST, SITE, facts(found), params(**changed), 1_795_500_000.0)


def said(ruling: Ruling) -> str:
    return " | ".join([ruling.rule.en, *(note.en for note in ruling.notes)])


ROW = "{0}, GPU-{0}, NVIDIA H100 80GB HBM3, {1}, 00000000:{0}B:00.0, Disabled, 9.0, 550.54.15\n"


def smi(output: str, code: int = 0, error: str = "") -> Raw:
    bus = {f"/sys/bus/pci/devices/0000:{n}b:00.0/{f}": v for n in (0, 1) for f, v in
           (("vendor", "0x10de"), ("class", "0x030200"))}  # fmt: skip
    said = Answer("k", "nvidia-smi", output, error, code)
    return raw(gpu__nvml=GONE, gpu__smi=said, gpu__pci=Answer("k", "k", value=bus))


def test_two_good_gpus_pass() -> None:
    assert gpu_model(case(smi(ROW.format(0, 81559) + ROW.format(1, 81559)))).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("found", "verdict", "words"),
    [
        (smi(ROW.format(0, 81559) + ROW.format(1, "[GPU requires reset]")), Verdict.FAIL, "RESET_REQUIRED"),
        (smi(ROW.format(0, 81559) + ROW.format(1, 81559), 15, "GPU is lost"), Verdict.UNKNOWN, "GPU is lost"),
    ],
)
def test_a_gpu_that_is_named_and_does_not_work(found: Raw, verdict: Verdict, words: str) -> None:
    ruling = gpu_model(case(found))
    assert ruling.verdict is verdict and words in said(ruling)


def test_a_named_gpu_that_nvml_calls_lost_fails() -> None:
    value = json.loads((HOSTS / "dgx-h100.json").read_text())["gpu.nvml"]["value"]
    value["gpus"][3]["errors"] = {"memory": "NVML_ERROR_GPU_IS_LOST"}
    ruling = gpu_model(case(raw(gpu__nvml=Answer("k", "k", value=value))))
    assert ruling.verdict is Verdict.FAIL and "GPU_IS_LOST" in said(ruling)


def test_no_gpu_at_all_is_no_pass_even_where_none_is_asked_for() -> None:
    nothing: dict[str, object] = {"error": None, "driver": "550.54.15", "cuda": 12040, "gpus": []}
    bridge = "/sys/bus/pci/devices/0000:00:1f.0"
    bus = {f"{bridge}/vendor": "0x8086", f"{bridge}/class": "0x060100"}
    found = raw(gpu__nvml=Answer("k", "k", value=nothing), gpu__pci=Answer("k", "k", value=bus))
    assert gpu_model(case(found, gpu_min_count=0)).verdict is Verdict.FAIL


def test_a_pci_device_that_tells_half_is_not_left_out_of_the_count() -> None:
    found = smi(ROW.format(0, 81559))
    pci = "/sys/bus/pci/devices/0000"
    bus = {f"{pci}:0b:00.0/vendor": "0x10de", f"{pci}:0b:00.0/class": "0x030200", f"{pci}:1b:00.0/vendor": "0x10de"}
    ruling = gpu_model(case(Raw({**found.answers, "gpu.pci": Answer("k", "k", value=bus)})))
    assert ruling.verdict is Verdict.UNKNOWN


DIMM = "Handle 0x{0:04x}\nMemory Device\n\tSize: {1} GB\n\tNon-Volatile Size: {2}\n\tVolatile Size: {3}\n\n"


def memory_of(dimms: str, kib: int) -> Ruling:
    return memory(
        case(
            raw(
                mem__dimms=Answer("k", "k", dimms, exit=0),
                mem__meminfo=Answer("k", "k", f"MemTotal: {kib} kB\n"),
                mem__blocks=GONE,
            )
        )
    )


def test_persistent_memory_is_no_memory() -> None:
    dram = "".join(DIMM.format(n, 32, "None", "32 GB") for n in range(4))
    optane = "".join(DIMM.format(n, 128, "128 GB", "None") for n in range(4, 8))
    assert memory_of(dram + optane, 131_000_000).verdict is Verdict.FAIL
    plain = "".join(DIMM.format(n, 32, "None", "32 GB") for n in range(8))
    assert memory_of(plain, 263_000_000).verdict is Verdict.PASS


def test_memory_that_is_installed_and_not_used_is_a_warning() -> None:
    dram = "".join(DIMM.format(n, 32, "None", "32 GB") for n in range(8))
    ruling = memory_of(dram, 131_000_000)
    assert ruling.verdict is Verdict.WARN and "the kernel uses only" in said(ruling)


SHARED = {"/sys/block/nvme0n1": "../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1"}
PCIE = {"/sys/class/nvme-subsystem/nvme-subsys0/nvme0/transport": "pcie\n"}


@pytest.mark.parametrize(
    ("paths", "controllers", "local"),
    [
        (Answer("k", "k", value=SHARED), Answer("k", "k", value=PCIE), True),
        (Answer("k", "k", value=SHARED), GONE, False),
        (GONE, Answer("k", "k", value=PCIE), False),
    ],
)
def test_a_disk_is_local_only_where_its_way_is_known(paths: Answer, controllers: Answer, local: bool) -> None:
    """lsblk calls NVMe over TCP plain `nvme`."""
    files = {"/sys/block/nvme0n1/size": "7500000000", "/sys/block/nvme0n1/queue/rotational": "0"}
    lsblk = Answer("k", "k", '{"blockdevices": [{"name": "nvme0n1", "tran": "nvme"}]}', exit=0)
    block = Answer("k", "k", value=files)
    found = disk.parse(
        Raw({"disk.block": block, "disk.path": paths, "disk.lsblk": lsblk, "disk.controllers": controllers})
    )
    assert isinstance(found.local, Missing) is not local


def test_asking_for_a_measurement_that_is_not_made_is_no_pass() -> None:
    good = facts(raw())
    for wanted, verdict in ((False, Verdict.PASS), (True, Verdict.UNKNOWN)):
        fleet = FleetCase(SITE, {"gpu-01": good, "gpu-02": good}, params(measure=wanted), {}, {}, 0.0)
        ruling = next(r for r in nic_speed(fleet) if r.target.name == "gpu-01")
        assert wanted == ("measure" in said(ruling)), said(ruling)
        assert ruling.verdict is verdict or not wanted


@pytest.mark.parametrize("key", ["mem.meminfo", "cpu.online"])
def test_a_text_that_was_cut_off_is_not_read_as_the_whole(key: str) -> None:
    found = Raw({key: Answer(key, key, "MemTotal: 263000000 kB\n", output_bytes=70_000)})
    text = found.text(key)
    assert isinstance(text, Missing) and text.reason is Reason.BUDGET
    assert found.head(key) == "MemTotal: 263000000 kB\n"
