"""Births and ends in one swarm, by one block: the functions that the kernels of `births` share.

Bits of slots are read a slot to a thread and changed a word to a thread: what a function has
changed in the end is there for the same thread's words, and after a barrier for all.
"""

from typing import Any

import numpy as np
from numba import cuda

from swarmbench.gpu.numba.declared import device_function
from swarmbench.gpu.numba.slab import (
    AGE,
    BORN,
    CREATED,
    ENERGY,
    FIELDS,
    GENERATION,
    GENERATION_MAX,
    HEADER,
    HEARD,
    INBOX,
    LIST,
    LONGS,
    MESSAGE_BITS,
    RNG,
    SINCE,
    SLOT_BITS,
    STATE,
    STOPPED,
    TURN,
    VX,
    VY,
    X,
    Y,
    count_below,
    has,
    put,
    rank_of,
    total_of,
)
from swarmbench.gpu.numba.words import mixed, philox

#: What a block of random words is drawn for; victims of `destroy`, and of the controller.
_PLACE, _STATE = np.uint32(0), np.uint32(1)
CHOSEN, EXPIRED = np.uint32(2), np.uint32(3)
#: Shared numbers: mixed ids of births and of ends, messages that nobody reads, slots that have used
#: up their ids, where the list of births begins.
BIRTHS_MIXED, DEATHS_MIXED, DEAD_COUNT, RETIRED_COUNT, LIST_START = (
    np.uint32(number) for number in range(5)
)
_NOBODY = np.uint32(0xFFFFFFFF)
_FLAGS = 32


@device_function
def parts(room: Any, slots: Any, words: Any) -> Any:
    """The block's shared memory: bits of slots (occupied, vacant, chosen), bits of ranks, counts
    below each word of either, flags of threads, and two numbers for each slot."""
    end = 6 * words
    return (
        room[0:words],
        room[words : 2 * words],
        room[2 * words : 3 * words],
        room[3 * words : 4 * words],
        room[4 * words : 5 * words],
        room[5 * words : end],
        room[end : end + _FLAGS],
        room[end + _FLAGS : end + _FLAGS + slots],
        room[end + _FLAGS + slots : end + _FLAGS + 2 * slots],
    )


@device_function
def id_of(longs: Any, swarm: Any, slots: Any, first_slot: Any, slot: Any) -> Any:
    """The id of a slot's present agent, or of its last: (generation, slot)."""
    at = np.uint32(np.uint32(swarm) * LONGS * slots + GENERATION * slots + np.uint32(slot))
    return longs[at] << SLOT_BITS | np.uint64(np.uint32(first_slot + np.uint32(slot)))


@device_function
def _settle(
    fields: Any, longs: Any, swarm: Any, slots: Any, slot: Any, ordinal: Any, birth: Any
) -> None:
    """Makes agent number `ordinal` of an operation, in a slot."""
    key, stream, shift, since = birth
    at = np.uint32(np.uint32(swarm) * FIELDS * slots + np.uint32(slot))
    p0, p1, p2, _ = philox(ordinal, _PLACE, key, stream)
    s0, s1, s2, s3 = philox(ordinal, _STATE, key, stream)
    fields[at + X * slots] = np.uint32(p0 >> shift)
    fields[at + Y * slots] = np.uint32(p1 >> shift)
    fields[at + VX * slots] = np.uint32((p2 & np.uint32(0xFF)) - np.uint32(128))
    fields[at + VY * slots] = np.uint32(((p2 >> np.uint32(8)) & np.uint32(0xFF)) - np.uint32(128))
    fields[at + ENERGY * slots] = np.uint32(np.uint32(8192) + (p2 >> np.uint32(19)))
    fields[at + STATE * slots] = CREATED
    fields[at + AGE * slots] = 0
    fields[at + SINCE * slots] = since
    fields[at + HEARD * slots] = 0
    states = np.uint32(at + RNG * slots)
    fields[states] = s0
    fields[states + slots] = s1
    fields[states + slots + slots] = s2
    fields[states + slots + slots + slots] = np.uint32(s3 | np.uint32(1))
    own = np.uint32(np.uint32(swarm) * LONGS * slots + np.uint32(slot))
    longs[own + GENERATION * slots] += np.uint64(1)
    longs[own + BORN * slots] = key


