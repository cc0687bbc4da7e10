"""What the rest of dstui asks of an inventory: the site, SSH settings, values, thresholds, and what it costs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dstui.catalogue import load_catalogue
from dstui.gather.ssh import JumpHop
from dstui.inventory import Inventory, load_inventory
from dstui.inventory.loader import parse_inventory
from dstui.inventory.schema import Document
from dstui.inventory.schema_walk import has_key, model_at

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "inventory.example.yaml"


def inventory(text: str) -> Inventory:
    base = "version: 1\ncluster: {name: lab}\nssh: {user: ops}\n"
    return parse_inventory(base + textwrap.dedent(text), Path("inventory.yaml"))


HEAD = "hosts:\n  - {name: gpu-01, roles: [head], data_ip: 10.0.0.1}\n"


@pytest.fixture(scope="module")
def example() -> Inventory:
    return load_inventory(EXAMPLE)


def test_site_of_the_example(example: Inventory) -> None:
    site = example.site()
    assert (site.name, site.environment, site.phase, site.become) == ("ds-prod", "production", "auto", "sudo-n")
    assert site.shared_path == "/mnt/deepseek-shared"
    assert (site.runtime_python, site.runtime_user) == ("/opt/deepseek/venv/bin/python", "deepseek")
    assert site.ray_ports["worker_max"] == 19999
    assert site.head_ports == (6379, 8265, 10001)
    assert site.dns_names == ("api.deepseek.example.com",)
    assert site.outbound == {
        "python": ("https://mirrors.aliyun.com/pypi/simple/",),
        "model": ("https://hf-mirror.com",),
    }
    gpu_04 = site.host("gpu-04")
    assert gpu_04.roles == {"ray", "worker"}
    assert (gpu_04.address, gpu_04.gpu, gpu_04.gpus_per_host, gpu_04.group) == ("192.0.2.14", True, 8, "gpu")
    assert not site.host("lb-01").gpu


def test_site_of_a_minimal_inventory_has_the_defaults() -> None:
    site = inventory(HEAD).site()
    assert (site.environment, site.phase, site.become) == ("lab", "auto", "none")
    assert site.shared_path == "/mnt/deepseek-shared"
    assert site.runtime_python == "/opt/deepseek/venv/bin/python"
    assert site.docker_required
    assert site.dns_names == ("gpu-01",)
    assert site.dns_external == "pypi.org"
    assert dict(site.outbound) == {}
    assert site.log_dirs == ()
    assert site.cloud_provider == "auto"
    assert (site.hosts[0].address, site.hosts[0].port, site.hosts[0].user) == ("10.0.0.1", 22, "ops")
    assert site.hosts[0].gpu
    assert site.hosts[0].gpus_per_host is None


def test_phase_that_was_found_out_wins(example: Inventory) -> None:
    assert example.site(phase="live").phase == "live"


def test_containers_have_no_default_python() -> None:
    assert inventory(HEAD + "runtime: {mode: docker}\n").site().runtime_python is None


@pytest.mark.parametrize(
    ("host", "group", "expected"),
    [
        ("ssh: {host: gpu-01.example.com}, mgmt_ip: 10.9.0.1", "", "gpu-01.example.com"),
        ("mgmt_ip: 10.9.0.1", "", "10.9.0.1"),
        ("owner: a", "", "10.0.0.1"),
    ],
)
def test_address_is_ssh_host_then_mgmt_ip_then_data_ip(host: str, group: str, expected: str) -> None:
    found = inventory(f"hosts:\n  - {{name: a, roles: [head], data_ip: 10.0.0.1, {host}}}\n")
    assert found.site().hosts[0].address == expected
    assert found.ssh_for("a").address == expected


@pytest.mark.parametrize(
    ("host", "group", "gpu", "count"),
    [
        ("roles: [head]", "{}", True, None),
        ("roles: [head], gpu: false", "{gpu: true}", False, None),
        ("roles: [head]", "{gpu: false}", False, None),
        ("roles: [head], gpus_per_host: 0", "{}", False, 0),
        ("roles: [head]", "{gpus_per_host: 8}", True, 8),
        ("roles: [head], gpus_per_host: 4", "{gpus_per_host: 8}", True, 4),
        ("roles: [lb]", "{}", False, None),
        ("roles: [lb], gpu: true", "{}", True, None),
    ],
)
def test_gpu_is_as_written_else_by_count_else_by_role(host: str, group: str, gpu: bool, count: int | None) -> None:
    text = f"groups: {{g: {group}}}\nhosts:\n  - {{name: a, group: g, data_ip: 10.0.0.1, {host}}}\n"
    found = inventory(text).site().hosts[0]
    assert (found.gpu, found.gpus_per_host) == (gpu, count)


@pytest.mark.parametrize(
    ("own", "group", "roles"),
    [
        ("", "{}", {"worker"}),
        ("", "{roles: [ray]}", {"ray", "worker"}),
        ("roles: [lb], ", "{}", {"lb"}),
        ("roles: [lb], ", "{roles: [ray]}", {"lb", "ray"}),
        ("", "{roles: [storage]}", {"storage"}),
    ],
)
def test_roles_are_the_hosts_and_the_groups(own: str, group: str, roles: set[str]) -> None:
    text = f"groups: {{g: {group}}}\n{HEAD}  - {{name: a, group: g, {own}data_ip: 10.0.0.2}}\n"
    assert inventory(text).site().host("a").roles == roles


def test_dns_names_default_to_hosts_and_the_name_of_the_api() -> None:
    assert inventory(HEAD + "endpoints: {api: 'https://api.x.org/v1'}\n").site().dns_names == ("gpu-01", "api.x.org")
    assert inventory(HEAD + "endpoints: {api: 'https://[::1]:8'}\n").site().dns_names == ("gpu-01",)
    assert inventory(HEAD + "network: {dns_names: []}\n").site().dns_names == ()


def test_mirrors_of_a_kind_are_joined() -> None:
    text = (
        HEAD
        + "network: {mirrors: {pip: 'https://a'}, internal_mirrors: {pip: ['https://b', 'https://a'], x: 'http://c'}}\n"
    )
    assert inventory(text).site().outbound == {"python": ("https://a", "https://b"), "x": ("http://c",)}


@pytest.mark.parametrize(
    ("ray", "ports"),
    [
        ("{gcs_port: 6400, dashboard_url: 'http://10.0.0.1:8300'}", (6400, 8300, 10001)),
        ("{dashboard_url: 'http://localhost:8300'}", (6379, 8300, 10001)),
        ("{dashboard_url: 'https://ray.example.com:443'}", (6379, 8265, 10001)),
        ("{dashboard_url: 'http://gpu-01'}", (6379, 8265, 10001)),
    ],
)
def test_head_ports_come_from_what_is_said_of_the_head(ray: str, ports: tuple[int, ...]) -> None:
    assert inventory(HEAD + f"ray: {ray}\n").site().head_ports == ports


def test_ssh_settings_of_the_example(example: Inventory) -> None:
    found = example.ssh_for("gpu-02")
    key = Path("/home/ops/.ssh/dstui_ed25519")
    assert (found.address, found.port, found.user, found.identity) == ("192.0.2.12", 22, "dstui", key)
    assert found.known_hosts == Path("/home/ops/.ssh/known_hosts_ds")
    assert found.jump == (JumpHop("bastion.example.com", 22, "ops", key),)
    assert (found.connect_timeout, found.command_timeout, found.host_timeout) == (8.0, 10.0, 60.0)
    assert (found.become, found.agent) == ("sudo-n", True)


def test_a_host_can_differ_in_everything() -> None:
    found = inventory("""\
        secrets: {key: "file:/home/ops/.ssh/gone"}
        jump: [{host: bastion}]
        hosts:
          - name: gpu-01
            roles: [head]
            data_ip: 10.0.0.1
            ssh: {port: 2222, user: root, identity_ref: secrets.key, known_hosts: ~/kh, jump: []}
          - {name: gpu-02, data_ip: 10.0.0.2}
          - {name: here, data_ip: 10.0.0.3, roles: [monitoring], local: true}
        """)
    own = found.ssh_for("gpu-01")
    assert (own.port, own.user, own.identity, own.jump) == (2222, "root", Path("/home/ops/.ssh/gone"), ())
    assert own.known_hosts == Path.home() / "kh"
    common = found.ssh_for("gpu-02")
    assert common.jump == (JumpHop("bastion", 22, "ops", None),)
    assert (common.identity, common.known_hosts) == (None, Path.home() / ".ssh/known_hosts")
    assert found.site().host("here").local
    with pytest.raises(KeyError):
        found.ssh_for("gpu-09")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("expect.driver", "580.95.05"),
        ("expect.nic_declared_gbps", None),
        ("expect.gpu_models", ("A100", "A800", "H800", "H100", "H200", "H20", "B200")),
        ("network.dhcp_reserved", False),
        ("network.dns_external", None),
        ("ray.token_ref", "secrets.ray_token"),
        ("model.size_gb", 135.0),
        ("monitoring.alerts_required.instance_down", "InstanceDown"),
        ("monitoring.alerts_required.none", None),
        ("docs.architecture", {"ref": "./docs/architecture.md", "owner": "zhang.wei"}),
        ("docs.raci", None),
        ("storage.is_ssd", None),
        ("auth.keys", None),
        ("", None),
        ("ray.ports.metrics_export", 10014),
    ],
)
def test_values_that_the_operator_set(example: Inventory, key: str, expected: object) -> None:
    assert example.value(key) == expected


def test_a_list_of_blocks_is_plain_values(example: Inventory) -> None:
    contracts = example.value("support.vendor_contracts")
    assert contracts == ({"vendor": "server-oem", "id": "C-1001", "valid_to": "2028-01-31"},)


def test_defaults_are_not_values() -> None:
    found = inventory(HEAD)
    assert found.value("network.dhcp_reserved") is None
    assert found.value("network") is None
    assert found.value("cloud.provider") is None


def test_is_ssd_is_text_for_its_parameter() -> None:
    assert inventory(HEAD + "storage: {is_ssd: true}\n").value("storage.is_ssd") == "true"
    assert inventory(HEAD + "storage: {is_ssd: auto}\n").value("storage.is_ssd") == "auto"


def test_values_of_a_host_come_from_it_or_its_group(example: Inventory) -> None:
    assert example.value("host.gpus_per_host", "gpu-01") == 8
    assert example.value("host.gpus_per_host", "lb-01") is None
    assert example.value("host.gpus_per_host") is None
    assert example.value("host.gpus_per_host", "gone") is None


@pytest.mark.parametrize("key", ["expect.drivers", "nothing", "host.gpus", "expect.driver.x", "host.ssh.port"])
def test_a_key_that_the_schema_does_not_have(example: Inventory, key: str) -> None:
    with pytest.raises(KeyError):
        example.value(key, "gpu-01")


def test_every_inventory_key_of_the_catalogue_exists(example: Inventory) -> None:
    bindings = {param.source for check in load_catalogue().checks for param in check.params if param.source}
    assert bindings
    for binding in sorted(bindings):
        example.value(binding, "gpu-01")


@pytest.mark.parametrize(
    ("key", "host", "expected"),
    [
        ("hw.memory.mem_min_gb", "gpu-01", (300, "host gpu-01")),
        ("hw.memory.mem_min_gb", "gpu-02", (200, "group g")),
        ("hw.memory.mem_min_gb", "lb-01", (100, "inventory")),
        ("hw.memory.mem_min_gb", None, (100, "inventory")),
        ("hw.memory.mem_min_gb", "gone", (100, "inventory")),
        ("hw.memory.other", "gpu-01", None),
    ],
)
def test_threshold_of_a_host_before_group_before_all(
    key: str, host: str | None, expected: tuple[object, str] | None
) -> None:
    found = inventory("""\
        thresholds: {hw.memory.mem_min_gb: 100}
        groups: {g: {thresholds: {hw.memory.mem_min_gb: 200}}}
        hosts:
          - {name: gpu-01, group: g, roles: [head], data_ip: 10.0.0.1, thresholds: {hw.memory.mem_min_gb: 300}}
          - {name: gpu-02, group: g, data_ip: 10.0.0.2}
          - {name: lb-01, roles: [lb], data_ip: 10.0.0.3}
        """)
    check_id, _, param = key.rpartition(".")
    assert found.thresholds(check_id, param, host) == expected


def test_thresholds_have_their_places(example: Inventory) -> None:
    lines = EXAMPLE.read_text("utf-8").splitlines()
    assert [(place.key, place.origin) for place in example.threshold_positions] == [
        ("hw.cpu-cores.cpu_cores_min", "inventory"),
        ("perf.single-user-latency.metric", "inventory"),
        ("hw.memory.mem_min_gb", "group gpu"),
        ("hw.ssd-capacity.disk_min_tb", "host gpu-04"),
    ]
    for place in example.threshold_positions:
        assert lines[place.line - 1][place.column - 1 :].startswith(place.key)


def test_where_a_value_stands(example: Inventory) -> None:
    line, column = example.where("sign", "second_person", 1).rsplit(":", 2)[1:]
    assert EXAMPLE.read_text("utf-8").splitlines()[int(line) - 1][int(column) - 1 :].startswith("hard.firewall")
    assert example.where("storage", "is_ssd") == example.where("storage")


def test_secrets_of_an_inventory_resolve_once(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-long-token\n")
    token.chmod(0o600)
    found = inventory(f"secrets: {{ray_token: 'file:{token}'}}\n{HEAD}ray: {{token_ref: secrets.ray_token}}\n")
    assert found.document.ray.token_ref is not None
    assert found.secrets.resolve(found.document.ray.token_ref).reveal() == "a-long-token"
    assert found.secrets.resolved() == (("secrets.ray_token", "a-long-token"),)
    assert found.unresolvable_secrets() == ()


def test_schema_walk_knows_tables_lists_and_blocks() -> None:
    assert has_key(Document, ("secrets", "anything"))
    assert has_key(Document, ("hosts", 3, "ssh", "jump", 0, "host"))
    assert not has_key(Document, ("hosts", 3, "sssh"))
    found = model_at(Document, ("hosts", 0, "ssh"))
    assert found is not None
    assert found.__name__ == "HostSsh"
    assert model_at(Document, ("thresholds",)) is None


def test_secrets_and_redaction_do_not_import_pydantic() -> None:
    program = "import sys, dstui.inventory.secrets, dstui.redact; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, timeout=30).returncode == 0
