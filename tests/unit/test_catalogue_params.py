"""Parameters: the names, types and defaults that judges read, and that judges read nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import dstui.judge
from dstui.catalogue import Catalogue, ParamType, Shape, load_catalogue
from dstui.facts.case import Params

HOST_SECTIONS = ("hw", "sw", "net", "stor", "hard")
SERVICE_SECTIONS = ("model", "ray", "vllm", "api", "lb", "func", "perf")

DEFAULTS: dict[str, dict[str, tuple[str, object]]] = {
    "hw.gpu-model": {
        "gpu_min_count": ("count", 1),
        "gpus_per_host": ("count?", None),
        "gpu_models": (
            "texts",
            ("A100", "A800", "H800", "H100", "H200", "H20", "GH200", "B200", "B300", "GB200", "GB300"),
        ),
        "mig_allowed": ("flag", False),
        "gpu_mem_min_gb": ("number?", None),
    },
    "hw.cpu-cores": {"cpu_cores_min": ("count", 32), "cpu_count": ("text", "auto")},
    "hw.memory": {"mem_min_gb": ("number", 256), "mem_tolerance_pct": ("number", 5)},
    "hw.ssd-capacity": {
        "disk_min_tb": ("number", 2),
        "disk_tolerance_pct": ("number", 5),
        "storage_is_ssd": ("text", "auto"),
    },
    "hw.nic-speed": {
        "nic_min_gbps": ("number", 25),
        "nic_declared_gbps": ("number?", None),
        "measure": ("flag", False),
        "measure_min_ratio": ("number", 0.8),
        "measure_streams": ("count", 8),
        "measure_seconds": ("number", 5),
    },
    "sw.os-version": {
        "os_id": ("text", "ubuntu"),
        "os_version_min": ("text", "20.04"),
        "os_alternatives": ("table", {}),
    },
    "sw.nvidia-driver": {"driver_min": ("text", "535.104.05"), "driver_expected": ("text?", None)},
    "sw.cuda": {"cuda_min": ("text", "12.1"), "cuda_accept": ("texts", ("toolkit", "runtime"))},
    "sw.python": {"python_min": ("text", "3.10"), "runtime_python": ("text?", None)},
    "sw.docker": {"docker_min": ("text", "24.0.0"), "docker_required": ("flag", True)},
    "sw.container-toolkit": {
        "ctk_min": ("text", "1.13.0"),
        "ctk_secure_min": ("text", "1.17.8"),
        "ctk_required": ("flag", True),
        "gpu_container_test": ("flag", False),
    },
    "net.peer-ping": {
        "ping_count": ("count", 5),
        "loss_max_pct": ("number", 0),
        "rtt_warn_ms": ("number", 1.0),
        "icmp_required": ("flag", False),
        "mtu_probe": ("text", "auto"),
    },
    "net.outbound": {"offline": ("flag", False), "internal_mirrors": ("table", {})},
    "net.static-ip": {"addresses": ("texts", ("data_ip", "mgmt_ip")), "dhcp_reserved": ("flag", False)},
    "net.ports": {
        "ports_head": ("counts", (6379, 8265, 10001)),
        "port_range": ("text", "10001-19999"),
        "range_samples": ("count", 12),
        "ports_extra": ("counts", (52365,)),
        "connect_timeout_s": ("number", 2),
    },
    "net.dns": {
        "dns_names": ("texts", ()),
        "dns_external": ("text?", "pypi.org"),
        "dns_slow_ms": ("number", 200),
        "dns_hosts_file_ok": ("flag", True),
    },
    "stor.shared-dir": {
        "shared_path": ("text", "/mnt/deepseek-shared"),
        "runtime_user": ("text?", None),
        "runtime_uid_equal": ("flag", True),
    },
    "stor.shared-service": {
        "shared_source": ("text?", None),
        "nfs_hard": ("flag", True),
        "nfs_vers_min": ("number", 4.1),
        "persistent_mount": ("flag", True),
    },
    "stor.rw-all-nodes": {"visible_within_s": ("number", 5), "visible_max_s": ("number", 40)},
    "stor.free-space": {
        "shared_free_min_gb": ("number", 100),
        "model_size_gb": ("number?", None),
        "inode_min": ("count", 10000),
        "skew_pct": ("number", 1),
    },
    "hard.ssh-no-root": {"allow_key_only_root": ("flag", False), "root_login_attempt": ("flag", True)},
    "hard.ssh-keys": {"password_auth_allowed": ("flag", False), "min_rsa_bits": ("count", 3072)},
    "hard.firewall": {
        "sensitive_ports": (
            "counts",
            (6379, 8265, 10001, 52365, 8000, 9090, 9093, 9100, 9400, 3000, 2049, 2375),
        ),
        "cluster_cidrs": ("texts", ()),
        "vantages": ("texts", ("controller",)),
        "host_firewall_required": ("flag", True),
    },
    "hard.security-group": {"cloud_provider": ("text", "auto")},
    "hard.monitoring-logging": {
        "agents_metrics": ("texts", ("node_exporter:9100",)),
        "agents_gpu": ("texts", ("dcgm-exporter:9400", "nvidia_gpu_exporter:9835")),
        "journald_persistent": ("flag", True),
    },
}

SOURCES = {
    "sw.nvidia-driver.driver_expected": "expect.driver",
    "hw.gpu-model.gpu_models": "expect.gpu_models",
    "hw.gpu-model.gpus_per_host": "host.gpus_per_host",
    "hw.nic-speed.nic_declared_gbps": "expect.nic_declared_gbps",
    "sw.os-version.os_alternatives": "expect.os_alternatives",
    "sw.docker.docker_required": "runtime.docker_required",
    "net.static-ip.dhcp_reserved": "network.dhcp_reserved",
    "stor.shared-dir.shared_path": "storage.shared_path",
    "stor.shared-service.shared_fs_types": "storage.fs_types",
    "stor.shared-service.shared_source": "storage.source",
    "stor.free-space.model_size_gb": "model.size_gb",
    "hard.firewall.cluster_cidrs": "network.cluster_cidrs",
    "hard.security-group.cloud_provider": "cloud.provider",
}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


def test_host_checks_have_the_parameters_of_their_record(catalogue: Catalogue) -> None:
    assert set(DEFAULTS) == {c.id for c in catalogue.checks if c.section in HOST_SECTIONS}
    for check_id, params in DEFAULTS.items():
        check = catalogue.check(check_id)
        assert {name: (str(check.param(name).type), check.param(name).default) for name in params} == params


def test_inventory_paths(catalogue: Catalogue) -> None:
    assert {name: catalogue.param(name)[1].source for name in SOURCES} == SOURCES


def test_an_unchanged_parameter_says_document(catalogue: Catalogue) -> None:
    for check in catalogue.checks:
        for param in check.params:
            threshold = param.threshold()
            assert threshold.origin == "document"
            assert not threshold.differs


def test_a_name_that_several_checks_share_has_one_type(catalogue: Catalogue) -> None:
    by_name: dict[str, set[str]] = {}
    for check in catalogue.checks:
        for param in check.params:
            if check.section in HOST_SECTIONS:
                by_name.setdefault(param.name, set()).add(str(param.type))
    assert {name: types for name, types in by_name.items() if len(types) > 1} == {}


READABLE_AS = {
    "number": {Shape.NUMBER, Shape.COUNT},
    "count": {Shape.COUNT},
    "flag": {Shape.FLAG},
    "text": {Shape.TEXT},
    "optional_number": {Shape.NUMBER, Shape.COUNT},
    "optional_text": {Shape.TEXT},
    "texts": {Shape.TEXTS},
    "counts": {Shape.COUNTS},
    "table": {Shape.TABLE},
    "value": set(Shape),
    "origin": set(Shape),
}


def _reads() -> Iterator[tuple[str, str, str]]:
    """(module, accessor, parameter) of every `params.accessor("parameter")` in the judges."""
    for module in sorted(Path(dstui.judge.__path__[0]).glob("*.py")):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in READABLE_AS
                and ast.unparse(node.func.value).endswith("params")
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                yield module.stem, node.func.attr, str(node.args[0].value)


def test_judges_read_parameters_that_exist_with_the_type_they_have(catalogue: Catalogue) -> None:
    for module, accessor, name in _reads():
        judged = (*HOST_SECTIONS, *SERVICE_SECTIONS)
        found = [p.type for c in catalogue.checks if c.section in judged for p in c.params if p.name == name]
        assert found, f"judge {module} reads {name}, which no check has"
        for type_ in found:
            assert type_.shape in READABLE_AS[accessor], f"judge {module} reads {name} as {accessor}, it is {type_}"
            may_be_null = accessor.startswith("optional_") or accessor in ("value", "origin")
            assert may_be_null or not type_.optional, f"judge {module} does not expect {name} to be empty"


def test_params_reads_every_default(catalogue: Catalogue) -> None:
    for check in catalogue.checks:
        params = Params([param.threshold() for param in check.params])
        for param in check.params:
            read = getattr(params, str(param.type.shape), params.value)
            if param.value is not None:
                assert read(param.name) == param.value


@pytest.mark.parametrize(
    ("written", "value", "accepted"),
    [
        ("number", 512, 512),
        ("number", 0.5, 0.5),
        ("count", 0, 0),
        ("text", "12.1", "12.1"),
        ("text?", None, None),
        ("flag", False, False),
        ("texts", ["a", "b"], ("a", "b")),
        ("counts", [1, 2], (1, 2)),
        ("numbers", [0.5, 1], (0.5, 1)),
        ("table", {"a": 1}, {"a": 1}),
        ("tables", [{"a": 1}], ({"a": 1},)),
    ],
)
def test_accepts(written: str, value: object, accepted: object) -> None:
    assert ParamType.parse(written).accept(value) == accepted


@pytest.mark.parametrize(
    ("written", "value", "message"),
    [
        ("number", "512", "must be a number, not '512'"),
        ("number", True, "must be a number, not True"),
        ("number", float("nan"), "must be a number, not nan"),
        ("number", float("inf"), "must be a number, not inf"),
        ("count", 1.5, "must be a whole number that is not negative, not 1.5"),
        ("count", -1, "must be a whole number that is not negative, not -1"),
        ("count", True, "must be a whole number that is not negative, not True"),
        ("text", 12.1, "put it in quotes"),
        ("text", None, "must be text, not empty"),
        ("flag", 1, "must be true or false, not 1"),
        ("flag", "yes", "must be true or false, not 'yes'"),
        ("texts", "a", "must be a list of texts, not 'a'"),
        ("texts", ["a", 1], "must be a list of texts"),
        ("counts", [1, "2"], "must be a list of whole numbers"),
        ("counts", [True], "must be a list of whole numbers"),
        ("table", [], "must be a table"),
        ("table", {1: "a"}, "must be a table"),
        ("tables", [1], "must be a list of tables"),
    ],
)
def test_refuses(written: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(".", r"\.")):
        ParamType.parse(written).accept(value)


def test_choices_take_true_for_the_word_true() -> None:
    is_ssd = ParamType.parse("text", ("auto", "true", "false"))
    assert is_ssd.accept(True) == "true"
    with pytest.raises(ValueError, match="must be one of auto, true, false, not 'maybe'"):
        is_ssd.accept("maybe")
