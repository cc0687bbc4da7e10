"""One GPU as NVML or nvidia-smi describes it, value by value; a value that was not to be had is Missing with why."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dstui.facts.numbers import garbled
from dstui.facts.raw import Answer, Missing
from dstui.model import Reason

_NULLS = frozenset({"", "N/A", "[N/A]", "[Not Supported]", "[Unknown Error]", "[GPU requires reset]", "[Not Found]"})
_RESET = "[GPU requires reset]"
_DRIVER = re.compile(r"\d{3}\.\d+(?:\.\d+)?", re.ASCII)
_COLUMNS = 8


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A compute process; `memory` in bytes, None when the driver hides it (containers, MIG)."""

    pid: int
    memory: int | None


@dataclass(frozen=True, slots=True)
class RemappedRows:
    """Rows of HBM that were replaced, after correctable and uncorrectable errors; `pending` asks for a reset."""

    corrected: int
    uncorrected: int
    pending: bool
    failure: bool


@dataclass(frozen=True, slots=True)
class Gpu:
    """Memory in bytes, utilisation in percent, temperature in °C, power in milliwatts, clocks in MHz."""

    index: int
    name: str | Missing
    uuid: str | Missing
    memory_total: int | Missing
    pci_bus_id: str | Missing
    mig: bool | None
    """Whether MIG is on; None when the GPU has none."""
    compute_capability: str | Missing
    memory_used: int | Missing
    utilisation: int | Missing
    memory_utilisation: int | Missing
    temperature: int | Missing
    power: int | Missing
    power_limit: int | Missing
    clock_sm: int | Missing
    clock_mem: int | Missing
    event_reasons: int | Missing
    ecc_enabled: bool | Missing
    ecc_uncorrected_volatile: int | Missing
    ecc_corrected_volatile: int | Missing
    ecc_uncorrected_aggregate: int | Missing
    remapped: RemappedRows | Missing
    pcie_generation: int | Missing
    pcie_generation_max: int | Missing
    pcie_width: int | Missing
    pcie_width_max: int | Missing
    persistence: bool | Missing
    nvlinks: tuple[bool, ...] | Missing
    processes: tuple[GpuProcess, ...] | Missing
    errors: Mapping[str, str]

    @property
    def lost(self) -> str | None:
        """The NVML error when the GPU no longer answers at all: it fell off the bus or needs a reset."""
        gone = {"GPU_IS_LOST", "RESET_REQUIRED"}
        return next((name for name in (_bare(error) for error in self.errors.values()) if name in gone), None)


def _bare(error: str) -> str:
    return error.removeprefix("NVML_").removeprefix("ERROR_")


@dataclass(frozen=True, slots=True)
class _Row:
    """Typed access to one GPU of the NVML answer."""

    fields: Mapping[str, object]
    errors: Mapping[str, str]

    def _missing(self, name: str) -> Missing:
        why = ", ".join(f"{call}: {_bare(error)}" for call, error in sorted(self.errors.items()))[:160]
        reason = Reason.PERMISSION if "NO_PERMISSION" in why else Reason.CANNOT_TELL
        return Missing(reason, f"NVML gives no {name}" + (f" ({why})" if why else ""))

    def number(self, name: str) -> int | Missing:
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self._missing(name)
        return int(value) if abs(value) < 1 << 63 else self._missing(name)

    def flag(self, name: str) -> bool | Missing:
        value = self.fields.get(name)
        return bool(value) if isinstance(value, int) else self._missing(name)

    def text(self, name: str) -> str | Missing:
        value = self.fields.get(name)
        return value if isinstance(value, str) and value.strip() and value not in _NULLS else self._missing(name)

    def links(self) -> tuple[bool, ...] | Missing:
        value = self.fields.get("nvlinks")
        if not isinstance(value, list) or not all(isinstance(state, int) for state in value):
            return self._missing("nvlinks")
        return tuple(bool(state) for state in value)

    def remapped(self) -> RemappedRows | Missing:
        value = self.fields.get("remapped")
        if not isinstance(value, dict):
            return self._missing("remapped")
        parts = [value.get(name) for name in ("corr", "uncorr", "pending", "failure")]
        if not all(isinstance(part, int) for part in parts):
            return self._missing("remapped")
        corrected, uncorrected, pending, failure = (int(part or 0) for part in parts)
        return RemappedRows(corrected, uncorrected, bool(pending), bool(failure))

    def processes(self) -> tuple[GpuProcess, ...] | Missing:
        value = self.fields.get("processes")
        if not isinstance(value, list):
            return self._missing("processes")
        found: list[GpuProcess] = []
        for row in value:
            pid = row.get("pid") if isinstance(row, dict) else None
            memory = row.get("memory") if isinstance(row, dict) else None
            if not isinstance(pid, int):
                return self._missing("processes")
            found.append(GpuProcess(pid, memory if isinstance(memory, int) else None))
        return tuple(found)


