"""The verb `sample` of a real collector: GPUs through the real pynvml on a made-up library, or through nvidia-smi."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import raw
from dstui.gather import ship
from dstui.gather.collector import companion, gpuwatch, rates, sample, smiwatch

DATA = Path(__file__).parents[1] / "data" / "nvml"
PYENV = Path.home() / ".pyenv" / "versions"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the made-up libnvidia-ml.so.1")
    folder = tmp_path_factory.mktemp("nvml")
    argv = [compiler, "-shared", "-fPIC", "-O1", "-w", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run([*argv, "-o", str(folder / "libnvidia-ml.so.1"), str(DATA / "nvml_stub.c")], check=True)
    return folder


class Host:
    """A collector process with a made-up NVML; every read has a limit."""

    def __init__(self, library: Path | None, conf: Path, *, path: Path | None = None, python: str = "") -> None:
        env = {**os.environ, "LD_LIBRARY_PATH": str(library or "/nowhere"), "NVML_STUB_FILE": str(conf)}
        if path:
            env["PATH"] = f"{env['PATH']}:{path}"
        argv = ship.local_argv()
        self.conf = conf
        self.process = subprocess.Popen(
            [python or argv[0], *argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=2, env=env, bufsize=0
        )
        self._buffer = b""
        self._ids = 0
        self.write(ship.bootstrap_payload.__wrapped__())
        assert self.message()["mode"] == "python"
        self.ask("module", name="nvml", source=ship.module_source("nvml"))

    def write(self, data: bytes) -> None:
        assert self.process.stdin
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) :]

    def message(self, seconds: float = 20.0) -> dict:
        assert self.process.stdout
        due = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            assert select.select([self.process.stdout], [], [], max(0.0, due - time.monotonic()))[0], "it said nothing"
            chunk = self.process.stdout.read(1 << 20)
            assert chunk, "it ended"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line[1:])

    def send(self, verb: str, **args: object) -> int:
        self._ids += 1
        self.write(json.dumps({"id": self._ids, "verb": verb, **args}).encode() + b"\n")
        return self._ids

    def ask(self, verb: str, **args: object) -> dict:
        number = self.send(verb, **args)
        while True:
            answer = self.message()
            if answer["id"] == number and "sample" not in answer:
                return answer

    def stream(self, interval: float = 0.2, **args: object) -> None:
        assert self.ask("sample", interval=interval, **args)["ok"]

    def sample(self, until: Callable[[dict], object] = lambda sample: True) -> dict:
        """The first sample of which `until` holds."""
        due = time.monotonic() + 20
        while time.monotonic() < due:
            message = self.message()
            if "sample" in message and until(message["sample"]):
                return message["sample"]
        raise AssertionError("it never came")

    def children(self) -> list[int]:
        return children(self.process.pid)


def children(pid: int) -> list[int]:
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in found if not dead(child)]


def dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def gone(pid: int) -> bool:
    due = time.monotonic() + 10
    while time.monotonic() < due:
        if dead(pid):
            return True
        select.select([], [], [], 0.01)
    return False


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "gpus.conf"
    path.write_text((DATA / "gpus.conf").read_text())
    return path


@pytest.fixture
def start(conf: Path) -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def make(library: Path | None, **args: object) -> Host:
        hosts.append(Host(library, conf, **args))  # type: ignore[arg-type]
        return hosts[-1]

    yield make
    for host in hosts:
        host.process.kill()
        host.process.wait()
        assert host.process.stdin and host.process.stdout
        host.process.stdin.close()
        host.process.stdout.close()


Start = Callable[..., Host]


def test_a_sample(start: Start, library: Path) -> None:
    host = start(library)
    host.stream(0.5, pcie=True)
    first = host.sample()
    assert (first["seq"], first["lost"], first["hz"]) == (1, 0, 2.0)
    assert 0 <= first["cpu"] <= 100
    assert first["cpus"] == os.sysconf("SC_NPROCESSORS_ONLN")
    assert 0 < first["mem_available"] <= first["mem_total"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert first["load1"] >= 0
    assert (first["gpu_source"], first["gpu_missing"]) == ("nvml", None)
    assert first["gpu_age"] < 5 and first["slow_age"] < 5
    assert [gpu["index"] for gpu in first["gpus"]] == list(range(8))
    assert {key: value for key, value in first["gpus"][0].items() if not key.startswith("pcie_")} == {
        "index": 0,
        "uuid": "GPU-00000000-0000-4000-8000-000000000000",
        "name": "NVIDIA H100 80GB HBM3",
        "util": 37,
        "mem_util": 21,
        "mem_used": 76235669504,
        "mem_total": 85520809984,
        "temp": 45,
        "power": 312.4,
        "power_limit": 700.0,
        "sm_mhz": 1980,
        "mem_mhz": 2619,
        "reasons": [],
        "ecc_uncorrected": 0,
        "procs": [{"pid": 4242, "mem": 76000000000}],
        "error": None,
        "pci": "00000000:18:00.0",
    }
    assert (first["xids"] is None) == (first["xid_missing"] is not None), "either it was read, or why not"
    hot = first["gpus"][3]
    assert (hot["temp"], hot["reasons"], hot["ecc_uncorrected"]) == (91, ["hw_thermal_slowdown"], 2)
    assert first["gpus"][5]["pcie_width"] == 8
    lost = first["gpus"][7]
    assert lost["error"] == "GPU_IS_LOST"
    assert {key for key, value in lost.items() if value is not None} == {"index", "error"}
    second = host.sample(lambda sample: sample["gpus"][1].get("pcie_age") == 0)
    assert second["seq"] > first["seq"] and second["t"] > first["t"]
    assert (second["gpus"][1]["pcie_rx"], second["gpus"][1]["pcie_tx"]) == (120000, 80000)


def test_changes_show_and_facts_go_on_beside_the_stream(start: Start, library: Path, conf: Path) -> None:
    host = start(library)
    host.stream()
    host.sample(lambda sample: sample["gpus"])
    conf.write_text("count=2\nutil=99\n1.util=0\nthrottle=0x284\n1.err=15\n")
    changed = host.sample(lambda sample: sample["gpus"] and sample["gpus"][0]["util"] == 99)
    assert changed["gpus"][0]["reasons"] == ["sw_power_cap", "hw_power_brake_slowdown", "bit_0x200"]
    assert changed["gpus"][1]["error"] == "GPU_IS_LOST"
    assert changed["gpus"][1]["uuid"] == "GPU-00000000-0000-4000-8000-000000000001"
    assert changed["gpus"][1]["util"] is None and changed["gpus"][1]["power_limit"] is None
    op = raw.run("r", "echo", "hi")
    answer = host.ask("facts", ops=[{"key": op.key, "kind": op.kind, "args": dict(op.args)}])
    assert answer["answers"]["r"]["output"] == "hi\n"
    assert host.sample()["seq"] > changed["seq"]


def test_the_older_name_of_the_event_reasons(start: Start, library: Path, conf: Path) -> None:
    conf.write_text("count=1\nthrottle=0x20\nerr.GetCurrentClocksEventReasons=13\n")
    host = start(library)
    host.stream()
    # The stub answers both names alike, so without either there is no value, and no word of an idle GPU.
    assert host.sample(lambda sample: sample["gpus"])["gpus"][0]["reasons"] is None


def test_hung_nvml_leaves_the_rest_and_comes_back(
    start: Start, library: Path, conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched(monkeypatch, "STUCK_SECONDS = 30.0", "STUCK_SECONDS = 1.0", "OLD_SECONDS = 3.0", "OLD_SECONDS = 0.5")
    host = start(library)
    host.stream()
    before = host.sample(lambda sample: sample["gpus"])
    conf.write_text("count=2\ndelay_ms=60000\n")
    hung = host.sample(lambda sample: sample["gpu_missing"])
    assert (hung["gpus"], hung["gpu_source"], hung["gpu_missing"]["reason"]) == ([], None, "timeout")
    assert "since" in hung["gpu_missing"]["why"]
    assert hung["cpu"] is not None and hung["mem_available"] and hung["seq"] > before["seq"]
    later = host.sample(lambda sample: sample["seq"] > hung["seq"])
    assert later["gpu_missing"]["for"] > hung["gpu_missing"]["for"]
    assert later["gpu_missing"]["why"] == hung["gpu_missing"]["why"]
    conf.write_text("count=2\nutil=7\n")
    back = host.sample(lambda sample: sample["gpus"])
    assert back["gpus"][0]["util"] == 7


def test_a_child_that_dies_is_said_and_replaced(start: Start, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patched(monkeypatch, "REPLACE_SECONDS = 10.0", "REPLACE_SECONDS = 0.5")
    host = start(library)
    host.stream()
    host.sample(lambda sample: sample["gpus"])
    for child in host.children():
        os.kill(child, signal.SIGKILL)
    without = host.sample(lambda sample: sample["gpu_missing"])
    assert (without["gpus"], without["gpu_missing"]["reason"], without["rdma"]) == ([], "probe-error", None)
    assert host.sample(lambda sample: sample["gpus"])["gpu_missing"] is None


def patched(monkeypatch: pytest.MonkeyPatch, *changes: str) -> None:
    """Ship the collector with other constants."""
    source = ship._source

    def changed(part: str) -> bytes:
        text = source(part).decode()
        for before, after in zip(changes[::2], changes[1::2], strict=True):
            text = text.replace(before, after)
        return text.encode()

    for before in changes[::2]:
        assert any(before in source(part).decode() for part in ship._WHEN_NEEDED)
    monkeypatch.setattr(ship, "_source", changed)


def test_nvml_that_does_not_start(start: Start, library: Path, conf: Path) -> None:
    conf.write_text("init_err=18\n")
    host = start(library)
    host.stream()
    missing = host.sample()["gpu_missing"]
    assert missing["reason"] == "cannot-tell"
    assert "LIB_RM_VERSION_MISMATCH" in missing["why"]


SMI = """#!/bin/sh
case "$*" in
*clocks_event_reasons*) echo 'Field "clocks_event_reasons.active" is not a valid field to query.'; exit 2;;
esac
printf '0, GPU-aa, NVIDIA H100 80GB HBM3, 55, 20, 70000, 81559, 61, 498.31, 700.00, 1755, '
printf '2619, 0, 5, 16, 00000000:3B:00.0, 0x04\\n'
printf '1, GPU-bb, NVIDIA H100 80GB HBM3, [N/A], [N/A], 70000, 81559, 61, [Unknown Error], 700.00, [N/A], 2619, '
printf '[N/A], 5, 16, [N/A], [N/A]\\n'
"""


def test_without_nvml_nvidia_smi_is_asked(start: Start, tmp_path: Path) -> None:
    if any(shutil.which("nvidia-smi", path=place) for place in rates_path()):
        pytest.skip("this machine has a nvidia-smi of its own")
    shim = tmp_path / "bin"
    shim.mkdir()
    (shim / "nvidia-smi").write_text(SMI)
    (shim / "nvidia-smi").chmod(0o755)
    host = start(None, path=shim)
    host.stream()
    sample = host.sample(lambda sample: sample["gpus"])
    assert (sample["gpu_source"], sample["gpu_missing"]) == ("nvidia-smi", None)
    first, second = sample["gpus"]
    assert (first["uuid"], first["util"], first["mem_used"], first["power"]) == ("GPU-aa", 55, 70000 << 20, 498.31)
    assert first["reasons"] == ["sw_power_cap"]
    assert first["procs"] is None
    assert (second["util"], second["power"], second["reasons"], second["error"]) == (None, None, None, "UNKNOWN")


def rates_path() -> list[str]:
    return smiwatch.find.__globals__["STANDARD_PATH"].split(":")


def test_without_any_driver(start: Start) -> None:
    host = start(None)
    host.stream()
    sample = host.sample(lambda sample: sample["gpu_missing"]["reason"] != "timeout")
    assert (sample["gpu_source"], sample["gpus"]) == (None, [])
    assert sample["gpu_missing"]["reason"] == "tool-missing"
    assert "libnvidia-ml.so.1" in sample["gpu_missing"]["why"]
    assert "nvidia-smi is not on the host" in sample["gpu_missing"]["why"]


def test_a_host_without_gpus_is_not_asked_for_them(start: Start) -> None:
    host = start(None)
    host.stream(gpus=False)
    sample = host.sample()
    assert (sample["gpu_source"], sample["gpu_missing"], sample["gpus"]) == (None, None, [])
    assert len(host.children()) == 1


@pytest.mark.parametrize("how", ["sample-stop", "bye", "end of input", "SIGTERM", "SIGKILL"])
def test_nothing_is_left_when_it_stops(start: Start, library: Path, how: str) -> None:
    host = start(library)
    host.stream()
    host.sample(lambda sample: sample["gpus"])
    left = host.children()
    assert len(left) == 2
    if how == "end of input":
        assert host.process.stdin
        host.process.stdin.close()
    elif how.startswith("SIG"):
        host.process.send_signal(getattr(signal, how))
    else:
        assert host.ask(how)["ok"]
    assert all(gone(pid) for pid in left)
    if how == "sample-stop":
        assert "sample" not in host.ask("facts", ops=[])
        assert host.ask("sample-stop")["ok"]
        host.stream()
        assert host.sample()["seq"] == 1
    else:
        host.process.wait(10)


def test_another_interval_replaces_the_stream(start: Start, library: Path) -> None:
    host = start(library)
    host.stream(10)
    before = host.children()
    answer = host.ask("sample", interval=0.01)
    assert answer["interval"] == 0.2
    assert all(gone(pid) for pid in before)
    assert {host.message()["id"] for _ in range(3)} == {answer["id"]}
    assert host.ask("sample", interval="fast")["reason"] == "probe-error"
    assert host.sample()["hz"] == 5.0
    assert len(host.children()) == 2


@pytest.mark.parametrize("minor", [6, 8, 13])
def test_on_other_pythons(start: Start, library: Path, minor: int) -> None:
    found = sorted(PYENV.glob(f"3.{minor}.*/bin/python3"))
    if not found:
        pytest.skip(f"no Python 3.{minor} in ~/.pyenv")
    host = start(library, python=str(found[0]))
    host.stream()
    sample = host.sample(lambda sample: sample["gpus"])
    assert sample["gpus"][0]["util"] == 37
    assert sample["cpu"] is not None


class Clockwork:
    """A Loop whose timers wait to be called by hand."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], None]] = []

    def after(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        self.timers.append(call)
        return call

    def cancel(self, timer: Callable[[], None]) -> None:
        if timer in self.timers:
            self.timers.remove(timer)


class Silent:
    """A companion that never answers."""

    owes = True
    owing_since = 0.0
    answer = None
    answered_at = 0.0

    def __init__(self, *args: object) -> None:
        return

    def ask(self) -> None:
        return

    def drop(self) -> None:
        return


def test_a_slow_controller_gets_the_newest_sample_and_the_number_of_lost_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "Companion", Silent)
    loop, sent, room = Clockwork(), [], [True]

    def post(line: str) -> bool:
        if room[0]:
            sent.append(json.loads(line)["sample"])
        return room[0]

    sampler = sample.Sampler(loop, 5, {"interval": 10.0}, post)  # type: ignore[arg-type]
    for able in (True, False, False, False):
        room[0] = able
        sampler._tick()
    room[0] = True
    sampler.drained()
    sampler.drained()
    sampler._tick()
    assert [(one["seq"], one["lost"]) for one in sent] == [(1, 0), (4, 2), (5, 0)]
    sampler._due = time.monotonic() - 35.0
    sampler._tick()
    assert (sent[-1]["seq"], sent[-1]["lost"]) == (9, 3)
    sampler.drop()
    assert not loop.timers


