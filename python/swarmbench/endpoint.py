"""A model behind an OpenAI-compatible server in the place of a synthetic one.

Operations of such a workload are hosted: threads of the client open them, one each, and close them
as answered, failed or timed out. What is no question for the server runs natively.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from swarmbench import _native
from swarmbench.components.base import Question
from swarmbench.errors import ConfigurationError
from swarmbench.plan import Endpoint, Plan, WorkloadPlan

#: How long a thread waits for an operation before it looks whether the run is over.
PATIENCE_S = 0.1
#: Seconds that a server has to take a connection before a run starts.
REACH_S = 5.0
#: How long operations under way are waited for at least where a stretch ends.
DRAIN_S = 2.5
#: The longest line of an answer that is read.
LINE_BYTES_MAX = 1 << 20
_PATH = "/chat/completions"


class AnswerError(Exception):
    """A server answered with something else than a completion."""


@dataclass(slots=True)
class Totals:
    """What became of the requests to one server; tokens are those that it streamed."""

    answered: int = 0
    failed: int = 0
    timed_out: int = 0
    tokens: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(
        self, *, answered: int = 0, failed: int = 0, timed_out: int = 0, tokens: int = 0
    ) -> None:
        """Adds to the totals; any thread may."""
        with self.lock:
            self.answered += answered
            self.failed += failed
            self.timed_out += timed_out
            self.tokens += tokens

    def to_json(self) -> dict[str, int]:
        """The totals by name."""
        names = ("answered", "failed", "timed_out", "tokens")
        return {name: getattr(self, name) for name in names}


class Client:
    """One connection to a server, kept from request to request; of one thread."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._trust = _trust(endpoint)
        self._address = urlsplit(endpoint.url)
        path = self._address.path.rstrip("/")
        self._path = path if path.endswith(_PATH) else path + _PATH
        self._connection: HTTPConnection | None = None

    def ask(self, question: Question) -> int:
        """Asks and reads the whole answer; returns how many tokens were streamed.

        Raises `TimeoutError` where it takes longer than the endpoint's limit, `AnswerError`,
        `OSError` or `HTTPException` where there is no answer.
        """
        deadline_s = time.monotonic() + self._endpoint.timeout_s
        body = {
            "messages": [{"role": "user", "content": question.text}],
            "max_tokens": question.tokens_max,
            "temperature": 0,
            "stream": True,
        }
        if self._endpoint.model is not None:
            body["model"] = self._endpoint.model
        try:
            response = self._sent(json.dumps(body), deadline_s)
            tokens = self._streamed(response, deadline_s)
        except (OSError, HTTPException, AnswerError):
            self.close()
            raise
        return tokens

    def close(self) -> None:
        """Ends the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _sent(self, body: str, deadline_s: float) -> HTTPResponse:
        """The response to a request; one more try where a kept connection had been closed."""
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if self._endpoint.key is not None:
            headers["Authorization"] = f"Bearer {self._endpoint.key}"
        was_kept = self._connection is not None
        try:
            return self._requested(body, headers, deadline_s)
        except (ConnectionError, HTTPException):
            self.close()
            if not was_kept:
                raise
            return self._requested(body, headers, deadline_s)

    def _requested(self, body: str, headers: Mapping[str, str], deadline_s: float) -> HTTPResponse:
        if self._connection is None:
            self._connection = _connection(self._endpoint, self._trust, _left_s(deadline_s))
            self._connection.connect()
        self._wait_until(deadline_s)
        self._connection.request("POST", self._path, body, dict(headers))
        self._wait_until(deadline_s)
        response = self._connection.getresponse()
        if response.status != 200:
            raise AnswerError(f"the server answered {response.status} {response.reason}")
        return response

    def _wait_until(self, deadline_s: float) -> None:
        if self._connection is not None and self._connection.sock is not None:
            self._connection.sock.settimeout(_left_s(deadline_s))

    def _streamed(self, response: HTTPResponse, deadline_s: float) -> int:
        """Tokens of a stream of events, or of one JSON object from a server that cannot stream."""
        if "json" in response.headers.get_content_type():
            return _tokens_of(_parsed(response.read(LINE_BYTES_MAX)))
        streamed, stated = 0, None
        while line := self._line(response, deadline_s):
            name, _, value = line.strip().partition(b":")
            if name != b"data":
                continue
            if value.strip() == b"[DONE]":
                response.read()
                return streamed if stated is None else stated
            event = _parsed(value)
            stated = _usage(event) if _usage(event) is not None else stated
            streamed += sum(_has_text(choice) for choice in event.get("choices") or ())
        raise AnswerError("the stream ended before its end was said")

    def _line(self, response: HTTPResponse, deadline_s: float) -> bytes:
        self._wait_until(deadline_s)
        line = response.readline(LINE_BYTES_MAX)
        _left_s(deadline_s)
        return line


def _left_s(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the server took too long")
    return left_s


def _trust(endpoint: Endpoint) -> ssl.SSLContext | None:
    """Whom to trust where a server has to say who it is; reading it takes milliseconds."""
    if urlsplit(endpoint.url).scheme != "https":
        return None
    return ssl.create_default_context(cafile=endpoint.ca_file)


def _connection(
    endpoint: Endpoint, trust: ssl.SSLContext | None, timeout_s: float
) -> HTTPConnection:
    """A connection straight to the server: redirections and proxies would time something else."""
    address = urlsplit(endpoint.url)
    host, port = address.hostname or "", address.port
    if trust is not None:
        return HTTPSConnection(host, port, timeout=timeout_s, context=trust)
    return HTTPConnection(host, port, timeout=timeout_s)


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise AnswerError("the answer is no JSON") from error
    if not isinstance(value, dict) or "error" in value:
        raise AnswerError("the answer is no completion")
    return value


def _usage(event: Mapping[str, Any]) -> int | None:
    usage = event.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else None


def _has_text(choice: Any) -> bool:
    delta = choice.get("delta") if isinstance(choice, dict) else None
    return isinstance(delta, dict) and bool(delta.get("content"))


def _tokens_of(answer: Mapping[str, Any]) -> int:
    """Tokens of an answer in one piece: as it says, else by its words."""
    stated = _usage(answer)
    if stated is not None:
        return stated
    try:
        return len(str(answer["choices"][0]["message"]["content"]).split())
    except (KeyError, IndexError, TypeError) as error:
        raise AnswerError("the answer holds no message") from error


class Service:
    """The threads that serve one workload with a server's help, until the engine is stopped."""

    def __init__(
        self, workload: WorkloadPlan, native: _native.Component, desk: _native.Desk, seed: int
    ) -> None:
        assert workload.endpoint is not None
        self.totals = Totals()
        self._component, self._endpoint = workload.component, workload.endpoint
        self._native, self._desk, self._seed = native, desk, seed
        self._ops = native.ops()
        # Whatever is drawn once is drawn before the first operation.
        self._component.question(seed, 0)
        self._threads = [
            threading.Thread(target=self._serve, name=f"{workload.name}-{number}", daemon=True)
            for number in range(workload.endpoint.clients)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Waits for the threads, no longer than a request may take."""
        for thread in self._threads:
            thread.join(self._endpoint.timeout_s + 1.0)

    def _serve(self) -> None:
        client = Client(self._endpoint)
        while not self._desk.stopped():
            opened = self._desk.open(PATIENCE_S)
            if opened is None:
                continue
            op = self._ops[opened.op]
            if op == self._component.endpoint_op:
                self._ask(client, opened)
            else:
                inputs = self._component.inputs(op, self._seed, opened.key)
                opened.close(bool(self._native.evaluate(op, inputs)))
        client.close()

    def _ask(self, client: Client, opened: _native.Opened) -> None:
        """One question: the answer is timed, the question is checked by parsing it natively."""
        question = self._component.question(self._seed, opened.key)
        try:
            tokens = client.ask(question)
        except TimeoutError:
            opened.close(False)
            self.totals.count(timed_out=1)
        except (OSError, HTTPException, AnswerError):
            opened.close(False)
            self.totals.count(failed=1)
        else:
            wrong = not self._component.is_understood(self._native, question)
            opened.close(True, checked=1, violations=int(wrong))
            self.totals.count(answered=1, tokens=tokens)


def reach(plan: Plan) -> None:
    """Raises `ConfigurationError` where a server of the plan takes no connection."""
    if plan.simulation is not None:
        return
    for workload in plan.workloads:
        endpoint = workload.endpoint
        if endpoint is None or not workload.hosted:
            continue
        try:
            connection = _connection(endpoint, _trust(endpoint), REACH_S)
            connection.connect()
            connection.close()
        except (OSError, ValueError) as error:
            address = urlsplit(endpoint.url)
            # Without what an address may hold of names and keys.
            shown = f"{address.scheme}://{address.netloc.rpartition('@')[2]}"
            raise ConfigurationError(
                f"workloads.{workload.name}.endpoint.url", f"`{shown}` {_refusal(error)}"
            ) from None


def _refusal(error: OSError | ValueError) -> str:
    """Why a server cannot be asked, and what would do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"shows a certificate that is not trusted ({error.verify_message}); name the one that "
            "signed it in `ca_file`"
        )
    if isinstance(error, ssl.SSLError):
        return f"does not speak https ({error.reason}); use the scheme that it speaks"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"takes no connection ({reason or error}); start the server, or leave the endpoint out"


def patience_s(plan: Plan) -> float:
    """How long operations under way are waited for: a request may take all of its time."""
    limits = [each.endpoint.timeout_s for each in plan.workloads if each.hosted and each.endpoint]
    return max([DRAIN_S, *limits])


@contextmanager
def served(
    plan: Plan,
    components: Mapping[str, _native.Component],
    desks: Mapping[str, _native.Desk],
    engine: _native.Engine,
) -> Iterator[dict[str, Totals]]:
    """Serves the hosted workloads of an engine at their desks; yields the totals by component.

    The engine is stopped where the block ends: that is what ends the threads.
    """
    services = {
        name: Service(plan.workload(name), components[name], desk, plan.seed)
        for name, desk in desks.items()
        if plan.workload(name).hosted
    }
    try:
        yield {name: service.totals for name, service in services.items()}
    finally:
        engine.stop()
        for service in services.values():
            service.join()
