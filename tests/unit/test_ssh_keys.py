"""The operator's keys: what ssh-keygen says of them, what dstui says, and which it offers in which order."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.gather.clientkeys import ClientKeys, Offer, public_key_facts
from dstui.model import GatherError


def generate(path: Path, *arguments: str, passphrase: str = "") -> bytes:
    """The public blob of a key made by ssh-keygen."""
    subprocess.run(["ssh-keygen", "-q", "-N", passphrase, "-a", "1", "-f", path, *arguments], check=True)
    return base64.b64decode(Path(f"{path}.pub").read_text().split()[1])


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("-t", "ed25519"), "ssh-ed25519"),
        (("-t", "ecdsa", "-b", "521"), "ecdsa-sha2-nistp521"),
        (("-t", "rsa", "-b", "1024"), "ssh-rsa"),
        (("-t", "rsa", "-b", "2047"), "ssh-rsa"),
    ],
)
def test_facts_are_those_of_ssh_keygen(tmp_path: Path, arguments: tuple[str, ...], kind: str) -> None:
    facts = public_key_facts(generate(tmp_path / "k", *arguments))
    said = subprocess.run(["ssh-keygen", "-lf", tmp_path / "k.pub"], check=True, capture_output=True, text=True)
    bits, fingerprint, *_ = said.stdout.split()
    assert (facts.type, facts.fingerprint, facts.bits) == (kind, fingerprint, int(bits))


@given(st.binary())
def test_any_blob_has_facts(blob: bytes) -> None:
    assert public_key_facts(blob).fingerprint.startswith("SHA256:")


@pytest.mark.parametrize("with_pub", [True, False])
@pytest.mark.parametrize("arguments", [("-t", "ed25519"), ("-t", "rsa", "-b", "1024")])
def test_the_public_half_of_a_locked_key(tmp_path: Path, with_pub: bool, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "k"
    blob = generate(path, *arguments, passphrase="correct horse")
    if not with_pub:
        Path(f"{path}.pub").unlink()
    (identity,) = ClientKeys().load("gpu-01", path)
    assert (identity.locked, identity.pairs, identity.public) == (True, (), blob)


def test_a_locked_key_of_an_old_format_has_no_public_half(tmp_path: Path) -> None:
    path = tmp_path / "k"
    generate(path, "-t", "rsa", "-b", "1024", "-m", "PEM", passphrase="correct horse")
    Path(f"{path}.pub").unlink()
    (identity,) = ClientKeys().load("gpu-01", path)
    assert (identity.locked, identity.public) == (True, None)


def test_a_public_key_is_no_identity(tmp_path: Path) -> None:
    generate(tmp_path / "k", "-t", "ed25519")
    (tmp_path / "k.pub").chmod(0o600)
    with pytest.raises(GatherError, match=r"gpu-01: the SSH identity .*k\.pub holds no private key"):
        ClientKeys().load("gpu-01", tmp_path / "k.pub")


async def test_without_a_named_identity_the_usual_ones_are_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    folder = tmp_path / ".ssh"
    folder.mkdir()
    first = generate(folder / "id_ed25519", "-t", "ed25519")
    generate(folder / "id_ecdsa", "-t", "ecdsa", passphrase="locked")
    third = generate(folder / "id_rsa", "-t", "rsa", "-b", "1024")
    (folder / "id_ed25519_sk").write_text("garbage")
    offer = Offer(ClientKeys().load("gpu-01", None), named=False, use_agent=True)
    pairs = [await offer.next(), await offer.next()]
    assert [pair.key_public_data for pair in pairs if pair] == [first, third]
    assert await offer.next() is None
    assert await offer.next() is None
    assert f"{folder}/id_ecdsa is locked" in offer.remarks()
    assert "SSH_AUTH_SOCK" in offer.remarks()
    offer.close()