FIRST = {
    "/proc/stat": b"cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3\n",
    "/proc/loadavg": b"3.25 1.00 0.50 2/900 12345\n",
    "/proc/meminfo": b"MemTotal:       1000 kB\nMemAvailable:    400 kB\nSwapTotal: 90 kB\nSwapFree: 30 kB\n",
    "/proc/vmstat": b"nr_free_pages 5\npswpin 10\npswpout 20\noom_kill 3\n",
    "/proc/net/dev": b"Inter-|\n face |\n    lo: 9 0 0 0 0 0 0 0 9 0\nensA: 1000 1 0 0 0 0 0 0 5000 1\n",
}


def read(monkeypatch: pytest.MonkeyPatch, *moments: dict[str, bytes]) -> dict:
    reading = rates.HostReading()
    row: dict[str, object] = {}
    for number, files in enumerate(moments):
        monkeypatch.setattr(rates, "content", lambda path, limit=0, files=files: files.get(path))
        row = reading.read(100.0 + 2 * number)
    return row


def test_rates_between_two_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    second = {
        **FIRST,
        "/proc/stat": b"cpu  130 0 130 830 110 0 0 0 99 0\n",
        "/proc/vmstat": b"pswpin 30\npswpout 20\noom_kill 4\n",
        "/proc/net/dev": b"a\nb\n    lo: 9 0 0 0 0 0 0 0 9 0\nensA: 3000 1 0 0 0 0 0 0 4000 1\n",
    }
    row = read(monkeypatch, FIRST, second)
    assert row["cpu"] == 30.0
    assert (row["load1"], row["mem_total"], row["mem_available"], row["swap_used"]) == (3.25, 1024000, 409600, 61440)
    assert (row["swap_in"], row["swap_out"], row["oom_kill"]) == (10.0, 0.0, 4)
    # What went back was reset; it is not 0.
    assert row["net"] == {"ensA": {"rx": 1000.0, "tx": None, "speed": None}}