@device_function
def bear(
    arrays: Any,
    where: Any,
    room: Any,
    tally: Any,
    birth: Any,
    count: Any,
    ordinal: Any,
    end: Any,
    is_answer: Any,
) -> Any:
    """Spawns `count` agents in the lowest vacant slots, and lists them from place `end` on; their
    ids are the answer where `is_answer`. Returns how many found a slot."""
    fields, longs, answer = arrays
    swarm, slots, words, first_slot = where
    occupied, vacant, chosen, _, below, _, _, _, _ = room
    first, stride = cuda.threadIdx.x, cuda.blockDim.x
    count_below(vacant, below, words)
    for word in range(first, words, stride):
        chosen[np.uint32(word)] = 0
    cuda.syncthreads()
    born = min(np.uint32(count), total_of(vacant, below, words))
    base = np.uint32(np.uint32(swarm) * FIELDS * slots)
    for slot in range(first, slots, stride):
        if has(vacant, slot):
            rank = rank_of(vacant, below, slot)
            if rank < born:
                _settle(fields, longs, swarm, slots, slot, np.uint32(ordinal + rank), birth)
                turn = np.uint32(end + rank)
                fields[base + TURN * slots + np.uint32(slot)] = turn
                fields[base + LIST * slots + turn] = np.uint32(slot)
                own = id_of(longs, swarm, slots, first_slot, slot)
                cuda.atomic.xor(tally, BIRTHS_MIXED, mixed(own))
                if is_answer:
                    answer[np.uint32(HEADER + rank)] = own
                put(chosen, slot)
    cuda.syncthreads()
    for word in range(first, words, stride):
        fresh = chosen[np.uint32(word)]
        occupied[np.uint32(word)] |= fresh
        vacant[np.uint32(word)] &= np.uint32(~fresh)
    return born


