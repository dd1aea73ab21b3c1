"""The rules of the house as functions: a file's path and text in, one line per violation out.

Paths are relative to the repository's root. `tests/test_tidy.py` applies every rule of `RULES` to
every tracked file and shows each failing on an example.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

LINE_MAX = 100
FUNCTION_MAX = 60
MODULE_MAX = 400
SOURCE_SUFFIXES = {".py", ".pyi", ".rs", ".cu", ".cuh"}
TEST_NAME_WORDS_MIN = 3

BANNED_WORDS = {"manager", "handler", "helper", "helpers", "utils", "util"}
BANNED_NAMES = {"data", "info"}
#: Modules that wait, measure or run beside others.
CLOCKS = {"time", "threading", "concurrent", "multiprocessing", "asyncio", "sched", "signal"}
TIMELESS = {"scenarios", "analysis", "report", "plan", "schedules", "config", "components"}
GPU_LIBRARIES = {"cupy", "numba", "pynvml", "cuda", "cuda_core"}

#: From the bottom up: a module imports its own package and what stands in lower rows, never its
#: own row. HOUSE's order.
LAYERS = (
    {"errors", "_native"},
    {"units"},
    {"schema", "hlog", "measured", "ceilings", "cgroup"},
    {"estimates"},
    {"batches"},
    {"trends"},
    {"outcome"},
    {"gpu", "lock"},
    {"machine"},
    {"components"},
    {"plan", "schedules"},
    {"safety", "monitoring", "rundir", "workloads", "endpoint", "lanes"},
    {"runrecord"},
    {"engine"},
    {"scenarios"},
    {"config"},
    {"analysis"},
    {"report", "submission"},
    {"experiments", "calibrate", "doctor", "baselines"},
    {"simulated", "recording", "capacities"},
    {"preparation"},
    {"run"},
    {"cli", "dashboard", "exporter"},
    {"__main__"},
)

#: Lower rows that must stay out of sight all the same: findings come from the record alone.
NEVER = {part: {"engine", "scenarios", "components", "gpu"} for part in ("analysis", "report")}

Rule = Callable[[PurePosixPath, str], Iterator[str]]


def is_python(path: PurePosixPath) -> bool:
    return path.suffix == ".py"


def is_package(path: PurePosixPath) -> bool:
    """Whether the file is a module of the Python package."""
    return is_python(path) and path.parts[:2] == ("python", "swarmbench")


def package_part(path: PurePosixPath) -> str:
    """The part of the package that a file belongs to: `cli` for `python/swarmbench/cli/x.py`."""
    part = PurePosixPath(*path.parts[2:3]).stem
    return "" if part == "__init__" else part


def is_rust_library(path: PurePosixPath) -> bool:
    inside = path.suffix == ".rs" and path.parts[0] == "rust" and "src" in path.parts
    return inside and "tests" not in path.parts and path.name != "tests.rs"


def without_rust_tests(text: str) -> str:
    """The text with `#[cfg(test)]` items blanked, line numbers kept (it is formatted code)."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        if lines[at].strip() == "#[cfg(test)]":
            indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
            end = at + 1
            while end < len(lines) and not re.match(rf"{indent}(\}}|[^ #].*;$)", lines[end]):
                end += 1
            lines[at : end + 1] = [""] * (min(end, len(lines) - 1) - at + 1)
        at += 1
    return "\n".join(lines)


def long_lines(path: PurePosixPath, text: str) -> Iterator[str]:
    if path.suffix in SOURCE_SUFFIXES:
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > LINE_MAX:
                yield f"{path}:{number}: {len(line)} columns, at most {LINE_MAX}"


def long_modules(path: PurePosixPath, text: str) -> Iterator[str]:
    length = len(text.splitlines())
    if path.suffix in SOURCE_SUFFIXES - {".pyi"} and length > MODULE_MAX:
        yield f"{path}: {length} lines, at most {MODULE_MAX}"


def long_python_functions(path: PurePosixPath, text: str) -> Iterator[str]:
    if not is_python(path):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_MAX:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines"


def long_rust_functions(path: PurePosixPath, text: str) -> Iterator[str]:
    if path.suffix != ".rs":
        return
    lines = text.splitlines()
    opening = re.compile(r"( *)(?:pub(?:\([a-z]+\))? )?(?:const |unsafe )*fn (\w+)")
    for start, line in enumerate(lines):
        if (found := opening.match(line)) is None:
            continue
        closings = (at for at in range(start, len(lines)) if lines[at] == found[1] + "}")
        ends = (at for at in range(start, len(lines)) if lines[at].endswith((";", "}")))
        declared = next(ends, start)
        if declared == start:
            continue
        length = next(closings, start) - start + 1
        if length > FUNCTION_MAX:
            yield f"{path}:{start + 1}: {found[2]} has {length} lines"


def defined_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a module gives: functions, classes, arguments, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, node.lineno


