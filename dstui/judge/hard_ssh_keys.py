"""hard.ssh-keys: people come in with keys, and passwords are off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dstui.facts.case import FleetCase, HostCase, HostFacts, Session
from dstui.facts.raw import Missing
from dstui.facts.sshd import AuthorizedKeys, SshdFacts
from dstui.facts.sshd_config import MatchBlock
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted, unknown, why_missing
from dstui.model import Reason, Ruling, Text, host_target, same

_KEYS = Text("login by key, passwords off", "使用密钥登录，口令登录关闭")
_PASSWORDS = frozenset({"password", "keyboard-interactive"})


@dataclass(frozen=True, slots=True)
class _Login:
    """What is known of the ways in: from sshd -T, else from the files; Missing where neither says."""

    values: Mapping[str, str | Missing]
    blocks: tuple[MatchBlock, ...]

    def value(self, keyword: str) -> str | Missing:
        return self.values[keyword]


_WAYS = ("pubkeyauthentication", "passwordauthentication", "kbdinteractiveauthentication", "permitemptypasswords")


def _login(facts: SshdFacts | Missing) -> _Login:
    if isinstance(facts, Missing):
        return _Login(dict.fromkeys(_WAYS, facts), ())
    blocks = () if isinstance(facts.config, Missing) else facts.config.matches
    effective = facts.effective
    values: dict[str, str | Missing] = {}
    for keyword in _WAYS:
        if not isinstance(effective, Missing) and keyword in effective:
            values[keyword] = effective[keyword].lower()
        elif isinstance(facts.config, Missing):
            # Why sshd -T could not be run tells the operator what to grant.
            values[keyword] = effective if isinstance(effective, Missing) else facts.config
        else:
            values[keyword] = facts.config.value(keyword)
    return _Login(values, blocks)


def judge_keys(case: FleetCase) -> Sequence[Ruling]:
    shared = _shared_root_keys(case)
    return [_judge_keys(case.case(name), shared) for name in case.facts]


def _root_keys(facts: HostFacts) -> frozenset[str]:
    """Fingerprints that open root on a host, as far as dstui could look (it must be root there)."""
    if facts.session is None or facts.session.user != "root":
        return frozenset()
    sshd = facts.get(SshdFacts)
    listed = sshd.authorized if isinstance(sshd, SshdFacts) else None
    found = {key.fingerprint for key in listed.keys} if isinstance(listed, AuthorizedKeys) else set()
    return frozenset(found | ({facts.session.key_fingerprint} if facts.session.key_fingerprint else set()))


def _shared_root_keys(case: FleetCase) -> frozenset[str]:
    """Fingerprints that open root on more than one host."""
    holders = Counter(fingerprint for facts in case.facts.values() for fingerprint in _root_keys(facts))
    return frozenset(fingerprint for fingerprint, hosts in holders.items() if hosts > 1)


def _judge_keys(case: HostCase, shared: frozenset[str]) -> Ruling:
    target = host_target(case.host.name)
    session, facts = case.facts.session, case.facts.get(SshdFacts)
    if case.facts.unreachable is not None:
        return unknown(target, case.facts.unreachable, _KEYS)
    login = _login(facts)
    causes = Causes(target, _KEYS)
    _judge_session(causes, session, login)
    _judge_ways_in(causes, login, case.params.flag("password_auth_allowed"))
    minimum = case.params.count("min_rsa_bits")
    if session and not session.local:
        _judge_key(causes, session.key_type, session.key_bits, minimum, Text("dstui's own key", "dstui 所用密钥"))
    if isinstance(facts, SshdFacts):
        _judge_key_files(causes, facts, minimum)
        if isinstance(facts.config, Missing):
            why = why_missing(facts.config)
            causes.note(Text(f"Match blocks not looked at: {why.en}", f"未查看 Match 块：{why.zh}"))
    both = sorted(_root_keys(case.facts) & shared)
    if both:
        causes.warn(
            Text(
                f"a key opens root on several hosts: {', '.join(both)}",
                f"同一密钥可登录多台主机的 root：{', '.join(both)}",
            )
        )
    return causes.ruling(
        _observed_keys(session, login),
        Text(
            "dstui logged in by public key, and PubkeyAuthentication is on",
            "dstui 以公钥登录，且 PubkeyAuthentication 已开启",
        ),
        material=_keys_material(session, login, facts),
        evidence=("sshd",),
    )


def _judge_session(causes: Causes, session: Session | None, login: _Login) -> None:
    pubkey = login.value("pubkeyauthentication")
    if session is None:
        causes.unknown(Reason.NOT_RUN, Text("no session was seen", "没有观察到会话"))
        return
    if session.local:
        if isinstance(pubkey, Missing):
            causes.missing(pubkey, Text("dstui did not log in here by SSH; sshd", "dstui 并非通过 SSH 登录本机；sshd"))
        else:
            causes.warn(
                Text(
                    "dstui runs on this machine itself, so no key login was seen; judged by sshd's configuration only",
                    "dstui 就运行在本机，未观察到密钥登录；仅按 sshd 配置判断",
                )
            )
        return
    methods = {part.strip() for part in (session.auth or "").split(",")} - {""}
    if "publickey" in methods:
        return
    if methods & _PASSWORDS or methods == {"none"}:
        how = ", ".join(sorted(methods))
        causes.fail(Text(f"dstui's own login needed: {how}", f"dstui 登录使用了：{how}"))
        return
    how = session.auth or "?"
    causes.unknown(
        Reason.CANNOT_TELL,
        Text(
            f"how dstui logged in is not known to be a key: {quoted(how, 40)}",
            f"无法确认 dstui 是用密钥登录的：{quoted(how, 40)}",
        ),
        how,
    )


def _judge_ways_in(causes: Causes, login: _Login, passwords_allowed: bool) -> None:
    pubkey, empty = login.value("pubkeyauthentication"), login.value("permitemptypasswords")
    if pubkey == "no":
        causes.fail(same("PubkeyAuthentication no"))
    if empty == "yes":
        causes.fail(same("PermitEmptyPasswords yes"))
    for block in login.blocks:
        if block.values.get("permitemptypasswords") == "yes":
            causes.fail(same(f"PermitEmptyPasswords yes, Match {block.place}"))
    untold = (login.value(way) for way in _WAYS if way != "pubkeyauthentication")
    hidden = empty if isinstance(empty, Missing) else next((v for v in untold if isinstance(v, Missing)), None)
    if hidden is not None and (hidden is empty or not passwords_allowed):
        why = why_missing(hidden)
        causes.warn(
            Text(
                f"whether passwords are still accepted could not be read: {why.en}",
                f"无法读取是否仍接受口令登录：{why.zh}",
            )
        )
    if passwords_allowed:
        return
    if login.value("passwordauthentication") == "yes":
        causes.warn(
            Text("passwords are still accepted: PasswordAuthentication yes", "仍接受口令：PasswordAuthentication yes")
        )
    if login.value("kbdinteractiveauthentication") == "yes":
        causes.warn(
            Text(
                "keyboard-interactive is on; with UsePAM it accepts passwords whatever PasswordAuthentication says",
                "keyboard-interactive 已开启；配合 UsePAM 时无论 PasswordAuthentication 为何都接受口令",
            )
        )
    for block in login.blocks:
        if "yes" in (block.values.get("passwordauthentication"), block.values.get("kbdinteractiveauthentication")):
            causes.warn(
                Text(
                    f"a Match block accepts passwords: {quoted(block.title)}, {block.place}",
                    f"Match 块接受口令登录：{quoted(block.title)}，{block.place}",
                )
            )


def _judge_key(causes: Causes, kind: str | None, bits: int | None, minimum: int, whose: Text) -> None:
    if kind is None:
        return
    if kind in ("ssh-dss", "dsa"):
        causes.warn(Text(f"{whose.en}: ssh-dss", f"{whose.zh}：ssh-dss"))
    elif ("rsa" in kind) and bits is not None and bits < minimum:
        causes.warn(Text(f"{whose.en}: RSA {bits} < {minimum} bits", f"{whose.zh}：RSA {bits} < {minimum} 位"))


def _judge_key_files(causes: Causes, facts: SshdFacts, minimum: int) -> None:
    if isinstance(facts.loose, Missing):
        why = why_missing(facts.loose)
        causes.note(Text(f"modes of ~/.ssh not seen: {why.en}", f"未能查看 ~/.ssh 权限：{why.zh}"))
    elif facts.loose:
        places = quoted(", ".join(facts.loose))
        causes.warn(Text(f"others may write: {places}", f"其他人可写：{places}"))
    if isinstance(facts.authorized, Missing):
        return
    for key in facts.authorized.keys:
        _judge_key(causes, key.type, key.bits, minimum, Text("authorized_keys", "authorized_keys"))


def _shown(value: str | Missing) -> str:
    return "?" if isinstance(value, Missing) else value


def _observed_keys(session: Session | None, login: _Login) -> Text:
    pubkey, password, interactive, _ = (quoted(_shown(login.value(keyword)), 20) for keyword in _WAYS)
    values = f"pubkey {pubkey}, password {password}, keyboard-interactive {interactive}"
    if session is None or session.local:
        return Text(f"local session; {values}", f"本地会话；{values}")
    key = f" {session.key_type} {session.key_fingerprint or ''}".rstrip() if session.key_type else ""
    return Text(f"logged in by {session.auth or '?'}{key}; {values}", f"登录方式 {session.auth or '?'}{key}；{values}")


def _keys_material(session: Session | None, login: _Login, facts: SshdFacts | Missing) -> dict[str, object]:
    counts: dict[str, int] = {}
    if isinstance(facts, SshdFacts) and isinstance(facts.authorized, AuthorizedKeys):
        for key in facts.authorized.keys:
            counts[key.type] = counts.get(key.type, 0) + 1
    return {
        "auth": session.auth if session else None,
        "key": session.key_fingerprint if session else None,
        **{keyword: _shown(login.value(keyword)) for keyword in _WAYS},
        "authorized": counts,
        "loose": [*facts.loose] if isinstance(facts, SshdFacts) and not isinstance(facts.loose, Missing) else None,
    }


JUDGES = (FleetJudge("hard.ssh-keys", ("sshd",), ("sshd",), judge_keys),)
