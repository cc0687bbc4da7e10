"""The commands without the app: run, checks, export, runs, verify, init, inventory check."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dstui.catalogue import Check, load_catalogue
from dstui.engine import Engine
from dstui.model import Finding, InventoryError, Lang, Reason, Text, UsageError, Verdict
from dstui.opening import open_engine, site_of, validate_thresholds
from dstui.options import Options
from dstui.plan import select
from dstui.report import render, write_atomically
from dstui.report.escape import visible
from dstui.report.json_report import report
from dstui.report.words import MARKS, REASONS, SIMULATED, STANDINGS, VERDICTS
from dstui.run_printer import printer
from dstui.standing import CheckStatus, gate


@dataclass(frozen=True, slots=True)
class Scope:
    """What a headless run is over."""

    sections: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    profile: str = "full"
    allow_unknown: frozenset[str] = frozenset()
    allow_load: frozenset[str] = frozenset()
    """Checks whose heavier part may run (CATALOGUE 0.3); `all` stands for every one that asks first."""


def run(options: Options, scope: Scope, lang: Lang, output: str) -> int:
    """Runs a plan; the exit code is the gate over the scope."""
    if not options.inventory.exists():
        raise UsageError(f"{options.inventory}: no such file. Write one with `dstui init`, or name one with -i.")
    catalogue = load_catalogue(options.overlays)
    select(catalogue, sections=scope.sections, checks=scope.checks, profile=scope.profile)
    for check_id in scope.allow_unknown:
        select(catalogue, checks=(check_id,))
    return run_engine(lambda: open_engine(options, catalogue), scope, lang, output)


def run_engine(factory: Callable[[], Awaitable[Engine]], scope: Scope, lang: Lang, output: str) -> int:
    """Opens an engine, runs the scope, prints, and returns the gate's exit code."""
    return asyncio.run(_run(factory, scope, lang, output))


async def _run(factory: Callable[[], Awaitable[Engine]], scope: Scope, lang: Lang, output: str) -> int:
    engine = await factory()
    try:
        ids = select(engine.catalogue, sections=scope.sections, checks=scope.checks, profile=scope.profile)
        confirmed = _confirmed(engine, ids, scope.allow_load)
        asking = [i for i in ids if i in engine.built and engine.asks_first(i) and i not in confirmed]
        if asking:
            # Left out rather than run in vain: what an earlier, confirmed run found of them stays.
            sys.stderr.write(_asking(asking, lang) + "\n")
        runnable = [i for i in ids if i in engine.built and i not in asking]
        show = printer(engine, ids, lang, quiet=output == "json")
        with show:
            stop = engine.subscribe(show.update)
            try:
                if runnable:
                    await engine.run(runnable, resume=True, confirmed=confirmed)
            finally:
                stop()
        checklist = engine.checklist()
        statuses = [checklist.statuses[check_id] for check_id in ids]
        verdict = gate(statuses, allow_unknown=scope.allow_unknown, sound=checklist.sound)
        if output == "json":
            document = report(engine.snapshot(lang), ids, scope.allow_unknown)
            sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        else:
            _summary(engine, statuses, verdict.exit_code, lang)
        return verdict.exit_code
    finally:
        await engine.aclose()


def _confirmed(engine: Engine, ids: Sequence[str], allowed: frozenset[str]) -> frozenset[str]:
    """The checks that a person said yes to on the command line. Raises UsageError for one that asks nothing."""
    named = allowed - {"all"}
    for check_id in sorted(named):
        if not engine.asks_first(check_id) and not engine.goes_deeper(check_id):
            raise UsageError(f"--allow-load {check_id}: it makes no load here, so there is nothing to allow")
    return named | {i for i in ids if "all" in allowed and engine.asks_first(i)}


def _asking(ids: Sequence[str], lang: Lang) -> str:
    named = ", ".join(ids)
    return Text(
        f"dstui: left out, as they load a production service: {named}. Add --allow-load all, or one by name.",
        f"dstui：以下检查会给生产服务带来负载，未运行：{named}。可加 --allow-load all，或逐项指定。",
    )[lang]


def _summary(engine: Engine, statuses: Sequence[CheckStatus], code: int, lang: Lang) -> None:
    zh = lang is Lang.ZH
    lines = [""]
    lost = [h for h in engine.progress.hosts.items() if h[1].phase == "unreachable"]
    lines += [f"? {_one_line(progress.note, 400)}" for _, progress in sorted(lost)]
    for status in statuses:
        if status.not_green and status.verdict is not Verdict.NOT_RUN:
            lines += _detail(status, lang)
    counts: dict[str, int] = {}
    for status in statuses:
        word = STANDINGS[status.standing][lang]
        counts[word] = counts.get(word, 0) + 1
    says = {0: ("OPEN", "开放"), 1: ("SHUT: a check failed", "关闭：有检查失败")}
    gate_word = says.get(code, ("SHUT: unknown, stale or not run", "关闭：有未知、过期或未运行"))[zh]
    lines.append(" · ".join(f"{n} {word}" for word, n in counts.items()))
    if (row := engine.state.broken_at) is not None:
        broken = (
            f"the journal's hash chain is broken at row {row}: keep the file as evidence, start anew with --journal",
            f"日志哈希链断裂于第 {row} 行：请保留该文件作为证据，并用 --journal 另起日志",
        )
        lines.append(broken[zh])
    lines.append(f"{'门禁' if zh else 'gate'}: {gate_word} ({'退出码' if zh else 'exit'} {code})")
    lines.append(f"{'日志' if zh else 'journal'}: {engine.journal_path} #{engine.state.head_seq}")
    if engine.simulated:
        lines.append(SIMULATED[lang])
    sys.stdout.write("\n".join(lines) + "\n")


