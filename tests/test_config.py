"""Configuration: what is right is read, what is wrong is one line with what would be right."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from configuration_page import configuration_page
from goldens import PAGE
from swarmbench.components import COMPONENTS
from swarmbench.config import Config, load, set_override
from swarmbench.config.load import FILE_BYTES_MAX
from swarmbench.errors import ConfigurationError

Write = Callable[[str], Path]
CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes `a.yaml` into the current folder, so that errors name it by that name alone."""
    monkeypatch.chdir(tmp_path)

    def written(text: str) -> Path:
        Path("a.yaml").write_text(text, encoding="utf-8")
        return Path("a.yaml")

    return written


def problem(file: Path, *overrides: str) -> str:
    """The one line that loading fails with."""
    with pytest.raises(ConfigurationError) as caught:
        load("max-throughput", file=file, overrides=[set_override(text) for text in overrides])
    assert caught.value.exit_code == 2
    assert caught.value.hint is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sead: 1", "a.yaml: sead: there is no `sead`; did you mean `seed`?"),
        ("seed: abc", "a.yaml: seed: `abc` is not a whole number, such as `7`"),
        ("seed: true", "a.yaml: seed: `true` is not a whole number, such as `7`"),
        ("seed: '7'", "a.yaml: seed: `7` is not a whole number, such as `7`"),
        ("seed: -1", "a.yaml: seed: `-1` is out of range; give a number of at least 0"),
        ("[1, 2]", "a.yaml: `[1, 2]` is not a mapping; give keys such as"),
        ("hello", "a.yaml: `hello` is not a mapping; give keys such as"),
        ("", "a.yaml: `null` is not a mapping; give keys such as"),
        ("profile: qick", "a.yaml: profile: there is no `qick`; did you mean `quick`?"),
        ("backend: tpu", "a.yaml: backend: there is no `tpu`; "),
        ("scenario: mixd", "a.yaml: scenario: `mixd` is not `max-throughput`; name a file of"),
        ("workloads: {nul: {}}", "a.yaml: workloads.nul: there is no `nul`; did you mean `null`?"),
        ("workloads: 7", "a.yaml: workloads: `7` is not a mapping of keys"),
        ("workloads: {'null': 7}", "a.yaml: workloads.null: `7` is not a mapping; give keys of"),
        ("workloads: {'null': {rat: 1}}", "a.yaml: workloads.null.rat: there is no `rat`; did you"),
        ("workloads: {'null': {rate: -5/s}}", "a.yaml: workloads.null.rate: `-5` is negative; "),
        ("workloads: {'null': {rate: -5}}", "a.yaml: workloads.null.rate: `-5` is negative; "),
        ("workloads: {'null': {queue: -1}}", "a.yaml: workloads.null.queue: `-1` is out of range"),
        (
            "workloads: {'null': {distribution: poison}}",
            "a.yaml: workloads.null.distribution.kind: there is no `poison`; did you mean",
        ),
        (
            "workloads: {'null': {ops: {nothing: -1}}}",
            "a.yaml: workloads.null.ops.nothing: `-1` is out of range; give a number of at least",
        ),
        ("settings: {sustained: 20}", "a.yaml: settings.sustained: `20` has no unit; give a dur"),
        ("settings: {max_multiplier: .nan}", "a.yaml: settings.max_multiplier: `nan` is out of r"),
        ("memory_budget: 60", "a.yaml: memory_budget: `60` has no unit; give a share or a size"),
        ("criteria: [{metric: x}]", "a.yaml: criteria.0.target: is missing; give a value"),
        ("seed: 1\nseed: 2", "a.yaml: line 2: the key `seed` is there twice; give valid YAML"),
        ("a: b: c", "a.yaml: line 1: mapping values are not allowed here; give valid YAML"),
        ("seed: !!python/name:os.system", "a.yaml: line 1: could not determine a constructor"),
        ("? [a]\n: 1", "a.yaml: line 1: a key is not a plain word; give valid YAML"),
        ("[" * 1000, "a.yaml: line 1: nested deeper than 20; give valid YAML"),
        ("seed: 2026-13-45", "a.yaml: month must be in 1..12; give valid YAML"),
        ("x" * FILE_BYTES_MAX + "x", "a.yaml: is over 1 MB; name a configuration"),
    ],
)
def test_a_mistake_is_one_line_with_file_key_and_what_is_right(
    write: Write, text: str, line: str
) -> None:
    assert problem(write(text)).startswith(line)


