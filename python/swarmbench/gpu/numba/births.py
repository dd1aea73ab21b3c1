"""Kernels of the agents that fill, spawn and destroy, a block to a swarm."""

from typing import Any

import numpy as np
from numba import cuda, types

from swarmbench.gpu.numba.declared import device_function, i64s, kernel, u32, u32s, u64, u64s
from swarmbench.gpu.numba.slab import (
    BIRTHS,
    BORE,
    COUNT,
    DEAD,
    DEATHS,
    DESTROYED,
    DIGEST,
    END,
    ENDED,
    EXPIRED,
    FIELDS,
    LEDGER,
    LIVE,
    LONGS,
    OWED,
    REPLACED,
    RETIRED,
    SCANNED,
    SPAWNED,
    START,
    STATE,
    STEPS,
    STOPPED,
)
from swarmbench.gpu.numba.turnover import (
    BIRTHS_MIXED,
    CHOSEN,
    DEAD_COUNT,
    DEATHS_MIXED,
    LIST_START,
    RETIRED_COUNT,
    bear,
    choose,
    choose_oldest,
    end_chosen,
    forget,
    parts,
)
from swarmbench.gpu.numba.turnover import EXPIRED as FOR_EXPIRED

_TALLIES = 5


@device_function
def _opened(bits: Any, ledger: Any, room: Any, tally: Any, swarm: Any, words: Any) -> Any:
    """Takes the swarm's bits into shared memory, where nobody is chosen; returns live, owed, and
    the list's bounds."""
    occupied, vacant, chosen = room[0], room[1], room[2]
    row, at = np.uint32(np.uint32(swarm) * LEDGER), np.uint32(2 * np.int64(swarm) * words)
    for word in range(cuda.threadIdx.x, words, cuda.blockDim.x):
        occupied[np.uint32(word)] = bits[np.uint32(at + np.uint32(word))]
        vacant[np.uint32(word)] = bits[np.uint32(at + np.uint32(words) + np.uint32(word))]
        chosen[np.uint32(word)] = 0
    for number in range(cuda.threadIdx.x, _TALLIES, cuda.blockDim.x):
        tally[np.uint32(number)] = np.uint64(0)
    live, owed = ledger[row + LIVE], ledger[row + OWED]
    start, end = ledger[row + START], ledger[row + END]
    cuda.syncthreads()
    return live, owed, start, end


@device_function
def _closed(bits: Any, ledger: Any, room: Any, tally: Any, where: Any, after: Any) -> None:
    """Writes back the swarm's bits and ledger: `after` is live, owed, the list's bounds, agents
    born and ended, and of those the controller's."""
    swarm, _, words, _ = where
    live, owed, start, end, born, ended, replaced, expired = after
    row, at = np.uint32(np.uint32(swarm) * LEDGER), np.uint32(2 * np.int64(swarm) * words)
    occupied, vacant = room[0], room[1]
    for word in range(cuda.threadIdx.x, words, cuda.blockDim.x):
        bits[np.uint32(at + np.uint32(word))] = occupied[np.uint32(word)]
        bits[np.uint32(at + np.uint32(words) + np.uint32(word))] = vacant[np.uint32(word)]
    if cuda.threadIdx.x == 0:
        ledger[row + LIVE], ledger[row + OWED] = live, owed
        ledger[row + START], ledger[row + END] = start, end
        ledger[row + SPAWNED] += np.int64(born)
        ledger[row + DESTROYED] += np.int64(ended)
        ledger[row + REPLACED] += np.int64(replaced)
        ledger[row + EXPIRED] += np.int64(expired)
        ledger[row + RETIRED] += np.int64(tally[RETIRED_COUNT])
        ledger[row + DEAD] += np.int64(tally[DEAD_COUNT])
        ledger[row + BIRTHS] ^= np.int64(tally[BIRTHS_MIXED])
        ledger[row + DEATHS] ^= np.int64(tally[DEATHS_MIXED])


@device_function
def _answered(answer: Any, count: Any, digest: Any, born: Any, ended: Any, scanned: Any) -> None:
    if cuda.threadIdx.x == 0:
        answer[COUNT] = np.uint64(count)
        answer[DIGEST] = digest
        answer[BORE] = np.uint64(born)
        answer[ENDED] = np.uint64(ended)
        answer[SCANNED] = np.uint64(scanned)


@device_function
def _roomy(fields: Any, where: Any, room: Any, start: Any, end: Any, count: Any) -> Any:
    """The list's bounds, with room for `count` more behind the last."""
    if end + np.int64(count) > 2 * np.int64(where[1]):
        return np.int64(0), np.int64(forget(fields, where, room, start, end))
    return np.int64(start), np.int64(end)


