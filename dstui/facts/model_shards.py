"""Weight files looked into: headers, hashes and what they should be (`model.integrity`, `model.memory-fit`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dstui.facts.model_config import Config
from dstui.facts.model_files import ModelFiles, WeightFiles
from dstui.facts.raw import Missing
from dstui.facts.safetensors import Breach, Header, Tensor
from dstui.facts.vllm_backends import VllmBackends
from dstui.model import EVIDENCE_HEAD_BYTES, Evidence, Target

SUMS = "SHA256SUMS"
_SUM = re.compile(r"\\?([0-9a-fA-F]{64}) [ *](.+)", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ETAG_LINE = 1


@dataclass(frozen=True, slots=True)
class Shard:
    """One weight file as the chosen host reads it. `size` in bytes, None when it is not there."""

    name: str
    size: int | None
    header: Header | Breach | Missing


@dataclass(frozen=True, slots=True)
class Hashed:
    """A hash that was computed, or kept from when the file had the same size, time and inode. `seconds` it took."""

    sha256: str
    size: int
    seconds: float
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """The hash that a file should have, and who says so: a manifest, the cache's blob name, a download's etag."""

    sha256: str
    source: str


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """`shards` as the weight files stand in the index. `backends`: what a running vLLM tells of its cache."""

    files: ModelFiles
    weight_files: WeightFiles
    config: Config | Missing
    shards: tuple[Shard, ...]
    backends: VllmBackends | Missing
    replicas: int = 1

    def tensors(self) -> tuple[Tensor, ...] | Missing:
        """All tensors of the index, or of all files; Missing when a header could not be had."""
        found: list[Tensor] = []
        for shard in self.shards:
            if isinstance(shard.header, Missing):
                return shard.header
            if isinstance(shard.header, Header):
                found.extend(shard.header.tensors)
        return tuple(found)

    @property
    def breaches(self) -> Iterator[tuple[str, Breach]]:
        return ((shard.name, shard.header) for shard in self.shards if isinstance(shard.header, Breach))

    def evidence(self, target: Target) -> tuple[Evidence, ...]:
        found = (*self.files.evidence(target), shards_evidence(self.files, self.shards, {}))
        return found if isinstance(self.backends, Missing) else (*found, *self.backends.evidence(target))


@dataclass(frozen=True, slots=True)
class ModelIntegrity:
    """`wanted` and `hashes` by file name; `manifest` is why a manifest that the inventory names could not be used.

    `reads` are weight files that a host could not read, by host: a Missing for all, or errno names by file.
    """

    files: ModelFiles
    weight_files: WeightFiles
    shards: tuple[Shard, ...]
    wanted: Mapping[str, Wanted]
    hashes: Mapping[str, Hashed | Missing]
    manifest: Missing | None = None
    reads: Mapping[str, Missing | Mapping[str, str]] = field(default_factory=dict)

    def evidence(self, target: Target) -> tuple[Evidence, ...]:
        return (*self.files.evidence(target), shards_evidence(self.files, self.shards, self.hashes, self.wanted))


def shards_evidence(
    files: ModelFiles,
    shards: tuple[Shard, ...],
    hashes: Mapping[str, Hashed | Missing],
    wanted: Mapping[str, Wanted] | None = None,
) -> Evidence:
    """A line for each file: size, tensors, the beginning of its hash, how fast it was read, what it should be."""
    lines = []
    for shard in shards:
        header = shard.header
        words = (
            f"{len(header.tensors)} tensors"
            if isinstance(header, Header)
            else header.en
            if isinstance(header, Breach)
            else header.why
        )
        hashed = hashes.get(shard.name)
        if isinstance(hashed, Hashed):
            speed = "kept" if hashed.kept else f"{hashed.size / max(hashed.seconds, 0.001) / 1e6:,.0f} MB/s"
            words += f", sha256 {hashed.sha256[:12]} ({speed})"
        elif hashed is not None:
            words += f", not hashed: {hashed.why}"
        if wanted and (should := wanted.get(shard.name)):
            words += f", wanted {should.sha256[:12]} ({should.source})"
        lines.append(f"{shard.name} {shard.size if shard.size is not None else '-'} {words}")
    text = "\n".join(lines)
    source = f"{files.host}: headers of {len(shards)} weight files in {files.path}"
    return Evidence("model.shards", source, None, text[:EVIDENCE_HEAD_BYTES], len(text), 0.0)


def manifest(content: str) -> Mapping[str, str]:
    """`sha256sum` output: file name → hash in lower case. Names are as written, without a leading `./`."""
    found = {}
    for line in content.splitlines():
        match = _SUM.fullmatch(line.rstrip())
        if match is not None:
            found[match[2].removeprefix("./")] = match[1].lower()
    return found


def blob_hash(link: str | None) -> str | None:
    """A Hugging Face cache's link to a blob: the name of an LFS file's blob is its SHA-256."""
    name = (link or "").rpartition("/")[2]
    return name if _HEX.fullmatch(name) and "blobs/" in (link or "") else None


def etag_hash(content: str) -> str | None:
    """`.cache/huggingface/download/<file>.metadata`: revision, etag, time; the etag of an LFS file is its SHA-256."""
    lines = content.splitlines()
    etag = lines[_ETAG_LINE].strip().strip('"') if len(lines) > _ETAG_LINE else ""
    return etag if _HEX.fullmatch(etag) else None
