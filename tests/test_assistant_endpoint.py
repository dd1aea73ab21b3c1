"""A model server in the place of the synthetic decoder: answers, refusals, hangs, and its key."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest

from swarmbench import _native
from swarmbench.cli import main
from swarmbench.components import Assistant
from swarmbench.components.base import Question
from swarmbench.endpoint import AnswerError, Client
from swarmbench.plan import Endpoint

SECRET = "sk-very-secret-value"
Behaviour = Literal["stream", "whole", "hang", "trickle", "error", "cut"]


class Server(ThreadingHTTPServer):
    """Speaks as much of the protocol as a client sees, and remembers what it was asked."""

    daemon_threads = True
    request_queue_size = 128
    block_on_close = False

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), Completions)
        self.behaviour = behaviour
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


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
def server(behaviour: Behaviour) -> Iterator[Server]:
    made = Server(behaviour)
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.ended.set()
        made.shutdown()
        made.server_close()
        thread.join()


def asked(behaviour: Behaviour, times: int = 1) -> tuple[list[int], Server]:
    with server(behaviour) as made:
        client = Client(Endpoint(made.url, "tiny", SECRET, timeout_s=0.5))
        try:
            return [client.ask(Question("close the ticket", 64, 13)) for _ in range(times)], made
        finally:
            client.close()


def test_streamed_tokens_are_counted_and_a_connection_is_used_again() -> None:
    tokens, made = asked("stream", 3)
    assert tokens == [3, 3, 3]
    assert made.keys == {f"Bearer {SECRET}"}
    (question, *_) = made.asked
    assert question["path"] == "/v1/chat/completions"
    assert question["messages"] == [{"role": "user", "content": "close the ticket"}]
    assert (question["model"], question["max_tokens"], question["stream"]) == ("tiny", 64, True)


def test_a_server_that_does_not_stream_says_how_many_tokens_there_were() -> None:
    assert asked("whole", 2)[0] == [7, 7]


@pytest.mark.parametrize("behaviour", ["hang", "trickle"])
def test_an_answer_that_takes_too_long_is_given_up_in_time(behaviour: Behaviour) -> None:
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        asked(behaviour)
    assert 0.4 < time.monotonic() - began_s < 3.0


@pytest.mark.parametrize(("behaviour", "said"), [("error", "answered 500"), ("cut", "ended")])
def test_what_is_no_completion_is_an_error(behaviour: Behaviour, said: str) -> None:
    with pytest.raises(AnswerError, match=said):
        asked(behaviour)


def test_clients_close_in_any_order_and_nobody_waits_for_the_slowest() -> None:
    outside = _native.Component.outside(["wait"])
    workload = _native.Workload(outside, weights=[1.0], rate=200.0, process="constant")
    engine = _native.Engine([workload], seed=1, workers=0)
    desk = _native.Desk.of(engine)
    assert desk is not None
    assert _native.Desk.of(engine) is None
    held: list[_native.Opened] = []

    def serve(is_slow: bool) -> None:
        while not desk.stopped():
            opened = desk.open(0.05)
            if opened is not None and is_slow and not held:
                held.append(opened)
            elif opened is not None:
                assert opened.close(True, checked=1)
                assert not opened.close(True)

    threads = [threading.Thread(target=serve, args=(slow,)) for slow in (True, False, False)]
    for thread in threads:
        thread.start()
    phase, _ = engine.begin_open([(0.0, 1.0)])
    engine.wait(0.3)
    engine.cease()
    assert not engine.settle(0.05), "one is still held"
    assert held[0].close(False, violations=1)
    assert engine.settle(2.0)
    counters = engine.reading(phase)[0][0].counters()
    engine.stop()
    for thread in threads:
        thread.join()

    assert counters["errors"] == counters["violations"] == 1
    assert counters["ok"] == counters["verified"] > 30
    ended = counters["ok"] + counters["errors"] + counters["abandoned"]
    assert counters["scheduled"] == ended


def test_what_a_client_forgets_is_an_error_and_not_under_way_for_ever() -> None:
    workload = _native.Workload(_native.Component.outside(["x"]), weights=[1.0], rate=1.0)
    engine = _native.Engine([workload], seed=1, workers=0)
    desk = _native.Desk.of(engine)
    assert desk is not None
    phase, _ = engine.begin_closed([2])
    for _ in range(5):
        assert desk.open(1.0) is not None
    engine.cease()
    while desk.open(0.05) is not None:
        pass
    assert engine.settle(1.0)
    counters = engine.reading(phase)[0][0].counters()
    engine.stop()
    assert counters["errors"] == counters["scheduled"] >= 5


def run(url: str, out: Path, *options: str) -> int:
    """A short run of the assistant alone with a server's help; returns its exit status."""
    sets = {"url": url, "model": "tiny", "key_variable": "SWARM_KEY"}
    sets |= dict(option.split("=", 1) for option in options)
    words = ["max-throughput", "--components", "assistant", "--duration", "4s", "--no-live"]
    words += ["--set", "workloads.assistant.params.utterances=256", "--out", str(out), "--json"]
    words += ["--allow-concurrent", "--threads", "1", "--memory-budget", "600MB"]
    for name, value in sets.items():
        words += ["--set", f"workloads.assistant.endpoint.{name}={value}"]
    return main(words)