# Populate: empties every swarm and fills it with as many agents as its controller wants.
#
#   agent j of swarm s is drawn for the key first_key + s, in slot j
#
# Work    per slot: 96 bytes written; per agent two Philox blocks.
# Launch  one block per swarm: any grid, any block; shared memory 8 bytes per slot, 24 per 32 of
#         them, and 128.
# Needs   count <= slots <= 8192, a multiple of 16.
# Checked against Agents on the processor: the same swarms, exactly.
@kernel
def agents_populate(
    fields: u32s,
    longs: u64s,
    bits: u32s,
    ledger: i64s,
    answer: u64s,
    swarms: u32,
    slots: u32,
    shift: u32,
    stream: u64,
    first_key: u64,
    count: u32,
) -> None:
    words = (np.int64(slots) + 31) // 32
    room = parts(cuda.shared.array(0, types.uint32), np.int64(slots), words)
    tally = cuda.shared.array(_TALLIES, types.uint64)
    first, stride = cuda.threadIdx.x, cuda.blockDim.x
    for swarm in range(cuda.blockIdx.x, swarms, cuda.gridDim.x):
        base = np.uint32(np.uint32(swarm) * FIELDS * slots)
        row = np.uint32(np.uint32(swarm) * LONGS * slots)
        for at in range(first, np.int64(FIELDS * slots), stride):
            is_state = at // np.int64(slots) == np.int64(STATE)
            fields[np.uint32(base + np.uint32(at))] = STOPPED if is_state else np.uint32(0)
        for at in range(first, np.int64(LONGS * slots), stride):
            longs[np.uint32(row + np.uint32(at))] = np.uint64(0)
        for at in range(first, np.int64(LEDGER), stride):
            ledger[np.uint32(np.uint32(swarm) * LEDGER + np.uint32(at))] = 0
        for word in range(first, words, stride):
            is_half = np.int64(slots) - 32 * word < 32
            room[0][np.uint32(word)] = 0
            room[1][np.uint32(word)] = np.uint32(0xFFFF) if is_half else np.uint32(0xFFFFFFFF)
        for number in range(first, _TALLIES, stride):
            tally[np.uint32(number)] = np.uint64(0)
        cuda.syncthreads()
        where = (swarm, slots, words, np.uint32(np.uint32(swarm) * slots))
        birth = (first_key + np.uint64(swarm), stream, shift, np.uint32(0))
        arrays = (fields, longs, answer)
        born = bear(arrays, where, room, tally, birth, count, np.uint32(0), np.uint32(0), False)
        live = np.int64(born)
        after = (live, np.int64(0), np.int64(0), live, live, np.int64(0), np.int64(0), np.int64(0))
        _closed(bits, ledger, room, tally, where, after)
        cuda.syncthreads()


