"""Secrets and terminal controls do not get past the Redactor, on any input, in linear time."""

from __future__ import annotations

import json
import time
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstui.model import EVIDENCE_HEAD_BYTES, Evidence
from dstui.redact import PATTERNS, Redactor, clean, secret_shape


class Known:
    """Secrets that have been resolved, as a store would give them."""

    def __init__(self, *values: str) -> None:
        self.values = list(values)

    def resolved(self) -> tuple[tuple[str, str], ...]:
        return tuple((f"env:S{i}", value) for i, value in enumerate(self.values))


VALUE = "p/a+s=s wörd&%41"

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc/def+==\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl-_"


def evidence(output: str, *, source: str = "cat x", error: str = "", size: int | None = None) -> Evidence:
    return Evidence(
        "k", source, 0, output, len(output.encode("utf-8", "replace")) if size is None else size, 0.1, error
    )


@pytest.mark.parametrize(
    "form",
    [
        VALUE,
        quote(VALUE, safe=""),
        quote(VALUE),
        quote_plus(VALUE),
        quote(VALUE, safe="").replace("%2F", "%2f").replace("%2B", "%2b").replace("%C3%B6", "%c3%b6")
        .replace("%3D", "%3d"),
        json.dumps(VALUE)[1:-1],
        b64encode(VALUE.encode()).decode(),
        b64encode(f"u:{VALUE}".encode()).decode(),
        b64encode(f"us:{VALUE}".encode()).decode(),
        b64encode(f"usr:{VALUE}:x".encode()).decode(),
        urlsafe_b64encode(f"u:{VALUE}".encode()).decode(),
    ],
)  # fmt: skip
def test_known_values_are_masked_in_every_encoding(form: str) -> None:
    masked = Redactor(Known(VALUE)).text(f"before {form} after")
    assert "‹env:S0›" in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert len(masked) < len("before ‹env:S0› after") + 12, "only the edges of a base64 group may stay"


def test_values_that_are_resolved_later_are_masked_too() -> None:
    known = Known()
    redactor = Redactor(known)
    assert redactor.text("opensesame") == "opensesame"
    known.values.append("opensesame")
    assert redactor.text("opensesame") == "‹env:S0›"


def test_the_longer_of_two_values_wins() -> None:
    assert Redactor(Known("opensesame", "opensesame-2")).text("opensesame-2 opensesame") == "‹env:S1› ‹env:S0›"


def test_values_too_short_to_search_for_are_left() -> None:
    assert Redactor(Known("abc", "1")).text("abc 1") == "abc 1"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("key sk-abcdefghij_klmnopqrst end", "key ‹sk-key:24› end"),
        ("sk-short", "sk-short"),
        ("sk-abcdefghijklmnopqrs", "sk-abcdefghijklmnopqrs"),
        ("hf_" + "a" * 30, "‹hf-token:33›"),
        ("hf_" + "a" * 29, "hf_" + "a" * 29),
        ("AKIA" + "ABCD" * 4 + "x", "‹aws-key:20›x"),
        ("LTAI" + "a1" * 6, "‹aliyun-key:16›"),
        ("ghp_" + "a" * 36, "‹github-token:40›"),
        ("Bearer abcdefghijklmnop==", "Bearer ‹bearer:18›"),
        ("bearer of bad news", "bearer of bad news"),
        (f"x_{JWT} y", f"x_‹jwt:{len(JWT)}› y"),
        ("eyJ0.eyJ1", "eyJ0.eyJ1"),
        (f"a\n{PEM}\nb", f"a\n‹private-key:{len(PEM)}›\nb"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "‹private-key:32›"),
        ("-----BEGIN CERTIFICATE-----\nMIIE", "-----BEGIN CERTIFICATE-----\nMIIE"),
        ("password=hunter2hunter2", "password=‹assigned:14›"),
        ("PASSWORD: hunter2x", "PASSWORD: ‹assigned:8›"),
        ("password: short", "password: short"),
        ('{"token": "abc defg hij", "n": 1}', '{"token": "‹assigned:12›", "n": 1}'),
        ('{"token":"a\\"bcdefgh","n":1}', '{"token":"‹assigned:10›","n":1}'),
        ('{\\"secret\\":\\"abcdefgh\\"}', '{\\"secret\\":\\"‹assigned:11›'),
        ("--api-key sk-1234567", "--api-key ‹assigned:10›"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: ‹authorization:18›"),
        ("curl -H 'Authorization: Token abcd' http://x", "curl -H 'Authorization: ‹authorization:10›' http://x"),
        ("http://user:p@ss/w@proxy:3128/", "http://user:‹url-login:1›@ss/w@proxy:3128/"),
        ("HTTP_PROXY=http://user:p@ss@proxy:3128/", "HTTP_PROXY=http://user:‹url-login:4›@proxy:3128/"),
        ("http://proxy:3128/ a@b", "http://proxy:3128/ a@b"),
        ("passwordauthentication no\npermitemptypasswords no", "passwordauthentication no\npermitemptypasswords no"),
        ("max_num_batched_tokens=8192", "max_num_batched_tokens=8192"),
        ("内存 512 GiB", "内存 512 GiB"),
    ],
)
def test_credential_patterns(text: str, masked: str) -> None:
    assert Redactor().text(text) == masked
    assert Redactor().octets(text.encode()) == masked.encode()


