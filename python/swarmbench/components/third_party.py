"""Components of third parties, found through the entry-point group `swarmbench.components`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points

from swarmbench.components.base import Component

GROUP = "swarmbench.components"


def third_parties(known: Mapping[str, type[Component]]) -> Iterator[type[Component]]:
    """The classes that installed packages offer under their own names, which are not in `known`.

    What cannot be used is left out with a warning: a package that is broken must not take the
    components of others with it.
    """
    for entry in entry_points(group=GROUP):
        try:
            yield _loaded(entry, known)
        except (ImportError, AttributeError, SyntaxError, TypeError, ValueError) as error:
            warnings.warn(
                f"the component `{entry.name}` of `{entry.value}` is left out: {error}",
                RuntimeWarning,
                stacklevel=2,
            )


def _loaded(entry: EntryPoint, known: Mapping[str, type[Component]]) -> type[Component]:
    kind = entry.load()
    if not (isinstance(kind, type) and issubclass(kind, Component)):
        raise TypeError("it is no class derived from `swarmbench.components.Component`")
    if kind.name != entry.name:
        raise ValueError(f"it calls itself `{kind.name}`; name both the same")
    if entry.name in known:
        raise ValueError("the name is taken; choose another")
    return kind
