"""The embedded fleet as a service: what the checks of the model, Ray, vLLM, the API and its functions make of it."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from dstui.catalogue import load_catalogue
from dstui.demo import life, open_demo
from dstui.demo.cast import Character
from dstui.demo.vllm_engine import Engine
from dstui.gather import api_burst
from dstui.model import Reason, Target, TargetKind, Verdict

PASS, WARN, FAIL, UNKNOWN, NA = (
    Verdict.PASS,
    Verdict.WARN,
    Verdict.FAIL,
    Verdict.UNKNOWN,
    Verdict.NOT_APPLICABLE,
)
SECTIONS = ("model", "ray", "vllm", "api", "lb", "func")
CHECKS = tuple(check.id for check in load_catalogue().checks if check.section in SECTIONS)
CLUSTER = "demo-fleet"
LOST, BLOCKED = (UNKNOWN, Reason.UNREACHABLE), (UNKNOWN, Reason.BLOCKED_BY)

Expected = Mapping[tuple[str, str], tuple[Verdict, Reason | None]]


@dataclass
class Seen:
    """Verdicts by check and by name of the target, the port of an endpoint left out; and all that was said."""

    verdicts: dict[tuple[str, str], tuple[Verdict, Reason | None]] = field(default_factory=dict)
    said: dict[tuple[str, str], str] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    report: str = ""
    secrets: tuple[str, ...] = ()


def name_of(target: Target) -> str:
    return target.name.removeprefix("http://").partition(":")[0] if target.kind is TargetKind.ENDPOINT else target.name


async def perform(hosts: int) -> Seen:
    seen = Seen()
    engine = await open_demo(hosts)
    try:
        folder = engine.journal_path.parent
        seen.keys = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.key")}
        seen.secrets = tuple(path.read_text().strip() for path in folder.glob("*.key"))
        await engine.run(CHECKS)
        for check in CHECKS:
            for finding in engine.checklist().statuses[check].findings:
                key = (check, name_of(finding.target))
                seen.verdicts[key] = (finding.verdict, finding.reason)
                seen.said[key] = " ".join(t.en for t in (finding.observed, finding.rule, *finding.notes))
        seen.report = str([engine.checklist().statuses[check].findings for check in CHECKS])
    finally:
        await engine.aclose()
    return seen


def quickly(hosts: int) -> Seen:
    """As `perform`, with hosts that hesitate less, engines that speak five times as fast, and no other users.

    With those the number of running requests goes up and down by itself, which says nothing of one that was left.
    """
    delay, gap = Character.delay, Engine.gap
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Character, "delay", lambda self, what: delay(self, what) / 4)
        patch.setattr(Engine, "gap", lambda self, pace: gap(self, pace) / 5)
        patch.setattr(life, "rate", lambda seed, since: 0.0)
        patch.setattr(api_burst, "RECOVERY_PAUSE_SECONDS", 0.3)
        return asyncio.run(perform(hosts))


@pytest.fixture(scope="module")
def eight() -> Seen:
    return quickly(8)


def expected_of_eight() -> Expected:
    """Every finding: PASS, but for what each host's story makes of it, and for what this deployment leaves to wish."""
    names = [f"gpu-{n:02d}" for n in range(1, 9)]
    backends = [f"127.0.0.{10 + n}" for n in range(1, 9)]
    public = "127.0.0.8"
    found: dict[tuple[str, str], tuple[Verdict, Reason | None]] = {}
    # gpu-05 is out of sight and gpu-07 has no python3: whether all see the same model is not known.
    found["model.present", CLUSTER] = LOST
    found["model.test-cases", CLUSTER] = (PASS, None)
    for check in ("model.integrity", "model.single-gpu-load", "model.memory-fit", "vllm.single-gpu-load"):
        found[check, CLUSTER] = BLOCKED
    found["ray.head-started", "gpu-01"] = (PASS, None)
    for check in ("ray.workers-joined", "ray.resources", "vllm.installed-latest"):
        found |= {(check, name): (PASS, None) for name in names}
    found["ray.workers-joined", CLUSTER] = found["ray.resources", CLUSTER] = (PASS, None)
    found["ray.resources", "gpu-05"] = found["vllm.installed-latest", "gpu-05"] = LOST
    found["ray.dashboard", "127.0.0.9"] = (WARN, None)
    found["vllm.installed-latest", "gpu-06"] = (FAIL, None)
    found["vllm.serve-app", CLUSTER] = found["vllm.parallel-batch-config", CLUSTER] = (PASS, None)
    found["vllm.serve-concurrency", backends[0]] = (PASS, None)
    for check in ("api.started", "api.health", "api.auth"):
        found |= {(check, address): (PASS, None) for address in (public, *backends)}
    found["api.auth", "127.0.0.18"] = (FAIL, None)
    found["api.docs", public] = (WARN, None)
    found["api.rate-limit", public] = (PASS, None)
    for name in ("basic-inference", "long-text", "multilingual", "concurrent", "error-handling"):
        found[f"func.{name}", public] = (PASS, None)
    for name in ("deployed", "reverse-proxy"):
        found |= {(f"lb.{name}", target): (PASS, None) for target in ("gpu-01", public)}
    found["lb.tls", public], found["lb.static-cache", public] = (FAIL, None), (NA, None)
    found["lb.algorithm", public] = (PASS, None)
    return found


