"""Small servers of the lab: exporters on a host (`services.py PORT=FILE …`), DNS and a mirror on the controller."""

from __future__ import annotations

import http.server
import socketserver
import struct
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

NXDOMAIN = 3
A, IN = 1, 1


class _Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        return


def file_server(address: str, port: int, file: Path) -> _Server:
    """Serves one file, read anew for each request, whatever the path."""

    class Handler(_Quiet):
        def do_GET(self) -> None:
            self.answer(file.read_bytes())

    return _Server((address, port), Handler)


def mirror(address: str, port: int) -> _Server:
    """Says yes to every path, as a mirror of everything would."""

    class Handler(_Quiet):
        def do_GET(self) -> None:
            self.answer(b"fine\n")

    return _Server((address, port), Handler)


def name_server(address: str, names: Mapping[str, str]) -> socketserver.ThreadingUDPServer:
    """A DNS server that knows the A records of `names` and nothing else."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            query, sock = self.request
            sock.sendto(answer(query, names), self.client_address)

    class Server(socketserver.ThreadingUDPServer):
        daemon_threads = True
        allow_reuse_address = True

    return Server((address, 53), Handler)


def answer(query: bytes, names: Mapping[str, str]) -> bytes:
    """The reply to a DNS query of one question."""
    number, _, _ = struct.unpack("!HHH", query[:6])
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    question = query[12 : at + 5]
    kind = struct.unpack("!H", query[at + 1 : at + 3])[0]
    address = names.get(".".join(labels).lower())
    records = b""
    if address and kind == A:
        packed = bytes(int(part) for part in address.split("."))
        records = struct.pack("!HHHIH", 0xC00C, A, IN, 60, 4) + packed
    flags = 0x8580 | (0 if address else NXDOMAIN)
    return struct.pack("!HHHHHH", number, flags, 1, 1 if records else 0, 0, 0) + question + records


def main() -> None:
    servers = []
    for word in sys.argv[1:]:
        port, _, file = word.partition("=")
        servers.append(file_server("0.0.0.0", int(port), Path(file)))
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