def _device(position: int, fields: Mapping[str, object]) -> Gpu:
    errors = fields.get("errors")
    row = _Row(fields, {str(k): str(v) for k, v in errors.items()} if isinstance(errors, dict) else {})
    index, mig = row.number("index"), fields.get("mig")
    return Gpu(
        index=position if isinstance(index, Missing) else index,
        name=row.text("name"),
        uuid=row.text("uuid"),
        memory_total=row.number("memory_total"),
        pci_bus_id=row.text("pci_bus_id"),
        mig=bool(mig) if isinstance(mig, int) else None,
        compute_capability=row.text("cc"),
        memory_used=row.number("memory_used"),
        utilisation=row.number("util"),
        memory_utilisation=row.number("mem_util"),
        temperature=row.number("temp"),
        power=row.number("power_mw"),
        power_limit=row.number("power_limit_mw"),
        clock_sm=row.number("clock_sm"),
        clock_mem=row.number("clock_mem"),
        event_reasons=row.number("event_reasons"),
        ecc_enabled=row.flag("ecc_mode"),
        ecc_uncorrected_volatile=row.number("ecc_uncorrected_volatile"),
        ecc_corrected_volatile=row.number("ecc_corrected_volatile"),
        ecc_uncorrected_aggregate=row.number("ecc_uncorrected_aggregate"),
        remapped=row.remapped(),
        pcie_generation=row.number("pcie_gen"),
        pcie_generation_max=row.number("pcie_gen_max"),
        pcie_width=row.number("pcie_width"),
        pcie_width_max=row.number("pcie_width_max"),
        persistence=row.flag("persistence"),
        nvlinks=row.links(),
        processes=row.processes(),
        errors=row.errors,
    )


def devices_of_nvml(gpus: object) -> tuple[Gpu, ...] | Missing:
    """The GPUs of the NVML answer (see `facts.raw.nvml`); an empty list is an answer: NVML works and sees none."""
    if not isinstance(gpus, list) or not all(isinstance(row, dict) for row in gpus):
        return Missing(Reason.PARSE_ERROR, "NVML's answer is not a list of GPUs")
    return tuple(_device(position, row) for position, row in enumerate(gpus))


def _trouble(cells: list[str]) -> str:
    """What nvidia-smi wrote in place of a value; a GPU that wants a reset says so before anything else."""
    if _RESET in cells:
        return "RESET_REQUIRED"
    return next((cell for cell in cells if cell in _NULLS), "not asked")


def devices_of_smi(answer: Answer) -> tuple[tuple[Gpu, ...] | Missing, str | Missing]:
    """GPUs and driver version of the `nvidia-smi --query-gpu=…` CSV. Values in brackets (`[N/A]`) are no values.

    Error lines are mixed into standard output (`Unable to determine the device handle for GPU … GPU is lost`); one
    that is not understood makes the whole answer Missing, so that a lost GPU cannot drop out of the count unseen.
    """
    none = Missing(Reason.CANNOT_TELL, "nvidia-smi names no driver version")
    if "No devices were found" in answer.output + answer.error:
        return (), none
    lines = [line for line in answer.output.splitlines() if line.strip()]
    if answer.exit not in (None, 0):
        # Rows beside an error are those of the GPUs that still answer.
        said = answer.error.strip() or (lines[-1] if lines else "no output")
        return Missing(Reason.CANNOT_TELL, f"nvidia-smi: exit {answer.exit}, {said[:120]}"), none
    if not lines:
        return Missing(Reason.PARSE_ERROR, "nvidia-smi: empty answer"), none
    try:
        rows = list(csv.reader(lines, skipinitialspace=True))
    except csv.Error:
        return garbled("nvidia-smi", answer.output), none
    found: list[Gpu] = []
    driver: str | Missing = none
    for row in rows:
        if len(row) != _COLUMNS or not row[0].strip().isdecimal():
            return garbled("nvidia-smi", ", ".join(row)), none
        index, uuid, name, memory, bus, mig, capability, version = (
            None if cell.strip() in _NULLS else cell.strip() for cell in row
        )
        fields: dict[str, object] = {
            "index": int(index or 0),
            "uuid": uuid,
            "name": name,
            "memory_total": int(memory) << 20 if memory and re.fullmatch(r"\d{1,9}", memory, re.ASCII) else None,
            "pci_bus_id": bus,
            "mig": {"Enabled": 1, "Disabled": 0}.get(mig or ""),
            "cc": capability,
            "errors": {"nvidia-smi": _trouble([cell.strip() for cell in row])},
        }
        found.append(_device(len(found), fields))
        driver = version if version and _DRIVER.fullmatch(version) else driver
    return tuple(found), driver
