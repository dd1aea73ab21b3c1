"""Every rule of the house holds for every tracked file, and each is shown failing once."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath

import pytest

from tidy_rules import RULES, Rule

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "python/swarmbench"

#: Rule → (path, text) that breaks it and (path, text) that is close to it but right.
EXAMPLES: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "long_lines": (("rust/core/src/a.rs", "x" * 101), ("rust/core/src/a.rs", "x" * 100)),
    "long_modules": (("a.py", "x\n" * 401), ("a.py", "x\n" * 400)),
    "long_python_functions": (
        ("a.py", "def f():\n" + "    x\n" * 60),
        ("a.py", "def f():\n" + "    x\n" * 59),
    ),
    "long_rust_functions": (
        ("a.rs", "impl A {\n    pub fn f() {\n" + "        x;\n" * 59 + "    }\n}\n"),
        ("a.rs", "impl A {\n    pub fn f() {\n" + "        x;\n" * 58 + "    }\n}\n"),
    ),
    "banned_names": (("a.py", "data = 1"), ("a.py", "voters_data = data_mix = 1")),
    "layers": (
        (f"{PACKAGE}/report/text.py", "from swarmbench import engine"),
        (f"{PACKAGE}/cli/run.py", "from swarmbench.report.text import table"),
    ),
    "gpu_libraries": (
        (f"{PACKAGE}/machine.py", "import pynvml"),
        (f"{PACKAGE}/gpu/device.py", "import pynvml"),
    ),
    "prints": ((f"{PACKAGE}/engine.py", "print(1)"), (f"{PACKAGE}/cli/run.py", "print(1)")),
    "clocks": (
        (f"{PACKAGE}/scenarios/a.py", "from time import sleep"),
        (f"{PACKAGE}/engine.py", "from time import sleep"),
    ),
    "opening_sentences": (("a.rs", "use std::io;"), ("a.rs", "//! Reads.\nuse std::io;")),
    "unfinished": (("a.py", "# TO" + "DO later"), ("a.py", "# what is left to do")),
    "broad_excepts": (
        ("a.py", "try: x\nexcept (OSError, Exception): y"),
        ("a.py", "try: x\nexcept (OSError, ValueError): y"),
    ),
    "ignored_failures": (
        ("rust/core/src/a.rs", "fn f() {\n    x.unwrap();\n}\n"),
        ("rust/core/src/a.rs", "#[cfg(test)]\nmod tests {\n    x.unwrap();\n}\n"),
    ),
    "traces": (("docs/a.md", "see /ho" + "me/me/notes"), ("docs/a.md", "see ~/notes, /homes")),
    "short_test_names": (
        ("a.rs", "#[test]\nfn it_works() {}"),
        ("a.rs", "#[test]\nfn a_late_arrival_is_issued_at_once() {}"),
    ),
    "pure_core": (
        ("rust/core/Cargo.toml", 'pyo3 = "0.30"'),
        ("rust/py/Cargo.toml", 'pyo3 = "0.30"'),
    ),
}


def tracked_files() -> list[PurePosixPath]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = map(PurePosixPath, listed.stdout.splitlines())
    return [path for path in paths if (ROOT / path).is_file()]


@pytest.fixture(scope="module")
def texts() -> dict[PurePosixPath, str]:
    """The text of every tracked file that is UTF-8."""
    found = {}
    for path in tracked_files():
        try:
            found[path] = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Rule, texts: dict[PurePosixPath, str]) -> None:
    violations = [line for path, text in texts.items() for line in rule(path, text)]
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_fails_on_its_example_and_passes_what_is_close(rule: Rule) -> None:
    (bad_path, bad_text), (good_path, good_text) = EXAMPLES[rule.__name__]
    assert len(list(rule(PurePosixPath(bad_path), bad_text))) == 1
    assert list(rule(PurePosixPath(good_path), good_text)) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", "def load_utils(): ..."),
        ("a.py", "class EventHandler: ..."),
        ("a.py", "for info in x: ..."),
        ("a.py", "lambda data: 1"),
        ("a.rs", "fn f(data: u8) {}"),
        ("a.rs", "struct PoolManager;"),
        ("a.rs", "    pub info: u8,"),
        ("rust/utils.rs", ""),
    ],
)
def test_banned_names_are_found_wherever_a_name_is_given(path: str, text: str) -> None:
    banned = next(rule for rule in RULES if rule.__name__ == "banned_names")
    assert list(banned(PurePosixPath(path), text))


@pytest.mark.parametrize(
    "text",
    [
        "import swarmbench.scenarios.driver",
        "from swarmbench.engine import run",
        "from .. import cli",
    ],
)
def test_analysis_imports_nothing_above_it_by_any_spelling(text: str) -> None:
    layers = next(rule for rule in RULES if rule.__name__ == "layers")
    upward = text.replace("scenarios", "report").replace("engine", "report")
    assert list(layers(PurePosixPath(f"{PACKAGE}/analysis/latency.py"), upward))


def test_a_part_without_a_layer_is_an_error() -> None:
    layers = next(rule for rule in RULES if rule.__name__ == "layers")
    assert list(layers(PurePosixPath(f"{PACKAGE}/newcomer.py"), "x = 1"))
