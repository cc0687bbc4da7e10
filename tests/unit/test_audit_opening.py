"""Values that hosts are asked by and values that they are judged by must be the same ones."""

from pathlib import Path

import pytest

from dstui.catalogue import Catalogue, load_catalogue
from dstui.inventory import load_inventory
from dstui.model import InventoryError
from dstui.opening import ParamSource, parse_overrides, refuse_split_values, site_of

INVENTORY = """\
version: 1
cluster: {name: ds-test, environment: lab}
ssh: {user: ops}
hosts:
  - {name: gpu-01, roles: [head], data_ip: 198.51.100.11}
  - {name: gpu-02, roles: [worker], data_ip: 198.51.100.12}
"""


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


def opened(catalogue: Catalogue, tmp_path: Path, more: str, *flags: str) -> tuple[object, object]:
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY + more)
    inventory = load_inventory(path)
    overrides = parse_overrides(catalogue, flags)
    site, params = site_of(catalogue, inventory, overrides), ParamSource(catalogue, inventory, overrides)
    refuse_split_values(catalogue, site, params)
    return site.head_ports, params("net.ports", None).value("ports_head")


@pytest.mark.parametrize(
    "more",
    [
        "",
        "storage: {shared_path: /data}\n",
        "runtime: {user: deepseek, python: /opt/x/bin/python}\n",
        "network: {dns_names: [gpu-01]}\n",
        "runtime: {mode: docker}\n",
    ],
)
def test_the_inventorys_own_keys_are_fine(catalogue: Catalogue, tmp_path: Path, more: str) -> None:
    opened(catalogue, tmp_path, more)


@pytest.mark.parametrize(
    ("more", "flags", "key"),
    [
        ("", ("stor.shared-dir.shared_path=/data",), "storage.shared_path"),
        ("thresholds: {stor.free-space.shared_path: /data}\n", (), "storage.shared_path"),
        ("thresholds: {sw.python.runtime_python: /usr/bin/python3}\n", (), "runtime.python"),
        ("", ("net.dns.dns_names=[nobody.asks.test]",), "network.dns_names"),
    ],
)
def test_a_threshold_that_no_host_is_asked_by_is_refused(
    catalogue: Catalogue, tmp_path: Path, more: str, flags: tuple[str, ...], key: str
) -> None:
    with pytest.raises(InventoryError, match=f"set {key} in the inventory instead"):
        opened(catalogue, tmp_path, more, *flags)


@pytest.mark.parametrize(
    ("more", "flags", "ports"),
    [
        ("", (), (6379, 8265, 10001)),
        ("ray: {gcs_port: 6380}\n", (), (6380, 8265, 10001)),
        ("ray: {gcs_port: 6380}\n", ("net.ports.ports_head=[6400]",), (6400,)),
    ],
)
def test_the_heads_ports_are_those_that_ray_is_told(
    catalogue: Catalogue, tmp_path: Path, more: str, flags: tuple[str, ...], ports: tuple[int, ...]
) -> None:
    assert opened(catalogue, tmp_path, more, *flags) == (ports, ports)
