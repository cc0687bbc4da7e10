"""hard.ssh-no-root and hard.ssh-keys on what a host answered."""

from dataclasses import replace
from pathlib import Path

import pytest

from dstui.facts import sshd
from dstui.facts.case import FleetCase, HostCase, HostFacts, HostSite, Params, Session, Site
from dstui.facts.raw import Answer, Missing, Raw
from dstui.facts.sshd_config import MAIN
from dstui.judge import hard
from dstui.judge.hard_ssh_keys import judge_keys
from dstui.judge.hard_ssh_root import judge_no_root
from dstui.model import Reason, Threshold, Verdict

DATA = Path(__file__).parent.parent / "data" / "hosts" / "security"
SSHD_T = (DATA / "sshd_T.txt").read_text()
DENIED = {"exit": 1, "error": "sudo: a password is required\n"}
SESSION = Session(
    "dstui", "publickey", "ssh-ed25519", "SHA256:abc", 256, controller_ip="192.0.2.10", root_attempt="refused"
)
FAIL, WARN, PASS, UNKNOWN = Verdict.FAIL, Verdict.WARN, Verdict.PASS, Verdict.UNKNOWN


def effective(**values):
    """`sshd -T` as captured, with other values."""
    lines = [line for line in SSHD_T.splitlines() if line.split(" ")[0] not in values]
    return {"output": "\n".join([*lines, *(f"{key} {value}" for key, value in values.items())]), "exit": 0}


def files(text):
    return {
        "config": {"value": {MAIN: text}},
        "names": {"value": {MAIN: [0o100644, 0, 0, 10, 0.0]}},
    }


NO_FILES = {"config": {"missing": Missing(Reason.PERMISSION, f"EACCES: {MAIN}")}, "names": {"value": {}}}


def facts(answers, session=SESSION, unreachable=None):
    raw = Raw({f"sshd.{key}": Answer(f"sshd.{key}", f"sudo -n {key}", **row) for key, row in answers.items()})
    return HostFacts(unreachable, session, raw, {sshd.SshdFacts: sshd.parse(raw)})


def site(*names):
    hosts = tuple(
        HostSite(name, frozenset({"worker"}), "198.51.100.1", None, "192.0.2.11", 22, "dstui", False, None)
        for name in names
    )
    return Site("ds", "lab", "pre", hosts, "/mnt", None, None, "bare-metal", False, "sudo-n")


def params(**values):
    return Params([Threshold(name, value, "document", value) for name, value in values.items()])


def no_root(answers, session=SESSION, *, allow=False, unreachable=None):
    where = site("a")
    given = params(allow_key_only_root=allow, root_login_attempt=True)
    return judge_no_root(HostCase(where.hosts[0], where, facts(answers, session, unreachable), given, 0.0))


REENABLED = "PermitRootLogin no\nMatch Address 10.0.0.0/8\n  PermitRootLogin yes\n"


@pytest.mark.parametrize(
    ("answers", "attempt", "verdict"),
    [
        # Source 1: sshd's own word.
        ({"for-root": effective(permitrootlogin="no"), **files("")}, "not-tried", PASS),
        ({"for-root": effective(permitrootlogin="no"), **NO_FILES}, "refused", PASS),
        ({"for-root": effective(permitrootlogin="yes"), **files("PermitRootLogin no\n")}, "refused", FAIL),
        ({"for-root": effective(), **files("")}, "refused", FAIL),
        ({"for-root": effective(permitrootlogin="prohibit-password")}, "refused", FAIL),
        ({"for-root": effective(permitrootlogin="forced-commands-only")}, "refused", FAIL),
        ({"for-root": effective(permitrootlogin="maybe")}, "refused", UNKNOWN),
        ({"for-root": effective(permitrootlogin="no"), **files(REENABLED)}, "refused", WARN),
        # Plain sshd -T is as good when every Match block is known, and needs the attempt when none is.
        ({"effective": effective(permitrootlogin="no"), **files("PermitRootLogin no\n")}, "not-tried", PASS),
        ({"effective": effective(permitrootlogin="no"), **files(REENABLED)}, "not-tried", WARN),
        ({"effective": effective(permitrootlogin="no"), **NO_FILES}, "not-tried", UNKNOWN),
        ({"effective": effective(permitrootlogin="no"), **NO_FILES}, "refused", PASS),
        (
            {"effective": effective(permitrootlogin="no"), **files("Match User root\nPermitRootLogin yes\n")},
            "refused",
            FAIL,
        ),
        # Source 2: the files, which need the refused attempt.
        ({"for-root": DENIED, "effective": DENIED, **files("PermitRootLogin no\n")}, "refused", PASS),
        ({"for-root": DENIED, "effective": DENIED, **files("PermitRootLogin no\n")}, "not-tried", UNKNOWN),
        ({"for-root": DENIED, "effective": DENIED, **files("PermitRootLogin no\n")}, "unreachable", UNKNOWN),
        ({"for-root": DENIED, "effective": DENIED, **files("")}, "refused", FAIL),
        ({"for-root": DENIED, "effective": DENIED, **files(REENABLED)}, "refused", WARN),
        ({"for-root": DENIED, "effective": DENIED, **files(REENABLED)}, "not-tried", UNKNOWN),
        ({**files("PermitRootLogin no\nMatch Address 192.0.2.0/24\nPermitRootLogin yes\n")}, "refused", FAIL),
        ({**files("PermitRootLogin no\nMatch User git\nPermitRootLogin yes\n")}, "refused", PASS),
        ({**files("PermitRootLogin no\nInclude /opt/x.conf\n")}, "refused", PASS),
        ({**files("Include /opt/x.conf\nPermitRootLogin no\n")}, "refused", UNKNOWN),
        # Source 3 alone.
        ({"for-root": DENIED, "effective": DENIED, **NO_FILES}, "refused", UNKNOWN),
        ({"for-root": DENIED, "effective": DENIED, **NO_FILES}, "succeeded", FAIL),
        ({"for-root": effective(permitrootlogin="no"), **files("")}, "succeeded", FAIL),
        ({}, "not-tried", UNKNOWN),
    ],
)
def test_no_root(answers, attempt, verdict):
    assert no_root(answers, replace(SESSION, root_attempt=attempt)).verdict is verdict


