"""The load generator beside its peers, against one server whose times are exactly known, in one run.

    python bench/ladder.py [--clients ours vllm guidellm aiperf aiohttp httpx] [--streams 10 50 100 200 500]
                           [--rounds 3] [--quick]

The server (50 ms to the first token, 20 ms between, 100 tokens) has one core, every client another one, always the
same two. Each client gives its own times, so an error is what it tells beyond the truth. vllm is the request function
of `vllm bench serve`; guidellm and aiperf run as their commands, all their processes on the client's core; their CPU is
of their whole life, and guidellm tells one mean gap per request. The ceiling is pieces per second of one core: once
when the server sends as fast as it is read (a read brings many), once when every piece comes alone, as with a server
that has many streams. `workers` runs several of ours at once: what each second of CPU brings must not fall, and where
there are cores for them, what they bring together must grow. Medians of the rounds. Runs wait for quiet cores, and what
the machine disturbed all the same (the server late, other processes on a core) is repeated, marked and not judged.

Limits: at 500 streams the error of TTFT p50 at most a third of the best peer's; the ceiling at least the best peer's
and 5 times plain httpx's; at 10 streams errors of TTFT under 2 ms. 1 when one is broken, 2 when one cannot be judged.
--quick is one round of 10 and 500 streams with what lies in the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from ladder_peers import AbsentError, Measured, module_of, prepare, python_of, run_tool

FIRST, GAP, TOKENS = 0.05, 0.02, 100
CEILING_STREAMS, CEILING_TOKENS = 100, 2000
INSIDE = ("ours", "vllm", "aiohttp", "httpx")
PEERS = ("vllm", "guidellm", "aiperf")
CLIENTS = ("ours", *PEERS, "aiohttp", "httpx")
WORKERS = (1, 2, 4)
ERROR_RATIO, CEILING_RATIO, HTTPX_RATIO, SMALL_ERROR, SCALE = 1 / 3, 1.0, 5.0, 0.002, 0.85
SERVER_LATE = 0.005
"""Seconds at p99 from which on the server was part of what was measured."""
TRIES = 3
OTHERS = 0.1
"""Share of a core that other processes may take."""
QUIET_SECONDS, PATIENCE = 0.5, 60.0
SERVER_BUSY = 0.95
"""Share of its core from which on the server was what limited a ceiling: the client's is higher."""
HERE = Path(__file__).resolve().parent


@contextmanager
def _server(core: int, *arguments: str) -> Iterator[str]:
    argv = [sys.executable, "-m", "dstui.load.timed_server", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, cwd=HERE.parent, preexec_fn=_pin(core)) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()
        process.wait(10)


def _pin(core: int) -> Callable[[], None]:
    return lambda: os.sched_setaffinity(0, {core})


def _told(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url + "/lateness", timeout=10) as answer:
        found: dict[str, float] = json.load(answer)
        return found


def _inside(name: str, url: str, streams: int, tokens: int, cores: Sequence[int]) -> list[Measured]:
    """One process for each of `cores`, all begun together."""
    argv = [str(python_of(name)), str(HERE / "ladder_clients.py"), name, url, str(streams), str(tokens)]
    argv.append(str(module_of(name)))
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment, preexec_fn=_pin(core))
        for core in cores
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found = []
    for process in processes:
        said, wrong = process.communicate(timeout=900)
        if process.returncode:
            raise AbsentError(
                f"exit {process.returncode} with {streams} streams: {wrong.strip().splitlines()[-1][:200]}"
            )
        found.append(Measured(**json.loads(said)))
    return found


