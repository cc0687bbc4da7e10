"""The engine runs without a terminal: looked at while it runs, besides the contracts of import-linter."""

import subprocess
import sys

import pytest

from dstui import probes
from dstui.catalogue import load_catalogue
from dstui.gather.observing import OBSERVERS, observer
from dstui.judge.registry import HostJudge

ENGINE = "dstui.headless, dstui.engine, dstui.opening, dstui.gather.ssh, dstui.gather.dial, dstui.gather.choreographer"


def _modules_after(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_the_engine_never_loads_textual() -> None:
    loaded = _modules_after(f"import {ENGINE}, dstui.report.markdown, dstui.report.json_report")
    assert "asyncssh" in loaded
    assert not {m for m in loaded if m.split(".")[0] in ("textual", "screens")}


def test_a_headless_command_never_loads_textual() -> None:
    loaded = _modules_after("from dstui.cli import main; main(['checks'])")
    assert not {m for m in loaded if m.split(".")[0] in ("textual", "screens", "asyncssh", "httpx")}


def test_the_first_paint_pays_for_no_transport() -> None:
    loaded = _modules_after("import screens.app, dstui.catalogue; dstui.catalogue.load_catalogue()")
    assert not {m for m in loaded if m.split(".")[0] in ("asyncssh", "httpx", "pydantic", "cryptography")}


@pytest.mark.parametrize("check_id", sorted(probes.judges()))
def test_every_judge_has_its_check_and_its_groups(check_id: str) -> None:
    judge = probes.judges()[check_id]
    assert check_id in load_catalogue()
    assert set(judge.groups) <= set(probes.groups())
    prefixes = {p.split(".")[0] for p in judge.evidence}
    assert prefixes or not isinstance(judge, HostJudge)
    known = {"ports", "nonce", "vantage", "root-attempt", "ladder", *OBSERVERS}
    assert set(judge.needs) <= known


def test_every_observer_is_there_and_wanted() -> None:
    wanted = {need for judge in probes.judges().values() for need in judge.needs}
    for need in OBSERVERS:
        assert callable(observer(need))
        assert need in wanted, f"nobody wants {need}"


def test_a_section_is_built_whole() -> None:
    built = set(probes.judges())
    sections = {check_id.partition(".")[0] for check_id in built}
    assert built == {c.id for c in load_catalogue().checks if c.section in sections}
    assert {"hw", "sw", "net", "stor", "hard"} <= sections
