"""HTTP: GET of URLs as this host would reach them, through the proxies that its own configuration names.

Runs in children only, loaded when first needed. Proxy addresses and their passwords never appear in an answer.
"""

import base64
import http.client
import os
import re
import socket
import ssl
import threading
import time
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from dstui.gather.collector.wire import errno_name, number, string, strings, text

AT_ONCE = 16
CONNECT_SECONDS = 3.0
_URL = r"[\"']?([^\"'\s;]+)[\"']?"
PROXY_SOURCES = (
    ("/etc/environment", r"(?im)^\s*(?:export\s+)?(http|https|no)_proxy\s*=\s*" + _URL),
    ("/etc/apt/apt.conf", r"(?im)^\s*Acquire::(http|https)::proxy\s+" + _URL),
    ("/etc/apt/apt.conf.d/*", r"(?im)^\s*Acquire::(http|https)::proxy\s+" + _URL),
    ("/etc/systemd/system/docker.service.d/*.conf", r"(?i)(http|https|no)_proxy=" + _URL),
    ("/etc/pip.conf", r"(?im)^\s*(proxy)\s*=\s*" + _URL),
    ("~/.config/pip/pip.conf", r"(?im)^\s*(proxy)\s*=\s*" + _URL),
    ("~/.pip/pip.conf", r"(?im)^\s*(proxy)\s*=\s*" + _URL),
)


def get(args: "dict[str, object]") -> "dict[str, object]":
    """HTTP: `{urls, timeout, total, limit, proxy}`."""
    urls = strings(args, "urls")
    total = number(args, "total", 20.0)
    wish = string(args, "proxy")
    proxies = {} if wish == "-" else {"http": wish, "https": wish} if wish else configured_proxies()
    seconds, limit = number(args, "timeout", 8.0), int(number(args, "limit", 1024))
    results: "dict[str, dict[str, object]]" = {}
    todo = list(urls)
    done = threading.Semaphore(0)

    def work() -> None:
        while todo:
            try:
                url = todo.pop(0)
            except IndexError:
                return
            results[url] = _get(url, proxies, seconds, limit)
            done.release()

    due = time.monotonic() + total
    for _ in range(min(AT_ONCE, len(urls))):
        threading.Thread(target=work, daemon=True).start()
    for _ in urls:
        if not done.acquire(timeout=max(0.0, due - time.monotonic())):
            break
    late = _result(kind="timeout", error="not finished within %g s" % total, ms=total * 1000)
    return {"value": {url: results.get(url, late) for url in urls}}


def configured_proxies(sources: "tuple[tuple[str, str], ...]" = PROXY_SOURCES) -> "dict[str, str]":
    """`http`, `https` and `no` → value; the first file that names one wins. Unreadable files are passed over."""
    import glob

    proxies: "dict[str, str]" = {}
    for pattern, wanted in sources:
        for path in sorted(glob.glob(os.path.expanduser(pattern))):
            try:
                with open(path, errors="replace") as conf:
                    content = conf.read(65536)
            except OSError:
                continue
            for kind, value in re.findall(wanted, content):
                for name in ("http", "https") if kind.lower() == "proxy" else (kind.lower(),):
                    if value.upper() != "DIRECT":
                        proxies.setdefault(name, value)
    return proxies


def proxy_for(host: str, scheme: str, proxies: "dict[str, str]") -> str:
    """The proxy that a URL goes through, `""` for none; `no` lists hosts, domains and CIDRs that need none."""
    proxy = proxies.get(scheme, "")
    for rule in filter(None, proxies.get("no", "").replace(",", " ").split()):
        bare = rule.lstrip("*").lstrip(".")
        if rule == "*" or host == bare or (bare and host.endswith("." + bare)) or _inside(host, rule):
            return ""
    return proxy


def _inside(host: str, network: str) -> bool:
    from ipaddress import ip_address, ip_network

    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False


def _result(
    status: "int | None" = None,
    kind: "str | None" = None,
    error: "str | None" = None,
    ms: float = 0.0,
    dns_ms: "float | None" = None,
    via_proxy: bool = False,
    body: str = "",
) -> "dict[str, object]":
    return {
        "status": status,
        "ms": round(ms, 1),
        "dns_ms": dns_ms,
        "via_proxy": via_proxy,
        "kind": kind,
        "error": error,
        "insecure_status": None,
        "body": body,
    }


def _get(url: str, proxies: "dict[str, str]", seconds: float, limit: int) -> "dict[str, object]":
    result = _follow(url, proxies, seconds, limit, ssl.create_default_context())
    if result["kind"] == "tls":
        lenient = ssl.create_default_context()
        lenient.check_hostname = False
        lenient.verify_mode = ssl.CERT_NONE
        result["insecure_status"] = _follow(url, proxies, seconds, 0, lenient)["status"]
    return result


