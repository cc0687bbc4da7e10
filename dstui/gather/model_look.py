"""Looks at the model's directory on every Ray node, and reads its small files and headers on one of them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dstui.facts import safetensors
from dstui.facts.model_config import CONFIG
from dstui.facts.model_files import SMALL, ModelFiles, WeightFiles, may_be_pointer
from dstui.facts.model_shards import Shard
from dstui.facts.model_tree import ModelLook, Tree, tree_of
from dstui.facts.mounts import under
from dstui.facts.raw import Missing, Op, Raw, paths, pieces, read, run, tree
from dstui.facts.storage import user_of
from dstui.facts.untyped import rows, table, text, whole
from dstui.gather.hostlink import HostLink
from dstui.gather.observing import Observing
from dstui.model import GatherError, Reason

LISTING_SECONDS = 10.0
HEADER_SECONDS = 60.0
GRACE_SECONDS = 5.0
AT_ONCE = 32
SMALL_BYTES = 24 << 20
"""DeepSeek-V3's index has 9 MB."""
MOST_HEADERS_BYTES = 256 << 20
MOST_SHARDS = 4096
PIECES_AT_ONCE = 64
BYTES_AT_ONCE = 16 << 20


async def observe_model_files(o: Observing) -> ModelFiles:
    """The directory on every Ray node; config, tokenizer and index on the first that has them."""
    path = model_path(o)
    began = time.monotonic()
    gate = asyncio.Semaphore(AT_ONCE)
    nodes = [host.name for host in o.site.hosts if host.in_ray]

    async def one(name: str) -> ModelLook:
        link = o.links.get(name)
        if link is None:
            return ModelLook(o.missing.get(name, Missing(Reason.UNREACHABLE, f"{name} is not connected")))
        async with gate:
            return await _look(o, link, path)

    looks = dict(zip(nodes, await asyncio.gather(*(one(name) for name in nodes)), strict=True))
    found = ModelFiles(path, looks, seconds=time.monotonic() - began)
    best = _reader(looks)
    return found if best is None else await _read_small(o, replace(found, host=best))


def model_path(o: Observing) -> str:
    return o.params("model.present", None).text("model_path").rstrip("/") or "/"


async def _look(o: Observing, link: HostLink, path: str) -> ModelLook:
    asked: list[Op] = [
        tree("model.tree", path, timeout=LISTING_SECONDS),
        paths("model.share", o.site.shared_path, timeout=5.0),
    ]
    if o.site.runtime_user:
        asked.append(run("model.user", "id", o.site.runtime_user, timeout=5.0))
    try:
        raw = await link.facts(asked, deadline=LISTING_SECONDS + GRACE_SECONDS)
    except GatherError as error:
        return ModelLook(Missing(error.reason, str(error)))
    found = tree_of(raw, "model.tree", path)
    user = user_of(raw, "model.user")
    return ModelLook(found, user, link.session.user, _on_share(raw, o.site.shared_path, found))


def _on_share(raw: Raw, shared_path: str, found: Tree | Missing) -> bool | Missing:
    """Whether the model's real place is below the share's: a link may lead out of it."""
    value = raw.value("model.share")
    if isinstance(value, Missing):
        return value
    look = table((table(value) or {}).get(shared_path)) or {}
    real = text(look.get("real"))
    if look.get("hung") is True:
        return Missing(Reason.TIMEOUT, f"{shared_path} hangs")
    if isinstance(found, Missing):
        return found
    return real is not None and found.real is not None and under(real, found.real)


def _reader(looks: Mapping[str, ModelLook]) -> str | None:
    """The host to read on: one that sees a config.json, else one that sees anything."""
    seen = {name: look.tree for name, look in looks.items() if isinstance(look.tree, Tree) and not look.tree.error}
    whole_ones = (name for name, tree in seen.items() if CONFIG in tree.files or tree.revisions())
    return next(whole_ones, next(iter(seen), None))


async def _read_small(o: Observing, found: ModelFiles) -> ModelFiles:
    assert found.host is not None
    link, top = o.links[found.host], found.looks[found.host].tree
    assert isinstance(top, Tree)
    place = await _place(link, top)
    found = replace(found, place=place)
    own = found.tree
    if isinstance(own, Missing):
        return found
    asked: list[Op] = [
        read(f"model.text.{name}", f"{own.path}/{name}", limit=SMALL_BYTES) for name in SMALL if name in own.files
    ]
    short = may_be_pointer(own)
    if short:
        asked.append(pieces("model.heads", *((f"{own.path}/{name}", 0, 64) for name in short)))
    if not asked:
        return found
    try:
        raw = await link.facts(asked, deadline=2 * LISTING_SECONDS)
    except GatherError as error:
        lost = Missing(error.reason, str(error))
        there = [name for name in SMALL if name in own.files]
        return replace(found, texts=dict.fromkeys(there, lost), heads=dict.fromkeys(short, lost))
    return replace(
        found,
        texts={name: raw.text(f"model.text.{name}") for name in SMALL if name in own.files},
        heads=dict(zip(short, contents(raw, "model.heads", [64] * len(short)), strict=True)) if short else {},
    )