# Spawn: a batch of agents in the lowest vacant slots of one swarm, and the ends that lifetimes ask
# for since.
#
#   owed += live * batch;  live += batch
#   due = max(min(floor(owed / target), live - least), live - most, 0);  owed -= target * due
#
# Work    per agent born: 8 bytes read, 84 written, two Philox blocks; per agent ended: 24 read, 20
#         written, a quarter of a block; per slot two bits read and written. Bound by latency: one
#         block, about ten barriers.
# Launch  one block, any number of threads up to 512; shared memory as for `populate`.
# Needs   a slot for each agent of the batch; else none ends and fewer are born, which is counted.
# Checked against Agents.reference: exact, no tolerance.
@kernel
def agents_spawn(
    fields: u32s,
    longs: u64s,
    bits: u32s,
    ledger: i64s,
    answer: u64s,
    swarm: u32,
    slots: u32,
    shift: u32,
    stream: u64,
    key: u64,
    batch: u32,
    least: u32,
    most: u32,
) -> None:
    words = (np.int64(slots) + 31) // 32
    room = parts(cuda.shared.array(0, types.uint32), np.int64(slots), words)
    tally = cuda.shared.array(_TALLIES, types.uint64)
    where = (swarm, slots, words, np.uint32(swarm * slots))
    live, owed, start, end = _opened(bits, ledger, room, tally, swarm, words)
    since = np.uint32(ledger[np.uint32(swarm * LEDGER) + STEPS] & 0xFFFFFFFF)
    birth = (key, stream, shift, since)
    arrays = (fields, longs, answer)
    start, end = _roomy(fields, where, room, start, end, batch)
    owed += live * np.int64(batch)
    born = np.int64(
        bear(arrays, where, room, tally, birth, batch, np.uint32(0), np.uint32(end), True)
    )
    live += born
    due = np.int64(0)
    target = (np.int64(least) + np.int64(most)) // 2
    if born == np.int64(batch):
        due = max(min(owed // target, live - np.int64(least)), live - np.int64(most), np.int64(0))
    if due > 0:
        count = np.uint32(due)
        choose(arrays, where, room, np.uint32(live), birth, FOR_EXPIRED, count, False)
        end_chosen(fields, longs, where, room, tally)
    after = (live - due, owed - target * due, start, end + born, born, due, np.int64(0), due)
    _closed(bits, ledger, room, tally, where, after)
    _answered(answer, born, tally[BIRTHS_MIXED], born, due, np.int64(0))


@device_function
def _destroy(
    arrays: Any,
    bits: Any,
    ledger: Any,
    where: Any,
    birth: Any,
    batch: Any,
    least: Any,
    most: Any,
    is_oldest: Any,
) -> None:
    """Ends a batch of a swarm's agents, and spawns what the band is short of then."""
    fields, longs, answer = arrays
    swarm, slots, words, _ = where
    room = parts(cuda.shared.array(0, types.uint32), np.int64(slots), words)
    tally = cuda.shared.array(_TALLIES, types.uint64)
    live, owed, start, end = _opened(bits, ledger, room, tally, swarm, words)
    count = min(np.int64(batch), live)
    scanned = np.int64(0)
    if is_oldest:
        until = choose_oldest(arrays, where, room, tally, start, end, np.uint32(count))
        scanned = until - start
        if count > 0:
            start = np.int64(tally[LIST_START])
    else:
        choose(arrays, where, room, np.uint32(live), birth, CHOSEN, np.uint32(count), True)
    end_chosen(fields, longs, where, room, tally)
    digest = tally[DEATHS_MIXED]
    target = (np.int64(least) + np.int64(most)) // 2
    owed = max(owed - target * count, target * (target - np.int64(most)))
    live -= count
    missing = max(np.int64(least) - live, np.int64(0))
    start, end = _roomy(fields, where, room, start, end, missing)
    born = np.int64(
        bear(arrays, where, room, tally, birth, np.uint32(missing), batch, np.uint32(end), False)
    )
    after = (live + born, owed, start, end + born, born, count, born, np.int64(0))
    _closed(bits, ledger, room, tally, where, after)
    _answered(answer, count, digest, born, count, scanned)


# Destroy: a batch of one swarm's agents at random, and births where the band is short of them then.
#
#   ids = Floyd's sample of the live agents;  owed = max(owed - target * batch, -credit)
#
# Work    per agent ended: 24 bytes read, 28 written, a quarter of a Philox block; per slot two bits
#         read and written. Bound by latency: one block, about ten barriers.
# Launch  one block, any number of threads up to 512; shared memory as for `populate`.
# Needs   slots <= 8192, a multiple of 16; least <= most.
# Checked against Agents.reference: exact, no tolerance.
@kernel
def agents_destroy(
    fields: u32s,
    longs: u64s,
    bits: u32s,
    ledger: i64s,
    answer: u64s,
    swarm: u32,
    slots: u32,
    shift: u32,
    stream: u64,
    key: u64,
    batch: u32,
    least: u32,
    most: u32,
) -> None:
    where = (swarm, slots, (np.int64(slots) + 31) // 32, np.uint32(swarm * slots))
    since = np.uint32(ledger[np.uint32(swarm * LEDGER) + STEPS] & 0xFFFFFFFF)
    birth = (key, stream, shift, since)
    _destroy((fields, longs, answer), bits, ledger, where, birth, batch, least, most, False)


# Destroy oldest: a batch of one swarm's agents in the order of their births, and births where the
# band is short of them then.
#
#   ids = the first of the list of births that live;  owed = max(owed - target * batch, -credit)
#
# Work    per agent ended: 24 bytes read, 28 written; per place of the list that is looked at 8
#         bytes read; per slot two bits read and written. Bound by latency: one block, about ten
#         barriers.
# Launch  one block, any number of threads up to 512; shared memory as for `populate`.
# Needs   slots <= 8192, a multiple of 16; least <= most.
# Checked against Agents.reference: exact, no tolerance.
@kernel
def agents_destroy_oldest(
    fields: u32s,
    longs: u64s,
    bits: u32s,
    ledger: i64s,
    answer: u64s,
    swarm: u32,
    slots: u32,
    shift: u32,
    stream: u64,
    key: u64,
    batch: u32,
    least: u32,
    most: u32,
) -> None:
    where = (swarm, slots, (np.int64(slots) + 31) // 32, np.uint32(swarm * slots))
    since = np.uint32(ledger[np.uint32(swarm * LEDGER) + STEPS] & 0xFFFFFFFF)
    birth = (key, stream, shift, since)
    _destroy((fields, longs, answer), bits, ledger, where, birth, batch, least, most, True)
