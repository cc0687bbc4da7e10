"""What the hosts see of the model's directory, and its small files as one of them reads them (`model.present`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dstui.facts import model_config
from dstui.facts.model_config import BIN_INDEX, BIN_SINGLE, CONFIG, INDEX, SINGLE, TOKENIZER_CONFIG, Config, Index
from dstui.facts.model_tree import LFS_BYTES, LFS_MARK, ModelLook, Tree
from dstui.facts.raw import Missing
from dstui.model import EVIDENCE_HEAD_BYTES, Evidence, Reason, Target

SMALL = (CONFIG, TOKENIZER_CONFIG, INDEX, BIN_INDEX)
"""What is read as text."""

_OF_MANY = re.compile(r"-(\d{5})-of-(\d{5})\.(?:safetensors|bin)$", re.ASCII)


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The files that hold the weights, by name below the model. `kind` is `safetensors`, `bin` or `none`.

    `index` is what names them: Missing when it cannot be read, None when there is none and none is needed.
    """

    kind: str
    names: tuple[str, ...]
    index: Index | Missing | None
    index_name: str = ""
    unindexed: bool = False
    """Several safetensors files and no index that says which tensor lies where."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """`looks` by host. `host` is the one whose files were read, None when none could; `place` is where the model lies
    below `path` (a revision in a Hugging Face cache), Missing when several could be meant.

    `texts` and `heads` (the first bytes of files short enough to be LFS pointers) are by name below the model.
    """

    path: str
    looks: Mapping[str, ModelLook]
    host: str | None = None
    place: str | Missing = ""
    texts: Mapping[str, str | Missing] = field(default_factory=dict)
    heads: Mapping[str, bytes | Missing] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def tree(self) -> Tree | Missing:
        """The model's own directory as the chosen host sees it."""
        look = self.looks.get(self.host) if self.host is not None else None
        if look is None:
            return self._why_none()
        if isinstance(look.tree, Missing):
            return look.tree
        return self.place if isinstance(self.place, Missing) else look.tree.below(self.place)

    def _why_none(self) -> Missing:
        """Why no host could be chosen: the first that could not look, else what kept the first from the directory."""
        trees = [(name, look.tree) for name, look in sorted(self.looks.items())]
        for name, tree in trees:
            if isinstance(tree, Missing):
                return Missing(tree.reason, f"{name}: {self.path}: {tree.why}")
        for name, tree in trees:
            if isinstance(tree, Tree) and tree.error:
                denied = tree.error in ("EACCES", "EPERM")
                reason = Reason.PERMISSION if denied else Reason.CANNOT_TELL
                return Missing(reason, f"{name}: {self.path}: {tree.call}: {tree.error}")
        return Missing(Reason.NO_TARGETS, "no head or worker in the inventory (hosts[].roles)")

    def content(self, name: str) -> str | Missing:
        """A small file; Missing(cannot-tell) when it is not there."""
        found = self.texts.get(name)
        if found is not None:
            return found
        tree = self.tree
        return tree if isinstance(tree, Missing) else Missing(Reason.CANNOT_TELL, f"{name} is not there")

    def config(self) -> Config | Missing:
        content = self.content(CONFIG)
        return content if isinstance(content, Missing) else model_config.config(content)

    def weights(self) -> WeightFiles:
        """Which files hold the weights, by what is there: an index first, then a single file, then pickles."""
        tree = self.tree
        if isinstance(tree, Missing):
            return WeightFiles("none", (), tree)
        there = {*tree.files, *tree.errors}
        for kind, index_name, single in (("safetensors", INDEX, SINGLE), ("bin", BIN_INDEX, BIN_SINGLE)):
            suffix = f".{kind}"
            if index_name in there:
                content = self.content(index_name)
                found = content if isinstance(content, Missing) else model_config.index(content, index_name)
                names = () if isinstance(found, Missing) else found.shards
                return WeightFiles(kind, names, found, index_name)
            if single in there:
                return WeightFiles(kind, (single,), None)
            loose = tuple(sorted(name for name in there if name.endswith(suffix) and "/" not in name))
            if kind == "bin":
                loose = tuple(name for name in loose if name.startswith("pytorch_model"))
            if loose:
                return WeightFiles(kind, tuple(_whole_series(loose)), None, unindexed=len(loose) > 1)
        return WeightFiles("none", (), None)

    def pointers(self) -> tuple[str, ...]:
        """Files that git LFS has not fetched."""
        return tuple(
            name for name, head in sorted(self.heads.items()) if isinstance(head, bytes) and head.startswith(LFS_MARK)
        )

    def evidence(self, target: Target) -> tuple[Evidence, ...]:
        """The listing of every host, and the small files."""
        listings = (
            Evidence(
                key=f"model.files.{name}",
                source=f"{name}: find -L {self.path} -ls",
                exit=None,
                output=(shown := _listing(look))[:EVIDENCE_HEAD_BYTES],
                output_bytes=len(shown),
                seconds=self.seconds,
                error=look.tree.why[:1024] if isinstance(look.tree, Missing) else "",
            )
            for name, look in sorted(self.looks.items())
        )
        small = (
            Evidence(
                key=f"model.text.{name}",
                source=f"{self.host}: {self.path}/{name}",
                exit=None,
                output="" if isinstance(content, Missing) else content[:EVIDENCE_HEAD_BYTES],
                output_bytes=0 if isinstance(content, Missing) else len(content),
                seconds=0.0,
                error=content.why[:1024] if isinstance(content, Missing) else "",
            )
            for name, content in sorted(self.texts.items())
        )
        return (*listings, *small)


def _whole_series(names: tuple[str, ...]) -> Iterator[str]:
    """All files of `model-00001-of-00003.safetensors` and its like, also those that are not there."""
    counted = [(name, match) for name in names if (match := _OF_MANY.search(name)) is not None]
    if len(counted) != len(names):
        yield from names
        return
    first, match = counted[0]
    stem, ending = first[: match.start()], first.rpartition(".")[2]
    for number in range(1, min(int(match[2]), 10_000) + 1):
        yield f"{stem}-{number:05d}-of-{match[2]}.{ending}"


def _listing(look: ModelLook) -> str:
    if isinstance(look.tree, Missing):
        return ""
    if look.tree.error:
        return f"{look.tree.call}: {look.tree.error}"
    rows = [f"digest {look.tree.digest()}"]
    rows += [
        f"{entry.mode & 0o7777:o} {entry.uid}:{entry.gid} {entry.size:>15} {entry.mtime_ns // 10**9} {name}"
        + (f" -> {entry.link}" if entry.link else "")
        for name, entry in sorted(look.tree.entries.items())
    ]
    return "\n".join(rows + [f"{error} {name}" for name, error in sorted(look.tree.errors.items())])


def may_be_pointer(tree: Tree) -> tuple[str, ...]:
    """Files short enough to be git LFS pointers where the real ones are long."""
    endings = (".safetensors", ".bin", ".model", "tokenizer.json")
    return tuple(name for name, e in sorted(tree.files.items()) if 0 < e.size < LFS_BYTES and name.endswith(endings))
