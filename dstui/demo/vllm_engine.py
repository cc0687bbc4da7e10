"""A vLLM engine in numbers: requests that arrive, wait, run, are preempted and end, and the metrics they leave behind.

Everything follows from what arrives and from `pace`, how many times slower than usual the GPUs are.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

MAX_NUM_SEQS = 256
MOST_WAITING = 1_000
"""`max_num_queued_reqs`: who comes when so many wait is rejected."""
BLOCK_TOKENS, BLOCKS = 16, 20_800
KV_TOKENS = BLOCK_TOKENS * BLOCKS
PROMPT_TOKENS, OUTPUT_TOKENS = 1_100, 380
"""Of a usual request; both breathe with `lengths`."""

STEP_SECONDS, STEP_SECONDS_EACH = 0.020, 0.000_12
"""Between two tokens of a request: with an empty batch, and more for every request in it."""
_PREFILL_RATE = 36_000.0
"""Prompt tokens/s when nothing else is to be done."""
_ADMITTED_SHARE, _TIGHT_SHARE = 0.98, 0.93
"""No request is admitted beyond this use of the KV cache; from the other on, running ones are preempted at times."""
_PREEMPTED_PER_SECOND = 0.006
"""Of the running requests, while memory is tight and others wait."""
_CACHED_SHARE = 0.38
"""Of prompt tokens that are in the prefix cache."""
OUTCOMES = ("stop", "length", "abort", "error", "repetition")
_ABORTED_SHARE, _LONG_SHARE = 0.004, 0.06
_GAPS = ((0.82, 0.5), (1.0, 0.34), (1.35, 0.13), (2.4, 0.03))
"""Gaps between tokens as multiples of the usual one, and how often they occur: prefills of others stretch some."""

_SECONDS = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
            960.0, 1920.0, 7680.0)  # fmt: skip
_GAP_SECONDS = (
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
    80.0,
)
_TOKENS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)
BOUNDS: dict[str, tuple[float, ...]] = {
    "request_prompt_tokens": _TOKENS,
    "request_generation_tokens": _TOKENS,
    "time_to_first_token_seconds": (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
                                    7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
    "inter_token_latency_seconds": _GAP_SECONDS,
    "request_time_per_output_token_seconds": _GAP_SECONDS,
    "e2e_request_latency_seconds": _SECONDS,
    "request_queue_time_seconds": _SECONDS,
    "request_inference_time_seconds": _SECONDS,
    "request_prefill_time_seconds": _SECONDS,
    "request_decode_time_seconds": _SECONDS,
}  # fmt: skip
"""Histograms with their buckets as vLLM 0.32 has them for a model of 4,096 tokens."""


@dataclass(slots=True)
class Histogram:
    """Counts by bucket, not added up yet; the last bucket is what lies above all bounds."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


@dataclass(slots=True, eq=False)
class Guest:
    """A request that really came over HTTP, beside those of the made-up users. Times are seconds."""

    prompt: int
    arrived: float
    tokens: int = 0
    first: float | None = None