def test_the_first_reading_has_no_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    row = read(monkeypatch, FIRST)
    assert (row["cpu"], row["swap_in"], row["net"]["ensA"]["rx"], row["oom_kill"]) == (None, None, None, 3)


@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"\xff\xfe\n\x00", b"cpu x y\n", b"eth0:\n\n\neth0: a b"])
def test_what_cannot_be_read_is_not_there(monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> None:
    files = {} if content is None else dict.fromkeys(FIRST, content)
    row = read(monkeypatch, files, files)
    assert row.pop("cpus")
    assert row.pop("net") == {}
    assert set(row.values()) == {None}


@given(st.binary(max_size=300))
def test_any_content_gives_a_reading(content: bytes) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert "cpu" in read(monkeypatch, dict.fromkeys(FIRST, content), dict.fromkeys(FIRST, content + b"\n"))


def test_an_old_kernel_has_no_oom_counter_and_no_available_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    row = read(
        monkeypatch, {"/proc/vmstat": b"pswpin 1\npswpout 1\n", "/proc/meminfo": b"MemTotal: 7 kB\nMemFree: 3 kB\n"}
    )
    assert (row["oom_kill"], row["mem_available"], row["swap_used"], row["mem_total"]) == (None, None, None, 7168)


@pytest.mark.parametrize(
    ("said", "speed"),
    [
        ("100000", 100 * 10**9),
        ("-1", None),
        ("4294967295", None),
        ("65535", None),
        ("0", None),
        ("", None),
        ("x", None),
    ],
)
def test_link_speeds(tmp_path: Path, said: str, speed: int | None) -> None:
    (tmp_path / "speed").write_text(said + "\n")
    assert rates.net_speed(str(tmp_path)) == speed


def test_a_speed_that_cannot_be_read(tmp_path: Path) -> None:
    assert rates.net_speed(str(tmp_path / "down")) is None


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    port = tmp_path / "infiniband" / "mlx5_0" / "ports" / "1"
    (port / "counters").mkdir(parents=True)
    (port / "rate").write_text("400 Gb/sec (4X NDR)\n")
    (port / "state").write_text("4: ACTIVE\n")
    (port / "counters" / "port_rcv_data").write_text("1000\n")
    (port / "counters" / "port_xmit_data").write_text("4294967295\n")
    net = tmp_path / "net" / "ens1"
    (net / "device").mkdir(parents=True)
    (net / "speed").write_text("25000\n")
    (tmp_path / "net" / "veth3").mkdir()
    (tmp_path / "net" / "veth3" / "speed").write_text("10000\n")
    monkeypatch.setattr(rates, "RDMA", f"{tmp_path}/infiniband/")
    monkeypatch.setattr(rates, "NET", f"{tmp_path}/net/")
    return port


def test_rdma_counts_lanes_of_four_bytes(port: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.0, 12.0, 12.0])
    monkeypatch.setattr(rates.time, "monotonic", lambda: next(clock))
    devices = rates.Devices()
    assert devices.look() == {
        "speeds": {"ens1": 25 * 10**9},
        "rdma": {"mlx5_0/1": {"rx": None, "tx": None, "speed": 400 * 10**9}},
    }
    (port / "counters" / "port_rcv_data").write_text("2001000\n")
    assert devices.look()["rdma"] == {"mlx5_0/1": {"rx": 4000000.0, "tx": None, "speed": 400 * 10**9}}


