"""Test cases as the team of the made-up service would keep them: what is asked, and what has to come of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

_ASKED: tuple[tuple[str, str, str, Mapping[str, object]], ...] = (
    ("greeting", "basic", "Hello, how are you?", {"status": 200}),
    ("sum", "basic", "What is 17+25?", {"contains": "42"}),
    ("repeat", "basic", "Repeat exactly: blue whale", {"contains": "blue whale"}),
    ("begin", "basic", "Start your answer with zebra, then compute 2+2.", {"regex": "^zebra"}),
    ("long-word", "long", "The code word is larch. " + "All was well. " * 200 + "What is the code word?",
     {"contains": "larch"}),
    ("long-sum", "long", "One more time. " * 20 + "What is 3*7?", {"contains": "21"}),
    ("chinese", "multilingual", "你好，请介绍一下自己。", {"status": 200, "not_contains": "\ufffd"}),
    ("arabic", "multilingual", "Repeat exactly: نص حكيم", {"contains": "نص حكيم"}),
    ("together", "concurrency", "Start your answer with lantern, then compute 8+5.", {"contains": "lantern"}),
    ("order-number", "domain", "Repeat exactly: order 4711 ships on Tuesday", {"contains": "4711"}),
    ("return-policy", "domain", "Repeat exactly: returns within 30 days", {"contains": "30 days"}),
)  # fmt: skip


def _cases() -> Iterator[Mapping[str, object]]:
    for name, category, words, expect in _ASKED:
        messages = [{"role": "user", "content": words}]
        yield {"id": name, "category": category, "messages": messages, "expect": {**expect, "max_latency_s": 30}}
    yield {"id": "no-messages", "category": "error", "body": {"max_tokens": 4}, "expect": {"status": 400}}


def case_lines() -> str:
    """The text of a file of cases, one in each line."""
    return "".join(json.dumps(case, ensure_ascii=False) + "\n" for case in _cases())
