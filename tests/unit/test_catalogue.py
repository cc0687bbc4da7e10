"""The shipped catalogue against the document it is made from."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from dstui.catalogue import HOST_REACHABLE, Catalogue, Check, load_catalogue
from dstui.catalogue.document import end_of_life, load_document
from dstui.model import Cadence, CatalogueError, Kind, Scope, SideEffect, Text, Verdict

DOCUMENT = Path(__file__).parents[1] / "data" / "catalogue" / "checklist.zh.md"
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


def test_every_item_is_there_word_for_word_and_in_order(catalogue: Catalogue) -> None:
    items = [line[6:] for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("- [ ] ")]
    assert len(items) == 99
    assert [check.title.zh for check in catalogue.checks] == items
    assert [check.number for check in catalogue.checks] == list(range(1, 100))


def test_the_document_can_be_rebuilt_byte_for_byte(catalogue: Catalogue) -> None:
    document = load_document()
    blocks = [f"# {document.title.zh}", document.intro.zh]
    for part in catalogue.parts:
        blocks.append(f"## {part.heading.zh}")
        for section in part.sections:
            if not part.is_section:
                blocks.append(f"### {section.heading.zh}")
            blocks.extend(_items(catalogue, section.checks))
    blocks += [f"## {document.conclusion_heading.zh}", document.conclusion.zh, f"## {document.appendix_heading.zh}"]
    blocks += [f"```{document.language}\n{document.script.zh}\n```", document.closing.zh]
    assert "\n\n".join(blocks).rstrip() == DOCUMENT.read_text(encoding="utf-8").rstrip()


def _items(catalogue: Catalogue, checks: tuple[Check, ...]) -> list[str]:
    """List items run together until a code block follows one of them."""
    blocks: list[str] = []
    joins = False
    for check in checks:
        line = f"- [ ] {check.title.zh}"
        if joins:
            blocks[-1] += f"\n{line}"
        else:
            blocks.append(line)
        snippet = catalogue.guidance(check.id).snippet
        joins = snippet is None
        if snippet is not None:
            blocks.append(f"```{snippet.language}\n{snippet.code}\n```")
    return blocks


KINDS = {
    "hw": (5, 0, 0, 0, 0),
    "sw": (6, 0, 0, 0, 0),
    "net": (5, 0, 0, 0, 0),
    "stor": (4, 0, 0, 0, 0),
    "hard": (4, 1, 0, 0, 0),
    "model": (5, 0, 0, 0, 0),
    "ray": (4, 0, 0, 0, 0),
    "vllm": (5, 0, 0, 0, 0),
    "api": (5, 0, 0, 0, 0),
    "lb": (5, 0, 0, 0, 0),
    "func": (5, 0, 0, 0, 0),
    "perf": (0, 0, 0, 0, 6),
    "mon": (7, 0, 0, 0, 0),
    "ha": (0, 0, 0, 5, 0),
    "sec": (3, 2, 0, 0, 0),
    "doc": (0, 5, 0, 0, 0),
    "ops": (0, 5, 0, 0, 0),
    "team": (0, 4, 1, 0, 0),
    "per": (4, 2, 0, 0, 1),
}
"""auto, assisted, manual, rehearsal, load: how many of each a section has."""


def test_kinds_per_section(catalogue: Catalogue) -> None:
    order = (Kind.AUTO, Kind.ASSISTED, Kind.MANUAL, Kind.REHEARSAL, Kind.LOAD)
    counted = {s.id: Counter(check.kind for check in s.checks) for s in catalogue.sections}
    assert {name: tuple(kinds[kind] for kind in order) for name, kinds in counted.items()} == KINDS
    total = Counter(check.kind for check in catalogue.checks)
    assert [total[kind] for kind in order] == [67, 19, 1, 5, 7]


def test_cadence_belongs_to_the_periodic_section_alone(catalogue: Catalogue) -> None:
    assert {check.section for check in catalogue.checks if check.cadence} == {"per"}
    cadences = Counter(check.cadence for check in catalogue.section("per").checks)
    assert cadences == {Cadence.DAILY: 2, Cadence.WEEKLY: 2, Cadence.MONTHLY: 2, Cadence.QUARTERLY: 1}


def test_what_loads_or_breaks_is_only_what_may(catalogue: Catalogue) -> None:
    by_class = {effect: {c.id for c in catalogue.checks if c.side_effect is effect} for effect in SideEffect}
    assert by_class[SideEffect.S4] == {"ha.failover", "ha.node-failure", "ha.auto-recovery", "ha.data-persistence"}
    assert {c for c in by_class[SideEffect.S3] if not c.startswith("perf.")} == {"per.monthly-performance"}
    assert {c.id for c in catalogue.checks if c.on_request is SideEffect.S3} == {
        "hw.nic-speed",
        "sw.container-toolkit",
        "model.single-gpu-load",
        "vllm.single-gpu-load",
    }
    assert {c.id for c in catalogue.checks if c.confirm_in_production} == {
        "api.rate-limit",
        "mon.alert-rules",
        "func.long-text",
    }


@pytest.mark.parametrize(
    ("check_id", "ttl"),
    [
        ("hw.memory", 3600),
        ("hard.firewall", 3600),
        ("ray.head-started", 300),
        ("api.health", 300),
        ("doc.api", 86_400),
        ("perf.gpu-util", 30 * 86_400),
        ("ha.failover", 90 * 86_400),
        ("team.trained", 180 * 86_400),
    ],
)
def test_time_to_live(catalogue: Catalogue, check_id: str, ttl: float) -> None:
    assert catalogue.check(check_id).ttl == ttl


def test_prerequisites(catalogue: Catalogue) -> None:
    assert catalogue.check("hw.memory").prerequisites == (HOST_REACHABLE,)
    assert catalogue.check("vllm.serve-app").prerequisites == ("ray.head-started",)
    assert catalogue.check("perf.gpu-util").prerequisites == ("api.started", "func.basic-inference")
    assert {c.id for c in catalogue.checks if "mon.prometheus" in c.prerequisites} >= {
        "mon.gpu-util",
        "mon.memory",
        "mon.api-latency",
        "mon.error-rate",
        "mon.alert-rules",
    }


def _texts(catalogue: Catalogue, check: Check) -> dict[str, Text]:
    guidance = catalogue.guidance(check.id)
    texts = {"title": check.title, "label": check.label, "why": guidance.why, "remedy": guidance.remedy}
    texts |= {"pitfalls": guidance.pitfalls, "privileges": guidance.privileges}
    texts |= {f"rule {verdict}": text for verdict, text in guidance.rules.items()}
    return texts | {f"param {name}": text for name, text in guidance.params.items()}


def test_every_text_is_in_both_languages(catalogue: Catalogue) -> None:
    for check in catalogue.checks:
        for name, text in _texts(catalogue, check).items():
            assert text.en.strip(), (check.id, name)
            assert text.zh.strip(), (check.id, name)
            bare = text.en.replace("等保2.0", "")
            assert not HAN.search(bare), f"{check.id} {name} has Chinese in its English: {text.en}"
            if name != "label" and "`" not in text.en:
                assert HAN.search(text.zh), f"{check.id} {name} has no Chinese: {text.zh}"


def test_every_check_has_its_rules(catalogue: Catalogue) -> None:
    for check in catalogue.checks:
        rules = catalogue.guidance(check.id).rules
        assert {Verdict.PASS, Verdict.FAIL, Verdict.WARN, Verdict.UNKNOWN} <= set(rules), check.id
        assert Verdict.NOT_RUN not in rules


def test_every_parameter_is_described(catalogue: Catalogue) -> None:
    for check in catalogue.checks:
        assert list(catalogue.guidance(check.id).params) == [param.name for param in check.params]


def test_texts_refer_to_checks_that_exist(catalogue: Catalogue) -> None:
    sections = "|".join(section.id for section in catalogue.sections)
    mentioned = re.compile(rf"`((?:{sections})\.[a-z0-9-]+)`")
    inventory_keys = {"team.members", "team.roles"}
    for check in catalogue.checks:
        for name, text in _texts(catalogue, check).items():
            for found in mentioned.findall(f"{text.en} {text.zh}"):
                assert found in catalogue or found in inventory_keys, (check.id, name, found)


def test_code_blocks_follow_the_items_they_follow_in_the_document(catalogue: Catalogue) -> None:
    with_code = [check.number for check in catalogue.checks if catalogue.guidance(check.id).snippet]
    assert with_code == [31, 32, 34, 35, 50]


def test_labels_fit_a_narrow_tree(catalogue: Catalogue) -> None:
    assert max(len(check.label.en) for check in catalogue.checks) <= 24
    assert max(len(check.label.zh) for check in catalogue.checks) <= 16


def test_gpu_checks_apply_to_gpu_hosts_only(catalogue: Catalogue) -> None:
    driver = catalogue.check("sw.nvidia-driver")
    assert driver.applies_to({"worker"}, gpu=True)
    assert not driver.applies_to({"worker"}, gpu=False)
    assert not driver.applies_to({"lb"}, gpu=True)
    assert catalogue.check("hard.ssh-keys").applies_to({"lb"}, gpu=False)
    assert not catalogue.check("hw.memory").applies_to({"lb"}, gpu=False)


def test_pairs_and_matrices_have_their_scope(catalogue: Catalogue) -> None:
    assert {c.id for c in catalogue.checks if c.scope is Scope.EACH_PAIR} == {"net.peer-ping", "net.ports"}
    assert catalogue.check("stor.rw-all-nodes").scope is Scope.CLUSTER


def test_a_mistyped_name_gets_the_nearest_known_one(catalogue: Catalogue) -> None:
    with pytest.raises(CatalogueError, match=r"no check 'hw\.gpumodel' \(did you mean 'hw\.gpu-model'\?\)"):
        catalogue.check("hw.gpumodel")
    with pytest.raises(CatalogueError, match=r"did you mean 'hw\.memory\.mem_min_gb'\?"):
        catalogue.param("hw.memory.mem_min")
    with pytest.raises(CatalogueError, match=r"no section 'hww' \(did you mean 'hw'\?\)"):
        catalogue.section("hww")
    with pytest.raises(CatalogueError, match=r"hw\.memory has no parameter 'mem_min_g' .*'mem_min_gb'"):
        catalogue.check("hw.memory").param("mem_min_g")
    with pytest.raises(CatalogueError):
        catalogue.guidance("hw.nothing")


def test_checks_can_be_keys(catalogue: Catalogue) -> None:
    assert len({check: check.id for check in catalogue.checks}) == 99


def test_end_of_life_dates_are_months(catalogue: Catalogue) -> None:
    dates = end_of_life()
    shown = catalogue.check("sw.os-version").param("eol_table").value
    assert isinstance(shown, dict)
    assert shown.items() <= dates["ubuntu"].items()
    assert dates["python"]["3.10"] == "2026-10"


def test_the_english_appendix_runs_the_same_commands() -> None:
    script = load_document().script
    assert script.en != script.zh
    zh, en = ([line for line in text.splitlines() if not re.match(r"echo|# ", line)] for text in (script.zh, script.en))
    assert en == zh