def _follow(
    url: str, proxies: "dict[str, str]", seconds: float, limit: int, trust: ssl.SSLContext
) -> "dict[str, object]":
    visit = Visit(proxies, time.monotonic() + seconds, limit, trust)
    status, kind, error = None, None, None
    try:
        status, location = visit.get(url)
        if status in (301, 302, 303, 307, 308) and location:
            status = visit.get(urljoin(url, location))[0]
    except NameUnknown as failure:
        kind, error = "dns", str(failure)
    except (socket.timeout, TimeoutError):
        kind, error = "timeout", "no answer within %g s" % seconds
    except ssl.SSLError as failure:
        kind, error = "tls", getattr(failure, "verify_message", "") or failure.reason or type(failure).__name__
    except (http.client.HTTPException, ValueError) as failure:
        # Their messages may quote an address with a password in it.
        kind, error = "http", type(failure).__name__
    except OSError as failure:
        kind, error = "connect", errno_name(failure)
    ms = (time.monotonic() - visit.started) * 1000
    return _result(status if kind is None else None, kind, error, ms, visit.dns_ms, visit.via_proxy, visit.body)


class NameUnknown(Exception):
    """A host name that the resolver does not know."""


class Refused(http.client.HTTPException):
    """The proxy would not open a tunnel."""


class Visit:
    """One URL and at most one redirect, within one time limit."""

    def __init__(self, proxies: "dict[str, str]", due: float, limit: int, trust: ssl.SSLContext) -> None:
        self.started = time.monotonic()
        self.dns_ms: "float | None" = None
        self.via_proxy = False
        self.body = ""
        self._proxies = proxies
        self._due = due
        self._limit = limit
        self._trust = trust

    def get(self, url: str) -> "tuple[int, str | None]":
        """Status and Location header. Raises NameUnknown, OSError, HTTPException or ValueError."""
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        if not host or not port:
            raise ValueError("not an http or https URL")
        proxy = proxy_for(host, parts.scheme, self._proxies)
        target = urlsplit(proxy if "://" in proxy else "http://" + proxy) if proxy else None
        headers = {
            "Host": parts.netloc.rpartition("@")[2],
            "User-Agent": "dstui",
            "Accept": "*/*",
            "Connection": "close",
        }
        if self._limit:
            headers["Range"] = "bytes=0-%d" % (self._limit - 1)
        path = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        self.via_proxy = target is not None
        if target is None:
            channel = self._connect(host, port)
        else:
            channel = self._connect(target.hostname or "", target.port or 3128)
        try:
            if target is not None and parts.scheme == "https":
                self._tunnel(channel, host, port, target)
            elif target is not None:
                headers.update(_credentials(target))
                path = "%s://%s%s" % (parts.scheme, headers["Host"], path)
            if parts.scheme == "https":
                channel = self._trust.wrap_socket(channel, server_hostname=host)
            channel.settimeout(self._left())
            connection = http.client.HTTPConnection(host, port)
            connection.sock = channel
            connection.request("GET", path, headers=headers)
            with connection.getresponse() as response:
                self.body = text(response.read(self._limit)) if self._limit else ""
                return response.status, response.getheader("Location")
        finally:
            channel.close()

    def _left(self) -> float:
        left = self._due - time.monotonic()
        if left <= 0:
            raise socket.timeout()
        return left

    def _connect(self, host: str, port: int) -> socket.socket:
        before = time.monotonic()
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameUnknown(getattr(error, "strerror", None) or "not a host name")
        if not self.via_proxy and self.dns_ms is None:
            self.dns_ms = round((time.monotonic() - before) * 1000, 1)
        failure: "OSError" = OSError()
        for family, kind, protocol, _, address in infos:
            channel = socket.socket(family, kind, protocol)
            try:
                channel.settimeout(min(CONNECT_SECONDS, self._left()))
                channel.connect(address)
                channel.settimeout(self._left())
                return channel
            except OSError as error:
                failure = error
                channel.close()
        raise failure

    def _tunnel(self, channel: socket.socket, host: str, port: int, proxy: SplitResult) -> None:
        asked = ["CONNECT %s:%d HTTP/1.1" % (host, port), "Host: %s:%d" % (host, port)]
        asked += ["%s: %s" % pair for pair in _credentials(proxy).items()]
        channel.sendall("\r\n".join(asked + ["", ""]).encode("ascii"))
        said = b""
        while b"\r\n\r\n" not in said and len(said) < 65536:
            channel.settimeout(self._left())
            chunk = channel.recv(1)
            if not chunk:
                break
            said += chunk
        words = said.split(None, 2)
        if len(words) < 2 or words[1] != b"200":
            raise Refused()


def _credentials(proxy: SplitResult) -> "dict[str, str]":
    if not proxy.username:
        return {}
    pair = unquote(proxy.username) + ":" + unquote(proxy.password or "")
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")}
