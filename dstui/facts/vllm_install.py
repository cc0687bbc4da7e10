"""Which vLLM is the latest by a package index, and what is inside a container image on each host."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dstui.facts.exchange import Exchange, Exchanges
from dstui.facts.raw import Answer, Missing
from dstui.facts.untyped import rows, table, text, whole
from dstui.model import Evidence, Reason, Target, TargetKind

INDEX = "vllm.index"
IMAGE = "vllm.image"

_FINAL = re.compile(r"\d{1,6}(?:\.\d{1,6}){1,3}(?:\.post\d{1,3})?", re.ASCII)
_FILE = re.compile(r"vllm-([^-\s/]{1,40})(?:-[^/\s]*\.whl|\.tar\.gz)", re.ASCII | re.IGNORECASE)
_ANCHOR = re.compile(r"<a\b([^>]{0,2000})>([^<]{1,300})</a>", re.IGNORECASE)
_NO_IMAGE = ("unable to find image", "no such image")
_DENIED = "permission denied"


@dataclass(frozen=True, slots=True)
class ImagePackages:
    """Inside the image: versions by distribution (None where it is not installed), Python's, torch's CUDA."""

    versions: Mapping[str, str | None]
    requires_python: str
    python: tuple[int, int, int] | None
    torch_cuda: str | None


@dataclass(frozen=True, slots=True)
class VllmInstall(Exchanges):
    """`latest` is None when nobody needs to know. `images` by host, empty where nothing runs in containers.

    An image that is not on a host is Missing(no-targets).
    """

    latest: str | Missing | None
    images: Mapping[str, ImagePackages | Missing]
    answers: Mapping[str, Answer]

    def evidence(self, target: Target) -> tuple[Evidence, ...]:
        """The index, and the answer of the target's own host."""
        shared = tuple(exchange.evidence() for exchange in self.by_key.values())
        own = self.answers.get(target.name) if target.kind is TargetKind.HOST else None
        return shared if own is None else (*shared, own.evidence())


def latest(exchange: Exchange) -> str | Missing:
    """The newest final version that an index has: PEP 691 JSON or PEP 503 HTML; what was yanked does not count."""
    if exchange.missing is not None:
        return exchange.missing
    if exchange.status != 200:
        return Missing(Reason.UNREACHABLE, f"{exchange.url}: HTTP {exchange.status}")
    if exchange.cut:
        return Missing(Reason.BUDGET, f"{exchange.url}: the list is longer than {len(exchange.body)} bytes")
    found = {version for version in _offered(exchange) if _FINAL.fullmatch(version)}
    if not found:
        return Missing(Reason.PARSE_ERROR, f"{exchange.url}: no release of vllm is listed")
    return max(found, key=release)


def release(version: str) -> tuple[int, ...]:
    """The numbers of a final version, `.post1` after what it repairs."""
    main, _, post = version.partition(".post")
    return (*(int(part) for part in main.split(".")), *([0] * (4 - main.count(".") - 1)), int(post or -1))


def _offered(exchange: Exchange) -> Iterator[str]:
    if "json" in exchange.kind:
        value = exchange.json()
        listing = {} if isinstance(value, Missing) else table(value) or {}
        for file in map(table, rows(listing.get("files")) or []):
            name = text(file.get("filename")) if file is not None else None
            if file is not None and name is not None and not file.get("yanked") and (match := _FILE.fullmatch(name)):
                yield match[1]
        return
    for attributes, name in _ANCHOR.findall(exchange.text):
        if "data-yanked" not in attributes.lower() and (match := _FILE.fullmatch(html.unescape(name).strip())):
            yield match[1]


def image_packages(answer: Answer) -> ImagePackages | Missing:
    """What the script of `gather.vllm_install` printed inside a container, or why it did not run."""
    if answer.missing is not None:
        return answer.missing
    said = answer.error.strip()
    if answer.exit != 0:
        lowered = said.lower()
        if any(words in lowered for words in _NO_IMAGE):
            return Missing(Reason.NO_TARGETS, "the image is not on this host")
        reason = Reason.PERMISSION if _DENIED in lowered else Reason.CANNOT_TELL
        last = said.splitlines()[-1] if said else ""
        return Missing(reason, f"docker run: exit {answer.exit}, {last[:200]}")
    try:
        value = table(json.loads(answer.output))
    except (ValueError, RecursionError):
        value = None
    versions = table(value.get("versions")) if value is not None else None
    if value is None or versions is None:
        return Missing(Reason.PARSE_ERROR, f"docker run: not understood: {answer.output.strip()[:80]!r}")
    python = [whole(part) for part in rows(value.get("python")) or []]
    return ImagePackages(
        versions={name: text(version) for name, version in versions.items()},
        requires_python=text(value.get("requires_python")) or "",
        python=(python[0], python[1], python[2]) if len(python) == 3 and None not in python else None,  # type: ignore[arg-type]
        torch_cuda=text(value.get("torch_cuda")),
    )
