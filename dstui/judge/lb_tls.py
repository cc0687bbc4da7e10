"""lb.tls: the certificate is trusted, current and for this name; old protocols are refused by the server itself."""

from __future__ import annotations

import time
from collections.abc import Sequence

from dstui.facts.case import FleetCase
from dstui.facts.exchange import Exchange, Fault
from dstui.facts.lb import LbFacts
from dstui.facts.lb_seen import TLS, Front
from dstui.facts.lb_tls import Certificate, LbTls, Offer, Offered, TlsSeen, Verified
from dstui.facts.raw import Missing
from dstui.judge.api_words import outcome
from dstui.judge.fleet import cluster_target, facts_of, listed
from dstui.judge.lb_words import HOST_EVIDENCE, no_address
from dstui.judge.registry import FleetJudge
from dstui.judge.rulings import Causes, quoted, unknown, why_missing
from dstui.model import Reason, Ruling, Text, same

RSA_BITS = 2048
DAY_SECONDS = 86_400.0
OLD = ("1.0", "1.1")
_EXPIRED, _NOT_YET = 10, 9
_SELF_SIGNED = (18, 19)
_NO_ISSUER = (20, 21)
_WRONG_NAME = (62, 64)
"""OpenSSL's X509_V_ERR_* (x509_vfy.h)."""
_WEAK_HASHES = ("sha1", "md5")
_PASSED = Text("trusted, current, for this name; old protocols are refused", "受信任、未过期、域名匹配；旧协议被拒绝")


def judge(case: FleetCase) -> Sequence[Ruling]:
    seen = case.get(LbTls)
    least = case.params.text("tls_min")
    days = case.params.number("expiry_warn_days")
    expected = Text(
        f"trusted, for this name, more than {days:g} days left, TLS {least} or newer only",
        f"受信任、域名匹配、剩余超过 {days:g} 天、仅 TLS {least} 及以上",
    )
    if isinstance(seen, Missing):
        return [unknown(cluster_target(case.site), seen, expected)]
    if seen.front.url is None:
        return no_address(case, expected)
    causes = Causes(seen.front.target, expected)
    if seen.seen is None:
        return [_without(seen, causes)]
    return [_ruling(case, seen.front, seen.seen, causes)]


def _without(seen: LbTls, causes: Causes) -> Ruling:
    """An address that is plain http."""
    plain = seen.plain
    to = plain.headers.get("location", "") if plain is not None and plain.missing is None else ""
    if to.lower().startswith("https://"):
        shown = quoted(to, 120)
        causes.unknown(
            Reason.NO_TARGETS,
            Text(
                f"the inventory has the http address, which redirects to {shown}: write that one",
                f"清单里写的是 http 地址，它会跳转到 {shown}：请改写为该地址",
            ),
        )
    else:
        causes.fail(
            Text("no TLS: users' keys and prompts travel in the clear", "没有 TLS：用户的密钥和提示词在网络上明文传输")
        )
    said = outcome(plain) if plain is not None else same("–")
    return causes.ruling(
        Text(f"http, {said.en}", f"http，{said.zh}"), _PASSED, material={"tls": False}, evidence=(TLS,)
    )


def _ruling(case: FleetCase, front: Front, seen: TlsSeen, causes: Causes) -> Ruling:
    leaf = seen.leaf
    if isinstance(leaf, Missing):
        _weigh_no_handshake(leaf, causes)
        return causes.ruling(why_missing(leaf), _PASSED, material={"tls": None}, evidence=(TLS,))
    _weigh_name(front, leaf, seen.name_verified, causes)
    _weigh_dates(case, leaf, causes)
    _weigh_trust(case, seen, leaf, causes)
    _weigh_strength(leaf, causes)
    _weigh_versions(case, seen, causes)
    _weigh_pages(case, seen, causes)
    _weigh_hosts(case, leaf, causes)
    left = (leaf.not_after - case.now) / DAY_SECONDS
    taken = [version for version, each in seen.versions.items() if each.offer is Offer.TAKEN]
    until = time.strftime("%Y-%m-%d", time.gmtime(leaf.not_after))
    names, versions = quoted(listed(leaf.names) or leaf.subject, 100), ", ".join(taken) or "–"
    return causes.ruling(
        Text(
            f"{names}, until {until} ({left:.0f} days), {leaf.key} {leaf.bits}, TLS {versions}",
            f"{names}，有效期至 {until}（{left:.0f} 天），{leaf.key} {leaf.bits}，TLS {versions}",
        ),
        _PASSED,
        material={"fingerprint": leaf.fingerprint, "versions": taken, "names": list(leaf.names)},
        evidence=(TLS, "lb.certificate"),
    )


def _weigh_no_handshake(lost: Missing, causes: Causes) -> None:
    if "does not speak TLS" in lost.why:
        causes.fail(Text("what listens there does not speak TLS", "监听的服务不支持 TLS"))
    else:
        causes.missing(lost, Text("handshake", "握手"))