def test_every_finding_on_eight_hosts(eight: Seen) -> None:
    assert len(CHECKS) == 29
    assert eight.verdicts == expected_of_eight()


@pytest.mark.parametrize(
    ("check", "target", "words"),
    [
        ("vllm.installed-latest", "gpu-06", "0.32.0 is pinned"),
        ("api.auth", "127.0.0.18", "the revoked key still works"),
        ("api.docs", "127.0.0.8", "127.0.0.7"),
        ("api.docs", "127.0.0.8", "stays blank"),
        ("ray.dashboard", "127.0.0.9", "without a tunnel or a token"),
        ("ray.dashboard", "127.0.0.9", "CVE-2026-27482"),
        ("api.rate-limit", "127.0.0.8", "served again in"),
        ("api.rate-limit", "127.0.0.8", "configured: limit_req zone=users burst=100 nodelay"),
        ("lb.deployed", "gpu-01", "8 members"),
        ("lb.tls", "127.0.0.8", "travel in the clear"),
        ("lb.algorithm", "127.0.0.8", "least_conn; requests taken: 127.0.0.11"),
        ("lb.static-cache", "127.0.0.8", "a pure API; two requests, two ids"),
        ("model.present", CLUSTER, "on 6/8 nodes"),
        ("vllm.parallel-batch-config", CLUSTER, "max_num_seqs 256"),
    ],
)
def test_the_reason_is_told(eight: Seen, check: str, target: str, words: str) -> None:
    assert words in eight.said[check, target]


def test_the_keys_are_the_operators_alone_and_in_no_finding(eight: Seen) -> None:
    assert eight.keys == {"api.key": 0o600, "revoked.key": 0o600}
    assert len(eight.secrets) == 2
    assert not any(secret in eight.report for secret in eight.secrets)


def test_one_host_has_a_model_that_is_whole() -> None:
    seen = quickly(1)
    bad = {key: verdict for key, (verdict, _) in seen.verdicts.items() if verdict is not PASS}
    assert bad == {
        ("model.single-gpu-load", "gpu-01"): NA,
        ("vllm.single-gpu-load", "gpu-01"): NA,
        ("model.memory-fit", CLUSTER): WARN,
        ("ray.dashboard", "127.0.0.9"): WARN,
        ("api.docs", "127.0.0.8"): WARN,
        ("lb.deployed", "gpu-01"): WARN,
        ("lb.deployed", "127.0.0.8"): WARN,
        ("lb.tls", "127.0.0.8"): FAIL,
        ("lb.algorithm", "127.0.0.8"): NA,
        ("lb.static-cache", "127.0.0.8"): NA,
    }
    assert {check for check, _ in seen.verdicts} == set(CHECKS)
    assert "14/14 hashes match" in seen.said["model.integrity", CLUSTER]