def is_banned(name: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")
    return not BANNED_WORDS.isdisjoint(words) or name.lower() in BANNED_NAMES


def banned_names(path: PurePosixPath, text: str) -> Iterator[str]:
    if path.suffix in SOURCE_SUFFIXES and is_banned(path.stem):
        yield f"{path}: a file is named `{path.stem}`"
    names: Iterator[tuple[str, int]] = iter(())
    if is_python(path):
        names = defined_names(ast.parse(text))
    elif path.suffix == ".rs":
        given = re.compile(
            r"\b(?:fn|struct|enum|trait|mod|type|const|static|let(?: mut)?) (\w+)"
            r"|[(,|] *(?:mut )?(\w+): |^ *(?:pub(?:\(\w+\))? )?(\w+): "
        )
        names = (
            (found[found.lastindex or 0], number)
            for number, line in enumerate(text.splitlines(), 1)
            if not line.lstrip().startswith("//")
            for found in given.finditer(line)
        )
    for name, number in names:
        if is_banned(name):
            yield f"{path}:{number}: `{name}` says nothing"


def imports(tree: ast.AST, path: PurePosixPath) -> Iterator[tuple[str, int]]:
    """Full names of imported modules (with the imported name for `from swarmbench import x`)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = path.parts[1 : len(path.parts) - node.level]
                module = ".".join([*base, module]).rstrip(".")
            if module == "swarmbench":
                yield from ((f"swarmbench.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield module, node.lineno


def layers(path: PurePosixPath, text: str) -> Iterator[str]:
    if not is_package(path):
        return
    part = package_part(path)
    rows = {name: row for row, names in enumerate(LAYERS) for name in names}
    if part and part not in rows:
        yield f"{path}: `{part}` has no place in tidy_rules.LAYERS"
        return
    own_row = rows[part] if part else len(LAYERS)
    for module, number in imports(ast.parse(text), path):
        root, _, rest = module.partition(".")
        other = rest.split(".")[0]
        if root != "swarmbench" or other in {"", part}:
            continue
        below = rows.get(other, len(LAYERS)) < own_row
        if not below or other in NEVER.get(part, ()):
            yield f"{path}:{number}: `{part}` may not import `{other}`"


def gpu_libraries(path: PurePosixPath, text: str) -> Iterator[str]:
    if is_package(path) and package_part(path) != "gpu":
        for module, number in imports(ast.parse(text), path):
            if module.split(".")[0] in GPU_LIBRARIES:
                yield f"{path}:{number}: `{module}` is imported outside gpu/"


def prints(path: PurePosixPath, text: str) -> Iterator[str]:
    if not is_package(path) or package_part(path) == "cli":
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            yield f"{path}:{node.lineno}: print outside the command line"


def clocks(path: PurePosixPath, text: str) -> Iterator[str]:
    if not is_package(path) or package_part(path) not in TIMELESS:
        return
    tree = ast.parse(text)
    for module, number in imports(tree, path):
        if module.split(".")[0] in CLOCKS:
            yield f"{path}:{number}: `{module}` in a layer without clocks and threads"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in {"now", "utcnow"}:
            yield f"{path}:{node.lineno}: reads the clock"


def opening_sentences(path: PurePosixPath, text: str) -> Iterator[str]:
    if is_python(path):
        sentence = ast.get_docstring(ast.parse(text)) or ""
    elif path.suffix == ".rs":
        sentence = "".join(line[3:] for line in text.splitlines() if line.startswith("//!"))
    elif path.suffix in {".cu", ".cuh"}:
        sentence = text if text.startswith("//") else ""
    else:
        return
    if "." not in sentence:
        yield f"{path}: does not open with a sentence"


def unfinished(path: PurePosixPath, text: str) -> Iterator[str]:
    marks = re.compile(
        r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b|\b(unimplemented|to" + r"do)!"
    )
    if path.suffix in SOURCE_SUFFIXES:
        for number, line in enumerate(text.splitlines(), 1):
            if found := marks.search(line):
                yield f"{path}:{number}: {found[0]}"


def broad_excepts(path: PurePosixPath, text: str) -> Iterator[str]:
    if not is_python(path):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {getattr(one, "id", "") if one else "everything" for one in caught}
            if names & {"Exception", "BaseException", "everything"}:
                yield f"{path}:{node.lineno}: catches {', '.join(names)}"


def ignored_failures(path: PurePosixPath, text: str) -> Iterator[str]:
    if is_rust_library(path):
        for number, line in enumerate(without_rust_tests(text).splitlines(), 1):
            if not line.lstrip().startswith("//"):
                for found in re.finditer(r"\.unwrap\(\)|\blet _ =", line):
                    yield f"{path}:{number}: {found[0]} in library code"


def traces(path: PurePosixPath, text: str) -> Iterator[str]:
    places = r"/(?:root|work)/|/home/\w|/Users/\w|/tmp/wt\b"
    hosts = r"pypi\.or" + r"g|pythonhoste" + r"d\.org|crates\.i" + r"o(?!-index)"
    if path.name != "Cargo.lock" and path.name != "tidy_rules.py":
        for number, line in enumerate(text.splitlines(), 1):
            if found := re.search(f"{places}|{hosts}", line):
                yield f"{path}:{number}: `{found[0]}` names a place that only one machine has"


def short_test_names(path: PurePosixPath, text: str) -> Iterator[str]:
    found: Iterator[re.Match[str]] = iter(())
    if is_python(path) and path.name.startswith("test_"):
        found = re.finditer(r"^ *def test_(\w+)", text, re.MULTILINE)
    elif path.suffix == ".rs":
        found = re.finditer(r"#\[test\]\s+(?:#\[.*\]\s+)*fn (\w+)", text)
    for name in found:
        if len(name[1].split("_")) < TEST_NAME_WORDS_MIN:
            yield f"{path}: the test name `{name[1]}` is no sentence"


def pure_core(path: PurePosixPath, text: str) -> Iterator[str]:
    in_core = path.parts[:2] == ("rust", "core")
    if in_core and re.search(r"^(pyo3|numpy)\b|\buse (pyo3|numpy)\b", text, re.MULTILINE):
        yield f"{path}: rust/core depends on Python"


RULES: tuple[Rule, ...] = (
    long_lines,
    long_modules,
    long_python_functions,
    long_rust_functions,
    banned_names,
    layers,
    gpu_libraries,
    prints,
    clocks,
    opening_sentences,
    unfinished,
    broad_excepts,
    ignored_failures,
    traces,
    short_test_names,
    pure_core,
)