def _weigh_trust(case: FleetCase, seen: TlsSeen, leaf: Certificate, causes: Causes) -> None:
    verified = seen.chain_verified
    if isinstance(verified, Missing):
        causes.missing(verified, Text("verification", "证书链验证"))
        return
    if verified.good:
        if isinstance(seen.unsent, Missing):
            causes.note(
                Text("whether the server sends the whole chain is not known", "无法得知服务端是否下发完整证书链")
            )
        elif seen.unsent:
            names = quoted(listed(seen.unsent), 120)
            causes.warn(
                Text(
                    f"the server does not send the intermediate {names}: clients that do not have it fail",
                    f"服务端没有下发中间证书 {names}：没有它的客户端会失败",
                )
            )
        return
    if verified.code in (_EXPIRED, _NOT_YET):
        if leaf.not_before <= case.now <= leaf.not_after:
            causes.fail(
                Text("a certificate of the chain is out of its time", "证书链中有证书不在有效期内"),
            )
        return
    causes.fail(_untrusted(verified, seen))


def _untrusted(verified: Verified, seen: TlsSeen) -> Text:
    bundle = quoted(seen.bundle, 80)
    if verified.code in _SELF_SIGNED:
        what = (
            Text("self-signed", "自签证书")
            if verified.code == 18
            else Text("its root is not trusted", "根证书不受信任")
        )
    elif verified.code in _NO_ISSUER:
        alone = not isinstance(seen.chain, Missing) and len(seen.chain) == 1
        what = Text(
            "its issuer is not trusted"
            + (", and the server sends no intermediate: serve fullchain.pem" if alone else ""),
            "签发者不受信任" + ("，且服务端没有下发中间证书：请下发 fullchain.pem" if alone else ""),
        )
    else:
        said = quoted(verified.message, 120) or str(verified.code)
        what = Text(f"the chain does not verify: {said}", f"证书链验证失败：{said}")
    return Text(
        f"not trusted: {what.en} ({verified.code}; lb.ca_bundle: {bundle})",
        f"不受信任：{what.zh}（{verified.code}；lb.ca_bundle：{bundle}）",
    )


def _weigh_name(front: Front, leaf: Certificate, verified: Verified | Missing, causes: Causes) -> None:
    if isinstance(verified, Missing):
        causes.missing(verified, Text("host name", "域名"))
    elif verified.code in _WRONG_NAME:
        names = quoted(listed(leaf.names) or leaf.subject, 120)
        causes.fail(
            Text(f"the certificate is for {names}, not for {front.host}", f"证书签给 {names}，不是 {front.host}")
        )
    elif not verified.good and verified.code not in (_EXPIRED, _NOT_YET):
        said = quoted(verified.message, 120)
        causes.unknown(Reason.CANNOT_TELL, Text(f"host name: not compared ({said})", f"域名：未能比对（{said}）"))


def _weigh_dates(case: FleetCase, leaf: Certificate, causes: Causes) -> None:
    left = (leaf.not_after - case.now) / DAY_SECONDS
    warn, fail = case.params.number("expiry_warn_days"), case.params.number("expiry_fail_days")
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(leaf.not_after))
    if left <= 0:
        causes.fail(Text(f"the certificate expired at {until}", f"证书已于 {until} 过期"))
    elif left < fail:
        causes.fail(Text(f"{left:.1f} days left, fewer than {fail:g}", f"只剩 {left:.1f} 天，少于 {fail:g} 天"))
    elif left <= warn:
        causes.warn(Text(f"{left:.0f} days left", f"剩余 {left:.0f} 天"))
    if leaf.not_before > case.now:
        since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(leaf.not_before))
        causes.fail(Text(f"the certificate is valid only from {since}", f"证书自 {since} 起才生效"))


def _weigh_strength(leaf: Certificate, causes: Causes) -> None:
    if leaf.key in ("RSA", "DSA") and leaf.bits < RSA_BITS:
        causes.warn(Text(f"its key has only {leaf.bits} bits ({leaf.key})", f"密钥只有 {leaf.bits} 位（{leaf.key}）"))
    if leaf.hash in _WEAK_HASHES:
        causes.warn(Text(f"it is signed with {leaf.hash}", f"签名使用 {leaf.hash}"))


def _weigh_versions(case: FleetCase, seen: TlsSeen, causes: Causes) -> None:
    least = case.params.text("tls_min")
    for version, each in seen.versions.items():
        if version in OLD or version < least:
            _weigh_old(version, each, causes)
    new = {version: each for version, each in seen.versions.items() if version >= least}
    if any(each.offer is Offer.TAKEN for each in new.values()):
        return
    unclear = next((each for each in new.values() if each.offer is not Offer.REFUSED), None)
    if unclear is None and new:
        causes.fail(Text(f"TLS {least} or newer is refused", f"拒绝 TLS {least} 及以上版本"))
    else:
        why = quoted(unclear.why, 80) if unclear is not None else "–"
        causes.unknown(Reason.CANNOT_TELL, Text(f"TLS {least} or newer: {why}", f"TLS {least} 及以上：{why}"))


