"""A model server in the place of the synthetic decoder: answers, refusals, hangs, and its key."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from model_server import Behaviour, Server, server
from swarmbench import _native
from swarmbench.cli import main
from swarmbench.components import Assistant
from swarmbench.components.base import Question
from swarmbench.endpoint import AnswerError, Client, Service
from swarmbench.plan import Endpoint, Process, WorkloadPlan

SECRET = "sk-very-secret-value"
QUESTION = Question("close the ticket", 64, 13)


def asked(behaviour: Behaviour, times: int = 1) -> tuple[list[int], Server]:
    with server(behaviour) as made:
        client = Client(Endpoint(made.url, "tiny", SECRET, timeout_s=0.5))
        try:
            return [client.ask(QUESTION) for _ in range(times)], made
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


def test_a_stream_may_be_cut_into_pieces_anywhere() -> None:
    assert asked("pieces", 2)[0] == [4, 4]


@pytest.mark.parametrize("behaviour", ["hang", "trickle"])
def test_an_answer_that_takes_too_long_is_given_up_in_time(behaviour: Behaviour) -> None:
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        asked(behaviour)
    assert 0.4 < time.monotonic() - began_s < 3.0


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("error", "answered 500"),
        ("busy", "answered 429 Too Many Requests"),
        ("down", "answered 503 Service Unavailable"),
        ("cut", "ended"),
    ],
)
def test_what_is_no_completion_is_an_error(behaviour: Behaviour, said: str) -> None:
    with pytest.raises(AnswerError, match=said):
        asked(behaviour)


def test_a_server_that_is_busy_for_a_while_is_asked_again_by_the_same_client() -> None:
    with server("busy") as made:
        client = Client(Endpoint(made.url))
        with pytest.raises(AnswerError):
            client.ask(QUESTION)
        made.behaviour = "stream"
        assert client.ask(QUESTION) == 3
        client.close()


def test_a_redirection_is_an_error_and_the_key_goes_nowhere_else() -> None:
    with server("stream") as other, server("elsewhere") as made:
        made.elsewhere = other.url
        client = Client(Endpoint(made.url, key=SECRET))
        with pytest.raises(AnswerError, match="answered 307"):
            client.ask(QUESTION)
        assert len(made.asked) == 1
        assert other.asked == []


def test_a_proxy_of_the_environment_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with server("stream") as proxy, server("stream") as made:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.upper(), proxy.url)
        client = Client(Endpoint(made.url))
        assert client.ask(QUESTION) == 3
        client.close()
        assert (len(made.asked), proxy.asked) == (1, [])


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


def ended(url: str) -> tuple[dict[str, int], dict[str, int]]:
    """What the engine counted of a fifth of a second of requests, and what their clients did."""
    component = Assistant.small()
    native = component.prepare(seed=3).native
    outside = _native.Component.outside(native.ops())
    weights = [float(op == "generate") for op in native.ops()]
    workload = _native.Workload(outside, weights=weights, rate=200.0, process="constant")
    engine = _native.Engine([workload], seed=1, workers=0)
    desk = _native.Desk.of(engine)
    assert desk is not None
    endpoint = Endpoint(url, timeout_s=0.5, clients=4)
    plan = WorkloadPlan(
        component=component,
        backend="cpu",
        rate_s=200.0,
        capacity_share=None,
        process=Process("constant"),
        op_weights={"generate": 1.0},
        in_flight_max=64,
        queue_max=64,
        overload="queue",
        stress_in_flight=1,
        endpoint=endpoint,
    )
    service = Service(plan, native, desk, 3)
    phase, _ = engine.begin_open([(0.0, 1.0)])
    engine.wait(0.2)
    engine.cease()
    assert engine.settle(2.0)
    counters = engine.reading(phase)[0][1].counters()
    engine.stop()
    service.join()
    return counters, service.totals.to_json()


@pytest.mark.parametrize("behaviour", ["error", "busy", "down", "elsewhere", "cut"])
def test_each_request_without_an_answer_is_counted_as_one_error(behaviour: Behaviour) -> None:
    with server(behaviour) as made:
        counters, totals = ended(made.url)
    assert counters["errors"] == counters["scheduled"] == totals["failed"] > 20
    assert counters["ok"] == totals["answered"] == totals["timed_out"] == totals["tokens"] == 0


def test_each_answer_is_counted_and_its_question_is_checked() -> None:
    with server("pieces") as made:
        counters, totals = ended(made.url)
    assert counters["ok"] == counters["scheduled"] == counters["verified"] > 20
    assert totals == {
        "answered": counters["ok"],
        "failed": 0,
        "timed_out": 0,
        "tokens": 4 * counters["ok"],
    }


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
