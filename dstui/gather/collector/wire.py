"""JSON for the wire, and answers that say why something could not be had.

The collector's files run on hosts: Python 3.6 syntax, standard library only. `json` imports `re`, which costs as much
as the whole rest of the collector's start; its C half does the work and is used directly where it behaves as known.
"""

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

WHY_CHARS = 500
"""How much of what a command said before it was ended goes into the explanation."""


def _lean_json() -> "tuple[Callable[[object], str], Callable[[str], object]]":
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    class Rules:
        strict = False
        object_hook = None
        object_pairs_hook = None
        parse_float = float
        parse_int = int
        parse_constant = float
        memo: "dict[str, str]" = {}

    def refuse(value: object) -> object:
        raise TypeError("not JSON: " + type(value).__name__)

    encode = make_encoder(None, refuse, encode_basestring_ascii, None, ":", ",", False, False, True)
    scan = make_scanner(Rules())  # type: ignore[arg-type]

    def lean_dumps(value: object) -> str:
        return "".join(encode(value, 0))

    def lean_loads(line: str) -> object:
        line = line.strip(" \t\r\n")
        try:
            value, end = scan(line, 0)
        except StopIteration:
            raise ValueError("not JSON")
        if end != len(line):
            raise ValueError("more than one JSON value on the line")
        return value

    sample: "dict[str, object]" = {"a": [1, 1.5, None, True, '\x00é"', {}], "b": {"c": ""}}
    if lean_loads(lean_dumps(sample)) != sample:
        raise ValueError("the C half of json does not behave as known")
    return lean_dumps, lean_loads


try:
    dumps, loads = _lean_json()
except Exception:  # a private interface may change in any way; the public one is slower and always there
    from json import dumps, loads  # noqa: F401


def text(raw: bytes) -> str:
    """Bytes of a host as text that JSON can carry."""
    return raw.decode("utf-8", "replace")


def path_bytes(path: str) -> bytes:
    """A path as the bytes the kernel knows; Python 3.6 under LC_ALL=C could not encode it by itself."""
    return path.encode("utf-8", "surrogateescape")


def missing(reason: str, why: str) -> "dict[str, object]":
    """An answer that there is none. `reason` is one of the controller's Reason values."""
    return {"missing": reason, "why": why}


def errno_name(error: OSError) -> str:
    """`EACCES` for an OSError, the exception's name when there is no errno."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)


def os_missing(error: OSError, subject: str) -> "dict[str, object]":
    """The answer for an operation that ended in an OSError; `why` starts with the errno's name."""
    name = errno_name(error)
    reason = {"EACCES": "permission", "EPERM": "permission", "ETIMEDOUT": "timeout"}.get(name, "cannot-tell")
    return missing(reason, "%s: %s: %s" % (name, subject, error.strerror or error))


def crashed(error: Exception) -> "dict[str, object]":
    """The answer for an operation whose own code failed: the others must not be lost for it."""
    return missing("probe-error", "the collector could not do this: %s: %s" % (type(error).__name__, error))


def strings(args: "dict[str, object]", name: str) -> "list[str]":
    """A list of strings out of a request; TypeError when it is something else."""
    value = args.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError("%s is not a list of strings" % name)
    return value


def string(args: "dict[str, object]", name: str, default: str = "") -> str:
    """A string out of a request; TypeError when it is something else."""
    value = args.get(name, default)
    if not isinstance(value, str):
        raise TypeError("%s is not a string" % name)
    return value


def number(args: "dict[str, object]", name: str, default: float) -> float:
    """A number out of a request; TypeError when it is something else."""
    value = args.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("%s is not a number" % name)
    return value
