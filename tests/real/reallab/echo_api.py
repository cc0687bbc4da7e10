"""A small API in the place of vLLM, with vLLM's counter: python3 echo_api.py PORT KEY PAUSE. Runs on a lab host.

PAUSE is seconds between the pieces of a stream.
"""

import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "echo"
PIECES = 40


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    key = ""
    pause = 0.0
    served = 0
    lock = threading.Lock()

    def do_GET(self) -> None:
        if self.path == "/health":
            self.say(200, b"", "text/plain")
        elif self.path == "/metrics":
            labels = '{engine="0",finished_reason="stop",model_name="echo"}'
            page = f"# TYPE vllm:request_success counter\nvllm:request_success_total{labels} {self.served}\n"
            self.say(200, page.encode(), "text/plain; version=0.0.4")
        elif self.path.startswith("/v1/") and self.headers.get("Authorization") != f"Bearer {self.key}":
            self.say(401, b'{"error": "Unauthorized"}')
        elif self.path.partition("?")[0] == "/v1/models":
            self.say(200, json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode())
        else:
            self.say(404, b'{"detail": "Not Found"}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {self.key}":
            self.say(401, b'{"error": "Unauthorized"}')
            return
        if self.path != "/v1/chat/completions":
            self.say(404, b'{"detail": "Not Found"}')
            return
        with self.lock:
            Api.served += 1
            number = Api.served
        asked = json.loads(body)
        # As vLLM: the id of the request is that of the answer.
        given = self.headers.get("X-Request-Id") or f"{socket.gethostname()}-{number}"
        head = {"id": f"chatcmpl-{given}", "model": MODEL}
        if asked.get("stream"):
            self.stream(head)
            return
        time.sleep(0.05)
        choices = [{"index": 0, "message": {"role": "assistant", "content": "pong"}, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        self.say(200, json.dumps({**head, "object": "chat.completion", "choices": choices, "usage": usage}).encode())

    def stream(self, head: "dict[str, object]") -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for number in range(PIECES):
            choices = [{"index": 0, "delta": {"content": f"{number} "}, "finish_reason": None}]
            event = json.dumps({**head, "object": "chat.completion.chunk", "choices": choices})
            self.wfile.write(f"data: {event}\n\n".encode())
            self.wfile.flush()
            time.sleep(self.pause)
        self.wfile.write(b"data: [DONE]\n\n")

    def say(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 256


if __name__ == "__main__":
    Api.key, Api.pause = sys.argv[2], float(sys.argv[3])
    Server(("0.0.0.0", int(sys.argv[1])), Api).serve_forever()
