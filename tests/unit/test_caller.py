"""Single requests against real servers on loopback: good ones, sick ones and hostile ones; and no key in any word."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import shlex
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dstui.facts.exchange import Exchange, Exchanges, Fault
from dstui.facts.raw import Missing
from dstui.gather.caller import PATIENT_TRIES, Credential, caller, curl_line, joined
from dstui.inventory.secrets import Secret
from dstui.model import Reason, Target, TargetKind

KEY = "sk-very-secret-0123456789"
SECONDS = 5.0

Say = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(say: Say, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that hands each request's head to `say` until it closes; gives its base URL."""
    talking: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                await say(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        writer.close()
        talking.discard(task)

    server = await asyncio.start_server(talk, host, 0, ssl=tls)
    try:
        where = f"[{host}]" if ":" in host else host
        yield f"{'https' if tls else 'http'}://{where}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(talking):
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)


def response(body: bytes = b"fine", status: str = "200 OK", *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


def always(answer: bytes, *, close: bool = False) -> Say:
    async def say(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        if close:
            writer.close()

    return say


async def ask(url: str, **more: object) -> Exchange:
    async with caller(seconds=SECONDS) as one:
        return await one.call("x", "GET", url, **{"seconds": SECONDS, **more})  # type: ignore[arg-type]


async def test_an_answer_with_everything_about_it() -> None:
    async with serving(always(response(b'{"a": 1}', "200 OK", "Content-Type: Application/JSON; charset=utf-8"))) as url:
        found = await ask(f"{url}/v1")
    assert (found.status, found.kind, found.json(), found.missing, found.fault) == (
        200, "application/json", {"a": 1}, None, None,
    )  # fmt: skip
    assert found.first is not None and found.arrivals and found.when(8) == found.arrivals[-1][0]
    assert found.when(9) is None
    assert "HTTP 200" in found.evidence().output and found.evidence().output.endswith('{"a": 1}')


async def test_the_key_is_sent_and_stands_nowhere() -> None:
    heads: list[bytes] = []

    async def say(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        writer.write(response(KEY.encode()[:0], "401 Unauthorized", "Set-Cookie: session=abc"))

    credential = Credential.of(Secret(KEY, "secrets.api_key"))
    async with serving(say) as url:
        found = await ask(url, credential=credential)
    assert f"authorization: bearer {KEY}".lower() in heads[0].decode().lower()
    assert "accept-encoding: identity" in heads[0].decode().lower()
    for shown in (repr(found), repr(credential), found.curl, repr(found.evidence())):
        assert KEY not in shown
    assert '"Authorization: Bearer $API_KEY"' in found.curl
    assert "session=abc" not in found.evidence().output


@pytest.mark.parametrize(
    "value", [f"{KEY}\n", f" {KEY}", f"{KEY[:8]}\n{KEY[8:]}", f"{KEY}密", f"{KEY}\x7f"], ids=range(5)
)
async def test_a_key_that_is_no_header_is_not_sent_and_not_told(value: str) -> None:
    heads: list[bytes] = []

    async def say(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        writer.write(response())

    async with serving(say) as url:
        found = await ask(url, credential=Credential.of(Secret(value, "file:/etc/key")))
    assert heads == []
    assert found.fault is Fault.NOT_SENT and found.missing is not None
    assert found.missing.reason is Reason.NO_CREDENTIAL and "file:/etc/key" in found.missing.why
    assert KEY[:8] not in repr(found)


async def test_a_header_that_the_library_refuses_is_not_quoted() -> None:
    async with serving(always(response())) as url:
        found = await ask(url, headers={"X-Token": f"{KEY}\nInjected: 1"})
    assert found.fault is Fault.NOT_SENT and found.missing is not None
    assert KEY not in found.missing.why


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("env:DSTUI_API_KEY", "$DSTUI_API_KEY"),
        ("file:/etc/my key", "$(cat '/etc/my key')"),
        ("secrets.api_key_revoked", "$API_KEY_REVOKED"),
        ("cmd:pass", "$DSTUI_API_KEY"),
    ],
)
def test_how_a_key_is_shown(label: str, shown: str) -> None:
    assert Credential.of(Secret(KEY, label)).shown == shown


def test_a_made_up_key_is_shown_and_safe_in_a_shell() -> None:
    line = curl_line("GET", "http://x/", {}, None, Credential.made_up("a$HOME`id`\\"), 1)
    assert shlex.split(line)[-2] == "Authorization: Bearer a\\$HOME\\`id\\`\\"
    assert "\\$HOME" in line and "\\`id\\`" in line


def test_the_curl_line_can_be_pasted() -> None:
    body = b'{"q": "it\'s; rm -rf $HOME"}'
    line = curl_line("POST", "http://x/a?b='c'", {"A": "b"}, body, None, 2.5)
    assert shlex.split(line) == [
        "curl", "-sS", "-i", "-m", "2.5", "-X", "POST", "-H", "A: b", "--data-binary", body.decode(), "http://x/a?b='c'",
    ]  # fmt: skip
    large = curl_line("POST", "http://x/", {}, b"x" * 5000, None, 1, via="gpu-01")
    assert large.endswith("# 5000 bytes, from gpu-01") and "xxx" not in large


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("https://h", "/v1/models", "https://h/v1/models"),
        ("https://h/", "/v1/models", "https://h/v1/models"),
        ("https://h/v1/", "/v1/models", "https://h/v1/models"),
        ("https://h/llm", "/docs", "https://h/llm/docs"),
        ("http://[::1]:8000", "health", "http://[::1]:8000/health"),
        ("https://h", "https://wiki/api", "https://wiki/api"),
    ],
)
def test_addresses(base: str, path: str, url: str) -> None:
    assert joined(base, path) == url