def test_bytes_that_are_not_utf8_survive() -> None:
    assert (
        Redactor().octets(b"\xff\x00 password=hunter2hunter2 \x80")
        == b"\xff\x00 password=\xe2\x80\xb9assigned:14\xe2\x80\xba \x80"
    )


def test_every_pattern_names_signs_of_all_its_matches() -> None:
    samples = {
        "private-key": PEM, "authorization": "authorization: abcdefgh", "url-login": "a://b:c@d",
        "sk-key": "sk-" + "a" * 20,
        "hf-token": "hf_" + "A" * 30, "aws-key": "AKIA" + "A" * 16, "aliyun-key": "LTAI" + "A" * 12,
        "github-token": "ghp_" + "A" * 36, "jwt": JWT, "bearer": "BEARER " + "a" * 16, "assigned": "api_key=12345678",
    }  # fmt: skip
    for shape in PATTERNS:
        assert shape.pattern.search(samples[shape.name])
        assert any(sign in samples[shape.name].lower() for sign in shape.signs)
        assert secret_shape(samples[shape.name]) is not None


def test_evidence_is_masked_and_cleaned_in_every_field() -> None:
    found = Redactor(Known("opensesame")).evidence(
        evidence("\x1b[31mopen\x1b[0msesame\x07\r\n", source="curl -u x:opensesame", error="bad opensesame\u202e")
    )
    assert found.output == "‹env:S0›\\x07\n"
    assert found.source == "curl -u x:‹env:S0›"
    assert found.error == "bad ‹env:S0›\\u202e"
    assert found.output_bytes == len("\x1b[31mopen\x1b[0msesame\x07\r\n")


@pytest.mark.parametrize("size", range(4, 20))
def test_a_value_that_the_head_cuts_off_is_masked(size: int) -> None:
    value = "opensesame-0123456789"
    output = ("x" * EVIDENCE_HEAD_BYTES)[: EVIDENCE_HEAD_BYTES - size - 1] + " " + value[:size]
    found = Redactor(Known(value)).evidence(evidence(output, size=EVIDENCE_HEAD_BYTES + 100))
    assert found.output.endswith(" ‹env:S0›")
    whole = Redactor(Known(value)).evidence(evidence(output))
    assert whole.output == output, "a text that was not cut is not the beginning of a secret"


