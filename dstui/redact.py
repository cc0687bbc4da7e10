"""Takes secrets and terminal controls out of text before it is stored or shown.

Two passes: the exact values that this process has resolved, in the encodings in which they travel, then the
credential patterns of `sec.log-secrets`. Every pattern is written so that it runs in linear time on any input:
repetitions are possessive or bounded, and what could start anywhere may only start at the edge of a word.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol
from urllib.parse import quote, quote_plus

from dstui.model import Evidence

SHORTEST_EXACT = 4
"""Secrets shorter than this are not searched for by value: masking every `1` would hide everything but the secret."""


class CredentialPattern(NamedTuple):
    """One shape of credential. `signs` are lower-case strings of which one occurs in any text with a match.

    Group `keep`, where there is one, stays readable; the rest of the match is masked.
    """

    name: str
    signs: tuple[str, ...]
    pattern: re.Pattern[str]
    cut: re.Pattern[str] | None = None
    """The same credential, when the text was cut off inside it."""


_A = re.ASCII
_AI = re.ASCII | re.IGNORECASE
_WORD = r"password|passwd|secret|api[_-]?key|token"

PATTERNS: tuple[CredentialPattern, ...] = (
    CredentialPattern(
        "private-key",
        ("private key-----",),
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----"
            r"(?:(?s:.{0,16384}?)-----END [A-Z ]{0,40}PRIVATE KEY-----|(?s:.{0,16384}))",
            _A,
        ),
    ),
    CredentialPattern(
        "authorization",
        ("authorization",),
        re.compile(r"""(?P<keep>authorization["']?[ \t]{0,8}[:=][ \t"']{0,8})[^\s"'][^\r\n"']{3,}+""", _AI),
        re.compile(r"""(?P<keep>authorization["']?[ \t]{0,8}[:=][ \t"']{0,8})[^\r\n"']++\Z""", _AI),
    ),
    CredentialPattern(
        "url-login",
        ("://",),
        re.compile(r"(?P<keep>://[^\s/:@]{0,256}:)[^\s/]{1,1024}(?=@)", _A),
        re.compile(r"(?P<keep>://[^\s/:@]{0,256}:)(?!\d{1,5}\Z)[^\s/@]{1,1024}\Z", _A),
    ),
    CredentialPattern("sk-key", ("sk-",), re.compile(r"sk-[A-Za-z0-9_-]{20,}+", _A), re.compile(r"sk-[\w-]*+\Z", _A)),
    CredentialPattern("hf-token", ("hf_",), re.compile(r"hf_[A-Za-z0-9]{30,}+", _A), re.compile(r"hf_\w*+\Z", _A)),
    CredentialPattern("aws-key", ("akia",), re.compile(r"AKIA[0-9A-Z]{16}", _A), re.compile(r"AKIA\w{0,16}\Z", _A)),
    CredentialPattern("aliyun-key", ("ltai",), re.compile(r"LTAI[0-9A-Za-z]{12,}+", _A), re.compile(r"LTAI\w*+\Z", _A)),
    CredentialPattern("github-token", ("ghp_",), re.compile(r"ghp_[A-Za-z0-9]{36}", _A), re.compile(r"ghp_\w*+\Z", _A)),
    CredentialPattern(
        "jwt",
        ("eyj",),
        re.compile(r"(?<![\w-])(?P<keep>(?>[\w-]*?(?=eyJ)))eyJ[\w-]++\.[\w-]++\.[\w-]++", _A),
        re.compile(r"(?<![\w-])(?P<keep>(?>[\w-]*?(?=eyJ)))eyJ[\w.-]*+\Z", _A),
    ),
    CredentialPattern(
        "bearer",
        ("bearer",),
        re.compile(r"(?P<keep>bearer\s++)[A-Za-z0-9._~+/=-]{16,}+", _AI),
        re.compile(r"(?P<keep>bearer\s++)\S*+\Z", _AI),
    ),
    CredentialPattern(
        "assigned",
        ("password", "passwd", "secret", "api", "token"),
        re.compile(
            rf"""(?P<keep>(?:{_WORD})["' :=\\]++)"""
            r"""(?:(?<=")(?:[^"\\\n]|\\.){8,}+|(?<=')[^'\n]{8,}+|\S{8,}+)""",
            _AI,
        ),
        re.compile(rf"""(?P<keep>(?:{_WORD})["' :=\\]++)\S++\Z""", _AI),
    ),
)
"""The credential class of `sec.log-secrets`, and two shapes more: the Authorization header and logins in URLs."""

_SHORT = 1024
_ANY_SIGN = re.compile("|".join(sorted({re.escape(sign) for shape in PATTERNS for sign in shape.signs})), _AI)
"""One search instead of one for each sign: quicker for a sentence, slower for a log."""

_STRICT_ASSIGNED = re.compile(rf"""(?P<keep>(?:{_WORD})["' ]{{0,8}}[:=]["' ]{{0,8}})[^\s"']{{8,}}""", _AI)


def secret_shape(text: str) -> str | None:
    """The name of the first credential pattern found in what a person wrote into a file, else None.

    Stricter than redaction in one place: `token throughput` in prose is no secret, `token: x8f…` is one.
    """
    lowered = text.lower()
    for shape in PATTERNS:
        if any(sign in lowered for sign in shape.signs):
            pattern = _STRICT_ASSIGNED if shape.name == "assigned" else shape.pattern
            if pattern.search(text):
                return shape.name
    return None


