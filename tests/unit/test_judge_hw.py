"""hw.*: both sides of every threshold, every rule, and every way of not being able to tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dstui.facts import addresses, cpu, disk, gpu, links, mem, os
from dstui.facts.case import FleetCase, HostCase, HostFacts, HostSite, Params, Site
from dstui.facts.raw import Answer, Missing, Raw
from dstui.judge.hw import JUDGES, cpu_cores, memory
from dstui.judge.hw_disk import ssd_capacity
from dstui.judge.hw_gpu import allowed_model, gpu_model
from dstui.judge.hw_nic import nic_speed
from dstui.judge.registry import HostJudge
from dstui.model import Reason, Ruling, Threshold, Verdict

HOSTS = Path(__file__).parent.parent / "data" / "hosts"
GROUPS = [module.GROUP for module in (addresses, cpu, disk, gpu, links, mem, os)]
PASS, WARN, FAIL, UNKNOWN, NA = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN, Verdict.NOT_APPLICABLE
GIB_KB = 1 << 20

MODELS = ["A100", "A800", "H800", "H100", "H200", "H20", "GH200", "B200", "B300", "GB200", "GB300"]
DEFAULTS: dict[str, object] = {
    "gpu_min_count": 1, "gpus_per_host": None, "gpu_models": MODELS, "gpu_models_note": {"H20": "weak for prefill"},
    "mig_allowed": False, "gpu_mem_min_gb": None,
    "cpu_cores_min": 32, "cpu_count": "auto",
    "mem_min_gb": 256, "mem_tolerance_pct": 5,
    "disk_min_tb": 2, "disk_tolerance_pct": 5, "storage_is_ssd": "auto",
    "nic_min_gbps": 25, "nic_declared_gbps": None, "measure": False, "measure_min_ratio": 0.8, "measure_streams": 8,
    "measure_seconds": 5,
}  # fmt: skip


def host(name: str = "gpu-01", ip: str = "198.51.100.11", roles: str = "head", *, gpus: bool = True) -> HostSite:
    return HostSite(name, frozenset({roles}), ip, None, ip, 22, "dstui", gpus, None)


FIRST, SECOND = host(), host("gpu-02", "198.51.100.12", "worker")


def site(*hosts: HostSite) -> Site:
    return Site("lab", "lab", "pre", hosts or (FIRST, SECOND), "/mnt/x", None, None, "bare-metal", True, "none")


def text(output: str, error: str = "", code: int | None = None) -> Answer:
    return Answer("k", "source", output, error, code)


def value(found: object) -> Answer:
    return Answer("k", "source", value=found)


def missing(reason: Reason, why: str = "why") -> Answer:
    return Answer("k", "source", missing=Missing(reason, why))


def raw(name: str, changes: Mapping[str, Answer] | None = None) -> Raw:
    rows = json.loads((HOSTS / f"{name}.json").read_text())
    table = {
        key: Answer(
            key, key, row.get("output", ""), row.get("error", ""), row.get("exit"), row.get("value"),
            missing=Missing(Reason(row["missing"]), row["why"]) if "missing" in row else None,
        )
        for key, row in rows.items()
    }  # fmt: skip
    return Raw({**table, **(changes or {})})


def facts(found: Raw) -> HostFacts:
    return HostFacts(None, None, found, {group.facts: group.parse(found) for group in GROUPS})


def params(**changed: object) -> Params:
    return Params([Threshold(n, changed.get(n, v), "document", v) for n, v in DEFAULTS.items()])


def case(name: str, changes: Mapping[str, Answer] | None = None, of: HostSite = FIRST, **changed: object) -> HostCase:
    return HostCase(of, site(), facts(raw(name, changes)), params(**changed), 1_795_500_000.0)


def words(ruling: Ruling) -> str:
    """Everything the ruling says, in English, for looking a cause up."""
    return " | ".join([ruling.observed.en, ruling.rule.en, *(note.en for note in ruling.notes)])


UNREACHABLE = HostFacts(Missing(Reason.UNREACHABLE, "no route to host"), None, Raw(), {})


@pytest.mark.parametrize("rule", [gpu_model, cpu_cores, memory, ssd_capacity])
def test_unreachable_is_unknown_with_that_reason(rule: Callable[[HostCase], Ruling]) -> None:
    ruling = rule(HostCase(FIRST, site(), UNREACHABLE, params(), 0.0))
    assert (ruling.verdict, ruling.reason) == (UNKNOWN, Reason.UNREACHABLE)
    assert "no route to host" in ruling.observed.en and ruling.observed.zh.startswith("主机无法连接")


@pytest.mark.parametrize("rule", [gpu_model, cpu_cores, memory, ssd_capacity])
def test_other_roles_are_not_applicable(rule: Callable[[HostCase], Ruling]) -> None:
    assert rule(case("dgx-h100", of=host("lb-01", roles="lb", gpus=False))).verdict is NA


@pytest.mark.parametrize("rule", [gpu_model, cpu_cores, memory, ssd_capacity])
def test_nothing_gathered_is_unknown(rule: Callable[[HostCase], Ruling]) -> None:
    assert rule(HostCase(FIRST, site(), facts(Raw()), params(), 0.0)).verdict is UNKNOWN
    assert rule(HostCase(FIRST, site(), HostFacts(None, None, Raw(), {}), params(), 0.0)).reason is Reason.NOT_RUN


def test_every_judge_speaks_both_languages_and_names_its_groups() -> None:
    known = {group.name for group in GROUPS}
    for judge in JUDGES:
        assert set(judge.groups) <= known
        if isinstance(judge, HostJudge):
            for name in ("dgx-h100", "a100-pcie", "vm-virtio"):
                ruling = judge.rule(case(name))
                for said in (ruling.observed, ruling.expected, ruling.rule, *ruling.notes):
                    assert said.en and said.zh
                json.dumps(dict(ruling.material))


# hw.gpu-model


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA A100-PCIE-40GB", "A100"), ("A100-SXM4-80GB", "A100"),
        ("NVIDIA A800-SXM4-80GB", "A800"), ("NVIDIA H800", "H800"), ("NVIDIA H200", "H200"), ("NVIDIA H20", "H20"),
        ("NVIDIA H20-3e", "H20"), ("NVIDIA GH200 480GB", "GH200"), ("nvidia b200", "B200"), ("NVIDIA RTX A1000", None),
        ("NVIDIA A100X", None), ("NVIDIA A10", None), ("NVIDIA H2000", None), ("Tesla V100-SXM2-32GB", None),
        ("", None),
    ],
)  # fmt: skip
def test_models_match_whole_tokens(name: str, model: str | None) -> None:
    assert allowed_model(name, tuple(MODELS)) == model


def gpus(*names: str | None, pci: int | None = None, **fields: object) -> dict[str, Answer]:
    """NVML answering with these names, and as many devices on the bus unless `pci` says otherwise."""
    rows = [
        {"index": i, "uuid": f"GPU-{i}", "name": n, "memory_total": 85_520_809_984, "mig": 0, "errors": {}, **fields}
        for i, n in enumerate(names)
    ]
    bus = {
        f"/sys/bus/pci/devices/0000:{i:02x}:00.0/{file}": said
        for i in range(len(names) if pci is None else pci)
        for file, said in (("vendor", "0x10de\n"), ("class", "0x030200\n"))
    }
    bridge = {
        "/sys/bus/pci/devices/0000:ff:00.0/vendor": "0x8086",
        "/sys/bus/pci/devices/0000:ff:00.0/class": "0x060000",
    }
    answer = {"error": None, "driver": "570.172.08", "cuda": 12080, "nvml": "12", "gpus": rows}
    return {"gpu.nvml": value(answer), "gpu.pci": value({**bus, **bridge})}


H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-PCIE-40GB"


@pytest.mark.parametrize(
    ("answers", "changed", "verdict", "says"),
    [
        (gpus(*[H100] * 8), {}, PASS, "8 × NVIDIA H100 80GB HBM3"),
        (gpus(H100), {}, PASS, "1 ×"),
        (gpus(*[H100] * 8), {"gpus_per_host": 8}, PASS, ""),
        (gpus(*[H100] * 7), {"gpus_per_host": 8}, FAIL, "7 GPUs, but the inventory says 8"),
        (gpus(*[H100] * 9), {"gpus_per_host": 8}, FAIL, "9 GPUs"),
        (gpus(H100), {"gpu_min_count": 2}, FAIL, "fewer than 2"),
        (gpus(H100, H100), {"gpu_min_count": 2}, PASS, ""),
        (gpus("NVIDIA H200"), {"gpu_models": ["H20"]}, FAIL, "not an allowed model"),
        (gpus("NVIDIA RTX A1000"), {}, FAIL, "NVIDIA RTX A1000 is not an allowed model"),
        (gpus(H100, "Tesla T4"), {}, FAIL, "Tesla T4 is not an allowed model"),
        (gpus(*[H100] * 7, pci=8), {}, FAIL, "8 GPUs on the PCI bus, 7 answer"),
        (gpus(*[H100] * 8, pci=7), {}, UNKNOWN, "the bus is not fully visible"),
        (gpus(pci=0), {}, FAIL, "fewer than 1"),
        (gpus(H100, mig=1), {}, WARN, "MIG is on for GPU 0"),
        (gpus(H100, mig=1), {"mig_allowed": True}, PASS, ""),
        (gpus("GRID A100-10C"), {}, WARN, "vGPU"),
        (gpus("NVIDIA A100-10C"), {}, WARN, "vGPU"),
        (gpus(H100, A100), {}, WARN, "different models"),
        (gpus("NVIDIA H20"), {}, PASS, "H20: weak for prefill"),
        (gpus(H100), {"gpu_mem_min_gb": 80}, PASS, ""),
        (gpus(H100), {"gpu_mem_min_gb": 94}, FAIL, "less than 94 GB"),
        (gpus(H100, memory_total=None), {"gpu_mem_min_gb": 80}, UNKNOWN, "memory of GPU 0"),
        (gpus(None), {}, UNKNOWN, "model of GPU 0"),
        (gpus(H100, None), {}, UNKNOWN, "model of GPU 1"),
        (gpus(H100, None, errors={"nvmlDeviceGetName": "ERROR_GPU_IS_LOST"}), {}, FAIL, "GPU_IS_LOST"),
        ({"gpu.pci": missing(Reason.PERMISSION)}, {}, UNKNOWN, "permission denied"),
        ({"gpu.pci": value({})}, {}, UNKNOWN, "no PCI device is listed"),
    ],
)
def test_gpu_model(answers: dict[str, Answer], changed: dict[str, object], verdict: Verdict, says: str) -> None:
    ruling = gpu_model(case("dgx-h100", answers, **changed))
    assert ruling.verdict is verdict, words(ruling)
    assert says in words(ruling)


def nvml_error(name: str) -> dict[str, Answer]:
    return {
        "gpu.nvml": value({"error": {"name": name, "code": 1, "message": ""}, "driver": None, "cuda": None, "gpus": []})
    }


NO_SMI = {"gpu.smi": missing(Reason.TOOL_MISSING), "gpu.banner": missing(Reason.TOOL_MISSING)}
NO_NVIDIA = {
    "gpu.pci": value(
        {"/sys/bus/pci/devices/0000:00:00.0/vendor": "0x8086", "/sys/bus/pci/devices/0000:00:00.0/class": "0x060000"}
    )
}
NO_FILES = {
    "gpu.marks": value(
        {"/sys/module/nvidia": [16877, 0, 0, 0, 1.0], "/sys/module/nvidia/refcnt": [33060, 0, 0, 0, 1.0]}
    )
}


@pytest.mark.parametrize(
    ("name", "answers", "verdict", "reason", "says"),
    [
        ("dgx-h100", nvml_error("LIB_RM_VERSION_MISMATCH"), FAIL, None, "LIB_RM_VERSION_MISMATCH"),
        ("dgx-h100", {**nvml_error("LIB_RM_VERSION_MISMATCH"), "gpu.pci": missing(Reason.PERMISSION)}, FAIL, None, ""),
        ("dgx-h100", nvml_error("DRIVER_NOT_LOADED"), FAIL, None, "8 GPUs on the PCI bus and no NVIDIA driver"),
        ("dgx-h100", nvml_error("NO_PERMISSION"), UNKNOWN, Reason.PERMISSION, "8 NVIDIA GPUs on the PCI bus"),
        ("dgx-h100", nvml_error("UNKNOWN"), UNKNOWN, Reason.CANNOT_TELL, "UNKNOWN"),
        ("dgx-h100", {**nvml_error("UNKNOWN"), **NO_FILES}, UNKNOWN, Reason.PERMISSION, "no /dev/nvidia*"),
        ("a100-pcie", {}, PASS, None, "2 × NVIDIA A100-PCIE-40GB (nvidia-smi)"),
        ("a100-pcie", NO_SMI, UNKNOWN, Reason.TOOL_MISSING, "2 NVIDIA GPUs on the PCI bus, models unknown"),
        ("a100-pcie", {**NO_SMI, **NO_NVIDIA}, FAIL, None, "no NVIDIA GPU on the PCI bus"),
        ("a100-pcie", {"gpu.smi": missing(Reason.TIMEOUT)}, UNKNOWN, Reason.TIMEOUT, ""),
        ("a100-pcie", {"gpu.smi": text("", code=0)}, UNKNOWN, Reason.PARSE_ERROR, ""),
        ("a100-pcie", {"gpu.smi": text("rubbish\n", code=0)}, UNKNOWN, Reason.PARSE_ERROR, ""),
        (
            "a100-pcie",
            {"gpu.smi": text("No devices were found\n", code=6)},
            FAIL,
            None,
            "2 GPUs on the PCI bus, 0 answer",
        ),
        (
            "a100-pcie",
            {"gpu.smi": text("0, u, [N/A], [N/A], b, [N/A], 8.0, 1\n" * 2, code=0)},
            UNKNOWN,
            Reason.CANNOT_TELL,
            "",
        ),
        (
            "a100-pcie",
            {"gpu.smi": text(f"0, u, {A100}, 40960, b, [N/A], 8.0, 535.54.03\n" * 2, code=0)},
            PASS,
            None,
            "",
        ),
    ],
)
def test_gpu_model_without_nvml(
    name: str, answers: dict[str, Answer], verdict: Verdict, reason: Reason | None, says: str
) -> None:
    ruling = gpu_model(case(name, answers))
    assert (ruling.verdict, ruling.reason) == (verdict, reason), words(ruling)
    assert says in words(ruling)


def test_gpu_count_of_the_inventory_is_exact() -> None:
    assert gpu_model(case("dgx-h100", of=replace(FIRST, gpus_per_host=8))).verdict is PASS
    assert gpu_model(case("dgx-h100", of=replace(FIRST, gpus_per_host=4))).verdict is FAIL


# hw.cpu-cores

GONE = missing(Reason.PERMISSION)
VIRTUAL = {"cpu.info": text("model name : x\nflags : fpu hypervisor\n")}


@pytest.mark.parametrize(
    ("answers", "changed", "verdict", "says"),
    [
        ({}, {}, PASS, "112 cores in 2 sockets, 224 CPUs online"),
        ({}, {"cpu_cores_min": 112}, PASS, ""),
        ({}, {"cpu_cores_min": 113}, WARN, "only hyper-threading"),
        ({}, {"cpu_cores_min": 224}, WARN, "only hyper-threading"),
        ({}, {"cpu_cores_min": 225}, FAIL, "fewer than 225"),
        ({}, {"cpu_cores_min": 200, "cpu_count": "logical"}, PASS, ""),
        (VIRTUAL, {"cpu_cores_min": 200}, PASS, "virtual machine"),
        (VIRTUAL, {"cpu_cores_min": 200, "cpu_count": "physical"}, WARN, "only hyper-threading"),
        ({"cpu.online": text("0-111\n")}, {}, WARN, "112 CPUs are offline"),
        ({"cpu.self": value({"affinity": [0, 1]})}, {}, WARN, "only 2 of 224 CPUs (affinity)"),
        ({"cpu.limits": value({"/sys/fs/cgroup/cpu.max": "800000 100000"})}, {}, WARN, "only 8 of 224 CPUs (cpu.max)"),
        ({"cpu.online": GONE, "cpu.topology": GONE, "cpu.lscpu": GONE}, {}, UNKNOWN, "permission denied"),
        ({"cpu.topology": GONE, "cpu.lscpu": GONE}, {}, UNKNOWN, "physical cores"),
        ({"cpu.online": text("what\n")}, {}, UNKNOWN, "not understood"),
        ({"cpu.online": text("\n")}, {}, UNKNOWN, "empty"),
    ],
)
def test_cpu_cores(answers: dict[str, Answer], changed: dict[str, object], verdict: Verdict, says: str) -> None:
    ruling = cpu_cores(case("dgx-h100", answers, **changed))
    assert ruling.verdict is verdict, words(ruling)
    assert says in words(ruling)


def test_two_cores_are_too_few() -> None:
    assert cpu_cores(case("vm-virtio")).verdict is FAIL


# hw.memory


def ram(total_gib: float, installed_gib: float | None = None) -> dict[str, Answer]:
    blocks = (
        {}
        if installed_gib is None
        else {f"/sys/devices/system/memory/memory{i}/online": "1" for i in range(int(installed_gib * 8))}
    )
    return {
        "mem.meminfo": text(f"MemTotal: {int(total_gib * GIB_KB)} kB\n"),
        "mem.block-size": text("8000000\n"),
        "mem.blocks": value(blocks),
    }


@pytest.mark.parametrize(
    ("answers", "verdict", "says"),
    [
        ({}, PASS, "251.6 GiB MemTotal, 256 GiB installed"),
        (ram(251, 256), PASS, "256 GiB installed"),
        (ram(251), PASS, "how much is installed cannot be read"),
        (ram(243.3), PASS, ""),
        (ram(243.1), FAIL, "below 243.2 GiB"),
        (ram(230, 244), WARN, "only 244.0 GiB of 256 GiB"),
        (ram(230, 248), WARN, "only 248.0 GiB"),
        (ram(230, 243), FAIL, "243.0 GiB is below"),
        (ram(23.54, 24), FAIL, ""),
        ({"mem.meminfo": GONE}, UNKNOWN, "permission denied"),
        ({"mem.meminfo": text("")}, UNKNOWN, "not understood"),
        (
            {
                "mem.nodes": value(
                    {
                        "/sys/devices/system/node/node0/meminfo": "Node 0 MemTotal: 0 kB\n",
                        "/sys/devices/system/node/node0/cpulist": "0-3",
                    }
                )
            },
            WARN,
            "NUMA node 0 has CPUs but no memory",
        ),
        (
            {
                "mem.nodes": value(
                    {
                        "/sys/devices/system/node/node2/meminfo": "Node 2 MemTotal: 0 kB\n",
                        "/sys/devices/system/node/node2/cpulist": "\n",
                    }
                )
            },
            PASS,
            "",
        ),
        (
            {"mem.limits": value({"/sys/fs/cgroup/memory.max": "68719476736"})},
            WARN,
            "this session allows only 64.0 GiB",
        ),
    ],
)
def test_memory(answers: dict[str, Answer], verdict: Verdict, says: str) -> None:
    ruling = memory(case("a100-pcie", answers))
    assert ruling.verdict is verdict, words(ruling)
    assert says in words(ruling)


def test_modules_that_firmware_takes_from_still_count() -> None:
    modules = text("\tSize: 64 GB\n" * 4, code=0)
    assert memory(case("a100-pcie", {**ram(248, 254), "mem.dimms": modules})).verdict is PASS
    assert memory(case("a100-pcie", ram(248, 254))).verdict is WARN


def test_ray_limited_below_the_minimum() -> None:
    answers = {
        "mem.raylets": text("77\n", code=0),
        "mem.ray-cgroup": value({"/proc/77/cgroup": "0::/system.slice/ray.service\n"}),
        "mem.ray-limits": value({"/sys/fs/cgroup/system.slice/ray.service/memory.max": str(128 << 30)}),
    }
    ruling = memory(case("a100-pcie", answers))
    assert ruling.verdict is WARN and "Ray's service allows only 128.0 GiB" in ruling.rule.en


# hw.ssd-capacity


def drives(**sizes: tuple[float, str]) -> dict[str, Answer]:
    """`nvme0n1=(1.92, "0")`: terabytes and the rotational flag; an empty flag cannot be read."""
    files: dict[str, str] = {}
    for name, (size, rotational) in sizes.items():
        files[f"/sys/block/{name}/size"] = str(int(size * 1e12) // 512)
        if rotational:
            files[f"/sys/block/{name}/queue/rotational"] = rotational
    return {
        "disk.block": value(files),
        "disk.path": value({}),
        "disk.lsblk": missing(Reason.TOOL_MISSING),
        "disk.holders": value({}),
    }


MD = {"disk.holders": value({f"/sys/block/{n}/holders/md0": [1, 0, 0, 0, 1.0] for n in ("nvme0n1", "nvme1n1")})}


@pytest.mark.parametrize(
    ("answers", "changed", "verdict", "says"),
    [
        (drives(nvme0n1=(3.84, "0")), {}, PASS, "3.84 TB of SSD"),
        (drives(nvme0n1=(1.92, "0")), {}, PASS, ""),
        (drives(nvme0n1=(1.9, "0")), {}, PASS, ""),
        (drives(nvme0n1=(1.89, "0")), {}, FAIL, "below 1.90 TB"),
        (drives(nvme0n1=(1.0, "0"), nvme1n1=(1.0, "0")), {}, WARN, "several smaller drives"),
        ({**drives(nvme0n1=(1.0, "0"), nvme1n1=(1.0, "0")), **MD}, {}, PASS, ""),
        (drives(sda=(8.0, "1")), {}, FAIL, "0.00 TB"),
        (drives(sda=(8.0, "1"), nvme0n1=(0.96, "0")), {}, FAIL, "0.96 TB"),
        (drives(vda=(4.0, "1")), {}, UNKNOWN, "set storage_is_ssd"),
        (drives(vda=(4.0, "1")), {"storage_is_ssd": "true"}, PASS, "decides for virtual disks"),
        (drives(vda=(4.0, "1")), {"storage_is_ssd": "false"}, FAIL, ""),
        (drives(vda=(4.0, "0")), {"storage_is_ssd": "false"}, FAIL, ""),
        (drives(vda=(1.0, "1")), {}, FAIL, "1.00 TB"),
        (drives(sda=(8.0, "1")), {"storage_is_ssd": "true"}, FAIL, ""),
        (drives(sda=(4.0, "")), {}, UNKNOWN, "cannot tell whether sda"),
        (drives(zram0=(9.0, "0"), loop0=(9.0, "0")), {}, FAIL, "no local disk"),
        ({"disk.block": value({})}, {}, UNKNOWN, ""),
        ({"disk.block": missing(Reason.TIMEOUT)}, {}, UNKNOWN, "timed out"),
        ({"disk.block": value({"/sys/block/sda/size": "lots"})}, {}, UNKNOWN, "not understood"),
    ],
)
def test_ssd_capacity(answers: dict[str, Answer], changed: dict[str, object], verdict: Verdict, says: str) -> None:
    ruling = ssd_capacity(case("a100-pcie", answers, **changed))
    assert ruling.verdict is verdict, words(ruling)
    assert says in words(ruling)


def test_captured_disks() -> None:
    assert ssd_capacity(case("dgx-h100")).verdict is PASS
    assert ssd_capacity(case("a100-pcie")).verdict is WARN
    assert ssd_capacity(case("vm-virtio")).verdict is FAIL
    virtual = ssd_capacity(case("vm-virtio", disk_min_tb=0.2))
    assert (virtual.verdict, virtual.reason, virtual.detail) == (UNKNOWN, Reason.CANNOT_TELL, "storage_is_ssd")


def test_worn_and_failing_drives() -> None:
    log = text('{"critical_warning": 1, "percentage_used": 81}', code=0)
    ruling = ssd_capacity(case("dgx-h100", {"disk.smart.nvme0n1": log}))
    assert ruling.verdict is WARN
    assert "81 %" in words(ruling) and "0x01" in words(ruling)
    healthy = text('{"critical_warning": 0, "percentage_used": 80}', code=0)
    assert ssd_capacity(case("dgx-h100", {"disk.smart.nvme0n1": healthy})).verdict is PASS


def test_storage_role_is_judged() -> None:
    assert ssd_capacity(case("dgx-h100", of=host("nas-01", roles="storage"))).verdict is PASS


# hw.nic-speed

FROM = "links.route.198.51.100.12"
BACK = "links.route.198.51.100.11"


def ends(
    one: str | Raw = "dgx-h100", other: str | Raw = "dgx-h100", *, mgmt: str | None = None,
    measured: links.LinkMeasurements | None = None, **changed: object,
) -> dict[str, Ruling]:  # fmt: skip
    """Both hosts judged; the second one's capture is given the way back under the first one's address."""
    first = raw(one) if isinstance(one, str) else one
    second = raw(other) if isinstance(other, str) else other
    mirrored = {key: answer for key, answer in second.answers.items() if key != FROM}
    if FROM in second.answers:
        mirrored[BACK] = second.answers[FROM]
    here = replace(FIRST, mgmt_ip=mgmt)
    fleet = FleetCase(
        site(here, SECOND), {"gpu-01": facts(first), "gpu-02": facts(Raw(mirrored))}, params(**changed), {},
        {links.LinkMeasurements: measured} if measured else {}, 0.0,
    )  # fmt: skip
    return {ruling.target.name: ruling for ruling in nic_speed(fleet)}


def eth(speed: str | None, *, driver: str = "mlx5_core", state: str = "up", mtu: str = "9000") -> Raw:
    files = {"operstate": state, "carrier": "1", "mtu": mtu, "type": "1"} | ({} if speed is None else {"speed": speed})
    net = "/sys/class/net/eth0/"
    return Raw(
        {
            "links.net": value({net + name: content for name, content in files.items()}),
            "links.device": value({net + "device": "../../../virtio0", net + "device/driver": f"../drivers/{driver}"}),
            "links.lower": value({}),
            FROM: text('[{"dst":"198.51.100.12","dev":"eth0","prefsrc":"198.51.100.11"}]', code=0),
        }
    )


@pytest.mark.parametrize(
    ("one", "changed", "verdict", "says"),
    [
        ("dgx-h100", {}, PASS, "bond0 (ens6f0np0, ens6f1np1) 200 Gb/s to gpu-02"),
        ("ib-h800", {}, PASS, "ib0 400 Gb/s to gpu-02"),
        ("a100-pcie", {}, FAIL, "ens3f0 to gpu-02: 10 Gb/s"),
        (eth("25000"), {}, PASS, ""),
        (eth("24999"), {}, FAIL, ""),
        (eth("25000"), {"nic_min_gbps": 100}, FAIL, "25 Gb/s"),
        (eth("25000", state="down"), {}, FAIL, "is down"),
        (eth("-1"), {}, UNKNOWN, "tells no speed"),
        (eth("4294967295"), {}, UNKNOWN, "tells no speed"),
        (eth(None), {}, UNKNOWN, "tells no speed"),
        (eth("-1"), {"nic_declared_gbps": 100}, PASS, "is declared (document), not observed"),
        (eth("-1"), {"nic_declared_gbps": 10}, FAIL, "declared as 10 Gb/s"),
        (eth("10000"), {"nic_declared_gbps": 100}, FAIL, "10 Gb/s"),
        (eth("100000", driver="virtio_net"), {}, UNKNOWN, "hides its speed"),
        (eth("100000", driver="ena"), {}, UNKNOWN, "hides its speed"),
        (eth("25000", state=""), {}, UNKNOWN, "whether eth0 is up"),
        (Raw({**eth("25000").answers, FROM: missing(Reason.TIMEOUT)}), {}, UNKNOWN, "route to gpu-02"),
        (Raw({**eth("25000").answers, FROM: text("{", code=0)}), {}, UNKNOWN, "route to gpu-02"),
        (
            Raw({**eth("25000").answers, FROM: text("", "RTNETLINK answers: Network is unreachable", 2)}),
            {},
            FAIL,
            "no route",
        ),
        (
            Raw({**eth("25000").answers, FROM: text('[{"dev":"lo"}]', code=0)}),
            {},
            UNKNOWN,
            "address of this host itself",
        ),
        (Raw({**eth("25000").answers, FROM: text('[{"dev":"wg0"}]', code=0)}), {}, UNKNOWN, "has no wg0"),
        (Raw({**eth("25000").answers, "links.net": missing(Reason.PERMISSION)}), {}, UNKNOWN, "permission denied"),
        (Raw({k: a for k, a in eth("25000").answers.items() if k != FROM}), {}, UNKNOWN, "routes to 1 of 1 peers"),
    ],
)
def test_nic_speed(one: str | Raw, changed: dict[str, object], verdict: Verdict, says: str) -> None:
    ruling = ends(one, one, **changed)["gpu-01"]
    assert ruling.verdict is verdict, words(ruling)
    assert says in words(ruling)


def measurement(gbps: float) -> links.LinkMeasurements:
    return links.LinkMeasurements((links.LinkMeasurement("gpu-01", "gpu-02", gbps, 8, 5.0),), {})


@pytest.mark.parametrize(
    ("gbps", "speed", "verdict"),
    [(20.0, "-1", PASS), (19.9, "-1", FAIL), (19.9, "25000", FAIL), (24.0, "25000", PASS), (24.0, "10000", FAIL)],
)
def test_measured(gbps: float, speed: str, verdict: Verdict) -> None:
    assert ends(eth(speed), eth(speed), measured=measurement(gbps))["gpu-01"].verdict is verdict


def test_the_two_ends_differ() -> None:
    ruling = ends(eth("25000"), eth("100000"))["gpu-01"]
    assert ruling.verdict is WARN and "25 Gb/s here, 100 Gb/s on gpu-02" in ruling.rule.en
    ruling = ends(eth("25000"), eth("25000", mtu="1500"))["gpu-01"]
    assert ruling.verdict is WARN and "MTU differs: 9000 here, 1500 on gpu-02" in ruling.rule.en


def test_slower_than_the_adapter_can() -> None:
    said = text(
        "\tSupported link modes:   25000baseCR/Full\n\t\t100000baseCR4/Full\n\tSupported pause frame use: No\n", code=0
    )
    ruling = ends(Raw({**eth("25000").answers, "links.ethtool.eth0": said}))["gpu-01"]
    assert ruling.verdict is WARN and "eth0 25000 of 100000 Mb/s" in ruling.rule.en


def test_traffic_through_the_management_interface() -> None:
    said = [
        {
            "ifindex": 2,
            "ifname": "eth0",
            "flags": ["UP"],
            "mtu": 9000,
            "addr_info": [{"family": "inet", "local": "192.0.2.11", "prefixlen": 24}],
        }
    ]
    held = Raw({**eth("25000").answers, "addresses.ip": text(json.dumps(said), code=0)})
    assert ends(held, held, mgmt="192.0.2.11")["gpu-01"].verdict is WARN
    assert ends(held, held, mgmt="192.0.2.99")["gpu-01"].verdict is PASS


def test_one_ray_host_has_no_peers_and_other_roles_do_not_matter() -> None:
    lb = host("lb-01", "192.0.2.9", "lb")
    found = facts(raw("dgx-h100"))
    rulings = nic_speed(FleetCase(site(FIRST, lb), {"gpu-01": found, "lb-01": found}, params(), {}, {}, 0.0))
    assert [ruling.verdict for ruling in rulings] == [NA, NA]


def test_an_unreachable_peer_leaves_the_others_judged() -> None:
    fleet = FleetCase(site(), {"gpu-01": facts(raw("dgx-h100")), "gpu-02": UNREACHABLE}, params(), {}, {}, 0.0)
    rulings = {ruling.target.name: ruling for ruling in nic_speed(fleet)}
    assert rulings["gpu-01"].verdict is PASS
    assert (rulings["gpu-02"].verdict, rulings["gpu-02"].reason) == (UNKNOWN, Reason.UNREACHABLE)