def _busy(core: int) -> float:
    """Seconds of CPU that processes took of a core since the machine started; 0 where nobody tells."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    row = next(line.split() for line in stat.read_text().splitlines() if line.startswith(f"cpu{core} "))
    # user, nice, system; what the network does in interrupts is the run's own.
    return sum(map(int, row[1:4])) / os.sysconf("SC_CLK_TCK")


def _wait_for_quiet(cores: Sequence[int]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        before = [_busy(core) for core in cores]
        time.sleep(QUIET_SECONDS)
        if all(_busy(core) - was < OTHERS * QUIET_SECONDS for core, was in zip(cores, before, strict=True)):
            return


def measure(name: str, streams: int, cores: tuple[int, int], *, ceiling: bool = False) -> Measured:
    """One client, against a server of its own; again when the machine disturbed it. AbsentError: does not run."""
    for _ in range(TRIES):
        _wait_for_quiet(cores)
        found = _measure_once(name, streams, cores, ceiling=ceiling)
        if not disturbed(found):
            break
    return found


def disturbed(found: Measured) -> bool:
    """Whether the machine was part of what was measured: the server was late, or a core was shared."""
    return found.others > OTHERS or (found.server["p99"] or 0.0) > SERVER_LATE


def _measure_once(name: str, streams: int, cores: tuple[int, int], *, ceiling: bool) -> Measured:
    tokens = CEILING_TOKENS if ceiling else TOKENS
    first, gap = (0.0, 0.0) if ceiling else (FIRST, GAP)
    with _server(cores[0], "--first", str(first), "--gap", str(gap), "--tokens", str(tokens)) as url:
        before, at = _told(url), time.monotonic()
        busy, used = [_busy(core) for core in cores], _children()
        if name in INSIDE:
            found = _inside(name, url, streams, tokens, [cores[1]])[0]
        else:
            found = run_tool(name, url, streams, tokens, _pin(cores[1]))
        after, took = _told(url), time.monotonic() - at
        mine = after["cpu_seconds"] - before["cpu_seconds"], _children() - used
        others = [_busy(core) - was - cpu for core, was, cpu in zip(cores, busy, mine, strict=True)]
    if found.failed:
        raise AbsentError(f"{found.failed} of {streams} streams failed")
    found.server = {**after, "cpu": mine[0]}
    found.others = max(0.0, *others) / took
    return found


def _children() -> float:
    """CPU seconds of all processes of ours that have ended."""
    spent = os.times()
    return spent.children_user + spent.children_system


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Figures:
    """All that was measured, by client and streams, a list of rounds each."""

    def __init__(self) -> None:
        self.levels: dict[tuple[str, int], list[Measured]] = {}
        self.ceilings: dict[str, list[Measured]] = {}

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys([*(name for name, _ in self.levels), *self.ceilings]))

    def add(self, name: str, streams: int | None, found: Measured) -> None:
        """One more round; without streams it is one of the ceiling. One that was left alone drives out the others."""
        rounds = self.ceilings.setdefault(name, []) if streams is None else self.levels.setdefault((name, streams), [])
        if not disturbed(found) and any(map(disturbed, rounds)):
            rounds.clear()
        if not disturbed(found) or not rounds or all(map(disturbed, rounds)):
            rounds.append(found)

    def _median(self, name: str, streams: int, of: Callable[[Measured], float]) -> float | None:
        rounds = self.levels.get((name, streams))
        return statistics.median(map(of, rounds)) if rounds else None

    def disturbed(self, name: str, streams: int | None) -> bool:
        """Whether no round of it was left alone by the machine."""
        if streams is None:
            # By CPU a ceiling is the same on a shared core.
            return name not in INSIDE and any(map(disturbed, self.ceilings.get(name, [])))
        return any(map(disturbed, self.levels.get((name, streams), [])))

    def ttft(self, name: str, streams: int, share: float) -> float | None:
        """Error in seconds; below nothing it counts as much as above."""
        return self._median(name, streams, lambda m: abs(quantile(m.ttft, share) - FIRST))

    def itl(self, name: str, streams: int) -> float | None:
        return self._median(name, streams, lambda m: abs(quantile(m.gaps, 0.99) - GAP))

    def wall(self, name: str, streams: int) -> float | None:
        return self._median(name, streams, lambda m: m.wall)

    def cpu(self, name: str, streams: int) -> float | None:
        return self._median(name, streams, lambda m: m.cpu)

    def late(self, name: str, streams: int) -> float | None:
        return self._median(name, streams, lambda m: m.server["p99"])

    def ceiling(self, name: str) -> float | None:
        """Pieces per second of CPU where that is known for the run alone, else of the one core's time."""
        rounds = self.ceilings.get(name)
        return statistics.median(m.pieces / (m.cpu if name in INSIDE else m.wall) for m in rounds) if rounds else None

    def busy(self, name: str) -> bool:
        """Whether the server was what limited the ceiling."""
        share = statistics.median(m.server["cpu"] / m.wall for m in self.ceilings[name])
        return name not in INSIDE and share > SERVER_BUSY

    def per_piece(self, name: str, low: int, high: int) -> float | None:
        """CPU seconds of a piece that comes alone: what begins and ends with every run falls out."""
        few, many = self.levels.get((name, low)), self.levels.get((name, high))
        if not few or not many or low == high:
            return None
        cpu = statistics.median(m.cpu for m in many) - statistics.median(m.cpu for m in few)
        return cpu / (many[0].pieces - few[0].pieces)


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.2f}"