_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]"
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]*+(?:\x07|\x1b\\|\x9c)"
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x9c\n]*+(?:\x1b\\|\x9c)"
    r"|\x1b[ -/]*+[0-Z\\^-~]"
)
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def clean(text: str) -> str:
    """Text that cannot steer a terminal: ANSI sequences gone, other controls and bidi overrides visible as `\\x07`.

    Newlines and tabs stay, CR LF becomes LF. Lone surrogates (bytes that were not UTF-8) become visible, too.
    """
    if not _UNSAFE.search(text):
        return text
    return _UNSAFE.sub(_visible, _ANSI.sub("", text.replace("\r\n", "\n")))


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _encodings(value: str) -> Iterator[str]:
    """The value as it may stand in text: itself, JSON- and URL-escaped, and base64 at each of the three alignments."""
    yield value
    yield value.rstrip("\n")
    yield clean(value)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    raw = value.encode("utf-8", "surrogatepass")
    for escaped in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield escaped
        yield re.sub(r"%[0-9A-F]{2}", lambda m: m[0].lower(), escaped)
    for shift in range(3):
        bits = (shift + len(raw)) * 8
        encoded = b64encode(b"\0" * shift + raw).decode("ascii")
        inner = encoded[(shift * 8 + 5) // 6 : bits // 6]
        yield inner
        yield inner.translate({ord("+"): "-", ord("/"): "_"})


@dataclass(frozen=True, slots=True)
class _Exact:
    """Every form of the known values, longest first, each with its mask."""

    known: tuple[tuple[str, str], ...]
    forms: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, known: tuple[tuple[str, str], ...]) -> _Exact:
        masks: dict[str, str] = {}
        for label, value in known:
            for form in _encodings(value):
                if len(form) >= SHORTEST_EXACT:
                    masks.setdefault(form, f"‹{label}›")
        return cls(known, tuple(sorted(masks.items(), key=lambda item: (-len(item[0]), item[0]))))

    def mask(self, text: str) -> str:
        for form, mask in self.forms:
            if form in text:
                text = text.replace(form, mask)
        return text

    def mask_cut_tail(self, text: str) -> str:
        """A value whose beginning ends the text is masked as well: the text was cut inside it."""
        longest = 0
        mask = ""
        for form, shown in self.forms:
            tail = text[-len(form) :]
            start = tail.find(form[:SHORTEST_EXACT])
            while 0 <= start < len(tail) - longest:
                if form.startswith(tail[start:]):
                    longest, mask = len(tail) - start, shown
                start = tail.find(form[:SHORTEST_EXACT], start + 1)
        return text[: len(text) - longest] + mask if longest else text


class KnownSecrets(Protocol):
    """Something that remembers the secrets it has given out."""

    def resolved(self) -> tuple[tuple[str, str], ...]:
        """(label, value) of each; the label may be shown."""
        ...


class Redactor:
    """Masks secrets in text. `known` is where this process resolves its secrets, usually a `SecretStore`.

    Values that are resolved later are picked up by the next call. Safe to use from several threads.
    """

    __slots__ = ("_exact", "_known")

    def __init__(self, known: KnownSecrets | None = None) -> None:
        self._known = known
        self._exact = _Exact((), ())

    def text(self, text: str) -> str:
        """The text with every known value and every credential-shaped string masked."""
        return self._patterns(self._current().mask(text), cut=False)

    def sentence(self, text: str) -> str:
        """A sentence of dstui's own: as `text`, but `prohibit-password (the files say so)` is prose, not a secret.

        Before an ellipsis what it quotes was cut, perhaps inside a secret.
        """
        exact = self._current()
        *cut, last = exact.mask(clean(text)).split("…")
        masked = "…".join([*(exact.mask_cut_tail(part) for part in cut), last])
        return self._patterns(masked, cut=False, prose=True)

    def octets(self, content: bytes) -> bytes:
        """The same for bytes, which need not be UTF-8."""
        return self.text(content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def evidence(self, evidence: Evidence) -> Evidence:
        """The evidence as it may be stored: cleaned of terminal controls, then redacted, in every text field."""
        cut = evidence.truncated or evidence.output_bytes > len(evidence.output.encode("utf-8", "replace"))
        return replace(
            evidence,
            source=self._sanitised(evidence.source),
            output=self._sanitised(evidence.output, cut=cut),
            error=self._sanitised(evidence.error, cut=len(evidence.error) >= 1024),
        )

    def _sanitised(self, text: str, *, cut: bool = False) -> str:
        if not text:
            return text
        exact = self._current()
        cleaned = exact.mask(clean(exact.mask(text)))
        if cut:
            cleaned = exact.mask_cut_tail(cleaned)
        return self._patterns(cleaned, cut=cut)

    def _current(self) -> _Exact:
        known = self._known.resolved() if self._known is not None else ()
        exact = self._exact
        if exact.known != known:
            exact = self._exact = _Exact.of(known)
        return exact

    @staticmethod
    def _patterns(text: str, *, cut: bool, prose: bool = False) -> str:
        if len(text) < _SHORT and not _ANY_SIGN.search(text):
            return text
        lowered = text.lower()
        for shape in PATTERNS:
            if not any(sign in lowered for sign in shape.signs):
                continue
            mask = partial(_masked, name=shape.name)
            pattern = _STRICT_ASSIGNED if prose and shape.name == "assigned" else shape.pattern
            text = pattern.sub(mask, text)
            if cut and shape.cut is not None:
                text = shape.cut.sub(mask, text)
        return text


_NAMES = "|".join(shape.name for shape in PATTERNS)
_MASK = re.compile(rf"""‹(?:(?:secrets\.|env:|file:|cmd:)[^‹›]{{0,200}}|(?:{_NAMES}):\d+)›["',;)]*""")


def _masked(match: re.Match[str], name: str) -> str:
    kept: str = match.groupdict().get("keep") or ""
    hidden = match[0][len(kept) :]
    if _MASK.fullmatch(hidden):
        return match[0]
    return f"{kept}‹{name}:{len(hidden)}›"
