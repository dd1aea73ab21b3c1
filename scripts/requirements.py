"""Prints the requirements of `pyproject.toml`: `base` (with the build tool) or an extra's name."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def requirements(group: str) -> list[str]:
    """The requirement lines of `base` or of the extra `group`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    if group == "base":
        return project["build-system"]["requires"] + project["project"]["dependencies"]
    return project["project"]["optional-dependencies"][group]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))
