"""What is wrong with a catalogue file is said with file:line:column, all of it together."""

from __future__ import annotations

from pathlib import Path

import pytest

from dstui.catalogue import load_catalogue
from dstui.catalogue.source import Source
from dstui.model import CatalogueError

SECTIONS = """\
parts:
  - id: pre
    heading: {en: Before, zh: 部署前}
    sections:
      - {id: hw, heading: {en: Hardware, zh: 硬件}}
"""
CHECKS = """\
defaults: {kind: auto, scope: each-host, side_effect: S0, ttl: 3600}
checks:
  hw.memory:
    text: 内存
    title: Memory
    label: {en: Memory, zh: 内存}
    params:
      mem_min_gb: {type: number, default: 256}
"""
TEXTS = """\
hw.memory:
  why: {en: a, zh: 甲}
  rules:
    pass: {en: a, zh: 甲}
    fail: {en: a, zh: 甲}
    unknown: {en: a, zh: 甲}
  remedy: {en: a, zh: 甲}
  pitfalls: {en: a, zh: 甲}
  privileges: {en: a, zh: 甲}
  params:
    mem_min_gb: {en: a, zh: 甲}
"""


def _directory(tmp_path: Path, *, sections: str = SECTIONS, checks: str = CHECKS, texts: str = TEXTS) -> Path:
    for name, text in {"sections.yaml": sections, "checks/01-hw.yaml": checks, "texts/01-hw.yaml": texts}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_the_small_catalogue_is_fine(tmp_path: Path) -> None:
    catalogue = load_catalogue(directory=_directory(tmp_path))
    assert [check.id for check in catalogue.checks] == ["hw.memory"]
    assert catalogue.guidance("hw.memory").remedy.zh == "甲"


def _faults(directory: Path) -> list[str]:
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(directory=directory)
    return [line.removeprefix(f"{directory}/") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "    title: Memory\n",
            "    titel: Memory\n    title: Memory\n",
            "5:5: checks.hw.memory.titel: is not known here (did you mean 'title'?)",
        ),
        ("    title: Memory\n", "", "3:3: checks.hw.memory: title is missing"),
        ("title: Memory", "title: 12", "5:5: checks.hw.memory.title: must be text that is not empty"),
        ("text: 内存", "text: ''", "4:5: checks.hw.memory.text: must be text that is not empty"),
        ("label: {en: Memory, zh: 内存}", "label: {en: Memory}", "6:5: checks.hw.memory.label: zh is missing"),
        (
            "label: {en: Memory, zh: 内存}",
            "label: {en: Memory, zh: 内存, de: Speicher}",
            "6:33: checks.hw.memory.label.de: is not known here",
        ),
        (
            "kind: auto",
            "kind: drill",
            "3:3: checks.hw.memory.kind: must be one of auto, assisted, manual, load, rehearsal",
        ),
        (
            "    title: Memory\n",
            "    title: Memory\n    scope: hosts\n",
            "6:5: checks.hw.memory.scope: must be one of each-host, each-pair, cluster, endpoint, controller,"
            " organisation",
        ),
        ("ttl: 3600", "ttl: long", "3:3: checks.hw.memory.ttl: must be a number above 0"),
        ("side_effect: S0, ", "", "3:3: checks.hw.memory: side_effect is missing"),
        (
            "    title: Memory\n",
            "    title: Memory\n    roles: [workr]\n",
            "6:5: checks.hw.memory.roles: 'workr' is not a role;"
            " roles are head, worker, ray, lb, monitoring, storage, backup",
        ),
        (
            "    title: Memory\n",
            "    title: Memory\n    gpu_only: 1\n",
            "6:5: checks.hw.memory.gpu_only: must be true or false",
        ),
        (
            "    title: Memory\n",
            "    title: Memory\n    prerequisites: [hw.gone]\n",
            "6:5: checks.hw.memory.prerequisites: hw.memory waits for 'hw.gone', which is no check",
        ),
        (
            "    title: Memory\n",
            "    title: Memory\n    prerequisites: [hw.memory]\n",
            "6:5: checks.hw.memory.prerequisites: hw.memory waits for hw.memory, which waits for it",
        ),
        (
            "  hw.memory:",
            "  sw.memory:",
            "3:3: checks.sw.memory: must be named hw.something, in lower case with hyphens",
        ),
        (
            "type: number",
            "type: integer",
            "8:20: checks.hw.memory.params.mem_min_gb.type: must be one of number, count, text, flag, texts, counts,"
            " numbers, table, tables, with ? where empty is allowed",
        ),
        (
            "default: 256",
            "default: lots",
            "8:34: checks.hw.memory.params.mem_min_gb.default: must be a number, not 'lots'",
        ),
        (", default: 256", "", "8:7: checks.hw.memory.params.mem_min_gb: default is missing"),
        (
            "default: 256",
            "default: 256, from: Expect.Driver",
            "8:48: checks.hw.memory.params.mem_min_gb.from: must be a dotted inventory path such as expect.driver",
        ),
        (
            "mem_min_gb:",
            "memMin:",
            "8:7: checks.hw.memory.params.memMin: must be named in lower case with underscores",
        ),
    ],
)
def test_a_fault_in_a_check(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in CHECKS
    faults = _faults(_directory(tmp_path, checks=CHECKS.replace(old, new, 1)))
    assert f"checks/01-hw.yaml:{fault}" in faults


def test_all_faults_come_together_in_the_order_of_the_file(tmp_path: Path) -> None:
    broken = CHECKS.replace("title: Memory", "title: 1").replace("default: 256", "default: lots")
    faults = _faults(_directory(tmp_path, checks=broken.replace("text: 内存", "text: 2")))
    assert [fault.split(":")[1] for fault in faults] == ["4", "5", "8"]


def test_an_id_twice_is_a_key_twice(tmp_path: Path) -> None:
    twice = CHECKS + CHECKS.split("checks:\n")[1]
    assert _faults(_directory(tmp_path, checks=twice)) == [
        "checks/01-hw.yaml:9:3: checks.hw.memory: this key already stands above"
    ]


def test_several_keys_twice(tmp_path: Path) -> None:
    twice = CHECKS.replace("    title: Memory\n", "    title: A\n    title: B\n").replace("256}", "256, type: flag}")
    assert _faults(_directory(tmp_path, checks=twice)) == [
        "checks/01-hw.yaml:6:5: checks.hw.memory.title: this key already stands above",
        "checks/01-hw.yaml:9:48: checks.hw.memory.params.mem_min_gb.type: this key already stands above",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("checks: [\n", "checks/01-hw.yaml:2:1: is not valid YAML"),
        ("checks: {a: *nowhere}\n", "checks/01-hw.yaml:1:13: is not valid YAML"),
        ("checks: !!python/object:os.system {}\n", "checks/01-hw.yaml:1:9: is not valid YAML"),
        ("- a\n", "checks/01-hw.yaml:1:1: must be a table of key: value"),
        ("checks:\n  1: {}\n", "checks/01-hw.yaml:2:3: checks.1: the key 1 must be text; put it in quotes"),
    ],
)
def test_a_file_that_is_no_table_of_checks(tmp_path: Path, text: str, fault: str) -> None:
    assert any(found.startswith(fault) for found in _faults(_directory(tmp_path, checks=text)))