@pytest.mark.parametrize(
    "tail",
    ["sk-abc", "hf_abc", "AKIA12", "LTAI1", "ghp_abc", "Bearer abc", "eyJhb.eyJ", "password=hunt", "http://u:hunt",
     "Authorization: Basic abc"],
)  # fmt: skip
def test_a_credential_that_the_head_cuts_off_is_masked(tail: str) -> None:
    found = Redactor().evidence(evidence(f"line\n{tail}", size=EVIDENCE_HEAD_BYTES + 1))
    assert tail not in found.output
    assert found.output.startswith("line\n")
    assert Redactor().evidence(evidence(f"line\n{tail}")).output == f"line\n{tail}" or tail.startswith("Authorization")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\nnext", "plain\ttext\nnext"),
        ("a\r\nb", "a\nb"),
        ("a\rb", "a\\x0db"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP1$r\x1b\\x", "x"),
        ("\x1b(Bx\x1b7y\x1bcz", "xyz"),
        ("\x9b31mred", "red"),
        ("\x1b[31", "\\x1b[31"),
        ("\x1b]never ended", "\\x1b]never ended"),
        ("\x1b", "\\x1b"),
        ("\x1b\x1b[0m[31mx", "\\x1b[31mx"),
        ("nul\x00 bel\x07 del\x7f nel\x85", "nul\\x00 bel\\x07 del\\x7f nel\\x85"),
        ("\u202eevil\u2066x\u200f\u061c", "\\u202eevil\\u2066x\\u200f\\u061c"),
        ("a\u2028b\ufeff\u200b", "a\\u2028b\\ufeff\\u200b"),
        ("raw \udcff lone \ud800", "raw \\xff lone \\ud800"),
        ("机架三 👩‍💻 é", "机架三 👩‍💻 é"),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


@settings(max_examples=200, deadline=None)
@given(st.text(st.one_of(st.characters(), st.sampled_from("\x1b\x9b[]0;m\r\n\x07\\P"))))
def test_cleaned_text_has_no_controls_and_stays_so(text: str) -> None:
    cleaned = clean(text)
    assert all(c in "\n\t" or (c >= " " and not 0x7F <= ord(c) <= 0x9F) for c in cleaned)
    assert not any(c in cleaned for c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\x1b")
    cleaned.encode("utf-8")
    assert clean(cleaned) == cleaned


_SECRETS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=6, max_size=24).filter(
    lambda value: value.strip() and not set(value) & set("‹›") and not any(value in f"‹env:S{i}›" for i in range(3))
)
_AROUND = st.text(st.sampled_from("ab ./:=\"'%\n\x1b["), max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.lists(_SECRETS, min_size=1, max_size=3), _AROUND, _AROUND, st.data())
def test_no_known_value_is_left(values: list[str], before: str, after: str, data: st.DataObject) -> None:
    value = data.draw(st.sampled_from(values))
    for form in (value, quote(value, safe=""), b64encode(value.encode()).decode().rstrip("=")):
        found = Redactor(Known(*values)).evidence(evidence(before + form + after))
        bare = found.output
        for i in range(len(values)):
            bare = bare.replace(f"‹env:S{i}›", "‹›")
        assert value not in bare


_CREDENTIALS = st.one_of(
    st.builds("sk-{}".format, st.text("abcXYZ019_-", min_size=20, max_size=40)),
    st.builds("hf_{}".format, st.text("abcXYZ019", min_size=30, max_size=40)),
    st.builds("AKIA{}".format, st.text("ABCXYZ019", min_size=16, max_size=16)),
    st.builds("eyJ{}.{}.{}".format, *[st.text("abcXYZ019_-", min_size=3, max_size=9)] * 3),
    st.builds("token={}".format, st.text("abcXYZ019!$", min_size=8, max_size=20)),
)


@settings(max_examples=200, deadline=None)
@given(_CREDENTIALS, _AROUND, _AROUND)
def test_no_credential_is_left_and_masking_twice_changes_nothing(credential: str, before: str, after: str) -> None:
    once = Redactor().text(f"{before} {credential} {after}")
    assert credential not in once
    assert Redactor().text(once) == once


ADVERSE = [
    "eyJ", "eyJa.", "a", "sk-", "bearer ", "bearer" + " " * 50, "password=", "password ", "token", 'token"', "secret\\",
    "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "://a:", "://", "a:", "authorization: ", "\x1b", "\x1b[", "\x1b]",
    "\x1b[1", '"', "'", " ", "\\", ".", "@", "\n", "opensesam",
]  # fmt: skip


@pytest.mark.parametrize("unit", ADVERSE)
def test_time_grows_with_the_text_only(unit: str) -> None:
    redactor = Redactor(Known("opensesame"))
    output = (unit * (300_000 // len(unit) + 1))[:300_000]
    for text in (output, "password=" + output, "eyJ" + output, "://u:" + output, '"token": "' + output):
        began = time.perf_counter()
        redactor.evidence(evidence(text, size=10**6))
        assert time.perf_counter() - began < 3.0, "quadratic time would take minutes"


def test_a_fleet_of_evidence_takes_well_under_a_second() -> None:
    line = (
        "Nov 24 06:00:11 gpu-01 kernel: NVRM: Xid (PCI:0000:3b:00): 13, token count, password auth, api.key bearer x\n"
    )
    pieces = [evidence((line * 600)[:60_000]) for _ in range(64)]
    redactor = Redactor(Known(*(f"s3cret-value-{i}/+ " for i in range(8))))
    redactor.evidence(pieces[0])
    began = time.process_time()
    for piece in pieces:
        redactor.evidence(piece)
    assert time.process_time() - began < 1.5


def test_a_sentence_keeps_its_prose_and_loses_its_secrets() -> None:
    redactor = Redactor()
    assert redactor.sentence("PermitRootLogin prohibit-password (defaults, files)").endswith("(defaults, files)")
    assert "hunter2hunter2" not in redactor.sentence("api_key=hunter2hunter2")
    assert "hunter2hunter2" not in redactor.sentence("sudo: password: hunter2hunter2")
    assert "\x1b" not in redactor.sentence("red \x1b[31m")
