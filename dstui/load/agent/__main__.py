"""A worker: told what to do in JSON lines on standard input, says what happened in JSON lines on standard output.

`{"do": "stage", "spec": {…}}`, `{"do": "go"}`, `{"do": "stop"}`; answers `{"ready": true}`, `{"tick": {…}}`,
`{"done": {…}}`, `{"failed": "why"}`. When standard input ends, so does the worker: whoever started it is gone.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys

from dstui.load.agent.http import HttpError
from dstui.load.agent.spec import spec_of
from dstui.load.agent.stage import Stage

LINE_LIMIT = 256 * 1024 * 1024
"""A stage's conversations may be many."""


def say(**row: object) -> None:
    """One line; when nobody reads any more, the worker ends."""
    sys.stdout.write(json.dumps(row, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def raise_nofile() -> None:
    """As many open files as are allowed: every user has a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(lines: asyncio.StreamReader) -> None:
    """Until the lines end."""
    stage: Stage | None = None
    running: asyncio.Task[None] | None = None

    async def run(one: Stage) -> None:
        try:
            say(done=await one.run())
        except (HttpError, OSError, ValueError, RuntimeError) as error:
            say(failed=str(error))

    try:
        while line := await lines.readline():
            row = json.loads(line)
            if row["do"] == "stage":
                stage = Stage(spec_of(row["spec"]), lambda told: say(tick=told))
                say(ready=True)
            elif row["do"] == "go" and stage is not None:
                running = asyncio.ensure_future(run(stage))
            elif row["do"] == "stop" and stage is not None:
                stage.stop()
    finally:
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def main() -> None:
    raise_nofile()
    lines = asyncio.StreamReader(limit=LINE_LIMIT)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await serve(lines)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (KeyboardInterrupt, BrokenPipeError):
        sys.stderr.close()
