"""One GET of a Ray dashboard as a RayAnswer: bounded in time and size, its failure in an operator's words."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import httpx

from dstui.gather.causes import causes
from dstui.gather.wording import clean
from dstui.model import Reason, Text
from dstui.telemetry.ray import Fault
from dstui.telemetry.ray_answers import Endpoint, RayAnswer


async def fetch(
    client: httpx.AsyncClient, base: str, endpoint: Endpoint, headers: Mapping[str, str], where: str
) -> RayAnswer:
    """Never raises for what the other side does. The answer's time is left at 0 for the caller to fill in.

    Compressed answers are not asked for: a small one can unpack into gigabytes.
    """
    wanted = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
    try:
        async with (
            asyncio.timeout(endpoint.timeout),
            client.stream("GET", base + endpoint.path, headers=wanted, timeout=endpoint.timeout) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > endpoint.limit:
                    break
    except (TimeoutError, httpx.TimeoutException):
        seconds = f"{endpoint.timeout:g}"
        why = Text(f"{where} did not answer within {seconds} s", f"{where} 在 {seconds} 秒内没有应答")
        return _failed(endpoint, Reason.TIMEOUT, why)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return _failed(endpoint, Reason.UNREACHABLE, _why(error, where))
    return RayAnswer(
        endpoint,
        at=0.0,
        status=response.status_code,
        body=b"" if len(body) > endpoint.limit else bytes(body),
        cut=len(body) > endpoint.limit,
        size=len(body),
        date=_date(response.headers.get("Date")),
    )


def _failed(endpoint: Endpoint, reason: Reason, why: Text) -> RayAnswer:
    return RayAnswer(endpoint, at=0.0, failure=Fault(endpoint.section, endpoint.path, reason, why))


def _why(error: Exception, where: str) -> Text:
    found = list(causes(error))
    if any(isinstance(cause, socket.gaierror) for cause in found):
        return Text(f"the name in {where} does not resolve here", f"此处无法解析 {where} 中的主机名")
    if any(isinstance(cause, ssl.SSLError) for cause in found):
        said = next(clean(str(cause)) for cause in found if isinstance(cause, ssl.SSLError))
        return Text(f"{where}: TLS failed: {said}", f"{where}：TLS 失败：{said}")
    numbers = {cause.errno for cause in found if isinstance(cause, OSError)}
    if errno.ECONNREFUSED in numbers:
        return Text(
            f"nothing listens on {where}: is the head up, was Ray installed with its dashboard "
            "(`pip install 'ray[default]'`), does it listen beyond 127.0.0.1 (`--dashboard-host`)? "
            "If it should not, set ray.dashboard_access: tunnel",
            f"{where} 没有监听：head 是否启动？Ray 是否带 Dashboard 安装（`pip install 'ray[default]'`）？"
            "是否只监听 127.0.0.1（`--dashboard-host`）？若本应如此，请设置 ray.dashboard_access: tunnel",
        )
    if numbers & {errno.EHOSTUNREACH, errno.ENETUNREACH}:
        return Text(f"there is no route to {where}", f"没有到 {where} 的路由")
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return Text("ray.dashboard_url is no http or https URL", "ray.dashboard_url 不是 http 或 https 地址")
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
        return Text(
            f"{where} closed the connection before its answer was complete: is it an HTTP server?",
            f"{where} 在应答完成前关闭了连接：它是 HTTP 服务吗？",
        )
    said = clean(str(error)) or type(error).__name__
    return Text(f"{where}: {said}", f"{where}：{said}")


def _date(value: str | None) -> float | None:
    """The dashboard's own clock, to the second."""
    try:
        return None if value is None else parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
