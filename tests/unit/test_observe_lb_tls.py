"""lb.tls: real handshakes with a small TLS server, well and sick in one way at a time."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from dstui.catalogue import Catalogue, load_catalogue
from dstui.facts.case import FleetCase, Params
from dstui.facts.certificate import parse_certificate
from dstui.facts.lb_tls import Certificate, LbTls, Offer
from dstui.facts.raw import Missing
from dstui.gather import lb_tls as asked
from dstui.gather.observing import Observing
from dstui.inventory import load_inventory
from dstui.judge import lb_tls
from dstui.model import Reason, Ruling, Verdict

PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, and what issued it."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        form = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def issue(
    name: str,
    by: Issued | None = None,
    *,
    ca: bool = False,
    days: float = 90,
    began: float = -400,
    sans: tuple[str, ...] = ("127.0.0.1", "localhost"),
    key: Key | None = None,
) -> Issued:
    """Self-signed without `by`. `began` and `days` are when it is valid, in days from now."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = by.key if by is not None else own
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by is not None else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + began * DAY)
        .not_valid_after(NOW + days * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if ca:
        builder = builder.add_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True
        )
    else:
        names = [_general(each) for each in sans]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Issued(builder.sign(signer, hashes.SHA256()), own)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


ROOT = issue("Unit Root", ca=True)
MIDDLE = issue("Unit Intermediate", ROOT, ca=True)
LEAF = issue("leaf", MIDDLE)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


