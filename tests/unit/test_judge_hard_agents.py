"""hard.monitoring-logging on what exporters and the host answered."""

from pathlib import Path

import pytest

from dstui.facts import agents, listeners
from dstui.facts.agents import METRICS_BYTES, url
from dstui.facts.case import HostCase, HostFacts, HostSite, Params, Session, Site
from dstui.facts.raw import Answer, Missing, Raw
from dstui.judge.hard_agents import judge_monitoring
from dstui.model import Reason, Threshold, Verdict

DATA = Path(__file__).parent.parent / "data" / "hosts" / "security"
NODE = (DATA / "node_exporter.txt").read_text().replace("node_timex_sync_status 0", "node_timex_sync_status 1")
DCGM = (DATA / "dcgm.txt").read_text()
FAIL, WARN, PASS, UNKNOWN = Verdict.FAIL, Verdict.WARN, Verdict.PASS, Verdict.UNKNOWN
NO_PYTHON = {"missing": Missing(Reason.TOOL_MISSING, "needs python3 on the host")}


def row(**values):
    return {"status": None, "kind": None, "error": None, "body": "", **values}


OK_NODE = row(status=200, body=NODE)
OK_DCGM = row(status=200, body=DCGM)
GONE = row(kind="connect", error="connection refused")


def metrics(node=OK_NODE, dcgm=OK_DCGM, nvidia=GONE):
    return {"metrics": {"value": {url(9100): node, url(9400): dcgm, url(9835): nvidia}}}


def processes(*names):
    table = {f"/proc/{number}/comm": f"{name}\n" for number, name in enumerate(("systemd", *names), 1)}
    return {"processes": {"value": table}}


def unit(name, state="active", restarts=0, since=1_000_000):
    return (
        f"Id={name}.service\nActiveState={state}\nSubState=x\nNRestarts={restarts}\n"
        f"ActiveEnterTimestampMonotonic={since}\n"
    )


DIRECTORY = [0o40755, 0, 0, 0, 0.0]
ALL = ("node_exporter", "dcgm-exporter", "promtail")
HEALTHY = {
    **metrics(),
    **processes(*ALL),
    "units": {"output": "\n".join(unit(name) for name in ALL), "exit": 0},
    "uptime": {"output": "200000.0 1.0\n"},
    "rsyslog": {"value": {}},
    "journal": {"value": {"/var/log": DIRECTORY, "/var/log/journal": DIRECTORY}},
    "journald": {"value": {}},
    "sizes": {"output": "4000000\t/var/log\n", "exit": 0},
    "logrotate": {"value": {"/etc/logrotate.d/rsyslog": "/var/log/syslog\n{\n}\n"}},
    "gpus": {"value": {"/proc/driver/nvidia/version": DIRECTORY, "/proc/driver/nvidia/gpus/0000:18:00.0": DIRECTORY}},
}
NO_UNITS = {"exit": 1, "error": "System has not been booted with systemd as init system\n"}
HIDDEN = {"processes": {"value": {"/proc/99/comm": "bash\n"}}}
SS = "LISTEN 0 128 0.0.0.0:22 0.0.0.0:*\n"


def judge(answers=None, *, gpu=True, gpus=2, ss=SS, **changed):
    values = {
        "agents_metrics": ("node_exporter:9100",),
        "agents_gpu": ("dcgm-exporter:9400", "nvidia_gpu_exporter:9835"),
        "agents_logs": ("promtail", "alloy", "fluent-bit", "filebeat", "vector", "rsyslog-remote", "otelcol"),
        "journald_persistent": True,
        "log_dirs": ("/var/log", "/tmp/ray/session_latest/logs"),
        **changed,
    }
    host = HostSite("a", frozenset({"worker"}), "198.51.100.1", None, "192.0.2.1", 22, "dstui", gpu, gpus)
    site = Site("ds", "lab", "pre", (host,), "/mnt", None, None, "bare-metal", False, "sudo-n")
    given = {**HEALTHY, **(answers or {})}
    found = agents.parse(Raw({f"agents.{k}": Answer(f"agents.{k}", k, **v) for k, v in given.items()}))
    listening = listeners.parse(Raw({"listeners.ss": Answer("listeners.ss", "ss", output=ss, exit=0)} if ss else {}))
    groups = {agents.AgentFacts: found, listeners.ListenerFacts: listening}
    params = Params([Threshold(name, value, "document", value) for name, value in values.items()])
    return judge_monitoring(
        HostCase(host, site, HostFacts(None, Session("d", "publickey"), Raw(), groups), params, 0.0)
    )


def test_healthy():
    ruling = judge()
    assert ruling.verdict is PASS
    assert ruling.observed.en == (
        "node_exporter 200 v1.5.0, dcgm-exporter 2/2 GPU, promtail running, journald persistent"
    )
    assert ruling.material == {
        "agents": {"node_exporter": "200 v1.5.0", "dcgm-exporter": "2/2 GPU", "promtail": "running"},
        "journald": True,
    }