def test_a_run_asks_the_server_and_keeps_its_key_out_of_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWARM_KEY", SECRET)
    with server("stream") as made:
        status = run(made.url, tmp_path)
    printed = capsys.readouterr()
    assert status in (0, 1, 7), printed.err
    (folder,) = tmp_path.iterdir()
    result = json.loads((folder / "result.json").read_text())
    component = result["components"]["assistant"]
    assert component["errors"] == component["violations"] == 0
    assert set(component["operations"]) == {"parse", "generate", "learn"}
    assert component["operations"]["generate"]["verified"] > 0
    assert component["goodput"]["ceiling"] is None
    endpoints = json.loads((folder / "manifest.json").read_text())["endpoints"]["assistant"]
    assert endpoints["tokens"] == 3 * endpoints["answered"] > 0
    assert endpoints["failed"] == endpoints["timed_out"] == 0
    assert made.keys == {f"Bearer {SECRET}"}
    command = made.asked[0]["messages"][0]["content"]
    assert " with " in command
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert SECRET not in printed.out + printed.err


def test_a_server_that_hangs_costs_errors_and_the_run_goes_on_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWARM_KEY", SECRET)
    with server("hang") as made:
        status = run(made.url, tmp_path, "timeout=200ms", "clients=4")
    assert status in (1, 7), capsys.readouterr().err
    (folder,) = tmp_path.iterdir()
    result = json.loads((folder / "result.json").read_text())
    operations = result["components"]["assistant"]["operations"]
    assert operations["generate"]["errors"] > 0
    assert operations["generate"]["ok"] == 0
    assert operations["parse"]["errors"] == 0
    assert operations["parse"]["ok"] > 0
    endpoints = json.loads((folder / "manifest.json").read_text())["endpoints"]["assistant"]
    assert endpoints["timed_out"] > 0
    assert endpoints["answered"] == 0


def test_a_server_that_refuses_is_said_before_anything_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWARM_KEY", SECRET)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    assert run(url, tmp_path) == 2
    line = capsys.readouterr().err
    assert f"workloads.assistant.endpoint.url: `{url}` takes no connection" in line
    assert "Connection refused" in line
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_the_environment_lacks_is_refused_by_the_variables_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SWARM_KEY", raising=False)
    assert run("http://127.0.0.1:9", tmp_path) == 2
    line = capsys.readouterr().err
    assert "endpoint.key_variable: the environment has no `SWARM_KEY`" in line
    assert list(tmp_path.iterdir()) == []


def test_a_question_is_the_command_of_the_operation_and_is_checked_by_parsing_it() -> None:
    component = Assistant.small()
    native = component.prepare(seed=3).native
    for key in range(20):
        question = component.question(3, key)
        answer = component.inputs("generate", 3, key)
        made = native.evaluate("generate", answer)
        assert made["command"].tobytes().decode() == question.text
        assert component.is_understood(native, question)
        wrong = Question(question.text, 64, question.label % 20 + 1)
        assert not component.is_understood(native, wrong)
