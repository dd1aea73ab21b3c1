"""A model server that answers as it is told: at once, late, in pieces, wrongly, or not at all."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Behaviour = Literal[
    "stream", "pieces", "whole", "hang", "trickle", "error", "busy", "down", "elsewhere", "cut"
]


class Server(ThreadingHTTPServer):
    """Speaks as much of the protocol as a client sees, and remembers what it was asked."""

    daemon_threads = True
    request_queue_size = 128
    block_on_close = False

    def __init__(self, behaviour: Behaviour, identity: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Completions)
        self.behaviour, self.identity = behaviour, identity
        self.elsewhere: str | None = None
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        scheme = "http" if self.identity is None else "https"
        return f"{scheme}://127.0.0.1:{self.server_address[1]}/v1"

    def get_request(self) -> tuple[Any, Any]:
        """Who asks shakes hands in a thread of its own, and keeps nobody else waiting."""
        connection, address = super().get_request()
        if self.identity is not None:
            connection = self.identity.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of clients that turn away."""


class Completions(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked | {"path": self.path})
        self.server.keys.add(self.headers["Authorization"])
        getattr(self, self.server.behaviour)()

    def stream(self) -> None:
        self.begin("text/event-stream")
        for word in ("all", "is", "well"):
            self.event({"choices": [{"delta": {"content": word}}]})
        self.event({"choices": [{"delta": {}}]})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def pieces(self) -> None:
        """Chunks that end anywhere, two events in one, a comment and other fields between them."""
        text = b""
        for word in ("all", "is", "well", "\u00fc"):
            event = json.dumps({"choices": [{"delta": {"content": word}}]}, ensure_ascii=False)
            text += (
                b": still here\r\n\r\nevent: x\r\nid: 7\r\ndata: " + event.encode() + b"\r\n\r\n"
            )
        text += b"data: [DONE]\n\n"
        self.begin("text/event-stream")
        for first in range(0, len(text), 7):
            self.chunk(text[first : first + 7])
            self.wfile.flush()
        self.chunk(b"")

    def whole(self) -> None:
        answer = {"choices": [{"message": {"content": "x"}}], "usage": {"completion_tokens": 7}}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def hang(self) -> None:
        self.server.ended.wait(20.0)
        self.close_connection = True

    def trickle(self) -> None:
        """Never silent for long, and never done."""
        self.begin("text/event-stream")
        try:
            while not self.server.ended.wait(0.05):
                self.event({"choices": [{"delta": {"content": "more"}}]})
        except OSError:
            self.close_connection = True

    def error(self) -> None:
        self.send_error(500)

    def busy(self) -> None:
        self.send_error(429)

    def down(self) -> None:
        self.send_error(503)

    def elsewhere(self) -> None:
        """The same question is to be asked of another server."""
        self.send_response(307)
        self.send_header("Location", f"{self.server.elsewhere}/chat/completions")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def cut(self) -> None:
        self.begin("text/event-stream")
        self.event({"choices": [{"delta": {"content": "almost"}}]})
        self.chunk(b"")

    def begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, value: dict[str, Any]) -> None:
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def chunk(self, part: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

    def log_message(self, *words: object) -> None:
        """Says nothing."""


@contextmanager
def server(behaviour: Behaviour, identity: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server on a port of its own, over https where it is given an identity."""
    made = Server(behaviour, identity)
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.ended.set()
        made.shutdown()
        made.server_close()
        thread.join()
