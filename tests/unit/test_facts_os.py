"""os-release, firmware and container marks of captured hosts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dstui.facts.case import HostSite, Site
from dstui.facts.os import GROUP, parse, parse_os_release
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


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("dgx-h100", ("ubuntu", "22.04", ("debian",), "Ubuntu 22.04.4 LTS", "5.15.0-125-generic")),
        ("a100-pcie", ("ubuntu", "20.04", ("debian",), "Ubuntu 20.04.6 LTS", "5.4.0-200-generic")),
        ("ib-h800", ("ubuntu", "24.04", ("debian",), "Ubuntu 24.04.2 LTS", "6.8.0-51-generic")),
        ("vm-virtio", ("debian", "12", (), "Debian GNU/Linux 12 (bookworm)", "6.1.0-37-cloud-amd64")),
    ],
)
def test_captured(host: str, expected: tuple[object, ...]) -> None:
    facts = parse(captured(host))
    assert (facts.id, facts.version_id, facts.id_like, facts.pretty_name, facts.kernel) == expected


def test_marks() -> None:
    assert parse(captured("a100-pcie")).reboot_required is True
    assert parse(captured("dgx-h100")).reboot_required is False
    assert parse(captured("dgx-h100")).container is None
    assert parse(captured("vm-virtio")).container == "/.dockerenv"
    dmi = parse(captured("dgx-h100")).dmi
    assert dmi == {"sys_vendor": "NVIDIA", "product_name": "DGXH100"}


def test_second_place_when_etc_is_missing() -> None:
    facts = parse(captured("dgx-h100", os__etc_release=missing(Reason.CANNOT_TELL)))
    assert facts.version_id == "22.04"


def test_no_os_release_at_all() -> None:
    gone = missing(Reason.CANNOT_TELL, "ENOENT")
    facts = parse(captured("dgx-h100", os__etc_release=gone, os__usr_release=gone))
    assert facts.id == facts.version_id == Missing(Reason.CANNOT_TELL, "ENOENT")


def test_empty_os_release_is_not_understood() -> None:
    facts = parse(captured("dgx-h100", os__etc_release=text("")))
    assert isinstance(facts.id, Missing) and facts.id.reason is Reason.PARSE_ERROR


def test_quoting() -> None:
    written = 'ID=\'ubuntu\'\n# ID=other\nNAME="A \\"B\\""\nBROKEN=\'x\nVERSION_ID = 1\n'
    assert parse_os_release(written) == {"ID": "ubuntu", "NAME": 'A "B"'}
