"""The steady state of every op of every component: page faults, time an op, share spent checking.

A prepared op touches no fresh page, so `page_faults` is a handful however many operations run; ops
whose very job is fresh memory are marked. Each line is one op at the sizes of the quick profile.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from paired import processor
from swarmbench.components import COMPONENTS

SEED = 7
THREADS = 2
#: A measured run lasts about this long, between these numbers of operations.
STRETCH_NS = 3e8
OPS_MIN, OPS_MAX = 4, 20_000
#: Faults of a run that are not the operations': the stack, code that was never run.
FRESH_PAGES_MAX = 64


def measured(only: str | None) -> Iterator[dict[str, Any]]:
    """One record an op."""
    for name, kind in COMPONENTS.items():
        ops = [op.name for op in kind.ops if only is None or only in f"{name}/{op.name}"]
        if not ops:
            continue
        component = kind.for_profile("quick")
        prepared = component.prepare(seed=SEED, threads=THREADS)
        for op in ops:
            first = prepared.run(op=op, batches=OPS_MIN, threads=THREADS)
            count = round(min(OPS_MAX, max(OPS_MIN, STRETCH_NS / first.ns_per_op)))
            raw = prepared.native.run(op, count=count, threads=THREADS, verify=False)
            checked = prepared.run(op=op, batches=count, threads=THREADS)
            spent_ns = checked.busy_ns + checked.verify_ns
            allocates = op in component.allocating_ops
            yield {
                "benchmark": "steady",
                "case": f"{name}/{op}",
                "threads": THREADS,
                "operations": count * THREADS,
                "page_faults": raw["page_faults"],
                "fresh_memory_is_its_job": allocates,
                "met": allocates or raw["page_faults"] <= FRESH_PAGES_MAX,
                "ns_per_op": raw["busy_ns"] / (count * THREADS),
                "verified": checked.verified,
                "verify_share": checked.verify_ns / spent_ns,
                "violations": checked.violations,
                "machine": processor(),
            }


def main() -> int:
    """Prints a line an op; 1 where an op touched fresh pages or an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object an op")
    parser.add_argument("--only", metavar="TEXT", help="ops whose component/op contains TEXT")
    arguments = parser.parse_args()
    failed = False
    for record in measured(arguments.only):
        failed |= not record["met"] or record["violations"] > 0
        if arguments.json:
            print(json.dumps(record), flush=True)
            continue
        print(
            f"{record['case']:<40} {record['ns_per_op']:>14.0f} ns/op "
            f"{record['page_faults']:>6} faults in {record['operations']:>6} ops "
            f"{record['verify_share']:>7.2%} checking{'' if record['met'] else '  NOT STEADY'}",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
