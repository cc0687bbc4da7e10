"""What all functional checks ask of an answer: that it came, that it is one, that it says why it refuses."""

from __future__ import annotations

from dstui.facts import openai
from dstui.facts.exchange import Exchange
from dstui.facts.func import FuncTarget
from dstui.facts.raw import Missing
from dstui.judge.rulings import Causes, quoted
from dstui.model import Reason, Text

KEYLESS_CODES = (401, 403)
LIMITED_CODES = (429, 503)

NO_ENDPOINT = Missing(Reason.NO_TARGETS, "the inventory names no API; set endpoints.api")


def came(causes: Causes, of: FuncTarget, exchange: Exchange, what: Text) -> bool:
    """Whether an answer came that can be judged; else the cause is noted: unreachable and no key are no failures."""
    if exchange.missing is not None:
        if exchange.fault is not None and exchange.fault.connected:
            why = quoted(exchange.missing.why)
            causes.fail(Text(f"{what.en}: {why}", f"{what.zh}：{why}"))
        else:
            causes.missing(exchange.missing, what)
        return False
    if exchange.status in KEYLESS_CODES and of.keyless is not None:
        why = quoted(of.keyless.why)
        text = Text(
            f"{what.en}: HTTP {exchange.status}, and there is no key to send ({why})",
            f"{what.zh}：HTTP {exchange.status}，且没有可用的密钥（{why}）",
        )
        causes.unknown(Reason.NO_CREDENTIAL, text, of.keyless.why)
        return False
    return True


def not_asked(causes: Causes, what: Text) -> None:
    """A hole in what was observed: it proves nothing, whatever the rest shows."""
    causes.unknown(Reason.NOT_RUN, Text(f"{what.en}: not asked", f"{what.zh}：未请求"))


def said_no(exchange: Exchange) -> str:
    """The server's own words for a refusal, short; empty when it gave none that can be read."""
    error = openai.error_of(exchange)
    return quoted(error.message, 80) if error is not None else ""


def status_text(exchange: Exchange, what: Text) -> Text:
    """`plain: HTTP 500, out of memory`."""
    words = said_no(exchange)
    more = f", {words}" if words else ""
    return Text(f"{what.en}: HTTP {exchange.status}{more}", f"{what.zh}：HTTP {exchange.status}{more}")