def table(figures: Figures, clients: Sequence[str], levels: Sequence[int]) -> None:
    ideal = FIRST + GAP * (TOKENS - 1)
    print("\nerrors in ms against 50 ms to the first token and 20 ms between; wall and CPU in s;")
    print(f"ideal wall {ideal:.2f} s; server: how late it wrote, p99; !: the machine disturbed all rounds")
    print("streams  client     TTFT p50  TTFT p99   ITL p99    wall     CPU   server")
    for streams in levels:
        for name in clients:
            wall, cpu, late = figures.wall(name, streams), figures.cpu(name, streams), figures.late(name, streams)
            if wall is None or cpu is None or late is None:
                continue
            times = (figures.ttft(name, streams, 0.5), figures.ttft(name, streams, 0.99), figures.itl(name, streams))
            row = " ".join(f"{_ms(each):>9}" for each in times)
            mark = "!" if figures.disturbed(name, streams) else ""
            print(f"{streams:>7}  {name:<9} {row} {wall:>7.2f} {cpu:>7.2f} {_ms(late):>7}{mark}")
    print(f"\nceiling, pieces/s of one core ({CEILING_STREAMS} streams of {CEILING_TOKENS} as fast as they are read),")
    print("and CPU µs of a piece that comes alone (from the table, start and end of a run taken off)")
    low, high = min(levels), max(levels)
    for name in clients:
        ceiling, alone = figures.ceiling(name), figures.per_piece(name, low, high)
        if ceiling is not None:
            bound = " (the server's own limit: at least)" if figures.busy(name) else ""
            bound += " (disturbed)" if figures.disturbed(name, None) else ""
            print(f"{name:<9} {ceiling:>10,.0f}  {'–' if alone is None else f'{alone * 1e6:.1f}':>8}{bound}")


class Verdict:
    """What is asked for, one line each."""

    def __init__(self) -> None:
        self.broken = self.unknown = False

    def say(self, what: str, value: float | None, limit: float, *, most: bool, unit: str = "", why: str = "") -> None:
        sign = "≤" if most else "≥"
        if value is None or why:
            self.unknown = True
            print(f"UNKNOWN  {what}: {why or 'not measured'}")
            return
        held = value <= limit if most else value >= limit
        self.broken |= not held
        print(f"{'held   ' if held else 'BROKEN '}  {what}: {value:.2f}{unit} {sign} {limit:.2f}{unit}")


def judge(figures: Figures, absent: dict[str, str], levels: Sequence[int]) -> Verdict:
    verdict = Verdict()

    def why(names: Sequence[str], *streams: int | None) -> str:
        held_up = [name for name in names if any(figures.disturbed(name, each) for each in streams)]
        return f"the machine disturbed {', '.join(held_up)}" if held_up else ""

    errors = {n: e for n in PEERS if n not in absent and (e := figures.ttft(n, 500, 0.5)) is not None}
    mine = figures.ttft("ours", 500, 0.5)
    best = min(errors, key=lambda n: errors[n], default=None)
    ratio = mine / errors[best] if mine is not None and best is not None else None
    reason = why(["ours", *errors], 500)
    verdict.say(f"error of TTFT p50 at 500 streams, ours to {best}'s", ratio, ERROR_RATIO, most=True, why=reason)
    low, high = min(levels), max(levels)
    alone = {n: 1 / a for n in figures.names if (a := figures.per_piece(n, low, high)) is not None}
    fast = {n: c for n in figures.names if (c := figures.ceiling(n)) is not None}
    for what, rates, seen in (("as fast as it is read", fast, (None,)), ("pieces alone", alone, (low, high))):
        peers = {n: r for n, r in rates.items() if n in PEERS and n not in absent}
        top = max(peers, key=lambda n: peers[n], default=None)
        mine, httpx = rates.get("ours"), rates.get("httpx")
        ratio = mine / peers[top] if mine is not None and top is not None else None
        reason = why(["ours", *peers], *seen)
        verdict.say(f"ceiling of a core, {what}, ours to {top}'s", ratio, CEILING_RATIO, most=False, why=reason)
        ratio = mine / httpx if mine is not None and httpx is not None else None
        reason = why(["ours", "httpx"], *seen)
        verdict.say(f"ceiling of a core, {what}, ours to plain httpx's", ratio, HTTPX_RATIO, most=False, why=reason)
    for share in (0.5, 0.99):
        error = figures.ttft("ours", 10, share)
        told = None if error is None else error * 1000
        what, reason = f"error of TTFT p{share * 100:.0f} at 10 streams", why(["ours"], 10)
        verdict.say(what, told, SMALL_ERROR * 1000, most=True, unit=" ms", why=reason)
    return verdict