@pytest.mark.parametrize("value", ["without-password", "prohibit-password", "forced-commands-only"])
def test_key_only_root_is_a_warning_where_it_is_allowed(value):
    answers = {"for-root": effective(permitrootlogin=value), **files("")}
    assert no_root(answers, allow=True).verdict is WARN
    assert no_root(answers, allow=False).verdict is FAIL
    assert no_root({"for-root": effective(permitrootlogin="yes")}, allow=True).verdict is FAIL


def test_being_root_is_proof():
    ruling = no_root({"for-root": effective(permitrootlogin="no"), **files("")}, replace(SESSION, user="root"))
    assert ruling.verdict is FAIL
    assert "root" in ruling.rule.en


def test_root_on_the_jump_host_itself_came_by_no_ssh():
    session = Session("root", None, local=True)
    assert no_root({"for-root": effective(permitrootlogin="no"), **files("")}, session).verdict is PASS
    assert no_root({"effective": DENIED, **files("PermitRootLogin no\n")}, session).verdict is UNKNOWN
    assert no_root({"config": {"value": {}}, "names": {"value": {}}}, session).verdict is UNKNOWN


def test_a_refusal_alone_says_so_and_what_to_grant():
    ruling = no_root({"for-root": DENIED, "effective": DENIED, **NO_FILES})
    assert ruling.reason is Reason.PERMISSION
    assert "proves little" in ruling.rule.en
    assert "grant: sudo -n effective" in ruling.rule.en


def test_an_unconditional_match_settles_what_follows_it():
    text = "PermitRootLogin yes\nMatch all\nPermitRootLogin no\nMatch Address 10.0.0.0/8\nPermitRootLogin yes\n"
    assert no_root(files(text)).verdict is PASS


def test_the_match_block_is_named():
    ruling = no_root({"for-root": effective(permitrootlogin="no"), **files(REENABLED)})
    assert f"Address 10.0.0.0/8, {MAIN}:2" in ruling.rule.en
    assert ruling.material["match"] == ["Address 10.0.0.0/8: yes"]


def test_a_config_that_sshd_refuses_is_told():
    broken = {"exit": 255, "error": f'{MAIN} line 2: unsupported option "yess".\n'}
    ruling = no_root({"for-root": broken, "effective": broken, **NO_FILES})
    assert (ruling.verdict, ruling.reason) == (UNKNOWN, Reason.CANNOT_TELL)
    assert "unsupported option" in ruling.rule.en


def test_a_host_that_cannot_be_reached():
    ruling = no_root({}, None, unreachable=Missing(Reason.UNREACHABLE, "connection refused"))
    assert (ruling.verdict, ruling.reason) == (UNKNOWN, Reason.UNREACHABLE)


def keys(answers, session=SESSION, *, passwords=False, bits=3072, unreachable=None):
    given = params(password_auth_allowed=passwords, min_rsa_bits=bits)
    case = FleetCase(site("a"), {"a": facts(answers, session, unreachable)}, given, {}, {}, 0.0)
    return judge_keys(case)[0]


