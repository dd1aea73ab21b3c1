"""Numba's side of the synthesis benchmarks: early exits, reused buffers, all threads."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(parallel=True, cache=False)
def compare_templates(  # type: ignore[no-untyped-def]
    trees, first, positions, tokens, found, counts
):
    """Every template against every tree, the rarest token first, until one differs.

    `trees` (n, 64); demanded positions and tokens of a template from its entry of `first` to the
    next one. Writes (tree, template) into each thread's row of `found`, and how many to `counts`.
    """
    threads = counts.shape[0]
    share = (trees.shape[0] + threads - 1) // threads
    for thread in numba.prange(threads):
        count = 0
        for tree in range(thread * share, min((thread + 1) * share, trees.shape[0])):
            row = trees[tree]
            for template in range(len(first) - 1):
                agrees = True
                for at in range(first[template], first[template + 1]):
                    if row[positions[at]] != tokens[at]:
                        agrees = False
                        break
                if agrees:
                    found[thread, count] = (tree << 32) | template
                    count += 1
        counts[thread] = count


@numba.njit(nogil=True)
def fits(at, place, depths, types, counts, values, flags, forest):  # type: ignore[no-untyped-def]
    """Whether a pattern's places from `at` to `place` match at a node; see `match_all`."""
    kinds, children, hashes, first, following, node = forest
    level0, level1, level2 = node, -1, -1
    for step in range(at, place):
        depth = depths[step]
        if depth == 1:
            level1 = first[level0] if level1 < 0 else following[level1]
            level2 = -1
            here = level1
        elif depth == 2:
            level2 = first[level1] if level2 < 0 else following[level2]
            here = level2
        else:
            here = level0
        flag = flags[step]
        if flag & 1 and kinds[here] != types[step]:
            return False
        if flag & 12 and children[here] != counts[step]:
            return False
        if flag & 2 and hashes[here] != values[step]:
            return False
    return True


@numba.njit(parallel=True)
def match_all(kinds, children, hashes, first, following, starts, depths, types, counts, values,
              flags, found, totals):  # type: ignore[no-untyped-def]  # fmt: skip
    """Every pattern at every node, until a place differs; pairs by node, then pattern."""
    threads = totals.shape[0]
    share = (len(kinds) + threads - 1) // threads
    for thread in numba.prange(threads):
        total = 0
        for node in range(thread * share, min((thread + 1) * share, len(kinds))):
            forest = (kinds, children, hashes, first, following, np.int64(node))
            for pattern in range(len(starts) - 1):
                if fits(starts[pattern], starts[pattern + 1], depths, types, counts, values,
                        flags, forest):  # fmt: skip
                    found[thread, total] = (node << 32) | pattern
                    total += 1
        totals[thread] = total
