"""model.test-cases: files of cases as teams write them, whole and broken; every fault names its file and line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.catalogue import Catalogue, load_catalogue
from dstui.facts.case import FleetCase, Params, Site
from dstui.facts.model_cases import CaseFile, ModelCases
from dstui.gather.model_cases import case_file, observe_model_cases, read_all
from dstui.gather.observing import Observing
from dstui.inventory import load_inventory
from dstui.judge import model_cases
from dstui.model import Ruling, Verdict

EXAMPLE = Path(__file__).parents[2] / "docs" / "cases.example.yaml"
OWN = EXAMPLE.read_text(encoding="utf-8").replace("example-", "shop-")


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture
def judge(catalogue: Catalogue) -> Callable[..., Ruling]:
    def judged(folder: Path, **own: object) -> Ruling:
        files, missing = read_all(str(folder))
        found = ModelCases(folder.name, str(folder), files, missing)
        thresholds = [p.threshold() for p in catalogue.check("model.test-cases").params]
        params = Params([replace(t, value=own.get(t.param, t.value)) for t in thresholds])
        site = Site("ds", "lab", "live", (), "/mnt", None, None, "bare-metal", True, "none")
        (ruling,) = model_cases.judge(FleetCase(site, {}, params, {}, {ModelCases: found}, 0.0))
        return ruling

    return judged


def words(ruling: Ruling) -> str:
    return " | ".join([ruling.observed.en, ruling.rule.en, *(note.en for note in ruling.notes)])


def write(folder: Path, text: str, name: str = "ours.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_example_is_well_formed_and_nobodys_own_work(judge: Callable[..., Ruling], tmp_path: Path) -> None:
    ruling = judge(write(tmp_path, EXAMPLE.read_text(encoding="utf-8")))
    assert ruling.verdict is Verdict.WARN
    assert "only dstui's built-in cases" in words(ruling)


def test_cases_of_the_teams_own_pass(judge: Callable[..., Ruling], tmp_path: Path) -> None:
    ruling = judge(write(tmp_path, OWN))
    assert ruling.verdict is Verdict.PASS, words(ruling)
    assert ruling.observed.en.startswith("10 cases in 1 files: basic 3, multilingual 2, error 2")


def test_json_lines(judge: Callable[..., Ruling], tmp_path: Path) -> None:
    rows = [
        {
            "id": f"q{n}",
            "category": category,
            "messages": [{"role": "user", "content": "😀?"}],
            "expect": {"contains": "x"},
        }
        for n, category in enumerate(["basic", "long", "multilingual", "concurrency", "error", "domain"] * 2)
    ]
    folder = write(tmp_path, "\n".join(json.dumps(row) for row in rows), "all.jsonl")
    assert judge(folder).verdict is Verdict.PASS
    write(tmp_path, json.dumps(rows[0]) + "\n{oops\n", "more.jsonl")
    ruling = judge(folder)
    assert ruling.verdict is Verdict.FAIL
    assert "more.jsonl:2:2: no JSON" in words(ruling)
    assert "id q0 is taken, first at" in words(ruling)


def _without(part: str) -> Callable[[str], str]:
    return lambda text: text.replace(part, "")


def _with(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


WRONG: list[tuple[Callable[[str], str], Verdict, str]] = [
    (_without("  expect: {contains: Paris, not_contains: London}\n"), Verdict.WARN, "1 cases expect nothing"),
    (_with("shop-domain", "example-domain"), Verdict.WARN, "no domain case of its own"),
    (_with("category: long", "category: basic"), Verdict.FAIL, "no case in: long"),
    (_with("category: domain", "category: basic"), Verdict.FAIL, "no case in: domain"),
    (_with("shop-basic-capital", "shop-basic-sum"), Verdict.FAIL, "ours.yaml:15: id shop-basic-sum is taken"),
    (lambda text: text[: text.index("- id: shop-domain")], Verdict.FAIL, "9 cases, 10 are wanted"),
    (_with("category: long", "kind: long"), Verdict.FAIL, "`kind` is not known here"),
    (_without("  category: long\n"), Verdict.FAIL, "the case has no `category`"),
    (_with("status: 400", "status: 4000"), Verdict.FAIL, "`status` is an HTTP status"),
    (_with('regex: "12|十二"', 'regex: "("'), Verdict.FAIL, "no regular expression"),
    (_with("max_latency_s: 10}", "max_latency_s: soon}"), Verdict.FAIL, "ours.yaml:13:56: `max_latency_s` is seconds"),
    (_with("role: system", "role: root"), Verdict.FAIL, "a message has a `role`"),
    (_without("  body: {model: deepseek-llm-7b-chat}\n"), Verdict.FAIL, "one of `messages` and `body`"),
    (lambda text: text + "\n  - [", Verdict.FAIL, "ours.yaml:"),
    (lambda text: "cases:\n" + "\n".join("  " + line for line in text.splitlines()), Verdict.PASS, "10 cases"),
    (lambda text: "hello", Verdict.FAIL, "a list of cases is wanted"),
    (lambda text: "", Verdict.FAIL, "no cases in"),
]


@pytest.mark.parametrize(("change", "verdict", "said"), WRONG, ids=[said for _, _, said in WRONG])
def test_what_can_be_wrong(
    judge: Callable[..., Ruling], tmp_path: Path, change: Callable[[str], str], verdict: Verdict, said: str
) -> None:
    changed = change(OWN)
    assert changed != OWN
    ruling = judge(write(tmp_path, changed))
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


def test_places_that_hold_nothing(judge: Callable[..., Ruling], tmp_path: Path) -> None:
    assert judge(tmp_path).verdict is Verdict.FAIL
    assert judge(tmp_path / "nowhere").verdict is Verdict.FAIL
    write(tmp_path, OWN, "notes.txt")
    assert judge(tmp_path).verdict is Verdict.FAIL
    write(tmp_path, OWN)
    assert judge(tmp_path / "*.yaml").verdict is Verdict.PASS
    assert judge(tmp_path / "ours.yaml").verdict is Verdict.PASS
    assert judge(tmp_path / "ours.yaml", min_cases=11).verdict is Verdict.FAIL


def test_what_cannot_be_read_is_unknown(judge: Callable[..., Ruling], tmp_path: Path) -> None:
    write(tmp_path, OWN)
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    ruling = judge(tmp_path)
    assert ruling.verdict is Verdict.UNKNOWN, words(ruling)
    assert "loop.yaml" in words(ruling)
    ruling = judge(tmp_path / "ours.yaml" / "below")
    assert ruling.verdict is Verdict.UNKNOWN


def test_a_file_that_is_too_large_is_not_read(judge: Callable[..., Ruling], tmp_path: Path) -> None:
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(3 << 20)
    assert judge(tmp_path).verdict is Verdict.UNKNOWN


def test_no_utf_8_names_the_line(tmp_path: Path) -> None:
    found = case_file("x.yaml", b"# a\n# \xff\n")
    assert found.faults[0].place == "x.yaml:2:1"


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode), st.sampled_from(["a.yaml", "a.jsonl"]))
def test_any_content_is_cases_or_faults(content: bytes, name: str) -> None:
    found = case_file(name, content)
    assert isinstance(found, CaseFile)
    assert all(fault.place.startswith(f"{name}:") for fault in found.faults)


def test_relative_to_the_inventory(catalogue: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    write(tmp_path / "cases", OWN)
    file = tmp_path / "inventory.yaml"
    file.write_text(
        "version: 1\ncluster: {name: ds, environment: lab}\nssh: {user: u, agent: false, known_hosts: /x}\n"
        "hosts: [{name: one, roles: [head], data_ip: 10.0.0.1}]\nnetwork: {cluster_cidrs: [10.0.0.0/24]}\n"
    )
    inventory = load_inventory(file)
    params = Params([p.threshold() for p in catalogue.check("model.test-cases").params])
    found = asyncio.run(
        observe_model_cases(Observing(inventory, inventory.site(), lambda check, host: params, {}, {}, "0"))
    )
    assert found.place == str(tmp_path / "cases")
    assert len(found.cases) == 10
