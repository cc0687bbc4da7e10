"""Group `lb`: a balancer's host, from answers as real hosts give them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import lb
from dstui.facts.case import HostSite, Site
from dstui.facts.lb import LbFacts
from dstui.facts.nginx_config import NginxConfig
from dstui.facts.raw import Answer, Missing, OpKind, Raw
from dstui.model import Reason

DATA = Path(__file__).parent.parent / "data" / "lb"
HOST = HostSite("lb-01", frozenset({"lb"}), "198.51.100.21", None, "198.51.100.21", 22, "ops", False, None)
SITE = Site(*("ds", "lab", "live", (HOST,), "/mnt/x", None, None, "bare-metal", False, "none"), balancers=("lb-01",))
PRINT = "AB:" * 31 + "CD"
NOW, UPTIME = 1_795_000_000.0, 50_000.0


def stat(name: str, ticks: int) -> str:
    return f"1 ({name}) S " + "0 " * 18 + f"{ticks} 0 0\n"


GOOD: dict[str, Answer] = {
    "lb.version": Answer("lb.version", "nginx -v", error="nginx version: nginx/1.22.1\n", exit=0),
    "lb.units": Answer(
        "lb.units",
        "systemctl show",
        "Id=nginx.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n\n"
        "Id=haproxy.service\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\n\n"
        "Id=certbot.timer\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n",
        exit=0,
    ),
    "lb.dump": Answer("lb.dump", "sudo -n /usr/sbin/nginx -T", (DATA / "nginx_T.txt").read_text(), exit=0),
    "lb.comm": Answer(
        "lb.comm",
        "/proc",
        value={
            "/proc/1/comm": "systemd\n",
            "/proc/70/comm": "nginx\n",
            "/proc/71/comm": "nginx\n",
            "/proc/9/comm": "x",
        },
    ),
    "lb.cron": Answer("lb.cron", "cron", value={"/etc/cron.d/certbot": "0 0 * * * root certbot -q renew\n"}),
    "lb.self": Answer("lb.self", "self", value={"time": NOW}),
    "lb.uptime": Answer("lb.uptime", "/proc/uptime", f"{UPTIME} 1.0\n"),
    "lb.process": Answer(
        "lb.process",
        "/proc",
        value={
            "/proc/70/stat": stat("nginx", 100_000),
            "/proc/70/cmdline": "nginx: master process /usr/sbin/nginx",
            "/proc/70/cgroup": "0::/system.slice/nginx.service\n",
            "/proc/71/stat": stat("nginx) (x", 400_000),
            "/proc/71/cmdline": "nginx: worker process\0\0",
            "/proc/72/stat": stat("nginx", 4_900_000),
            "/proc/72/cmdline": "nginx: worker process",
            "/proc/73/stat": stat("nginx", 200_000),
            "/proc/73/cmdline": "nginx: worker process is shutting down",
        },
    ),
    "lb.files": Answer(
        "lb.files", "stat", value={"/etc/nginx/nginx.conf": {"stat": [33188, 0, 0, 10, 1_794_000_000.5]}}
    ),
    "lb.certificate.0": Answer("lb.certificate.0", "openssl x509", f"sha256 Fingerprint={PRINT}\n", exit=0),
    "lb.certificate.1": Answer("lb.certificate.1", "openssl x509", error="Permission denied\n", exit=1),
}


def facts(**changed: Answer | None) -> LbFacts:
    answers = {**GOOD, **{f"lb.{name}": answer for name, answer in changed.items()}}
    return lb.parse(Raw({key: answer for key, answer in answers.items() if answer is not None}))


def failed(exit_: int, error: str) -> Answer:
    return Answer("lb.dump", "sudo -n /usr/sbin/nginx -T", error=error, exit=exit_)


def why(value: object) -> tuple[Reason, str]:
    assert isinstance(value, Missing), value
    return value.reason, value.why


def test_only_balancers_are_asked() -> None:
    other = Site(*("ds", "lab", "live", (HOST,), "/mnt/x", None, None, "bare-metal", False, "none"))
    assert lb.ops(HOST, other) == ()
    assert any(op.args.get("root") for op in lb.ops(HOST, SITE))


def test_a_host_that_tells_everything() -> None:
    found = facts()
    assert found.programs == {"nginx": 2}
    assert found.units == {"nginx": lb.LbUnit("active", "enabled")}
    assert found.version == "1.22.1" and found.config_fault == ""
    assert isinstance(found.config, NginxConfig)
    # The oldest worker that is not shutting down: one that died was started again later, with the same configuration.
    assert found.loaded_at == NOW - UPTIME + 4_000.0
    assert found.changed == ("/etc/nginx/nginx.conf", 1_794_000_000.5)
    assert found.certificates["/etc/nginx/good.pem"] == "ab" * 31 + "cd"
    assert why(found.certificates["/etc/nginx/expired.pem"])[0] is Reason.PERMISSION
    assert found.renewals == ("certbot.timer", "/etc/cron.d/certbot")


def test_the_second_round_asks_for_fingerprints_and_never_for_keys() -> None:
    asked = lb.more(HOST, SITE, Raw(GOOD))
    assert {op.key for op in asked} == {"lb.process", "lb.files", "lb.certificate.0", "lb.certificate.1"}
    assert not any("key" in op.source for op in asked)
    assert all(op.kind is OpKind.RUN for op in asked if op.key.startswith("lb.certificate"))
    assert lb.more(HOST, SITE, Raw()) == ()


@pytest.mark.parametrize(
    ("answer", "reason", "fault"),
    [
        (failed(1, "sudo: a password is required\n"), Reason.PERMISSION, ""),
        (failed(1, 'nginx: [emerg] open() "/run/nginx.pid" failed (13: Permission denied)\n'), Reason.PERMISSION, ""),
        (
            failed(1, 'nginx: [warn] x\nnginx: [emerg] unknown directive "prxy_pass" in /etc/nginx/nginx.conf:9\n'),
            Reason.CANNOT_TELL,
            'nginx: [emerg] unknown directive "prxy_pass" in /etc/nginx/nginx.conf:9',
        ),
        (failed(127, ""), Reason.TOOL_MISSING, ""),
        (Answer("lb.dump", "nginx -T", missing=Missing(Reason.TIMEOUT, "15 s")), Reason.TIMEOUT, ""),
        (Answer("lb.dump", "nginx -T", "# configuration file /a:\n", exit=0, output_bytes=9_999), Reason.BUDGET, ""),
        (Answer("lb.dump", "nginx -T", "", exit=0), Reason.PARSE_ERROR, ""),
        (None, Reason.NOT_RUN, ""),
    ],
)
def test_a_configuration_that_is_not_to_be_had(answer: Answer | None, reason: Reason, fault: str) -> None:
    found = facts(dump=answer)
    assert why(found.config)[0] is reason
    assert found.config_fault == fault


@pytest.mark.parametrize(
    ("title", "cgroup", "said"),
    [
        ("nginx: master process nginx -c /opt/n.conf -g daemon off;", "0::/", "runs with -c /opt/n.conf"),
        ("nginx: master process nginx", f"0::/system.slice/docker-{'a' * 64}.scope", "runs in a container"),
        ("nginx: master process nginx", f"0::/docker/{'a' * 64}", "runs in a container"),
        ("nginx: master process nginx -c /etc/nginx/nginx.conf", "0::/system.slice/nginx.service", None),
    ],
)
def test_a_dump_of_another_nginx_is_not_taken_for_the_running_one(title: str, cgroup: str, said: str | None) -> None:
    value = {"/proc/70/stat": stat("nginx", 1), "/proc/70/cmdline": title, "/proc/70/cgroup": cgroup}
    found = facts(process=Answer("lb.process", "/proc", value=value)).config
    assert said is None if isinstance(found, NginxConfig) else said is not None and said in found.why


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"comm": Answer("", "", value={"/proc/70/comm": "nginx"})}, "programs"),
        ({"units": Answer("", "systemctl", exit=1, error="not booted with systemd")}, "units"),
        ({"version": failed(127, "")}, "version"),
        ({"version": Answer("", "nginx -v", "Tengine", exit=0)}, "version"),
        ({"uptime": Answer("", "", "garbage")}, "loaded_at"),
        ({"process": None}, "loaded_at"),
        ({"process": Answer("", "", value={"/proc/70/stat": "70 (nginx) S"})}, "loaded_at"),
        ({"files": Answer("", "", value={"/etc/nginx/nginx.conf": {"hung": True}})}, "changed"),
        ({"files": Answer("", "", value=[])}, "changed"),
    ],
)
def test_what_is_missing_is_missing(changed: dict[str, Answer | None], field: str) -> None:
    assert isinstance(getattr(facts(**changed), field), Missing)


def test_no_renewal_and_no_look_are_told_apart() -> None:
    nothing = Answer("", "", value={"/etc/crontab": "# certbot renew\n"})
    assert facts(cron=nothing, units=failed(1, "no systemd")).renewals == ()
    gone = Answer("", "", missing=Missing(Reason.TIMEOUT, ""))
    assert isinstance(facts(cron=gone, units=failed(1, "")).renewals, Missing)


@given(
    st.sampled_from(sorted(GOOD)),
    st.one_of(
        st.builds(lambda t, n: Answer("", "x", t, t, exit=n), st.text(max_size=200), st.sampled_from([0, 1, None])),
        st.builds(
            lambda v: Answer("", "x", value=v),
            st.one_of(
                st.none(),
                st.integers(),
                st.dictionaries(
                    st.sampled_from(["/proc/70/stat", "/proc/1/comm", "time"]), st.text() | st.lists(st.none())
                ),
            ),
        ),
    ),
)
def test_any_answer_gives_facts(key: str, answer: Answer) -> None:
    assert isinstance(lb.parse(Raw({**GOOD, key: answer})), LbFacts)
