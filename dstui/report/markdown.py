"""The Markdown report: the source document's headings, order and wording, with what was found under every item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dstui.catalogue import Check
from dstui.catalogue.document import load_document
from dstui.model import Evidence, Finding, Reason, TargetKind, Text, Verdict, Waiver
from dstui.report.escape import block, code, inline, table
from dstui.report.snapshot import Snapshot
from dstui.report.words import LAPSES, MARKS, REASONS, SIMULATED, STANDINGS, VERDICTS
from dstui.standing import CheckStatus, Standing
from dstui.state import Run

TICKED = frozenset({Standing.PASSED, Standing.SIGNED, Standing.NOT_APPLICABLE})
"""`[x]` only for what passed, was vouched for or does not apply; a warning is ticked once somebody signs it."""

TARGETS_SHOWN = 32
"""Findings listed under one item; the appendices have all of them."""


def render(snapshot: Snapshot) -> str:
    """The whole report, ending in a newline."""
    lines = [*_head(snapshot), *_body(snapshot), *_appendices(snapshot)]
    return "\n".join(lines) + "\n"


def _head(s: Snapshot) -> Iterator[str]:
    say, text = s.lang, load_document()
    yield f"# {text.title[say]}"
    yield ""
    if s.simulated:
        yield f"> **{SIMULATED[say]}**"
        yield ""
    yield text.intro[say]
    yield ""
    gate = s.checklist.gate
    verdict = Text("OPEN", "开放")[say] if gate.open else Text("SHUT", "关闭")[say]
    counts = ", ".join(f"{n} {STANDINGS[st][say]}" for st, n in sorted(gate.standings.items(), key=lambda p: -p[1]))
    run = s.runs[-1] if s.runs else None
    rows = [
        [Text("Cluster", "集群")[say], f"{inline(s.cluster)} ({inline(s.environment)})"],
        [Text("Made", "生成时间")[say], f"{s.when(s.at)} · {inline(s.operator)}"],
        [Text("Gate", "门禁")[say], f"**{verdict}** · {counts}"],
        [Text("Last run", "最近运行")[say], _run_line(s, run) if run else Text("none yet", "尚无")[say]],
        [Text("Journal", "日志")[say], _journal_line(s)],
    ]
    yield from table([Text("Report", "报告")[say], ""], rows)
    yield ""


def _run_line(s: Snapshot, run: Run) -> str:
    end = s.when(run.finished_at) if run.finished_at is not None else Text("interrupted", "已中断")[s.lang]
    return f"{run.number} · {s.when(run.started_at)} – {end} · {inline(run.actor)}"


def _journal_line(s: Snapshot) -> str:
    line = f"{code(s.journal)} · #{s.head_seq} · `{s.head_hash or '–'}`"
    if s.broken_at is not None:
        broken = Text("the hash chain is BROKEN at row", "哈希链断裂于第")[s.lang]
        line += f" · **{broken} {s.broken_at}**"
    return line


def _body(s: Snapshot) -> Iterator[str]:
    for part in s.catalogue.parts:
        yield f"## {part.heading[s.lang]}"
        yield ""
        for section in part.sections:
            if not part.is_section:
                yield f"### {section.heading[s.lang]}"
                yield ""
            for check in section.checks:
                yield from _item(s, s.checklist.statuses[check.id])
            yield ""
    text = load_document()
    yield f"## {text.conclusion_heading[s.lang]}"
    yield ""
    yield text.conclusion[s.lang]
    yield ""


def _item(s: Snapshot, status: CheckStatus) -> Iterator[str]:
    say, check = s.lang, status.check
    tick = "x" if status.standing in TICKED else " "
    yield f"- [{tick}] {check.title[say] if check.number else inline(check.title[say])}"
    yield f"  - {_verdict_line(s, status)}"
    shown = [f for f in status.findings if f.verdict is not Verdict.NOT_APPLICABLE] or list(status.findings)
    for finding in shown[:TARGETS_SHOWN]:
        yield f"  - {_finding_line(s, finding)}"
        if finding.verdict is not Verdict.PASS:
            for note in finding.notes[:6]:
                yield f"    - {inline(note[say])}"
    if len(shown) > TARGETS_SHOWN:
        more = len(shown) - TARGETS_SHOWN
        yield f"  - {Text(f'{more} more in the appendix', f'其余 {more} 项见附录')[say]}"
    yield from _people(s, status)
    if (snippet := s.catalogue.guidance(check.id).snippet) is not None:
        yield ""
        yield from block(snippet.code, snippet.language, "  ")
        yield ""


def _verdict_line(s: Snapshot, status: CheckStatus) -> str:
    say = s.lang
    words = f"{MARKS[status.verdict]} **{VERDICTS[status.verdict][say]}**"
    if status.reason is not None:
        words += f" ({REASONS[status.reason][say]})"
    if status.reason is Reason.DISABLED:
        words += f" {inline(status.detail)}"
    if status.stale:
        words += f" · **{STANDINGS[Standing.STALE][say]}**"
    if status.standing in (Standing.SIGNED, Standing.UNSIGNED, Standing.WAIVED):
        words += f" · {STANDINGS[status.standing][say]}"
    pieces = [f"`{status.check.id}`", words]
    if status.observed_at is not None:
        pieces.append(f"{Text('observed', '观测于')[say]} {s.when(status.observed_at)}")
        pieces.append(f"{Text('run', '运行')[say]} {max(f.run for f in status.findings)}")
    return " · ".join(pieces)


def _target(s: Snapshot, finding: Finding) -> str:
    name = finding.target.name.replace(">", " → ") if finding.target.kind is TargetKind.PAIR else finding.target.name
    return inline(name)


def _finding_line(s: Snapshot, finding: Finding) -> str:
    say = s.lang
    line = f"{inline(MARKS[finding.verdict])} {_target(s, finding)}: {inline(finding.observed[say])}"
    if finding.verdict not in (Verdict.PASS, Verdict.NOT_APPLICABLE):
        expected = inline(finding.expected[say])
        line += f" · {Text('expected', '期望')[say]} {expected}" if expected else ""
        rule = inline(finding.rule[say])
        line += f" · {rule}" if rule else ""
    return line


def _people(s: Snapshot, status: CheckStatus) -> Iterator[str]:
    say = s.lang
    for given in status.signatures:
        role = f" ({inline(given.role)})" if given.role else ""
        yield (
            f"  - {Text('signed by', '签署人')[say]} {inline(given.person)}{role}, {s.when(given.at)}, "
            f"{Text('valid until', '有效期至')[say]} {s.day(given.expires_at)} · #{given.seq} · "
            f"{Text('evidence', '证据')[say]} `{given.material_hash[:12]}`"
        )
        for extra in (given.note, given.link):
            if extra:
                yield f"    - {inline(extra)}"
    if status.wants_second:
        yield f"  - {Text('a second person must sign', '还需第二人签署')[say]}"
    if status.lapsed is not None:
        why = LAPSES[status.lapsed_why][say]
        yield f"  - {inline(status.lapsed.person)}, {s.when(status.lapsed.at)}: {why} (#{status.lapsed.seq})"
    if status.waiver is not None:
        yield f"  - {_waiver_line(s, status.waiver)}"
    for note in status.notes:
        about = f" ({inline(note.target.name)})" if note.target else ""
        yield f"  - {Text('note', '备注')[say]} {inline(note.person)}, {s.when(note.at)}{about}: {inline(note.text)}"


def _waiver_line(s: Snapshot, waiver: Waiver) -> str:
    say = s.lang
    ticket = f" · {inline(waiver.ticket)}" if waiver.ticket else ""
    return (
        f"{Text('waived until', '豁免至')[say]} **{s.day(waiver.expires_at)}**, "
        f"{Text('approved by', '批准人')[say]} {inline(waiver.approver)}, "
        f"{Text('entered by', '登记人')[say]} {inline(waiver.person)} {s.when(waiver.at)}: "
        f"{inline(waiver.reason)}{ticket} (#{waiver.seq})"
    )


def _appendices(s: Snapshot) -> Iterator[str]:
    say = s.lang
    text = load_document()
    yield f"## {text.appendix_heading[say]}"
    yield ""
    yield from block(text.script[say], text.language)
    yield ""
    yield text.closing[say]
    yield ""
    sections = (
        (Text("Appendix A: what is not green", "附录 A：未通过项"), _not_green),
        (Text("Appendix B: hosts", "附录 B：主机"), _hosts),
        (Text("Appendix C: thresholds that differ from the document", "附录 C：与文档不同的阈值"), _thresholds),
        (Text("Appendix D: evidence", "附录 D：证据"), _evidence),
        (Text("Appendix E: runs, versions and the journal", "附录 E：运行、版本与日志"), _provenance),
    )
    for heading, content in sections:
        yield f"## {heading[say]}"
        yield ""
        yield from content(s)
        yield ""


def _not_green(s: Snapshot) -> Iterator[str]:
    say = s.lang
    shut = sorted((c for c in s.checklist.statuses.values() if c.not_green), key=_weight)
    if not shut:
        yield Text("Nothing: every item is green.", "无：全部通过。")[say]
        return
    rows = []
    for status in shut:
        worst = next((f for f in status.findings if f.verdict is status.verdict), None)
        what = f"{_target(s, worst)}: {inline(worst.observed[say], 120)}" if worst else "–"
        remedy = inline(s.catalogue.guidance(status.check.id).remedy[say]) if status.check.number else "–"
        rows.append([f"`{status.check.id}`", inline(status.check.title[say]), _standing_cell(s, status), what, remedy])
    head = (
        Text("check", "检查"),
        Text("item", "项目"),
        Text("standing", "状态"),
        Text("first", "首个对象"),
        Text("remedy", "处理"),
    )
    yield from table([h[say] for h in head], rows)


_WEIGHTS = (
    Standing.FAILED, Standing.UNKNOWN, Standing.STALE, Standing.WAIVED, Standing.WARNED, Standing.UNSIGNED,
    Standing.NOT_RUN,
)  # fmt: skip


def _weight(status: CheckStatus) -> int:
    return _WEIGHTS.index(status.standing) if status.standing in _WEIGHTS else len(_WEIGHTS)


def _standing_cell(s: Snapshot, status: CheckStatus) -> str:
    words = f"{MARKS[status.verdict]} {STANDINGS[status.standing][s.lang]}"
    if status.standing is Standing.WAIVED:
        words += f" ({VERDICTS[status.verdict][s.lang]})"
    if status.reason is not None:
        words += f" ({REASONS[status.reason][s.lang]})"
    return words


def _hosts(s: Snapshot) -> Iterator[str]:
    say = s.lang
    per_host: dict[str, list[tuple[Check, Finding]]] = {}
    for status in s.checklist.statuses.values():
        for finding in status.findings:
            if finding.target.kind is TargetKind.HOST:
                per_host.setdefault(finding.target.name, []).append((status.check, finding))
    if not per_host:
        yield Text("No host was looked at.", "尚未检查任何主机。")[say]
        return
    verdicts = list(MARKS)
    rows = []
    for host, found in sorted(per_host.items()):
        counts = [sum(f.verdict is v for _, f in found) for v in verdicts]
        bad = [f"`{c.id}`" for c, f in found if f.verdict in (Verdict.FAIL, Verdict.UNKNOWN)]
        rows.append([inline(host), *(str(n) if n else "" for n in counts), " ".join(bad)])
    head = [Text("host", "主机")[say], *(f"{MARKS[v]} {VERDICTS[v][say]}" for v in verdicts)]
    yield from table([*head, Text("failed or unknown", "失败或未知")[say]], rows)


def _thresholds(s: Snapshot) -> Iterator[str]:
    say = s.lang
    rows: dict[tuple[str, str, str, str], tuple[str, list[str]]] = {}
    for status in s.checklist.statuses.values():
        for finding in status.findings:
            for threshold in finding.thresholds:
                if threshold.differs:
                    key = (status.check.id, threshold.param, repr(threshold.value), threshold.origin)
                    rows.setdefault(key, (repr(threshold.default), []))[1].append(finding.target.name)
    if not rows:
        yield Text("None: everything was judged by the document's values.", "无：全部按文档阈值判定。")[say]
        return
    head = (
        Text("parameter", "参数"),
        Text("document", "文档"),
        Text("used", "实际"),
        Text("from", "来源"),
        Text("targets", "对象"),
    )
    yield from table(
        [h[say] for h in head],
        [
            [f"`{check}.{param}`", code(default, 80), code(value, 80), inline(origin), _names(targets)]
            for (check, param, value, origin), (default, targets) in sorted(rows.items())
        ],
    )


def _names(targets: Sequence[str]) -> str:
    shown = ", ".join(inline(t) for t in targets[:6])
    return shown + (f" … (+{len(targets) - 6})" if len(targets) > 6 else "")


def _evidence(s: Snapshot) -> Iterator[str]:
    """Evidence of everything that is not green in full; of the rest what was run and how it ended."""
    say = s.lang
    said: set[tuple[str, str, str]] = set()
    for status in s.checklist.statuses.values():
        if not any(f.evidence for f in status.findings):
            continue
        yield f"### {status.check.id}"
        yield ""
        for finding in status.findings:
            for piece in finding.evidence:
                key = (finding.target.name, piece.source, piece.output)
                repeated = key in said
                said.add(key)
                yield f"- {_target(s, finding)} · {code(piece.source, 160)} · {_ending(s, piece)}"
                full = finding.verdict not in (Verdict.PASS, Verdict.NOT_APPLICABLE)
                if full and not repeated and piece.output.strip():
                    yield ""
                    yield from block(piece.output, "text", "  ")
                    yield ""
        yield ""
    if not said:
        yield Text("None yet.", "尚无。")[say]


def _ending(s: Snapshot, piece: Evidence) -> str:
    ending = f"{piece.seconds:.2f} s · {piece.output_bytes} B"
    if piece.exit is not None:
        ending = f"{Text('exit', '退出码')[s.lang]} {piece.exit} · {ending}"
    if piece.truncated:
        ending += f" · {Text('cut at 4 KiB', '截断于 4 KiB')[s.lang]}"
    if piece.error:
        ending += f" · {inline(piece.error, 160)}"
    return ending


def _provenance(s: Snapshot) -> Iterator[str]:
    say = s.lang
    for name, version in s.versions.items():
        yield f"- {inline(name)}: {code(version)}"
    yield f"- {Text('Journal', '日志')[say]}: {_journal_line(s)}"
    yield (
        f"- {Text('Check it with', '验证方法')[say]}: `dstui verify` "
        f"({Text('the hash above must be that of the row named', '上述哈希须与该行一致')[say]})"
    )
    yield ""
    rows = []
    for run in s.runs:
        end = s.when(run.finished_at) if run.finished_at is not None else Text("interrupted", "已中断")[say]
        mark = "SIMULATED" if run.simulated else ""
        rows.append([str(run.number), s.when(run.started_at), end, inline(run.actor), str(len(run.checks)), mark])
    if rows:
        head = (
            Text("run", "运行"),
            Text("started", "开始"),
            Text("ended", "结束"),
            Text("by", "操作人"),
            Text("checks", "检查数"),
            Text("", ""),
        )
        yield from table([h[say] for h in head], rows)
