"""The session on a host: requests in, answers out, and nothing left behind when it ends.

`dstui/gather/protocol.py` says what is spoken. Whatever can block happens in children; this process only waits in one
poll loop, so it always notices the end of its input.
"""

import os
import select
import sys

from dstui.gather.collector.children import Job, Sacrifice
from dstui.gather.collector.facts import GRACE_SECONDS, Facts, lazily, rounds
from dstui.gather.collector.loop import Ended, Loop, read_some
from dstui.gather.collector.wire import crashed, dumps, loads, number, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dstui.gather.collector.peers import Listeners
    from dstui.gather.collector.sample import Sampler

VERSION = 1
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
NONCE_SECONDS = 20.0
CLEAN_SECONDS = 3.0
FAULT = 97
"""Exit code of a collector that ended by a fault of its own: the shell around it must not try another python3."""


class Session:
    """One connection. `parts` are the collector's modules by name; the verb `module` adds to them."""

    def __init__(self, parts: "dict[str, tuple[str, bytes]]") -> None:
        self._parts = parts
        self._loop = Loop()
        self._input = b""
        self._skipping = False
        self._ending = False
        self._output: "list[memoryview]" = []
        self._facts: "set[Facts]" = set()
        self._children: "set[Sacrifice]" = set()
        self._listeners: "Listeners | None" = None
        self._nonces: "list[dict[str, object]]" = []
        self._sampler: "Sampler | None" = None

    def serve(self) -> None:
        """Until the end of input, `bye` or a signal; the process is gone afterwards."""
        try:
            os.set_blocking(1, False)
            self._loop.watch(0, self._readable)
            python = "%d.%d.%d" % sys.version_info[:3]
            self._send({"id": 0, "ok": True, "mode": "python", "python": python, "version": VERSION})
            while self._output or not self._ending:
                self._loop.turn()
            self._leave(0)
        except Ended:
            self._leave(0)
        except Exception as error:  # a fault of the collector itself: one line for the controller, and still clean up
            os.write(2, ("dstui collector: %s: %s\n" % (type(error).__name__, error)).encode("ascii", "replace"))
            self._leave(FAULT)

    def _leave(self, code: int) -> None:
        try:
            for facts in list(self._facts):
                facts.drop()
            for child in list(self._children):
                child.drop()
            if self._sampler:
                self._sampler.drop()
            if self._listeners:
                self._listeners.close_all()
            self._clean_nonces()
        finally:
            os._exit(code)

    def _clean_nonces(self) -> None:
        pending: "set[Sacrifice]" = set()
        clean = lazily("nonce", "clean")
        for nonce in self._nonces:
            Sacrifice(self._loop, [Job(clean, nonce, CLEAN_SECONDS, lambda line: None)], pending)
        self._loop.forget(0)
        self._loop.forget(1)
        while pending:
            self._loop.turn()

    def _readable(self) -> None:
        chunk = read_some(0)
        if chunk == b"":
            raise Ended
        lines = (self._input + (chunk or b"")).split(b"\n")
        self._input = lines.pop()
        for line in lines:
            if self._skipping:
                self._skipping = False
            elif line.strip():
                self._take(line)
        if len(self._input) > MAX_MESSAGE_BYTES:
            self._input = b""
            self._skipping = True
            self._refuse(None, ValueError("a request of more than %d bytes" % MAX_MESSAGE_BYTES))

    def _take(self, line: bytes) -> None:
        number_ = None
        try:
            request = loads(line.decode("utf-8"))
            if not isinstance(request, dict):
                raise TypeError("a request is an object")
            number_ = request.get("id")
            verb = self._VERBS.get(string(request, "verb"))
            if verb is None:
                raise ValueError("no such verb: %s" % request["verb"])
            verb(self, number_, request)
        except Exception as error:  # a bad request is answered, whatever is bad about it
            self._refuse(number_, error)

    def _refuse(self, number_: object, error: Exception) -> None:
        answer = crashed(error)
        self._send({"id": number_, "ok": False, "reason": answer["missing"], "why": answer["why"]})

    def _send(self, message: "dict[str, object]") -> None:
        self._send_text(dumps(message))

    def _send_text(self, message: str) -> None:
        self._output.append(memoryview(b"\x1e" + message.encode("ascii") + b"\n"))
        if len(self._output) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._output:
            line = self._output[0]
            try:
                written = os.write(1, line)
            except BlockingIOError:
                return self._loop.watch(1, self._flush, select.POLLOUT)
            except OSError:
                raise Ended
            if written < len(line):
                self._output[0] = line[written:]
            else:
                self._output.pop(0)
        self._loop.forget(1)
        return self._sampler.drained() if self._sampler else None

    def _gather(self, number_: object, request: "dict[str, object]") -> None:
        def reply(answers: str) -> None:
            self._send_text('{"id":%s,"ok":true,"answers":%s}' % (dumps([number_])[1:-1], answers))

        Facts(self._loop, request, reply, self._facts).number = number_

    def _drop(self, number_: object, request: "dict[str, object]") -> None:
        # The one verb without an answer: whoever sends it has stopped listening.
        for facts in list(self._facts):
            if facts.number == request.get("of"):
                facts.drop()

    def _module(self, number_: object, request: "dict[str, object]") -> None:
        from base64 import b64decode

        # Shipped under the name of the operation that needs it.
        name = {"nvml": "pynvml"}.get(string(request, "name"), string(request, "name"))
        self._parts[name] = ("zlib", b64decode(string(request, "source")))
        self._send({"id": number_, "ok": True})

    def _in_child(
        self,
        number_: object,
        request: "dict[str, object]",
        where: "tuple[str, str]",
        timeout: float,
        noted: "Callable[[dict[str, object]], None] | None" = None,
    ) -> None:
        def deliver(line: str) -> None:
            answer = loads(line)
            assert isinstance(answer, dict)
            if noted:
                noted(answer)
            if "missing" in answer:
                self._send({"id": number_, "ok": False, "reason": answer["missing"], "why": answer["why"]})
            else:
                answer.pop("s", None)
                self._send(dict(answer, id=number_, ok=True))

        Sacrifice(self._loop, [Job(lazily(*where), request, timeout, deliver)], self._children)

    def _listen(self, number_: object, request: "dict[str, object]") -> None:
        if self._listeners is None:
            from dstui.gather.collector.peers import Listeners

            self._listeners = Listeners(self._loop)
        answer = self._listeners.open(request)
        if answer["state"] == "busy":
            self._in_child(number_, request, ("peers", "busy"), 5.0)
        else:
            self._send(dict(answer, id=number_, ok=True))

    def _close(self, number_: object, request: "dict[str, object]") -> None:
        if self._listeners:
            self._listeners.close(int(number(request, "port", 0)))
        self._send({"id": number_, "ok": True})

    def _connect(self, number_: object, request: "dict[str, object]") -> None:
        timeout = number(request, "timeout", 2.0) * rounds(request) + GRACE_SECONDS
        self._in_child(number_, request, ("peers", "tries"), timeout)

    def _nonce_write(self, number_: object, request: "dict[str, object]") -> None:
        # Noted before it is tried: a write that got stuck may still leave a file.
        self._nonces.append(request)
        self._in_child(number_, request, ("nonce", "write"), NONCE_SECONDS)

    def _nonce_read(self, number_: object, request: "dict[str, object]") -> None:
        self._in_child(number_, request, ("nonce", "read"), number(request, "within", 40.0) + NONCE_SECONDS)

    def _nonce_clean(self, number_: object, request: "dict[str, object]") -> None:
        def cleaned(answer: "dict[str, object]") -> None:
            if "missing" not in answer:
                same = [n for n in self._nonces if all(n.get(k) == request.get(k) for k in ("dir", "run", "name"))]
                self._nonces = [nonce for nonce in self._nonces if nonce not in same]

        for nonce in self._nonces:
            if all(nonce.get(k) == request.get(k) for k in ("dir", "run", "name")):
                request.setdefault("as_user", nonce.get("as_user"))
        self._in_child(number_, request, ("nonce", "clean"), NONCE_SECONDS, cleaned)

    def _sample(self, number_: object, request: "dict[str, object]") -> None:
        from dstui.gather.collector.sample import Sampler

        before, self._sampler = self._sampler, Sampler(self._loop, number_, request, self._post)
        if before:
            before.drop()
        self._send({"id": number_, "ok": True, "interval": self._sampler.interval})

    def _post(self, line: str) -> bool:
        if self._output:
            return False
        self._send_text(line)
        return True

    def _sample_stop(self, number_: object, request: "dict[str, object]") -> None:
        before, self._sampler = self._sampler, None
        if before:
            before.drop()
        self._send({"id": number_, "ok": True})

    def _bye(self, number_: object, request: "dict[str, object]") -> None:
        self._send({"id": number_, "ok": True})
        self._ending = True

    _VERBS = {
        "facts": _gather,
        "drop": _drop,
        "module": _module,
        "listen": _listen,
        "close": _close,
        "connect": _connect,
        "nonce-write": _nonce_write,
        "nonce-read": _nonce_read,
        "nonce-clean": _nonce_clean,
        "sample": _sample,
        "sample-stop": _sample_stop,
        "bye": _bye,
    }


def _signalled(number_: int, frame: object) -> None:
    raise Ended


def main(parts: "dict[str, tuple[str, bytes]]") -> None:
    """Serve the session on standard input and output; never returns."""
    import _signal  # type: ignore[import-not-found]

    for number_ in (1, 2, 15):
        _signal.signal(number_, _signalled)
    os.chdir("/")
    Session(parts).serve()