SAFE = {"passwordauthentication": "no", "kbdinteractiveauthentication": "no"}
HARDENED = {"effective": effective(**SAFE), **files("")}
HARD_FILES = "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
MODES = {"/home/dstui": [0o40755, 1, 1, 0, 0.0], "/home/dstui/.ssh": [0o40700, 1, 1, 0, 0.0]}


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        (HARDENED, PASS),
        ({"effective": DENIED, **files(HARD_FILES)}, PASS),
        ({"effective": effective(), **files("")}, WARN),
        ({"effective": effective(passwordauthentication="yes", kbdinteractiveauthentication="no")}, WARN),
        ({"effective": effective(passwordauthentication="no", kbdinteractiveauthentication="yes")}, WARN),
        ({"effective": effective(**SAFE, pubkeyauthentication="no")}, FAIL),
        ({"effective": effective(**SAFE, permitemptypasswords="yes")}, FAIL),
        ({"effective": DENIED, **NO_FILES}, WARN),
        ({"effective": DENIED, **files("")}, WARN),
        ({**HARDENED, **files("Match Address 10.0.0.0/8\nPasswordAuthentication yes\n")}, WARN),
        ({**HARDENED, **files("Match User guest\nPermitEmptyPasswords yes\n")}, FAIL),
        ({**HARDENED, "home": {"value": MODES}}, PASS),
        ({**HARDENED, "home": {"value": {**MODES, "/home/dstui": [0o40777, 1, 1, 0, 0.0]}}}, WARN),
    ],
)
def test_keys(answers, verdict):
    assert keys(answers).verdict is verdict


@pytest.mark.parametrize(
    ("session", "verdict"),
    [
        (replace(SESSION, auth="publickey,keyboard-interactive"), PASS),
        (replace(SESSION, auth="password"), FAIL),
        (replace(SESSION, auth="keyboard-interactive"), FAIL),
        (replace(SESSION, auth="none"), FAIL),
        (replace(SESSION, auth="gssapi-with-mic"), UNKNOWN),
        (replace(SESSION, auth=None), UNKNOWN),
        (replace(SESSION, key_type="ssh-dss", key_bits=1024), WARN),
        (replace(SESSION, key_type="ssh-rsa", key_bits=3071), WARN),
        (replace(SESSION, key_type="ssh-rsa", key_bits=3072), PASS),
        (replace(SESSION, key_type="ssh-rsa", key_bits=None), PASS),
        (Session("ops", None, local=True), WARN),
        (None, UNKNOWN),
    ],
)
def test_how_dstui_logged_in(session, verdict):
    assert keys(HARDENED, session).verdict is verdict


def test_a_local_session_without_any_configuration_cannot_tell():
    session = Session("ops", None, local=True)
    assert keys({"effective": DENIED, **NO_FILES}, session).verdict is UNKNOWN
    assert keys({"effective": effective(**SAFE, pubkeyauthentication="no")}, session).verdict is FAIL


def test_passwords_are_no_cause_where_they_are_allowed():
    assert keys({"effective": effective(), **files("")}, passwords=True).verdict is PASS


def test_weak_keys_of_others_are_counted():
    listed = {"authorized": {"value": {"k": (DATA / "authorized_keys").read_text()}}}
    ruling = keys({**HARDENED, **listed})
    assert (ruling.verdict, ruling.rule.en) == (WARN, "authorized_keys: RSA 2048 < 3072 bits")
    assert ruling.material["authorized"] == {"ssh-ed25519": 1, "ssh-rsa": 1, "ecdsa-sha2-nistp256": 1}
    assert keys({**HARDENED, **listed}, bits=2048).verdict is PASS


def test_one_key_for_the_root_of_several_hosts():
    root = facts(HARDENED, replace(SESSION, user="root"))
    other = facts(HARDENED, replace(SESSION, user="root", key_fingerprint="SHA256:other"))
    authorized = {**HARDENED, "authorized": {"value": {"k": (DATA / "authorized_keys").read_text()}}}
    holding = facts(authorized, replace(SESSION, user="root", key_fingerprint=None))
    given = params(password_auth_allowed=False, min_rsa_bits=1024)

    def verdicts(**hosts):
        return {r.target.name: r.verdict for r in judge_keys(FleetCase(site(*hosts), hosts, given, {}, {}, 0.0))}

    assert verdicts(a=holding, b=holding) == {"a": WARN, "b": WARN}
    assert verdicts(a=root, b=other) == {"a": PASS, "b": PASS}
    assert verdicts(a=root, b=root) == {"a": WARN, "b": WARN}
    assert verdicts(a=facts(HARDENED), b=facts(HARDENED)) == {"a": PASS, "b": PASS}


def test_no_key_and_no_time_in_what_an_attestation_binds_to():
    assert keys(HARDENED).material == {
        "auth": "publickey",
        "key": "SHA256:abc",
        "pubkeyauthentication": "yes",
        "passwordauthentication": "no",
        "kbdinteractiveauthentication": "no",
        "permitemptypasswords": "no",
        "authorized": {},
        "loose": None,
    }


def test_every_check_of_the_section_has_a_judge():
    assert [judge.check_id for judge in hard.JUDGES] == [
        "hard.ssh-no-root",
        "hard.ssh-keys",
        "hard.firewall",
        "hard.security-group",
        "hard.monitoring-logging",
    ]