def context(
    folder: Path, leaf: Issued, *chain: Issued, versions: tuple[ssl.TLSVersion, ssl.TLSVersion] | None = None
) -> ssl.SSLContext:
    (folder / "chain.pem").write_bytes(b"".join(each.pem for each in (leaf, *chain)))
    (folder / "key.pem").write_bytes(leaf.key_pem)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made.minimum_version, made.maximum_version = versions or (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    made.set_ciphers("ALL:@SECLEVEL=0")
    made.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    return made


class Server:
    """Answers 200 to whatever comes. In threads: asyncio's own TLS server hangs up before its alerts are sent."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Server:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self.socket.close()

    def _accept(self) -> None:
        while True:
            try:
                taken, _ = self.socket.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._answer, args=(taken,)))
            self._threads[-1].start()

    def _answer(self, taken: socket.socket) -> None:
        try:
            taken.settimeout(10)
            with self.tls.wrap_socket(taken, server_side=True) if self.tls else taken as line:
                if line.recv(65_536):
                    line.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nStrict-Transport-Security: max-age=31536000\r\n"
                        b"Connection: close\r\n\r\n"
                    )
        except OSError:
            pass
        finally:
            taken.close()


INVENTORY = """\
version: 1
cluster: {{name: ds-unit, environment: lab, timezone: UTC}}
ssh: {{user: ops}}
hosts: [{{name: gpu-01, roles: [head], data_ip: 127.0.0.1, gpu: true, gpus_per_host: 1}}]
model: {{path: /m, served_name: m}}
endpoints: {{api: "{url}"}}
lb: {{ca_bundle: "{bundle}"}}
"""

Judged = Callable[[LbTls], Ruling]


@asynccontextmanager
async def world(
    folder: Path, catalogue: Catalogue, url: str, bundle: Issued | None = ROOT, **params: object
) -> AsyncIterator[tuple[LbTls, Ruling]]:
    (folder / "ca.pem").write_bytes((bundle or issue("nobody's", ca=True)).pem)
    (folder / "inventory.yaml").write_text(INVENTORY.format(url=url, bundle=folder / "ca.pem"))
    inventory = load_inventory(folder / "inventory.yaml")

    def parameters(check_id: str, host: str | None) -> Params:
        known = {p.name: p.threshold() for p in catalogue.check(check_id).params}
        told: Mapping[str, object] = {"http_redirect": False, **params}
        return Params([replace(t, value=told.get(name, t.value)) for name, t in known.items()])

    seen = await asked.observe_lb_tls(Observing(inventory, inventory.site(), parameters, {}, {}, "unit"))
    assert isinstance(seen, LbTls)
    case = FleetCase(inventory.site(), {}, parameters("lb.tls", None), {}, {LbTls: seen}, time.time())
    (ruling,) = lb_tls.judge(case)
    yield seen, ruling


async def ruled(
    folder: Path,
    catalogue: Catalogue,
    tls: ssl.SSLContext | None,
    *,
    host: str = "127.0.0.1",
    bundle: Issued | None = ROOT,
    **params: object,
) -> tuple[LbTls, Ruling]:
    with Server(tls) as server:
        async with world(folder, catalogue, f"https://{host}:{server.port}", bundle, **params) as found:
            return found


def words(ruling: Ruling) -> str:
    return "\n".join((ruling.observed.en, ruling.rule.en, *(note.en for note in ruling.notes)))


async def test_as_it_should_be(tmp_path: Path, catalogue: Catalogue) -> None:
    seen, ruling = await ruled(tmp_path, catalogue, context(tmp_path, LEAF, MIDDLE))
    assert ruling.verdict is PASS, words(ruling)
    assert seen.seen is not None and not isinstance(seen.seen.chain, Missing)
    assert [each.subject for each in seen.seen.chain] == ["CN=leaf", "CN=Unit Intermediate"]
    offers = {version: each.offer for version, each in seen.seen.versions.items()}
    assert offers == {"1.0": Offer.REFUSED, "1.1": Offer.REFUSED, "1.2": Offer.TAKEN, "1.3": Offer.TAKEN}
    assert "ALERT" in seen.seen.versions["1.0"].why
    shown = seen.evidence(ruling.target)
    assert "sha256: " in shown[0].output and shown[0].key.startswith("lb.tls")


@pytest.mark.parametrize(
    ("leaf", "chain", "bundle", "host", "verdict", "said"),
    [
        (issue("leaf", MIDDLE, days=-1), (MIDDLE,), ROOT, "127.0.0.1", FAIL, "the certificate expired at"),
        (issue("leaf", MIDDLE, days=6.9), (MIDDLE,), ROOT, "127.0.0.1", FAIL, "6.9 days left"),
        (issue("leaf", MIDDLE, days=7.1), (MIDDLE,), ROOT, "127.0.0.1", WARN, "7 days left"),
        (issue("leaf", MIDDLE, days=29.9), (MIDDLE,), ROOT, "127.0.0.1", WARN, "30 days left"),
        (issue("leaf", MIDDLE, days=30.1), (MIDDLE,), ROOT, "127.0.0.1", PASS, "30 days"),
        (issue("leaf", MIDDLE, began=1), (MIDDLE,), ROOT, "127.0.0.1", FAIL, "valid only from"),
        (issue("leaf", MIDDLE, sans=("other.example",)), (MIDDLE,), ROOT, "127.0.0.1", FAIL, "for other.example, not"),
        (issue("leaf", MIDDLE, sans=("127.0.0.1",)), (MIDDLE,), ROOT, "localhost", FAIL, "not for localhost"),
        (issue("leaf", MIDDLE, sans=("o.example",), days=-1), (MIDDLE,), ROOT, "127.0.0.1", FAIL, "expired at"),
        (issue("leaf", None), (), ROOT, "127.0.0.1", FAIL, "self-signed"),
        (LEAF, (MIDDLE, ROOT), None, "127.0.0.1", FAIL, "root is not trusted"),
        (LEAF, (MIDDLE,), None, "127.0.0.1", FAIL, "issuer is not trusted"),
        (LEAF, (), ROOT, "127.0.0.1", FAIL, "serve fullchain.pem"),
        (
            issue("leaf", MIDDLE, key=rsa.generate_private_key(65537, 1024)),
            (MIDDLE,),
            ROOT,
            "127.0.0.1",
            WARN,
            "only 1024 bits",
        ),
        (
            issue("leaf", m := issue("Old Intermediate", ROOT, ca=True, days=-2)),
            (m,),
            ROOT,
            "127.0.0.1",
            FAIL,
            "of the chain is out of its time",
        ),
    ],
)
async def test_certificates(
    tmp_path: Path,
    catalogue: Catalogue,
    leaf: Issued,
    chain: tuple[Issued, ...],
    bundle: Issued | None,
    host: str,
    verdict: Verdict,
    said: str,
) -> None:
    _, ruling = await ruled(tmp_path, catalogue, context(tmp_path, leaf, *chain), host=host, bundle=bundle)
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


async def test_a_self_signed_certificate_that_is_the_named_bundle(tmp_path: Path, catalogue: Catalogue) -> None:
    own = issue("own", None, ca=True)
    alone = Issued(own.certificate, own.key)
    _, ruling = await ruled(tmp_path, catalogue, context(tmp_path, alone), bundle=alone)
    # It has no name at all; that it is trusted is another matter.
    assert "not trusted" not in words(ruling)


async def test_both_an_expired_certificate_and_a_wrong_name_are_told(tmp_path: Path, catalogue: Catalogue) -> None:
    leaf = issue("leaf", MIDDLE, sans=("o.example",), days=-1)
    _, ruling = await ruled(tmp_path, catalogue, context(tmp_path, leaf, MIDDLE))
    assert "expired at" in words(ruling) and "is for o.example" in words(ruling)


async def test_an_intermediate_that_only_we_have(tmp_path: Path, catalogue: Catalogue) -> None:
    both = context(tmp_path, LEAF)
    (tmp_path / "ca.pem").write_bytes(ROOT.pem + MIDDLE.pem)
    bundle = type("Both", (), {"pem": ROOT.pem + MIDDLE.pem})()
    _, ruling = await ruled(tmp_path, catalogue, both, bundle=bundle)
    assert ruling.verdict is WARN, words(ruling)
    assert "does not send the intermediate CN=Unit Intermediate" in words(ruling)


@pytest.mark.parametrize(
    ("low", "high", "least", "verdict", "said"),
    [
        (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_3, "1.2", FAIL, "TLS 1.0 is accepted"),
        (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, "1.2", FAIL, "TLS 1.1 is accepted"),
        (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1, "1.2", FAIL, "TLS 1.2 or newer is refused"),
        (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, "1.2", PASS, "TLS 1.2"),
        (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3, "1.2", PASS, "TLS 1.3"),
        (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, "1.3", FAIL, "TLS 1.2 is accepted"),
    ],
)
async def test_versions(
    tmp_path: Path,
    catalogue: Catalogue,
    low: ssl.TLSVersion,
    high: ssl.TLSVersion,
    least: str,
    verdict: Verdict,
    said: str,
) -> None:
    tls = context(tmp_path, LEAF, MIDDLE, versions=(low, high))
    _, ruling = await ruled(tmp_path, catalogue, tls, tls_min=least)
    assert ruling.verdict is verdict, words(ruling)
    assert said in words(ruling)


async def test_what_this_openssl_cannot_offer_was_not_refused(
    tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own choice of ciphers has none for TLS 1.0, and a naive probe takes that for a refusal."""
    monkeypatch.setattr(asked, "_OLD_CIPHERS", "ECDHE+AESGCM")
    seen, ruling = await ruled(tmp_path, catalogue, context(tmp_path, LEAF, MIDDLE))
    assert seen.seen is not None
    assert seen.seen.versions["1.0"].offer is Offer.NOT_OFFERED
    assert (ruling.verdict, ruling.reason) == (UNKNOWN, Reason.TOOL_MISSING)
    assert "cannot offer" in words(ruling)


async def test_a_server_that_hangs_up_on_old_versions_did_not_say_no(tmp_path: Path, catalogue: Catalogue) -> None:
    """A middlebox that looks into the ClientHello and cuts the line."""

    passing: list[asyncio.Task[None]] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = asyncio.current_task()
        assert mine is not None
        passing.append(mine)
        hello = await reader.read(4096)
        if hello[9:11] in (b"\x03\x01", b"\x03\x02"):
            writer.transport.abort()
            return
        other, to = await asyncio.open_connection("127.0.0.1", inner.port)
        to.write(hello)
        await asyncio.gather(_pump(reader, to), _pump(other, writer))

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with Server(context(tmp_path, LEAF, MIDDLE)) as inner:
        async with world(tmp_path, catalogue, url) as (seen, ruling):
            assert seen.seen is not None and seen.seen.versions["1.1"].offer is Offer.CLOSED
            assert ruling.verdict is UNKNOWN and "without an alert" in words(ruling)
        server.close()
        await asyncio.gather(*passing)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def test_no_tls_where_it_should_be(tmp_path: Path, catalogue: Catalogue) -> None:
    _, ruling = await ruled(tmp_path, catalogue, None)
    assert ruling.verdict is FAIL, words(ruling)
    assert "does not speak TLS" in words(ruling)


async def test_nobody_at_home(tmp_path: Path, catalogue: Catalogue) -> None:
    with Server(None) as server:
        pass
    async with world(tmp_path, catalogue, f"https://127.0.0.1:{server.port}") as (_, ruling):
        assert (ruling.verdict, ruling.reason) == (UNKNOWN, Reason.UNREACHABLE)


async def test_somebody_who_never_answers(
    tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(asked, "HANDSHAKE_SECONDS", 0.1)

    silent = socket.create_server(("127.0.0.1", 0))
    async with world(tmp_path, catalogue, f"https://127.0.0.1:{silent.getsockname()[1]}") as (_, ruling):
        assert (ruling.verdict, ruling.reason) == (UNKNOWN, Reason.TIMEOUT), words(ruling)
    silent.close()


async def test_plain_http(tmp_path: Path, catalogue: Catalogue) -> None:
    with Server(None) as server:
        async with world(tmp_path, catalogue, f"http://127.0.0.1:{server.port}") as (_, ruling):
            assert ruling.verdict is FAIL and "no TLS" in words(ruling)


def test_a_certificate_is_read() -> None:
    found = parse_certificate(LEAF.certificate.public_bytes(serialization.Encoding.DER))
    assert isinstance(found, Certificate)
    assert (found.subject, found.issuer, found.key, found.bits) == ("CN=leaf", "CN=Unit Intermediate", "ECDSA", 256)
    assert found.names == ("localhost", "127.0.0.1") and found.hash == "sha256" and not found.self_issued


DER = LEAF.certificate.public_bytes(serialization.Encoding.DER)


@given(
    st.binary(max_size=300) | st.builds(lambda n, b: DER[:n] + b + DER[n + len(b) :], st.integers(0, 500), st.binary())
)
def test_any_bytes_are_a_certificate_or_missing(der: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert isinstance(parse_certificate(der), Certificate | Missing)
