"""What pydantic found wrong, in the operator's words: what is there, what to write instead, the key that was meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from dstui.inventory.schema_walk import model_at, model_in
from dstui.inventory.unfold import Path, Unfolded, holds_secret, nearest, spelled
from dstui.inventory.yaml_tree import Fault, Scalar, Sequence
from dstui.redact import clean, secret_shape

_RENAMED = {"drills": "rehearsals"}
_EXAMPLES = {
    "version": "version: 1",
    "cluster": "cluster: {name: ds-prod}",
    "cluster.name": "name: ds-prod",
    "name": "name: gpu-01",
    "ssh": "ssh: {user: dstui}",
    "user": "user: dstui",
    "hosts": "hosts: [{name: gpu-01, roles: [head], data_ip: 198.51.100.11}]",
    "data_ip": "data_ip: 198.51.100.11",
    "host": "host: bastion.example.com",
    "shared_path": "shared_path: /mnt/deepseek-shared",
    "path": "path: /mnt/deepseek-shared/models/deepseek-llm-7b-chat",
    "served_name": "served_name: deepseek-llm-7b-chat",
    "api": "api: https://api.deepseek.example.com",
    "ref": "ref: ./docs/architecture.md",
    "owner": "owner: zhang.wei",
    "id": "id: zhang.wei",
    "level": "level: 1",
    "after_min": "after_min: 15",
    "who": "who: on-call",
    "vendor": "vendor: server-oem",
}


def faults_of(errors: Iterable[ErrorDetails], model: type[BaseModel], file: Unfolded) -> list[Fault]:
    """One fault for each of pydantic's errors, at its place in the file, unless that place has been told of before."""
    spoilt = {fault.at for fault in file.faults}
    found = [(error["type"], _fault(error, model, file)) for error in errors if not _is_echo(error, file)]
    return [fault for kind, fault in found if kind == "missing" or fault.at not in spoilt]


def _is_echo(error: ErrorDetails, file: Unfolded) -> bool:
    """Whether a list is called empty only because all its items have faults of their own."""
    node = file.nodes.get(tuple(error["loc"]))
    return error["type"] == "too_short" and isinstance(node, Sequence) and bool(node.items)


def _fault(error: ErrorDetails, model: type[BaseModel], file: Unfolded) -> Fault:
    kind = error["type"]
    path: Path = tuple(part for part in error["loc"] if part != "[key]")
    if kind == "missing":
        name = str(path[-1])
        what = "has no value" if path in file.nodes else "is missing"
        example = _EXAMPLES.get(spelled(path)) or _EXAMPLES.get(name, f"{name}: …")
        return Fault(file.at(path), f"`{spelled(path)}` {what}; write `{example}`")
    if kind in ("extra_forbidden", "invalid_key"):
        return Fault(file.key_at(path), _unknown_key(path, model))
    if "[key]" in error["loc"]:
        return Fault(file.key_at(path), f"the key `{_shown_key(path)}` {_sentence(error)}")
    shown = _shown(path, file)
    return Fault(file.at(path), f"`{spelled(path) or 'the file'}`: {shown} {_sentence(error)}")


_BLOCK_TYPES = ("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type")
_NUMBER_TYPES = ("int_type", "int_parsing", "int_from_float", "int_parsing_size")


def _sentence(error: ErrorDetails) -> str:
    kind = error["type"]
    context: Mapping[str, object] = error.get("ctx", {})
    if kind == "value_error":
        return str(context.get("error", "is not right"))
    if kind == "literal_error":
        choices = _choices(context)
        return f"is not {'one of ' if ' or ' in choices else ''}{choices}{_meant(error, context)}"
    if kind == "string_type":
        return f"must be text{_as_text(error)}"
    if kind in _NUMBER_TYPES:
        return "must be a whole number, without quotes"
    if kind in ("float_type", "float_parsing", "finite_number"):
        return "must be a number, without quotes"
    if kind in ("bool_type", "bool_parsing"):
        return "must be `true` or `false`, without quotes"
    if kind in ("tuple_type", "list_type"):
        return "must be a list: write `[a, b]`, or one `- item` a line"
    if kind in _BLOCK_TYPES:
        return "must be a block of `key: value` lines"
    if kind in ("too_short", "string_too_short"):
        return "is empty; write at least one item"
    return _bound(kind, context)


def _bound(kind: str, context: Mapping[str, object]) -> str:
    bounds = {"greater_than_equal": ("ge", "at least"), "less_than_equal": ("le", "at most")}
    bounds |= {"greater_than": ("gt", "more than"), "less_than": ("lt", "less than")}
    if kind in bounds:
        key, words = bounds[kind]
        return f"is out of range; it must be {words} {context.get(key)}"
    return "is not what belongs here; see inventory.example.yaml"


def _choices(context: Mapping[str, object]) -> str:
    return str(context.get("expected", "the allowed values")).replace("'", "`")


def _meant(error: ErrorDetails, context: Mapping[str, object]) -> str:
    value = error.get("input")
    if not isinstance(value, str):
        return ""
    expected = [word.strip(" '") for word in str(context.get("expected", "")).replace(" or ", ",").split(",")]
    guess = nearest(value, expected)
    return f"; did you mean `{guess}`?" if guess else ""


def _as_text(error: ErrorDetails) -> str:
    return ", in quotes" if isinstance(error.get("input"), bool | int | float) else ""


def _shown(path: Path, file: Unfolded) -> str:
    """The value as it stands in the file, when it may be shown and is short enough to help."""
    node = file.nodes.get(path)
    if not isinstance(node, Scalar):
        return "this" if node is None else "the list" if isinstance(node, Sequence) else "the block"
    if holds_secret(path) or secret_shape(node.text):
        return "the value"
    text = clean(node.text).replace("\n", " ")
    return f"`{text[:60]}{'…' if len(text) > 60 else ''}`" if text else "the empty value"


def _shown_key(path: Path) -> str:
    key = clean(str(path[-1])).replace("\n", " ")
    return "…" if secret_shape(key) else key[:60]


def _unknown_key(path: Path, model: type[BaseModel]) -> str:
    name = str(path[-1])
    place = f"`{spelled(path[:-1])}`" if len(path) > 1 else "the inventory"
    text = f"`{_shown_key(path)}` is not a key of {place}"
    if name in _RENAMED:
        return f"{text}; it is called `{_RENAMED[name]}`"
    owner = model_at(model, path[:-1])
    if owner is None:
        return f"{text}; remove it"
    known = list(owner.model_fields)
    guess = nearest(name, known)
    if guess:
        return f"{text}; did you mean `{guess}`?"
    for field, info in owner.model_fields.items():
        inner = model_in(info.annotation)
        if inner is not None and name in inner.model_fields:
            return f"{text}; it belongs into `{field}:`"
    listed = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
    return f"{text}; known are {listed}"