def _weigh_old(version: str, each: Offered, causes: Causes) -> None:
    why = quoted(each.why, 80)
    if each.offer is Offer.TAKEN:
        causes.fail(Text(f"TLS {version} is accepted ({why})", f"接受 TLS {version}（{why}）"))
    elif each.offer is Offer.NOT_OFFERED:
        causes.unknown(
            Reason.TOOL_MISSING,
            Text(
                f"TLS {version}: this machine's OpenSSL cannot offer it ({why})",
                f"TLS {version}：本机 OpenSSL 无法发起（{why}）",
            ),
        )
    elif each.offer is Offer.CLOSED:
        causes.unknown(
            Reason.CANNOT_TELL,
            Text(
                f"TLS {version}: the connection was closed without an alert ({why})",
                f"TLS {version}：连接被关闭，没有 alert（{why}）",
            ),
        )
    elif each.offer is Offer.LOST:
        causes.unknown(Reason.CANNOT_TELL, Text(f"TLS {version}: {why}", f"TLS {version}：{why}"))


def _weigh_pages(case: FleetCase, seen: TlsSeen, causes: Causes) -> None:
    if case.params.flag("http_redirect") and seen.redirect is not None:
        _weigh_redirect(seen.redirect, causes)
    wanted, page = case.params.text("hsts"), seen.page
    if wanted == "ignore" or page is None:
        return
    text = Text("no Strict-Transport-Security header", "没有 Strict-Transport-Security 头")
    if page.missing is not None:
        said = outcome(page)
        if wanted == "required":
            causes.missing(page.missing, same("Strict-Transport-Security"))
        else:
            causes.note(Text(f"Strict-Transport-Security: {said.en}", f"Strict-Transport-Security：{said.zh}"))
    elif not page.headers.get("strict-transport-security"):
        (causes.fail if wanted == "required" else causes.warn)(text)


def _weigh_redirect(answer: Exchange, causes: Causes) -> None:
    said = outcome(answer)
    to = answer.headers.get("location", "")
    if answer.missing is not None and answer.fault not in (Fault.REFUSED, Fault.CONNECT_TIMEOUT, Fault.ROUTE):
        causes.note(Text(f"port 80: {said.en}", f"80 端口：{said.zh}"))
    elif answer.missing is not None:
        causes.warn(Text(f"no redirect from http: port 80: {said.en}", f"没有从 http 跳转：80 端口：{said.zh}"))
    elif answer.status in (301, 308) and to.lower().startswith("https://"):
        return
    elif answer.status in (302, 303, 307) and to.lower().startswith("https://"):
        causes.warn(
            Text(
                f"port 80 redirects to https only for now ({answer.status}): answer 301 or 308",
                f"80 端口只是临时跳转到 https（{answer.status}）：应返回 301 或 308",
            )
        )
    else:
        causes.warn(
            Text(f"port 80 answers without redirecting to https: {said.en}", f"80 端口没有跳转到 https：{said.zh}")
        )


def _weigh_hosts(case: FleetCase, leaf: Certificate, causes: Causes) -> None:
    """What the balancers' hosts show: the file that should be served, and who renews it."""
    known: dict[str, str] = {}
    renewals: list[str] = []
    looked, unread = False, 0
    for name in case.site.balancers:
        facts = facts_of(case, name, LbFacts)
        if isinstance(facts, Missing):
            continue
        for path, found in facts.certificates.items():
            if isinstance(found, Missing):
                unread += 1
            else:
                known[found] = path
        # Traefik and Envoy's usual company renew by themselves; nginx and HAProxy do not.
        own = not isinstance(facts.programs, Missing) and bool({"traefik", "envoy"} & set(facts.programs))
        if not isinstance(facts.renewals, Missing) and not own:
            looked = True
            renewals += facts.renewals
    if known and leaf.fingerprint not in known and not unread:
        files = quoted(listed(sorted(known.values())), 120)
        causes.warn(
            Text(
                f"another certificate is served than is in {files}: reload it",
                f"实际下发的证书与 {files} 中的不同：请 reload",
            )
        )
    elif not known:
        causes.note(Text("not compared with the file on the balancer", "未与负载均衡上的证书文件比对"))
    if looked and not renewals:
        causes.warn(
            Text(
                "nothing renews it: no timer or cron job of certbot, acme.sh, lego or dehydrated was seen",
                "没有自动续期：没看到 certbot、acme.sh、lego 或 dehydrated 的定时器或 cron 任务",
            )
        )
    elif renewals:
        causes.note(Text(f"renewed by {quoted(listed(renewals), 100)}", f"续期：{quoted(listed(renewals), 100)}"))


JUDGE = FleetJudge(TLS, ("lb",), (*HOST_EVIDENCE, TLS), judge, ("lb-tls",))
