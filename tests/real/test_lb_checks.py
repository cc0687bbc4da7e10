"""lb.* against a real nginx with TLS before two backends, as it should be and spoiled in one way at a time."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from reallab import echo_api
from reallab.certificates import Issued, issue
from reallab.cluster import ADDRESSES, Lab
from reallab.firewall import reachable
from reallab.host import Host, wait_until
from reallab.machine import UNITS
from reallab.nginx import CONFIG, Nginx
from reallab.operator import Found, Operator, Outcome
from reallab.vllm_server import MODEL, VllmServer

pytestmark = pytest.mark.real

KEY = "key-of-the-lab"
CHECKS = ("lb.deployed", "lb.tls", "lb.reverse-proxy", "lb.algorithm", "lb.static-cache")
FRONT = "gpu-02"
BACKS = ("gpu-01", "gpu-03")
PORT = 8000
URL = f"https://{ADDRESSES[FRONT]}"
BACKENDS = tuple(f"http://{ADDRESSES[name]}:{PORT}" for name in BACKS)
FOLDER = "/etc/nginx-lab"

HTTP = """
  {http}
  upstream vllm {{ zone vllm 64k; {algorithm} {members} keepalive 16; }}
  server {{ listen 80; return 301 https://$host$request_uri; }}
  server {{
    listen 443 ssl;
    server_name {name};
    ssl_certificate {folder}/{certificate}.pem;
    ssl_certificate_key {folder}/{certificate}.key;
    {tls}
    add_header Strict-Transport-Security "max-age=31536000" always;
    client_max_body_size {body};
    location /static/ {{ root {folder}; expires 7d; }}
    location / {{
      {inside}
      proxy_pass http://vllm;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_connect_timeout 2s;
      proxy_buffering {buffering};
      proxy_read_timeout 600s;
    }}
  }}
"""


def config(**changed: str) -> str:
    members = " ".join(f"server {ADDRESSES[name]}:{PORT};" for name in BACKS)
    usual = {
        "http": "", "algorithm": "least_conn;", "members": members, "name": ADDRESSES[FRONT], "certificate": "good",
        "tls": "ssl_protocols TLSv1.2 TLSv1.3;", "body": "20m", "inside": "", "buffering": "off",
    }  # fmt: skip
    return HTTP.format(folder=FOLDER, **{**usual, **changed})


class Echo:
    """The small API on one lab host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.host.put("/opt/echo/echo_api.py", Path(echo_api.__file__).read_text())
        argv = ("/usr/bin/python3", "-I", "/opt/echo/echo_api.py", str(PORT), KEY, "0.01")
        self._process = self.host.start(*argv)
        wait_until(lambda: f":{PORT} " in self.host.run("ss", "-Hltn"), f"the API on {self.host.name}")

    def stop(self) -> None:
        """Also when it does not run."""
        pids = [pid for pid, line in self.host.processes().items() if "/opt/echo/" in line]
        subprocess.run(["kill", *map(str, pids)], check=bool(pids), capture_output=True)
        if self._process is not None:
            self._process.wait(10)
            self._process = None


@pytest.fixture(scope="module")
def backs(lab: Lab) -> Iterator[dict[str, Echo]]:
    running = {name: Echo(lab.hosts[name]) for name in BACKS}
    try:
        for echo in running.values():
            echo.start()
        yield running
    finally:
        for echo in running.values():
            echo.stop()


@pytest.fixture(scope="module")
def authority(lab: Lab) -> Issued:
    """The CA that the lab trusts, and certificates of every sort on the balancer."""
    root, host = issue("Lab Root", ca=True), lab.hosts[FRONT]
    (lab.folder / "ca.pem").write_text(root.pem)
    made = {
        "good": issue(ADDRESSES[FRONT], root),
        "other": issue(ADDRESSES[FRONT], root),
        "expired": issue(ADDRESSES[FRONT], root, days=-1),
        "name": issue("other.lab", root),
        "own": issue(ADDRESSES[FRONT]),
    }
    for name, each in made.items():
        host.put(f"{FOLDER}/{name}.pem", each.pem)
        host.put(f"{FOLDER}/{name}.key", each.key_pem, 0o600)
    host.put(f"{FOLDER}/static/app.js", "let it = 'be';\n")
    host.put("/etc/cron.d/certbot", "0 3 * * * root certbot -q renew\n")
    return root


@pytest.fixture(scope="module")
def unit(lab: Lab) -> Iterator[None]:
    with lab.hosts[FRONT].changed(UNITS, lambda old: f"{old}nginx.service active enabled 0\n"):
        yield


@pytest.fixture(scope="module")
def nginx(lab: Lab, backs: dict[str, Echo], authority: Issued, unit: None) -> Iterator[Nginx]:
    with reachable(lab.hosts[FRONT], 80), Nginx(lab.hosts[FRONT], config(), port=443) as running:
        yield running


@pytest.fixture
def spoiled(nginx: Nginx) -> Iterator[Nginx]:
    """May be changed; is as it should be again afterwards."""
    yield nginx
    nginx.change(config())


def inventory(lab: Lab, name: str = "lb", **blocks: object) -> Path:
    key = lab.folder / "lb.key"
    key.touch(0o600)
    key.write_text(KEY)
    usual: dict[str, object] = {
        "model": {"path": "/models/x", "served_name": echo_api.MODEL},
        "serving": {"mode": "vllm"},
        "endpoints": {"api": URL, "backends": list(BACKENDS)},
        "auth": {"key_ref": f"file:{key}"},
        "lb": {"hosts": [FRONT], "ca_bundle": str(lab.folder / "ca.pem"), "static_urls": ["/static/app.js"]},
    }
    return lab.inventory(name, **{**usual, **blocks})


def front(outcome: Outcome, check: str, url: str = URL) -> Found:
    return outcome.of(check, f"endpoint:{url}")


def host(outcome: Outcome, check: str) -> Found:
    return outcome.of(check, FRONT)


@pytest.fixture(scope="module")
def well(lab: Lab, operator: Operator, nginx: Nginx) -> Outcome:
    return operator.run(*CHECKS, inventory=inventory(lab))


@pytest.mark.parametrize("check", CHECKS)
def test_a_balancer_as_it_should_be(well: Outcome, check: str) -> None:
    found = [each for each in well if each.check == check]
    assert found
    assert {each.said for each in found} == {"pass"}, "\n\n".join(each.words for each in found)
    assert KEY not in json.dumps(well.report)


def test_what_is_seen_of_it(well: Outcome) -> None:
    assert "2 of 2 backends answer" in front(well, "lb.deployed").words
    assert "TLS 1.2, 1.3" in front(well, "lb.tls").words
    assert "renewed by /etc/cron.d/certbot" in front(well, "lb.tls").words
    assert "location / → vllm" in host(well, "lb.reverse-proxy").words
    assert "least_conn; requests taken: " in front(well, "lb.algorithm").words


@pytest.mark.parametrize(
    ("certificate", "said"),
    [("expired", "the certificate expired at"), ("name", "is for other.lab, not for"), ("own", "self-signed")],
)
def test_certificates(lab: Lab, operator: Operator, spoiled: Nginx, certificate: str, said: str) -> None:
    spoiled.change(config(certificate=certificate))
    found = front(operator.run("lb.tls", inventory=inventory(lab)), "lb.tls")
    assert found.said == "fail", found.words
    assert said in found.words


def test_old_protocols(lab: Lab, operator: Operator, spoiled: Nginx) -> None:
    spoiled.change(config(tls="ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3; ssl_ciphers ALL:@SECLEVEL=0;"))
    found = front(operator.run("lb.tls", inventory=inventory(lab)), "lb.tls")
    assert found.said == "fail", found.words
    assert "TLS 1.0 is accepted" in found.words and "TLS 1.1 is accepted" in found.words


def test_a_renewed_certificate_that_was_not_loaded(lab: Lab, operator: Operator, nginx: Nginx) -> None:
    host = lab.hosts[FRONT]
    pair = {f"{FOLDER}/good.{end}": host.get(f"{FOLDER}/other.{end}") for end in ("pem", "key")}
    with ExitStack() as renewed:
        for path, text in pair.items():
            renewed.enter_context(host.changed(path, text))
        found = front(operator.run("lb.tls", inventory=inventory(lab)), "lb.tls")
    assert found.said == "warn", found.words
    assert "another certificate is served" in found.words


def test_one_dead_backend(lab: Lab, operator: Operator, nginx: Nginx, backs: dict[str, Echo]) -> None:
    backs["gpu-03"].stop()
    try:
        outcome = operator.run(*CHECKS, inventory=inventory(lab))
    finally:
        backs["gpu-03"].start()
    deployed = front(outcome, "lb.deployed")
    assert deployed.said == "warn" and "1 of 2 backends answer" in deployed.words
    proxy = front(outcome, "lb.reverse-proxy")
    assert proxy.said == "warn" and f"a backend does not answer: {BACKENDS[1]}" in proxy.words, proxy.words
    assert front(outcome, "lb.algorithm").said.startswith("unknown")


def test_no_backend_at_all(lab: Lab, operator: Operator, nginx: Nginx, backs: dict[str, Echo]) -> None:
    for echo in backs.values():
        echo.stop()
    try:
        outcome = operator.run("lb.deployed", "lb.reverse-proxy", "lb.static-cache", inventory=inventory(lab))
    finally:
        for echo in backs.values():
            echo.start()
    assert front(outcome, "lb.deployed").said == "fail" and "502" in front(outcome, "lb.deployed").words
    assert front(outcome, "lb.reverse-proxy").said == "fail"
    assert front(outcome, "lb.static-cache").said.startswith("unknown")


def test_nginx_that_does_not_run(lab: Lab, operator: Operator, nginx: Nginx) -> None:
    nginx.stop()
    try:
        outcome = operator.run(*CHECKS, inventory=inventory(lab))
    finally:
        nginx.start()
    assert host(outcome, "lb.deployed").said == "fail" and "nginx does not run" in host(outcome, "lb.deployed").words
    assert front(outcome, "lb.deployed").said == "fail"
    assert front(outcome, "lb.tls").said.startswith("unknown")
    for check in CHECKS[2:]:
        assert outcome.of(check, "cluster:lab").said == "unknown(blocked-by)"


def test_streams_that_are_held_back(lab: Lab, operator: Operator, spoiled: Nginx) -> None:
    spoiled.change(config(buffering="on"))
    outcome = operator.run("lb.reverse-proxy", inventory=inventory(lab))
    assert front(outcome, "lb.reverse-proxy").said == "fail", front(outcome, "lb.reverse-proxy").words
    assert "the stream comes in" in front(outcome, "lb.reverse-proxy").words
    assert "proxy_buffering is on" in host(outcome, "lb.reverse-proxy").words


@pytest.mark.parametrize(
    ("changed", "verdict", "said"),
    [
        ({"body": "1m"}, "warn", "client_max_body_size 1m: longer prompts are refused"),
        ({"inside": "proxy_next_upstream error timeout non_idempotent;"}, "warn", "repeats POSTs"),
        ({"members": f"server {ADDRESSES['gpu-01']}:{PORT};"}, "fail", f"lacks {BACKENDS[1]}"),
        ({"inside": "rewrite ^/v1/(.*)$ /v1/v1/$1 break;"}, "pass", ""),
    ],
)
def test_rules(lab: Lab, operator: Operator, spoiled: Nginx, changed: dict[str, str], verdict: str, said: str) -> None:
    spoiled.change(config(**changed))
    outcome = operator.run("lb.reverse-proxy", inventory=inventory(lab))
    assert host(outcome, "lb.reverse-proxy").said == verdict, host(outcome, "lb.reverse-proxy").words
    assert said in host(outcome, "lb.reverse-proxy").words
    behaves = front(outcome, "lb.reverse-proxy")
    assert behaves.said == ("fail" if "rewrite" in str(changed) else "pass"), behaves.words


def test_a_limit_that_answers_503(lab: Lab, operator: Operator, spoiled: Nginx) -> None:
    """Nothing but the spread needs more than it lets through."""
    zone = "limit_req_zone $binary_remote_addr zone=users:1m rate=2r/s;"
    spoiled.change(config(http=zone, inside="limit_req zone=users burst=1 nodelay;"))
    outcome = operator.run("lb.deployed", "lb.algorithm", inventory=inventory(lab))
    assert front(outcome, "lb.deployed").said == "pass", front(outcome, "lb.deployed").words
    spread = front(outcome, "lb.algorithm")
    assert spread.said == "unknown(cannot-tell)" and "× 503" in spread.words, spread.words


@pytest.mark.parametrize(
    ("algorithm", "said"),
    [("ip_hash;", "keeps one client together"), ("", "round-robin: it does not look at how busy")],
)
def test_algorithms(lab: Lab, operator: Operator, spoiled: Nginx, algorithm: str, said: str) -> None:
    spoiled.change(config(algorithm=algorithm))
    found = front(operator.run("lb.algorithm", inventory=inventory(lab)), "lb.algorithm")
    assert found.said == "warn", found.words
    assert said in found.words


def test_one_upstream_is_nothing_to_balance(lab: Lab, operator: Operator, spoiled: Nginx) -> None:
    spoiled.change(config(members=f"server {ADDRESSES['gpu-01']}:{PORT};"))
    outcome = operator.run("lb.deployed", "lb.algorithm", inventory=inventory(lab))
    assert front(outcome, "lb.algorithm").said == "not-applicable"
    assert host(outcome, "lb.deployed").said == "warn" and "has 1 members" in host(outcome, "lb.deployed").words


def test_a_backend_that_gets_nothing(lab: Lab, operator: Operator, spoiled: Nginx) -> None:
    first, second = (f"{ADDRESSES[name]}:{PORT}" for name in BACKS)
    spoiled.change(config(members=f"server {first}; server {second} backup;"))
    found = front(operator.run("lb.algorithm", inventory=inventory(lab)), "lb.algorithm")
    assert found.said == "not-applicable", found.words
    spoiled.change(config(members=f"server {first} weight=1000; server {second};", algorithm=""))
    found = front(operator.run("lb.algorithm", inventory=inventory(lab)), "lb.algorithm")
    assert found.said == "fail", found.words
    assert f"gets nothing although it is healthy: {BACKENDS[1]}" in found.words


def test_answers_out_of_a_cache(lab: Lab, operator: Operator, spoiled: Nginx) -> None:
    zone = "proxy_cache_path /run/nginx-lab/cache keys_zone=kept:1m;"
    keep = "proxy_cache kept; proxy_cache_methods GET POST; proxy_cache_key $uri; proxy_cache_valid 200 1m;"
    spoiled.change(config(http=zone, inside=keep, buffering="on"))
    found = front(operator.run("lb.static-cache", inventory=inventory(lab)), "lb.static-cache")
    assert found.said == "fail", found.words
    assert "two requests got the same answer" in found.words
    assert "/v1/models is given to a wrong key" in found.words or "the same" in found.words
    assert "proxy_cache kept is on" in found.words


def test_a_pure_api(lab: Lab, operator: Operator, spoiled: Nginx) -> None:
    block = {"hosts": [FRONT], "ca_bundle": str(lab.folder / "ca.pem")}
    served = front(operator.run("lb.static-cache", inventory=inventory(lab, lb=block)), "lb.static-cache")
    assert served.said == "unknown(no-targets)" and "location /static/" in served.words
    spoiled.change(config().replace("location /static/ { root /etc/nginx-lab; expires 7d; }", ""))
    pure = front(operator.run("lb.static-cache", inventory=inventory(lab, lb=block)), "lb.static-cache")
    assert pure.said == "not-applicable", pure.words


def test_without_sudo(lab: Lab, operator: Operator, nginx: Nginx) -> None:
    outcome = operator.run(*CHECKS, inventory=inventory(lab, ssh={"become": "none"}))
    assert host(outcome, "lb.deployed").said == "unknown(permission)"
    assert host(outcome, "lb.reverse-proxy").said == "warn"
    assert "configuration not seen" in host(outcome, "lb.reverse-proxy").words
    assert front(outcome, "lb.reverse-proxy").said == "pass"
    assert front(outcome, "lb.algorithm").said == "warn"
    assert front(outcome, "lb.static-cache").said == "pass"
    assert front(outcome, "lb.tls").said == "pass"


@contextmanager
def on_disk(lab: Lab, spoil: str) -> Iterator[None]:
    """Another configuration on the disk than the one that runs."""
    with lab.hosts[FRONT].changed(CONFIG, lambda old: old.replace("proxy_read_timeout", spoil, 1)):
        yield


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("proxy_send_timeout 9s; proxy_read_timeout", "after the configuration was loaded"),
        ("prxy_read_timeout", "the next reload will fail"),
    ],
)
def test_a_configuration_that_was_not_loaded(lab: Lab, operator: Operator, nginx: Nginx, spoil: str, said: str) -> None:
    with on_disk(lab, spoil):
        found = host(operator.run("lb.deployed", inventory=inventory(lab)), "lb.deployed")
    assert said in found.words, found.words
    assert found.said == ("warn" if "after" in said else "unknown(cannot-tell)")


