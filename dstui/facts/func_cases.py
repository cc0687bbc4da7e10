"""What the functional checks send: texts in many languages, and requests that are wrong in known ways."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LanguageCase:
    """A text that has to survive the way to the model and back. `awkward` ones may be refused with 400."""

    id: str
    text: str
    awkward: bool = False


_FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"

LANGUAGE_CASES: tuple[LanguageCase, ...] = (
    LanguageCase("zh-hans", "敏捷的棕色狐狸跳过了懒狗。"),
    LanguageCase("zh-hant", "敏捷的棕色狐狸跳過了懶狗。"),
    LanguageCase("ja", "いろはにほへと ちりぬるを、漢字とカタカナ。"),
    LanguageCase("ko", "다람쥐 헌 쳇바퀴에 타고파."),
    LanguageCase("ar-bidi", "\u202b" + "نص حكيم له سر قاطع" + "\u202c " + "\u202e" + "abc" + "\u202c"),
    LanguageCase("he", "דג סקרן שט בים מאוכזב"),
    LanguageCase("hi", "ऋषियों को सताने वाले दुष्ट राक्षसों"),
    LanguageCase("th", "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า"),
    LanguageCase("emoji", f"{_FAMILY} \U0001f1e8\U0001f1f3 \U0001f44d\U0001f3fd"),
    LanguageCase("nfc-nfd", "\u00e9 e\u0301"),
    LanguageCase("combining", "Z\u0351\u036b\u0343\u036a\u0302a\u0334\u0321\u031c l\u0334\u0325g\u0316o\u0321"),
    LanguageCase("cjk-ext-b", "\U00020000\U0002a6d6 𠮷野家"),
    LanguageCase("zero-width", "a\u200bb\u200cc\u200dd\ufeffe"),
    LanguageCase("control", "".join(chr(code) for code in range(1, 32))),
    LanguageCase("quotes", "\"'`\\ </script> '; DROP TABLE users; -- ${HOME} {{7*7}}"),
    LanguageCase("lines", "one\r\ntwo\tthree\n\nfour"),
    LanguageCase("many-emoji", "\U0001f600" * 256),
    LanguageCase("nul", "before\x00after", awkward=True),
    LanguageCase("lone-surrogate", "before\ud800after", awkward=True),
)


@dataclass(frozen=True, slots=True)
class ErrorCase:
    """A request that must be refused. `allowed` are the codes that are proper, `weak` those that are only a warning.

    `key` says with which key: `right`, `none` or `wrong`. A case without `body` and `raw` has no body.
    """

    id: str
    allowed: tuple[int, ...]
    weak: tuple[int, ...] = ()
    method: str = "POST"
    path: str = "/v1/chat/completions"
    key: str = "right"
    content_type: str = "application/json"


BAD_BODY = (400, 422)
ERROR_CASES: tuple[ErrorCase, ...] = (
    ErrorCase("malformed-json", BAD_BODY),
    ErrorCase("empty-body", BAD_BODY),
    ErrorCase("no-messages", BAD_BODY),
    ErrorCase("wrong-type", BAD_BODY),
    ErrorCase("negative-tokens", BAD_BODY),
    ErrorCase("unknown-model", (404,), weak=(400,)),
    ErrorCase("too-long", (400,), weak=(413, 422)),
    ErrorCase("unknown-path", (404,), path="/v1/no-such-thing"),
    ErrorCase("wrong-method", (405,), weak=(404,), method="GET"),
    ErrorCase("text-plain", (400, 415, 422), content_type="text/plain"),
    ErrorCase("deep-nesting", (400, 413, 422)),
    ErrorCase("no-key", (401,), weak=(403,), key="none"),
    ErrorCase("wrong-key", (401,), weak=(403,), key="wrong"),
)
BIG_BODY = ErrorCase("big-body", (413,), weak=(400, 422))
"""Sent only where the limit is known: at most the limit and 1 MiB."""
