"""Reads the model's weight files: headers for memory and structure, SHA-256 against what is known of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from dstui.facts import model_shards
from dstui.facts.model_files import ModelFiles, WeightFiles
from dstui.facts.model_shards import SUMS, Hashed, ModelIntegrity, ModelWeights, Shard, Wanted
from dstui.facts.model_tree import Tree
from dstui.facts.raw import Missing, Raw, glob, pieces, read, sha256
from dstui.facts.safetensors import PREFIX, Breach, Header
from dstui.facts.untyped import table, text, whole
from dstui.facts.vllm_backends import VllmBackends
from dstui.gather.hostlink import HostLink
from dstui.gather.model_hashes import KeptHashes, Known, kept_for
from dstui.gather.model_look import (
    AT_ONCE,
    GRACE_SECONDS,
    HEADER_SECONDS,
    absent,
    contents,
    observe_model_files,
    read_parts,
    shards_of,
)
from dstui.gather.observing import Observing
from dstui.model import GatherError, Reason

__all__ = ["observe_model_files", "observe_model_integrity", "observe_model_weights"]

HASH_SECONDS = 7200.0
MANIFEST_BYTES = 4 << 20
MANIFEST_SECONDS = 10.0
ZIP_END_BYTES = 65_557
"""The end record of a zip archive with the longest comment."""
_ZIP_START, _ZIP_END = b"PK\x03\x04", b"PK\x05\x06"


async def observe_model_weights(o: Observing) -> ModelWeights:
    """Config and headers on one node; what running engines say of their cache."""
    files = await observe_model_files(o)
    weights = await asyncio.to_thread(files.weights)
    shards = await shards_of(o, files, weights) if weights.kind == "safetensors" else ()
    return ModelWeights(
        files=files,
        weight_files=weights,
        config=files.config(),
        shards=shards,
        backends=await _backends(o),
        replicas=o.inventory.document.serving.replicas or 1,
    )


async def _backends(o: Observing) -> VllmBackends | Missing:
    from dstui.gather.serve_checks import observe_vllm_backends  # httpx is only paid for when an endpoint is asked

    try:
        return await observe_vllm_backends(o)
    except GatherError as error:
        return Missing(error.reason, str(error))


async def observe_model_integrity(o: Observing) -> ModelIntegrity:
    """Structure and hashes on one node, a first read of every weight file on all of them."""
    files = await observe_model_files(o)
    weights = await asyncio.to_thread(files.weights)
    own = files.tree
    if isinstance(own, Missing) or files.host is None:
        return ModelIntegrity(files, weights, (), {}, {})
    look_into = shards_of if weights.kind == "safetensors" else _archives
    shards = await look_into(o, files, weights)
    wanted, fault = await _wanted(o, o.links[files.host], files, own)
    hashes = await _hashes(o, o.links[files.host], own, wanted)
    reads = await _reads(o, files, own, weights)
    return ModelIntegrity(files, weights, shards, wanted, hashes, fault, reads)


async def _archives(o: Observing, files: ModelFiles, weights: WeightFiles) -> tuple[Shard, ...]:
    """Pickled weights are zip archives: whether their directory is there, at the end."""
    own = files.tree
    if isinstance(own, Missing) or files.host is None:
        return ()
    names = [name for name in weights.names if name in own.files]
    parts = [(f"{own.path}/{name}", 0, 4) for name in names]
    parts += [(f"{own.path}/{name}", -ZIP_END_BYTES, ZIP_END_BYTES) for name in names]
    found = await read_parts(o.links[files.host], parts)
    heads, ends = found[: len(names)], found[len(names) :]
    shards = {
        name: Shard(name, own.files[name].size, _archive(head, end))
        for name, head, end in zip(names, heads, ends, strict=True)
    }
    return tuple(shards.get(name) or absent(own, name) for name in weights.names)


def _archive(head: tuple[int, bytes] | Missing, end: tuple[int, bytes] | Missing) -> Header | Breach | Missing:
    if isinstance(head, Missing) or isinstance(end, Missing):
        return head if isinstance(head, Missing) else end if isinstance(end, Missing) else Header(())
    if head[1] != _ZIP_START:
        return Missing(Reason.CANNOT_TELL, "is no zip archive: its structure cannot be checked")
    return Header(()) if _ZIP_END in end[1] else Breach("ends before its directory", "在目录之前截断")


async def _wanted(
    o: Observing, link: HostLink, files: ModelFiles, own: Tree
) -> tuple[Mapping[str, Wanted], Missing | None]:
    """By file: from the manifest, else from the names of blobs, else from what the downloader noted."""
    named = o.params("model.integrity", None).optional_text("manifest")
    if named is not None or SUMS in own.files:
        path = named or f"{own.path}/{SUMS}"
        content = await _text(link, path)
        if isinstance(content, Missing):
            return {}, Missing(content.reason, f"{path}: {content.why}")
        sums = model_shards.manifest(content)
        if not sums:
            return {}, Missing(Reason.PARSE_ERROR, f"{path}: no line is `<sha256>  <file>`")
        top = f"{own.path}/"
        return {name.removeprefix(top): Wanted(digest, path) for name, digest in sums.items()}, None
    blobs = {
        name: Wanted(digest, "blob name")
        for name, entry in own.files.items()
        if (digest := model_shards.blob_hash(entry.link)) is not None
    }
    return blobs or await _etags(link, own), None


async def _text(link: HostLink, path: str) -> str | Missing:
    try:
        raw = await link.facts([read("model.manifest", path, limit=MANIFEST_BYTES)], deadline=MANIFEST_SECONDS)
    except GatherError as error:
        return Missing(error.reason, str(error))
    return raw.text("model.manifest")


async def _etags(link: HostLink, own: Tree) -> Mapping[str, Wanted]:
    place = f"{own.path}/.cache/huggingface/download/"
    if not any(name.endswith(".metadata") for name in own.files):
        return {}
    try:
        raw = await link.facts([glob("model.etags", f"{place}*.metadata", each=512)], deadline=MANIFEST_SECONDS)
    except GatherError:
        # Without them there is nothing to compare with, and that is what the check then says.
        return {}
    found = raw.files("model.etags")
    if isinstance(found, Missing):
        return {}
    return {
        path.removeprefix(place).removesuffix(".metadata"): Wanted(digest, "download etag")
        for path, content in found.items()
        if (digest := model_shards.etag_hash(content)) is not None
    }


async def _hashes(
    o: Observing, link: HostLink, own: Tree, wanted: Mapping[str, Wanted]
) -> Mapping[str, Hashed | Missing]:
    """Each file that something is known of, `hash_parallel` at a time, all within HASH_SECONDS."""
    params = o.params("model.integrity", None)
    mode = params.text("hash")
    if mode == "never":
        return {}
    names = [name for name in sorted(wanted) if name in own.files]
    total = sum(own.files[name].size for name in names)
    gate = asyncio.Semaphore(max(1, params.count("hash_parallel")))
    until = time.monotonic() + HASH_SECONDS
    kept = kept_for(o.site.name, simulated=o.site.simulated)
    await asyncio.to_thread(kept.load)
    done = 0
    o.told(f"0 of {total / 1e9:,.1f} GB")

    async def one(name: str) -> Hashed | Missing:
        nonlocal done
        entry = own.files[name]
        known = Known(f"{own.path}/{name}", entry.size, entry.mtime_ns, entry.inode)
        before = kept.get(known) if mode == "auto" else None
        if before is not None:
            found: Hashed | Missing = Hashed(before, entry.size, 0.0, kept=True)
        else:
            async with gate:
                found = await _hash(link, known, kept, until - time.monotonic())
        done += entry.size
        o.told(f"{done / 1e9:,.1f} of {total / 1e9:,.1f} GB")
        return found

    try:
        found = await asyncio.gather(*(one(name) for name in names))
    finally:
        # Also when it was called off: what has been read need not be read again.
        kept.save()
    return dict(zip(names, found, strict=True))


async def _hash(link: HostLink, known: Known, kept: KeptHashes, seconds: float) -> Hashed | Missing:
    """One file read; kept only under the size, time and inode that it had while it was read."""
    if seconds <= 0:
        return Missing(Reason.BUDGET, f"the {HASH_SECONDS / 3600:g} hours for hashing are over")
    began = time.monotonic()
    op = sha256("model.sha256", known.path, timeout=seconds)
    try:
        raw = await link.facts([op], deadline=seconds + GRACE_SECONDS)
    except GatherError as error:
        return Missing(error.reason, str(error))
    value = raw.value(op.key)
    if isinstance(value, Missing):
        return value
    cells = table(value) or {}
    digest, size = text(cells.get("sha256")), whole(cells.get("size"))
    if digest is None or size is None:
        return Missing(Reason.PARSE_ERROR, f"{known.path}: the host's answer is no hash")
    if (size, whole(cells.get("mtime_ns")), whole(cells.get("inode"))) == (known.size, known.mtime_ns, known.inode):
        kept.keep(known, digest)
    return Hashed(digest, size, time.monotonic() - began)


async def _reads(
    o: Observing, files: ModelFiles, own: Tree, weights: WeightFiles
) -> Mapping[str, Missing | Mapping[str, str]]:
    """On every other node that sees the directory: the first bytes of each weight file, and what keeps them away."""
    names = [name for name in weights.names if name in own.files]
    others = [name for name, look in files.looks.items() if name != files.host and isinstance(look.tree, Tree)]
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(host: str) -> Missing | Mapping[str, str]:
        async with gate:
            op = pieces("model.reads", *((f"{own.path}/{name}", 0, PREFIX) for name in names), timeout=HEADER_SECONDS)
            try:
                raw = await o.links[host].facts([op], deadline=HEADER_SECONDS + GRACE_SECONDS)
            except GatherError as error:
                return Missing(error.reason, str(error))
        return _errors(raw, names)

    if not names:
        return {}
    return dict(zip(others, await asyncio.gather(*(one(host) for host in others)), strict=True))


def _errors(raw: Raw, names: list[str]) -> Missing | Mapping[str, str]:
    answer = raw.answer("model.reads")
    if isinstance(answer, Missing):
        return answer
    found = contents(raw, "model.reads", [PREFIX] * len(names))
    return {name: each.why for name, each in zip(names, found, strict=True) if isinstance(each, Missing)}
