"""An operator's overlay: other values, checks that do not apply, checks of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from dstui.catalogue import Catalogue, load_catalogue
from dstui.catalogue.declared import (
    CommandProbe,
    Comparison,
    ExpectCode,
    ExpectJson,
    ExpectMatch,
    ExpectText,
    Header,
    HttpProbe,
)
from dstui.model import CatalogueError, Kind, Scope, SideEffect, Text, Verdict


def _overlay(tmp_path: Path, text: str, name: str = "site.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def _load(tmp_path: Path, text: str) -> Catalogue:
    return load_catalogue([_overlay(tmp_path, text)])


def _faults(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(CatalogueError) as caught:
        _load(tmp_path, text)
    return [line.removeprefix(f"{tmp_path}/") for line in str(caught.value).splitlines()]


def test_a_parameter_gets_the_value_and_the_line_it_stands_on(tmp_path: Path) -> None:
    catalogue = _load(tmp_path, "params:\n  hw.cpu-cores.cpu_cores_min: 64\n  hw.memory.mem_min_gb: 512\n")
    threshold = catalogue.check("hw.memory").param("mem_min_gb").threshold()
    assert (threshold.value, threshold.default) == (512, 256)
    assert threshold.origin == f"overlay {tmp_path}/site.yaml:3"
    assert threshold.differs
    assert catalogue.check("hw.memory").param("mem_tolerance_pct").origin == "document"


def test_a_later_overlay_wins(tmp_path: Path) -> None:
    first = _overlay(tmp_path, "params: {hw.memory.mem_min_gb: 512}\ndisable: {hw.nic-speed: measured elsewhere}\n")
    second = _overlay(tmp_path, "params:\n  hw.memory.mem_min_gb: 1024\n", "second.yaml")
    catalogue = load_catalogue([first, second])
    param = catalogue.check("hw.memory").param("mem_min_gb")
    assert (param.value, param.origin) == (1024, f"overlay {second}:2")
    disabled = catalogue.check("hw.nic-speed").disabled
    assert disabled is not None
    assert (disabled.reason, disabled.origin) == ("measured elsewhere", f"overlay {first}:2")


def test_lists_become_tuples_like_the_defaults(tmp_path: Path) -> None:
    catalogue = _load(tmp_path, "params: {net.ports.ports_head: [6379, 8265, 10001]}\n")
    assert not catalogue.check("net.ports").param("ports_head").threshold().differs


def test_an_empty_overlay_changes_nothing(tmp_path: Path) -> None:
    assert _load(tmp_path, "# nothing yet\n").checks == load_catalogue().checks


def test_the_long_texts_are_still_there(tmp_path: Path) -> None:
    catalogue = _load(tmp_path, "disable: {hw.nic-speed: measured elsewhere}\n")
    assert catalogue.guidance("hw.nic-speed") == load_catalogue().guidance("hw.nic-speed")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "params:\n  hw.memory.mem_min: 512\n",
            "site.yaml:2:3: params.hw.memory.mem_min: there is no parameter 'hw.memory.mem_min'"
            " (did you mean 'hw.memory.mem_min_gb'?)",
        ),
        (
            "params:\n  hw.memory.mem_min_gb: lots\n",
            "site.yaml:2:3: params.hw.memory.mem_min_gb: must be a number, not 'lots'",
        ),
        (
            "params:\n  sw.cuda.cuda_min: 12.4\n",
            "site.yaml:2:3: params.sw.cuda.cuda_min: must be text, not 12.4"
            " (put it in quotes: a version such as 12.10 is not a number)",
        ),
        (
            "params:\n  hw.cpu-cores.cpu_count: cores\n",
            "site.yaml:2:3: params.hw.cpu-cores.cpu_count: must be one of auto, physical, logical, not 'cores'",
        ),
        ("params: [a]\n", "site.yaml:1:1: params: must be a table of key: value"),
        (
            "disable:\n  hw.nicspeed: no\n",
            "site.yaml:2:3: disable.hw.nicspeed: there is no such check (did you mean 'hw.nic-speed'?)",
        ),
        (
            "disable:\n  hw.nic-speed:\n",
            "site.yaml:2:3: disable.hw.nic-speed: needs the reason in words: why this does not apply here",
        ),
        (
            "disable:\n  hw.nic-speed: true\n",
            "site.yaml:2:3: disable.hw.nic-speed: needs the reason in words: why this does not apply here",
        ),
        ("parms: {}\n", "site.yaml:1:1: parms: is not known here (did you mean 'params'?)"),
        ("params: {}\nparams: {}\n", "site.yaml:2:1: params: this key already stands above"),
        ("- a\n", "site.yaml:1:1: must be a table of key: value"),
        ("params: {\n", "site.yaml:2:1: is not valid YAML (did not find expected node content)"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, fault: str) -> None:
    assert _faults(tmp_path, text) == [fault]


def test_all_faults_come_together(tmp_path: Path) -> None:
    text = "disable: {hw.x: a}\nparams: {hw.memory.mem_min_gb: a, hw.y.z: 1}\nchecks: [{id: 5}]\n"
    assert len(_faults(tmp_path, text)) >= 5


def test_an_overlay_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"gone\.yaml: cannot be read \(No such file or directory\)"):
        load_catalogue([tmp_path / "gone.yaml"])


NTP = """\
checks:
  - id: site.ntp-offset
    title: {zh: 时钟偏差小于 50 毫秒, en: Clock offset below 50 ms}
    section: {id: site, heading: {en: Our site, zh: 本地}}
    scope: each-host
    kind: auto
    side_effect: S0
    roles: [head, worker]
    ttl: 600
    remedy: fix chrony
    severity: warn
    command: {argv: [chronyc, -n, tracking], timeout: 5, root: true}
    expect:
      - exit: [0, 1]
      - matches: 'Last offset\\s*:\\s*([-+0-9.]+) seconds'
        value: "<= 0.05"
        severity: fail
      - not_contains: Not synchronised
