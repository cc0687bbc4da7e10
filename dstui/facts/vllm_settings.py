"""vLLM's settings by its own names, as they stand in a configuration, on a command line, in a log, in metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dstui.facts.untyped import real, text

Setting = int | float | bool | str | None

WHOLE = (
    "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "max_num_seqs", "max_num_batched_tokens",
    "max_model_len",
)  # fmt: skip
SHARES = ("gpu_memory_utilization",)
WORDS = ("kv_cache_dtype", "quantization")
SWITCHES = ("enable_prefix_caching",)
NAMES = (*WHOLE, *SHARES, *WORDS, *SWITCHES)
"""The settings that are judged (CATALOGUE 038), and the only ones that are read."""

CERTAIN_DEFAULTS: Mapping[str, Setting] = {
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "data_parallel_size": 1,
    "kv_cache_dtype": "auto",
}
"""What holds when nothing is said, in every version of vLLM; other defaults moved between releases."""

_HUMAN = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)([kKmMgG]?)", re.ASCII)
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
_WORD = re.compile(r"[\w./:+-]{1,60}", re.ASCII)


def settings_of(given: Mapping[str, object]) -> dict[str, Setting]:
    """Those of a table that are known and well-formed; names may be written with `-` for `_`."""
    found: dict[str, Setting] = {}
    for key, value in given.items():
        name = key.replace("-", "_")
        if name in NAMES and (read := setting(name, value)) is not None:
            found[name] = read
    return found


def setting(name: str, value: object) -> Setting:
    """One setting in its own type; None when it is none. Text is read as a command line's: `8k` is 8,000, `8K` 8,192.

    -1 and `auto` for a length leave it to vLLM and are none.
    """
    if name in WHOLE:
        return _whole(value)
    if name in SHARES:
        return real(_number(value))
    if name in SWITCHES:
        return _switch(value)
    word = text(value)
    return word if word is not None and _WORD.fullmatch(word) and word != "None" else None


def _whole(value: object) -> int | None:
    if isinstance(value, str):
        match = _HUMAN.fullmatch(value.strip())
        number = None if match is None else float(match[1]) * _SCALE[match[2]]
    else:
        number = real(value)
    return int(number) if number is not None and number == int(number) and number > 0 else None


def _number(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return None


def _switch(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


def of_command_line(flags: Mapping[str, str]) -> dict[str, Setting]:
    """The settings of vLLM's flags (`serve_processes.kept_flags`), with the defaults that are certain.

    With `--config` a file has settings of its own, and then nothing that is not there may be taken for a default.
    """
    given: dict[str, object] = {name: value for name, value in flags.items() if not name.endswith("prefix-caching")}
    for name, value in flags.items():
        if name == "enable-prefix-caching":
            given[name] = value
        elif name == "no-enable-prefix-caching":
            given["enable_prefix_caching"] = False
    found = settings_of(given)
    return found if "config" in flags else {**CERTAIN_DEFAULTS, **found}