def test_the_rate_of_a_port_that_is_down_means_nothing(port: Path) -> None:
    (port / "state").write_text("1: DOWN\n")
    assert rates.rdma_speed(str(port)) is None


def test_many_interfaces_of_containers_are_left_out(port: Path) -> None:
    assert rates.chosen(["lo", "ens1", "veth3"]) == {"lo": False, "ens1": True, "veth3": False}
    assert rates.chosen(["lo", "veth3"]) == {"lo": False, "veth3": True}


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0, []),
        (1, ["gpu_idle"]),
        (0x48, ["hw_slowdown", "hw_thermal_slowdown"]),
        (
            0x1A2,
            ["applications_clocks_setting", "sw_thermal_slowdown", "hw_power_brake_slowdown", "display_clock_setting"],
        ),
        (1 << 63, ["bit_0x8000000000000000"]),
        (None, None),
        ("4", None),
    ],
)
def test_clock_event_reasons(bits: object, expected: list[str] | None) -> None:
    assert gpuwatch.words(bits) == expected


ROW = "0, GPU-aa, NVIDIA H100, 55, 20, 70000, 81559, 61, 498.31, 700.00, 1755, 2619, 0, 5, 16, 00000000:3B:00.0"


@pytest.mark.parametrize(
    ("code", "output", "missing", "gpus"),
    [
        (0, ROW, None, 1),
        (0, f"{ROW}, 0x0000000000000001", None, 1),
        (None, ROW, "timeout", 0),
        (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "cannot-tell", 0),
        (15, f"{ROW}\nUnable to determine the device handle for GPU0000:3B:00.0: GPU is lost.", "cannot-tell", 1),
        (0, "", "cannot-tell", 0),
        (6, "No devices were found", "cannot-tell", 0),
        (0, "0, 1, 2", "cannot-tell", 0),
    ],
)
def test_what_nvidia_smi_says(code: int | None, output: str, missing: str | None, gpus: int) -> None:
    told = smiwatch.told(code, output)
    said = told["gpu_missing"]
    assert (said["reason"] if isinstance(said, dict) else None) == missing
    assert isinstance(told["gpus"], list)
    assert len(told["gpus"]) == gpus


