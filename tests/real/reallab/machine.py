"""What makes a lab host look like a GPU server: hardware in /sys and /proc, Ubuntu, driver, CUDA, Docker, agents."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reallab.host import Host, command

GPUS = 8
CORES = 64
GIB = 1 << 30
DATA = Path(__file__).parents[2] / "data"
MACHINE = "/etc/machine"
MEMINFO = f"{MACHINE}/meminfo"
UNITS = f"{MACHINE}/units"
DOCKER = f"{MACHINE}/docker"
NVML = f"{MACHINE}/nvml.conf"
NODE_METRICS = f"{MACHINE}/node_exporter.txt"
GPU_METRICS = f"{MACHINE}/dcgm-exporter.txt"
PYTHON = "/opt/deepseek/venv/bin/python"

OS_RELEASE = """PRETTY_NAME="Ubuntu 22.04.5 LTS"
NAME="Ubuntu"
VERSION_ID="22.04"
VERSION="22.04.5 LTS (Jammy Jellyfish)"
VERSION_CODENAME=jammy
ID=ubuntu
ID_LIKE=debian
"""

SYSTEMCTL = """#!/bin/sh
# systemctl of a machine that has no systemd: /etc/machine/units holds `unit active-state unit-file-state restarts`.
unit() {
  case $1 in *.*) name=$1 ;; *) name=$1.service ;; esac
  grep -F -- "$name " /etc/machine/units || echo "$name inactive - 0"
}
case $1 in
is-active)
  set -- $(unit "$2"); echo "$2"; [ "$2" = active ] || exit 3 ;;
show)
  shift; wanted= first=1
  while [ $# -gt 0 ]; do
    case $1 in
    -p) wanted=$2; shift ;;
    -*) ;;
    *)
      [ $first ] || echo; first=
      set -- $(unit "$1") -- "$@"
      id=$1 active=$2 file=$3 restarts=$4; shift 5
      sub=dead entered=0; [ "$active" = active ] && sub=running entered=1000000
      [ "$file" = - ] && file=
      for pair in "Id=$id" "ActiveState=$active" "SubState=$sub" "UnitFileState=$file" "NRestarts=$restarts" \\
        "ActiveEnterTimestampMonotonic=$entered" "FragmentPath="; do
        case ",$wanted," in *",${pair%%=*},"*) echo "$pair" ;; esac
      done ;;
    esac
    shift
  done ;;
*) echo "System has not been booted with systemd as init system (PID 1)." >&2; exit 1 ;;
esac
"""

DOCKER_CLI = """#!/bin/sh
# docker of a lab host: /etc/machine/docker says `client=`, `server=`, `denied=`, `runtimes=`.
. /etc/machine/docker
[ "$1" = --version ] && { echo "Docker version $client, build 48d30b5"; exit 0; }
if [ "$denied" ]; then
  [ "$1" = version ] && echo
  echo "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: \\
Get \\"http://%2Fvar%2Frun%2Fdocker.sock/v1.43/$1\\": dial unix /var/run/docker.sock: connect: permission denied" >&2
  exit 1