GROUPS_SHOWN = 8
"""Different findings shown under a check; `--output json` and the report have them all."""


def _detail(status: CheckStatus, lang: Lang) -> list[str]:
    reason = f" ({REASONS[status.reason][lang]})" if status.reason else ""
    title = status.check.title[lang]
    lines = [f"{MARKS[status.verdict]} {VERDICTS[status.verdict][lang]}{reason}  {status.check.id}  {title}"]
    alike: dict[tuple[Verdict, str, str], list[str]] = {}
    for finding in status.findings:
        if finding.verdict not in (Verdict.PASS, Verdict.NOT_APPLICABLE):
            key = (finding.verdict, *_said(finding, lang))
            alike.setdefault(key, []).append(finding.target.name)
    for (verdict, observed, rule), names in list(alike.items())[:GROUPS_SHOWN]:
        shown = ", ".join(_one_line(name, 60) for name in names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else "")
        lines.append(f"    {MARKS[verdict]} {shown}: {_one_line(observed, 160)}")
        if rule and rule[:60] not in observed:
            lines.append(f"      {_one_line(rule, 200)}")
    if len(alike) > GROUPS_SHOWN:
        lines.append(f"    … +{len(alike) - GROUPS_SHOWN}")
    return lines


def _said(finding: Finding, lang: Lang) -> tuple[str, str]:
    """Observed and rule; what an unreachable host means is said once, above all checks."""
    if finding.reason is Reason.UNREACHABLE:
        return REASONS[Reason.UNREACHABLE][lang], ""
    return finding.observed[lang], finding.rule[lang]