def test_a_section_without_its_file(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    (directory / "checks/01-hw.yaml").unlink()
    assert _faults(directory) == ["checks/01-hw.yaml: cannot be read (No such file or directory)"]


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    (directory / "checks/01-hw.yaml").write_bytes(b"checks: \xff\n")
    assert _faults(directory) == ["checks/01-hw.yaml: is not UTF-8 text (byte 8)"]


def test_a_fault_in_the_sections(tmp_path: Path) -> None:
    sections = SECTIONS.replace("heading: {en: Hardware, zh: 硬件}", "heading: {en: Hardware}")
    assert _faults(_directory(tmp_path, sections=sections)) == [
        "sections.yaml:5:18: parts[0].sections[0].heading: zh is missing"
    ]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("why: {en: a, zh: 甲}", "why: {en: a}", "2:3: hw.memory.why: zh is missing"),
        ("    fail: {en: a, zh: 甲}\n", "", "3:3: hw.memory.rules: fail is missing"),
        ("    pass:", "    passed:", "4:5: hw.memory.rules.passed: is not known here (did you mean 'pass'?)"),
        ("    pass:", "    not-run:", "4:5: hw.memory.rules.not-run: is not known here"),
        ("    mem_min_gb: {en: a, zh: 甲}\n", "", "10:3: hw.memory.params: mem_min_gb is missing"),
        ("    mem_min_gb:", "    mem_min:", "11:5: hw.memory.params.mem_min: is not known here"),
        ("hw.memory:", "hw.memry:", "1:1: hw.memory is missing"),
        (
            "  params:",
            "  snippet: {language: bash, code: x, lang: y}\n  params:",
            "10:38: hw.memory.snippet.lang: is not known here",
        ),
    ],
)
def test_a_fault_in_the_long_texts_shows_when_they_are_read(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in TEXTS
    catalogue = load_catalogue(directory=_directory(tmp_path, texts=TEXTS.replace(old, new, 1)))
    with pytest.raises(CatalogueError) as caught:
        catalogue.guidance("hw.memory")
    assert any(f"texts/01-hw.yaml:{fault}" in line for line in str(caught.value).splitlines())


def test_dates_stay_text() -> None:
    assert Source("x.yaml", "at: 2026-09-01\n").values() == {"at": "2026-09-01"}


def test_the_line_of_a_value_that_is_not_there_is_its_parents() -> None:
    source = Source("x.yaml", "a:\n  b: [1,\n    2]\n")
    assert source.line(("a", "b", 1)) == 3
    assert source.line(("a", "c")) == 1
    assert source.line(()) == 1