def test_a_file_that_cannot_be_read_is_named(write: Write) -> None:
    assert problem(Path("b.yaml")).startswith("b.yaml: cannot be read (No such file")
    assert problem(Path(".")).startswith(".: cannot be read (Is a directory)")


def test_an_alias_bomb_costs_nothing(write: Write) -> None:
    levels = [f"a{level}: &a{level} [{f'*a{level - 1}, ' * 9}]" for level in range(1, 30)]
    assert "there is no" in problem(write("a0: &a0 [x]\n" + "\n".join(levels)))


def test_an_override_wins_over_the_file_and_is_blamed_by_its_name(write: Write) -> None:
    file = write("seed: 1\nsettings: {threads: 2}")
    texts = ["seed=5", "settings.threads=3", "workloads.null.rate=5/min"]
    config = load("max-throughput", file=file, overrides=[set_override(text) for text in texts])
    assert (config.seed, config.settings.threads) == (5, 3)
    assert config.workloads["null"].rate is not None
    assert problem(file, "seed=abc").startswith("--set seed: `abc` is not a whole number")
    assert problem(file, "settings.thread=1").startswith("--set settings.thread: there is no")
    assert problem(file, "settings={threds: 1}").startswith("--set settings.threds: there is no")
    assert problem(file, "seed.x=1").startswith("--set seed.x: `seed` holds `1`, no keys")
    assert problem(file, "seed").startswith("--set: `seed` has no key; give `key.path=value`")


def test_components_restrict_the_workloads_and_keep_their_settings(write: Write) -> None:
    file = write("workloads: {'null': {queue: 5}}")
    assert load("max-throughput", file=file, components=["null"]).workloads["null"].queue == 5
    with pytest.raises(ConfigurationError, match=r"--components: there is no `nul`; did you mean"):
        load("max-throughput", file=file, components=["nul"])
    with pytest.raises(ConfigurationError, match=r"--components: names none; choose one of"):
        load("max-throughput", file=file, components=[])


def test_without_a_file_everything_but_the_null_component_is_under_load() -> None:
    assert set(load("max-throughput").workloads) == set(COMPONENTS) - {"null"}


def test_the_bare_word_null_names_the_null_component(write: Write) -> None:
    assert set(load("max-throughput", file=write("workloads: {null: {}}")).workloads) == {"null"}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_that_is_shipped_loads(path: Path) -> None:
    assert load("max-throughput", file=path).workloads


def test_every_key_has_a_meaning_and_a_default_in_the_schema() -> None:
    schema = Config.model_json_schema(mode="serialization")
    for section in [schema, *schema["$defs"].values()]:
        for key, described in section.get("properties", {}).items():
            where = f"{section['title']}.{key}"
            assert described.get("description"), where
            assert "default" in described or section["title"] == "CriterionConfig", where


def test_the_page_of_the_documentation_is_the_one_of_the_models() -> None:
    assert PAGE.read_text(encoding="utf-8") == configuration_page()


def test_what_is_written_is_read_back_the_same(write: Write) -> None:
    config = Config.model_validate(
        {
            "memory_budget": "8GB",
            "settings": {"duration": "90s", "cpus": "0-3"},
            "workloads": {"null": {"rate": "5%", "distribution": {"kind": "gamma", "shape": 0.3}}},
        }
    )
    assert Config.model_validate(config.model_dump(mode="json")) == config


keys = some.sampled_from(["seed", "settings", "workloads", "null", "rate", "criteria", "x", "-1"])
leaves = some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=9)
values = some.recursive(
    leaves, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(keys, inner, max_size=3)
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(some.dictionaries(keys, values, max_size=4))
def test_whatever_is_configured_is_taken_or_refused_in_one_line(content: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        said = None
        try:
            load("max-throughput", file=file)
        except ConfigurationError as error:
            said = str(error)
        assert said is None or re.fullmatch(r"\S+a\.yaml: [^\n]+", said)
