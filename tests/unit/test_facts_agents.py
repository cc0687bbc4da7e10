from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import agents
from dstui.facts.agents import METRICS_BYTES, Journald, LogSizes
from dstui.facts.case import HostSite, Site
from dstui.facts.exposition import parse_exposition
from dstui.facts.raw import Answer, Missing, Raw
from dstui.facts.units import parse_units
from dstui.model import Reason

DATA = Path(__file__).parent.parent / "data" / "hosts" / "security"
NODE = (DATA / "node_exporter.txt").read_text()
DCGM = (DATA / "dcgm.txt").read_text()


def test_node_exporter():
    found = parse_exposition(NODE)
    assert found.values["node_memory_MemTotal_bytes"] > 1e9
    assert found.version == "1.5.0"
    assert found.series["node_cpu_seconds_total"] > 8
    assert found.gpus == frozenset()


def test_gpus_are_counted_once_however_many_families():
    assert len(parse_exposition(DCGM).gpus) == 2


def test_mig_instances_are_of_one_gpu():
    text = "".join(f'DCGM_FI_DEV_GPU_UTIL{{gpu="0",UUID="GPU-1",GPU_I_ID="{i}"}} 0\n' for i in range(7))
    assert parse_exposition(text).gpus == {"GPU-1"}


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ('nvidia_smi_utilization_gpu_ratio{uuid="a"} 0.1\nnvidia_smi_gpu_info{uuid="b",name="H100"} 1\n', {"a", "b"}),
        ('DCGM_FI_DEV_GPU_UTIL{gpu="3"} 1\n', {"3"}),
        ("# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n", set()),
        ("DCGM_FI_DEV_GPU_UTIL 1\n", set()),
        ('DCGM_FI_DEV_GPU_UTIL{UUID="x"} up\n', set()),
    ],
)
def test_gpu_series(text, gpus):
    assert parse_exposition(text).gpus == gpus


def test_the_last_line_of_a_cut_text_is_not_trusted():
    text = "node_memory_MemTotal_bytes 26"
    assert "node_memory_MemTotal_bytes" not in parse_exposition(text, cut=True).values
    assert parse_exposition(text).values["node_memory_MemTotal_bytes"] == 26


def parse(**answers):
    return agents.parse(Raw({f"agents.{k}": Answer(f"agents.{k}", k, **v) for k, v in answers.items()}))


def answer(port, **row):
    return {agents.url(port): {"status": None, "kind": None, "error": None, "body": "", **row}}


def test_metrics_by_port():
    value = {**answer(9100, status=200, body=NODE), **answer(9400, kind="connect", error="refused"), "http://x/": 3}
    found = parse(metrics={"value": value}).metrics
    assert (found[9100].status, found[9100].cut) == (200, False)
    assert (found[9400].status, found[9400].kind, found[9400].error) == (None, "connect", "refused")
    assert set(found) == {9100, 9400}


def test_a_body_as_long_as_the_limit_was_cut():
    value = answer(9100, status=200, body="x" * METRICS_BYTES)
    assert parse(metrics={"value": value}).metrics[9100].cut


UNITS = """Id=node_exporter.service
ActiveState=active
SubState=running
NRestarts=4
ActiveEnterTimestampMonotonic=900000000

Id=promtail.service
ActiveState=activating
SubState=auto-restart
NRestarts=17
ActiveEnterTimestampMonotonic=0

Id=vector.service
ActiveState=inactive
SubState=dead
"""


def test_units():
    found = parse(units={"output": UNITS, "exit": 0}, uptime={"output": "1000.5 3000.0\n"}).units
    assert (found["node_exporter"].active, found["node_exporter"].restarts) == (True, 4)
    assert found["node_exporter"].active_for == pytest.approx(100.5)
    assert (found["promtail"].active, found["promtail"].state) == (False, "activating (auto-restart)")
    assert found["vector"].restarts is None


def test_a_host_without_systemd():
    said = "System has not been booted with systemd as init system (PID 1). Can't operate.\n"
    assert parse(units={"exit": 1, "error": said}).units.reason is Reason.CANNOT_TELL
    assert parse_units("") is None


PROCESSES = {"/proc/1/comm": "systemd\n", "/proc/77/comm": "node_exporter\n", "/proc/78/comm": "nvidia_gpu_expo\n"}


@pytest.mark.parametrize(
    ("processes", "units", "name", "runs"),
    [
        (PROCESSES, UNITS, "node_exporter", True),
        (PROCESSES, None, "nvidia_gpu_exporter", True),
        (PROCESSES, UNITS, "promtail", False),
        (PROCESSES, UNITS, "vector", False),
        ({"/proc/9/comm": "bash\n"}, UNITS, "node_exporter", True),
        ({"/proc/9/comm": "bash\n"}, UNITS, "vector", None),
        ({"/proc/9/comm": "bash\n"}, None, "node_exporter", None),
        (PROCESSES, None, "some-agent-of-ours", False),
    ],
)
def test_whether_an_agent_runs(processes, units, name, runs):
    given_units = {"units": {"output": units, "exit": 0}} if units else {}
    assert parse(processes={"value": processes}, **given_units).running(name) is runs


@pytest.mark.parametrize(
    ("config", "targets"),
    [
        ("*.* @@logs.example.com:514\n", ("logs.example.com:514",)),
        ("auth,authpriv.*  @192.0.2.22\n", ("192.0.2.22",)),
        ("#*.* @@logs.example.com\n", ()),
        ("*.*;auth,authpriv.none -/var/log/syslog\n", ()),
        ('*.* action(type="omfwd"\n  target="10.0.0.9" port="514" protocol="tcp")\n', ("10.0.0.9",)),
        ('action(type="omelasticsearch" server=["es1"])\n', ("es1",)),
        ('action(type="omfile" file="/var/log/all")\n', ()),
        ('module(load="imuxsock")\n', ()),
    ],
)
def test_where_rsyslog_sends(config, targets):
    assert agents.parse_forwards(config) == targets


