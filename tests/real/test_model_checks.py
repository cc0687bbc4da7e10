"""model.*: a model of DeepSeek-V3's shape on a real network share, as it should be and in each way it can be broken."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reallab import tiny_deepseek
from reallab.cluster import ADDRESSES, SHARE, Lab
from reallab.host import Host
from reallab.operator import Found, Operator, Outcome

pytestmark = pytest.mark.real

FILES = ("model.present", "model.integrity", "model.memory-fit")
CHECKS = (*FILES, "model.test-cases")
EXPORT = "/export/deepseek/models"
OWNER = 2100
EXAMPLE = Path(__file__).parents[2] / "docs" / "cases.example.yaml"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
_NUMBER = itertools.count(1)


def split_up(folder: Path) -> None:
    """The one weight file as two shards with an index, as the large models come."""
    whole = folder / "model.safetensors"
    content = whole.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    header.pop("__metadata__", None)
    names = sorted(header, key=lambda name: header[name]["data_offsets"][0])
    weight_map = {}
    for file, part in ((FIRST, names[: len(names) // 2]), (SECOND, names[len(names) // 2 :])):
        start, end = header[part[0]]["data_offsets"][0], header[part[-1]]["data_offsets"][1]
        table = {
            name: {**header[name], "data_offsets": [offset - start for offset in header[name]["data_offsets"]]}
            for name in part
        }
        text = json.dumps(table).encode()
        (folder / file).write_bytes(len(text).to_bytes(8, "little") + text + body[start:end])
        weight_map |= dict.fromkeys(part, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": len(body)}, "weight_map": weight_map}))
    whole.unlink()


def sums(folder: Path) -> None:
    rows = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("\n".join(rows) + "\n")


@contextmanager
def world(lab: Lab, change: Callable[[Path], object] = lambda folder: None) -> Iterator[str]:
    """The model on the file server, changed by `change`. Gives its path on the hosts; a new one each time."""
    name = f"tiny-{next(_NUMBER)}"
    folder = lab.hosts["filer"].place(f"{EXPORT}/{name}")
    shutil.copytree(tiny_deepseek.ready(), folder)
    split_up(folder)
    sums(folder)
    change(folder)
    lab.hosts["filer"].run("chown", "-R", f"{OWNER}:{OWNER}", EXPORT)
    try:
        yield f"{SHARE}/models/{name}"
    finally:
        shutil.rmtree(folder)


def inventory(lab: Lab, path: str, **blocks: Any) -> Path:
    model = {"path": path, "served_name": "deepseek-tiny", "architecture": "DeepseekV3ForCausalLM"}
    return lab.inventory("model", **{"model": {**model, "test_cases": "./cases"}, **blocks})


@pytest.fixture(scope="module")
def cases(lab: Lab) -> Path:
    folder = lab.folder / "cases"
    folder.mkdir()
    (folder / "ours.yaml").write_text(
        EXAMPLE.read_text(encoding="utf-8").replace("example-", "shop-"), encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="module")
def well(lab: Lab, operator: Operator, cases: Path) -> Outcome:
    with world(lab) as path:
        return operator.run(*CHECKS, inventory=inventory(lab, path))


def found(outcome: Outcome, check: str) -> Found:
    (only,) = (each for each in outcome if each.check == check)
    return only


def one(lab: Lab, operator: Operator, check: str, path: str, *options: str, **blocks: Any) -> Found:
    return found(operator.run(check, *options, inventory=inventory(lab, path, **blocks)), check)


@pytest.mark.parametrize("check", [*FILES, "model.test-cases"])
def test_a_whole_model_passes(well: Outcome, check: str) -> None:
    only = found(well, check)
    assert only.verdict == "pass", only.words


def test_what_is_said_of_a_whole_model(well: Outcome) -> None:
    assert "DeepseekV3ForCausalLM (deepseek_v3), bfloat16" in found(well, "model.present").words
    assert "on 3/3 nodes" in found(well, "model.present").words
    assert "2 weight files" in found(well, "model.integrity").words
    # 2 layers × (512 + 64) × 2 bytes.
    assert "2 L × (512 + 64) × 2 B = 2,304 B" in found(well, "model.memory-fit").words


def _truncated(folder: Path) -> None:
    with (folder / SECOND).open("r+b") as file:
        file.truncate((folder / SECOND).stat().st_size - 4096)


def _flipped(folder: Path) -> None:
    content = bytearray((folder / SECOND).read_bytes())
    content[-1000] ^= 1
    (folder / SECOND).write_bytes(bytes(content))


def _wrong_index(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = FIRST
    (folder / INDEX).write_text(json.dumps(index))


def _shard_that_is_not_there(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = "model-00003-of-00003.safetensors"
    (folder / INDEX).write_text(json.dumps(index))


def _incomplete(folder: Path) -> None:
    place = folder / ".cache" / "huggingface" / "download"
    place.mkdir(parents=True)
    (place / "c2VjcmV0.0123abcd.incomplete").write_bytes(bytes(1000))


def _pointers(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        file.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1000000\n")


def _no_hashes(folder: Path) -> None:
    (folder / "SHA256SUMS").unlink()


@pytest.mark.parametrize(
    ("check", "change", "verdict", "said"),
    [
        ("model.present", _shard_that_is_not_there, "fail", "model-00003-of-00003.safetensors"),
        ("model.present", _incomplete, "fail", "a download did not end"),
        ("model.present", _pointers, "fail", "git LFS pointers"),
        ("model.present", lambda folder: (folder / "config.json").unlink(), "fail", "config.json"),
        ("model.present", lambda folder: (folder / "chat_template.jinja").unlink(), "warn", "no chat template"),
        ("model.integrity", _truncated, "fail", f"{SECOND} ends 4,096 bytes early"),
        ("model.integrity", _flipped, "fail", f"{SECOND} has SHA-256"),
        ("model.integrity", _wrong_index, "fail", "not in the file that the index names: model.norm.weight"),
        ("model.integrity", _pointers, "fail", "is no safetensors file"),
        ("model.integrity", _no_hashes, "warn", "no hashes"),
        ("model.memory-fit", _truncated, "unknown", "ends 4,096 bytes early"),
    ],
)
def test_a_broken_model(
    lab: Lab, operator: Operator, check: str, change: Callable[[Path], object], verdict: str, said: str
) -> None:
    with world(lab, change) as path:
        only = one(lab, operator, check, path)
    assert only.verdict == verdict, only.words
    assert said in only.words


def test_a_model_that_is_not_there(lab: Lab, operator: Operator) -> None:
    only = one(lab, operator, "model.present", f"{SHARE}/models/none")
    assert only.verdict == "fail"
    for check in FILES[1:]:
        assert one(lab, operator, check, f"{SHARE}/models/none").verdict in ("fail", "unknown"), check


def test_what_waits_for_a_model_that_is_not_there(lab: Lab, operator: Operator) -> None:
    outcome = operator.run(*FILES, inventory=inventory(lab, f"{SHARE}/models/none"))
    assert {each.check: each.said for each in outcome} == {
        "model.present": "fail",
        "model.integrity": "unknown(blocked-by)",
        "model.memory-fit": "unknown(blocked-by)",
    }


@pytest.mark.parametrize(
    ("engine", "verdict", "said"),
    [
        ({"tensor_parallel_size": 3}, "fail", "4 attention heads cannot be shared by tp 3"),
        ({"pipeline_parallel_size": 3}, "fail", "2 layers, pp 3"),
        ({"tensor_parallel_size": 4, "gpu_memory_utilization": 0.01}, "fail", "the weights do not fit"),
        ({"tensor_parallel_size": 4, "max_model_len": 10**9}, "fail", "vLLM refuses to start"),
        ({"tensor_parallel_size": 4}, "pass", "2,304 B on every tensor-parallel rank"),
    ],
)
def test_how_it_is_spread(lab: Lab, operator: Operator, engine: dict[str, object], verdict: str, said: str) -> None:
    with world(lab) as path:
        only = one(lab, operator, "model.memory-fit", path, engine=engine)
    assert only.verdict == verdict, only.words
    assert said in only.words


def test_another_architecture(lab: Lab, operator: Operator) -> None:
    with world(lab) as path:
        model = {"path": path, "served_name": "m", "architecture": "LlamaForCausalLM"}
        only = one(lab, operator, "model.present", path, model=model)
    assert only.verdict == "fail"
    assert "expected LlamaForCausalLM" in only.words


def test_a_copy_on_one_node_only(lab: Lab, operator: Operator) -> None:
    """Outside the share, and the others do not have it."""
    host = lab.hosts["gpu-01"]
    shutil.copytree(tiny_deepseek.ready(), host.place("/opt/tiny"))
    host.run("chmod", "-R", "a+rX", "/opt/tiny")
    try:
        only = one(lab, operator, "model.present", "/opt/tiny")
    finally:
        shutil.rmtree(host.place("/opt/tiny"))
    assert only.verdict == "fail", only.words
    assert "gpu-02: /opt/tiny is not there" in only.words


def test_what_the_user_may_not_read(lab: Lab, operator: Operator) -> None:
    """The login user is the runtime user here: what it may not read, vLLM may not."""
    hosts = [lab.hosts[name] for name in ("gpu-01", "gpu-02", "gpu-03")]
    for host in hosts:
        shutil.copytree(tiny_deepseek.ready(), host.place("/opt/tiny"))
        host.run("chmod", "-R", "a+rX", "/opt/tiny")
        host.run("chmod", "0600", "/opt/tiny/model.safetensors")
    try:
        present = one(lab, operator, "model.present", "/opt/tiny")
        sound = one(lab, operator, "model.integrity", "/opt/tiny")
        fits = one(lab, operator, "model.memory-fit", "/opt/tiny")
    finally:
        for host in hosts:
            shutil.rmtree(host.place("/opt/tiny"))
    assert present.verdict == "fail", present.words
    assert "dstui may not read model.safetensors" in present.words
    assert sound.said == "unknown(permission)", sound.words
    assert fits.said == "unknown(permission)", fits.words


@contextmanager
def hung(lab: Lab, *hosts: Host) -> Iterator[None]:
    """The file server silent; afterwards the share is mounted anew."""
    filer = ADDRESSES["filer"]
    try:
        for host in hosts:
            host.run("nft", "-f", "-", given=_SILENT.format(filer=filer))
        yield
    finally:
        for host in hosts:
            host.run("nft", "delete", "table", "inet", "silent")
            lab.abort_share(host)
            lab.mount_share(host)


_SILENT = """table inet silent {{
  chain output {{ type filter hook output priority -10; policy accept; ip daddr {filer} drop; }}
  chain input {{ type filter hook input priority -10; policy accept; ip saddr {filer} drop; }}
}}
"""


def test_a_share_that_hangs(lab: Lab, operator: Operator) -> None:
    hosts = [lab.hosts[name] for name in ("gpu-01", "gpu-02", "gpu-03")]
    with world(lab) as path, hung(lab, *hosts):
        said = {check: one(lab, operator, check, path) for check in FILES}
    assert {check: each.said for check, each in said.items()} == dict.fromkeys(FILES, "unknown(timeout)")
    assert "hangs" in said["model.present"].words


def test_cases_that_are_not_there_or_wrong(lab: Lab, operator: Operator, cases: Path) -> None:
    file = cases / "ours.yaml"
    text = file.read_text(encoding="utf-8")
    worlds = {
        text.replace("category: long", "kind: long"): ("fail", "ours.yaml:"),
        EXAMPLE.read_text(encoding="utf-8"): ("warn", "only dstui's built-in cases"),
        "": ("fail", "no cases in"),
    }
    try:
        for changed, (verdict, said) in worlds.items():
            file.write_text(changed, encoding="utf-8")
            only = one(lab, operator, "model.test-cases", f"{SHARE}/models/none")
            assert only.verdict == verdict, only.words
            assert said in only.words
        file.unlink()
        file.symlink_to(file.name)
        assert one(lab, operator, "model.test-cases", f"{SHARE}/models/none").verdict == "unknown"
    finally:
        file.unlink()
        file.write_text(text, encoding="utf-8")
