"""The lab is built once for all tests. They change something, look, and undo it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from reallab.cluster import Lab
from reallab.operator import Operator, Outcome

SECTIONS = ("hw", "sw", "net", "stor", "hard")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.fail("tests/real makes network namespaces and mounts, so it needs root: sudo make test-real")
    with Lab(tmp_path_factory.mktemp("controller")) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def left_as_found(lab: Lab) -> Iterator[None]:
    """No hole stays in a firewall: the next file's lab is that of this one."""
    before = _walls(lab)
    yield
    assert _walls(lab) == before


def _walls(lab: Lab) -> dict[str, str]:
    return {name: host.run("nft", "list", "ruleset") for name, host in lab.hosts.items()}


@pytest.fixture(scope="session")
def operator(lab: Lab) -> Operator:
    return Operator(lab, lab.folder)


@pytest.fixture(scope="session")
def healthy(operator: Operator) -> Outcome:
    """One run over the five host-side sections while nothing is wrong."""
    return operator.run(*(f"--section={section}" for section in SECTIONS))
