"""The controller's side of the collector's protocol (`protocol.py`), over any stream of bytes.

A `Link` numbers requests, matches answers to them, and fails all that are pending the moment the stream ends. What
a host sends is not trusted: noise, damaged messages, floods and wrong shapes become a GatherError or a Missing.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import asdict, replace

from dstui.facts.case import Session
from dstui.facts.raw import Op, OpKind, Raw
from dstui.gather.answers import decode, decode_aside, raw_of
from dstui.gather.hostlink import HostLink, Listener, Sampling, Wire
from dstui.gather.protocol import FRAME, MAX_MESSAGE_BYTES, VERSION
from dstui.gather.shellanswers import DONE as SCRIPT_DONE
from dstui.gather.wording import Tail, clean, reason_of
from dstui.model import GatherError, Reason

__all__ = ["ASIDE_BYTES", "HELLO_SECONDS", "HostLink", "Link", "Listener", "Sampling", "Wire"]

HELLO_SECONDS = 20.0
"""From the exec to the collector's first message; a shell start-up file may take seconds."""

FACTS_SECONDS = 60.0
"""What a host gives its operations at least, however soon the controller stops waiting (CATALOGUE 0.4)."""

ASIDE_BYTES = 256 * 1024
"""Longer messages are decoded in a thread, so that the loop is free again within milliseconds."""

_FRAME = FRAME.encode()
_MAX_NOISE = 4 * 1024 * 1024
_MAX_STRAYS = 1000
_MAX_ASIDE = 4
_CLOSE_SECONDS = 2.0
_SAMPLE_HEAD = 40
_NO_SAMPLES = b"\0"


