"""Interfaces, bonds, RDMA ports and routes, resolved to what carries the traffic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dstui.facts.case import HostSite, Site
from dstui.facts.link_paths import LinkPath, resolve
from dstui.facts.links import GROUP, MOST_PEERS, LinkMeasurement, LinkMeasurements, NoRoute, Route, more, ops, parse
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


PEER_IP = "198.51.100.12"


def path(raw: Raw, dev: str) -> LinkPath:
    found = resolve(parse(raw), dev)
    assert isinstance(found, LinkPath), found
    return found


def interfaces(drivers: dict[str, str], lowers: tuple[str, ...] = (), **attributes: str) -> Raw:
    """`eth0__speed="25000"` is /sys/class/net/eth0/speed; `__` is `/`, `drivers` names the physical ones."""
    net, device = "/sys/class/net/", "../../../0000:01:00.0"
    files = {net + name.replace("__", "/"): content + "\n" for name, content in attributes.items()}
    devices = {f"{net}{name}/device": device for name in drivers}
    devices |= {f"{net}{name}/device/driver": f"../drivers/{driver}" for name, driver in drivers.items()}
    return Raw(
        {
            "links.net": value(files),
            "links.device": value(devices),
            "links.lower": value({net + lower: [41471, 0, 0, 0, 1.0] for lower in lowers}),
        }
    )


def up(*names: str) -> dict[str, str]:
    return {f"{name}__{file}": said for name in names for file, said in (("operstate", "up"), ("carrier", "1"))}


def test_bond_of_two() -> None:
    raw = captured("dgx-h100")
    assert parse(raw).routes == {PEER_IP: Route("bond0", "", "198.51.100.11")}
    found = path(raw, "bond0")
    assert found.leaves == ("ens6f0np0", "ens6f1np1")
    assert (found.mbps, found.up, found.down, found.mtu, found.slower_than_able) == (200000, True, (), 9000, ())
    assert found.rdma[0].active and found.rdma[0].gbps == 100.0


def test_negotiated_below_the_maximum() -> None:
    assert path(captured("a100-pcie"), "ens3f0").slower_than_able == ("ens3f0 10000 of 25000 Mb/s",)


def test_infiniband_by_its_port() -> None:
    found = path(captured("ib-h800"), "ib0")
    assert (found.mbps, found.up) == (400000, True)
    down = captured("ib-h800").answers["links.rdma"].value
    assert isinstance(down, dict)
    files = {name: "1: DOWN" if name.endswith("/state") else said for name, said in down.items()}
    assert path(captured("ib-h800", links__rdma=value(files)), "ib0").up is False


def test_virtio_tells_no_speed() -> None:
    found = path(captured("vm-virtio"), "eth0")
    assert isinstance(found.mbps, Missing) and found.up is True


@pytest.mark.parametrize("speed", ["-1", "4294967295", "0", "65535", "", "fast", None])
def test_speeds_that_are_none(speed: str | None) -> None:
    """None stands for EINVAL: the file is not in the answer."""
    files = {} if speed is None else {"eth0__speed": speed}
    assert isinstance(path(interfaces({"eth0": "mlx5_core"}, **up("eth0"), **files), "eth0").mbps, Missing)


@pytest.mark.parametrize("driver", ["virtio_net", "ena", "gve", "vmxnet3", "hv_netvsc"])
def test_speeds_that_are_made_up(driver: str) -> None:
    assert isinstance(path(interfaces({"eth0": driver}, eth0__speed="100000", **up("eth0")), "eth0").mbps, Missing)


@pytest.mark.parametrize("name", ["veth1", "br0", "tun0"])
def test_virtual_interfaces_say_10000(name: str) -> None:
    raw = interfaces({}, **{f"{name}__speed": "10000"}, **up(name))
    assert isinstance(path(raw, name).mbps, Missing)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("802.3ad 4", 50000), ("balance-xor 2", 50000), ("balance-alb 6", 50000), ("active-backup 1", 25000),
        ("broadcast 3", 25000),
    ],
)  # fmt: skip
def test_bond_modes(mode: str, expected: int) -> None:
    raw = interfaces(
        {"a": "mlx5_core", "b": "mlx5_core"}, bond0__bonding__slaves="a b", bond0__bonding__mode=mode,
        bond0__bonding__active_slave="a", a__speed="25000", b__speed="25000", **up("bond0", "a", "b"),
    )  # fmt: skip
    assert path(raw, "bond0").mbps == expected


def test_a_member_that_is_down_does_not_count() -> None:
    raw = interfaces(
        {"a": "mlx5_core", "b": "mlx5_core"}, a__speed="25000", b__operstate="down", **up("bond0", "a"),
        bond0__bonding__slaves="a b", bond0__bonding__mode="802.3ad 4",
    )  # fmt: skip
    found = path(raw, "bond0")
    assert (found.mbps, found.down, found.up) == (25000, ("b",), True)


def test_vlan_on_bond_and_bridge_with_a_tap() -> None:
    raw = interfaces(
        {"a": "mlx5_core"}, ("vlan7/lower_a", "br0/lower_vlan7", "br0/lower_tap0"), a__speed="25000",
        tap0__speed="10000", **up("a", "vlan7", "br0", "tap0"),
    )  # fmt: skip
    assert path(raw, "br0").leaves == ("a",)
    assert path(raw, "br0").mbps == 25000


def test_links_in_a_circle_end() -> None:
    raw = interfaces({}, ("a/lower_b", "b/lower_a"), **up("a", "b"))
    assert isinstance(path(raw, "a").mbps, Missing)


def test_unknown_interface_and_unreadable_sysfs() -> None:
    assert isinstance(resolve(parse(captured("dgx-h100")), "gone0"), Missing)
    assert isinstance(resolve(parse(captured("dgx-h100", links__net=missing(Reason.PERMISSION))), "bond0"), Missing)
    assert isinstance(parse(captured("dgx-h100", links__net=value({}))).interfaces, Missing)


@pytest.mark.parametrize(
    ("state", "carrier", "expected"),
    [
        ("up", "1", True),
        ("unknown", "1", True),
        ("unknown", "0", False),
        ("down", "", False),
        ("lowerlayerdown", "0", False),
        ("up", "0", False),
    ],
)
def test_up(state: str, carrier: str, expected: bool) -> None:
    raw = interfaces({"eth0": "mlx5_core"}, eth0__operstate=state, eth0__carrier=carrier, eth0__speed="25000")
    assert path(raw, "eth0").up is expected


def test_up_is_unknown_where_nothing_tells() -> None:
    assert isinstance(path(interfaces({"eth0": "mlx5_core"}, eth0__speed="25000"), "eth0").up, Missing)


def routed(*, answer: Answer, plain: Answer | None = None, table: Answer | None = None) -> object:
    found = captured("dgx-h100").answers
    changed = {**found, f"links.route.{PEER_IP}": answer, "links.table": table or missing(Reason.CANNOT_TELL)}
    if plain is not None:
        changed[f"links.plain.{PEER_IP}"] = plain
    return parse(Raw(changed)).routes[PEER_IP]


def test_no_route() -> None:
    assert routed(answer=text("", "RTNETLINK answers: Network is unreachable\n", 2)) == NoRoute(
        "RTNETLINK answers: Network is unreachable"
    )


def test_plain_text_where_ip_knows_no_json() -> None:
    plain = text(f"{PEER_IP} via 198.51.100.1 dev ens3 src 198.51.100.11 uid 0 \n    cache \n", code=0)
    assert routed(answer=text("", 'Option "-j" is unknown', 255), plain=plain) == Route(
        "ens3", "198.51.100.1", "198.51.100.11"
    )


def test_kernel_table_where_there_is_no_ip() -> None:
    rows = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eno1\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        "bond0\t006433C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert routed(answer=missing(Reason.TOOL_MISSING), table=text(rows)) == Route("bond0", "", "")
    only_default = text("\n".join(rows.splitlines()[:2]))
    assert routed(answer=missing(Reason.TOOL_MISSING), table=only_default) == Route("eno1", "192.0.2.1", "")


@pytest.mark.parametrize("said", ["", "[]", "[{}]", "null", "[1]", '[{"dev": 7}]'])
def test_garbled_route(said: str) -> None:
    assert isinstance(routed(answer=text(said, code=0)), Missing)


def test_second_round() -> None:
    keys = [op.key for op in more(HOST, SITE, captured("dgx-h100"))]
    assert keys == ["links.ethtool.eno1", "links.ethtool.ens6f0np0", "links.ethtool.ens6f1np1"]
    silent = Raw({**captured("dgx-h100").answers, f"links.route.{PEER_IP}": missing(Reason.TIMEOUT)})
    assert more(HOST, SITE, silent)[0].source == f"ip route get {PEER_IP}"


def test_peers_are_bounded_and_only_ray_hosts() -> None:
    many = tuple(
        HostSite(f"w-{i}", frozenset({"worker"}), f"203.0.113.{i}", None, "x", 22, "u", True, None) for i in range(200)
    )
    lb = HostSite("lb", frozenset({"lb"}), "192.0.2.77", None, "x", 22, "u", False, None)
    site = Site("lab", "lab", "pre", (HOST, *many, lb), "/mnt/x", None, None, "bare-metal", True, "none")
    routes = [op.key for op in ops(HOST, site) if op.key.startswith("links.route.")]
    assert len(routes) == MOST_PEERS and routes[0] == "links.route.203.0.113.0"
    assert ops(lb, site) == ()


def test_measurements() -> None:
    one = LinkMeasurement("a", "b", 23.5, 8, 5.0)
    assert LinkMeasurements((one,), {}).between("a", "b") == one
    assert LinkMeasurements((one,), {}).between("b", "a") is None