@dataclass(slots=True)
class Engine:
    """One engine since `started` (seconds since the epoch). `step` is called with the time going forward only."""

    started: float
    random: random.Random
    running: int = 0
    preempted: int = 0
    """Requests that ran, were thrown out and wait to be computed anew."""
    queue: deque[float] = field(default_factory=deque)
    """When each request that waits for its first turn arrived."""
    kv_share: float = 0.0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    preemptions: int = 0
    rejected: int = 0
    finished: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    histograms: dict[str, Histogram] = field(
        default_factory=lambda: {name: Histogram(bounds) for name, bounds in BOUNDS.items()}
    )
    token_rate: float = 0.0
    """Tokens/s of the last step."""
    guests: list[Guest] = field(default_factory=list)
    _tokens: float = 0.0
    _ends: float = 0.0
    _thrown: float = 0.0
    _waited: float = 0.0

    @property
    def waiting(self) -> int:
        return self.preempted + len(self.queue)

    @property
    def cached_tokens(self) -> int:
        return int(self.prompt_tokens * _CACHED_SHARE)

    @property
    def together(self) -> int:
        """All requests that run, guests as well."""
        return self.running + len(self.guests)

    def welcome(self, guest: Guest) -> None:
        """A request from outside begins to run: there is always room for one more."""
        self.guests.append(guest)
        self.prompt_tokens += guest.prompt
        self.histograms["request_prompt_tokens"].observe(guest.prompt)
        self.histograms["request_queue_time_seconds"].observe(0.0)

    def said(self, guest: Guest, now: float) -> None:
        """Another token of it."""
        if guest.first is None:
            guest.first = now
            self.histograms["time_to_first_token_seconds"].observe(max(0.0, now - guest.arrived))
        guest.tokens += 1
        self.generation_tokens += 1

    def farewell(self, guest: Guest, now: float, reason: str) -> None:
        """It has ended, for one of the `OUTCOMES`. Nothing happens when it has ended already."""
        if guest not in self.guests:
            return
        self.guests.remove(guest)
        self.finished[reason] += 1
        seen = self.histograms
        seen["request_generation_tokens"].observe(guest.tokens)
        seen["e2e_request_latency_seconds"].observe(max(0.0, now - guest.arrived))

    def gap(self, pace: float) -> float:
        """Seconds between two tokens of a request now."""
        return pace * (STEP_SECONDS + STEP_SECONDS_EACH * self.running)

    def step(self, now: float, seconds: float, arrived: int, *, pace: float = 1.0, lengths: float = 1.0) -> None:
        """The `seconds` up to `now`, in which so many requests arrived. `lengths`: 1 for requests of the usual size."""
        draw = self.random.random
        came_before = len(self.queue)
        taken = max(0, min(arrived, MOST_WAITING - self.waiting))
        self.rejected += arrived - taken
        self.queue.extend(sorted(now - seconds * draw() for _ in range(taken)))
        self._decode(seconds, pace, lengths)
        each = (PROMPT_TOKENS + OUTPUT_TOKENS / 2) * lengths / KV_TOKENS
        self._admit(now, seconds, pace, lengths, each, fresh_from=came_before)
        self._preempt(seconds, each)
        self.kv_share = min(0.9994, self.running * each)

    def _decode(self, seconds: float, pace: float, lengths: float) -> None:
        gap, output = self.gap(pace), OUTPUT_TOKENS * lengths
        self.token_rate = self.running / gap
        self._tokens += self.token_rate * seconds
        tokens, self._tokens = int(self._tokens), self._tokens % 1.0
        self.generation_tokens += tokens
        left, gaps = tokens, self.histograms["inter_token_latency_seconds"]
        for times, how_often in _GAPS[1:]:
            count = int(tokens * how_often)
            gaps.observe(gap * times, count)
            left -= count
        gaps.observe(gap * _GAPS[0][0], left)
        self._ends += self.token_rate * seconds / output
        ended = min(self.running, int(self._ends))
        self._ends -= int(self._ends)
        self.running -= ended
        for _ in range(ended):
            self._end(gap, output)

    def _end(self, gap: float, output: float) -> None:
        draw, seen = self.random.random, self.histograms
        tokens = max(1, round(output * (0.3 + 1.4 * draw())))
        reason = "abort" if draw() < _ABORTED_SHARE else "length" if draw() < _LONG_SHARE else "stop"
        self.finished[reason] += 1
        decode, prefill = tokens * gap, 0.1 + 0.2 * draw()
        seen["request_generation_tokens"].observe(tokens)
        seen["request_time_per_output_token_seconds"].observe(gap)
        seen["request_decode_time_seconds"].observe(decode)
        seen["request_inference_time_seconds"].observe(decode + prefill)
        seen["e2e_request_latency_seconds"].observe(self._waited + prefill + decode)

    def _admit(self, now: float, seconds: float, pace: float, lengths: float, each: float, *, fresh_from: int) -> None:
        budget = _PREFILL_RATE * seconds / (pace * PROMPT_TOKENS * lengths)
        seen, draw = self.histograms, self.random.random
        admitted = 0
        while self.waiting and self.running < MAX_NUM_SEQS and admitted < budget:
            if (self.running + 1) * each > _ADMITTED_SHARE:
                return
            admitted += 1
            self.running += 1
            prompt = max(20, round(PROMPT_TOKENS * lengths * (0.3 + 1.4 * draw())))
            self.prompt_tokens += prompt
            if self.preempted:
                self.preempted -= 1
                continue
            arrived = self.queue.popleft()
            # A request that found nobody before it has its turn at the next iteration, not at the end of this step.
            queued = (now - arrived) if admitted <= fresh_from else self.gap(pace) * draw()
            prefill = pace * (0.06 + prompt / _PREFILL_RATE * (1.0 + 3.0 * draw()) + self.gap(1.0) * draw())
            self._waited += 0.05 * (queued - self._waited)
            seen["request_queue_time_seconds"].observe(queued)
            seen["request_prompt_tokens"].observe(prompt)
            seen["request_prefill_time_seconds"].observe(prefill)
            seen["time_to_first_token_seconds"].observe(queued + prefill)

    def _preempt(self, seconds: float, each: float) -> None:
        used = self.running * each
        if used < _TIGHT_SHARE or not self.waiting:
            return
        self._thrown += self.running * _PREEMPTED_PER_SECOND * seconds
        thrown = int(self._thrown)
        self._thrown -= thrown
        # Requests that grew beyond what there is go at once.
        while (self.running - thrown) * each > 1.0:
            thrown += 1
        self.running -= thrown
        self.preempted += thrown
        self.preemptions += thrown