async def _place(link: HostLink, top: Tree) -> str | Missing:
    """Where in a Hugging Face cache folder the model lies: the only revision, or the one that `refs/main` names."""
    revisions = top.revisions()
    if CONFIG in top.files or not revisions:
        return ""
    if len(revisions) == 1:
        return f"snapshots/{revisions[0]}"
    try:
        raw = await link.facts([read("model.ref", f"{top.path}/refs/main", limit=256)], deadline=LISTING_SECONDS)
    except GatherError as error:
        return Missing(error.reason, str(error))
    named = raw.text("model.ref")
    if isinstance(named, str) and named.strip() in revisions:
        return f"snapshots/{named.strip()}"
    return Missing(
        Reason.CANNOT_TELL, f"{len(revisions)} revisions in {top.path} and no refs/main: name one in model.path"
    )


def contents(raw: Raw, key: str, lengths: Sequence[int]) -> list[bytes | Missing]:
    """The bytes of each piece of a PIECES; what a host packed larger than was asked for is not unpacked."""
    return [found if isinstance(found, Missing) else found[1] for found in sized(raw, key, lengths)]


def sized(raw: Raw, key: str, lengths: Sequence[int]) -> list[tuple[int, bytes] | Missing]:
    """The same with each file's size before it."""
    value = raw.value(key)
    if isinstance(value, Missing):
        return [value] * len(lengths)
    answers = rows(value) or []
    if len(answers) != len(lengths):
        return [Missing(Reason.PARSE_ERROR, "the host's answer has not one piece for each asked")] * len(lengths)
    return [_piece(answer, length) for answer, length in zip(answers, lengths, strict=True)]


def _piece(answer: object, length: int) -> tuple[int, bytes] | Missing:
    cells = rows(answer) or []
    size, packed = (whole(cells[0]), text(cells[1])) if len(cells) == 2 else (None, None)
    if size is None or packed is None:
        errno = packed or "no answer"
        denied = errno in ("EACCES", "EPERM")
        return Missing(Reason.PERMISSION if denied else Reason.CANNOT_TELL, errno)
    try:
        opened = zlib.decompressobj()
        content = opened.decompress(base64.b64decode(packed, validate=True), length + 1)
    except (binascii.Error, zlib.error, ValueError):
        return Missing(Reason.PARSE_ERROR, "the host's answer cannot be unpacked")
    if len(content) > length:
        return Missing(Reason.PARSE_ERROR, "the host sent more than was asked for")
    return size, content


async def shards_of(o: Observing, files: ModelFiles, weights: WeightFiles) -> tuple[Shard, ...]:
    """The header of every safetensors file, in two rounds; zip archives by their end."""
    own = files.tree
    if isinstance(own, Missing) or files.host is None:
        return ()
    if len(weights.names) > MOST_SHARDS:
        lost = Missing(Reason.BUDGET, f"{len(weights.names)} weight files, more than {MOST_SHARDS}")
        return tuple(Shard(name, None, lost) for name in weights.names)
    link, there = o.links[files.host], own.files
    names = [name for name in weights.names if name in there]
    o.told(f"headers of {len(names)} files")
    firsts = await read_parts(link, [(f"{own.path}/{name}", 0, safetensors.PREFIX) for name in names])
    lengths = [
        first if isinstance(first, Missing) else safetensors.header_length(first[1], first[0]) for first in firsts
    ]
    if sum(length for length in lengths if isinstance(length, int)) > MOST_HEADERS_BYTES:
        lost = Missing(Reason.BUDGET, f"the headers hold more than {MOST_HEADERS_BYTES >> 20} MiB")
        lengths = [lost for _ in lengths]
    wanted = [
        (f"{own.path}/{name}", safetensors.PREFIX, length)
        for name, length in zip(names, lengths, strict=True)
        if isinstance(length, int)
    ]
    bodies = dict(zip((path for path, _, _ in wanted), await read_parts(link, wanted), strict=True))
    found = {}
    for name, length in zip(names, lengths, strict=True):
        if not isinstance(length, int):
            found[name] = Shard(name, there[name].size, length)
            continue
        body = bodies[f"{own.path}/{name}"]
        if isinstance(body, Missing):
            found[name] = Shard(name, there[name].size, body)
            continue
        parsed = await asyncio.to_thread(safetensors.header, body[1], body[0])
        found[name] = Shard(name, body[0], parsed)
    return tuple(found.get(name) or absent(own, name) for name in weights.names)


def absent(own: Tree, name: str) -> Shard:
    """A weight file that the listing has no size of: not there, or out of the login user's reach."""
    errno = own.errors.get(name, "ENOENT")
    if errno in ("EACCES", "EPERM"):
        return Shard(name, None, Missing(Reason.PERMISSION, errno))
    return Shard(name, None, Missing(Reason.CANNOT_TELL, f"is not there ({errno})"))


async def read_parts(link: HostLink, parts: Sequence[tuple[str, int, int]]) -> list[tuple[int, bytes] | Missing]:
    """Many pieces in requests that fit into messages, one after the other."""
    found: list[tuple[int, bytes] | Missing] = []
    for some in _batches(parts):
        try:
            raw = await link.facts(
                [pieces("model.pieces", *some, timeout=HEADER_SECONDS)], deadline=HEADER_SECONDS + GRACE_SECONDS
            )
        except GatherError as error:
            found += [Missing(error.reason, str(error))] * len(some)
            continue
        found += await asyncio.to_thread(sized, raw, "model.pieces", [length for _, _, length in some])
    return found


def _batches(parts: Sequence[tuple[str, int, int]]) -> Iterator[Sequence[tuple[str, int, int]]]:
    start, size = 0, 0
    for at, (_, _, length) in enumerate(parts):
        if at > start and (size + length > BYTES_AT_ONCE or at - start >= PIECES_AT_ONCE):
            yield parts[start:at]
            start, size = at, 0
        size += length
    if parts:
        yield parts[start:]
