"""What hosts show only together, against real sockets and files: ports, the nonce on a shared path, names, URLs."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import select
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import raw
from dstui.gather import ship
from dstui.gather.collector import commands, names, nonce, parts, peers, web

RUN = "0123456789abcdef" * 2


class Host:
    """A collector process, asked one thing at a time."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ship.local_argv(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.write(ship.bootstrap_payload())
        assert self.read()["ok"]

    def write(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def read(self) -> dict:
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], 30)[0], "it said nothing"
        return json.loads(self.process.stdout.readline()[1:])

    def ask(self, verb: str, **args: object) -> dict:
        self.write(json.dumps({"id": 1, "verb": verb, **args}).encode() + b"\n")
        return self.read()

    def value(self, op: raw.Op) -> object:
        answer = self.ask("facts", ops=[{"key": op.key, "kind": op.kind, "args": dict(op.args)}])["answers"][op.key]
        assert "value" in answer, answer
        return answer["value"]

    def end(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(10)


@pytest.fixture
def host() -> Iterator[Host]:
    started = Host()
    yield started
    started.process.kill()
    started.process.wait()
    for pipe in (started.process.stdin, started.process.stdout):
        if pipe:
            pipe.close()


def outcome(port: int, said: str | None = None, timeout: float = 2.0) -> str:
    return str(peers.tries({"endpoints": [["127.0.0.1", port, said]], "timeout": timeout})["tries"][0][2])


def listen(host: Host, **args: object) -> dict:
    return host.ask("listen", **{"address": "127.0.0.1", "port": 0, "nonce": "n-1", "seconds": 20, **args})


def test_a_listener_says_its_nonce_to_everybody_until_it_is_closed(host: Host) -> None:
    answer = listen(host)
    assert (answer["ok"], answer["state"]) == (True, "listening")
    port = answer["port"]
    assert [outcome(port, "n-1"), outcome(port, "n-1"), outcome(port), outcome(port, "n-2")] == [
        "ok",
        "ok",
        "ok",
        "wrong-nonce",
    ]
    assert host.ask("close", port=port)["ok"]
    assert outcome(port, "n-1") == "refused"
    assert host.ask("close", port=port)["ok"]


def test_a_listener_ends_with_its_time_and_with_the_session(host: Host) -> None:
    short, long = listen(host, seconds=0.2)["port"], listen(host)["port"]
    due = time.monotonic() + 10
    while outcome(short, "n-1") == "ok":
        assert time.monotonic() < due
    assert outcome(short) == "refused"
    assert outcome(long, "n-1") == "ok"
    assert host.end() == 0
    assert outcome(long) == "refused"


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::", "*"])
def test_a_listener_never_binds_all_addresses(host: Host, address: str) -> None:
    assert listen(host, address=address)["state"] == "failed"


def test_an_address_of_another_host_cannot_be_bound(host: Host) -> None:
    answer = listen(host, address="192.0.2.1")
    assert (answer["state"], answer["why"][:13]) == ("failed", "EADDRNOTAVAIL")


def test_a_port_that_is_taken_names_its_holder(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = listen(host, port=taken.getsockname()[1])
    assert answer["state"] == "busy"
    assert answer["holder"] == Path("/proc/self/comm").read_text().strip()


def test_connect_tells_the_outcomes_apart(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_server(("127.0.0.1", 0)) as mute:
        # Once its queue is full, a listener's kernel drops further connects in silence.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        port = listen(host)["port"]
        endpoints = [
            ["127.0.0.1", port, "n-1"],
            ["127.0.0.1", port, "other"],
            ["127.0.0.1", 1, None],
            ["127.0.0.1", full.getsockname()[1], None],
            ["127.0.0.1", mute.getsockname()[1], "n-1"],
            ["127.0.0.1", mute.getsockname()[1], None],
            ["no-such-host.invalid", 80, None],
            ["127.0.0.1", 99999, None],
        ]
        # Its own listener is served by the same process that waits for the answers.
        tries = host.ask("connect", endpoints=endpoints, timeout=0.5)["tries"]
        for one in waiting:
            one.close()
    assert [row[:2] for row in tries] == [row[:2] for row in endpoints]
    assert [row[2] for row in tries] == [
        "ok",
        "wrong-nonce",
        "refused",
        "timeout",
        "wrong-nonce",
        "ok",
        "error",
        "error",
    ]
    assert tries[3][3] >= 500


def test_a_thousand_connects_stay_within_the_limit_of_open_files() -> None:
    tries = peers.connect({"endpoints": [["127.0.0.1", 1]] * 1000, "timeout": 2})["value"]
    assert isinstance(tries, list)
    assert {row[2] for row in tries} == {"refused"}


@pytest.mark.parametrize(
    ("code", "expected"), [(111, "refused"), (110, "timeout"), (113, "unreach"), (101, "unreach"), (1, "error")]
)
def test_errors_of_connects(code: int, expected: str) -> None:
    attempt = peers._Try("127.0.0.1", 1, None, 1.0)
    attempt.failed(code)
    assert attempt.outcome == expected


def test_nonces_go_round(host: Host, tmp_path: Path) -> None:
    shared = str(tmp_path / "share" / ".dstui-probe")
    (tmp_path / "share").mkdir()
    place = {"dir": shared, "run": RUN}
    wrote = host.ask("nonce-write", **place, name="gpu-01", as_user="")
    assert (wrote["ok"], wrote["written"], wrote["error"], wrote["leftovers"]) == (True, True, "", 0)
    path = Path(shared) / RUN / "gpu-01.nonce"
    assert len(path.read_bytes()) == 64
    assert hashlib.sha256(path.read_bytes()).hexdigest() == wrote["sha256"]
    (path.parent / "gpu-02.nonce").write_bytes(b"something else")
    (path.parent / "gpu-03.nonce").mkdir()
    sums = {"gpu-01": wrote["sha256"], "gpu-02": "0" * 64, "gpu-03": "0" * 64, "gpu-04": "0" * 64}
    reads = host.ask("nonce-read", **place, sha256=sums, within=0.1)["reads"]
    assert {writer: row[:2] for writer, row in reads.items()} == {
        "gpu-01": ["match", ""],
        "gpu-02": ["mismatch", ""],
        "gpu-03": ["error", "EISDIR"],
        "gpu-04": ["absent", "ENOENT"],
    }
    again = host.ask("nonce-write", **place, name="gpu-01", as_user="")
    assert again["written"]
    assert host.ask("nonce-clean", **place, name="gpu-01")["ok"]
    assert host.ask("nonce-clean", **place, name="gpu-01")["ok"]
    assert not path.exists()
    (path.parent / "gpu-02.nonce").unlink()
    (path.parent / "gpu-03.nonce").rmdir()
    assert host.ask("nonce-clean", **place, name="gpu-02")["ok"]
    assert not Path(shared).exists()


def test_a_nonce_that_appears_later_is_found(host: Host, tmp_path: Path) -> None:
    sums = {"late": hashlib.sha256(b"x" * 64).hexdigest()}
    request = {"id": 7, "verb": "nonce-read", "dir": str(tmp_path), "run": RUN, "sha256": sums, "within": 10}
    host.write(json.dumps(request).encode() + b"\n")
    (tmp_path / RUN).mkdir()
    (tmp_path / RUN / "late.nonce").write_bytes(b"x" * 64)
    found, error, seconds = host.read()["reads"]["late"]
    assert (found, error) == ("match", "")
    assert seconds < 5


def test_nonces_are_gone_when_the_session_is(host: Host, tmp_path: Path) -> None:
    shared = tmp_path / "probe"
    assert host.ask("nonce-write", dir=str(shared), run=RUN, name="a", as_user="")["written"]
    assert host.end() == 0
    assert not shared.exists()


def test_leftovers_are_removed_when_they_are_old_and_ours(host: Host, tmp_path: Path) -> None:
    old = time.time() - 7200
    kept = []
    for run, name, age in (
        ("a" * 32, "x.nonce", old),
        ("b" * 32, "x.nonce", None),
        ("c" * 32, "x.txt", old),
        ("other", "x.nonce", old),
    ):
        (tmp_path / run).mkdir()
        (tmp_path / run / name).write_text("x")
        if age:
            os.utime(tmp_path / run / name, (age, age))
            os.utime(tmp_path / run, (age, age))
        kept.append(tmp_path / run / name)
    assert host.ask("nonce-write", dir=str(tmp_path), run=RUN, name="a", as_user="")["leftovers"] == 1
    assert [path.exists() for path in kept] == [False, True, True, True]
    assert not (tmp_path / ("a" * 32)).exists()


def test_nonce_errors(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    blocked = host.ask("nonce-write", dir=str(tmp_path / "file" / "x"), run=RUN, name="a", as_user="")
    assert (blocked["written"], blocked["error"], blocked["sha256"]) == (False, "ENOTDIR", None)
    stranger = host.ask("nonce-write", dir=str(tmp_path), run=RUN, name="a", as_user="no-such-user")
    assert (stranger["written"], stranger["error"]) == (False, "permission")
    for args in (
        {"dir": "relative", "run": RUN, "name": "a"},
        {"dir": str(tmp_path), "run": "../x", "name": "a"},
        {"dir": str(tmp_path), "run": RUN, "name": "../a"},
        {"dir": str(tmp_path), "run": RUN, "name": ".."},
    ):
        assert host.ask("nonce-write", **args, as_user="")["reason"] == "probe-error"
    assert list(tmp_path.iterdir()) == [tmp_path / "file", tmp_path / RUN] or not (tmp_path / RUN).exists()


def test_another_user_runs_the_same_code_through_sudo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\necho "$1 $2 $3" >&2\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"\n')
    sudo.chmod(0o755)
    sources = {f"{ship.PACKAGE}.{part}": ("source", ship._source(part)) for part in (*ship._ALWAYS, "nonce")}
    monkeypatch.setattr(parts, "shipped", lambda: sources)
    monkeypatch.setattr(commands, "STANDARD_PATH", str(tmp_path))
    monkeypatch.setattr(nonce.os, "getuid", lambda: 54321)
    args: dict[str, object] = {"dir": str(tmp_path / "probe"), "run": RUN, "name": "a", "as_user": "runtime"}
    wrote = nonce.write(dict(args))
    assert (wrote["written"], wrote["as_user"]) == (True, "runtime")
    assert nonce.read({**args, "sha256": {"a": wrote["sha256"]}, "within": 0})["reads"]["a"][0] == "match"
    assert nonce.clean(dict(args)) == {}
    sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2; exit 1\n")
    refused = nonce.write(dict(args))
    assert (refused["written"], refused["error"]) == (False, "permission")
    assert "password is required" in str(refused["why"])
    assert nonce.read({**args, "sha256": {}, "within": 0})["missing"] == "permission"


def test_resolve(host: Host) -> None:
    found = host.value(raw.resolve("r", "localhost", "@self", "no-such-host.invalid", "a" * 300))
    assert isinstance(found, dict)
    assert "127.0.0.1" in found["localhost"]["addresses"] or "::1" in found["localhost"]["addresses"]
    assert found["localhost"]["error"] is None
    assert found["no-such-host.invalid"]["addresses"] == []
    assert found["no-such-host.invalid"]["error"]
    assert found["a" * 300]["error"]


def test_a_name_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(names, "_lookup", lambda name: {"error": None} if name == "quick" else never.wait(20))
    found = names.resolve({"names": ["slow", "quick"], "timeout": 0.3})["value"]
    never.set()
    assert isinstance(found, dict)
    assert (found["slow"]["error"], found["quick"]["error"]) == ("timeout", None)


class NameServer:
    """UDP on loopback: `answers(query)` gives the datagrams to send back."""

    def __init__(self, answers: object) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self._answers = answers
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            query, client = self.socket.recvfrom(4096)
            if query == b"end":
                return
            for reply in self._answers(query):  # type: ignore[operator]
                self.socket.sendto(reply, client)

    def end(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", ("127.0.0.1", self.port))
        self._thread.join(5)
        self.socket.close()


def reply(query: bytes, *addresses: str, flags: int = 0x8180, number: bytes | None = None) -> bytes:
    head = (number or query[:2]) + struct.pack(">5H", flags, 1, len(addresses), 0, 0)
    rows = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(a) for a in addresses)
    return head + query[12:] + rows


def asked(server: NameServer, *hosts: str, timeout: float = 5.0) -> dict:
    try:
        return names.query_all(["127.0.0.1"], list(hosts), timeout, server.port)["127.0.0.1"]
    finally:
        server.end()


def test_dns_answers() -> None:
    def answers(query: bytes) -> list[bytes]:
        if b"\x07nowhere" in query:
            return [reply(query, flags=0x8183)]
        if b"\x03cut" in query:
            return [reply(query, flags=0x8380)]
        if b"\x06forged" in query:
            other = b"xx" if query[:2] != b"xx" else b"yy"
            return [reply(query, "192.0.2.66", number=other), query, reply(query.replace(b"f", b"g"), "192.0.2.67"),
                    reply(query, "192.0.2.1")]  # fmt: skip
        if b"\x06broken" in query:
            return [reply(query, "192.0.2.1")[:-6]]
        return [reply(query, "192.0.2.1", "192.0.2.2")]

    got = asked(NameServer(answers), "gpu-01.example", "nowhere.example", "cut.example", "forged.example",
                "broken.example", "a..b", "GPU-01.Example.")  # fmt: skip
    assert got["gpu-01.example"]["addresses"] == ["192.0.2.1", "192.0.2.2"]
    assert (got["gpu-01.example"]["rcode"], got["gpu-01.example"]["error"]) == (0, None)
    assert (got["nowhere.example"]["addresses"], got["nowhere.example"]["rcode"]) == ([], 3)
    assert got["cut.example"]["truncated"] is True
    assert got["forged.example"]["addresses"] == ["192.0.2.1"]
    assert got["broken.example"]["error"] == "malformed reply"
    assert got["a..b"]["error"]
    assert got["GPU-01.Example."]["addresses"]


def test_dns_silence_and_refusal() -> None:
    got = asked(NameServer(lambda query: []), "a.example", timeout=0.2)
    assert got["a.example"] | {"ms": 0} == {"addresses": [], "rcode": None, "ms": 0, "error": "timeout"}
    gone = names.query_all(["127.0.0.1", "not-an-address"], ["a.example"], 2.0, 1)
    assert gone["127.0.0.1"]["a.example"]["error"] == "ECONNREFUSED"
    assert gone["not-an-address"]["a.example"]["error"] == "not an address"


def test_dns_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "resolv.conf"
    assert names.configured_servers(str(conf)) == []
    conf.write_text("# nameserver 9.9.9.9\nsearch x\nnameserver 192.0.2.1\n nameserver 192.0.2.2 # x\nnameserver\n")
    assert names.configured_servers(str(conf)) == [("192.0.2.1", "resolv.conf"), ("192.0.2.2", "resolv.conf")]
    conf.write_text("nameserver 127.0.0.53\n")
    monkeypatch.setattr(names, "_from_resolvectl", lambda: ["192.0.2.9"])
    assert names.configured_servers(str(conf)) == [("192.0.2.9", "resolvectl")]
    monkeypatch.setattr(names, "_from_resolvectl", list)
    monkeypatch.setattr(names, "UPLINK_CONF", str(tmp_path / "none"))
    assert names.configured_servers(str(conf)) == [("127.0.0.53", "resolv.conf")]
    assert names.dns({"names": ["x"], "resolv_conf": str(tmp_path / "none")}) == {"value": {"servers": []}}


def test_resolvectl_output() -> None:
    output = (
        "Global:\nLink 2 (eth0): 192.0.2.1#dns.example 2001:db8::1%2\n"
        "Link 3 (x): 192.0.2.1 [2001:db8::2]:53 192.0.2.3:53\n"
    )
    assert names.servers_in_resolvectl(output) == ["192.0.2.1", "2001:db8::1%2", "2001:db8::2", "192.0.2.3"]


@given(st.binary(min_size=12, max_size=80), st.integers(12, 40))
def test_any_reply_gives_an_answer(datagram: bytes, at: int) -> None:
    assert set(names._reply(datagram, at, 0.0)) >= {"addresses", "rcode", "ms", "error"}


class Site(http.server.BaseHTTPRequestHandler):
    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Proxy-Authorization")))
        path = self.path.partition("//")[2].partition("/")[2] or self.path.lstrip("/")
        if path == "moved":
            self.send_response(302)
            self.send_header("Location", "/there")
        elif path == "loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
        else:
            self.send_response({"missing": 404, "broken": 503}.get(path, 200))
        self.end_headers()
        self.wfile.write(b"y" * 5000)

    def do_CONNECT(self) -> None:
        self.seen.append((self.path, self.headers.get("Proxy-Authorization")))
        self.send_error(407)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    Site.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def fetch(*urls: str, **args: object) -> dict:
    value = web.get({"urls": list(urls), "timeout": 3.0, "total": 8.0, "limit": 100, "proxy": "-", **args})["value"]
    assert isinstance(value, dict)
    return value


def test_http(site: str) -> None:
    base = f"http://{site}"
    urls = [f"{base}/{path}" for path in ("fine", "missing", "broken", "moved", "loop")]
    got = fetch(*urls, "http://127.0.0.1:1/", "http://no-such-host.invalid/", "nonsense", "ftp://x/")
    assert [got[url]["status"] for url in urls] == [200, 404, 503, 200, 302]
    assert got[urls[0]]["body"] == "y" * 100
    assert got[urls[0]]["via_proxy"] is False
    assert got[urls[0]]["dns_ms"] is not None
    assert (got["http://127.0.0.1:1/"]["kind"], got["http://127.0.0.1:1/"]["error"]) == ("connect", "ECONNREFUSED")
    assert got["http://no-such-host.invalid/"]["kind"] == "dns"
    assert got["nonsense"]["kind"] == got["ftp://x/"]["kind"] == "http"


def test_http_from_the_collector(host: Host, site: str) -> None:
    got = host.value(raw.http("h", f"http://{site}/fine", proxy="-"))
    assert isinstance(got, dict)
    assert got[f"http://{site}/fine"]["status"] == 200


def test_http_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        assert fetch(url, timeout=0.2)[url]["kind"] == "timeout"
        assert fetch(url, timeout=30.0, total=0.2)[url]["kind"] == "timeout"


def test_http_that_is_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def greet() -> None:
            with odd.accept()[0] as connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{odd.getsockname()[1]}/"
        assert fetch(url)[url]["kind"] in ("http", "connect")
        thread.join(5)


def test_a_proxy_gets_the_whole_url_and_its_password_stays_secret(site: str) -> None:
    proxy = f"http://ops:s3cret@{site}"
    got = fetch("http://mirror.example/x", "https://mirror.example/y", proxy=proxy)
    assert (got["http://mirror.example/x"]["status"], got["http://mirror.example/x"]["via_proxy"]) == (200, True)
    assert got["https://mirror.example/y"]["kind"] == "http"
    assert {
        ("http://mirror.example/x", "Basic b3BzOnMzY3JldA=="),
        ("mirror.example:443", "Basic b3BzOnMzY3JldA=="),
    } == (set(Site.seen))
    assert "s3cret" not in json.dumps(got)
    bad = fetch("http://mirror.example/x", proxy="http://ops:s3cret@127.0.0.1:notaport")
    assert bad["http://mirror.example/x"]["kind"] == "http"
    assert "s3cret" not in json.dumps(bad)


def test_proxies_come_from_the_hosts_configuration(tmp_path: Path) -> None:
    texts = {
        "environment": 'PATH="/usr/bin"\nhttps_proxy="http://env.example:1"\nNO_PROXY=10.0.0.0/8,.corp.example\n',
        "apt.conf": '// Acquire::http::Proxy "http://comment.example";\nAcquire::http::Proxy "http://apt.example:2";\n'
        'Acquire::https::Proxy "DIRECT";\n',
        "docker.conf": '[Service]\nEnvironment="HTTP_PROXY=http://docker.example:3" "HTTPS_PROXY=http://docker.example:3"\n',
        "pip.conf": "[global]\nproxy = http://pip.example:4\n",
    }
    for name, content in texts.items():
        (tmp_path / name).write_text(content)
    patterns = dict(zip(texts, (web.PROXY_SOURCES[n][1] for n in (0, 1, 3, 4)), strict=True))

    def found(*files: str) -> dict[str, str]:
        return web.configured_proxies(tuple((str(tmp_path / name), patterns[name]) for name in files))

    assert found(*texts) == {
        "http": "http://apt.example:2",
        "https": "http://env.example:1",
        "no": "10.0.0.0/8,.corp.example",
    }
    assert found("docker.conf") == {"http": "http://docker.example:3", "https": "http://docker.example:3"}
    assert found("pip.conf") == {"http": "http://pip.example:4", "https": "http://pip.example:4"}
    proxies = found(*texts)
    assert web.proxy_for("pypi.org", "https", proxies) == "http://env.example:1"
    for inside in ("10.1.2.3", "corp.example", "git.corp.example"):
        assert web.proxy_for(inside, "https", proxies) == ""
    assert web.proxy_for("notcorp.example", "https", proxies)


def certificate(folder: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "cert.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(tmp_path))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://localhost:{server.server_port}/fine"
        got = fetch(url)[url]
        server.shutdown()
    assert (got["status"], got["kind"], got["insecure_status"]) == (None, "tls", 200)
    assert "certificate" in got["error"] or "self" in got["error"]
