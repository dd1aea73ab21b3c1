"""The consensus kernels as one would write them well in Numba: two threads, one array a field."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange, uint16, uint32, uint64

#: Votes that a thread draws at a time.
CHUNK = 1 << 14


@njit(inline="always")
def scaled(word: Any, bound: Any) -> Any:
    return uint32((uint64(word) * uint64(bound)) >> uint64(32))


@njit(inline="always")
def mixed(word: Any) -> Any:
    word = uint32((word ^ (word >> uint32(16))) * uint32(0x7FEB352D))
    word = uint32((word ^ (word >> uint32(15))) * uint32(0x846CA68B))
    return uint32(word ^ (word >> uint32(16)))


@njit(inline="always")
def philox_round(c0: Any, c1: Any, c2: Any, c3: Any, keys: Any) -> Any:
    p0, p1 = uint64(c0) * uint64(0xD2511F53), uint64(c2) * uint64(0xCD9E8D57)
    high0, high1 = uint32(p0 >> uint64(32)), uint32(p1 >> uint64(32))
    return high1 ^ c1 ^ keys[0], uint32(p1), high0 ^ c3 ^ keys[1], uint32(p0)


@njit(nogil=True)
def draw_chunk(first: Any, key: Any, rounds: Any, shape: Any, votes: Any) -> None:
    """Philox4x32-10 and the preference of an honest agent; the compiler makes vectors of it."""
    salt, agents, proposals, values, agreement, agent_first, proposal_first, turn = shape
    agent, proposal, value, flags, turns = votes
    for i in range(len(agent)):
        c0, c1, c2, c3 = uint32(first + i), uint32(0), key[0], key[1]
        for r in range(10):
            c0, c1, c2, c3 = philox_round(c0, c1, c2, c3, rounds[r])
        voter, about = scaled(c0, agents), scaled(c1, proposals)
        spread = uint32(about * uint32(0x9E3779B1))
        pair = uint32(voter * uint32(0x9E3779B1)) ^ uint32(about * uint32(0x85EBCA77))
        chance = mixed(uint32(pair ^ salt))
        leading = scaled(uint32(spread + salt), values)
        own = uint32(uint32((chance >> uint32(16)) * values) >> uint32(16))
        agent[i] = uint32(voter + agent_first)
        proposal[i] = uint32(about + proposal_first)
        value[i] = uint16(leading if (chance & uint32(0xFFFF)) < agreement else own)
        flags[i] = uint16(0)
        turns[i] = turn


@njit(parallel=True, nogil=True)
def draw(key: Any, rounds: Any, shape: Any, votes: Any) -> None:
    """Draws uniform votes into `votes` (agent, proposal, value, flags, round)."""
    total = len(votes[0])
    for chunk in prange((total + CHUNK - 1) // CHUNK):
        low, high = chunk * CHUNK, min((chunk + 1) * CHUNK, total)
        agent, proposal, value, flags, turns = votes
        part = (agent[low:high], proposal[low:high], value[low:high])
        draw_chunk(low, key, rounds, shape, (*part, flags[low:high], turns[low:high]))


@njit(inline="always")
def is_valid(votes: Any, i: Any, shape: Any) -> Any:
    """Agent and proposal of vote `i`, and whether it is valid; the shape is that of `draw`."""
    _, agents, proposals, values, _, agent_first, proposal_first, turn = shape
    agent, proposal, value, flags, turns = votes
    voter, about = uint32(agent[i] - agent_first), uint32(proposal[i] - proposal_first)
    fits = (voter < agents) & (about < proposals) & (value[i] < values)
    return voter, about, fits & (turns[i] == turn) & (flags[i] <= uint16(0x7FFF))


@njit(parallel=True, nogil=True)
def tally_sharded(votes: Any, shape: Any, seen: Any, counts: Any, totals: Any) -> None:
    """Every thread reads all votes and tallies the proposals of its shard in a bitset.

    `seen`: uint64 (proposals, ceil(agents / 64)); `counts`: uint32 (proposals, values); `totals`:
    int64 (threads, 2), the valid and the tallied votes.
    """
    shards, proposals = len(totals), len(counts)
    for shard in prange(shards):
        low, high = proposals * shard // shards, proposals * (shard + 1) // shards
        seen[low:high] = uint64(0)
        counts[low:high] = uint32(0)
        valid = tallied = 0
        for i in range(len(votes[0])):
            voter, about, fits = is_valid(votes, i, shape)
            if fits and low <= about < high:
                valid += 1
                bit = uint64(1) << uint64(voter & uint32(63))
                word = seen[about, voter >> uint32(6)]
                if not word & bit:
                    seen[about, voter >> uint32(6)] = word | bit
                    counts[about, votes[2][i]] += uint32(1)
                    tallied += 1
        totals[shard] = valid, tallied


@njit(nogil=True)
def count_range(votes: Any, low: Any, high: Any, shape: Any, starts: Any) -> None:
    starts[:] = 0
    for i in range(low, high):
        _, about, fits = is_valid(votes, i, shape)
        starts[about if fits else len(starts) - 1] += 1


@njit(nogil=True)
def sort_range(votes: Any, low: Any, high: Any, shape: Any, starts: Any, entries: Any) -> None:
    for i in range(low, high):
        voter, about, fits = is_valid(votes, i, shape)
        bucket = about if fits else len(starts) - 1
        entries[starts[bucket]] = uint64(voter) << uint64(32) | uint64(votes[2][i])
        starts[bucket] += 1


@njit(nogil=True)
def tally_bucket(entries: Any, seen: Any, counts: Any) -> int:
    seen[:] = uint64(0)
    counts[:] = uint32(0)
    tallied = 0
    for entry in entries:
        voter = entry >> uint64(32)
        place = voter & uint64(63)
        fresh = uint64(1) - ((seen[voter >> uint64(6)] >> place) & uint64(1))
        seen[voter >> uint64(6)] |= uint64(1) << place
        counts[entry & uint64(0xFFFF)] += uint32(fresh)
        tallied += np.int64(fresh)
    return tallied


@njit(parallel=True, nogil=True)
def tally_sorted(
    votes: Any, shape: Any, starts: Any, entries: Any, seen: Any, counts: Any, totals: Any
) -> None:
    """Sorts the votes by proposal (counting sort), then tallies each in a bitset in the cache.

    `starts`: int64 (threads, proposals + 1); `entries`: uint64 (votes,); `seen`: uint64 (threads,
    ceil(agents / 64)); the others as in `tally_sharded`.
    """
    threads, length, proposals = len(starts), len(votes[0]), len(counts)
    for thread in prange(threads):
        low, high = length * thread // threads, length * (thread + 1) // threads
        count_range(votes, low, high, shape, starts[thread])
    begins = np.empty(proposals + 1, np.int64)
    total = 0
    for about in range(proposals + 1):
        begins[about] = total
        for thread in range(threads):
            size = starts[thread, about]
            starts[thread, about] = total
            total += size
    for thread in prange(threads):
        low, high = length * thread // threads, length * (thread + 1) // threads
        sort_range(votes, low, high, shape, starts[thread], entries)
    for thread in prange(threads):
        valid = tallied = 0
        for about in range(proposals * thread // threads, proposals * (thread + 1) // threads):
            bucket = entries[begins[about] : begins[about + 1]]
            tallied += tally_bucket(bucket, seen[thread], counts[about])
            valid += len(bucket)
        totals[thread] = valid, tallied
