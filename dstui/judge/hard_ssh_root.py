"""hard.ssh-no-root: root cannot log in directly, by sshd's own word or by its files and a refused attempt."""

from __future__ import annotations

from dataclasses import dataclass

from dstui.facts.case import HostCase, Session
from dstui.facts.raw import Missing
from dstui.facts.sshd import SshdFacts
from dstui.facts.sshd_config import MatchBlock, SshdConfig, applies_to_root
from dstui.judge.registry import HostJudge
from dstui.judge.rulings import Causes, quoted, unknown, why_missing
from dstui.model import Reason, Ruling, Text, host_target, same

_KEY_ONLY = frozenset({"without-password", "prohibit-password", "forced-commands-only"})
_NO_ROOT = Text("PermitRootLogin no", "PermitRootLogin no")


@dataclass(frozen=True, slots=True)
class _Value:
    """PermitRootLogin and where it was read. `proof` is False for a source that needs the refused attempt beside it."""

    value: str
    source: Text
    proof: bool


def _permit_root_login(facts: SshdFacts, address: str | None) -> _Value | Missing:
    """The value for root from this controller, from the best source that could be read."""
    if not isinstance(facts.for_root, Missing) and "permitrootlogin" in facts.for_root:
        return _Value(
            facts.for_root["permitrootlogin"].lower(), Text("sshd -T for root", "sshd -T（针对 root）"), proof=True
        )
    config = facts.config
    plain = None if isinstance(facts.effective, Missing) else facts.effective.get("permitrootlogin")
    if plain is not None and isinstance(config, SshdConfig) and not config.unread:
        # sshd's own word for the global value, and every Match block is known.
        value, place = _with_matches(plain.lower(), config, address)
        return _Value(value, Text(f"sshd -T{place}", f"sshd -T{place}"), proof=True)
    if plain is not None:
        return _Value(plain.lower(), Text("sshd -T without Match blocks", "sshd -T（不含 Match 块）"), proof=False)
    if isinstance(config, Missing):
        # What kept sshd -T from running tells the operator what to grant.
        return facts.effective if isinstance(facts.effective, Missing) else config
    value_or_missing = config.value("permitrootlogin")
    if isinstance(value_or_missing, Missing):
        return value_or_missing
    value, place = _with_matches(value_or_missing, config, address)
    return _Value(value, Text(f"configuration files{place}", f"配置文件{place}"), proof=False)


def _with_matches(value: str, config: SshdConfig, address: str | None) -> tuple[str, str]:
    """The value after the first Match block that holds for root in any case, and where that block is."""
    for block in config.matches:
        if "permitrootlogin" in block.values and applies_to_root(block, address) is True:
            return block.values["permitrootlogin"], f", Match {block.place}"
    return value, ""


def _reenabling(facts: SshdFacts, address: str | None) -> tuple[MatchBlock, ...]:
    """Match blocks that let root in from some other address, host or group."""
    if isinstance(facts.config, Missing):
        return ()
    found = []
    for block in facts.config.matches:
        value = block.values.get("permitrootlogin")
        applies = applies_to_root(block, address)
        if value is None or applies is False:
            continue
        if applies is True:
            unconditional = all(name in ("all", "user") for name, _ in block.criteria)
            if unconditional:
                break
            continue
        if value != "no":
            found.append(block)
    return tuple(found)