"""


TITLE = "title: {zh: 时钟偏差小于 50 毫秒, en: Clock offset below 50 ms}"
SECTION = "section: {id: site, heading: {en: Our site, zh: 本地}}"


def test_an_own_check(tmp_path: Path) -> None:
    catalogue = _load(tmp_path, NTP)
    check = catalogue.check("site.ntp-offset")
    assert check.title == Text("Clock offset below 50 ms", "时钟偏差小于 50 毫秒")
    assert (check.number, check.kind, check.scope) == (0, Kind.AUTO, Scope.EACH_HOST)
    assert (check.ttl, check.side_effect) == (600, SideEffect.S0)
    assert check.origin == f"overlay {tmp_path}/site.yaml:2"
    assert check.roles == {"head", "worker"}
    assert check.declared is not None
    assert check.declared.probe == CommandProbe(("chronyc", "-n", "tracking"), 5, root=True)
    code, offset, synchronised = check.declared.expect
    assert code == ExpectCode((0, 1), Verdict.WARN)
    assert isinstance(offset, ExpectMatch)
    assert (offset.number, offset.severity) == (Comparison("<=", 0.05), Verdict.FAIL)
    assert synchronised == ExpectText("Not synchronised", False, Verdict.WARN)
    assert catalogue.parts[-1].heading.en == "Own checks"
    assert catalogue.section("site").heading.zh == "本地"
    assert catalogue.guidance(check.id).remedy == Text("fix chrony", "fix chrony")
    assert catalogue.checks[-1] is check


HTTP = """\
checks:
  - id: lb.canary
    title: Canary answers
    section: lb
    scope: endpoint
    side_effect: S2
    http:
      url: https://api.example.com/canary
      method: GET
      headers: {Authorization: Bearer secrets.api_key, X-Api-Key: secrets.api_key, Accept: application/json}
      timeout: 3
    expect:
      status: 200
      json: $.items[0]["a.b"].state
      equals: ok
