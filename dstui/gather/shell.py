"""The operations on a host without python3: one POSIX sh script for standard input, and what it prints as answers.

Works in dash, bash and busybox sh with GNU or busybox tools. The script prints frames that begin with 0x1e, a letter
and a key; 0x1e is removed from everything else. It reads nothing but itself, writes nothing to disk, and prints DONE
last. busybox's own timeout(1) is not used: its timer keeps the output open for up to a second after the command.
Its head(1) reads ahead, so there the full length of an output that was cut is a lower bound. A host's shell may hang on
a dead mount: take what has come when the time is over, and `parse` that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from shlex import join, quote

from dstui.facts.raw import Op, OpKind
from dstui.gather.collector.commands import REFUSALS, STANDARD_PATH, sudoers_words
from dstui.gather.shellanswers import DONE, parse
from dstui.gather.ship import SKIP_TO

__all__ = ["DONE", "parse", "script"]

_FILE_SECONDS = 10
_PROLOGUE = r"""
PATH=@PATH@:$PATH; LC_ALL=C; export PATH LC_ALL; unset LANGUAGE; cd /
exec 4>&1
RS=$(printf '\036')
if timeout --version >/dev/null 2>&1; then
  limited() { timeout -s KILL "$@"; }
else
  limited() {
    d=$1; shift; "$@" & p=$!
    ( sleep "$d" & s=$!; trap 'kill "$s"; exit' TERM; wait "$s"; kill -9 "$p" ) >/dev/null 2>&1 3>&- 4>&- & w=$!
    wait "$p"; c=$?; kill "$w" 2>/dev/null; return "$c"
  }
