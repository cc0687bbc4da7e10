"""Runs on a node of a Ray cluster: one worker of the load generator as a Ray actor on every node, or so many.

It is executed as `__main__`, so that Ray sends its actor to other nodes by value: nothing is installed anywhere. Lines
come and go as with one worker, each with the worker's number in `to` or `from`. When standard input ends, dstui or the
way to it is gone: all actors are ended, and so is this.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import types

TICK_SECONDS = 1.0
RAYLET = "/tmp/ray/session_latest/sockets/raylet"  # noqa: S108 - where Ray has it
CLIENT = "ray://127.0.0.1:10001"
"""Ray's client server, which lets other users of the head in."""
TRIES = 3
"""It starts a process for every client, and on a busy head its patience may end before that stands."""
PARTS = ("histogram", "http", "asked", "spec", "prompts", "stage")
"""Modules of this package in the order in which they need each other."""


def install(sources):  # type: ignore[no-untyped-def]  # Ray sends it to nodes by value, with nothing that it rests on
    """Makes the package's modules from their sources, without a file."""
    import sys
    import types

    for name in ("dstui", "dstui.load", "dstui.load.agent"):
        package = types.ModuleType(name)
        package.__path__ = []
        sys.modules[name] = package
    for part, source in sources:
        name = f"dstui.load.agent.{part}"
        module = types.ModuleType(name)
        sys.modules[name] = module
        exec(compile(source, f"<{name}>", "exec"), module.__dict__)  # noqa: S102 - what dstui itself sent


def say(**row: object) -> None:
    sys.stdout.write(json.dumps(row, separators=(",", ":")) + "\n")
    sys.stdout.flush()


class Generator:
    """One worker. Its methods run side by side on one event loop."""

    def __init__(self, sources: list[tuple[str, str]]) -> None:
        install(sources)  # type: ignore[no-untyped-call]
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._told: object = None
        self._stage: object = None

    async def prepare(self, spec: dict[str, object]) -> None:
        from dstui.load.agent.spec import spec_of
        from dstui.load.agent.stage import Stage

        self._told = None
        self._stage = Stage(spec_of(spec), self._tell)

    def _tell(self, told: object) -> None:
        self._told = told

    async def run(self) -> object:
        return await self._stage.run()  # type: ignore[attr-defined]

    async def told(self) -> object:
        """The newest figures; None when there are no newer ones."""
        told, self._told = self._told, None
        return told

    async def stop(self) -> None:
        self._stage.stop()  # type: ignore[attr-defined]


class Driver:
    """The actors, and what they are told."""

    def __init__(self, ray: types.ModuleType, sources: list[tuple[str, str]], count: int) -> None:
        self._ray = ray
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        nodes = [node for node in ray.nodes() if node["Alive"]]
        wanted = count or len(nodes)
        remote = ray.remote(Generator)
        usual = {"num_cpus": 0, "max_concurrency": 16, "max_restarts": 0}
        self.places = [nodes[number % len(nodes)] for number in range(wanted)]
        self.actors = [
            remote.options(**usual, scheduling_strategy=strategy(place["NodeID"], soft=False)).remote(sources)
            for place in self.places
        ]
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, row: dict[str, object]) -> None:
        """Never raises: what an actor cannot do is said of that worker."""
        number = row["to"]
        assert isinstance(number, int)
        actor = self.actors[number]
        try:
            if row["do"] == "stage":
                await _awaited(actor.prepare.remote(row["spec"]))
                say(**{"from": number, "ready": True})
            elif row["do"] == "go":
                task = asyncio.ensure_future(self._run(number))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif row["do"] == "stop":
                await _awaited(actor.stop.remote())
        except (self._ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
            self._lost(number, error)

    async def _run(self, number: int) -> None:
        actor = self.actors[number]
        whole = asyncio.ensure_future(_awaited(actor.run.remote()))
        try:
            while not whole.done():
                await asyncio.wait({whole}, timeout=TICK_SECONDS)
                if not whole.done() and (told := await _awaited(actor.told.remote())) is not None:
                    say(**{"from": number, "tick": told})
            say(**{"from": number, "done": await whole})
        except (self._ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
            self._lost(number, error)
        finally:
            whole.cancel()

    def _lost(self, number: int, error: Exception) -> None:
        where = self.places[number]["NodeManagerAddress"]
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = next(
            (line for line in lines if "node" in line.lower() and "died" in line.lower()), lines[0] if lines else ""
        )
        say(**{"from": number, "failed": f"on {where}: {type(error).__name__}: {why[:200]}"})

    def end(self) -> None:
        for actor in self.actors:
            self._ray.kill(actor)


async def _awaited(reference: object) -> object:
    """What a call gives, by either of Ray's ways in."""
    return await asyncio.wrap_future(reference.future())  # type: ignore[attr-defined]


async def serve(lines: asyncio.StreamReader, driver: Driver) -> None:
    tasks: set[asyncio.Task[None]] = set()
    while line := await lines.readline():
        task = asyncio.ensure_future(driver.take(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def connect() -> types.ModuleType | None:
    """Ray, connected to the cluster of this node; says why when it cannot be."""
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.util.scheduling_strategies")
    except ImportError as error:
        say(refused=f"{sys.executable} has no Ray ({error}); set runtime.python in the inventory")
        return None
    # Ray aborts the whole process where it may not open the raylet's socket, which belongs to whoever started it.
    address = "auto" if os.access(RAYLET, os.W_OK) else CLIENT
    why = ""
    for _ in range(TRIES):
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", namespace="dstui-ladder")
        except (Exception, SystemExit) as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            ray.shutdown()
        else:
            return ray
    say(refused=f"Ray {ray.__version__} does not get into the cluster by {address} ({why})")
    return None


async def main(sources: list[tuple[str, str]], count: int) -> None:
    ray = connect()
    if ray is None:
        return
    driver = Driver(ray, sources, count)
    try:
        nodes = [str(place["NodeManagerAddress"]) for place in driver.places]
        say(opened={"ray": ray.__version__, "nodes": nodes})
        lines = asyncio.StreamReader(limit=256 * 1024 * 1024)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        await serve(lines, driver)
    finally:
        driver.end()
        ray.shutdown()