"""


def test_an_own_http_check_in_a_section_of_the_document(tmp_path: Path) -> None:
    catalogue = _load(tmp_path, HTTP)
    check = catalogue.check("lb.canary")
    assert catalogue.section("lb").checks[-1] is check
    assert check.title == Text("Canary answers", "Canary answers")
    assert check.ttl == 300
    assert check.declared is not None
    assert check.declared.probe == HttpProbe(
        "https://api.example.com/canary",
        "GET",
        (
            Header("Authorization", "Bearer ", "api_key"),
            Header("X-Api-Key", "", "api_key"),
            Header("Accept", "application/json"),
        ),
        3,
    )
    assert check.declared.expect == (
        ExpectCode((200,)),
        ExpectJson(("items", 0, "a.b", "state"), '$.items[0]["a.b"].state', ("ok",)),
    )
    assert [c.number for c in catalogue.checks if c.number] == list(range(1, 100))


def test_an_own_check_can_be_disabled_and_joined_by_a_later_overlay(tmp_path: Path) -> None:
    first = _overlay(tmp_path, NTP)
    second = _overlay(
        tmp_path,
        "disable: {site.ntp-offset: no chrony here}\n" + HTTP.replace("section: lb", "section: site"),
        "second.yaml",
    )
    catalogue = load_catalogue([first, second])
    assert catalogue.check("site.ntp-offset").disabled is not None
    assert [c.id for c in catalogue.section("site").checks] == ["site.ntp-offset", "lb.canary"]
    assert catalogue.guidance("site.ntp-offset").remedy.en == "fix chrony"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("id: site.ntp-offset", "id: hw.memory", "2:5: checks[0].id: hw.memory is already a check; choose another id"),
        ("id: site.ntp-offset", "id: NTP", "2:5: checks[0].id: must look like site.ntp-offset"),
        ("scope: each-host", "scope: cluster", "5:5: checks[0].scope: must be each-host, controller or endpoint"),
        ("scope: each-host", "scope: endpoint", "5:5: checks[0].scope: a command runs on each-host"),
        ("kind: auto", "kind: manual", "6:5: checks[0].kind: must be auto"),
        ("side_effect: S0", "side_effect: S3", "7:5: checks[0].side_effect: must be S0, S1 or S2"),
        ("    side_effect: S0\n", "", "2:5: checks[0]: side_effect is missing"),
        ("roles: [head, worker]", "roles: [heads]", "8:5: checks[0].roles: 'heads' is not a role"),
        ("ttl: 600", "ttl: -1", "9:5: checks[0].ttl: must be a number above 0"),
        ("severity: warn", "severity: unknown", "11:5: checks[0].severity: must be fail or warn"),
        ("argv: [chronyc, -n, tracking]", "argv: chronyc", "12:15: checks[0].command.argv: must be a list of texts"),
        ("argv: [chronyc, -n, tracking]", "argv: []", "12:5: checks[0].command: must be a list of words"),
        ("tracking]", "secrets.api_key]", "12:5: checks[0].command: must hold no NUL and no secret"),
        ("timeout: 5", "timeout: 900", "12:46: checks[0].command.timeout: must not be above 300"),
        ("root: true", "root: sudo", "12:58: checks[0].command.root: must be true or false"),
        ("exit: [0, 1]", "exit: zero", "14:9: checks[0].expect[0].exit: must be a whole number or a list of them"),
        ("exit: [0, 1]", "status: 200", "14:9: checks[0].expect[0].status: does not belong here"),
        ("([-+0-9.]+)", "[-+0-9.]+", "15:9: checks[0].expect[1].matches: needs a group"),
        ("([-+0-9.]+)", "([-+0-9.]+", "15:9: checks[0].expect[1].matches: is not a regular expression"),
        ("([-+0-9.]+)", "(([0-9]+)+)", "15:9: checks[0].expect[1].matches: repeats a group"),
        ('"<= 0.05"', '"about 0"', "16:9: checks[0].expect[1].value: must be a comparison"),
        ("not_contains: Not", "value: '> 1' #", "18:9: checks[0].expect[2].value: needs matches"),
        ("not_contains: Not", "severity: warn #", "18:9: checks[0].expect[2]: expects nothing"),
        (
            "section: {id: site, heading: {en: Our site, zh: 本地}}",
            "section: hww",
            "4:5: checks[0].section: is no section",
        ),
        (
            "section: {id: site, heading: {en: Our site, zh: 本地}}",
            "section: {id: site}",
            "4:5: checks[0].section: heading",
        ),
        (
            "title: {zh: 时钟偏差小于 50 毫秒, en: Clock offset below 50 ms}",
            "title: ''",
            "3:5: checks[0].title: must be a table",
        ),
        ("    command: {argv: [chronyc, -n, tracking], timeout: 5, root: true}\n", "", "2:5: checks[0]: needs either"),
    ],
)
def test_a_fault_in_an_own_check(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in NTP
    faults = _faults(tmp_path, NTP.replace(old, new, 1))
    assert any(found.startswith(f"site.yaml:{fault}") for found in faults), faults


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("method: GET", "method: POST", "9:7: checks[0].http.method: must be GET or HEAD"),
        ("https://api", "ftp://api", "8:7: checks[0].http.url: must be an http(s) address"),
        ("https://api", "https://user:pw@api", "8:7: checks[0].http.url: must be an http(s) address"),
        ("Bearer secrets.api_key", "Bearer sk-abc", "10:17: checks[0].http.headers.Authorization: must be a reference"),
        ("application/json", "a secrets.b c", "10:84: checks[0].http.headers.Accept: must be `secrets.NAME`"),
        ("X-Api-Key: secrets", "'X Api': secrets", "10:56: checks[0].http.headers.X Api: is not a header name"),
        ("$.items[0]", "$.items[x]", "14:7: checks[0].expect.json: must be a path"),
        ("equals: ok", 'equals: ok\n      value: "> 1"', "15:7: checks[0].expect.equals: stands beside value"),
        ("scope: endpoint", "scope: each-host", "5:5: checks[0].scope: http is asked from the jump host"),
        ("    expect:\n", "    command: [true]\n    expect:\n", "2:5: checks[0]: needs either command or http"),
    ],
)
def test_a_fault_in_an_own_http_check(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in HTTP
    faults = _faults(tmp_path, HTTP.replace(old, new, 1))
    assert any(found.startswith(f"site.yaml:{fault}") for found in faults), faults


def test_no_expectation_is_a_fault(tmp_path: Path) -> None:
    own = NTP[: NTP.index("    expect:")]
    assert _faults(tmp_path, own) == ["site.yaml:2:5: checks[0]: expect is missing"]
    assert _faults(tmp_path, own + "    expect: []\n") == [
        "site.yaml:13:5: checks[0].expect: must not be empty: without an expectation nothing could fail"
    ]


def test_a_plain_argv_list_is_enough(tmp_path: Path) -> None:
    own = NTP.replace("{argv: [chronyc, -n, tracking], timeout: 5, root: true}", "[chronyc, tracking]\n    timeout: 3")
    declared = _load(tmp_path, own).check("site.ntp-offset").declared
    assert declared is not None
    assert declared.probe == CommandProbe(("chronyc", "tracking"), 3)
