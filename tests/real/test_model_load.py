"""model.single-gpu-load: a real vLLM is told to load a model on a lab host, whose GPUs are NVML's word alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from reallab import machine, tiny_deepseek
from reallab.cluster import NAMES, SHARE, Lab
from reallab.host import Host
from reallab.operator import Found, Operator
from reallab.vllm_server import ENVIRONMENT, furnish

pytestmark = pytest.mark.real

CHECK = "model.single-gpu-load"
FOLDER = "/export/deepseek/load/tiny"
MODEL = f"{SHARE}/load/tiny"
PYTHON = "/opt/vllm/python"
WORKER = "gpu-02"
IDLE = "mem_used=0\nprocs=\n"


@pytest.fixture(scope="module")
def model(lab: Lab) -> Iterator[str]:
    folder = lab.hosts["filer"].place(FOLDER)
    shutil.copytree(tiny_deepseek.ready(), folder)
    lab.hosts["filer"].run("chown", "-R", "share:", str(Path(FOLDER).parent))
    yield MODEL
    shutil.rmtree(folder.parent)


@pytest.fixture(scope="module")
def python(lab: Lab) -> str:
    """vLLM's Python on the worker, as the login user starts it: with the environment that a CPU build wants."""
    host = lab.hosts[WORKER]
    venv = furnish(host)
    given = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items() if name != "HOME")
    host.put(PYTHON, f'#!/bin/sh\nexec env {given} {venv}/bin/python "$@"\n', 0o755)
    return PYTHON


@contextmanager
def gpus(hosts: list[Host], said: str) -> Iterator[None]:
    with ExitStack() as undo:
        for host in hosts:
            undo.enter_context(host.changed(machine.NVML, lambda old: old + said))
        yield


def load(
    lab: Lab, operator: Operator, path: str, *options: str, python: str = machine.PYTHON, **params: object
) -> Found:
    inventory = lab.inventory(
        "load",
        model={"path": path, "served_name": "tiny"},
        runtime={"python": python},
        thresholds={f"{CHECK}.{name}": value for name, value in params.items()},
    )
    (found,) = operator.run(CHECK, *options, inventory=inventory)
    return found


def everyone(lab: Lab) -> list[Host]:
    return [lab.hosts[name] for name in NAMES]


def test_nothing_is_loaded_unasked(lab: Lab, operator: Operator, model: str) -> None:
    with gpus(everyone(lab), IDLE):
        found = load(lab, operator, model)
    assert found.said == "unknown(not-run)", found.words
    assert found.target == f"host:{WORKER}", "the first worker"
    assert "the estimate fits, not loaded" in found.words


def test_no_gpu_that_somebody_uses_is_touched(lab: Lab, operator: Operator, model: str) -> None:
    """All of them are busy; on one host by memory that no process owns up to."""
    with (
        gpus(everyone(lab), "mem_used=0\nprocs=4711:1000\n"),
        gpus([lab.hosts[WORKER]], "procs=\nmem_used=2000000000\n"),
    ):
        found = load(lab, operator, model, f"--allow-load={CHECK}")
    assert found.said == "unknown(cannot-tell)", found.words
    assert "no idle GPU" in found.words


def test_a_runtime_without_vllm(lab: Lab, operator: Operator, model: str) -> None:
    with gpus(everyone(lab), IDLE):
        found = load(lab, operator, model, f"--allow-load={CHECK}")
    assert found.said == "unknown(tool-missing)", found.words
    assert "the runtime's Python has no vllm" in found.words


@pytest.mark.parametrize("framework", ["vllm", "safetensors"])
def test_a_load_that_goes_to_the_cpu_is_no_load_on_a_gpu(
    lab: Lab, operator: Operator, model: str, python: str, framework: str
) -> None:
    """vLLM's CPU build loads the model and would generate: the false green of this check."""
    with gpus(everyone(lab), IDLE):
        found = load(lab, operator, model, f"--allow-load={CHECK}", python=python, framework=framework)
    assert found.said == "fail", found.words
    assert "it goes to the cpu, not to a GPU" in found.words
    left = [line for line in lab.hosts[WORKER].processes().values() if "dstui-load" in line]
    assert left == []
