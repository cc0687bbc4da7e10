"""NVML through the real pynvml on a made-up libnvidia-ml.so.1: eight H100s described by a text file."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dstui.facts import raw
from dstui.gather import ship

DATA = Path(__file__).parents[1] / "data" / "nvml"
CONF = (DATA / "gpus.conf").read_text()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the made-up libnvidia-ml.so.1")
    folder = tmp_path_factory.mktemp("nvml")
    target = folder / "libnvidia-ml.so.1"
    argv = [compiler, "-shared", "-fPIC", "-O1", "-w", "-Wl,-soname,libnvidia-ml.so.1", "-o", str(target)]
    subprocess.run([*argv, str(DATA / "nvml_stub.c")], check=True)
    return folder


class Asked:
    """One collector, one NVML operation."""

    def __init__(self, folder: Path | None, conf: Path, *, ship_pynvml: bool = True, timeout: float = 20.0) -> None:
        env = {**os.environ, "LD_LIBRARY_PATH": str(folder or "/nowhere"), "NVML_STUB_FILE": str(conf)}
        self.process = subprocess.Popen(
            ship.local_argv(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
        )
        assert self.process.stdin
        requests = [ship.bootstrap_payload()]
        if ship_pynvml:
            requests.append(self._request(1, "module", name="nvml", source=ship.module_source("nvml")))
        op = raw.nvml("gpu.nvml", timeout=timeout)
        requests.append(self._request(2, "facts", ops=[{"key": op.key, "kind": op.kind, "args": dict(op.args)}]))
        self.process.stdin.write(b"".join(requests))
        self.process.stdin.flush()
        answer = self._read()
        while answer["id"] != 2:
            assert answer["ok"]
            answer = self._read()
        self.answer = answer["answers"]["gpu.nvml"]
        self.process.stdin.close()
        self.exit = self.process.wait(10)

    @staticmethod
    def _request(number: int, verb: str, **args: object) -> bytes:
        return json.dumps({"id": number, "verb": verb, **args}).encode() + b"\n"

    def _read(self) -> dict:
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], 30)[0], "it said nothing"
        return json.loads(self.process.stdout.readline()[1:])

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def conf(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "gpus.conf"
    path.write_text(CONF)
    yield path


def test_eight_gpus(library: Path, conf: Path) -> None:
    with Asked(library, conf) as asked:
        value = asked.answer["value"]
    assert (value["error"], value["driver"], value["cuda"], value["nvml"]) == (
        None,
        "570.172.08",
        12080,
        "12.570.172.08",
    )
    gpus = value["gpus"]
    assert [gpu["index"] for gpu in gpus] == list(range(8))
    first = gpus[0]
    assert {key: first[key] for key in first if key not in ("errors", "nvlinks", "processes")} == {
        "index": 0,
        "uuid": "GPU-00000000-0000-4000-8000-000000000000",
        "name": "NVIDIA H100 80GB HBM3",
        "memory_total": 85520809984,
        "memory_used": 76235669504,
        "pci_bus_id": "00000000:18:00.0",
        "mig": 0,
        "cc": "9.0",
        "util": 37,
        "mem_util": 21,
        "temp": 45,
        "power_mw": 312450,
        "power_limit_mw": 700000,
        "clock_sm": 1980,
        "clock_mem": 2619,
        "event_reasons": 0,
        "ecc_mode": 1,
        "ecc_uncorrected_volatile": 0,
        "ecc_corrected_volatile": 0,
        "ecc_uncorrected_aggregate": 0,
        "remapped": {"corr": 0, "uncorr": 0, "pending": 0, "failure": 0},
        "pcie_gen": 5,
        "pcie_gen_max": 5,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "persistence": 1,
    }
    assert first["errors"] == {}
    assert first["nvlinks"] == [1] * 18
    assert first["processes"] == [{"pid": 4242, "memory": 76000000000}]
    assert (gpus[3]["ecc_uncorrected_volatile"], gpus[3]["temp"], gpus[3]["event_reasons"]) == (2, 91, 0x40)
    assert gpus[5]["pcie_width"] == 8
    assert gpus[6]["nvlinks"] == [0, 1, 0] + [1] * 15
    lost = gpus[7]
    assert lost["name"] is None
    assert "GPU_IS_LOST" in lost["errors"].values()


def test_what_a_gpu_does_not_support_is_null_with_its_error(library: Path, conf: Path) -> None:
    conf.write_text(
        "count=1\n0.err.GetEccMode=3\n0.err.GetMigMode=3\n0.err.GetMemoryInfo_v2=13\n0.nvlinks=4\n"
        "0.err.GetRemappedRows=4\n0.err.GetComputeRunningProcesses=4\n0.err.GetCurrentClocksEventReasons=999\n"
    )
    with Asked(library, conf) as asked:
        (gpu,) = asked.answer["value"]["gpus"]
    assert (gpu["ecc_mode"], gpu["mig"], gpu["remapped"], gpu["processes"]) == (None, None, None, None)
    assert gpu["nvlinks"] == [1, 1, 1, 1]
    assert gpu["memory_used"] == 76235669504 + 684851200
    assert gpu["errors"]["nvmlDeviceGetEccMode"] == "NOT_SUPPORTED"
    assert gpu["errors"]["nvmlDeviceGetRemappedRows"] == "NO_PERMISSION"
    assert gpu["errors"]["nvmlDeviceGetCurrentClocksEventReasons"] == "UNKNOWN"
    assert "nvmlDeviceGetMemoryInfo" not in gpu["errors"]
    assert "nvmlDeviceGetNvLinkState" not in gpu["errors"]


def test_nvml_that_will_not_start(library: Path, conf: Path) -> None:
    conf.write_text("init_err=18\n")
    with Asked(library, conf) as asked:
        value = asked.answer["value"]
    assert (value["error"]["name"], value["error"]["code"], value["gpus"]) == ("LIB_RM_VERSION_MISMATCH", 18, [])
    assert value["error"]["message"]


def test_nvml_that_hangs_is_given_up(library: Path, conf: Path) -> None:
    conf.write_text("count=8\ndelay_ms=60000\n")
    started = time.monotonic()
    with Asked(library, conf, timeout=0.5) as asked:
        assert asked.answer["missing"] == "timeout"
        assert asked.exit == 0
    assert time.monotonic() - started < 10


def test_no_driver(conf: Path) -> None:
    with Asked(None, conf) as asked:
        assert asked.answer["missing"] == "tool-missing"
        assert "libnvidia-ml.so.1" in asked.answer["why"]


def test_pynvml_that_was_not_shipped(library: Path, conf: Path) -> None:
    with Asked(library, conf, ship_pynvml=False) as asked:
        assert asked.answer["missing"] == "probe-error"


@pytest.mark.skipif(not sorted((Path.home() / ".pyenv" / "versions").glob("3.6.*")), reason="no Python 3.6 in ~/.pyenv")
def test_pynvml_runs_on_python_3_6(library: Path, conf: Path) -> None:
    python = min((Path.home() / ".pyenv" / "versions").glob("3.6.*")) / "bin" / "python3"
    program = (
        "import base64,sys,zlib;exec(compile(zlib.decompress(base64.b64decode(sys.stdin.read())),'pynvml','exec'))"
    )
    subprocess.run(
        [str(python), "-I", "-S", "-c", program.replace("exec(compile", "sys.modules['pynvml']=sys;exec(compile")],
        input=(ship.module_source("nvml") or "").encode(),
        check=True,
        capture_output=True,
    )
