"""Files that were made once and are kept for the next run: compiled kernels."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

#: Under the user's home; removing it costs nothing but the time to compile again.
DIRECTORY = Path(".cache/swarmbench")


def cached_file(name: str, make: Callable[[Path], None]) -> Path:
    """The file of that name, made where it is not there yet; any process may ask at once.

    `make` writes the path that it is given, which is renamed when it is whole.
    """
    path = _root() / name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as place:
        made = Path(place) / path.name
        make(made)
        os.replace(made, path)
    return path


def _root() -> Path:
    try:
        return Path.home() / DIRECTORY
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"swarmbench-{os.getuid()}"
