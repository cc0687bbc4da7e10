"""model.*: real directories on a disk, looked at by the real collector, each broken in one of the known ways."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dstui.catalogue import Catalogue, load_catalogue
from dstui.facts.case import FleetCase, Params
from dstui.facts.model_tree import Tree
from dstui.facts.raw import Missing, Op, Raw
from dstui.facts.storage import User
from dstui.gather import model, model_cases, model_load
from dstui.gather.link import HostLink
from dstui.gather.local import open_local
from dstui.gather.observing import Observing
from dstui.inventory import load_inventory
from dstui.judge import model as judges
from dstui.model import GatherError, Reason, Ruling, Verdict

RULES = {judge.check_id: judge.rule for judge in judges.JUDGES}
OBSERVE: dict[str, Callable[[Observing], Any]] = {
    "model.present": model.observe_model_files,
    "model.integrity": model.observe_model_integrity,
    "model.memory-fit": model.observe_model_weights,
    "model.test-cases": model_cases.observe_model_cases,
    "model.single-gpu-load": model_load.observe_gpu_load,
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "hidden_size": 16,
    "max_position_embeddings": 64,
}
INVENTORY = """\
version: 1
cluster: {{name: ds, environment: lab}}
ssh: {{user: {user}, agent: false, known_hosts: {folder}/known}}
hosts:
  - {{name: one, roles: [head], data_ip: 10.0.0.1, gpu: true}}
  - {{name: two, roles: [worker], data_ip: 10.0.0.2, gpu: true}}
network: {{cluster_cidrs: [10.0.0.0/24]}}
storage: {{shared_path: {share}}}
runtime: {{mode: bare-metal, user: {user}}}
model: {{path: {share}/m, served_name: m}}
"""


def safetensors(path: Path, tensors: Mapping[str, int]) -> int:
    """A file with tensors of so many BF16 numbers. Gives the bytes of the tensors."""
    at, header = 0, {}
    for name, count in tensors.items():
        header[name] = {"dtype": "BF16", "shape": [count], "data_offsets": [at, at + 2 * count]}
        at += 2 * count
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(range(256)) * (at // 256) + bytes(at % 256))
    return at


def make(folder: Path) -> Path:
    """A model of two shards with an index, a tokenizer and a manifest."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE"}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    shards = {
        "model-00001-of-00002.safetensors": {"model.embed_tokens.weight": 512, "model.layers.0.w": 256},
        "model-00002-of-00002.safetensors": {"model.layers.1.w": 256, "lm_head.weight": 512},
    }
    total = sum(safetensors(folder / name, tensors) for name, tensors in shards.items())
    weight_map = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in sorted(shards)]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    return folder


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return make(tmp_path / "share" / "m")


class Asked:
    """One check of the two nodes `one` and `two`, both of which are this machine."""

    def __init__(self, catalogue: Catalogue, tmp_path: Path) -> None:
        import getpass

        self.catalogue = catalogue
        file = tmp_path / "inventory.yaml"
        file.write_text(INVENTORY.format(user=getpass.getuser(), folder=tmp_path, share=tmp_path / "share"))
        self.inventory = load_inventory(file)
        self.site = self.inventory.site()
        self.told: list[str] = []
        self.wrap: Callable[[HostLink], HostLink] = lambda link: link

    async def observe(self, check: str, confirmed: frozenset[str] = frozenset(), **params: object) -> Any:
        links = {name: self.wrap(await open_local(name, become="none")) for name in ("one", "two")}
        try:
            return await OBSERVE[check](self.observing(links, confirmed, params))
        finally:
            for link in links.values():
                await link.close()

    def observing(
        self, links: Mapping[str, HostLink], confirmed: frozenset[str], given: Mapping[str, object]
    ) -> Observing:
        return Observing(
            inventory=self.inventory,
            site=self.site,
            params=lambda check, host: self.params(check, given),
            links=links,
            missing={},
            run="0",
            confirmed=confirmed,
            told=self.told.append,
        )

    def params(self, check: str, given: Mapping[str, object]) -> Params:
        known = [p.threshold() for p in self.catalogue.check(check).params]
        own = {"model_path": str(Path(self.site.shared_path) / "m"), **given}
        return Params([replace(t, value=own.get(t.param, t.value)) for t in known])

    def rule(self, check: str, observed: object, **params: object) -> Ruling:
        case = FleetCase(self.site, {}, self.params(check, params), {}, {type(observed): observed}, 0.0)
        (ruling,) = RULES[check](case)
        return ruling

    def judge(self, check: str, **params: object) -> Ruling:
        return self.rule(check, asyncio.run(self.observe(check, frozenset(), **params)), **params)


