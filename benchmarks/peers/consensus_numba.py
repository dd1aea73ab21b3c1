"""The consensus kernels as one would write them in Numba: vectorised loops, two threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange, set_num_threads

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
#: Votes that a thread draws at a time.
CHUNK = 1 << 14


@njit(inline="always")
def mixed(word: Any) -> Any:
    word = ((word ^ (word >> np.uint64(16))) * np.uint64(0x7FEB352D)) & LOW
    word = ((word ^ (word >> np.uint64(15))) * np.uint64(0x846CA68B)) & LOW
    return word ^ (word >> np.uint64(16))


@njit(inline="always")
def philox(c0: Any, key: Any, stream: Any) -> Any:
    c1, c2, c3 = np.uint64(0), key & LOW, key >> HALF
    k0, k1 = stream & LOW, stream >> HALF
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & LOW, (k1 + np.uint64(0xBB67AE85)) & LOW
    return c0, c1, c2, c3


@njit(parallel=True, nogil=True)
def draw(
    first: Any, key: Any, stream: Any, salt: Any, sizes: Any, firsts: Any, agreement: Any, out: Any
) -> None:
    """Uniform votes from index `first` on into `out`: uint32 of shape (votes, 4), 16 bytes each."""
    agents, proposals, values = sizes
    agent_first, proposal_first, turn = firsts
    spread = np.uint64(0x9E3779B1)
    for chunk in prange((len(out) + CHUNK - 1) // CHUNK):
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(out))):
            c0, c1, _, _ = philox(np.uint64(i) + first, key, stream)
            agent, proposal = (c0 * agents) >> HALF, (c1 * proposals) >> HALF
            pair = (agent * spread) ^ (proposal * np.uint64(0x85EBCA77))
            chance = mixed((pair & LOW) ^ salt)
            leading = (((proposal * spread + salt) & LOW) * values) >> HALF
            own = ((chance >> np.uint64(16)) * values) >> np.uint64(16)
            agrees = (chance & np.uint64(0xFFFF)) < agreement
            out[i, 0] = np.uint32(agent + agent_first)
            out[i, 1] = np.uint32(proposal + proposal_first)
            out[i, 2] = np.uint32(leading if agrees else own)
            out[i, 3] = np.uint32(turn)


@njit(parallel=True, nogil=True)
def tally(
    agent: Any, proposal: Any, value: Any, flags: Any, turn: Any,
    firsts: Any, sizes: Any, quorum: Any, seen: Any, counts: Any, decision: Any, classes: Any,
) -> None:  # fmt: skip
    """First valid vote of each agent counts; each thread keeps the proposals of its own shard.

    `seen`: uint64 of shape (proposals, ceil(agents / 64)), one bit per agent; `counts`: uint32
    (proposals, values); `classes`: uint64 (threads, 3): tallied, duplicates, invalid.
    """
    agents, proposals, values = sizes
    agent_first, proposal_first, this_turn = firsts
    shards = len(classes)
    for shard in prange(shards):
        low = np.uint32(proposals * shard // shards)
        high = np.uint32(proposals * (shard + 1) // shards)
        seen[low:high] = 0
        counts[low:high] = 0
        tallied = duplicates = invalid = 0
        for i in range(len(agent)):
            about = np.uint32(proposal[i] - proposal_first)
            if about >= proposals:
                invalid += shard == 0
                continue
            if about < low or about >= high:
                continue
            voter = np.uint32(agent[i] - agent_first)
            fits = (voter < agents) & (value[i] < values) & (turn[i] == this_turn)
            if not (fits & (flags[i] <= 0x7FFF)):
                invalid += 1
                continue
            bit = np.uint64(1) << np.uint64(voter & np.uint32(63))
            word = seen[about, voter >> np.uint32(6)]
            if word & bit:
                duplicates += 1
            else:
                seen[about, voter >> np.uint32(6)] = word | bit
                counts[about, value[i]] += np.uint32(1)
                tallied += 1
        classes[shard] = tallied, duplicates, invalid
        for about in range(low, high):
            decision[about] = -1
            for choice in range(values):
                if counts[about, choice] >= quorum:
                    decision[about] = choice


def use_threads(threads: int) -> None:
    set_num_threads(threads)