def judge_no_root(case: HostCase) -> Ruling:
    target = host_target(case.host.name)
    session, facts = case.facts.session, case.facts.get(SshdFacts)
    if case.facts.unreachable is not None:
        return unknown(target, case.facts.unreachable, _NO_ROOT)
    causes = Causes(target, _NO_ROOT)
    attempt = session.root_attempt if session else "not-tried"
    address = session.controller_ip if session and session.controller_ip else case.host.controller_ip
    if session and session.user == "root" and not session.local:
        causes.fail(Text("dstui itself is logged in as root", "dstui 自身就是以 root 登录的"))
    if attempt == "succeeded":
        causes.fail(Text("a login as root with the operator's key succeeded", "用操作员的密钥以 root 登录成功"))
    found = facts if isinstance(facts, Missing) else _permit_root_login(facts, address)
    if isinstance(found, Missing):
        _not_readable(causes, found, attempt)
    else:
        _judge_value(causes, found, attempt, case.params.flag("allow_key_only_root"))
    blocks: tuple[MatchBlock, ...] = ()
    if isinstance(facts, SshdFacts):
        blocks = _reenabling(facts, address)
        for block in blocks:
            value, title = quoted(block.values["permitrootlogin"], 40), quoted(block.title)
            causes.warn(
                Text(
                    f"a Match block lets root in ({value}): {title}, {block.place}",
                    f"Match 块允许 root 登录（{value}）：{title}，{block.place}",
                )
            )
        if isinstance(facts.config, Missing) and not isinstance(found, Missing):
            why = why_missing(facts.config)
            causes.note(
                Text(
                    f"Match blocks for other addresses not looked at: {why.en}",
                    f"未查看其他地址的 Match 块：{why.zh}",
                )
            )
        elif isinstance(facts.config, SshdConfig) and facts.config.unread:
            places = quoted(", ".join(facts.config.unread))
            causes.note(Text(f"not read, may hold Match blocks: {places}", f"未读取，可能含 Match 块：{places}"))
    if isinstance(found, _Value) and found.value == "no" and attempt != "refused":
        causes.note(
            Text(
                "sshd -T reads the files; a running sshd that was not reloaded may still act on older ones",
                "sshd -T 读取的是文件；若 sshd 未重新加载，运行中的进程可能仍按旧配置工作",
            )
        )
    return causes.ruling(
        _observed_root(found, attempt, session),
        Text("root cannot log in over SSH", "root 无法通过 SSH 登录"),
        material={
            "permitrootlogin": str(found.reason) if isinstance(found, Missing) else found.value,
            "source": "" if isinstance(found, Missing) else found.source.en,
            "root_attempt": attempt,
            "match": [f"{block.title}: {block.values['permitrootlogin']}" for block in blocks],
            "user": session.user if session else None,
        },
        evidence=("sshd",),
    )


def _not_readable(causes: Causes, missing: Missing, attempt: str) -> None:
    why = why_missing(missing)
    if attempt == "refused":
        causes.unknown(
            missing.reason,
            Text(
                f"a refused root login alone proves little, the key may just not be authorised; {why.en}",
                f"仅凭 root 登录被拒说明不了什么，可能只是密钥未授权；{why.zh}",
            ),
        )
    else:
        causes.missing(missing, same("PermitRootLogin"))


def _judge_value(causes: Causes, found: _Value, attempt: str, allow_key_only: bool) -> None:
    if found.value in _KEY_ONLY and allow_key_only:
        causes.warn(Text(f"root may log in with a key: {found.value}", f"root 可凭密钥登录：{found.value}"))
    elif found.value in _KEY_ONLY or found.value == "yes":
        causes.fail(
            Text(f"root may log in: PermitRootLogin {found.value}", f"root 可以登录：PermitRootLogin {found.value}")
        )
    elif found.value != "no":
        causes.unknown(
            Reason.PARSE_ERROR,
            Text(
                f"PermitRootLogin has a value sshd does not know: {quoted(found.value, 40)}",
                f"PermitRootLogin 的取值 sshd 不识别：{quoted(found.value, 40)}",
            ),
        )
    elif not found.proof and attempt != "refused":
        causes.unknown(
            Reason.PERMISSION,
            Text(
                f"{found.source.en} says no, but no root login was refused (attempt: {attempt}); grant: sshd -T",
                f"{found.source.zh}为 no，但没有 root 登录被拒的证据（尝试结果：{attempt}）；请授权：sshd -T",
            ),
            attempt,
        )


_ATTEMPTS = {
    "refused": Text("root login refused", "root 登录被拒"),
    "succeeded": Text("root login succeeded", "root 登录成功"),
    "unreachable": Text("root login not possible to try", "无法尝试 root 登录"),
}


def _observed_root(found: _Value | Missing, attempt: str, session: Session | None) -> Text:
    said = _ATTEMPTS.get(attempt, Text("root login not tried", "未尝试 root 登录"))
    user = session.user if session else "?"
    if isinstance(found, Missing):
        why = why_missing(found)
        return Text(f"{why.en}; {said.en}; connected as {user}", f"{why.zh}；{said.zh}；以 {user} 连接")
    value = quoted(found.value, 40)
    return Text(
        f"PermitRootLogin {value} ({found.source.en}); {said.en}",
        f"PermitRootLogin {value}（{found.source.zh}）；{said.zh}",
    )


JUDGES = (HostJudge("hard.ssh-no-root", ("sshd",), ("sshd",), judge_no_root, ("root-attempt",)),)