@pytest.fixture
def asked(catalogue: Catalogue, tmp_path: Path) -> Asked:
    return Asked(catalogue, tmp_path)


def words(ruling: Ruling) -> str:
    return " | ".join([ruling.observed.en, ruling.rule.en, ruling.detail, *(note.en for note in ruling.notes)])


def test_a_whole_model_is_present(asked: Asked, place: Path) -> None:
    ruling = asked.judge("model.present")
    assert ruling.verdict is Verdict.PASS, words(ruling)
    assert "LlamaForCausalLM (llama), bfloat16" in ruling.observed.en
    assert "on 2/2 nodes" in ruling.observed.en


def test_a_whole_model_is_sound(asked: Asked, place: Path) -> None:
    ruling = asked.judge("model.integrity")
    assert ruling.verdict is Verdict.PASS, words(ruling)
    assert "2 weight files" in ruling.observed.en
    assert "4 tensors; 2/2 hashes match" in ruling.observed.en
    assert any("GB" in word for word in asked.told)


def _lfs(place: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9999\n"
    (place / "model-00002-of-00002.safetensors").write_text(pointer)


def _changed(name: str, **fields: object) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        file = place / name
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return change


def _index(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def changed(place: Path) -> None:
        file = place / "model.safetensors.index.json"
        index = json.loads(file.read_text())
        change(index)
        file.write_text(json.dumps(index))

    return changed


def _gone(name: str) -> Callable[[Path], None]:
    return lambda place: (place / name).unlink()


def _text(name: str, text: str) -> Callable[[Path], None]:
    def write(place: Path) -> None:
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return write


def _pickles(place: Path) -> None:
    for file in place.glob("model*"):
        file.unlink()
    (place / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(50) + b"PK\x05\x06" + bytes(18))


def _no_weights(place: Path) -> None:
    for file in place.glob("model*"):
        file.unlink()


FIRST = "model-00001-of-00002.safetensors"
SECOND = "model-00002-of-00002.safetensors"
PRESENT: list[tuple[str, Callable[[Path], None], Verdict, str]] = [
    ("no directory", shutil.rmtree, Verdict.FAIL, "is not there"),
    ("a shard missing", _gone(SECOND), Verdict.FAIL, f"1 not there: {SECOND}"),
    ("an empty shard", _text(SECOND, ""), Verdict.FAIL, "empty: "),
    ("no config", _gone("config.json"), Verdict.FAIL, "config.json"),
    ("a broken config", _text("config.json", "{\n "), Verdict.FAIL, "config.json:2:"),
    ("no tokenizer", _gone("tokenizer.json"), Verdict.FAIL, "no tokenizer"),
    ("LFS pointers", _lfs, Verdict.FAIL, f"git LFS pointers, not the files: {SECOND}"),
    ("a download under way", _text(".cache/huggingface/download/x.incomplete", "1"), Verdict.FAIL, "did not end"),
    ("a download under way", _text("model.safetensors.aria2", "1"), Verdict.FAIL, "did not end"),
    ("locks that stay", _text(".cache/huggingface/download/x.lock", ""), Verdict.PASS, "every weight file"),
    ("a wrong index", _index(lambda i: i["weight_map"].update(x="model-00003.safetensors")), Verdict.FAIL, "00003"),
    ("an index out of the folder", _index(lambda i: i["weight_map"].update(x="../../etc/shadow")), Verdict.FAIL,
     "the index is broken"),
    ("an index that is no JSON", _text("model.safetensors.index.json", "{"), Verdict.FAIL, "the index is broken"),
    ("no architecture", _changed("config.json", architectures=[]), Verdict.FAIL, "names no architecture"),
    ("code of its own", _changed("config.json", auto_map={"AutoModel": "m.M"}), Verdict.WARN, "trust_remote_code"),
    ("no template", _changed("tokenizer_config.json", chat_template=None), Verdict.WARN, "no chat template"),
    ("no tokenizer config", _gone("tokenizer_config.json"), Verdict.WARN, "no tokenizer_config.json"),
    ("pickles", _pickles, Verdict.WARN, "a pickle executes code"),
    ("no weights at all", _no_weights, Verdict.FAIL, "no weights"),
    ("no index", _gone("model.safetensors.index.json"), Verdict.WARN, "without an index"),
]  # fmt: skip


@pytest.mark.parametrize(("world", "change", "verdict", "said"), PRESENT, ids=[row[0] for row in PRESENT])
def test_present(
    asked: Asked, place: Path, world: str, change: Callable[[Path], None], verdict: Verdict, said: str
) -> None:
    change(place)
    ruling = asked.judge("model.present")
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


def test_a_shard_of_a_series_without_index_is_missed(asked: Asked, place: Path) -> None:
    (place / "model.safetensors.index.json").unlink()
    (place / SECOND).unlink()
    ruling = asked.judge("model.present")
    assert ruling.verdict is Verdict.FAIL
    assert SECOND in words(ruling)


def test_the_architecture_that_is_wanted(asked: Asked, place: Path) -> None:
    assert asked.judge("model.present", model_architecture="LlamaForCausalLM").verdict is Verdict.PASS
    ruling = asked.judge("model.present", model_architecture="DeepseekV3ForCausalLM")
    assert ruling.verdict is Verdict.FAIL
    assert "expected DeepseekV3ForCausalLM" in ruling.rule.en


def test_a_model_that_a_link_leads_out_of_the_share(asked: Asked, place: Path, tmp_path: Path) -> None:
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    ruling = asked.judge("model.present")
    assert ruling.verdict is Verdict.WARN
    assert "not under" in ruling.rule.en
    assert asked.judge("model.present", under_shared=False).verdict is Verdict.PASS


def hub(place: Path, revisions: tuple[str, ...] = ("abc",)) -> None:
    """The folder as a Hugging Face cache has it: revisions of links to blobs that are called by their hash."""
    away = place.with_name("away")
    place.rename(away)
    (place / "blobs").mkdir(parents=True)
    for revision in revisions:
        (place / "snapshots" / revision).mkdir(parents=True)
        for file in away.iterdir():
            if file.name == "SHA256SUMS":
                continue
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            shutil.copy(file, place / "blobs" / digest)
            (place / "snapshots" / revision / file.name).symlink_to(f"../../blobs/{digest}")


def test_a_hub_cache(asked: Asked, place: Path) -> None:
    hub(place)
    assert asked.judge("model.present").verdict is Verdict.PASS
    ruling = asked.judge("model.integrity")
    assert ruling.verdict is Verdict.PASS, words(ruling)
    blob = (place / "snapshots" / "abc" / SECOND).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    ruling = asked.judge("model.integrity")
    assert ruling.verdict is Verdict.FAIL
    assert "blob name says" in words(ruling)


def test_a_hub_cache_with_a_dangling_link(asked: Asked, place: Path) -> None:
    hub(place)
    (place / "snapshots" / "abc" / SECOND).resolve().unlink()
    ruling = asked.judge("model.present")
    assert ruling.verdict is Verdict.FAIL
    assert SECOND in words(ruling)


def test_a_hub_cache_of_two_revisions_needs_a_name(asked: Asked, place: Path) -> None:
    hub(place, ("abc", "def"))
    ruling = asked.judge("model.present")
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.CANNOT_TELL)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("def")
    ruling = asked.judge("model.present")
    assert ruling.verdict is Verdict.PASS
    assert ", def;" in ruling.observed.en


def test_what_the_runtime_user_may_not_read(asked: Asked, place: Path) -> None:
    (place / SECOND).chmod(0o600)
    asked.site = replace(asked.site, runtime_user="vllm")
    found = asyncio.run(asked.observe("model.present"))

    def with_user(user: User | Missing) -> Ruling:
        looks = {n: replace(look, user=user, tree=replace(look.tree, above=())) for n, look in found.looks.items()}
        return asked.rule("model.present", replace(found, looks=looks))

    denied = with_user(User(65534, 65534, frozenset()))
    assert denied.verdict is Verdict.FAIL
    assert f"vllm may not read {place}/{SECOND} (permission bits)" in words(denied)
    assert with_user(User(os.getuid(), os.getgid(), frozenset())).verdict is Verdict.PASS
    assert with_user(User(None, None, frozenset())).verdict is Verdict.UNKNOWN
    assert with_user(Missing(Reason.TIMEOUT, "id vllm")).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(("runtime", "verdict"), [("me", Verdict.FAIL), ("vllm", Verdict.UNKNOWN)])
def test_what_the_login_user_may_not_read(asked: Asked, place: Path, runtime: str, verdict: Verdict) -> None:
    """It decides when it is the runtime user; of another user it says nothing."""
    found = asyncio.run(asked.observe("model.present"))
    look = found.looks["one"]
    asked.site = replace(asked.site, runtime_user=look.login if runtime == "me" else runtime)
    entries = {n: replace(e, access="") if n == SECOND else e for n, e in look.tree.entries.items()}
    looks = {n: replace(e, user=None, tree=replace(e.tree, entries=entries)) for n, e in found.looks.items()}
    ruling = asked.rule("model.present", replace(found, looks=looks))
    assert ruling.verdict is verdict, words(ruling)
    assert SECOND in ruling.rule.en


@pytest.mark.parametrize(
    ("error", "verdict"),
    [("ENOENT", Verdict.FAIL), ("EACCES", Verdict.UNKNOWN), ("ENOTCONN", Verdict.UNKNOWN), ("ESTALE", Verdict.UNKNOWN)],
)
def test_a_directory_that_one_node_does_not_get_to(asked: Asked, place: Path, error: str, verdict: Verdict) -> None:
    asked.site = replace(asked.site, runtime_user="vllm")
    found = asyncio.run(asked.observe("model.present"))
    lost = replace(found.looks["two"], tree=Tree(str(place), error=error, call="stat"))
    looks = {"one": replace(found.looks["one"], user=User(0, 0, frozenset())), "two": lost}
    ruling = asked.rule("model.present", replace(found, looks=looks))
    assert ruling.verdict is verdict
    assert "two" in ruling.rule.en


def _first_sum(place: Path) -> None:
    file = place / "SHA256SUMS"
    file.write_text(file.read_text().splitlines()[0])


INTEGRITY: list[tuple[str, Callable[[Path], None], Verdict, str]] = [
    ("truncated", lambda p: os.truncate(p / SECOND, (p / SECOND).stat().st_size - 100), Verdict.FAIL,
     f"{SECOND} ends 100 bytes early"),
    ("cut in its header", lambda p: os.truncate(p / SECOND, 40), Verdict.FAIL, "ends inside its header"),
    ("empty", lambda p: os.truncate(p / SECOND, 0), Verdict.FAIL, "has only 0 bytes"),
    ("longer", lambda p: os.truncate(p / SECOND, (p / SECOND).stat().st_size + 5), Verdict.FAIL, "5 bytes too many"),
    ("an LFS pointer", _lfs, Verdict.FAIL, "is no safetensors file"),
    ("a shard missing", _gone(SECOND), Verdict.FAIL, f"not there: {SECOND}"),
    ("a tensor elsewhere", _index(lambda i: i["weight_map"].update({"lm_head.weight": FIRST})), Verdict.FAIL,
     "1 tensors are not in the file that the index names: lm_head.weight"),
    ("a tensor too many", _index(lambda i: i["weight_map"].update({"x.weight": SECOND})), Verdict.FAIL, "x.weight"),
    ("another total", _index(lambda i: i["metadata"].update(total_size=1)), Verdict.FAIL, "the index says 1"),
    ("unused tensors", _index(lambda i: i.update(
        metadata={}, weight_map={k: v for k, v in i["weight_map"].items() if k != "lm_head.weight"})),
     Verdict.WARN, "1 tensors that no index names: lm_head.weight"),
    ("an unused file", _text("other.safetensors", "x"), Verdict.WARN, "files that no index names: other.safetensors"),
    ("no hashes", _gone("SHA256SUMS"), Verdict.WARN, "no hashes to compare with"),
    ("a manifest of one", _first_sum, Verdict.WARN, f"no hash is known for {SECOND}"),
    ("a manifest of other files", _text("SHA256SUMS", f"{'0' * 64}  other.safetensors\n"), Verdict.FAIL,
     "names files that are not there: other.safetensors"),
    ("a manifest that is none", _text("SHA256SUMS", "hello\n"), Verdict.UNKNOWN, "no line is"),
    ("pickles", _pickles, Verdict.FAIL, "the manifest names files"),
]  # fmt: skip


@pytest.mark.parametrize(("world", "change", "verdict", "said"), INTEGRITY, ids=[row[0] for row in INTEGRITY])
def test_integrity(
    asked: Asked, place: Path, world: str, change: Callable[[Path], None], verdict: Verdict, said: str
) -> None:
    change(place)
    ruling = asked.judge("model.integrity")
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


def test_flipped_bytes(asked: Asked, place: Path) -> None:
    """Sizes, times and structure as before: only the hash tells."""
    file = place / SECOND
    before, content = file.stat(), file.read_bytes()
    file.write_bytes(content[:-10] + b"?" + content[-9:])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    ruling = asked.judge("model.integrity")
    assert ruling.verdict is Verdict.FAIL
    assert f"{SECOND} has SHA-256" in words(ruling)
    assert "SHA256SUMS says" in words(ruling)


def test_hashes_are_kept_until_a_file_changes(asked: Asked, place: Path) -> None:
    first = asyncio.run(asked.observe("model.integrity"))
    again = asyncio.run(asked.observe("model.integrity"))
    always = asyncio.run(asked.observe("model.integrity", hash="always"))
    assert [h.kept for h in first.hashes.values()] == [False, False]
    assert [h.kept for h in again.hashes.values()] == [True, True]
    assert [h.kept for h in always.hashes.values()] == [False, False]
    os.utime(place / SECOND, (1, 1))
    touched = asyncio.run(asked.observe("model.integrity"))
    assert sorted(h.kept for h in touched.hashes.values()) == [False, True]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version":1,"hashes":[[1,2],["a",1,2,3,"zz"]]}', '{"version":9}'])
def test_kept_hashes_that_are_damaged_cost_only_time(asked: Asked, place: Path, tmp_path: Path, content: str) -> None:
    file = tmp_path / "state" / "dstui" / "ds.hashes"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert asked.judge("model.integrity").verdict is Verdict.PASS
    assert file.stat().st_mode & 0o777 == 0o600
    ruling = asked.judge("model.integrity")
    assert ruling.verdict is Verdict.PASS
    assert "2 hashes are from an earlier look" in words(ruling)
    assert [child.name for child in file.parent.iterdir()] == ["ds.hashes"]


def test_a_state_folder_that_cannot_be_written_costs_only_time(asked: Asked, place: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    assert asked.judge("model.integrity").verdict is Verdict.PASS


def test_never_hashing_is_never_a_pass(asked: Asked, place: Path) -> None:
    ruling = asked.judge("model.integrity", hash="never")
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.NOT_RUN)


def test_a_manifest_that_cannot_be_read(asked: Asked, place: Path) -> None:
    ruling = asked.judge("model.integrity", manifest=str(place / "nowhere"))
    assert ruling.verdict is Verdict.UNKNOWN
    assert "nowhere" in words(ruling)


def test_etags_of_a_download(asked: Asked, place: Path) -> None:
    (place / "SHA256SUMS").unlink()
    for file in place.glob("*.safetensors"):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        _text(f".cache/huggingface/download/{file.name}.metadata", f"rev\n{digest}\n1.0\n")(place)
    _text(".cache/huggingface/download/config.json.metadata", f"rev\n{'a' * 40}\n1.0\n")(place)
    ruling = asked.judge("model.integrity")
    assert ruling.verdict is Verdict.PASS, words(ruling)
    assert "2/2 hashes match" in ruling.observed.en


class Sick:
    """A link that fails or hangs at chosen operations."""

    def __init__(self, link: HostLink, kinds: tuple[str, ...], missing: Missing | None) -> None:
        self.session = link.session
        self._link, self._kinds, self._missing = link, kinds, missing

    async def facts(self, ops: list[Op], *, deadline: float) -> Raw:
        raw = await self._link.facts(ops, deadline=deadline)
        if self._missing is None:
            if any(op.kind.value in self._kinds for op in ops):
                raise GatherError(Reason.UNREACHABLE, "one: the connection broke")
            return raw
        sick = {op.key for op in ops if op.kind.value in self._kinds}
        return Raw(
            {k: replace(a, missing=self._missing, value=None) if k in sick else a for k, a in raw.answers.items()}
        )

    async def close(self) -> None:
        await self._link.close()


HUNG = Missing(Reason.TIMEOUT, "no answer within 10 s, given up")


@pytest.mark.parametrize("check", ["model.present", "model.integrity", "model.memory-fit"])
@pytest.mark.parametrize("missing", [HUNG, Missing(Reason.TOOL_MISSING, "python3 is not on the host"), None])
@pytest.mark.parametrize("kinds", [("tree",), ("pieces", "read", "sha256")], ids=["tree", "files"])
def test_a_share_that_hangs_or_breaks(
    asked: Asked, place: Path, check: str, missing: Missing | None, kinds: tuple[str, ...]
) -> None:
    asked.wrap = lambda link: Sick(link, kinds, missing)  # type: ignore[assignment,return-value]
    ruling = asked.judge(check)
    assert ruling.verdict is Verdict.UNKNOWN, words(ruling)
    if check == "model.present" and missing is HUNG and kinds == ("tree",):
        assert "hangs" in ruling.rule.en


def test_a_node_that_is_not_connected_is_a_hole(asked: Asked, place: Path) -> None:
    async def observe() -> object:
        link = await open_local("one", become="none")
        try:
            return await model.observe_model_files(asked.observing({"one": link}, frozenset(), {}))
        finally:
            await link.close()

    ruling = asked.rule("model.present", asyncio.run(observe()))
    assert (ruling.verdict, ruling.reason) == (Verdict.UNKNOWN, Reason.UNREACHABLE)
    assert "two" in ruling.rule.en


@pytest.mark.parametrize("kind", ["fewer", "size", "time"])
def test_nodes_that_see_different_files(asked: Asked, place: Path, kind: str) -> None:
    found = asyncio.run(asked.observe("model.present"))
    look = found.looks["two"]
    entries = dict(look.tree.entries)
    if kind == "fewer":
        del entries[SECOND]
    elif kind == "size":
        entries[SECOND] = replace(entries[SECOND], size=1)
    else:
        entries[SECOND] = replace(entries[SECOND], mtime_ns=10**9)
    changed = replace(look, tree=replace(look.tree, entries=entries))
    ruling = asked.rule("model.present", replace(found, looks={**found.looks, "two": changed}))
    assert ruling.verdict is (Verdict.WARN if kind == "time" else Verdict.FAIL)
    assert "two and one see" in ruling.rule.en


def test_cancelling_ends_the_hashing_on_the_host(asked: Asked, place: Path) -> None:
    """A file that takes long; the collector's child is gone soon after nobody waits for it."""
    with (place / SECOND).open("ab") as file:
        file.truncate(64 << 30)

    async def observe() -> None:
        link = await open_local("one", become="none")
        try:
            task = asyncio.create_task(
                model.observe_model_integrity(asked.observing({"one": link}, frozenset(), {"hash": "always"}))
            )
            (hashing,) = await asyncio.to_thread(_hashers, place / SECOND)
            ended = asyncio.Event()
            watched = os.pidfd_open(hashing)
            asyncio.get_running_loop().add_reader(watched, ended.set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(10):
                await ended.wait()
            asyncio.get_running_loop().remove_reader(watched)
            os.close(watched)
        finally:
            await link.close()

    asyncio.run(asyncio.wait_for(observe(), 30))


def _hashers(file: Path) -> set[int]:
    """Processes that have the file open, as soon as there are any."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = set()
        for folder in Path("/proc").glob("[0-9]*/fd"):
            try:
                if any(os.readlink(fd) == str(file) for fd in folder.iterdir()):
                    found.add(int(folder.parts[2]))
            except OSError:
                continue
        if found:
            return found
    raise AssertionError(f"nobody opened {file}")
