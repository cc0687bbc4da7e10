"""The verb `facts`: all operations of one request at once, each with its own limit, all within one deadline."""

from dstui.gather.collector import files
from dstui.gather.collector.children import Job, Sacrifice
from dstui.gather.collector.commands import Command
from dstui.gather.collector.loop import Loop
from dstui.gather.collector.wire import crashed, dumps, loads, missing, number, strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MOST_COMMANDS = 16
FILE_SECONDS = 10.0
MOST_ANSWER_BYTES = 30 * 1024 * 1024
"""All answers of a request together, in JSON: a message may have 32 MiB, and one too long loses all of them."""
AT_ONCE = 256
"""TCP connects in flight: well under the usual limit of 1024 open files."""
GRACE_SECONDS = 2.0
"""A child that keeps its own time gets this much more before it is given up as stuck."""


def lazily(module: str, function: str) -> "Callable[[dict[str, object]], dict[str, object]]":
    """A function of a module that is compiled in the child that needs it, and not at all on most hosts and days."""

    def perform(args: "dict[str, object]") -> "dict[str, object]":
        loaded = __import__("dstui.gather.collector." + module, fromlist=[function])
        answer: "dict[str, object]" = getattr(loaded, function)(args)
        return answer  # noqa: RET504 - typed

    return perform


_FILES = {
    "read": files.read,
    "glob": files.glob,
    "listing": files.listing,
    "links": files.links,
    "self": files.own_process,
}
_ALONE = {
    "nvml": (lazily("gpus", "nvml"), 20.0, 0.0),
    "resolve": (lazily("names", "resolve"), 8.0, GRACE_SECONDS),
    "dns": (lazily("names", "dns"), 3.0, GRACE_SECONDS),
    "http": (lazily("web", "get"), 20.0, GRACE_SECONDS),
    "connect": (lazily("peers", "connect"), 2.0, GRACE_SECONDS),
    "tree": (lazily("trees", "tree"), 10.0, 0.0),
    "pieces": (lazily("trees", "pieces"), 60.0, 0.0),
    "sha256": (lazily("trees", "sha256"), 600.0, 0.0),
}


def rounds(args: "dict[str, object]") -> int:
    """How many times the timeout a request's connects may take in all, AT_ONCE of them at a time."""
    endpoints = args.get("endpoints")
    if not isinstance(endpoints, list):
        raise TypeError("endpoints is not a list")
    return 1 + len(endpoints) // AT_ONCE


class Facts:
    """One request. `reply` gets the answers as one JSON object text; `family` holds it while it runs.

    `number` is the request's id, for whoever wants to drop it.
    """

    number: object = None

    def __init__(
        self, loop: Loop, request: "dict[str, object]", reply: "Callable[[str], None]", family: "set[Facts]"
    ) -> None:
        self._loop = loop
        self._reply = reply
        self._family = family
        self._become = "sudo-n" if request.get("become") in ("sudo-n", True) else "none"
        self._answers: "dict[str, str]" = {}
        self._size = 0
        self._children: "set[Sacrifice]" = set()
        self._running: "set[Command]" = set()
        self._waiting: "list[tuple[str, dict[str, object]]]" = []
        self._paths: "dict[str, tuple[list[str], dict[str, object]]]" = {}
        self._started = False
        deadline = number(request, "deadline", 60.0)
        ops = request.get("ops")
        if not isinstance(ops, list):
            raise TypeError("ops is not a list")
        self._owed = {op["key"] for op in ops}
        family.add(self)
        self._timer = loop.after(deadline, lambda: self._overdue(deadline))
        in_order: "list[Job]" = []
        for op in ops:
            try:
                self._sort(op["key"], op["kind"], op.get("args", {}), in_order)
            except Exception as error:  # one bad operation must not lose the others
                self._answer(op["key"], dumps(crashed(error)))
        if in_order:
            Sacrifice(loop, in_order, self._children)
        self._started = True
        self._next()

    def _sort(self, key: str, kind: str, args: "dict[str, object]", in_order: "list[Job]") -> None:
        if kind == "run":
            self._waiting.append((key, args))
        elif kind in _FILES:
            in_order.append(Job(_FILES[kind], args, FILE_SECONDS, lambda line: self._answer(key, line)))
        elif kind == "paths":
            names = strings(args, "paths")
            self._paths[key] = (names, {})
            timeout = number(args, "timeout", 5.0)
            in_order.extend(self._path_job(key, name, timeout) for name in names)
            if not names:
                self._answer(key, dumps({"value": {}}))
        elif kind in _ALONE:
            perform, usual, grace = _ALONE[kind]
            limit = number(args, "total", number(args, "timeout", usual))
            if kind == "connect":
                limit *= rounds(args)
            job = Job(perform, args, limit + grace, lambda line: self._answer(key, line))
            Sacrifice(self._loop, [job], self._children)
        else:
            self._answer(key, dumps(missing("probe-error", "the collector does not know the operation %s" % kind)))

    def _path_job(self, key: str, name: str, timeout: float) -> Job:
        return Job(files.look, {"path": name}, timeout, lambda line: self._looked(key, name, line))

    def _looked(self, key: str, name: str, line: str) -> None:
        answer = loads(line)
        assert isinstance(answer, dict)
        names, seen = self._paths[key]
        if answer.get("missing") == "timeout":
            seen[name] = {"hung": True}
        elif "value" in answer:
            seen[name] = answer["value"]
        else:
            return self._answer(key, line)
        if len(seen) == len(set(names)):
            self._answer(key, dumps({"value": seen}))
        return None

    def _next(self) -> None:
        while self._waiting and len(self._running) < MOST_COMMANDS:
            key, args = self._waiting.pop(0)
            self._run(key, args)
        self._finish_if_done()

    def _run(self, key: str, args: "dict[str, object]") -> None:
        def deliver(answer: "dict[str, object]") -> None:
            self._answer(key, dumps(answer))
            if self._started:
                self._next()

        self._started, before = False, self._started
        try:
            Command(self._loop, args, self._become, deliver, self._running)
        except Exception as error:  # as above
            self._answer(key, dumps(crashed(error)))
        self._started = before

    def _answer(self, key: str, line: str) -> None:
        if key in self._owed:
            self._owed.discard(key)
            if self._size + len(line) > MOST_ANSWER_BYTES:
                line = dumps(missing("budget", "with this, the host's answers would be too large for one message"))
            self._size += len(line)
            self._answers[key] = line
            self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._started and not self._owed and self in self._family:
            self.drop()
            self._reply("{" + ",".join(dumps(key) + ":" + line for key, line in self._answers.items()) + "}")

    def _overdue(self, deadline: float) -> None:
        late = dumps(missing("timeout", "not finished when the host's %g s were over" % deadline))
        for key, (_, seen) in self._paths.items():
            if seen:
                self._answer(
                    key, dumps({"value": dict({name: {"hung": True} for name in self._paths[key][0]}, **seen)})
                )
        for key in list(self._owed):
            self._answer(key, late)

    def drop(self) -> None:
        """End everything that still runs for this request."""
        self._family.discard(self)
        self._loop.cancel(self._timer)
        for child in list(self._children):
            child.drop()
        for command in list(self._running):
            command.drop()
