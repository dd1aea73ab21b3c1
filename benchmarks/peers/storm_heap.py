"""The storm of the component `memory` on the heap of this process, asked for line by line.

Started with another allocator preloaded, that one is measured, by the very code that measures ours.
Reads `touch count threads first_key` and prints a JSON object of the run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

from swarmbench.components.memory import Memory


def main(seed: int, parameters: str) -> None:
    """Answers until the input ends; `parameters` are of the component, as JSON."""
    given = json.loads(parameters)
    prepared = {}
    for line in sys.stdin:
        touch, count, threads, first_key = line.split()
        if touch not in prepared:
            component = Memory(allocator="heap", touch=touch, **given)
            prepared[touch] = component.prepare(seed=seed).native
        tally = prepared[touch].run(
            "allocate",
            first_key=int(first_key),
            count=int(count),
            threads=int(threads),
            verify=False,
        )
        print(json.dumps(tally), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
