"""The model loaded on one idle GPU, or why that was not done (`model.single-gpu-load`, `vllm.single-gpu-load`)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from dstui.facts.model_shards import ModelWeights
from dstui.facts.raw import Answer, Missing
from dstui.facts.untyped import real, rows, table, text, whole
from dstui.model import Evidence, Reason, Target

MARK = "dstui-load "
"""How the one line begins that the script on the host prints for dstui."""
_LINE_CHARS = 60_000
_GPU = ("cuda", "rocm")


@dataclass(frozen=True, slots=True)
class Device:
    """The GPU that was chosen: memory in bytes; `used` before anything was loaded."""

    host: str
    index: int
    uuid: str
    total: int
    used: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the script on the host says. `seconds` until the model was loaded, `tokens` that it then generated.

    `device` is where the runtime put the model (`cuda`, `cpu`); empty when it did not get that far. `peak` bytes of GPU
    memory, None where there is no CUDA. `fault` is the first line of an error, `first` the first line of the log that
    names one; both empty without. `lines` are those of the runtime's log that are worth keeping.
    """

    framework: str
    seconds: float
    tokens: int
    peak: int | None
    version: str
    device: str = ""
    fault: str = ""
    first: str = ""
    fallback: str = ""
    lines: tuple[str, ...] = ()

    @property
    def on_gpu(self) -> bool | None:
        """Whether it was a GPU that the model went to; None when it did not get that far."""
        return self.device.startswith(_GPU) if self.device else None


@dataclass(frozen=True, slots=True)
class SingleGpuLoad:
    """`asked` is whether a person asked for the load. `device` is Missing when no GPU is idle.

    `loaded` is Missing when the load was not begun or told nothing; `answer` is what the host printed. `left` are
    bytes that the GPU held more afterwards than before, Missing when that could not be looked at.
    """

    asked: bool
    weights: ModelWeights
    device: Device | Missing
    loaded: Loaded | Missing
    answer: Answer | None = None
    left: int | Missing | None = None

    def evidence(self, target: Target) -> tuple[Evidence, ...]:
        found = self.weights.evidence(target)
        return found if self.answer is None else (*found, self.answer.evidence())


def report(told: Loaded) -> str:
    """What is kept of a load as evidence: its own numbers, then the lines of the runtime's log."""
    rows = [
        f"{told.framework} {told.version} on {told.device or '?'}: {told.tokens} tokens, {told.seconds:.1f} s to load, "
        f"peak {told.peak if told.peak is not None else '?'} B"
    ]
    rows += [f"fault: {told.fault}"] if told.fault else []
    rows += [f"first error: {told.first}"] if told.first else []
    return "\n".join([*rows, *told.lines])


def loaded(answer: Answer) -> Loaded | Missing:
    """The script's line in what the host printed, the last one when there are several."""
    if answer.missing is not None:
        return answer.missing
    lines = [line for line in answer.output.splitlines() if line.startswith(MARK)]
    if not lines:
        said = (answer.error or answer.output).strip().splitlines()
        last = said[-1][:300] if said else "nothing"
        return Missing(Reason.PROBE_ERROR, f"the load ended with exit {answer.exit} and said: {last}")
    try:
        cells = table(json.loads(lines[-1][len(MARK) :][:_LINE_CHARS])) or {}
    except (ValueError, RecursionError):
        cells = {}
    seconds, tokens = real(cells.get("seconds")), whole(cells.get("tokens"))
    if seconds is None or tokens is None:
        return Missing(Reason.PARSE_ERROR, "the load told its result in another way than was asked")
    missing = text(cells.get("missing"))
    if missing is not None:
        return Missing(Reason.TOOL_MISSING, missing[:300])
    return Loaded(
        framework=text(cells.get("framework")) or "",
        seconds=seconds,
        tokens=tokens,
        peak=whole(cells.get("peak")),
        version=text(cells.get("version")) or "?",
        device=(text(cells.get("device")) or "")[:40],
        fault=(text(cells.get("fault")) or "")[:500],
        first=(text(cells.get("first")) or "")[:400],
        fallback=(text(cells.get("fallback")) or "")[:300],
        lines=tuple(line[:400] for each in rows(cells.get("lines")) or [] if (line := text(each))),
    )
