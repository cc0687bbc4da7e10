"""sshd as it says itself and as its files read; what each case means was checked against `sshd -T` of OpenSSH 9.2."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstui.facts import sshd
from dstui.facts.case import HostSite, Site
from dstui.facts.raw import Answer, Missing, OpKind, Raw
from dstui.facts.sshd_config import MAIN, MatchBlock, applies_to_root, parse_config, words
from dstui.facts.sudoers import GRANTS, sudoers_file
from dstui.model import Reason

DATA = Path(__file__).parent.parent / "data" / "hosts" / "security"
DROP_INS = "/etc/ssh/sshd_config.d"
LISTED = frozenset({MAIN, "/etc/ssh/", f"{DROP_INS}/"})


def config(main: str, **drop_ins: str):
    files = {MAIN: main, **{f"{DROP_INS}/{name}.conf": text for name, text in drop_ins.items()}}
    return parse_config(files, LISTED | files.keys())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", "prohibit-password"),
        ("#PermitRootLogin yes\n", "prohibit-password"),
        ("PermitRootLogin no\n", "no"),
        ("permitROOTlogin NO\n", "no"),
        ("\t PermitRootLogin\tno \r\n", "no"),
        ("PermitRootLogin=no\n", "no"),
        ("PermitRootLogin = no\n", "no"),
        ('PermitRootLogin "no"\n', "no"),
        ('"PermitRootLogin" no\n', "no"),
        ("PermitRootLogin no # not yes\n", "no"),
        ("PermitRootLogin no#x\n", "no#x"),
        ("PermitRootLogin no\nPermitRootLogin yes\n", "no"),
        ("PermitRootLogin yes\nPermitRootLogin no\n", "yes"),
        ("Match User git\nPermitRootLogin yes\n", "prohibit-password"),
        ("PermitRootLoginX no\n", "prohibit-password"),
    ],
)
def test_global_value(text, value):
    assert config(text).value("permitrootlogin") == value


def test_the_drop_in_of_cloud_images_wins_over_the_main_file():
    found = config(
        f"Include {DROP_INS}/*.conf\nPasswordAuthentication no\n", **{"50-cloud-init": "PasswordAuthentication yes\n"}
    )
    assert found.value("passwordauthentication") == "yes"


def test_an_include_below_a_setting_loses_and_drop_ins_go_by_name():
    found = config(
        f"PermitRootLogin no\nInclude {DROP_INS}/*.conf\n",
        a="PermitRootLogin yes\nX11Forwarding yes",
        b="X11Forwarding no",
    )
    assert found.value("permitrootlogin") == "no"
    assert found.values["x11forwarding"] == "yes"


def test_a_relative_include_is_below_etc_ssh():
    assert config("Include sshd_config.d/*.conf\n", a="PermitRootLogin yes\n").value("permitrootlogin") == "yes"


def test_a_match_ends_with_its_file():
    found = config(f"Include {DROP_INS}/*.conf\nPermitRootLogin no\n", a="Match User bob\nPermitEmptyPasswords yes\n")
    assert found.value("permitrootlogin") == "no"
    assert [block.title for block in found.matches] == ["User bob"]
    assert found.matches[0].place == f"{DROP_INS}/a.conf:1"


def test_an_include_inside_a_match_stays_inside_it():
    found = config(f"Match User bob\nInclude {DROP_INS}/*.conf\nPermitTTY no\n", a="PermitRootLogin yes\n")
    assert found.value("permitrootlogin") == "prohibit-password"
    assert [dict(block.values) for block in found.matches] == [{"permitrootlogin": "yes"}, {"permittty": "no"}]
    assert {block.title for block in found.matches} == {"User bob"}


def test_keyboard_interactive_by_its_old_name():
    assert config("ChallengeResponseAuthentication no\n").value("kbdinteractiveauthentication") == "no"


def test_a_file_that_could_not_be_read_makes_what_follows_uncertain():
    known = LISTED | {f"{DROP_INS}/50-redhat.conf"}
    found = parse_config({MAIN: f"PermitRootLogin no\nInclude {DROP_INS}/*.conf\nPasswordAuthentication no\n"}, known)
    assert found.value("permitrootlogin") == "no"
    assert isinstance(found.value("passwordauthentication"), Missing)
    assert isinstance(found.value("permitemptypasswords"), Missing)
    assert found.unread == (f"{DROP_INS}/50-redhat.conf",)


def test_an_include_of_a_directory_that_may_not_be_listed_is_unread():
    found = parse_config({MAIN: f"Include {DROP_INS}/*.conf\n"}, frozenset({MAIN, "/etc/ssh/"}))
    assert found.value("permitrootlogin") == Missing(Reason.PERMISSION, f"{DROP_INS}/*.conf could not be read")


def test_an_include_from_elsewhere_is_unread():
    assert config("Include /opt/ssh/extra.conf\n").unread == ("/opt/ssh/extra.conf",)


def test_a_file_that_includes_itself_ends():
    assert config("Include sshd_config.d/a.conf\n", a="Include sshd_config.d/a.conf\n").unread


@pytest.mark.parametrize(
    ("rest", "found"),
    [
        ("a b", ["a", "b"]),
        ('"a b" c', ["a b", "c"]),
        ("a\\ b", ["a b"]),
        ("'a\"b' #c", ['a"b']),
        ('"a', None),
        ("# all", []),
        ('a\\"b', ['a"b']),
    ],
)
def test_words(rest, found):
    assert words(rest) == found


def block(*criteria):
    return MatchBlock(criteria, MAIN, 1, {"permitrootlogin": "yes"})


@pytest.mark.parametrize(
    ("criteria", "applies"),
    [
        ([("all", "")], True),
        ([("user", "root")], True),
        ([("user", "r*")], True),
        ([("user", "*,!root")], False),
        ([("user", "git,deploy")], False),
        ([("address", "192.0.2.0/24")], True),
        ([("address", "192.0.2.0/24,!192.0.2.10")], None),
        ([("address", "192.0.2.*")], True),
        ([("address", "10.0.0.0/8")], None),
        ([("address", "10.0.0.0/8"), ("user", "git")], False),
        ([("address", "nonsense/99")], None),
        ([("group", "wheel")], None),
        ([("host", "*.example.com")], None),
        ([("localport", "2222")], None),
        ([("invalid-user", "")], False),
    ],
)
def test_whether_a_match_holds_for_root(criteria, applies):
    assert applies_to_root(block(*criteria), "192.0.2.10") is applies


def test_without_the_controllers_address_no_address_block_is_certain():
    assert applies_to_root(block(("address", "192.0.2.0/24")), None) is None


def test_sshd_T():
    values = sshd.parse_effective((DATA / "sshd_T.txt").read_text())
    assert values["permitrootlogin"] == "without-password"
    assert values["authorizedkeysfile"] == ".ssh/authorized_keys .ssh/authorized_keys2"
    assert values["kbdinteractiveauthentication"] == "yes"


@pytest.mark.parametrize("text", ["", "bash: sshd: nonsense\n", "\x1b[31mhello\n"])
def test_what_is_not_sshd_T(text):
    assert sshd.parse_effective(text) is None


def test_authorized_keys_as_ssh_keygen_lists_them():
    found = sshd.parse_authorized((DATA / "authorized_keys").read_text())
    assert [(key.type, key.bits, key.fingerprint) for key in found.keys] == [
        ("ssh-ed25519", 256, "SHA256:pXvGC6vpITVu+cFxaavzQlQ1gAlBM5Qz+WA44upBoKI"),
        ("ssh-rsa", 2048, "SHA256:14N56Jm/2rZV/yw1kfyaxtdWCnvmg0G3IOKmBD0FJaU"),
        ("ecdsa-sha2-nistp256", 256, "SHA256:s8TZzN+cUB9ccjDzRpNoxYSO6Kv/Z5e5LrFpfQmYX3Y"),
    ]
    assert found.unread == 1


SITE = Site("ds", "lab", "pre", (), "/mnt", None, None, "bare-metal", False, "sudo-n")


def host(**more):
    return HostSite(
        "gpu-01", frozenset({"worker"}), "198.51.100.11", None, "192.0.2.11", 22, "dstui", False, None, **more
    )


def test_the_argv_is_exactly_what_sudoers_grants():
    ops = {op.key: op for op in sshd.ops(host(controller_ip="192.0.2.10"), SITE)}
    assert ops["sshd.for-root"].args["argv"] == ["/usr/sbin/sshd", "-T", "-C", "user=root,host=dstui,addr=192.0.2.10"]
    assert ops["sshd.for-root"].args["root"] is True
    lines = sudoers_file("dstui", "192.0.2.10").splitlines()
    assert "dstui ALL=(root) NOPASSWD: /usr/sbin/sshd -T -C user\\=root\\,host\\=dstui\\,addr\\=192.0.2.10" in lines
    assert 'dstui ALL=(root) NOPASSWD: /usr/sbin/iptables-save ""' in lines
    assert not any("*" in word for grant in GRANTS for word in grant.argv)


@pytest.mark.parametrize("address", [None, "", "nonsense", "192.0.2.10,user=bob"])
def test_without_an_address_plain_sshd_T_is_asked_alone(address):
    keys = [op.key for op in sshd.ops(host(controller_ip=address), SITE)]
    assert "sshd.for-root" not in keys
    assert "sshd.effective" in keys


def test_sudoers_escapes_ipv6_and_refuses_what_is_no_address():
    assert "addr\\=2001\\:db8\\:\\:1" in sudoers_file("dstui", "2001:db8::1")
    with pytest.raises(ValueError, match="does not appear"):
        sudoers_file("dstui", "any, ALL")


def raw(**answers):
    keys = {key.replace("_", "-"): value for key, value in answers.items()}
    return Raw({f"sshd.{key}": Answer(f"sshd.{key}", f"source of {key}", **value) for key, value in keys.items()})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"exit": 1, "error": "sudo: a password is required\n"}, Reason.PERMISSION),
        ({"exit": 1, "error": "sshd: no hostkeys available -- exiting.\n"}, Reason.PERMISSION),
        ({"exit": 1, "error": "sudo: /usr/sbin/sshd: command not found\n"}, Reason.TOOL_MISSING),
        ({"exit": 127, "error": ""}, Reason.TOOL_MISSING),
        ({"exit": 255, "error": '/etc/ssh/sshd_config line 2: unsupported option "yess".\n'}, Reason.CANNOT_TELL),
        ({"exit": 0, "output": ""}, Reason.PARSE_ERROR),
        ({"missing": Missing(Reason.TIMEOUT, "no answer")}, Reason.TIMEOUT),
    ],
)
def test_why_sshd_T_did_not_answer(answer, reason):
    assert sshd.parse(raw(effective=answer)).effective.reason is reason


def names(*paths):
    return {path: [0o100644, 0, 0, 10, 0.0] for path in paths}


def test_the_files_of_a_host():
    found = sshd.parse(
        raw(
            config={"value": {MAIN: f"Include {DROP_INS}/*.conf\n", f"{DROP_INS}/10.conf": "PermitRootLogin no\n"}},
            names={"value": names(MAIN, DROP_INS, f"{DROP_INS}/10.conf")},
        )
    )
    assert found.config.value("permitrootlogin") == "no"


def test_a_drop_in_directory_that_is_not_there_holds_nothing():
    found = sshd.parse(raw(config={"value": {MAIN: f"Include {DROP_INS}/*.conf\n"}}, names={"value": names(MAIN)}))
    assert found.config.value("permitrootlogin") == "prohibit-password"


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (
            {"config": {"missing": Missing(Reason.PERMISSION, f"EACCES: {MAIN}")}, "names": {"value": names(MAIN)}},
            Reason.PERMISSION,
        ),
        ({"config": {"value": {"/etc/x": ""}}, "names": {"value": names(MAIN)}}, Reason.PERMISSION),
        ({"config": {"value": {}}, "names": {"value": {}}}, Reason.TOOL_MISSING),
        ({"config": {"value": [1]}, "names": {"value": {}}}, Reason.PARSE_ERROR),
        ({"config": {"value": {MAIN: ""}}, "names": {"value": {MAIN: "x"}}}, Reason.PARSE_ERROR),
        ({}, Reason.NOT_RUN),
    ],
)
def test_files_that_could_not_be_had(answers, reason):
    assert sshd.parse(raw(**answers)).config.reason is reason


@pytest.mark.parametrize(
    "said", [f"EACCES: {DROP_INS}", f"{DROP_INS}: Permission denied", f"ls: cannot open directory '{DROP_INS}': x"]
)
def test_a_closed_drop_in_directory_is_unread(said):
    found = sshd.parse(
        raw(
            config={"value": {MAIN: f"Include {DROP_INS}/*.conf\nPermitRootLogin no\n"}},
            names={"value": names(MAIN, DROP_INS), "error": said},
        )
    )
    assert found.config.unread == (f"{DROP_INS}/*.conf",)


def test_a_file_longer_than_the_limit_is_unread():
    found = sshd.parse(raw(config={"value": {MAIN: "#" * 65_536}}, names={"value": names(MAIN)}))
    assert found.config.unread == (MAIN,)


def test_modes_that_let_others_write():
    rows = {
        "/home/a": [0o40755, 1, 1, 0, 0.0],
        "/home/a/.ssh": [0o40770, 1, 1, 0, 0.0],
        "/home/a/.ssh/authorized_keys": [0o100602, 1, 1, 0, 0.0],
        "/home/a/.ssh/authorized_keys2": [0o120777, 1, 1, 0, 0.0],
    }
    assert sshd.parse(raw(home={"value": rows})).loose == ("/home/a/.ssh 0770", "/home/a/.ssh/authorized_keys 0602")


def test_keys_leave_no_key_material_in_the_facts():
    text = (DATA / "authorized_keys").read_text()
    found = sshd.parse(raw(authorized={"value": {"~/.ssh/authorized_keys": text}}))
    assert "AAAA" not in repr(found)


def test_keys_are_asked_for_as_values_that_evidence_does_not_show():
    assert all(op.kind is OpKind.GLOB for op in sshd.ops(host(), SITE) if op.key == "sshd.authorized")


@given(st.text())
def test_any_text_is_a_configuration_a_key_file_or_neither(text):
    found = config(text)
    assert isinstance(found.value("permitrootlogin"), str | Missing)
    sshd.parse_effective(text)
    assert len(sshd.parse_authorized(text).keys) <= len(text)


@given(st.dictionaries(st.sampled_from(["for-root", "effective", "config", "names", "home", "authorized"]), st.text()))
def test_any_answer_gives_facts(answers):
    keys = {f"sshd.{key}": Answer(f"sshd.{key}", "x", output=text, value=text, exit=0) for key, text in answers.items()}
    assert isinstance(sshd.parse(Raw(keys)), sshd.SshdFacts)