def test_a_lost_gpu_in_nvidia_smi() -> None:
    row = smiwatch.gpu(", ".join(["3", "GPU-aa", "NVIDIA H100", *["[GPU is lost]"] * 13]))
    assert row is not None
    assert row["error"] == "GPU_IS_LOST"
    assert {key for key, value in row.items() if value is not None} == {"index", "uuid", "name", "error"}


@given(st.text(max_size=200))
def test_any_line_is_a_gpu_or_none(line: str) -> None:
    row = smiwatch.gpu(line)
    assert row is None or isinstance(row["index"], int)
    assert isinstance(smiwatch.told(0, line)["gpus"], list)


def test_nvidia_smi_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smiwatch, "RUN_SECONDS", 0.2)
    code, said = smiwatch.run("/bin/sh", ["sh", "-c", "echo so far; sleep 300"])
    assert code is None
    assert "so far" in said


def test_a_companion_is_not_asked_twice() -> None:
    heard: list[int] = []
    loop = companion.Loop()
    one = companion.Companion(loop, lambda: lambda: {"n": 1}, lambda: heard.append(1))
    one.ask()
    since = one.owing_since
    one.ask()
    assert one.owing_since == since
    while not heard:
        loop.turn()
    assert (one.answer, one.owes) == ({"n": 1}, False)
    one.drop()
