"""NVML, nvidia-smi in its varieties, the PCI bus and the driver."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dstui.facts.case import HostSite, Site
from dstui.facts.gpu import GROUP, SMI_FIELDS, PciGpu, more, parse
from dstui.facts.gpu_devices import Gpu
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


def devices(raw: Raw) -> tuple[Gpu, ...]:
    found = parse(raw).devices
    assert not isinstance(found, Missing), found
    return found


def smi(output: str, error: str = "", code: int = 0) -> Raw:
    """The A100 host, on which only nvidia-smi answers, saying something else."""
    return captured("a100-pcie", gpu__smi=text(output, error, code))


def test_nvml() -> None:
    facts, found = parse(captured("dgx-h100")), devices(captured("dgx-h100"))
    assert [gpu.name for gpu in found] == ["NVIDIA H100 80GB HBM3"] * 8
    assert found[3].uuid == "GPU-00000000-0000-4000-8000-000000000003"
    assert found[3].memory_total == 85520809984 and found[3].mig is False
    assert found[0].nvlinks == (True,) * 18 and found[0].processes == ()
    assert (facts.source, facts.fault, facts.loaded_driver, facts.cuda_capability) == (
        "NVML",
        None,
        "570.172.08",
        (12, 8),
    )
    assert facts.open_module is True and facts.disk_driver == "570.172.08" and facts.module_loaded is True


def test_the_bus_counts_nvidia_display_controllers_only() -> None:
    pci = parse(captured("dgx-h100")).pci
    assert not isinstance(pci, Missing)
    assert len(pci) == 8 and pci[0] == PciGpu("0000:1b:00.0", "nvidia")


def test_smi_is_run_only_where_nvml_is_silent() -> None:
    assert more(HOST, SITE, captured("dgx-h100")) == ()
    ops = more(HOST, SITE, captured("a100-pcie"))
    assert [op.key for op in ops] == ["gpu.smi", "gpu.banner"]
    assert ops[0].source == f"nvidia-smi --query-gpu={SMI_FIELDS} --format=csv,noheader,nounits"


def test_smi() -> None:
    facts, found = parse(captured("a100-pcie")), devices(captured("a100-pcie"))
    assert [gpu.name for gpu in found] == ["NVIDIA A100-PCIE-40GB"] * 2
    assert found[1].memory_total == 40960 << 20 and found[1].mig is False and found[1].compute_capability == "8.0"
    assert (facts.loaded_driver, facts.disk_driver, facts.cuda_capability) == ("535.54.03", "535.183.01", (12, 2))
    assert facts.source == "nvidia-smi" and facts.open_module is False


@pytest.mark.parametrize("null", ["[N/A]", "[Not Supported]", "[Unknown Error]", "[GPU requires reset]", "N/A"])
def test_smi_values_in_brackets_are_no_values(null: str) -> None:
    found = devices(smi(f"0, {null}, {null}, {null}, {null}, {null}, {null}, {null}\n"))
    assert len(found) == 1
    assert isinstance(found[0].name, Missing) and isinstance(found[0].memory_total, Missing)
    assert found[0].mig is None
    assert parse(smi(f"0, u, n, 1, b, {null}, 8.0, {null}\n")).loaded_driver == "535.54.03"


@pytest.mark.parametrize(
    ("output", "error", "code"),
    [
        ("", "", 0),
        ("garbage\n", "", 0),
        ("0, GPU-1, NVIDIA H100\n", "", 0),
        ("", 'Field "compute_cap" is not a valid field to query.', 2),
        ('0, "unclosed', "", 0),
        (
            "0, u, n, 1, b, Disabled, 8.0, 535.54.03\n"
            "Unable to determine the device handle for GPU 0000:81:00.0: GPU is lost.\n",
            "",
            15,
        ),
    ],
)
def test_smi_that_is_not_understood_gives_no_devices(output: str, error: str, code: int) -> None:
    assert isinstance(parse(smi(output, error, code)).devices, Missing)


def test_smi_sees_no_devices() -> None:
    assert devices(smi("No devices were found\n", code=6)) == ()


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.183\n",
            "LIB_RM_VERSION_MISMATCH",
        ),
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure ...\n",
            "DRIVER_NOT_LOADED",
        ),
        ("Failed to initialize NVML: Insufficient Permissions\n", "NO_PERMISSION"),
    ],
)
def test_smi_faults(output: str, fault: str) -> None:
    facts = parse(smi(output, code=9))
    assert facts.fault is not None and facts.fault.name == fault
    assert isinstance(facts.devices, Missing)


@pytest.mark.parametrize(
    ("reason", "kept"), [(Reason.TOOL_MISSING, Reason.TOOL_MISSING), (Reason.TIMEOUT, Reason.TIMEOUT)]
)
def test_neither_answers(reason: Reason, kept: Reason) -> None:
    facts = parse(captured("a100-pcie", gpu__smi=missing(reason)))
    assert isinstance(facts.devices, Missing) and facts.devices.reason is kept
    assert facts.loaded_driver == "535.54.03"


@pytest.mark.parametrize(
    ("banner", "expected"),
    [
        ("| NVIDIA-SMI 535.54.03    Driver Version: 535.54.03    CUDA Version: 12.2     |", (12, 2)),
        ("| NVIDIA-SMI 610.43.02    KMD Version: 610.43.02     CUDA UMD Version: 13.3     |", (13, 3)),
        ("| NVIDIA-SMI 610.43.02    KMD Version: 610.43.02     CUDA UMD Version: N/A     |", None),
        ("", None),
    ],
)
def test_banner(banner: str, expected: tuple[int, int] | None) -> None:
    found = parse(captured("a100-pcie", gpu__banner=text(banner, code=0))).cuda_capability
    assert isinstance(found, Missing) if expected is None else found == expected


def test_nvml_that_would_not_start() -> None:
    error = {"name": "NVML_ERROR_LIB_RM_VERSION_MISMATCH", "code": 18, "message": "RM has detected a mismatch"}
    facts = parse(captured("dgx-h100", gpu__nvml=value({"error": error, "driver": None, "cuda": None, "gpus": []})))
    assert facts.fault is not None and facts.fault.name == "LIB_RM_VERSION_MISMATCH"
    assert isinstance(facts.devices, Missing)
    assert facts.loaded_driver == "570.172.08"


def test_a_lost_gpu_stays_in_the_list() -> None:
    gpus = [
        {"index": 0, "name": "NVIDIA H100", "errors": {}},
        {"index": 1, "name": None, "errors": {"handle": "GPU_IS_LOST"}},
    ]
    found = devices(
        captured("dgx-h100", gpu__nvml=value({"error": None, "driver": "570.1", "cuda": 12080, "gpus": gpus}))
    )
    assert len(found) == 2 and isinstance(found[1].name, Missing)
    assert found[1].lost == "GPU_IS_LOST" and found[0].lost is None


@pytest.mark.parametrize("answer", ["x", [], {"gpus": {}}, {"gpus": [1]}, None])
def test_garbled_nvml(answer: object) -> None:
    assert isinstance(parse(captured("dgx-h100", gpu__nvml=value(answer))).devices, Missing)


def test_driver_not_loaded() -> None:
    gone = missing(Reason.CANNOT_TELL, "ENOENT")
    marks = value({"/sys/module/ast/refcnt": [33060, 0, 0, 4096, 1.0]})
    raw = captured(
        "a100-pcie", gpu__proc_version=gone, gpu__module_version=gone, gpu__marks=marks,
        gpu__smi=missing(Reason.TOOL_MISSING), gpu__banner=missing(Reason.TOOL_MISSING),
    )  # fmt: skip
    facts = parse(raw)
    assert facts.module_loaded is False and facts.device_files is False
    assert isinstance(facts.loaded_driver, Missing)
    nothing = parse(Raw({**raw.answers, "gpu.marks": value({})}))
    assert isinstance(nothing.module_loaded, Missing)