@device_function
def _draw(room: Any, live: Any, birth: Any, purpose: Any, count: Any) -> None:
    """Draws `count` ranks below `live`, and keeps of each rank the first draw that it was."""
    _, _, _, _, _, _, _, earliest, drawn = room
    key, stream, _, _ = birth
    first, stride = cuda.threadIdx.x, cuda.blockDim.x
    for rank in range(first, live, stride):
        earliest[np.uint32(rank)] = _NOBODY
    cuda.syncthreads()
    for block in range(first, (np.int64(count) + 3) // 4, stride):
        words = philox(np.uint32(block), purpose, key, stream)
        for part in range(4):
            number = np.uint32(4 * block + part)
            if number < count:
                top = np.uint64(np.uint32(live - count + number))
                scaled = (np.uint64(words[part]) * (top + np.uint64(1))) >> np.uint64(32)
                drawn[number] = np.uint32(scaled)
                cuda.atomic.min(earliest, np.uint32(scaled), number)
    cuda.syncthreads()


@device_function
def _is_taken(earliest: Any, drawn: Any, least: Any, number: Any) -> Any:
    """Whether a draw's rank was in the sample before it.

    It was if an earlier draw had it, or if it was put there in the place of a draw that was taken
    itself: what was put there in the place of draw `i` is rank `least + i`.
    """
    at = np.uint32(number)
    while np.uint32(earliest[drawn[at]]) >= at:
        if drawn[at] < least or drawn[at] - least >= at:
            return False
        at = np.uint32(drawn[at] - least)
    return True


@device_function
def choose(
    arrays: Any,
    where: Any,
    room: Any,
    live: Any,
    birth: Any,
    purpose: Any,
    count: Any,
    is_answer: Any,
) -> None:
    """Chooses `count` of the live agents, any of them as likely as any other, by their ranks in
    the order of slots; their ids are the answer where `is_answer`.

    Floyd's sample (Bentley and Floyd, "A sample of brilliance", CACM 1987), all draws at once.
    """
    _, longs, answer = arrays
    swarm, slots, words, first_slot = where
    occupied, _, chosen, ranks, below, ranks_below, _, earliest, drawn = room
    first, stride = cuda.threadIdx.x, cuda.blockDim.x
    for word in range(first, words, stride):
        chosen[np.uint32(word)] = 0
        ranks[np.uint32(word)] = 0
    _draw(room, live, birth, purpose, count)
    least = np.uint32(live - count)
    for number in range(first, count, stride):
        put(ranks, np.int64(drawn[np.uint32(number)]))
        if _is_taken(earliest, drawn, least, number):
            put(ranks, np.int64(least) + number)
    count_below(occupied, below, words)
    cuda.syncthreads()
    count_below(ranks, ranks_below, words)
    cuda.syncthreads()
    for slot in range(first, slots, stride):
        if has(occupied, slot):
            rank = np.int64(rank_of(occupied, below, slot))
            if has(ranks, rank):
                put(chosen, slot)
                if is_answer:
                    at = np.uint32(HEADER + rank_of(ranks, ranks_below, rank))
                    answer[at] = id_of(longs, swarm, slots, first_slot, slot)
    cuda.syncthreads()


@device_function
def _listed(fields: Any, base: Any, slots: Any, room: Any, turn: Any, end: Any) -> Any:
    """The slot at a place of the list of births, if its agent lives, else no slot; sets the
    thread's flag where it does. All threads of the block take part."""
    occupied, flags = room[0], room[6]
    for word in range(cuda.threadIdx.x, _FLAGS, cuda.blockDim.x):
        flags[np.uint32(word)] = 0
    cuda.syncthreads()
    found = _NOBODY
    if turn < end:
        slot = fields[base + LIST * slots + np.uint32(turn)]
        if has(occupied, np.int64(slot)) and fields[base + TURN * slots + slot] == np.uint32(turn):
            found = np.uint32(slot)
            put(flags, np.int64(cuda.threadIdx.x))
    cuda.syncthreads()
    return found


@device_function
def _flagged(flags: Any, end: Any) -> Any:
    """How many threads before thread `end` have set their flags."""
    total = np.uint32(0)
    for word in range(end >> 5):
        total = np.uint32(total + np.uint32(cuda.popc(flags[np.uint32(word)])))
    if end & 31:
        before = np.uint32((np.uint32(1) << np.uint32(end & 31)) - np.uint32(1))
        last = np.uint32(flags[np.uint32(end >> 5)] & before)
        total = np.uint32(total + np.uint32(cuda.popc(last)))
    return total


@device_function
def choose_oldest(
    arrays: Any, where: Any, room: Any, tally: Any, start: Any, end: Any, count: Any
) -> Any:
    """Chooses the `count` oldest agents, whose ids are the answer, where nobody is chosen yet;
    returns where in the list of births the search ended."""
    fields, longs, answer = arrays
    swarm, slots, _, first_slot = where
    chosen, flags = room[2], room[6]
    base = np.uint32(np.uint32(swarm) * FIELDS * slots)
    first, stride = cuda.threadIdx.x, cuda.blockDim.x
    found, at = np.uint32(0), np.int64(start)
    while found < count and at < end:
        slot = _listed(fields, base, slots, room, at + first, end)
        rank = np.uint32(found + _flagged(flags, first))
        if slot != _NOBODY and rank < count:
            put(chosen, np.int64(slot))
            answer[np.uint32(HEADER + rank)] = id_of(longs, swarm, slots, first_slot, slot)
            if rank == np.uint32(count - np.uint32(1)):
                tally[LIST_START] = np.uint64(at + first + 1)
        found = np.uint32(found + _flagged(flags, stride))
        at += stride
        cuda.syncthreads()
    return min(at, np.int64(end))


@device_function
def forget(fields: Any, where: Any, room: Any, start: Any, end: Any) -> Any:
    """Takes those who have ended out of the list of births; returns how many are left."""
    swarm, slots, _, _ = where
    flags = room[6]
    base = np.uint32(np.uint32(swarm) * FIELDS * slots)
    first, stride = cuda.threadIdx.x, cuda.blockDim.x
    kept, at = np.uint32(0), np.int64(start)
    while at < end:
        slot = _listed(fields, base, slots, room, at + first, end)
        if slot != _NOBODY:
            turn = np.uint32(kept + _flagged(flags, first))
            fields[base + LIST * slots + turn] = slot
            fields[base + TURN * slots + slot] = turn
        kept = np.uint32(kept + _flagged(flags, stride))
        at += stride
        cuda.syncthreads()
    return kept


@device_function
def end_chosen(fields: Any, longs: Any, where: Any, room: Any, tally: Any) -> None:
    """Stops the chosen agents, whose messages nobody will read, and vacates their slots."""
    swarm, slots, words, first_slot = where
    occupied, vacant, chosen = room[0], room[1], room[2]
    base = np.uint32(np.uint32(swarm) * FIELDS * slots)
    row = np.uint32(np.uint32(swarm) * LONGS * slots)
    first, stride = cuda.threadIdx.x, cuda.blockDim.x
    for slot in range(first, slots, stride):
        if has(chosen, slot):
            own = id_of(longs, swarm, slots, first_slot, slot)
            cuda.atomic.xor(tally, DEATHS_MIXED, mixed(own))
            fields[base + STATE * slots + np.uint32(slot)] = STOPPED
            even = row + INBOX * slots + np.uint32(slot)
            odd = even + slots
            unread = (longs[even] >> MESSAGE_BITS) + (longs[odd] >> MESSAGE_BITS)
            longs[even] = np.uint64(0)
            longs[odd] = np.uint64(0)
            cuda.atomic.add(tally, DEAD_COUNT, unread)
            if own >> SLOT_BITS < GENERATION_MAX:
                put(vacant, slot)
            else:
                cuda.atomic.add(tally, RETIRED_COUNT, np.uint64(1))
    cuda.syncthreads()
    for word in range(first, words, stride):
        gone = chosen[np.uint32(word)]
        occupied[np.uint32(word)] &= np.uint32(~gone)