class Link:
    """A HostLink over a Wire. Whoever owns the wire feeds `feed`, `feed_error` and `lost` from the event loop."""

    def __init__(
        self,
        host: str,
        session: Session,
        *,
        become: str,
        release: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.session = session
        self.mode = ""
        self._host = host
        self._become = become
        self._release = release
        self._wire: Wire | None = None
        self._fault: GatherError | None = None
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Mapping[str, object]]] = {}
        self._hello: asyncio.Future[Mapping[str, object]] = asyncio.get_running_loop().create_future()
        self._in_message = False
        self._chunks: list[bytes] = []
        self._chunk_bytes = 0
        self._strays = 0
        self._noise = Tail()
        self._errors = Tail()
        self._aside: set[asyncio.Task[None]] = set()
        self._modules: set[str] = set()
        self._shell_turn = asyncio.Lock()
        self._printed = bytearray()
        self._printing: asyncio.Future[None] | None = None
        self._listener: Listener | None = None
        self._sample_mark = _NO_SAMPLES
        self._sampling = False

    @property
    def alive(self) -> bool:
        return self._fault is None and self._wire is not None

    @property
    def last_words(self) -> str:
        """The end of what the host printed outside the protocol, for an error message; empty when nothing."""
        said = self._errors.text() or self._noise.text()
        return f"; it printed: {said}" if said else ""

    async def greet(self, wire: Wire, payload: bytes, *, seconds: float = HELLO_SECONDS) -> None:
        """Send the collector over a fresh wire and wait for its first message; without one, GatherError."""
        self._wire = wire
        try:
            if self._fault is not None:
                raise self._fault
            wire.write(payload)
            async with asyncio.timeout(seconds):
                hello = await self._hello
            if hello.get("version") != VERSION or hello.get("mode") not in ("python", "sh"):
                raise GatherError(
                    Reason.PROBE_ERROR,
                    f"{self._host}: the collector answered with version {clean(str(hello.get('version')))!r}, "
                    f"this dstui speaks {VERSION}",
                )
            self.mode = str(hello["mode"])
        except TimeoutError:
            error = GatherError(
                Reason.UNREACHABLE,
                f"{self._host}: logged in, but the collector did not start within {seconds:g} s"
                f"{self.last_words}. Try `ssh` to it with a command and see what the shell start-up files do",
            )
            self.lost(error)
            raise error from None
        except BaseException:
            self.lost(GatherError(Reason.NOT_RUN, f"{self._host}: the connection was given up"))
            raise

    async def facts(self, ops: Sequence[Op], *, deadline: float) -> Raw:
        if self.mode == "sh":
            async with self._shell_turn:
                answers: object = await self._run_script(ops, deadline)
        else:
            async with _deadline(self._host, "facts", deadline):
                await self._ship_modules({op.kind.value for op in ops})
                request = [{"key": op.key, "kind": op.kind.value, "args": op.args} for op in ops]
                asked = {"ops": request, "become": self._become, "deadline": max(FACTS_SECONDS, deadline)}
                answers = (await self._ask("facts", asked)).get("answers")
        raw = raw_of(ops, answers)
        self._learn(ops, raw)
        return raw

    async def call(self, verb: str, *, timeout: float, **args: object) -> Mapping[str, object]:  # noqa: ASYNC109
        self._refuse_shell(verb)
        async with _deadline(self._host, verb, timeout):
            return await self._ask(verb, {name.removesuffix("_"): value for name, value in args.items()})

    async def sample(self, listener: Listener, asked: Sampling, *, timeout: float) -> None:  # noqa: ASYNC109
        self._refuse_shell("sample")
        async with _deadline(self._host, "sample", timeout):
            if asked.gpus:
                await self._ship_modules({OpKind.NVML.value})
            number = next(self._ids)
            # Before the answer is here: the first samples may come in the same packet.
            mark = b'{"id":%d,"sample":' % number
            self._listener, self._sample_mark = listener, mark
            self._sampling = True
            try:
                await self._ask("sample", asdict(asked), number)
            except BaseException:
                if self._sample_mark == mark:
                    self._listener, self._sample_mark = None, _NO_SAMPLES
                raise

    async def sample_stop(self, *, timeout: float) -> None:  # noqa: ASYNC109
        self._listener, self._sample_mark = None, _NO_SAMPLES
        if not self._sampling:
            return
        self._sampling = False
        async with _deadline(self._host, "sample-stop", timeout):
            await self._ask("sample-stop", {})

    async def close(self) -> None:
        self._fail(GatherError(Reason.NOT_RUN, f"{self._host}: the connection was closed by dstui"))
        wire = self._wire
        try:
            if wire is not None:
                wire.end_input()
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await wire.ended()
        except TimeoutError:
            pass
        finally:
            if wire is not None:
                wire.abort()
            if self._release is not None:
                await self._release()

    def feed(self, data: bytes) -> None:
        """Bytes from the host's standard output, cut anywhere."""
        if self._printing is not None:
            return self._hear_script(data)
        start = 0
        while self._fault is None:
            if not self._in_message:
                at = data.find(_FRAME, start)
                self._hear_noise(data[start:] if at < 0 else data[start:at])
                if at < 0:
                    return None
                self._in_message, start = True, at + 1
            end = data.find(b"\n", start)
            piece = data[start:] if end < 0 else data[start:end]
            self._chunks.append(piece)
            self._chunk_bytes += len(piece)
            if self._chunk_bytes > MAX_MESSAGE_BYTES:
                return self._damaged(f"sent a message of more than {MAX_MESSAGE_BYTES >> 20} MiB")
            if end < 0:
                return None
            message = b"".join(self._chunks)
            self._chunks, self._chunk_bytes, self._in_message = [], 0, False
            self._hear(message)
            start = end + 1
        return None

    def feed_error(self, data: bytes) -> None:
        """Bytes from the host's standard error; only their end is kept, for messages."""
        self._errors.add(data)

    def lost(self, error: GatherError) -> None:
        """The stream is gone or cannot be trusted any more: everything pending fails with `error`, at once."""
        self._fail(error)
        if self._wire is not None:
            self._wire.abort()

    def _refuse_shell(self, verb: str) -> None:
        if self.mode == "sh":
            raise GatherError(
                Reason.TOOL_MISSING,
                f"{self._host}: python3 (3.6 or newer) is not on the host, so it cannot do {verb}; install python3",
            )

    def _fail(self, error: GatherError) -> None:
        if self._fault is not None:
            return
        self._fault = error
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(GatherError(error.reason, str(error)))
        if self._printing is not None and not self._printing.done():
            self._printing.set_exception(GatherError(error.reason, str(error)))
        if not self._hello.done():
            self._hello.set_exception(GatherError(error.reason, str(error)))
            self._hello.exception()  # nobody may be waiting for it any more
        for task in self._aside:
            task.cancel()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.ended(GatherError(error.reason, str(error)))

    async def _ask(self, verb: str, args: Mapping[str, object], number: int | None = None) -> Mapping[str, object]:
        if self._fault is not None or self._wire is None:
            raise self._fault or GatherError(Reason.UNREACHABLE, f"{self._host}: there is no connection")
        number = next(self._ids) if number is None else number
        waiting: asyncio.Future[Mapping[str, object]] = asyncio.get_running_loop().create_future()
        self._pending[number] = waiting
        try:
            self._wire.write(json.dumps({"id": number, "verb": verb, **args}).encode() + b"\n")
            answer = await waiting
        except asyncio.CancelledError:
            if verb == "facts" and self.alive:
                self._wire.write(json.dumps({"id": next(self._ids), "verb": "drop", "of": number}).encode() + b"\n")
            raise
        finally:
            self._pending.pop(number, None)
        if answer.get("ok") is not True:
            why = clean(str(answer.get("why") or "it gave no reason"))
            raise GatherError(reason_of(answer.get("reason")), f"{self._host}: {verb}: {why}")
        return answer

    async def _ship_modules(self, kinds: Set[str]) -> None:
        from dstui.gather import ship

        for name in sorted(kinds - self._modules):
            try:
                source = await asyncio.to_thread(ship.module_source, name)
                if source is not None:
                    await self._ask("module", {"name": name, "source": source})
            except GatherError:
                if not self.alive:
                    raise
                # Only the operations that need it fail, and their answers say so.
                continue
            self._modules.add(name)

    async def _run_script(self, ops: Sequence[Op], seconds: float) -> object:
        """What a shell answers within `seconds`; a shell that is late keeps what it has answered, and is given up."""
        from dstui.gather import shell

        if self._fault is not None or self._wire is None:
            raise self._fault or GatherError(Reason.UNREACHABLE, f"{self._host}: there is no connection")
        self._printed = bytearray()
        self._printing = asyncio.get_running_loop().create_future()
        try:
            self._wire.write(shell.script(ops, self._become))
            async with asyncio.timeout(seconds):
                await self._printing
        except TimeoutError:
            # Its late frames must never be taken for answers to the next script.
            self.lost(GatherError(Reason.TIMEOUT, f"{self._host}: its shell did not finish within {seconds:g} s"))
        except asyncio.CancelledError:
            self.lost(GatherError(Reason.NOT_RUN, f"{self._host}: its shell was given up"))
            raise
        finally:
            printed, self._printing = bytes(self._printed), None
        return await asyncio.to_thread(shell.parse, printed, ops)

    def _hear_script(self, data: bytes) -> None:
        assert self._printing is not None
        self._printed += data
        if len(self._printed) > MAX_MESSAGE_BYTES:
            self._damaged(f"sent more than {MAX_MESSAGE_BYTES >> 20} MiB")
        elif self._printed.endswith(SCRIPT_DONE) and not self._printing.done():
            self._printing.set_result(None)

    def _learn(self, ops: Sequence[Op], raw: Raw) -> None:
        """Through a jump host only the host itself knows which address the controller's session comes from."""
        if self.session.controller_ip is not None:
            return
        for op in ops:
            own = raw.value(op.key) if op.kind is OpKind.SELF else None
            address = own.get("controller_ip") if isinstance(own, dict) else None
            if isinstance(address, str):
                self.session = replace(self.session, controller_ip=address)

    def _hear_noise(self, data: bytes) -> None:
        self._noise.add(data)
        if self._noise.total > _MAX_NOISE:
            self._damaged("floods the session with text that is not an answer")

    def _hear(self, message: bytes) -> None:
        # JSON never holds a raw 0x1e, so anything before the last one is noise that happened to contain the mark.
        before, mark, message = message.rpartition(_FRAME)
        if mark:
            self._hear_noise(before)
        if b',"sample":{' in message[:_SAMPLE_HEAD]:
            return self._hear_sample(message)
        if len(message) > ASIDE_BYTES:
            if len(self._aside) >= _MAX_ASIDE:
                return self._damaged("floods the session with large messages")
            task = asyncio.get_running_loop().create_task(self._hear_aside(message))
            self._aside.add(task)
            task.add_done_callback(self._aside.discard)
            return None
        try:
            value = decode(message)
        except ValueError:
            return self._unreadable(message)
        return self._take(value, message)

    def _hear_sample(self, message: bytes) -> None:
        # What comes of a stream that was stopped or replaced is normal, and is nobody's.
        if self._listener is not None and message.startswith(self._sample_mark):
            self._listener.heard(message[len(self._sample_mark) : -1])

    async def _hear_aside(self, message: bytes) -> None:
        try:
            value = await asyncio.to_thread(decode_aside, message)
        except ValueError:
            return self._unreadable(message)
        return self._take(value, message)

    def _unreadable(self, message: bytes) -> None:
        if self._hello.done():
            # Whose answer it was can no longer be told, so nobody is left waiting for it.
            return self._damaged("sent a message that cannot be read")
        return self._hear_noise(message)

    def _take(self, value: object, message: bytes) -> None:
        number = value.get("id") if isinstance(value, dict) else None
        if not isinstance(value, dict) or not isinstance(number, int) or isinstance(number, bool):
            return self._unreadable(message)
        waiting = self._hello if number == 0 else self._pending.pop(number, None)
        if waiting is not None and not waiting.done():
            return waiting.set_result(value)
        # Late answers to requests that were given up are normal; a stream of them is not.
        self._strays += 1
        if self._strays > _MAX_STRAYS:
            return self._damaged("floods the session with answers that nobody asked for")
        return None

    def _damaged(self, what: str) -> None:
        self._chunks = []
        self.lost(GatherError(Reason.PARSE_ERROR, f"{self._host}: the host {what}; the session was closed"))


@asynccontextmanager
async def _deadline(host: str, verb: str, seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise GatherError(
            Reason.TIMEOUT,
            f"{host}: no answer to {verb} within {seconds:g} s. The host is overloaded or hangs; look at its load and "
            "its mounts, then run again",
        ) from None
