"""The page `docs/configuration.md`, made from the models; `python tests/goldens.py` writes it."""

from __future__ import annotations

from typing import Any

from swarmbench.config import Config

_HEAD = """# Configuration

One YAML file describes a run; `configs/` has examples. Options of the command line and
`--set key.path=value` override it. A key that is not listed here is refused. This page is made
from the models (`python tests/goldens.py`); `swarmbench config schema` prints the same as JSON
Schema, `swarmbench config show` what a file resolves to on this machine.

Quantities carry their units: a duration `90s`, `20m`, `72h`, `1d`; a rate `100/s`, `5/min`; a size
`64KiB`, `100MB`; a share `50%`; a range `1MB-100MB`; numbers `0,2-5`.
"""

#: Sections of the page: the model's name in the schema, and where its keys stand.
_SECTIONS = (
    ("Config", "Top level"),
    ("Settings", "`settings`"),
    ("HealthConfig", "`health`"),
    ("CriterionConfig", "`criteria`, a list of"),
    ("WorkloadConfig", "`workloads`, by component"),
    ("Distribution", "`workloads.*.distribution`"),
    ("EndpointConfig", "`workloads.*.endpoint`"),
)


def configuration_page() -> str:
    """The whole page: a table of key, default and meaning for each section."""
    schema = Config.model_json_schema(mode="serialization")
    models = {**schema["$defs"], "Config": schema}
    parts = [_HEAD]
    for name, title in _SECTIONS:
        parts.append(f"\n## {title}\n\n{models[name]['description']}\n")
        parts.append("\n| key | default | meaning |\n| --- | --- | --- |\n")
        parts += [_row(key, each) for key, each in models[name]["properties"].items()]
    assert {name for name, _ in _SECTIONS} == set(models)
    return "".join(parts)


def _row(key: str, described: dict[str, Any]) -> str:
    return f"| `{key}` | {_default(described)} | {described['description']} |\n"


def _default(described: dict[str, Any]) -> str:
    if "default" not in described:
        return "must be given"
    default = described["default"]
    if default in (None, "", {}, []):
        return ""
    return "see below" if isinstance(default, dict) else f"`{default}`"