def scale(verdict: Verdict, server: int, rounds: int) -> None:
    """Several workers at once, on as many of the other cores as there are."""
    others = [core for core in sorted(os.sched_getaffinity(0)) if core != server]
    print("\nworkers  pieces/s  pieces per CPU s  cores")
    alone = (0.0, 0.0)
    for workers in WORKERS:
        cores = [others[number % len(others)] for number in range(workers)]
        together, each = [], []
        for _ in range(rounds):
            _wait_for_quiet([server, *set(cores)])
            with _server(server, "--first", "0", "--gap", "0", "--tokens", str(CEILING_TOKENS)) as url:
                found = _inside("ours", url, CEILING_STREAMS, CEILING_TOKENS, cores)
            together.append(sum(m.pieces for m in found) / max(m.wall for m in found))
            each.append(sum(m.pieces for m in found) / sum(m.cpu for m in found))
        rate, cost = statistics.median(together), statistics.median(each)
        used = len(set(cores))
        print(f"{workers:>7}  {rate:>8,.0f}  {cost:>16,.0f}  {used:>5}")
        if workers == 1:
            alone = rate, cost
            continue
        verdict.say(f"what a CPU second of {workers} workers brings, to one's", cost / alone[1], SCALE, most=False)
        if used > 1:
            limit = SCALE * used
            verdict.say(f"what {workers} workers bring together, to one", rate / alone[0], limit, most=False)


def main() -> int:
    """Prints tables and limits; 1 when one is broken, 2 when one cannot be judged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument("--streams", nargs="+", type=int, default=[10, 50, 100, 200, 500])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, 10 and 500 streams, peers only from the cache")
    given = parser.parse_args()
    if given.quick:
        given.streams, given.rounds = [10, 500], 1
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("two cores are needed, one for the server and one for the client")
        return 2
    pair = cores[0], cores[1]
    absent: dict[str, str] = {}
    for name in given.clients:
        try:
            prepare(name, fetch=not given.quick)
        except AbsentError as error:
            absent[name] = str(error)
            print(f"skipped: {name}: {error}")
    figures = Figures()
    # Round by round, so that whatever else the machine does meets all of them.
    for number in range(given.rounds):
        for streams in (*given.streams, None):
            for name in (each for each in given.clients if each not in absent):
                try:
                    found = measure(name, streams or CEILING_STREAMS, pair, ceiling=streams is None)
                except AbsentError as error:
                    absent[name] = str(error)
                    print(f"skipped from here on: {name}: {error}")
                    continue
                figures.add(name, streams, found)
                what = f"{streams} streams" if streams else "ceiling"
                print(f"round {number + 1}: {what}, {name}: {found.wall:.2f} s", file=sys.stderr, flush=True)
    table(figures, given.clients, given.streams)
    print()
    verdict = judge(figures, absent, given.streams)
    for name in PEERS:
        if name in absent or name not in given.clients:
            print(f"without {name}: {absent.get(name, 'not asked for')}")
    if "ours" in given.clients and "ours" not in absent:
        scale(verdict, pair[0], given.rounds)
    return 1 if verdict.broken else 2 if verdict.unknown else 0


if __name__ == "__main__":
    sys.exit(main())