fi
if sleep 0.1 2>/dev/null; then tick=0.1 ticks=10; else tick=1 ticks=1; fi
missing() { printf '\036M %s %s\n%s' "$1" "$2" "$3"; }
capture() {
  f=$1 k=$2 d=$3 n=$4; shift 4
  printf '\036%s %s\n' "$f" "$k"
  e=$( { { limited "$d" "$@" 2>&3 </dev/null; printf '\036%s' "$?" >&3; } |
    { head -c "$n" | tr -d '\036' >&4; printf '\036%d' $(wc -c) >&3; }; } 3>&1 2>/dev/null )
  c=${e##*"$RS"}; e=${e%"$RS"*}; r=${e##*"$RS"}; e=${e%"$RS"*}
}
captured() {
  printf '\036X %s %s %s %s\n' "$k" "$r" "$c" "$d"
  printf '%.4096s' "$e" | tr -d '\036'
}
here() { command -v -- "$2" >/dev/null 2>&1 || { missing "$1" tool-missing "$2 is not on the host"; return 1; }; }
run() {
  here "$1" "$4" || return 0
  capture O "$@"; captured
}
advice() { printf 'grant it in sudoers with: %s ALL=(root) NOPASSWD: %s%s' "$(id -un)" "$(command -v -- "$1")" "$2"; }
root() {
  b=$1 t=$2; shift 2
  here "$1" "$4" || return 0
  if [ "$(id -u)" = 0 ]; then capture O "$@"; captured; return; fi
  if [ "$b" != sudo-n ]; then
    missing "$1" permission "$4 needs root and the inventory says become: none; $(advice "$4" "$t")"; return
  fi
  if ! command -v sudo >/dev/null 2>&1; then
    missing "$1" permission "$4 needs root and there is no sudo on the host"; return
  fi
  x=$4 i=$1 s=$2 l=$3; shift 3
  capture O "$i" "$s" "$l" sudo -n -- "$@"
  case $r:$e in
    @REFUSALS@) missing "$i" permission "sudo -n refused $x; $(advice "$x" "$t")";;
    *) captured;;
  esac
}
content() { capture I "$1" @FILE_SECONDS@ "$2" cat -- "$3"; captured; }
barred() {
  ls -d -- "$1" 2>&1 >/dev/null
  if [ -d "$1" ] && [ ! -r "$1" ]; then printf '%s: Permission denied\n' "$1"; fi
}
within() {
  [ "$3" -le "$2" ] || { missing "$1" budget "$3 paths match, more than the $2 that may be looked at"; return 1; }
}
globs() {
  k=$1 n=$2 m=$3; shift 3; within "$k" "$m" "$#" || return 0
  printf '\036G %s\n' "$k"
  for f; do
    [ -e "$f" ] && [ ! -d "$f" ] || continue
    [ -r "$f" ] || { b="$b
$f: Permission denied"; continue; }
    printf '\036F %s %s\n' "$k" "$f"
    { head -c "$n" -- "$f" 2>/dev/null </dev/null || printf '\037'; } | tr -d '\036'
  done
  printf '\036E %s\n%.4096s' "$k" "$b"
}
lists() {
  k=$1 m=$2; shift 2; within "$k" "$m" "$#" || return 0; here "$k" stat || return 0
  printf '\036L %s\n' "$k"
  e=$( { stat -c '%f %u %g %s %Y %n' -- "$@" 2>&3 | tr -d '\036' >&4; } 3>&1 </dev/null )
  printf '\036E %s\n%s\n%.4096s' "$k" "$b" "$e"
}
links() {
  k=$1 m=$2; shift 2; within "$k" "$m" "$#" || return 0
  printf '\036K %s\n' "$k"
  for f; do
    [ -L "$f" ] || continue
    t=$(readlink -- "$f" | tr -d '\036')
    [ -n "$t" ] || { b="$b
$f: Permission denied"; continue; }
    printf '\036F %s %s\n%s' "$k" "$f" "$t"
  done
  printf '\036E %s\n%.4096s' "$k" "$b"
}
look() {
  r=$(readlink -f -- "$2")
  o=$(printf '\036N %s\n%s\n' "$1" "$2"
    printf 'l %s\n' "$(stat -c '%f %u %g %s %Y' -- "$2" 2>&1)"
    printf 's %s\n' "$(stat -L -c '%f %u %g %s %Y %d' -- "$2" 2>&1)"
    printf 'r %s\n' "$r"
    printf 'd %s\n' "$(stat -L -c %d -- "$(dirname -- "$r")" 2>&1)"
    printf 'a '; [ -r "$2" ] && printf r; [ -w "$2" ] && printf w; [ -x "$2" ] && printf x
    printf '\nv %s\n.' "$(stat -f -c '%s %S %b %f %a %c %d' -- "$2" 2>&1)")
  printf '%s\n' "$o"
}
paths() {
  k=$1 d=$2; shift 2; ps=
  printf '\036P %s\n' "$k"; printf '%s\n' "$@"
  for p; do look "$k" "$p" </dev/null 2>/dev/null & ps="$ps $!"; done
  w=$((d * ticks))
  while [ "$w" -gt 0 ]; do
    jobs >/dev/null 2>&1
    alive=; for i in $ps; do kill -0 "$i" 2>/dev/null && alive="$alive $i"; done
    [ -n "$alive" ] || break
    sleep "$tick"; w=$((w - 1))
  done
  for i in $alive; do kill -9 "$i" 2>/dev/null; done
  printf '\036E %s\n' "$k"
}
own() {
  printf '\036U %s\n' "$1"
  printf 'uid=%s\nuser=%s\ngroups=%s\nhome=%s\n' "$(id -u)" "$(id -un)" "$(id -Gn)" "$HOME"
  printf 'hostname=%s\nkernel=%s\nmachine=%s\n' "$(uname -n)" "$(uname -r)" "$(uname -m)"
  printf 'affinity=%s\n' "$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status 2>/dev/null)"
  printf 'client=%s\ntime=%s\n' "${SSH_CONNECTION:-$SSH_CLIENT}" "$(date +%s)"
  printf '\036E %s\n' "$1"
}
"""


def script(ops: Sequence[Op], become: str) -> bytes:
    """What to write to the shell's standard input for `ops`; `become` is `none` or `sudo-n`.

    Operations that need Python are answered at once as missing(tool-missing). PATHS come last, because a mount that
    hangs holds up whatever comes after it.
    """
    refusals = "|".join(f"1:*{quote(words)}*" for words in REFUSALS)
    prologue = (
        _PROLOGUE.replace("@PATH@", STANDARD_PATH)
        .replace("@REFUSALS@", refusals)
        .replace("@FILE_SECONDS@", str(_FILE_SECONDS))
    )
    lines = [_line(op, become) for op in sorted(ops, key=lambda op: op.kind is OpKind.PATHS)]
    return "\n".join([SKIP_TO, prologue, *lines, "printf '\\036Z\\n'", ""]).encode("utf-8", "surrogateescape")


def _line(op: Op, become: str) -> str:
    key = quote(op.key)
    match op.kind:
        case OpKind.READ:
            return f"content {key} {_number(op.args, 'limit')} {_home(str(op.args['path']))}"
        case OpKind.GLOB:
            return f"{_matching(op)}globs {key} {_number(op.args, 'each')} {_number(op.args, 'files')} {_patterns(op)}"
        case OpKind.LISTING:
            return f"{_matching(op)}lists {key} {_number(op.args, 'files')} {_patterns(op)}"
        case OpKind.LINKS:
            return f"{_matching(op)}links {key} {_number(op.args, 'files', 8192)} {_patterns(op)}"
        case OpKind.RUN:
            return _run(op, key, become)
        case OpKind.PATHS:
            names = " ".join(_home(name) for name in _strings(op.args, "paths"))
            return f"paths {key} {_number(op.args, 'timeout')} {names}"
        case OpKind.SELF:
            return f"own {key}"
        case _:
            return f"missing {key} tool-missing 'python3 (3.6 or newer) is not on the host'"


def _run(op: Op, key: str, become: str) -> str:
    argv = _strings(op.args, "argv")
    rest = f"{key} {_number(op.args, 'timeout')} {_number(op.args, 'limit')} {join(argv)}"
    if not op.args.get("root"):
        return f"run {rest}"
    tail = "".join(" " + word for word in sudoers_words(argv[1:]))
    return f"root {quote(become)} {quote(tail)} {rest}"


def _number(args: Mapping[str, object], name: str, default: int = 0) -> int:
    """Whole and at least 1: old tools know no fractions."""
    value = args.get(name, default)
    return max(1, math.ceil(value)) if isinstance(value, int | float) else max(1, default)


def _strings(args: Mapping[str, object], name: str) -> list[str]:
    value = args[name]
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


_WILDCARD = re.compile(r"(\*+|\?|\[[!^]?[\w.,:-]+\])")


def _patterns(op: Op) -> str:
    return " ".join(_pattern(pattern) for pattern in _strings(op.args, "patterns"))


def _pattern(pattern: str) -> str:
    head, rest = ('"$HOME"', pattern[1:]) if pattern.startswith("~/") else ("", pattern)
    pieces = _WILDCARD.split(rest)
    return head + "".join(
        piece.replace("[^", "[!") if at % 2 else quote(piece) for at, piece in enumerate(pieces) if piece
    )


def _matching(op: Op) -> str:
    """Note the places that cannot be looked into: a pattern that matches nothing there proves nothing."""
    places = dict.fromkeys(_home(_fixed(pattern)) for pattern in _strings(op.args, "patterns"))
    return "b=$(" + "; ".join(f"barred {place}" for place in places) + "); "


def _fixed(pattern: str) -> str:
    match = _WILDCARD.search(pattern)
    return pattern if match is None else pattern[: match.start()].rpartition("/")[0] or "/"


def _home(path: str) -> str:
    if path == "~" or path.startswith("~/"):
        return '"$HOME"' + (quote(path[1:]) if path[1:] else "")
    return quote(path)
