"""From a file and overrides to a `Config`: read once, merged, checked, each error in one line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from swarmbench.components import COMPONENTS
from swarmbench.config.models import Config, right_name
from swarmbench.config.types import shown
from swarmbench.errors import ConfigurationError

#: Larger than any configuration, small enough to read whatever file is named by mistake.
FILE_BYTES_MAX = 1_000_000
NESTING_MAX = 20

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Override:
    """One value from the command line: where it goes, and what to call it in an error."""

    path: tuple[str, ...]
    value: object
    label: str


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and absurd nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > NESTING_MAX:
            raise yaml.constructor.ConstructorError(
                None, None, f"nested deeper than {NESTING_MAX}", self.get_mark()
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key.value, str):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is not a plain word", key.start_mark
                )
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {shown(key.value)} is there twice", key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def scalar(text: str) -> object:
    """A value from the command line, read as YAML would read it."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError):
        return text


def set_override(text: str) -> Override:
    """The override of `--set key.path=value`."""
    path, equals, value = text.partition("=")
    parts = tuple(path.strip().split("."))
    if not equals or not all(parts):
        raise ConfigurationError("--set", f"{shown(text)} has no key; give `key.path=value`")
    return Override(parts, scalar(value), f"--set {'.'.join(parts)}")


def read_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    where = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigurationError(
            where, f"cannot be read ({reason}); name a YAML file that can be read"
        ) from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigurationError(where, "is over 1 MB; name a configuration")
    try:
        value = yaml.load(content, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f"line {mark.line + 1}: " if mark is not None else ""
        problem = error.problem or error.context or "not readable"
        raise ConfigurationError(where, f"{line}{problem}; give valid YAML") from None
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise ConfigurationError(where, f"{problem}; give valid YAML") from None
    if not isinstance(value, dict):
        raise ConfigurationError(
            where, f"{shown(value)} is not a mapping; give keys such as `scenario: max-throughput`"
        )
    return value


def load(
    scenario: str,
    *,
    file: Path | None = None,
    overrides: Sequence[Override] = (),
    components: Iterable[str] | None = None,
) -> Config:
    """The configuration of a file (or the defaults) with overrides on top, checked.

    `components` restricts the workloads to these; those that the file has not are added with
    their defaults. Without a file, or without `workloads` in it, all components are under load.
    Raises `ConfigurationError` with one line: where, what is wrong, what would be right.
    """
    source = read_file(file) if file is not None else {}
    where = str(file) if file is not None else "configuration"
    stated = source.setdefault("scenario", scenario)
    if stated != scenario and stated is not None:
        raise ConfigurationError(
            f"{where}: scenario",
            f"{shown(stated)} is not `{scenario}`; name a file of that scenario",
        )
    if source.get("workloads") is None:
        source["workloads"] = {name: {} for name in COMPONENTS if name != "null"}
    for override in overrides:
        _merge(source, override)
    if components is not None:
        _restrict(source, list(components))
    try:
        return Config.model_validate(source)
    except ValidationError as error:
        raise problem_of(error, where, overrides) from None


def problem_of(
    error: ValidationError,
    where: str,
    overrides: Sequence[Override] = (),
    key_of: Callable[[KeyPath], KeyPath] = lambda location: location,
) -> ConfigurationError:
    """The first problem of a failed validation as one line.

    `key_of` gives the key path in the configuration of a place in the model.
    """
    details = error.errors(include_url=False)[0]
    at = tuple(details.get("ctx", {}).get("at", ()))
    location = (*(part for part in details["loc"] if part != "[key]"), *at)
    text = _text(details)
    if details["type"] == "value_error" and (named := _NAMED.match(text)):
        # A validator of a whole model says which key it is about.
        location, text = (*location, named["key"]), named["problem"]
    return ConfigurationError(place(where, key_of(location), overrides), text)


def place(where: str, path: KeyPath, overrides: Sequence[Override] = ()) -> str:
    """The option that set the value at `path`, if one did, else the file and the key path."""
    for override in reversed(overrides):
        length = len(override.path)
        if tuple(map(str, path[:length])) == override.path:
            return ".".join([override.label, *map(str, path[length:])])
    return f"{where}: {'.'.join(map(str, path))}" if path else where


def _merge(target: dict[str, Any], override: Override) -> None:
    section = target
    for part in override.path[:-1]:
        below = section.get(part)
        if below is None:
            below = section[part] = {}
        if not isinstance(below, dict):
            raise ConfigurationError(
                override.label, f"`{part}` holds {shown(below)}, no keys; give a key that exists"
            )
        section = below
    section[override.path[-1]] = override.value


def _restrict(source: dict[str, Any], components: list[str]) -> None:
    if not components:
        raise ConfigurationError("--components", f"names none; {right_name('', COMPONENTS)}")
    for name in components:
        if name not in COMPONENTS:
            right = right_name(name, COMPONENTS)
            raise ConfigurationError("--components", f"there is no {shown(name)}; {right}")
    configured = source["workloads"]
    if isinstance(configured, Mapping):
        source["workloads"] = {name: configured.get(name) for name in components}


_NAMED = re.compile(r"(?P<key>[a-z][a-z0-9_]*): (?P<problem>.+)")
_KINDS = {
    "int": "a whole number, such as `7`",
    "float": "a number, such as `1.5`",
    "string": "text",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping of keys",
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "of at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "of at most"),
}


def _text(details: ErrorDetails) -> str:
    """What is wrong with a value, and what would be right."""
    kind, context, value = details["type"], details.get("ctx", {}), shown(details["input"])
    if kind == "wrong":
        return str(context["problem"])
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "is missing; give a value"
    if kind == "extra_forbidden":
        return "there is no such key; leave it out"
    if kind == "literal_error":
        names = str(context["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
        return f"there is no {value}; {right_name(details['input'], names)}"
    if kind in _BOUNDS:
        bound, word = _BOUNDS[kind]
        return f"{value} is out of range; give a number {word} {context[bound]}"
    stem, _, rest = kind.partition("_")
    if stem in _KINDS and rest in ("type", "parsing", "from_float", "parsing_size"):
        return f"{value} is not {_KINDS[stem]}"
    return f"{value}: {details['msg']}; see `swarmbench config schema`"