fi
case "$1 $3" in
"version {{.Server.Version}}") echo "$server" ;;
"info {{json .Runtimes}}") echo "$runtimes" ;;
"info "*) echo "overlay2|systemd|/var/lib/docker|json-file" ;;
*) printf 'Client:\\n Version:           %s\\n\\nServer:\\n Engine:\\n  Version:          %s\\n' "$client" "$server" ;;
esac
"""

NVIDIA_CTK = """#!/bin/sh
echo "NVIDIA Container Toolkit CLI version $(cat /etc/machine/ctk)"
echo "commit: 4bd8e6b8b4b5a0f5b6a3d5c8b6a0f5b6a3d5c8b6"
"""

NVCC = """#!/bin/sh
echo "nvcc: NVIDIA (R) Cuda compiler driver"
echo "Cuda compilation tools, release 12.8, V12.8.93"
"""

RUNTIMES = '{"nvidia":{"path":"nvidia-container-runtime"},"runc":{"path":"runc"}}'


def libraries(folder: Path) -> dict[str, Path]:
    """Compile the made-up libraries; path on the host → file here."""
    wanted = {
        "/usr/lib/libnvidia-ml.so.1": ("nvml.c", "-Wl,-soname,libnvidia-ml.so.1"),
        "/usr/local/lib/affinity.so": ("affinity.c", f"-DCPUS={CORES}"),
    }
    built = {}
    for path, (source, option) in wanted.items():
        built[path] = folder / Path(path).name
        flags = ("-shared", "-fPIC", "-O1", "-w", option)
        command("cc", *flags, "-o", str(built[path]), str(Path(__file__).with_name(source)))
    return built


def furnish(host: Host, libs: dict[str, Path]) -> None:
    """Everything of a GPU server that is a file."""
    for path, library in libs.items():
        host.put(path, library.read_bytes(), 0o755)
    host.put("/etc/ld.so.preload", "/usr/local/lib/affinity.so\n")
    processors(host)
    memory(host, installed_gib=512, total_kb=527_909_000)
    disks(host)
    gpus(host)
    system(host)
    software(host)
    agents(host)


def processors(host: Host) -> None:
    place = "/sys/devices/system/cpu"
    for cpu in range(CORES):
        host.put(f"{place}/cpu{cpu}/topology/physical_package_id", f"{cpu % 2}\n")
        host.put(f"{place}/cpu{cpu}/topology/die_id", "0\n")
        host.put(f"{place}/cpu{cpu}/topology/core_id", f"{cpu // 2}\n")
    host.put_all({f"{place}/online": f"0-{CORES - 1}\n", f"{place}/present": f"0-{CORES - 1}\n"})
    info = "".join(
        f"processor\t: {cpu}\nmodel name\t: INTEL(R) XEON(R) PLATINUM 8558\nflags\t\t: fpu vme sse2 amx_tile\n\n"
        for cpu in range(CORES)
    )
    bound(host, "/proc/cpuinfo", f"{MACHINE}/cpuinfo", info)


def memory(host: Host, *, installed_gib: int, total_kb: int) -> None:
    """Blocks of 2 GiB each, as sysfs lists them, and what the kernel keeps of that as MemTotal."""
    place = "/sys/devices/system/memory"
    host.put(f"{place}/block_size_bytes", "80000000\n")
    for block in range(installed_gib // 2):
        host.put(f"{place}/memory{block}/online", "1\n")
    half = total_kb // 2
    for node in range(2):
        lines = f"Node {node} MemTotal:       {half} kB\nNode {node} MemFree:        {half - 9_000_000} kB\n"
        cpus = ",".join(str(cpu) for cpu in range(node, CORES, 2))
        host.put_all(
            {
                f"/sys/devices/system/node/node{node}/meminfo": lines,
                f"/sys/devices/system/node/node{node}/cpulist": f"{cpus}\n",
            }
        )
    bound(host, "/proc/meminfo", MEMINFO, meminfo(total_kb))


@contextmanager
def less_memory(host: Host, *, installed_gib: int, total_kb: int) -> Iterator[None]:
    """The host with fewer memory blocks online, and afterwards with all again."""
    blocks = sorted(host.place("/sys/devices/system/memory").glob("memory*/online"))
    with host.changed(MEMINFO, meminfo(total_kb)):
        for block in blocks[installed_gib // 2 :]:
            block.write_text("0\n")
        yield
    for block in blocks:
        block.write_text("1\n")


def meminfo(total_kb: int) -> str:
    return (
        f"MemTotal:       {total_kb} kB\nMemFree:        {total_kb - 20_000_000} kB\n"
        f"MemAvailable:   {total_kb - 15_000_000} kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\n"
        "HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n"
    )


def disks(host: Host) -> None:
    for number in range(2):
        name = f"nvme{number}n1"
        bus = f"devices/pci0000:40/0000:4{number}:00.0/nvme/nvme{number}/{name}"
        host.link(f"/sys/block/{name}", f"../{bus}")
        host.put_all(
            {
                f"/sys/{bus}/size": f"{3_840_755_982_336 // 512}\n",
                f"/sys/{bus}/queue/rotational": "0\n",
                f"/sys/{bus}/removable": "0\n",
                f"/sys/{bus}/ro": "0\n",
                f"/sys/{bus}/wwid": f"eui.0025385b21b0000{number}\n",
                f"/sys/{bus}/device/model": "SAMSUNG MZQL23T8HCLS-00A07              \n",
                f"/sys/{bus}/device/transport": "pcie\n",
            }
        )


def gpus(host: Host) -> None:
    host.run("mount", "-t", "tmpfs", "tmpfs", "/proc/driver")
    for number in range(GPUS):
        address = f"0000:{0x18 + number * 0x10:02x}:00.0"
        device = f"devices/pci0000:00/{address}"
        host.put_all({f"/sys/{device}/vendor": "0x10de\n", f"/sys/{device}/class": "0x030200\n"})
        host.link(f"/sys/{device}/driver", "../../../bus/pci/drivers/nvidia")
        host.link(f"/sys/bus/pci/devices/{address}", f"../../../{device}")
        host.place(f"/proc/driver/nvidia/gpus/{address}").mkdir(parents=True)
        os.mknod(host.place(f"/dev/nvidia{number}"), stat.S_IFCHR | 0o666, os.makedev(195, number))
    bridge = "/sys/bus/pci/devices/0000:00:00.0"
    host.put_all({f"{bridge}/vendor": "0x8086\n", f"{bridge}/class": "0x060000\n"})
    driver(host, "570.172.08", cuda=12080)


def driver(host: Host, version: str, *, cuda: int) -> None:
    host.put_all(
        {
            NVML: nvml(version, cuda=cuda),
            "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  "
            f"{version}  Release Build\n",
            "/sys/module/nvidia/version": f"{version}\n",
            "/sys/module/nvidia/refcnt": "12\n",
        }
    )
    host.put("/usr/local/sbin/modinfo", f"#!/bin/sh\necho {version}\n", 0o755)


def nvml(version: str, *, cuda: int, extra: str = "") -> str:
    return f"driver={version}\nnvml=12.{version}\ncuda={cuda}\ncount={GPUS}\n{extra}"


def system(host: Host) -> None:
    host.put("/etc/os-release", OS_RELEASE)
    host.put_all(
        {
            f"/sys/class/dmi/id/{name}": f"{value}\n"
            for name, value in {
                "sys_vendor": "Dell Inc.",
                "product_name": "PowerEdge XE9680",
                "board_vendor": "Dell Inc.",
                "bios_vendor": "Dell Inc.",
                "bios_version": "2.3.4",
                "chassis_asset_tag": "",
            }.items()
        }
    )
    host.put(
        "/etc/netplan/01-data.yaml",
        f"network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: false\n      addresses: [{host.address}/24]\n",
        0o600,
    )
    host.put("/usr/sbin/netplan", '#!/bin/sh\n[ "$1" = get ] && exec cat /etc/netplan/*.yaml\n', 0o755)
    host.put("/etc/network/interfaces", "# managed by netplan\n")
    host.put("/usr/local/sbin/systemctl", SYSTEMCTL, 0o755)
    host.put(
        UNITS,
        "".join(
            f"{name}.service active enabled 0\n"
            for name in ("docker", "fluent-bit", "node_exporter", "nvidia-dcgm-exporter", "nftables", "ssh")
        ),
    )


def software(host: Host) -> None:
    host.put("/usr/local/sbin/docker", DOCKER_CLI, 0o755)
    host.put(DOCKER, docker("27.5.1"))
    os.mknod(host.place("/run/docker.sock"), stat.S_IFSOCK | 0o660)
    host.put("/etc/docker/daemon.json", json.dumps({"log-opts": {"max-size": "100m", "max-file": "3"}}))
    host.put("/usr/local/sbin/nvidia-ctk", NVIDIA_CTK, 0o755)
    host.put(f"{MACHINE}/ctk", "1.18.0\n")
    host.put("/usr/local/cuda-12.8/bin/nvcc", NVCC, 0o755)
    host.put("/usr/local/cuda-12.8/version.json", json.dumps({"cuda": {"name": "CUDA SDK", "version": "12.8.1"}}))
    host.link("/usr/local/cuda", "cuda-12.8")
    venv(host)


def docker(server: str, *, denied: bool = False) -> str:
    return f"client=27.5.1\nserver={server}\ndenied={'yes' if denied else ''}\nruntimes='{RUNTIMES}'\n"


def venv(host: Host) -> None:
    version = host.run("/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    packages = f"/opt/deepseek/venv/lib/python{version}/site-packages"
    # A copy, so that it stays when the system's own is taken away.
    host.put(PYTHON, host.place(f"/usr/bin/python{version}").read_bytes(), 0o755)
    host.put("/opt/deepseek/venv/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
    host.put(
        f"{packages}/torch/version.py",
        "from typing import Optional\n\n__version__ = '2.9.0+cu128'\ncuda: Optional[str] = '12.8'\n",
    )
    for name, number in {"vllm": "0.11.2", "ray": "2.52.0", "torch": "2.9.0+cu128"}.items():
        host.put(
            f"{packages}/{name}-{number}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\nRequires-Python: >=3.10\n",
        )


def agents(host: Host) -> None:
    synced = (DATA / "hosts/security/node_exporter.txt").read_text()
    host.put(NODE_METRICS, synced.replace("\nnode_timex_sync_status 0\n", "\nnode_timex_sync_status 1\n"))
    host.put(GPU_METRICS, gpu_metrics(GPUS))
    host.put("/etc/systemd/journald.conf", "[Journal]\nStorage=persistent\n")
    host.link("/usr/local/bin/fluent-bit", "/usr/bin/sleep")


def gpu_metrics(count: int) -> str:
    lines = ["# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).", "# TYPE DCGM_FI_DEV_GPU_UTIL gauge"]
    for gpu in range(count):
        uuid = f"GPU-00000000-0000-4000-8000-{gpu:012d}"
        labels = f'gpu="{gpu}",UUID="{uuid}",device="nvidia{gpu}",modelName="NVIDIA H100 80GB HBM3"'
        lines.append(f"DCGM_FI_DEV_GPU_UTIL{{{labels}}} 0")
    return "\n".join(lines) + "\n"


def bound(host: Host, path: str, source: str, text: str) -> None:
    """A file of the host over one that the kernel makes."""
    host.put(source, text)
    host.run("mount", "--bind", source, path)
