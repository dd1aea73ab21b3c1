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


@numba.njit(nogil=True)
def capture(at, end, depths, flags, forest, captures, held):  # type: ignore[no-untyped-def]
    """Appends the nodes that the leaves of a matching pattern stand for; returns how many are held
    then. A pattern of one place that lists no children has none."""
    _, _, _, first, following, node = forest
    level0, level1, level2 = node, -1, -1
    for step in range(at + 1, end):
        if depths[step] == 1:
            level1 = first[level0] if level1 < 0 else following[level1]
            level2 = -1
            here = level1
        else:
            level2 = first[level1] if level2 < 0 else following[level2]
            here = level2
        if flags[step] & 8 == 0:
            captures[held] = here
            held += 1
    return held


@numba.njit(nogil=True)
def rule_at(number, source, patterns, rules):  # type: ignore[no-untyped-def]
    """The first rule that matches at a node, of those of its type; -1 for none."""
    starts, depths, types, counts, values, flags = patterns
    forest = (*source, np.int64(number))
    rule_first, rule_list = rules
    kind = source[0][number]
    for place in range(rule_first[kind], rule_first[kind + 1]):
        rule = rule_list[place]
        if fits(starts[rule], starts[rule + 1], depths, types, counts, values, flags, forest):
            return rule
    return -1


@numba.njit(nogil=True)
def link(here, parent, target):  # type: ignore[no-untyped-def]
    """Makes a new node the last child of its parent."""
    _, _, _, first, following, last = target
    last[here], first[here], following[here] = -1, -1, -1
    if parent >= 0:
        if last[parent] < 0:
            first[parent] = here
        else:
            following[last[parent]] = here
        last[parent] = here


@numba.njit(nogil=True)
def turn_round(stack, low, high):  # type: ignore[no-untyped-def]
    """Reverses the rows from `low` to `high`."""
    while low < high:
        for column in range(5):
            stack[low, column], stack[high, column] = stack[high, column], stack[low, column]
        low, high = low + 1, high - 1


@numba.njit(nogil=True)
def write(entry, place, source, items, target, stack, top):  # type: ignore[no-untyped-def]
    """Writes a node of the source or of a replacement, its children on the stack; the new top."""
    is_item, number, matched, own, parent = entry
    kinds, children, hashes, first, following = source
    _, item_kinds, item_types, item_counts, item_values, item_keeps, spans = items
    link(place, parent, target)
    bottom = top
    if is_item:
        target[0][place] = item_types[number]
        target[2][place] = hashes[matched] if item_keeps[number] else item_values[number]
    else:
        target[0][place], target[2][place] = kinds[number], hashes[number]
    if is_item and item_kinds[number] == 0:
        target[1][place] = item_counts[number]
        below = number + 1
        for _ in range(item_counts[number]):
            stack[top] = (1, below, matched, own, place)
            top += 1
            below += spans[below]
    else:
        adopted = matched if is_item else number
        target[1][place] = children[adopted]
        child = first[adopted]
        while child >= 0:
            stack[top] = (0, child, 0, 0, place)
            top += 1
            child = following[child]
    turn_round(stack, bottom, top - 1)
    return top


@numba.njit(nogil=True)
def rewrite_all(  # type: ignore[no-untyped-def]
    source, roots, patterns, rules, items, target, target_roots, stack, captures
):
    """Outermost matches replaced by the first rule that matches, captured subtrees in turn.

    `source` and `target` are types, counts, values, first children and next siblings (of `target`
    last children too); `rules` the rules to try by type, from one number to the next; `items`
    starts, kinds, types, counts, values, whether they keep the matched node's value, and how many
    items each one's tree has. `stack` has rows of (is an item, node or item, matched node, its
    captures, parent). Returns nodes and rewrites.
    """
    item_first, item_kinds, item_counts = items[0], items[1], items[3]
    starts, depths, flags = patterns[0], patterns[1], patterns[5]
    written, rewrites = 0, 0
    for turn in range(len(roots)):
        target_roots[turn] = written
        held, top = 0, 1
        stack[0] = (0, roots[turn], 0, 0, -1)
        while top > 0:
            top -= 1
            is_item, number, matched, own, parent = stack[top]
            if is_item and item_kinds[number] == 1:
                is_item, number = 0, captures[own + item_counts[number]]
            while not is_item:
                rule = rule_at(number, source, patterns, rules)
                if rule < 0:
                    break
                rewrites += 1
                matched, own = number, held
                forest = (*source, np.int64(number))
                held = capture(
                    starts[rule], starts[rule + 1], depths, flags, forest, captures, held
                )
                is_item, number = 1, item_first[rule]
                if item_kinds[number] == 1:
                    is_item, number = 0, captures[own + item_counts[number]]
            entry = (is_item, number, matched, own, parent)
            top = write(entry, written, source, items, target, stack, top)
            written += 1
    return written, rewrites
