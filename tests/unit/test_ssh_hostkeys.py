"""What a known_hosts file says, in all the forms that OpenSSH writes."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from pathlib import Path

import asyncssh
import pytest

from dstui.gather.hostkeys import HostKeys, Trusted, refusal
from dstui.model import GatherError


@pytest.fixture(scope="module")
def keys() -> list[asyncssh.SSHKey]:
    return [asyncssh.generate_private_key("ssh-ed25519").convert_to_public() for _ in range(3)]


def line(name: str, key: asyncssh.SSHKey) -> str:
    return f"{name} {key.export_public_key().decode()}"


@pytest.mark.parametrize(
    ("name", "host", "port", "verdict"),
    [
        ("gpu-01", "gpu-01", 22, Trusted.KNOWN),
        ("gpu-01", "GPU-01", 22, Trusted.KNOWN),
        ("gpu-01,192.0.2.1", "192.0.2.1", 22, Trusted.KNOWN),
        ("gpu-*", "gpu-01", 22, Trusted.KNOWN),
        ("gpu-*,!gpu-01", "gpu-01", 22, Trusted.NEW),
        ("[gpu-01]:2222", "gpu-01", 2222, Trusted.KNOWN),
        ("[gpu-01]:2222", "gpu-01", 22, Trusted.NEW),
        ("[gpu-01]:2222", "gpu-01", 2223, Trusted.NEW),
        ("gpu-01", "gpu-01", 2222, Trusted.KNOWN),
        ("[2001:db8::1]:2222", "2001:db8::1", 2222, Trusted.KNOWN),
        ("gpu-02", "gpu-01", 22, Trusted.NEW),
        ("@revoked gpu-01", "gpu-01", 22, Trusted.REVOKED),
        ("@revoked *", "gpu-01", 22, Trusted.REVOKED),
        ("@revoked gpu-01", "gpu-01", 2222, Trusted.REVOKED),
        ("@revoked [gpu-01]:2222", "gpu-01", 2222, Trusted.REVOKED),
        ("@cert-authority gpu-01", "gpu-01", 22, Trusted.NEW),
        ("# gpu-01", "gpu-01", 22, Trusted.NEW),
    ],
)
def test_names(tmp_path: Path, keys: list[asyncssh.SSHKey], name: str, host: str, port: int, verdict: Trusted) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line(name, keys[0]))
    assert HostKeys().trust(file, host, port).judge(keys[0]) is verdict


def test_hashed_names(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("gpu-01", keys[0]) + line("[gpu-01]:2222", keys[1]))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert "gpu-01" not in file.read_text()
    table = HostKeys()
    assert table.trust(file, "gpu-01", 22).judge(keys[0]) is Trusted.KNOWN
    assert table.trust(file, "gpu-01", 22).judge(keys[1]) is Trusted.CHANGED
    assert table.trust(file, "gpu-01", 2222).judge(keys[1]) is Trusted.KNOWN
    assert table.trust(file, "gpu-02", 22).judge(keys[0]) is Trusted.NEW


def test_a_known_host_with_another_key_has_changed(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("gpu-01", keys[0]))
    table = HostKeys(accept_new=True)
    own = table.trust(file, "gpu-01", 22)
    assert own.judge(keys[1]) is Trusted.CHANGED
    assert not table.may_accept(own, keys[1])
    # On a port of its own the host may be another machine behind the same address.
    assert table.trust(file, "gpu-01", 2222).judge(keys[1]) is Trusted.NEW


def test_what_is_revoked_stays_revoked(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("gpu-01", keys[0]) + line("@revoked gpu-01", keys[0]))
    table = HostKeys(accept_new=True)
    for port in (22, 2222):
        trust = table.trust(file, "gpu-01", port)
        assert keys[0] not in trust.keys
        assert trust.judge(keys[0]) is Trusted.REVOKED
        assert not table.may_accept(trust, keys[0])


def test_one_bad_line_does_not_hide_the_others(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    file = tmp_path / "known_hosts"
    text = "nonsense\n@what gpu-01 x y\n" + line("|1|bad", keys[1]) + line("gpu-01", keys[0])
    file.write_bytes(text.encode() + b"gpu-\xff ssh-rsa x")
    trust = HostKeys().trust(file, "gpu-01", 22)
    assert trust.judge(keys[0]) is Trusted.KNOWN
    assert trust.remark == " (line 1, 2, 3 of which makes no sense)"


def test_a_file_is_read_again_only_when_it_has_changed(
    tmp_path: Path, keys: list[asyncssh.SSHKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("gpu-01", keys[0]))
    table = HostKeys()
    parsed: list[str] = []
    real = asyncssh.import_known_hosts
    monkeypatch.setattr(asyncssh, "import_known_hosts", lambda text: parsed.append(text) or real(text))
    assert table.trust(file, "gpu-02", 22).judge(keys[1]) is Trusted.NEW
    assert table.trust(file, "gpu-01", 22).judge(keys[0]) is Trusted.KNOWN
    assert len(parsed) == 1
    with file.open("a") as more:
        more.write(line("gpu-02", keys[1]))
    assert table.trust(file, "gpu-02", 22).judge(keys[1]) is Trusted.KNOWN
    assert len(parsed) == 2


def test_no_file_knows_nobody_and_an_unreadable_one_is_an_error(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    trust = HostKeys().trust(tmp_path / "absent", "gpu-01", 22)
    assert trust.judge(keys[0]) is Trusted.NEW
    assert "does not exist yet" in refusal("gpu-01", "192.0.2.1", 22, trust, keys[0], jumped=False)
    with pytest.raises(GatherError, match=r"gpu-01: the known_hosts file .* cannot be read"):
        HostKeys().trust(tmp_path, "gpu-01", 22)


def test_only_one_new_key_is_accepted_for_a_host(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    file = tmp_path / "known_hosts"
    table = HostKeys(accept_new=True)
    trust = table.trust(file, "gpu-01", 22)
    assert table.may_accept(trust, keys[0])
    assert table.may_accept(trust, keys[0])
    assert not table.may_accept(trust, keys[1])
    assert not HostKeys().may_accept(trust, keys[0])


def test_recording_appends_once_whoever_else_does(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    file = tmp_path / "new" / "known_hosts"
    file.parent.mkdir()
    file.write_text("# without a newline at its end")
    tables = [HostKeys(accept_new=True) for _ in range(8)]
    trusts = [table.trust(file, f"gpu-0{n % 2}", 22) for n, table in enumerate(tables)]
    threads = [
        threading.Thread(target=table.record, args=(trust, keys[0]))
        for table, trust in zip(tables, trusts, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(file.read_text().splitlines()) == sorted(
        ["# without a newline at its end", *(line(f"gpu-0{n}", keys[0]).strip() for n in (0, 1))]
    )
    assert tables[0].trust(file, "gpu-01", 22).judge(keys[0]) is Trusted.KNOWN


def test_a_new_file_is_private(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    file = tmp_path / "ssh" / "known_hosts"
    table = HostKeys(accept_new=True)
    old = os.umask(0)
    try:
        table.record(table.trust(file, "gpu-01", 2222), keys[0])
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert file.read_text() == line("[gpu-01]:2222", keys[0])


def test_refusals_through_a_jump_host_offer_no_keyscan(tmp_path: Path, keys: list[asyncssh.SSHKey]) -> None:
    trust = HostKeys().trust(tmp_path / "known hosts", "gpu-01", 22)
    words = refusal("gpu-01", "gpu-01", 22, trust, keys[0], jumped=True)
    assert "ssh-keyscan" not in words
    assert "through the jump host" in words
    direct = refusal("gpu-01", "gpu-01", 22, trust, keys[0], jumped=False)
    assert f"`ssh-keyscan -p 22 -t ed25519 gpu-01 >> '{tmp_path}/known hosts'`" in direct