async def test_nobody_listens_there() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        found = await ask(f"http://127.0.0.1:{held.getsockname()[1]}/")
    assert found.fault is Fault.REFUSED and found.missing is not None
    assert found.missing.reason is Reason.UNREACHABLE and "connection refused" in found.missing.why
    assert found.status is None and found.evidence().error


async def test_a_name_that_does_not_exist() -> None:
    found = await ask("http://no-such-host.invalid/")
    assert found.fault is Fault.NAME and found.missing is not None and "does not resolve" in found.missing.why


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://", "http://a b/", "http://127.0.0.1:99999/", "\x00"])
async def test_an_impossible_address(url: str) -> None:
    found = await ask(url)
    assert found.missing is not None and found.fault in (Fault.NOT_SENT, Fault.ROUTE, Fault.NAME)


async def test_silence_ends_in_time_and_what_had_come_is_kept() -> None:
    async def half(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await reader.read()

    async def never(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(half) as url:
        found = await ask(url, seconds=0.3)
    assert (found.status, found.body, found.fault) == (200, b"half", Fault.TIMEOUT)
    assert isinstance(found.json(), Missing) and "did not finish" in (found.missing.why if found.missing else "")
    async with serving(never) as url:
        found = await ask(url, seconds=0.3)
    assert (found.status, found.fault) == (None, Fault.TIMEOUT)
    assert found.missing is not None and found.missing.reason is Reason.TIMEOUT and found.seconds < 3


async def test_a_slow_dripping_answer_is_bounded_in_all() -> None:
    """Each read comes in time, the whole never does."""

    async def drip(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with serving(drip) as url:
        found = await ask(url, seconds=0.5)
    assert found.fault is Fault.TIMEOUT and found.status == 200 and 1 < len(found.arrivals) < 20


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"\x00" * 64],
    ids=["nothing", "ssh", "half", "zeros"],
)
async def test_what_breaks_off(answer: bytes) -> None:
    async with serving(always(answer, close=True)) as url:
        found = await ask(url)
    assert found.fault is Fault.BROKE_OFF and found.missing is not None
    assert found.missing.reason is Reason.CANNOT_TELL


async def test_a_huge_body_is_cut_and_counted() -> None:
    async with serving(always(response(b"x" * 200_000), close=True)) as url:
        found = await ask(url, limit=1000)
    assert (len(found.body), found.cut, found.status) == (1000, True, 200)
    assert isinstance(found.json(), Missing)


async def test_a_client_that_goes_away() -> None:
    gone = asyncio.Event()

    async def stream(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n")
        await writer.drain()
        await reader.read()
        gone.set()

    async with serving(stream) as url:
        found = await ask(url, stop_after=1)
        async with asyncio.timeout(SECONDS):
            await gone.wait()
    assert found.cut and found.body == b"data: 1\n\n" and found.missing is None


async def test_cancelling_closes_the_connection() -> None:
    began, gone = asyncio.Event(), asyncio.Event()

    async def wait(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        began.set()
        await reader.read()
        gone.set()

    async with serving(wait) as url:
        task = asyncio.create_task(ask(url))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(SECONDS):
            await gone.wait()


async def test_compressed_unasked_is_said_and_not_blown_up() -> None:
    async with serving(always(response(b"\x1f\x8b", "200 OK", "Content-Encoding: gzip"))) as url:
        found = await ask(url)
    value = found.json()
    assert isinstance(value, Missing) and "gzip" in value.why


async def test_redirects_are_not_followed() -> None:
    async with serving(always(response(b"", "302 Found", "Location: http://127.0.0.1:1/"))) as url:
        found = await ask(url)
    assert (found.status, found.headers["location"]) == (302, "http://127.0.0.1:1/")


async def test_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        async with serving(always(response()), host="::1") as url:
            found = await ask(f"{url}/health")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    assert found.status == 200 and "[::1]" in found.curl


async def test_patience_with_a_rate_limiter() -> None:
    counts = iter(range(100))

    async def twice(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limited = response(b"", "429 Too Many Requests", "Retry-After: 0")
        writer.write(limited if next(counts) < 2 else response())

    async with serving(twice) as url:
        found = await ask(url, patient=True)
        assert (found.status, found.tries) == (200, 3)
    async with serving(always(response(b"", "429 Too Many Requests", "Retry-After: 0"))) as url:
        assert (await ask(url)).tries == 1
        found = await ask(url, patient=True)
        assert (found.status, found.tries) == (429, PATIENT_TRIES)
    async with serving(always(response(b"", "503 Service Unavailable", "Content-Type: application/json"))) as url:
        assert (await ask(url, patient=True)).tries == 1


async def test_patience_that_led_to_nothing_is_not_had_again_until_somebody_gets_through() -> None:
    answers = iter([*["429 Too Many Requests"] * (PATIENT_TRIES + 1), "200 OK", *["429 Too Many Requests"] * 9])

    async def one_after_the_other(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response(b"", next(answers), "Retry-After: 0"))

    async with serving(one_after_the_other) as url, caller(seconds=5.0) as asked:
        tries = [(await asked.call("k", "GET", url, seconds=5.0, patient=True)).tries for _ in range(4)]
    assert tries == [PATIENT_TRIES, 1, 1, PATIENT_TRIES]


async def test_many_headers_and_a_body_that_is_no_text() -> None:
    headers = [f"X-{number}: {'y' * 100}" for number in range(50)]
    async with serving(always(response(b"\xff\xfe\x1b[31m", "200 OK", *headers))) as url:
        found = await ask(url)
    assert found.status == 200 and isinstance(found.json(), Missing) and found.text
    async with serving(always(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000 + b"\r\n\r\n", close=True)) as url:
        assert (await ask(url)).fault is Fault.BROKE_OFF


def certificate(folder: Path, *, name: str = "127.0.0.1", ended: bool = False) -> ssl.SSLContext:
    """A server's context with a fresh self-signed certificate; `cert.pem` in the folder is it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    now = datetime.datetime.now(datetime.UTC)
    until = now - datetime.timedelta(days=1) if ended else now + datetime.timedelta(days=1)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@pytest.mark.parametrize(
    ("name", "ended", "trusted", "words"),
    [
        ("127.0.0.1", False, False, "self-signed"),
        ("127.0.0.1", True, True, "has expired"),
        ("127.0.0.9", False, True, "another"),
    ],
)
async def test_certificates_in_words(tmp_path: Path, name: str, ended: bool, trusted: bool, words: str) -> None:
    server = certificate(tmp_path, name=name, ended=ended)
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem") if trusted else None)
    async with serving(always(response()), tls=server) as url, caller(seconds=SECONDS, verify=trust) as one:
        found = await one.call("x", "GET", url, seconds=SECONDS)
    assert found.fault is Fault.TLS and found.missing is not None
    assert found.missing.reason is Reason.CANNOT_TELL
    assert words in found.missing.why and "_ssl.c" not in found.missing.why


async def test_a_certificate_that_is_right(tmp_path: Path) -> None:
    server = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    async with serving(always(response()), tls=server) as url, caller(seconds=SECONDS, verify=trust) as one:
        assert (await one.call("x", "GET", url, seconds=SECONDS)).status == 200


async def test_https_where_plain_http_is_spoken() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(response(b"", "400 Bad Request"))
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        found = await ask(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert found.fault is Fault.TLS and found.missing is not None and "is it http?" in found.missing.why


async def test_a_handshake_that_nobody_answers() -> None:
    async with serving(always(response())) as url:
        found = await ask(url.replace("http:", "https:"), seconds=0.3)
    assert found.missing is not None and found.missing.reason is Reason.TIMEOUT


def test_exchanges_by_key() -> None:
    came = Exchange("a.one", "GET", "http://x/", "curl", status=200)
    lost = Exchange("a.two", "GET", "http://x/", "curl", missing=Missing(Reason.TIMEOUT, "late"))
    both = Exchanges({came.key: came, lost.key: lost})
    assert both.get("a.one") is came
    assert both.get("a.two") == Missing(Reason.TIMEOUT, "late")
    absent = both.get("b")
    assert isinstance(absent, Missing) and absent.reason is Reason.NOT_RUN
    assert [e.key for e in both.with_prefix("a.")] == ["a.one", "a.two"]
    assert [e.key for e in both.evidence(Target(TargetKind.ENDPOINT, "http://x"))] == ["a.one", "a.two"]


@pytest.mark.parametrize("body", [b"\xef\xbb\xbf{}", b"{}"])
def test_json_with_a_mark_at_its_beginning(body: bytes) -> None:
    assert Exchange("x", "GET", "u", "c", status=200, body=body).json() == {}


@pytest.mark.parametrize("body", [b"\xff\xfe{\x00}\x00", b'"\xed\xa0\x80"', b"{" * 100_000, b"1" * 5000, b""])
def test_what_is_no_json(body: bytes) -> None:
    found = Exchange("x", "GET", "u", "c", status=200, body=body).json()
    assert isinstance(found, Missing) and found.reason is Reason.PARSE_ERROR
