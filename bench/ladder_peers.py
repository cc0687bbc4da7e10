"""The peers of bench/ladder.py: fetched once into a cache outside of the repository, run as their makers mean them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ladder_clients import PROMPT

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dstui-bench"
VERSIONS = {"vllm": "0.33.0", "guidellm": "0.8.1", "aiperf": "0.13.0"}
VLLM_FILE = "vllm/benchmarks/lib/endpoint_request_func.py"
VLLM_NEEDS = ("aiohttp", "regex", "tqdm")
TOOL_SECONDS = 600.0
_TOKENIZER = """
import sys
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
words = {word: number for number, word in enumerate(["<unk>", "token", "word"])}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(sys.argv[1])
"""
"""Both tools insist on a tokenizer; with the server's `usage` and a fixed prompt it counts nothing."""


class AbsentError(Exception):
    """This peer cannot run here, and why."""


@dataclass
class Measured:
    """Seconds. `cpu` of a tool is of its whole life, imports and report included."""

    ttft: list[float]
    gaps: list[float]
    failed: int
    wall: float
    cpu: float
    server: dict[str, Any] = field(default_factory=dict)
    others: float = 0.0
    """What other processes took of the busier of the two cores meanwhile, 0 to 1."""

    @property
    def pieces(self) -> int:
        return len(self.ttft) + len(self.gaps)


def python_of(name: str) -> Path:
    """The interpreter that runs this client inside one process."""
    return CACHE / "vllm" / "bin" / "python" if name in ("vllm", "aiohttp") else Path(sys.executable)


def module_of(name: str) -> Path:
    return CACHE / "vllm" / f"endpoint_request_func-{VERSIONS['vllm']}.py" if name == "vllm" else Path()


def prepare(name: str, *, fetch: bool) -> None:
    """Raises AbsentError. Without `fetch` only what is there already counts."""
    if name in ("ours", "httpx"):
        return
    home = CACHE / ("vllm" if name == "aiohttp" else name)
    done = home / f"ready-{name}-{VERSIONS.get(name, 'any')}"
    if done.exists():
        return
    if not fetch:
        raise AbsentError(f"not in {CACHE}; a run without --quick fetches it")
    print(f"fetching {name} into {home} …", flush=True)
    _run([sys.executable, "-m", "venv", str(home)])
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q"]
    if name in ("vllm", "aiohttp"):
        _run([*pip, *VLLM_NEEDS])
    else:
        _run([*pip, f"{name}=={VERSIONS[name]}"])
        _run([str(home / "bin" / "python"), "-c", _TOKENIZER, str(home / "tokenizer")])
    if name == "vllm":
        # All of vLLM is gigabytes; its client is one file of the wheel.
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            wanted = f"vllm=={VERSIONS['vllm']}"
            _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, wanted])
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                module_of(name).write_bytes(wheel.read(VLLM_FILE))
    done.touch()


def _run(argv: Sequence[str]) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=3600, check=False)
    except subprocess.TimeoutExpired as error:
        raise AbsentError(f"{Path(argv[0]).name} took more than an hour") from error
    if done.returncode:
        raise AbsentError(f"{' '.join(argv[1:5])} …: {_last(done.stderr)}")


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip() and "is ignored" not in line]
    return lines[-1][:200] if lines else "no word"


def run_tool(name: str, url: str, streams: int, tokens: int, pin: Callable[[], None]) -> Measured:
    """One run of guidellm or aiperf in a process tree of its own. AbsentError when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        argv, read = (_guidellm if name == "guidellm" else _aiperf)(Path(folder), url, streams, tokens)
        with (Path(folder) / "said").open("w+") as said:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, preexec_fn=pin, cwd=folder
            )
            try:
                before = os.times()
                code = process.wait(TOOL_SECONDS)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait(30)
                raise AbsentError(f"no end after {TOOL_SECONDS:.0f} s with {streams} streams") from None
            after = os.times()
            said.seek(0)
            if code:
                raise AbsentError(f"exit {code} with {streams} streams: {_last(said.read())}")
        found = read()
    found.cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return found


def _guidellm(folder: Path, url: str, streams: int, tokens: int) -> tuple[list[str], Callable[[], Measured]]:
    asked = {"prompt": PROMPT, "output_tokens_count": tokens}
    (folder / "asked.jsonl").write_text((json.dumps(asked) + "\n") * streams)
    argv = [str(CACHE / "guidellm" / "bin" / "guidellm"), "run", "--disable-console"]
    argv += ["--backend", f"kind=openai_http,target={url},model=timed,max_tokens={tokens}"]
    argv += ["--profile", f"kind=concurrent,streams={streams}", "--constraint", f"kind=max_requests,count={streams}"]
    argv += ["--tokenizer", f"kind=hf_auto,model={CACHE / 'guidellm' / 'tokenizer'}"]
    argv += ["--data", "kind=json_file,path=asked.jsonl", "--output", "kind=json,path=report.json"]

    def read() -> Measured:
        rows = json.loads((folder / "report.json").read_text())["benchmarks"][0]["requests"]["successful"]
        rows = [row for row in rows if row["output_tokens"] == tokens]
        # One figure per request: its mean.
        gaps = [row["inter_token_latency_ms"] / 1000 for row in rows for _ in range(tokens - 1)]
        wall = max(row["request_end_time"] for row in rows) - min(row["request_start_time"] for row in rows)
        return Measured([row["time_to_first_token_ms"] / 1000 for row in rows], gaps, streams - len(rows), wall, 0.0)

    return argv, read


def _aiperf(folder: Path, url: str, streams: int, tokens: int) -> tuple[list[str], Callable[[], Measured]]:
    asked = {"text": PROMPT, "output_length": tokens}
    (folder / "asked.jsonl").write_text((json.dumps(asked) + "\n") * streams)
    argv = [str(CACHE / "aiperf" / "bin" / "aiperf"), "profile", "-m", "timed", "--url", url, "--endpoint-type", "chat"]
    argv += ["--streaming", "--concurrency", str(streams), "--request-count", str(streams), "--ui", "none"]
    argv += ["--input-file", "asked.jsonl", "--custom-dataset-type", "single_turn", "--no-server-metrics"]
    argv += ["--tokenizer", str(CACHE / "aiperf" / "tokenizer"), "--use-server-token-count", "--artifact-dir", "found"]

    def read() -> Measured:
        rows = [json.loads(line) for line in (folder / "found" / "profile_export.jsonl").read_text().splitlines()]
        rows = [row for row in rows if not row.get("error")]
        figures = [row["metrics"] for row in rows]
        told = [row["metadata"] for row in rows]
        gaps = [gap / 1000 for each in figures for gap in each["inter_chunk_latency"]["value"]]
        wall = (max(t["request_end_ns"] for t in told) - min(t["request_start_ns"] for t in told)) / 1e9
        ttft = [each["time_to_first_token"]["value"] / 1000 for each in figures]
        return Measured(ttft, gaps, streams - len(rows), wall, 0.0)

    return argv, read