def test_an_address_that_is_a_backend(lab: Lab, operator: Operator, backs: dict[str, Echo]) -> None:
    file = inventory(lab, endpoints={"api": BACKENDS[0], "backends": list(BACKENDS)}, lb={"kind": "nginx"})
    with reachable(lab.hosts["gpu-01"], PORT):
        outcome = operator.run("lb.deployed", "lb.tls", inventory=file)
    assert front(outcome, "lb.deployed", BACKENDS[0]).said == "fail"
    assert "no load balancer" in front(outcome, "lb.deployed", BACKENDS[0]).words
    assert front(outcome, "lb.tls", BACKENDS[0]).said == "fail"


def test_a_real_vllm_behind_it(lab: Lab, operator: Operator, spoiled: Nginx, backs: dict[str, Echo]) -> None:
    """The last one: the small API of that host is gone afterwards."""
    backs["gpu-01"].stop()
    with VllmServer(lab.hosts["gpu-01"], lab.folder, api_key=KEY) as server:
        only = {"members": f"server {server.host.address}:{server.port};"}
        spoiled.change(config(**only))
        blocks = {
            "model": {"path": "/models/x", "served_name": MODEL},
            "endpoints": {"api": URL, "backends": [server.url]},
        }
        file = inventory(lab, "lb-vllm", **blocks)
        outcome = operator.run("lb.reverse-proxy", "lb.static-cache", "lb.algorithm", inventory=file)
        for check in ("lb.reverse-proxy", "lb.static-cache"):
            assert front(outcome, check).said == "pass", front(outcome, check).words
        assert front(outcome, "lb.algorithm").said == "not-applicable"
        spoiled.change(config(**only, buffering="on"))
        held = front(operator.run("lb.reverse-proxy", inventory=file), "lb.reverse-proxy")
        assert held.said == "fail", held.words
