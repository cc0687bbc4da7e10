"""sw.*: a runtime that could not be read, leftovers of another Python, another machine's docker daemon."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dstui.facts import gpu, sw, versions
from dstui.facts.case import FleetCase, HostCase, HostFacts, HostSite, Params, Site
from dstui.facts.raw import Answer, Missing, Raw
from dstui.judge.sw_cuda import cuda
from dstui.judge.sw_docker import docker
from dstui.judge.sw_driver import nvidia_driver
from dstui.judge.sw_python import python
from dstui.model import Reason, Ruling, Threshold, Verdict

HOSTS = Path(__file__).parent.parent / "data" / "hosts"
GROUPS = (gpu.GROUP, sw.GROUP, versions.GROUP)
NOW = 1_762_300_800.0
DEFAULTS: dict[str, object] = {
    "cuda_min": "12.1", "cuda_accept": ["toolkit", "runtime"], "python_min": "3.10", "docker_min": "24.0.0",
    "docker_required": True, "driver_min": "535.104.05", "driver_expected": None,
}  # fmt: skip
HOST = HostSite("gpu-01", frozenset({"head"}), "198.51.100.11", None, "198.51.100.11", 22, "dstui", True, None)
SITE = Site(
    "lab", "lab", "pre", (HOST,), "/mnt/x", "/opt/deepseek/venv/bin/python", None, "bare-metal", True, "none"
)  # fmt: skip
OLD = "/opt/deepseek/venv/lib/python3.10/site-packages"
NEW = "/opt/deepseek/venv/lib/python3.12/site-packages"


def case(**changes: Answer) -> HostCase:
    rows = json.loads((HOSTS / "dgx-h100.json").read_text())
    table = {
        key: Answer(key, key, row.get("output", ""), row.get("error", ""), row.get("exit"), row.get("value"))
        for key, row in rows.items()
    }
    raw = Raw(table | {key.replace("__", ".").replace("_", "-"): answer for key, answer in changes.items()})
    facts = HostFacts(None, None, raw, {group.facts: group.parse(raw) for group in GROUPS})
    params = Params([Threshold(name, value, "document", value) for name, value in DEFAULTS.items()])
    return HostCase(HOST, SITE, facts, params, NOW)


def interpreter(case: HostCase) -> Ruling:
    return python(FleetCase(SITE, {"gpu-01": case.facts}, case.params, {}, {}, NOW))[0]


def driver(case: HostCase) -> Ruling:
    return nvidia_driver(FleetCase(SITE, {"gpu-01": case.facts}, case.params, {}, {}, NOW))[0]


def missing(reason: Reason) -> Answer:
    return Answer("k", "k", missing=Missing(reason, "why"))


def files(value: object, error: str = "") -> Answer:
    return Answer("k", "k", value=value, error=error)


def metadata(place: str, requires: str) -> dict[str, str]:
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: 1\nRequires-Python: {requires}\n"
    return {f"{place}/vllm-1.dist-info/METADATA": text}


def marks(*paths: str) -> Answer:
    return files({path: [33188, 0, 0, 10, 1.0] for path in paths})


DENIED = "EACCES: /opt/deepseek/venv/lib"
INACTIVE = Answer("k", "k", "inactive\n", exit=3)


@pytest.mark.parametrize(
    ("rule", "changes", "verdict"),
    [
        (cuda, {}, Verdict.PASS),
        (cuda, {"versions__torch": missing(Reason.PERMISSION)}, Verdict.UNKNOWN),
        (cuda, {"versions__torch": missing(Reason.TIMEOUT)}, Verdict.UNKNOWN),
        (cuda, {"versions__torch": files({}, DENIED)}, Verdict.UNKNOWN),
        (cuda, {"versions__torch": files({})}, Verdict.PASS),
        (
            cuda,
            {"versions__torch": files({f"{OLD}/torch/version.py": "cuda = '12.8'\n",
                                       f"{NEW}/torch/version.py": "cuda = '13.0'\n"})},
            Verdict.FAIL,
        ),
        (interpreter, {"versions__packages": missing(Reason.PERMISSION)}, Verdict.UNKNOWN),
        (interpreter, {"versions__packages": files(metadata(OLD, ">=3.9"), DENIED)}, Verdict.UNKNOWN),
        (interpreter, {"versions__packages": files(metadata(OLD, "<3.11") | metadata(NEW, ">=3.11"))}, Verdict.PASS),
        (interpreter, {"versions__packages": files(metadata(NEW, "<3.11") | metadata(OLD, ">=3.11"))}, Verdict.FAIL),
        (driver, {}, Verdict.PASS),
        (driver, {"gpu__nvml": missing(Reason.TOOL_MISSING), "gpu__smi": missing(Reason.TOOL_MISSING)}, Verdict.WARN),
        (docker, {}, Verdict.PASS),
        (docker, {"sw__docker_marks": marks("/etc/docker/daemon.json")}, Verdict.UNKNOWN),
        (docker, {"sw__docker_unit": INACTIVE}, Verdict.WARN),
    ],
)  # fmt: skip
def test_verdicts(rule: Callable[[HostCase], Ruling], changes: dict[str, Answer], verdict: Verdict) -> None:
    ruling = rule(case(**changes))
    assert ruling.verdict is verdict, (ruling.rule.en, ruling.notes)
