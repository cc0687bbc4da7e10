"""The server's side of one exec: takes the collector that is sent, runs nothing of it, and answers as it would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine

import asyncssh

from dstui.demo.machine import COLLECTOR_PYTHON, Answer, Machine
from dstui.demo.shellside import END_OF_SCRIPT, operations, printed
from dstui.demo.stream import Reading, SampleStream
from dstui.demo.together import Together
from dstui.gather import ship
from dstui.gather.collector.wire import crashed
from dstui.gather.protocol import FRAME, MAX_MESSAGE_BYTES, VERSION

_FAULT = 97
"""Exit code of a collector that was not understood, as in `gather/ship.py`."""


class Exec(asyncssh.SSHServerSession[bytes]):
    """One session of a made-up host: the hello, then requests until the end of input. `read` is of its life now."""

    def __init__(self, machine: Machine, together: Together, read: Reading) -> None:
        self._machine = machine
        self._host = machine.character
        self._together = together
        self._read = read
        self._stream: SampleStream | None = None
        self._blocked = False
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._awaited = len(ship.bootstrap_payload())
        self._input = bytearray()
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        """Only the collector's own command line is known here; nothing is ever run."""
        return command == ship.exec_command()

    def session_started(self) -> None:
        python = self._host.traits.python3
        mode, version = ("python", COLLECTOR_PYTHON) if python else ("sh", None)
        self._start(self._hello({"id": 0, "ok": True, "mode": mode, "python": version, "version": VERSION}))

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        # What comes first is the collector itself, which this host has no use for.
        skipped = min(self._awaited, len(data))
        self._awaited -= skipped
        self._input += data[skipped:]
        if len(self._input) > MAX_MESSAGE_BYTES:
            return self._end(_FAULT)
        if self._host.traits.python3:
            while (end := self._input.find(b"\n")) >= 0:
                line = bytes(self._input[:end])
                del self._input[: end + 1]
                if line.strip():
                    self._start(self._serve(line))
        elif self._input.endswith(END_OF_SCRIPT):
            script = bytes(self._input)
            self._input.clear()
            self._start(self._print(script))
        return None

    def eof_received(self) -> bool:
        self._end(0)
        return False

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        if self._stream is not None:
            self._stream.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self._together.forget(self._host)
        self._drop_stream()
        for task in self._tasks:
            task.cancel()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self, code: int) -> None:
        if self._channel is not None and not self._channel.is_closing():
            self._channel.exit(code)

    def _write(self, data: bytes) -> None:
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write(data)

    def _send(self, message: dict[str, object]) -> None:
        self._send_text(json.dumps(message, separators=(",", ":")))

    def _send_text(self, message: str) -> None:
        self._write(f"{FRAME}{message}\n".encode())

    def _post(self, message: str) -> bool:
        if self._blocked:
            return False
        self._send_text(message)
        return True

    def _drop_stream(self) -> None:
        if self._stream is not None:
            self._stream.drop()
            self._stream = None

    async def _hello(self, hello: dict[str, object]) -> None:
        await asyncio.sleep(self._host.aside("hello"))
        self._send(hello)

    async def _serve(self, line: bytes) -> None:
        request: dict[str, object] = {}
        try:
            request = _request(line)
            answer = await self._answer(request)
        except Exception as error:  # as the collector does: a bad request is answered, whatever is bad about it
            refusal = crashed(error)
            self._send({"id": request.get("id"), "ok": False, "reason": refusal["missing"], "why": refusal["why"]})
        else:
            self._send({**answer, "id": request.get("id"), "ok": True})
            if request.get("verb") == "bye":
                self._end(0)

    async def _answer(self, request: dict[str, object]) -> Answer:
        verb = request.get("verb")
        if verb in ("module", "bye"):
            return {}
        if verb in ("sample", "sample-stop"):
            self._drop_stream()
            if verb == "sample-stop":
                return {}
            self._stream = SampleStream(request.get("id"), request, self._post, self._read)
            return {"interval": self._stream.interval}
        if verb == "facts":
            ops = request.get("ops")
            if not isinstance(ops, list):
                raise TypeError("ops is not a list")
            # The same request takes as long in every run.
            await asyncio.sleep(self._host.delay(str(ops[0]["key"]) if ops else ""))
            return {"answers": self._machine.answers(ops)}
        await asyncio.sleep(self._together.seconds(self._host, request))
        answer = self._together.perform(self._host, request)
        if answer is None:
            raise ValueError(f"no such verb: {verb}")
        return answer

    async def _print(self, script: bytes) -> None:
        try:
            first = next(operations(script), None)
            await asyncio.sleep(self._host.delay(first.key if first else ""))
            self._write(printed(script, self._machine.answer))
        except ValueError:
            self._end(_FAULT)


def _request(line: bytes) -> dict[str, object]:
    request: object = json.loads(line)
    if not isinstance(request, dict):
        raise TypeError("a request is an object")
    return request