def _one_line(text: str, limit: int) -> str:
    line = " ".join(visible(text[: limit * 8]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def list_checks(overlays: Sequence[Path], sections: Sequence[str], lang: Lang, output: str) -> int:
    """Prints the catalogue, in document order."""
    from dstui import probes

    catalogue = load_catalogue(tuple(overlays))
    ids = select(catalogue, sections=sections)
    built = probes.judges()
    rows = [catalogue.check(check_id) for check_id in ids]
    if output == "json":
        document = [
            {
                "id": c.id,
                "number": c.number,
                "section": c.section,
                "title": {"en": c.title.en, "zh": c.title.zh},
                "kind": c.kind.value,
                "scope": c.scope.value,
                "side_effect": c.side_effect.value,
                "cadence": c.cadence.value if c.cadence else None,
                "ttl": c.ttl,
                "probe": c.id in built or c.declared is not None,
                "params": [
                    {"name": p.name, "default": p.default, "value": p.value, "origin": p.origin} for p in c.params
                ],
            }
            for c in rows
        ]
        sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
        return 0
    lines = []
    for section in catalogue.sections:
        shown = [c for c in section.checks if c.id in set(ids)]
        if shown:
            lines += ["", f"{section.heading[lang]}  [{section.id}]"]
            lines += [_check_line(c, c.id in built or c.declared is not None, lang) for c in shown]
    sys.stdout.write("\n".join(lines).lstrip("\n") + "\n")
    return 0


def _check_line(check: Check, built: bool, lang: Lang) -> str:
    words = ("probed ", "by hand") if lang is Lang.EN else ("自动探测", "人工签署")
    return f"  {check.id:<28} {check.kind.value:<10} {words[0 if built else 1]}  {check.title[lang]}"


def export(options: Options, format: str, out: Path, lang: Lang) -> int:
    """Writes a report of what the journal holds, and records that."""

    async def write() -> None:
        engine = await open_engine(options)
        try:
            if str(out) == "-":
                sys.stdout.write(render(engine.snapshot(lang), format))
            else:
                event = await engine.export(out, format=format, lang=lang)
                sys.stderr.write(f"{out}: written, recorded as #{event.seq}\n")
        finally:
            await engine.aclose()

    asyncio.run(write())
    return 0


def list_runs(options: Options, lang: Lang, output: str) -> int:
    """Prints the runs in the journal."""

    async def rows() -> list[dict[str, object]]:
        engine = await open_engine(options)
        try:
            return [dict(row) for row in _runs(engine)]
        finally:
            await engine.aclose()

    found = asyncio.run(rows())
    if output == "json":
        sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
        return 0
    if not found:
        sys.stdout.write("尚无运行记录\n" if lang is Lang.ZH else "no run yet; start one with `dstui run`\n")
    for row in found:
        ended = row["finished_at"]
        end = _clock(ended) if isinstance(ended, float) else ("已中断" if lang is Lang.ZH else "interrupted")
        mark = "  SIMULATED" if row["simulated"] else ""
        start = _clock(row["started_at"])
        sys.stdout.write(f"{row['number']:>4}  {start}  {end}  {row['operator']}  {row['checks']} checks{mark}\n")
    return 0


def _runs(engine: Engine) -> Sequence[dict[str, object]]:
    return [
        {
            "number": r.number,
            "started_at": r.started_at,
            "finished_at": r.finished_at,
            "operator": r.actor,
            "checks": len(r.checks),
            "hosts": len(r.hosts),
            "simulated": r.simulated,
        }
        for r in engine.state.runs.values()
    ]


def _clock(at: object) -> str:
    assert isinstance(at, float)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


_HEAD = re.compile(r"#(\d+)[^0-9a-f]{1,8}`?([0-9a-f]{64})`?|\"head_seq\": (\d+),\s*\"head_hash\": \"([0-9a-f]{64})\"")


def verify(options: Options, report_file: Path | None) -> int:
    """Recomputes the hash chain; with a report, finds the row it was made at. 0 intact, 1 broken."""

    async def look() -> tuple[str, int]:
        engine = await open_engine(options)
        try:
            broken = engine.journal.verify()
            if broken is not None:
                return f"{engine.journal_path}: BROKEN: {broken.why}", 1
            said = f"{engine.journal_path}: {engine.state.head_seq} rows, chain intact, head {engine.state.head_hash}"
            if report_file is None:
                return said, 0
            return _verify_report(engine, report_file, said)
        finally:
            await engine.aclose()

    said, code = asyncio.run(look())
    sys.stdout.write(said + "\n")
    return code


def _verify_report(engine: Engine, report_file: Path, said: str) -> tuple[str, int]:
    try:
        text = report_file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{report_file}: cannot be read ({error})") from error
    found = _HEAD.search(text)
    if found is None:
        raise UsageError(f"{report_file}: names no journal row; is it a dstui report?")
    seq, head = int(found[1] or found[3]), found[2] or found[4]
    row = next((e for e in engine.journal.read(after=seq - 1) if e.seq == seq), None)
    if row is None or row.hash != head:
        return f"{said}\n{report_file}: was NOT made from this journal (row {seq} has another hash)", 1
    return f"{said}\n{report_file}: made from this journal at row {seq}", 0


def check_inventory(inventory_file: Path, overlays: Sequence[Path]) -> int:
    """Reports every fault of the inventory and the overlays; 0 when there is none."""
    from dstui.inventory import load_inventory

    catalogue = load_catalogue(tuple(overlays))
    inventory = load_inventory(inventory_file)
    validate_thresholds(catalogue, inventory)
    faults = inventory.unresolvable_secrets()
    if faults:
        raise InventoryError("\n".join(faults))
    site = site_of(catalogue, inventory, {})
    gpus = sum(h.gpus_per_host or 0 for h in site.hosts if h.gpu)
    sys.stdout.write(f"{inventory_file}: fine. {site.name}, {len(site.hosts)} hosts, {gpus} GPUs declared\n")
    return 0


def write_starter(arguments: argparse.Namespace) -> int:
    """`dstui init`: a commented inventory from what the operator has."""
    from dstui.inventory.discover import fetch_ray_nodes, starter_from_hosts, starter_from_ray, starter_from_ssh_config

    if arguments.from_ray:
        nodes = asyncio.run(fetch_ray_nodes(arguments.from_ray, arguments.ray_token))
        text = starter_from_ray(nodes, arguments.from_ray, token_ref=arguments.ray_token)
    elif arguments.host or arguments.from_hosts:
        text = starter_from_hosts([*arguments.host, *_host_lines(arguments.from_hosts)])
    else:
        text = starter_from_ssh_config((arguments.from_ssh_config or Path("~/.ssh/config")).expanduser())
    if str(arguments.out) == "-":
        sys.stdout.write(text)
        return 0
    if arguments.out.exists() and not arguments.force:
        raise UsageError(f"{arguments.out}: exists already; name another with -o, or overwrite it with --force")
    write_atomically(arguments.out, text)
    sys.stderr.write(f"{arguments.out}: written. Read it, then `dstui inventory check` and `dstui`.\n")
    return 0


def _host_lines(source: Path | None) -> list[str]:
    if source is None:
        return []
    try:
        return sys.stdin.read().splitlines() if str(source) == "-" else source.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{source}: cannot be read ({error})") from error


def print_sudoers(user: str, controller: str | None) -> int:
    """The file for /etc/sudoers.d on the hosts. Raises UsageError for a name or address that cannot be one."""
    from dstui.facts.sudoers import CONTROLLER, sudoers_file

    if not re.fullmatch(r"[a-z_][a-z0-9_.-]{0,31}", user):
        raise UsageError(f"{user!r} is not a login name")
    try:
        sys.stdout.write(sudoers_file(user, controller or CONTROLLER))
    except ValueError as error:
        raise UsageError(f"--controller {controller}: {error}") from error
    return 0