ABSENT = {
    **metrics(node=GONE),
    **processes("dcgm-exporter", "promtail"),
    "units": {"output": unit("promtail"), "exit": 0},
}
EMPTY_DCGM = row(status=200, body="# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization\n# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n")


@pytest.mark.parametrize(
    ("answers", "verdict", "reason"),
    [
        # Node metrics.
        (ABSENT, FAIL, None),
        (metrics(node=row(status=200, body="")), FAIL, None),
        (metrics(node=row(status=200, body="up 1\n")), FAIL, None),
        (metrics(node=row(status=200, body="node_memory_MemTotal_bytes 0\n")), FAIL, None),
        (metrics(node=row(status=200, body="x 1\n" * (METRICS_BYTES // 4))), UNKNOWN, Reason.CANNOT_TELL),
        (metrics(node=row(status=404)), FAIL, None),
        (metrics(node=row(status=503)), FAIL, None),
        (metrics(node=row(status=401)), UNKNOWN, Reason.NO_CREDENTIAL),
        (
            metrics(node=row(status=400, body="Client sent an HTTP request to an HTTPS server.")),
            UNKNOWN,
            Reason.CANNOT_TELL,
        ),
        (metrics(node=row(kind="timeout", error="timed out")), UNKNOWN, Reason.TIMEOUT),
        # It runs, but not where it was asked for.
        (metrics(node=GONE), UNKNOWN, Reason.CANNOT_TELL),
        ({**ABSENT, **HIDDEN}, UNKNOWN, Reason.CANNOT_TELL),
        ({**ABSENT, **HIDDEN, "units": NO_UNITS}, UNKNOWN, Reason.CANNOT_TELL),
        # GPU metrics: an exporter without series is none.
        (metrics(dcgm=EMPTY_DCGM), FAIL, None),
        (metrics(dcgm=row(status=200, body=NODE)), FAIL, None),
        (metrics(dcgm=row(status=200, body=DCGM.replace("000000000001", "000000000000"))), FAIL, None),
        (metrics(dcgm=EMPTY_DCGM, nvidia=row(status=200, body=DCGM)), PASS, None),
        (metrics(dcgm=GONE), UNKNOWN, Reason.CANNOT_TELL),
        ({**metrics(dcgm=GONE), **processes("node_exporter", "promtail"), "units": NO_UNITS}, FAIL, None),
        # Log agents.
        (
            {**processes("node_exporter", "dcgm-exporter"), "units": {"output": unit("promtail", "failed"), "exit": 0}},
            FAIL,
            None,
        ),
        ({**processes(*ALL), "units": NO_UNITS}, PASS, None),
        ({**processes("node_exporter", "dcgm-exporter", "fluent-bit"), "units": NO_UNITS}, PASS, None),
        ({**HIDDEN, "units": NO_UNITS}, UNKNOWN, Reason.PERMISSION),
        ({"processes": {"missing": Missing(Reason.TIMEOUT, "slow")}, "units": NO_UNITS}, UNKNOWN, Reason.TIMEOUT),
        # journald and logs.
        ({"journal": {"value": {"/var/log": DIRECTORY}}}, WARN, None),
        ({"journald": {"value": {"/etc/systemd/journald.conf": "Storage=volatile\n"}}}, WARN, None),
        ({"journal": {"missing": Missing(Reason.TIMEOUT, "x")}}, UNKNOWN, Reason.TIMEOUT),
        ({"sizes": {"output": "9765625\t/tmp/ray/session_latest/logs\n", "exit": 0}}, PASS, None),
        ({"sizes": {"output": "9765626\t/tmp/ray/session_latest/logs\n", "exit": 0}}, WARN, None),
        ({"sizes": {"output": "99999999\t/var/log\n", "exit": 0}}, PASS, None),
        ({"sizes": {"output": "99999999\t/var/log\n", "exit": 0}, "logrotate": {"value": {}}}, WARN, None),
        ({"sizes": {"output": "99999999\t/var/log\n", "exit": 0}, "logrotate": NO_PYTHON}, WARN, None),
        ({"sizes": {"missing": Missing(Reason.TIMEOUT, "du did not end")}}, PASS, None),
        (metrics(node=row(status=200, body=NODE.replace("sync_status 1", "sync_status 0"))), WARN, None),
    ],
)
def test_rules(answers, verdict, reason):
    ruling = judge(answers)
    assert (ruling.verdict, ruling.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("log", "forward", "verdict"),
    [
        ("rsyslogd", "*.* @@logs.example.com:514\n", PASS),
        ("rsyslogd", "*.* /var/log/syslog\n", FAIL),
        ("cron", "*.* @@logs.example.com:514\n", FAIL),
    ],
)
def test_rsyslog_counts_only_when_it_sends(log, forward, verdict):
    answers = {
        **processes("node_exporter", "dcgm-exporter", log),
        "units": NO_UNITS,
        "rsyslog": {"value": {"/etc/rsyslog.d/60.conf": forward}},
    }
    assert judge(answers).verdict is verdict


def test_rsyslog_with_a_file_that_may_not_be_read():
    answers = {
        **processes("node_exporter", "dcgm-exporter", "rsyslogd"),
        "units": NO_UNITS,
        "rsyslog": {"value": {"/etc/rsyslog.conf": ""}, "error": "EACCES: /etc/rsyslog.d/60.conf"},
    }
    assert (judge(answers).verdict, judge(answers).reason) == (UNKNOWN, Reason.PERMISSION)


@pytest.mark.parametrize(
    ("restarts", "since", "verdict"),
    [
        (4, 190_000_000_000, WARN),
        (3, 190_000_000_000, PASS),
        (4, 113_599_000_000, PASS),
        (4, 113_601_000_000, WARN),
        (4, "", PASS),
    ],
)
def test_restarts_within_a_day(restarts, since, verdict):
    shown = "\n".join([unit("node_exporter", "active", restarts, since), unit("dcgm-exporter"), unit("promtail")])
    assert judge({"units": {"output": shown, "exit": 0}}).verdict is verdict


@pytest.mark.parametrize(
    ("gpus", "drivers", "verdict"),
    [
        (2, None, PASS),
        (8, None, FAIL),
        (None, 2, PASS),
        (None, 3, FAIL),
        (None, None, UNKNOWN),
        (1, None, PASS),
    ],
)
def test_one_series_for_each_gpu(gpus, drivers, verdict):
    names = {f"/proc/driver/nvidia/gpus/{n}": DIRECTORY for n in range(drivers or 0)}
    found = {"value": {**names, "/proc/driver/nvidia/version": DIRECTORY} if drivers else {}}
    assert judge({"gpus": found}, gpus=gpus).verdict is verdict


def test_a_host_without_gpu_needs_no_gpu_agent():
    assert judge(metrics(dcgm=GONE), gpu=False, gpus=None).verdict is PASS


NODE_LISTENS = SS + "LISTEN 0 128 *:9100 *:*\n"


@pytest.mark.parametrize(
    ("answers", "ss", "verdict"),
    [
        # Without python3 there the metrics themselves were not seen: running is not working.
        ({}, NODE_LISTENS, UNKNOWN),
        ({}, SS, UNKNOWN),
        ({**processes("promtail"), "units": NO_UNITS}, NODE_LISTENS, UNKNOWN),
        ({**processes("promtail"), "units": NO_UNITS}, SS, FAIL),
        ({**processes("promtail"), "units": NO_UNITS}, None, UNKNOWN),
        ({**HIDDEN, "units": NO_UNITS}, SS, UNKNOWN),
    ],
)
def test_a_host_without_python(answers, ss, verdict):
    ruling = judge({"metrics": NO_PYTHON, **answers}, ss=ss, gpu=False, gpus=None)
    assert ruling.verdict is verdict
    assert verdict is FAIL or ruling.reason in (Reason.TOOL_MISSING, Reason.PERMISSION)


def test_an_exporter_on_a_port_that_was_not_asked():
    ruling = judge(agents_metrics=("node_exporter:19100",))
    assert (ruling.verdict, ruling.reason) == (UNKNOWN, Reason.NOT_RUN)


@pytest.mark.parametrize("empty", ["agents_metrics", "agents_gpu", "agents_logs"])
def test_an_empty_list_is_no_evidence(empty):
    ruling = judge(**{empty: ()})
    assert (ruling.verdict, ruling.reason) == (UNKNOWN, Reason.NO_TARGETS)


def test_a_volatile_journal_where_that_is_accepted():
    answers = {"journal": {"value": {"/var/log": DIRECTORY}}}
    assert judge(answers, journald_persistent=False).verdict is PASS


def test_nothing_answered_is_unknown():
    nothing = {key: {"missing": Missing(Reason.TIMEOUT, "no answer")} for key in HEALTHY}
    assert judge(nothing, ss=None).verdict is UNKNOWN


def test_a_host_that_was_not_asked():
    host = HostSite("a", frozenset(), "198.51.100.1", None, "192.0.2.1", 22, "dstui", False, None)
    site = Site("ds", "lab", "pre", (host,), "/mnt", None, None, "bare-metal", False, "sudo-n")
    gone = HostFacts(Missing(Reason.UNREACHABLE, "no route"), None, Raw(), {})
    ruling = judge_monitoring(HostCase(host, site, gone, Params([]), 0.0))
    assert (ruling.verdict, ruling.reason) == (UNKNOWN, Reason.UNREACHABLE)


def test_what_fails_is_named():
    ruling = judge(metrics(dcgm=EMPTY_DCGM))
    assert "dcgm-exporter:9400 answers 200 with no GPU series at all" in ruling.rule.en
    assert ruling.observed.en.startswith("node_exporter 200 v1.5.0, ")
