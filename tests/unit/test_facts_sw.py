"""Docker, the container toolkit, interpreters, packages, CUDA toolkits and the clock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dstui.facts import clock, sw, versions
from dstui.facts.case import HostSite, Site
from dstui.facts.raw import Answer, Missing, Raw
from dstui.model import Reason

HOSTS = Path(__file__).parent.parent / "data" / "hosts"
HOST = HostSite("gpu-01", frozenset({"head"}), "198.51.100.11", None, "198.51.100.11", 22, "dstui", True, None)
PEER = HostSite("gpu-02", frozenset({"worker"}), "198.51.100.12", None, "198.51.100.12", 22, "dstui", True, None)
SITE = Site("lab", "lab", "pre", (HOST, PEER), "/mnt/x", None, None, "bare-metal", True, "none")


def captured(name: str, **changes: Answer) -> Raw:
    """A captured host; `changes` are answers put in the place of others (`__` for `.`, `_` for `-`)."""
    sources = {op.key: op.source for group in (sw.GROUP, versions.GROUP) for op in group.ops(HOST, SITE)}
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


def docker(name: str = "dgx-h100", **changes: Answer) -> sw.DockerFacts:
    return sw.parse(captured(name, **changes)).docker


def toolkit(name: str = "dgx-h100", **changes: Answer) -> sw.ToolkitFacts:
    return sw.parse(captured(name, **changes)).toolkit


DENIED = (
    "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: "
    'Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.51/version": dial unix /var/run/docker.sock: connect: permission denied'
)
NO_DAEMON = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


def test_docker() -> None:
    found = docker()
    assert (found.server, found.client, found.unit, found.podman) == ("28.2.2", "28.2.2", "active", False)
    assert found.packages == {"docker-ce": "28.2.2-1~ubuntu.22.04~jammy", "nvidia-container-toolkit": "1.17.8-1"}
    assert found.rotation is True and found.in_docker_group is True and found.seen
    assert found.root_free_bytes == 380000000 * 4096
    assert not isinstance(found.settings, Missing) and found.settings.storage_driver == "overlay2"


def test_docker_without_daemon() -> None:
    found = docker("vm-virtio")
    assert isinstance(found.server, Missing) and found.server.reason is Reason.CANNOT_TELL
    assert found.client == "28.2.2" and found.socket is False and found.seen


def test_the_empty_line_of_an_unreachable_daemon_is_no_version() -> None:
    assert isinstance(docker(sw__docker_server=text("\n", NO_DAEMON, 1)).server, Missing)
    assert isinstance(docker(sw__docker_server=text("\n", code=0)).server, Missing)


def test_socket_permission() -> None:
    refused = text("\n", DENIED, 1)
    found = docker(sw__docker_server=refused)
    assert isinstance(found.server, Missing) and found.server.reason is Reason.PERMISSION
    assert [op.source for op in sw.more(HOST, SITE, captured("dgx-h100", sw__docker_server=refused))] == [
        "sudo -n docker version"
    ]
    said = (
        "Client:\n Version:           24.0.5\n\n"
        "Server: Docker Engine - Community\n Engine:\n  Version:          24.0.7\n  API version: 1.43\n"
    )
    assert docker(sw__docker_server=refused, sw__docker_sudo=text(said, code=0)).server == "24.0.7"
    assert isinstance(docker(sw__docker_server=refused, sw__docker_sudo=missing(Reason.PERMISSION)).server, Missing)


@pytest.mark.parametrize("version", ["28.2.2+dfsg1", "24.0.7-0ubuntu2~22.04.1", "24.0.0~rc1"])
def test_server_versions_with_tails(version: str) -> None:
    assert docker(sw__docker_server=text(version + "\n", code=0)).server == version


def test_socket_api_where_there_is_no_client() -> None:
    gone = missing(Reason.TOOL_MISSING)
    raw = captured("dgx-h100", sw__docker_server=gone, sw__docker_client=gone)
    assert [op.key for op in sw.more(HOST, SITE, raw)] == ["sw.docker-api"]
    said = '{"Platform":{"Name":""},"Components":[{"Name":"Engine","Version":"24.0.7"}],"Version":"24.0.7"}'
    assert docker(sw__docker_server=gone, sw__docker_client=gone, sw__docker_api=text(said, code=0)).server == "24.0.7"
    podman = '{"Components":[{"Name":"Podman Engine","Version":"4.9.3"}],"Version":"4.9.3"}'
    assert isinstance(docker(sw__docker_server=gone, sw__docker_api=text(podman, code=0)).server, Missing)
    for garbled in ("", "<html>", "[]", '{"Version": 7}'):
        assert isinstance(docker(sw__docker_server=gone, sw__docker_api=text(garbled, code=0)).server, Missing)


def test_podmans_shim() -> None:
    shim = text(
        "podman version 4.9.3\n", "Emulate Docker CLI using podman. Create /etc/containers/nodocker to quiet msg.\n", 0
    )
    found = docker(sw__docker_client=shim, sw__docker_server=text("4.9.3\n", code=0))
    assert found.podman and isinstance(found.server, Missing) and isinstance(found.client, Missing)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('{"log-opts": {"max-size": "10m"}}', True), ('{"log-driver": "local"}', True), ("{}", False), ("", False),
        ('{"log-driver": "json-file"}', False), ('{"log-opts": []}', False),
    ],
)  # fmt: skip
def test_log_rotation(config: str, expected: bool) -> None:
    assert docker(sw__docker_config=text(config)).rotation is expected


def test_log_rotation_that_cannot_be_read() -> None:
    assert isinstance(docker(sw__docker_config=text("{")).rotation, Missing)
    assert isinstance(docker(sw__docker_config=missing(Reason.PERMISSION)).rotation, Missing)
    assert docker("a100-pcie").rotation is False


def test_removed_packages_are_not_installed() -> None:
    assert docker(sw__packages=text("docker.io\t24.0.7\trc \npodman-docker\t\tun \n", code=1)).packages == {}


def test_toolkit() -> None:
    found = toolkit()
    assert (found.version, found.version_source, found.commit[:7]) == ("1.17.8", "nvidia-ctk", "9f7ef5b")
    assert found.runtimes == ("io.containerd.runc.v2", "nvidia", "runc") and found.cdi == ()


def test_toolkit_fallbacks() -> None:
    gone = missing(Reason.TOOL_MISSING)
    found = toolkit(sw__ctk=gone)
    assert (found.version, found.version_source) == ("1.17.8", "nvidia-container-cli")
    assert toolkit(sw__ctk=gone, sw__ctk_cli=gone).version == "1.17.8-1"
    absent = toolkit(sw__ctk=gone, sw__ctk_cli=gone, sw__packages=text("", code=1)).version
    assert isinstance(absent, Missing) and absent.reason is Reason.TOOL_MISSING
    slow = toolkit(sw__ctk=missing(Reason.TIMEOUT), sw__ctk_cli=gone, sw__packages=text("", code=1)).version
    assert isinstance(slow, Missing) and slow.reason is Reason.TIMEOUT


def test_runtimes_that_cannot_be_read() -> None:
    refused = toolkit(sw__runtimes=text("null\n", DENIED, 1)).runtimes
    assert isinstance(refused, Missing) and refused.reason is Reason.PERMISSION
    assert isinstance(toolkit("vm-virtio").runtimes, Missing)
    assert isinstance(toolkit(sw__runtimes=text("null\n", code=0)).runtimes, Missing)


def test_cdi_speaks_of_nvidia() -> None:
    stat = [33188, 0, 0, 10, 1.0]
    names = value(
        {
            "/etc/cdi/nvidia.yaml": stat,
            "/etc/cdi/other.yaml": stat,
            "/etc/cdi/notes.txt": stat,
            "/var/run/cdi/x.json": stat,
        }
    )
    contents = value(
        {
            "/etc/cdi/nvidia.yaml": "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n",
            "/etc/cdi/other.yaml": "kind: amd.com/gpu",
        }
    )
    assert toolkit(sw__cdi_names=names, sw__cdi=contents).cdi == ("/etc/cdi/nvidia.yaml",)


VENV = Site(
    "lab", "lab", "pre", (HOST, PEER), "/mnt/x", "/opt/deepseek/venv/bin/python", None, "bare-metal", True, "none"
)


def runtime(name: str = "dgx-h100", **changes: Answer) -> versions.VersionFacts:
    table = dict(captured(name, **changes).answers)
    if "versions.python" in table:
        was = table["versions.python"]
        source = "/opt/deepseek/venv/bin/python -I -S -c 'import sys;print(*sys.version_info[:3])'"
        table["versions.python"] = Answer(
            "versions.python", source, was.output, was.error, was.exit, missing=was.missing
        )
    return versions.parse(Raw(table))


def test_runtime_of_the_inventory() -> None:
    found = runtime()
    assert found.python == versions.Python("/opt/deepseek/venv/bin/python", "inventory", (3, 12, 9))
    assert found.package_version("vllm") == "0.11.0" and found.package_version("nvidia_nccl_cu12") == "2.27.3"
    assert isinstance(found.package_version("flash_attn"), Missing)
    assert found.torch_cuda == "12.8"
    assert not isinstance(found.packages, Missing) and found.packages["vllm"].requires_python == ">=3.9,<3.14"


def test_runtime_is_asked_as_written() -> None:
    asked = {op.key: op.source for op in versions.ops(HOST, VENV)}
    assert (
        asked["versions.python"] == "/opt/deepseek/venv/bin/python -I -S -c 'import sys;print(*sys.version_info[:3])'"
    )
    assert "/opt/deepseek/venv/lib/python3*/site-packages/vllm-*.dist-info/METADATA" in asked["versions.packages"]
    assert versions.more(HOST, VENV, captured("dgx-h100")) == ()


@pytest.mark.parametrize("said", ["", "3.12.9", "3 12", "three", "3 12 9 1"])
def test_garbled_interpreter(said: str) -> None:
    assert isinstance(runtime(versions__python=text(said, code=0)).python.version, Missing)


def test_interpreter_that_fails_or_is_not_there() -> None:
    failed = runtime(
        versions__python=text("", "error while loading shared libraries: libpython3.12.so", 127)
    ).python.version
    assert isinstance(failed, Missing) and failed.reason is Reason.TOOL_MISSING
    crashed = runtime(versions__python=text("", "Fatal Python error", 1)).python.version
    assert isinstance(crashed, Missing) and crashed.reason is Reason.CANNOT_TELL


def test_the_raylets_environment_where_none_is_configured() -> None:
    exe = {
        "/proc/1/exe": "/usr/lib/systemd/systemd",
        "/proc/77/exe": "/srv/v/lib/python3.11/site-packages/ray/core/src/ray/raylet/raylet",
    }
    raw = captured("vm-virtio", versions__exe=value(exe))
    assert versions.more(HOST, SITE, raw)[0].source.startswith("/srv/v/bin/python3.11 -I -S")
    assert versions.more(HOST, SITE, captured("vm-virtio")) == ()
    found = versions.parse(
        Raw({**raw.answers, "versions.python": Answer("k", "/srv/v/bin/python3.11 -I", "3 11 4\n", exit=0)})
    )
    assert found.python == versions.Python("/srv/v/bin/python3.11", "raylet", (3, 11, 4))


def test_only_the_systems_python() -> None:
    found = versions.parse(captured("vm-virtio"))
    assert found.python == versions.Python("python3", "system", (3, 11, 2))
    assert isinstance(found.packages, Missing) and isinstance(found.torch_cuda, Missing)


def test_toolkits_on_disk() -> None:
    found = versions.parse(captured("vm-virtio"))
    assert {(t.version, t.compiler) for t in found.toolkits} == {("13.0.88", True)}
    assert found.toolkit_link == "/usr/local/cuda-13.0" and found.toolkit_directories == ("/usr/local/cuda-13.0",)
    listed = runtime().toolkits
    assert versions.Toolkit("/usr/local/cuda-12.8", "12.8.1", compiler=False) in listed
    assert runtime().toolkit_link == "/usr/local/cuda-12.8"


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        ("/usr/local/cuda/version.json", '{"cuda": {"version": "12.4.131"}}', "12.4.131"),
        ("/usr/local/cuda-10.2/version.txt", "CUDA Version 10.2.89\n", "10.2.89"),
        ("/usr/local/cuda/version.json", "{", None),
        ("/usr/local/cuda/version.json", '{"cuda": {"version": "none"}}', None),
        ("/usr/local/cuda/version.txt", "", None),
    ],
)
def test_version_files(path: str, content: str, expected: str | None) -> None:
    gone = missing(Reason.TOOL_MISSING)
    found = runtime(versions__toolkits=value({path: content}), versions__nvcc=gone, versions__nvcc_path=gone).toolkits
    assert [t.version for t in found] == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cuda: Optional[str] = '12.8'", "12.8"), ("cuda: _Optional[str] = '13.0'", "13.0"), ('cuda = "12.1"', "12.1"),
        ("cuda: Optional[str] = None", None),
    ],
)  # fmt: skip
def test_torch_cuda(line: str, expected: str | None) -> None:
    content = f"__version__ = '2.8.0'\ndebug = False\n{line}\nhip = None\n"
    assert runtime(versions__torch=value({"/v/torch/version.py": content})).torch_cuda == expected


def test_torch_that_is_not_there_or_garbled() -> None:
    absent = runtime(versions__torch=value({})).torch_cuda
    assert isinstance(absent, Missing) and absent.reason is Reason.TOOL_MISSING
    garbled = runtime(versions__torch=value({"/v/torch/version.py": "cuda = lots"})).torch_cuda
    assert isinstance(garbled, Missing) and garbled.reason is Reason.PARSE_ERROR


def test_clock() -> None:
    assert clock.parse(captured("dgx-h100")).synchronised is True
    assert clock.parse(captured("vm-virtio")).synchronised is False
    silent = clock.parse(captured("dgx-h100", clock__self=value({"time": 1.5, "adjtimex": None})))
    assert silent.time == 1.5 and isinstance(silent.synchronised, Missing)
