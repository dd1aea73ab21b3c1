"""A model server over https: who it says it is, and whose word for it is taken."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from model_server import server
from swarmbench.cli import main
from swarmbench.components.base import Question
from swarmbench.endpoint import Client
from swarmbench.plan import Endpoint

QUESTION = Question("close the ticket", 64, 13)


@dataclass(frozen=True)
class Authority:
    """Who signs certificates, and the file by which others know it."""

    signer: trustme.CA
    file: Path

    def identity(self, *names: str) -> ssl.SSLContext:
        """What a server of those names shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.signer.issue_cert(*names).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> list[Authority]:
    folder = tmp_path_factory.mktemp("authorities")
    made = [Authority(trustme.CA(), folder / f"{number}.pem") for number in range(2)]
    for authority in made:
        authority.signer.cert_pem.write_to_path(str(authority.file))
    return made


def asked(url: str, trusted: Authority | None, times: int = 1) -> list[int]:
    file = None if trusted is None else str(trusted.file)
    client = Client(Endpoint(url, key="secret", ca_file=file, timeout_s=5.0))
    try:
        return [client.ask(QUESTION) for _ in range(times)]
    finally:
        client.close()


def test_a_server_whose_authority_is_named_is_asked_over_one_connection(
    authorities: list[Authority],
) -> None:
    with server("pieces", authorities[0].identity("127.0.0.1")) as made:
        assert made.url.startswith("https://")
        assert asked(made.url, authorities[0], 3) == [4, 4, 4]
        assert made.keys == {"Bearer secret"}


@pytest.mark.parametrize("trusted", [None, 1])
def test_a_server_that_nobody_vouches_for_is_told_nothing(
    authorities: list[Authority], trusted: int | None
) -> None:
    other = None if trusted is None else authorities[trusted]
    with server("stream", authorities[0].identity("127.0.0.1")) as made:
        with pytest.raises(ssl.SSLCertVerificationError):
            asked(made.url, other)
        assert (made.asked, made.keys) == ([], set())


def test_a_certificate_of_another_name_is_not_taken(authorities: list[Authority]) -> None:
    with server("stream", authorities[0].identity("elsewhere.example")) as made:
        with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
            asked(made.url, authorities[0])
        assert made.asked == []


def test_a_hang_over_https_is_given_up_in_time(authorities: list[Authority]) -> None:
    with server("hang", authorities[0].identity("127.0.0.1")) as made:
        client = Client(Endpoint(made.url, ca_file=str(authorities[0].file), timeout_s=0.3))
        with pytest.raises(TimeoutError):
            client.ask(QUESTION)


def run(url: str, out: Path, *options: str) -> int:
    """A short run of the assistant alone with a server's help; returns its exit status."""
    words = ["max-throughput", "--components", "assistant", "--duration", "4s", "--no-live"]
    words += ["--set", "workloads.assistant.params.utterances=256", "--out", str(out), "--json"]
    words += ["--allow-concurrent", "--threads", "1", "--memory-budget", "600MB"]
    for option in (f"url={url}", *options):
        words += ["--set", f"workloads.assistant.endpoint.{option}"]
    return main(words)


def test_a_run_over_https_is_answered_by_a_server_of_a_named_authority(
    authorities: list[Authority], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server("stream", authorities[0].identity("127.0.0.1")) as made:
        status = run(made.url, tmp_path, f"ca_file={authorities[0].file}", "clients=4")
    assert status in (0, 1, 7), capsys.readouterr().err
    (folder,) = tmp_path.iterdir()
    totals = json.loads((folder / "manifest.json").read_text())["endpoints"]["assistant"]
    assert totals["tokens"] == 3 * totals["answered"] > 0
    assert totals["failed"] == totals["timed_out"] == 0


def test_a_run_is_refused_where_the_certificate_is_not_trusted(
    authorities: list[Authority], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server("stream", authorities[0].identity("127.0.0.1")) as made:
        assert run(made.url, tmp_path) == 2
        assert made.asked == []
    line = capsys.readouterr().err
    shown = made.url.removesuffix("/v1")
    assert f"endpoint.url: `{shown}` shows a certificate that is not trusted" in line
    assert "name the one that signed it in `ca_file`" in line
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_speaks_http_alone_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server("stream") as made:
        assert run(made.url.replace("http:", "https:"), tmp_path) == 2
    assert "does not speak https" in capsys.readouterr().err


def test_a_file_without_certificates_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing of the kind\n")
    for file, problem in ((empty, "holds no certificates"), (tmp_path / "none", "cannot be read")):
        assert run("https://127.0.0.1:9", tmp_path / "out", f"ca_file={file}") == 2
        line = capsys.readouterr().err
        assert f"endpoint.ca_file: `{file}` {problem}" in line
