"""The generator as it is sent to Ray nodes: sources over standard input, no file, no package but Python's own."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files

from dstui.load.agent.ray_driver import PARTS
from dstui.load.agent.spec import Spec

_PROGRAM = """
import asyncio, json, sys
given = json.loads(sys.stdin.readline())
exec(compile(given["driver"], "driver", "exec"))
install([tuple(each) for each in given["sources"]])
from dstui.load.agent.spec import spec_of
from dstui.load.agent.stage import Stage
told = asyncio.run(Stage(spec_of(given["spec"]), lambda told: None).run())
others = sorted({name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"__main__"})
print(json.dumps({"counts": told["counts"], "others": others}))
"""


def source(part: str) -> str:
    return files("dstui.load.agent").joinpath(f"{part}.py").read_text("utf-8")


def test_it_runs_without_any_package() -> None:
    spec = Spec(
        host="127.0.0.1", port=9, path="/v1/chat/completions", model="m", users=(0,), all_users=1, window=0.3,
        drain=0.2, timeout=1.0,
    )  # fmt: skip
    given = {
        "driver": source("ray_driver"), "sources": [[part, source(part)] for part in PARTS], "spec": spec.plain()
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _PROGRAM], input=json.dumps(given) + "\n", capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["others"] == ["dstui"]
    assert told["counts"]["begun"] >= 1 and told["counts"]["ok"] == 0


def test_every_module_of_it_is_sent() -> None:
    have = {each.name.removesuffix(".py") for each in files("dstui.load.agent").iterdir() if each.name.endswith(".py")}
    assert set(PARTS) == have - {"__init__", "__main__", "ray_driver"}
