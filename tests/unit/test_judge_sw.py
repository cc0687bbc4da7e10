"""sw.*: both sides of every minimum, every rule, and every way of not being able to tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dstui.facts import gpu, os, sw, versions
from dstui.facts.case import FleetCase, HostCase, HostFacts, HostSite, Params, Site
from dstui.facts.raw import Answer, Missing, Raw
from dstui.judge.rulings import Causes, quoted, unknown
from dstui.judge.sw import JUDGES, os_version
from dstui.judge.sw_cuda import cuda
from dstui.judge.sw_docker import container_toolkit, docker
from dstui.judge.sw_driver import nvidia_driver
from dstui.judge.sw_python import python, satisfies
from dstui.judge.versions import at_least, bound, compare, odd_ones, pre_release, version
from dstui.model import Reason, Ruling, Text, Threshold, Verdict, host_target, same

HOSTS = Path(__file__).parent.parent / "data" / "hosts"
GROUPS = [module.GROUP for module in (gpu, os, sw, versions)]
PASS, WARN, FAIL, UNKNOWN, NA = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN, Verdict.NOT_APPLICABLE
NOW = 1_762_300_800.0  # 2025-11-05

DEFAULTS: dict[str, object] = {
    "os_id": "ubuntu", "os_version_min": "20.04", "os_alternatives": {},
    "eol_table": {"20.04": "2025-05", "22.04": "2027-04", "24.04": "2029-04"},
    "driver_min": "535.104.05", "driver_expected": None,
    "cuda_min": "12.1", "cuda_accept": ["toolkit", "runtime"], "runtime_python": None,
    "python_min": "3.10",
    "docker_min": "24.0.0", "docker_required": True,
    "ctk_min": "1.13.0", "ctk_secure_min": "1.17.8", "ctk_required": True, "gpu_container_test": False,
}  # fmt: skip


def host(name: str = "gpu-01", roles: str = "head", *, gpus: bool = True) -> HostSite:
    return HostSite(name, frozenset({roles}), "198.51.100.11", None, "198.51.100.11", 22, "dstui", gpus, None)


def site(*hosts: HostSite, mode: str = "bare-metal") -> Site:
    return Site(
        "lab", "lab", "pre", hosts or (host(),), "/mnt/x", "/opt/deepseek/venv/bin/python", None, mode, True, "none"
    )


def text(output: str, error: str = "", code: int | None = None) -> Answer:
    return Answer("k", "source", output, error, code)


def value(found: object) -> Answer:
    return Answer("k", "source", value=found)


def missing(reason: Reason, why: str = "why") -> Answer:
    return Answer("k", "source", missing=Missing(reason, why))


def raw(name: str, changes: Mapping[str, Answer] | None = None) -> Raw:
    rows = json.loads((HOSTS / f"{name}.json").read_text())
    table = {
        key: Answer(
            key, key, row.get("output", ""), row.get("error", ""), row.get("exit"), row.get("value"),
            missing=Missing(Reason(row["missing"]), row["why"]) if "missing" in row else None,
        )
        for key, row in rows.items()
    }  # fmt: skip
    return Raw({**table, **(changes or {})})


def facts(found: Raw) -> HostFacts:
    return HostFacts(None, None, found, {group.facts: group.parse(found) for group in GROUPS})


def params(**changed: object) -> Params:
    return Params([Threshold(n, changed.get(n, v), "document", v) for n, v in DEFAULTS.items()])


def case(
    name: str, changes: Mapping[str, Answer] | None = None, of: HostSite | None = None, **changed: object
) -> HostCase:
    return HostCase(of or host(), site(), facts(raw(name, changes)), params(**changed), NOW)


def words(ruling: Ruling) -> str:
    """Everything the ruling says, in English, for looking a cause up."""
    return " | ".join([ruling.observed.en, ruling.rule.en, *(note.en for note in ruling.notes)])


UNREACHABLE = HostFacts(Missing(Reason.UNREACHABLE, "no route to host"), None, Raw(), {})


def driver(case: HostCase) -> Ruling:
    """One host alone before the judge that compares hosts."""
    return nvidia_driver(FleetCase(site(case.host), {case.host.name: case.facts}, case.params, {}, {}, case.now))[0]


def interpreter(case: HostCase) -> Ruling:
    return python(FleetCase(site(case.host), {case.host.name: case.facts}, case.params, {}, {}, case.now))[0]


RULES = [os_version, driver, cuda, interpreter, docker, container_toolkit]


@pytest.mark.parametrize("rule", RULES)
def test_unreachable_is_unknown_with_that_reason(rule: Callable[[HostCase], Ruling]) -> None:
    ruling = rule(HostCase(host(), site(), UNREACHABLE, params(), NOW))
    assert (ruling.verdict, ruling.reason) == (UNKNOWN, Reason.UNREACHABLE)


@pytest.mark.parametrize("rule", RULES)
def test_nothing_gathered_is_unknown(rule: Callable[[HostCase], Ruling]) -> None:
    assert rule(HostCase(host(), site(), facts(Raw()), params(), NOW)).verdict is UNKNOWN
    assert rule(HostCase(host(), site(), HostFacts(None, None, Raw(), {}), params(), NOW)).reason is Reason.NOT_RUN


@pytest.mark.parametrize("rule", RULES)
def test_texts_are_in_both_languages_and_material_is_json(rule: Callable[[HostCase], Ruling]) -> None:
    for name in ("dgx-h100", "a100-pcie", "vm-virtio"):
        ruling = rule(case(name))
        for said in (ruling.observed, ruling.expected, ruling.rule, *ruling.notes):
            assert said.en and said.zh
        json.dumps(dict(ruling.material))


@pytest.mark.parametrize(
    "param", ["os_version_min", "driver_min", "cuda_min", "python_min", "docker_min", "ctk_min", "ctk_secure_min"]
)
def test_a_minimum_that_is_no_version_passes_nothing(param: str) -> None:
    rulings = [rule(case("dgx-h100", **{param: "newest"})) for rule in RULES]
    assert [r.verdict for r in rulings].count(UNKNOWN) == 1


def test_judges_name_their_groups() -> None:
    known = {group.name for group in GROUPS}
    assert [judge.check_id for judge in JUDGES] == [
        "sw.os-version", "sw.nvidia-driver", "sw.cuda", "sw.python", "sw.docker", "sw.container-toolkit",
    ]  # fmt: skip
    assert all(set(judge.groups) <= known for judge in JUDGES)


# versions and rulings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("535.104.05", (535, 104, 5)), ("28.2.2+dfsg1", (28, 2, 2)), ("24.0.7-0ubuntu2~22.04.1", (24, 0, 7)),
        ("24.0.0~rc", (24, 0, 0)), ("v1.17.8", (1, 17, 8)), ("", None), ("latest", None), ("~1.2", None), ("٣.1", None),
    ],
)  # fmt: skip
def test_version(text: str, expected: tuple[int, ...] | None) -> None:
    assert version(text) == expected


def test_versions_are_compared_as_integers() -> None:
    assert compare((535, 54, 3), (535, 104, 5)) == -1
    assert "535.104.05" < "535.54.03"  # what a comparison of texts says
    assert compare((24,), (24, 0, 0)) == 0
    assert at_least((24, 0, 1), (24,)) and not at_least((9, 4), (20, 4))
    bad = bound(Params([Threshold("x_min", "new", "overlay a.yaml:3", "1")]), "x_min")
    assert isinstance(bad, Missing) and "overlay a.yaml:3" in bad.why


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24.0.0~rc", True),
        ("24.0.0-rc.1", True),
        ("24.0.0-beta.2", True),
        ("24.0.7-0ubuntu2", False),
        ("28.2.2+dfsg1", False),
        ("1.17.8-1", False),
        ("x", False),
    ],
)
def test_pre_release(text: str, expected: bool) -> None:
    assert pre_release(text) is expected


def test_odd_ones() -> None:
    assert odd_ones({"a": "1", "b": "1", "c": "2"}) == {"c"}
    assert odd_ones({"a": "1", "b": "2"}) == {"a", "b"}
    assert odd_ones({"a": "1", "b": "1"}) == odd_ones({}) == frozenset()


def test_the_worst_cause_decides_and_the_others_are_notes() -> None:
    causes = Causes(host_target("a"), same("x"))
    causes.note(same("remark"))
    causes.warn(same("w1"))
    causes.unknown(Reason.TIMEOUT, same("u1"), "tool")
    causes.warn(same("w2"))
    assert (causes.ruling(same("o"), same("p")).verdict, causes.ruling(same("o"), same("p")).reason) == (
        UNKNOWN,
        Reason.TIMEOUT,
    )
    causes.fail(same("f1"))
    ruling = causes.ruling(same("o"), same("p"), material={"a": 1})
    assert (ruling.verdict, ruling.reason, ruling.rule) == (FAIL, None, same("f1"))
    assert [note.en for note in ruling.notes] == ["u1", "w1", "w2", "remark"]
    assert Causes(host_target("a"), same("x")).ruling(same("o"), same("p")).rule == same("p")


def test_every_reason_has_words_and_remote_text_is_made_harmless() -> None:
    for reason in Reason:
        ruling = unknown(host_target("a"), Missing(reason, "\x1b[31m[/foo]\nx"), Text("e", "e"))
        assert ruling.reason is reason and "\x1b" not in ruling.observed.en and "\n" not in ruling.observed.zh
    assert quoted("a\x00\u202eb   c" + "x" * 500, 20) == "a b cxxxxxxxxxxxxxx…"


# sw.os-version


def release(identity: str, version_id: str | None, pretty: str = "") -> dict[str, Answer]:
    lines = [f"ID={identity}", f'PRETTY_NAME="{pretty}"'] + (
        [] if version_id is None else [f'VERSION_ID="{version_id}"']
    )
    return {"os.etc-release": text("\n".join(lines))}


GONE = missing(Reason.CANNOT_TELL, "ENOENT")


@pytest.mark.parametrize(
    ("answers", "changed", "verdict", "says"),
    [
        ({}, {}, PASS, "Ubuntu 22.04.4 LTS, kernel 5.15.0-125-generic"),
        (release("ubuntu", "24.04"), {}, PASS, ""),
        (release("ubuntu", "20.04"), {}, WARN, "standard support of 20.04 ended in 2025-05"),
        (release("ubuntu", "18.04"), {}, FAIL, "too old"),
        (release("ubuntu", "9.04"), {}, FAIL, "too old"),
        (release("ubuntu", "23.10"), {}, WARN, "interim"),
        (release("ubuntu", "25.04"), {}, WARN, "interim"),
        (release("ubuntu", "24.10"), {}, WARN, "interim"),
        (release("debian", "12"), {}, FAIL, "debian is not ubuntu"),
        (release("debian", "12"), {"os_alternatives": {"debian": "12"}}, WARN, "listed alternative"),
        (release("rocky", "9.4"), {"os_alternatives": {"rocky": "9"}}, WARN, "listed alternative"),
        (release("debian", "11"), {"os_alternatives": {"debian": "12"}}, FAIL, "older than 12"),
        (release("debian", None), {"os_alternatives": {"debian": "12"}}, UNKNOWN, "VERSION_ID"),
        (release("ubuntu", None), {}, UNKNOWN, "VERSION_ID"),
        (release("ubuntu", "rolling"), {}, UNKNOWN, "not understood"),
        ({"os.etc-release": GONE, "os.usr-release": GONE}, {}, UNKNOWN, "ENOENT"),
        ({"os.etc-release": text("")}, {}, UNKNOWN, "os-release has no ID"),
    ],
)
def test_os_version(answers: dict[str, Answer], changed: dict[str, object], verdict: Verdict, says: str) -> None:
    ruling = os_version(case("dgx-h100", answers, **changed))
    assert ruling.verdict is verdict, words(ruling)
    assert says in words(ruling)


def test_support_ends_with_the_month() -> None:
    found = facts(raw("a100-pcie"))
    last_day, next_day = 1_748_735_999.0, 1_748_736_000.0  # 2025-05-31 and 2025-06-01 UTC
    assert os_version(HostCase(host(), site(), found, params(), last_day)).verdict is PASS
    assert os_version(HostCase(host(), site(), found, params(), next_day)).verdict is WARN


def test_containers_and_pending_reboots_are_said() -> None:
    assert "the image's system" in words(os_version(case("vm-virtio")))
    assert "a reboot is pending" in words(os_version(case("a100-pcie")))


def test_every_role_has_a_system() -> None:
    assert os_version(case("dgx-h100", of=host("lb-01", "lb", gpus=False))).verdict is PASS


# sw.nvidia-driver


def loaded(version: str | None, on_disk: str | None = None, torch: str | None = None) -> dict[str, Answer]:
    answer = {"error": None, "driver": version, "cuda": 12080, "nvml": "12", "gpus": []}
    cuda_line = f"cuda: Optional[str] = '{torch}'\n" if torch else "cuda: Optional[str] = None\n"
    return {
        "gpu.nvml": value(answer),
        "gpu.proc-version": GONE,
        "gpu.module-version": GONE,
        "gpu.modinfo": text(on_disk + "\n", code=0) if on_disk else missing(Reason.TOOL_MISSING),
        "versions.torch": value({"/v/torch/version.py": cuda_line}),
    }


NOT_LOADED = {
    **loaded(None),
    "gpu.nvml": missing(Reason.TOOL_MISSING),
    "gpu.smi": missing(Reason.TOOL_MISSING),
    "gpu.marks": value({"/sys/module/ast/refcnt": [33060, 0, 0, 4096, 1.0]}),
}
MISMATCH = value(
    {"error": {"name": "LIB_RM_VERSION_MISMATCH", "code": 18, "message": ""}, "driver": None, "cuda": None, "gpus": []}
)


@pytest.mark.parametrize(
    ("answers", "changed", "verdict", "says"),
    [
        ({}, {}, PASS, "570.172.08 loaded, 570.172.08 on disk, open module"),
        (loaded("535.104.05"), {}, PASS, ""),
        (loaded("535.104.12"), {}, PASS, ""),
        (loaded("535.54.03"), {}, FAIL, "535.54.03 is older than 535.104.05"),
        (loaded("535.104"), {}, FAIL, ""),
        (loaded("580.95.05"), {"driver_expected": "580.95.05"}, PASS, ""),
        (loaded("580.65.06"), {"driver_expected": "580.95.05"}, FAIL, "580.95.05 is pinned"),
        (loaded("570.172.08", "580.95.05"), {}, WARN, "580.95.05 is on disk, 570.172.08 is loaded"),
        (loaded("535.183.01", torch="13.0"), {}, WARN, "wants driver 580 or newer"),
        (loaded("580.65.06", torch="13.0"), {}, PASS, "driver 580 or newer"),
        (loaded("535.183.01", torch="12.8"), {}, PASS, ""),
        ({"gpu.nvml": MISMATCH}, {}, FAIL, "unusable until a reboot"),
        (NOT_LOADED, {}, FAIL, "8 NVIDIA devices and no driver module loaded"),
        ({**NOT_LOADED, "gpu.marks": missing(Reason.PERMISSION)}, {}, UNKNOWN, ""),
        ({**loaded(None), "gpu.nvml": missing(Reason.TIMEOUT), "gpu.smi": missing(Reason.TIMEOUT)}, {}, UNKNOWN, ""),
        (loaded("newest"), {}, UNKNOWN, "not understood"),
    ],
)
def test_driver(answers: dict[str, Answer], changed: dict[str, object], verdict: Verdict, says: str) -> None:
    ruling = driver(case("dgx-h100", answers, **changed))
    assert ruling.verdict is verdict, words(ruling)
    assert says in words(ruling)


def test_captured_drivers() -> None:
    ruling = driver(case("a100-pcie"))
    assert ruling.verdict is FAIL and "535.54.03 is older than 535.104.05" in ruling.rule.en
    assert "535.183.01 is on disk" in words(ruling) and "proprietary module" in ruling.observed.en
    assert driver(case("dgx-h100", of=host("mon-01", "monitoring", gpus=False))).verdict is NA


def test_drivers_that_differ_between_hosts() -> None:
    names = ("a", "b", "c", "d")
    versions_ = ("570.172.08", "570.172.08", "580.95.05", "570.172.08")
    found = {n: facts(raw("dgx-h100", loaded(v))) for n, v in zip(names, versions_, strict=True)}
    found["e"] = UNREACHABLE
    fleet = FleetCase(site(*(host(n, "worker") for n in (*names, "e"))), found, params(), {}, {}, NOW)
    rulings = {r.target.name: r for r in nvidia_driver(fleet)}
    assert {n: r.verdict for n, r in rulings.items()} == {"a": PASS, "b": PASS, "c": WARN, "d": PASS, "e": UNKNOWN}
    assert "which run 570.172.08" in rulings["c"].rule.en


# sw.cuda

NONE = missing(Reason.TOOL_MISSING)


def installed(
    toolkit: str | None = None, runtime: str | Missing | None = None, ceiling: int | None = 12080,
    dirs: tuple[str, ...] = (), link: str = "",
) -> dict[str, Answer]:  # fmt: skip
    """Toolkit by nvcc, torch's CUDA (None is a CPU build, Missing is as it says) and the driver's ceiling."""
    said = f"Cuda compilation tools, release {toolkit}, V{toolkit}.89\n"
    torch = (
        Answer("k", "s", missing=runtime)
        if isinstance(runtime, Missing)
        else value({"/v/torch/version.py": f"cuda = {runtime!r}\n"})
    )
    return {
        "gpu.nvml": value({"error": None, "driver": "570.1", "cuda": ceiling, "nvml": "12", "gpus": []}),
        "versions.nvcc": text(said, code=0) if toolkit else NONE,
        "versions.nvcc-path": NONE,
        "versions.toolkits": value({}),
        "versions.torch": torch,
        "versions.cuda": value({path: [16877, 0, 0, 0, 1.0] for path in dirs}),
        "versions.cuda-link": value({"/usr/local/cuda": link} if link else {}),
    }


COMPAT = ("/usr/local/cuda-13.0/compat/libcuda.so.1",)


@pytest.mark.parametrize(
    ("answers", "changed", "verdict", "says"),
    [
        ({}, {}, PASS, "toolkit 12.8.93, runtime (torch) 12.8, driver supports up to 12.8"),
        (installed("12.1", "12.1", 12010), {}, PASS, ""),
        (installed("12.0", "12.0"), {}, FAIL, "only toolkit 12.0.89, runtime 12.0"),
        (installed("12.4", None), {}, PASS, ""),
        (installed("11.8", None), {}, FAIL, "only toolkit 11.8.89"),
        (installed("12.4", "12.4", 12000), {}, FAIL, "the driver supports CUDA 12.0 at most"),
        (installed("12.4", "13.0", 12080), {}, FAIL, "runtime 13.0 cannot run under a driver for CUDA 12.8"),
        (installed("12.4", "13.0", 12080, COMPAT), {}, WARN, "forward-compatibility package"),
        (installed("12.4", "12.9", 12020), {}, WARN, "minor-version compatibility"),
        (installed(None, "12.8"), {}, WARN, "no toolkit"),
        (installed("11.8", "12.8"), {}, WARN, "passes by the runtime"),
        (installed(None, "12.8"), {"cuda_accept": ["toolkit"]}, FAIL, "not accepted"),
        (installed("12.4", None), {"cuda_accept": ["runtime"]}, FAIL, "not accepted"),
        (installed("12.4", "11.8"), {}, PASS, "torch itself is built for CUDA 11.8"),
        (installed(None, None), {}, FAIL, "neither a toolkit nor a CUDA build of torch"),
        (installed(None, Missing(Reason.PERMISSION, "venv")), {}, UNKNOWN, "permission denied: venv"),
        (installed("11.8", Missing(Reason.TIMEOUT, "venv")), {}, UNKNOWN, "timed out"),
        (installed(None, None, None), {}, UNKNOWN, "CUDA supported by the driver"),
        (installed(None, Missing(Reason.TIMEOUT, "venv"), None), {}, UNKNOWN, "driver"),
        (installed("12.4", "12.4", None), {}, UNKNOWN, "CUDA supported by the driver"),
        (installed("12.4", "12.4", 0), {}, UNKNOWN, ""),
        (
            installed(
                "12.2", "12.2", dirs=("/usr/local/cuda-12.2", "/usr/local/cuda-12.8"), link="/usr/local/cuda-12.2"
            ),
            {},
            WARN,
            "not the newest",
        ),
        (
            installed(
                "12.8", "12.8", dirs=("/usr/local/cuda-12.2", "/usr/local/cuda-12.8"), link="/usr/local/cuda-12.8"
            ),
            {},
            PASS,
            "",
        ),
        (
            installed("12.8", "12.8", dirs=("/usr/local/cuda-12", "/usr/local/cuda-12.8"), link="/usr/local/cuda-12.8"),
            {},
            PASS,
            "",
        ),
    ],
)
def test_cuda(answers: dict[str, Answer], changed: dict[str, object], verdict: Verdict, says: str) -> None:
    ruling = cuda(case("dgx-h100", answers, **changed))
    assert ruling.verdict is verdict, words(ruling)
    assert says in words(ruling)


def test_cuda_of_the_610_banner() -> None:
    banner = text("| NVIDIA-SMI 610.43.02  KMD Version: 610.43.02  CUDA UMD Version: 13.3 |", code=0)
    ruling = cuda(case("a100-pcie", {**installed("12.4", "12.4"), "gpu.nvml": NONE, "gpu.banner": banner}))
    assert ruling.verdict is PASS and "driver supports up to 13.3" in ruling.observed.en
    assert cuda(case("dgx-h100", of=host("nas-01", "storage", gpus=False))).verdict is NA


# sw.python


def venv(version: str, requires: str | None = ">=3.10,<3.14") -> dict[str, Answer]:
    meta = "Metadata-Version: 2.1\nName: vllm\nVersion: 0.11.0\n" + (
        f"Requires-Python: {requires}\n" if requires else ""
    )
    return {
        "versions.python": text(version.replace(".", " ") + "\n", code=0),
        "versions.packages": value({"/v/site-packages/vllm-0.11.0.dist-info/METADATA": meta}),
    }


@pytest.mark.parametrize(
    ("answers", "changed", "verdict", "says"),
    [
        ({}, {}, PASS, "Python 3.12.9"),
        (venv("3.10.0"), {}, PASS, ""),
        (venv("3.9.18", None), {}, FAIL, "older than 3.10"),
        (venv("3.8.10", None), {}, FAIL, "Python 3.8 gets no more security fixes"),
        (venv("3.10.12", ">=3.11,<3.15"), {}, FAIL, "requires Python >=3.11,<3.15"),
        (venv("3.15.0", ">=3.11,<3.15"), {}, FAIL, "requires Python"),
        (venv("3.14.9", ">=3.11,<3.15"), {}, PASS, ""),
        (venv("3.12.1", "at your own risk"), {}, UNKNOWN, "not understood"),
        (venv("3.12.1", None), {}, PASS, ""),
        ({"versions.python": missing(Reason.TOOL_MISSING, "no such file")}, {}, UNKNOWN, "no such file"),
        ({"versions.python": missing(Reason.PERMISSION, "not executable")}, {}, UNKNOWN, "not executable"),
        ({"versions.python": text("", "Killed", -9)}, {}, UNKNOWN, ""),
        ({"versions.python": text("", code=0)}, {}, UNKNOWN, "not understood"),
    ],
)
def test_python(answers: dict[str, Answer], changed: dict[str, object], verdict: Verdict, says: str) -> None:
    ruling = interpreter(case("dgx-h100", answers, **changed))
    assert ruling.verdict is verdict, words(ruling)
    assert says in words(ruling)


def test_only_the_systems_python_is_a_warning() -> None:
    ruling = interpreter(case("vm-virtio"))
    assert ruling.verdict is WARN and "only the system's python3" in ruling.rule.en


def test_end_of_life() -> None:
    found = facts(raw("dgx-h100", venv("3.10.12")))
    after = 1_793_500_000.0  # 2026-11-01
    fleet = FleetCase(site(), {"gpu-01": found}, params(), {}, {}, after)
    assert python(fleet)[0].verdict is WARN
    assert interpreter(case("dgx-h100", venv("3.10.12"))).verdict is PASS


@pytest.mark.parametrize(
    ("versions_", "expected"),
    [
        (("3.12.9", "3.12.9", "3.12.9"), (PASS, PASS, PASS)),
        (("3.12.9", "3.12.8", "3.12.9"), (PASS, FAIL, PASS)),
        (("3.12.8", "3.12.9", "3.12.9"), (PASS, FAIL, FAIL)),
        (("3.12.9", "3.11.9", "3.11.9"), (PASS, FAIL, FAIL)),
        (("3.12.9", None, "3.12.9"), (PASS, UNKNOWN, PASS)),
        ((None, "3.12.9", "3.12.8"), (UNKNOWN, FAIL, FAIL)),
        ((None, "3.12.9", "3.12.9"), (UNKNOWN, PASS, PASS)),
    ],
)
def test_nodes_are_measured_by_the_head(versions_: tuple[str | None, ...], expected: tuple[Verdict, ...]) -> None:
    hosts = [host("a", "head"), host("b", "worker"), host("c", "worker"), host("lb", "lb", gpus=False)]
    found = {
        h.name: UNREACHABLE if v is None else facts(raw("dgx-h100", venv(v)))
        for h, v in zip(hosts, (*versions_, "3.6.9"), strict=True)
    }
    rulings = python(FleetCase(site(*hosts), found, params(), {}, {}, NOW))
    assert tuple(r.verdict for r in rulings) == (*expected, NA)


def test_the_node_that_differs_is_named() -> None:
    hosts = [host("a", "head"), host("b", "worker")]
    found = {"a": facts(raw("dgx-h100", venv("3.12.9"))), "b": facts(raw("dgx-h100", venv("3.12.8")))}
    head, worker = python(FleetCase(site(*hosts), found, params(), {}, {}, NOW))
    assert "a 3.12.9" in worker.rule.en and "b 3.12.8" in words(head)


@pytest.mark.parametrize(
    ("found", "written", "expected"),
    [
        ((3, 11, 0), ">=3.11,<3.15", True), ((3, 15, 0), ">=3.11,<3.15", False), ((3, 12, 1), "~=3.12.0", True),
        ((3, 13, 0), "~=3.12.0", False), ((3, 9, 7), ">=3.8,!=3.9.7", False), ((3, 9, 8), "!=3.9.*", False),
        ((3, 10, 0), "==3.10.*", True), ((3, 10, 0), ">3.10", False), ((3, 10, 0), "<=3.10", True),
        ((3, 10, 0), "x", None),
    ],
)  # fmt: skip
def test_requires_python(found: tuple[int, ...], written: str, expected: bool | None) -> None:
    assert satisfies(found, written) is expected


# sw.docker

DENIED = "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock"
NO_DAEMON = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
DEAD = {"sw.docker-server": text("\n", NO_DAEMON, 1)}
NO_PACKAGES = {"sw.packages": text("", "dpkg-query: no packages found matching docker-ce", 1)}
NO_CLIENT = {
    "sw.docker-server": NONE,
    "sw.docker-client": NONE,
    "sw.docker-marks": value({}),
    "sw.docker-api": text("", code=7),
}


def server(version: str, client: str | None = None) -> dict[str, Answer]:
    answers = {"sw.docker-server": text(version + "\n", code=0)}
    return answers | {"sw.docker-client": text(f"Docker version {client or version}, build x\n", code=0)}


@pytest.mark.parametrize(
    ("answers", "changed", "verdict", "says"),
    [
        ({}, {}, PASS, "server 28.2.2, client 28.2.2, docker-ce 28.2.2"),
        (server("24.0.0"), {}, PASS, ""),
        (server("23.0.6"), {}, FAIL, "server 23.0.6 is older than 24.0.0"),
        (server("24.0.7-0ubuntu2~22.04.1"), {}, PASS, ""),
        (server("28.2.2+dfsg1"), {}, PASS, ""),
        (server("24.0.0~rc"), {}, WARN, "24.0.0~rc is a pre-release of the minimum"),
        (server("24.0.1~rc1"), {}, PASS, ""),
        (server("28.2.2", "27.0.1"), {}, WARN, "differ by a major version"),
        ({"sw.docker-server": text("\n", DENIED, 1)}, {}, UNKNOWN, "permission denied"),
        ({"sw.docker-server": missing(Reason.TIMEOUT)}, {}, UNKNOWN, "timed out"),
        ({"sw.docker-server": text("what", code=0)}, {}, UNKNOWN, "not understood"),
        ({**DEAD, "sw.docker-unit": text("inactive\n", code=3)}, {}, FAIL, "does not run (inactive)"),
        ({**DEAD, "sw.docker-unit": text("failed\n", code=3)}, {}, FAIL, "does not run (failed)"),
        (DEAD, {}, UNKNOWN, "Cannot connect"),
        ({**NO_CLIENT, **NO_PACKAGES, "sw.docker-unit": text("inactive\n", code=3)}, {}, FAIL, "not installed"),
        ({**NO_CLIENT, **NO_PACKAGES, "sw.docker-unit": NONE}, {}, FAIL, "not installed"),
        ({**NO_CLIENT, "sw.docker-unit": text("inactive\n", code=3)}, {}, FAIL, "does not run"),
        ({**NO_CLIENT, **NO_PACKAGES}, {}, UNKNOWN, "tool missing"),
        ({"sw.docker-config": text("{}")}, {}, WARN, "not bounded"),
        ({"sw.docker-config": missing(Reason.PERMISSION)}, {}, PASS, ""),
        ({}, {"docker_required": False}, NA, "docker_required is false"),
    ],
)
def test_docker(answers: dict[str, Answer], changed: dict[str, object], verdict: Verdict, says: str) -> None:
    ruling = docker(case("dgx-h100", answers, **changed))
    assert ruling.verdict is verdict, words(ruling)
    assert says in words(ruling)


def test_docker_permission_has_its_reason_and_a_way_out() -> None:
    ruling = docker(case("dgx-h100", {"sw.docker-server": text("\n", DENIED, 1)}))
    assert ruling.reason is Reason.PERMISSION and "allow sudo docker version" in words(ruling)
    activated = {"sw.docker-server": text("\n", DENIED, 1), "sw.docker-unit": text("inactive\n", code=3)}
    assert docker(case("dgx-h100", activated)).reason is Reason.PERMISSION  # the socket may start it any moment


def test_podmans_shim_is_no_docker_engine() -> None:
    shim = {"sw.docker-client": text("podman version 4.9.3\n", code=0), "sw.docker-server": text("4.9.3\n", code=0)}
    ruling = docker(case("dgx-h100", {**shim, **NO_PACKAGES, "sw.docker-unit": text("inactive\n", code=3)}))
    assert ruling.verdict is FAIL and "podman's shim" in words(ruling)


def test_captured_docker() -> None:
    assert docker(case("a100-pcie")).verdict is FAIL
    stopped = docker(case("vm-virtio"))
    assert stopped.verdict is FAIL and "does not run (no docker.sock)" in stopped.rule.en
    assert "group docker" in words(docker(case("dgx-h100")))


def test_docker_elsewhere_only_in_container_mode() -> None:
    lb, found = host("lb-01", "lb", gpus=False), facts(raw("dgx-h100"))
    assert docker(HostCase(lb, site(lb), found, params(), NOW)).verdict is NA
    assert docker(HostCase(lb, site(lb, mode="docker"), found, params(), NOW)).verdict is PASS


# sw.container-toolkit


def ctk(version: str, runtimes: str = '{"nvidia":{},"runc":{}}') -> dict[str, Answer]:
    return {
        "sw.ctk": text(f"NVIDIA Container Toolkit CLI version {version}\ncommit: abcdef1\n", code=0),
        "sw.runtimes": text(runtimes, code=0),
    }


CDI = {
    "sw.cdi-names": value({"/var/run/cdi/nvidia.yaml": [33188, 0, 0, 1, 1.0]}),
    "sw.cdi": value({"/var/run/cdi/nvidia.yaml": "kind: nvidia.com/gpu\n"}),
}
UNREAD = {"sw.runtimes": text("null\n", DENIED, 1)}


@pytest.mark.parametrize(
    ("answers", "changed", "verdict", "says"),
    [
        ({}, {}, PASS, "1.17.8 (nvidia-ctk)"),
        (ctk("1.17.8"), {}, PASS, ""),
        (ctk("1.17.7"), {}, WARN, "older than 1.17.8: containers can escape"),
        (ctk("1.13.0"), {}, WARN, "CVE-2025-23266"),
        (ctk("1.13.0"), {"ctk_secure_min": "1.13.0"}, PASS, ""),
        (ctk("1.12.9"), {}, FAIL, "older than 1.13.0"),
        (ctk("1.17.8", '{"runc":{}}'), {}, WARN, "not wired"),
        ({**ctk("1.17.8", '{"runc":{}}'), **CDI}, {}, PASS, "nvidia.yaml"),
        ({**ctk("1.17.8"), **UNREAD}, {}, UNKNOWN, "docker's runtimes: permission denied"),
        ({**ctk("1.17.8"), **UNREAD, **CDI}, {}, PASS, ""),
        ({**ctk("1.12.0"), **UNREAD}, {}, FAIL, ""),
        ({**ctk("1.17.8"), "sw.runtimes": text("null\n", NO_DAEMON, 1)}, {}, UNKNOWN, "Cannot connect"),
        ({**ctk("1.17.8"), "sw.runtimes": NONE}, {}, UNKNOWN, "tool missing"),
        ({"sw.ctk": NONE, "sw.ctk-cli": NONE, **NO_PACKAGES}, {}, FAIL, "not installed"),
        (
            {"sw.ctk": NONE, "sw.ctk-cli": text("cli-version: 1.13.5\n", code=0)},
            {},
            WARN,
            "1.13.5 (nvidia-container-cli)",
        ),
        ({"sw.ctk": missing(Reason.TIMEOUT), "sw.ctk-cli": NONE, **NO_PACKAGES}, {}, UNKNOWN, "timed out"),
        ({"sw.ctk": text("nonsense", code=0), "sw.ctk-cli": NONE, **NO_PACKAGES}, {}, UNKNOWN, "not understood"),
        ({}, {"ctk_required": False}, NA, ""),
        ({}, {"gpu_container_test": True}, UNKNOWN, "gpu_container_test"),
    ],
)
def test_container_toolkit(answers: dict[str, Answer], changed: dict[str, object], verdict: Verdict, says: str) -> None:
    ruling = container_toolkit(case("dgx-h100", answers, **changed))
    assert ruling.verdict is verdict, words(ruling)
    assert says in words(ruling)


def test_captured_toolkit() -> None:
    assert container_toolkit(case("a100-pcie")).verdict is FAIL
    assert container_toolkit(case("dgx-h100", of=host("lb-01", "lb", gpus=False))).verdict is NA