def test_an_rsyslog_file_that_may_not_be_read_leaves_it_open():
    row = {"value": {"/etc/rsyslog.conf": "*.* /var/log/x\n"}, "error": "EACCES: /etc/rsyslog.d/60-remote.conf"}
    assert parse(rsyslog=row).forwards.reason is Reason.PERMISSION


@pytest.mark.parametrize(
    ("files", "directory", "journald"),
    [
        ({}, True, Journald("auto", True)),
        ({}, False, Journald("auto", False)),
        (
            {"/etc/systemd/journald.conf": "[Journal]\n#Storage=auto\nStorage=volatile\n"},
            True,
            Journald("volatile", True),
        ),
        (
            {
                "/etc/systemd/journald.conf": "Storage=volatile\n",
                "/usr/lib/systemd/journald.conf.d/10.conf": "Storage=persistent\n",
            },
            True,
            Journald("persistent", True),
        ),
        (
            {
                "/usr/lib/systemd/journald.conf.d/10.conf": "Storage=persistent\n",
                "/etc/systemd/journald.conf.d/10.conf": "Storage=none\n",
            },
            True,
            Journald("none", True),
        ),
        (
            {
                "/run/systemd/journald.conf.d/20.conf": "Storage=volatile\n",
                "/etc/systemd/journald.conf.d/10.conf": "Storage=persistent\n",
            },
            True,
            Journald("volatile", True),
        ),
    ],
)
def test_journald(files, directory, journald):
    row = [0o40755, 0, 0, 0, 0.0]
    names = {"/var/log": row, **({"/var/log/journal": row} if directory else {})}
    found = parse(journald={"value": files}, journal={"value": names}).journald
    assert found == journald
    assert found.persistent is (directory and journald.storage in ("auto", "persistent"))


def test_journald_that_could_not_be_looked_at():
    assert parse(journald={"value": {}}, journal={"value": {}}).journald.reason is Reason.CANNOT_TELL


def test_sizes():
    row = {
        "output": "11718752\t/var/log\n4\t/tmp/ray/session_latest/logs\n",
        "error": "du: cannot read directory '/var/log/private': Permission denied\n",
        "exit": 1,
    }
    assert parse(sizes=row).sizes == LogSizes(
        {"/var/log": 12_000_002_048, "/tmp/ray/session_latest/logs": 4096}, partial=True
    )
    assert parse(sizes={"output": "", "error": "du: cannot access", "exit": 1}).sizes.reason is Reason.CANNOT_TELL


def test_what_logrotate_covers():
    config = (
        '# all\nweekly\n/var/log/syslog\n/var/log/mail.log {\n  rotate 4\n}\n"/tmp/ray/*/logs/*.log" { copytruncate }\n'
    )
    assert agents.parse_rotated(config) == ("/var/log/syslog", "/var/log/mail.log", "/tmp/ray/*/logs/*.log")


@pytest.mark.parametrize(
    ("names", "gpus"),
    [
        (
            [
                "/proc/driver/nvidia/version",
                "/proc/driver/nvidia/gpus/0000:18:00.0",
                "/proc/driver/nvidia/gpus/0000:2a:00.0",
            ],
            2,
        ),
        (["/proc/driver/nvidia/version"], 0),
        ([], Missing(Reason.TOOL_MISSING, "no NVIDIA driver is loaded")),
    ],
)
def test_gpus_of_the_driver(names, gpus):
    assert parse(gpus={"value": {name: [0o40555, 0, 0, 0, 0.0] for name in names}}).gpus == gpus


def test_nothing_answered():
    found = parse()
    assert {value.reason for value in (found.metrics, found.units, found.processes, found.sizes)} == {Reason.NOT_RUN}


def test_what_is_asked():
    site = Site("ds", "lab", "pre", (), "/mnt", None, None, "bare-metal", False, "sudo-n", exporter_ports=(9100, 19400))
    host = HostSite("a", frozenset({"worker"}), "198.51.100.1", None, "198.51.100.1", 22, "dstui", True, 8)
    ops = {op.key: op for op in agents.ops(host, site)}
    assert ops["agents.metrics"].args["urls"] == ["http://127.0.0.1:9100/metrics", "http://127.0.0.1:19400/metrics"]
    assert ops["agents.metrics"].args["limit"] == METRICS_BYTES
    assert ops["agents.metrics"].args["proxy"] == "-"
    assert not any(op.args.get("root") for op in ops.values())


@given(st.text())
def test_any_text_is_read_without_an_exception(text):
    parse_exposition(text)
    parse_units(text)
    agents.parse_forwards(text)
    agents.parse_rotated(text)
    agents.parse_storage({"/etc/systemd/journald.conf": text})


KEYS = ["metrics", "units", "processes", "uptime", "rsyslog", "journal", "journald", "sizes", "logrotate", "gpus"]
VALUES = (
    st.none()
    | st.text()
    | st.lists(st.integers())
    | st.dictionaries(st.text() | st.just(agents.url(9100)), st.text() | st.integers() | st.none())
)


@given(st.dictionaries(st.sampled_from(KEYS), st.tuples(st.text(), VALUES)))
def test_any_answer_gives_facts(answers):
    rows = {key: {"output": text, "value": value, "exit": 0} for key, (text, value) in answers.items()}
    assert isinstance(parse(**rows), agents.AgentFacts)
