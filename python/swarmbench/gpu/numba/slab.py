"""A swarm as the kernels see it: where each field of a slot is, and bits that are counted.

A swarm is a row of each of four arrays: `fields` has planes of one u32 a slot, `longs` planes of
one u64 a slot, `bits` one bit a slot for those that are occupied and those that are vacant, and
`ledger` what has happened to it.
"""

from typing import Any

import numpy as np
from numba import cuda

from swarmbench.gpu.numba.declared import device_function

#: Planes of `fields`. A velocity, and an energy, is signed; `LIST` is two planes, the slots in the
#: order of births, and `TURN` where in it an agent is.
X, Y, VX, VY, ENERGY, STATE, AGE, SINCE, HEARD, RNG = (np.uint32(plane) for plane in range(10))
TURN, LIST = np.uint32(13), np.uint32(14)
FIELDS = np.uint32(16)
#: Planes of `longs`; the inbox of even ticks, then that of odd ones.
GENERATION, BORN, INBOX = (np.uint32(plane) for plane in range(3))
LONGS = np.uint32(4)
#: Numbers of `ledger`. `BIRTHS` and `DEATHS` are the mixed ids of all that were born and that
#: ended, by exclusive or; `START` and `END` are the part of the list of births that counts.
(
    STEPS, TICKS, OWED, LIVE, SPAWNED, DESTROYED, REPLACED, EXPIRED, RETIRED,
    STEPPED, SENT, READ, DEAD, BIRTHS, DEATHS, START, END,
) = (np.uint32(number) for number in range(17))  # fmt: skip
LEDGER = np.uint32(17)
#: What an answer of births and ends begins with; then come the ids. That of a step or a tick is how
#: many agents took part and how many the ledgers have.
COUNT, DIGEST, BORE, ENDED, SCANNED = (np.uint32(number) for number in range(5))
TOOK_PART, WERE_LIVE = np.uint32(0), np.uint32(1)
HEADER = np.uint32(8)

CREATED, RUNNING, PAUSED, STOPPED = (np.uint32(state) for state in range(4))
SLOT_BITS = np.uint64(24)
GENERATION_MAX = np.uint64((1 << 40) - 1)
MESSAGE_BITS = np.uint64(40)
PAYLOAD = np.uint64((1 << 40) - 1)


@device_function
def has(words: Any, slot: Any) -> Any:
    """Whether the bit of a slot is set."""
    word = words[np.uint32(slot >> 5)]
    return (word >> np.uint32(slot & 31)) & np.uint32(1) != np.uint32(0)


@device_function
def put(words: Any, slot: Any) -> None:
    """Sets the bit of a slot; other threads may set others of its word."""
    cuda.atomic.or_(words, np.uint32(slot >> 5), np.uint32(np.uint32(1) << np.uint32(slot & 31)))


@device_function
def rank_of(words: Any, below: Any, slot: Any) -> Any:
    """How many bits are set before that of a slot; `below` is from `count_below`."""
    at = np.uint32(slot >> 5)
    before = np.uint32((np.uint32(1) << np.uint32(slot & 31)) - np.uint32(1))
    return np.uint32(below[at] + np.uint32(cuda.popc(np.uint32(words[at] & before))))


@device_function
def count_below(words: Any, below: Any, count: Any) -> None:
    """For each of `count` words, at most 256 of them, how many bits are set in those before."""
    for word in range(cuda.threadIdx.x, count, cuda.blockDim.x):
        total = np.uint32(0)
        for other in range(word):
            total = np.uint32(total + np.uint32(cuda.popc(words[np.uint32(other)])))
        below[np.uint32(word)] = total


@device_function
def total_of(words: Any, below: Any, count: Any) -> Any:
    """How many bits are set in `count` words."""
    last = np.uint32(count - 1)
    return np.uint32(below[last] + np.uint32(cuda.popc(words[last])))
