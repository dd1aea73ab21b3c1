"""Kernels of the agents that act on whole swarms, a block to each: step and tick."""

from typing import Any

import numpy as np
from numba import cuda, types

from swarmbench.gpu.numba.declared import (
    counted,
    device_function,
    i64s,
    kernel,
    u32,
    u32s,
    u64s,
)
from swarmbench.gpu.numba.slab import (
    AGE,
    ENERGY,
    FIELDS,
    HEARD,
    INBOX,
    LEDGER,
    LIVE,
    LONGS,
    MESSAGE_BITS,
    PAUSED,
    PAYLOAD,
    READ,
    RNG,
    RUNNING,
    SENT,
    STATE,
    STEPPED,
    STEPS,
    TICKS,
    TOOK_PART,
    VX,
    VY,
    WERE_LIVE,
    X,
    Y,
    count_below,
    has,
    rank_of,
    total_of,
)
from swarmbench.gpu.numba.words import next_word

_SPEED_MAX = np.int32(511)
_ENERGY_LOW, _ENERGY_HIGH, _ENERGY_MAX = np.int32(1024), np.int32(8192), np.int32(1 << 20)
_SIGHT_SQUARED = np.int32(1 << 24)


@device_function
def _half(word: Any, shift: Any) -> Any:
    """The signed 16-bit number at a bit of a word."""
    return np.int32(np.int16(np.uint32(word >> shift) & np.uint32(0xFFFF)))


@counted("comparisons")
def _is_seen(x: Any, y: Any) -> Any:
    """Whether an agent that is so far away is within sight."""
    return np.int32(np.int32(x * x) + np.int32(y * y)) < _SIGHT_SQUARED


@device_function
def _seen(lists: Any, slot: Any, row: Any, column: Any, column_bits: Any) -> Any:
    """Sums over all within sight of a slot's agent: offsets, velocities, and how many they are."""
    heads, near, flow, following = lists
    last = np.uint32((np.uint32(1) << column_bits) - np.uint32(1))
    own_x, own_y = _half(near[slot], np.uint32(0)), _half(near[slot], np.uint32(16))
    offset_x, offset_y = np.int32(0), np.int32(0)
    flow_x, flow_y, count = np.int32(0), np.int32(0), np.int32(0)
    for neighbour in range(9):
        above = np.uint32((row + np.uint32(neighbour // 3) + last) & last)
        left = np.uint32((column + np.uint32(neighbour % 3) + last) & last)
        other = np.uint32(heads[np.uint32(above << column_bits | left)])
        while other != np.uint32(0):
            at = np.uint32(other - np.uint32(1))
            # The low 16 bits suffice: whoever is in these cells is less than half as far away.
            x = np.int32(np.int16((_half(near[at], np.uint32(0)) - own_x) & 0xFFFF))
            y = np.int32(np.int16((_half(near[at], np.uint32(16)) - own_y) & 0xFFFF))
            if _is_seen(x, y):
                offset_x = np.int32(offset_x + x)
                offset_y = np.int32(offset_y + y)
                flow_x = np.int32(flow_x + _half(flow[at], np.uint32(0)))
                flow_y = np.int32(flow_y + _half(flow[at], np.uint32(16)))
                count = np.int32(count + np.int32(1))
            other = np.uint32(following[at])
    return offset_x, offset_y, flow_x, flow_y, count


@device_function
def _faster(velocity: Any, offset: Any, flow: Any, count: Any, noise: Any) -> Any:
    """A velocity after a step: separation, alignment, drag and chance (Reynolds, SIGGRAPH 1987)."""
    aligning = np.int32(np.int32(flow - np.int32(count * velocity)) >> np.int32(4))
    drag = np.int32(velocity >> np.int32(4))
    change = np.int32(noise - np.int32(offset >> np.int32(6)) + aligning - drag)
    return min(max(np.int32(velocity + change), np.int32(-_SPEED_MAX)), _SPEED_MAX)


@device_function
def _travel(fields: u32s, base: u32, slots: u32, slot: Any, sums: Any, wrap: u32) -> None:
    """Moves the agent of a slot that has looked around, or lets it rest."""
    at = np.uint32(base + np.uint32(slot))
    offset_x, offset_y, flow_x, flow_y, count = sums
    word = next_word(fields, np.uint32(at + RNG * slots), slots)
    noise_x = np.int32(np.int32(word & np.uint32(63)) - np.int32((word >> 6) & np.uint32(63)))
    noise_y = np.int32(
        np.int32((word >> 12) & np.uint32(63)) - np.int32((word >> 18) & np.uint32(63))
    )
    energy = np.int32(fields[at + ENERGY * slots])
    x, y = fields[at + X * slots], fields[at + Y * slots]
    vx, vy = np.int32(fields[at + VX * slots]), np.int32(fields[at + VY * slots])
    if fields[at + STATE * slots] < PAUSED:
        vx = _faster(vx, offset_x, flow_x, count, noise_x)
        vy = _faster(vy, offset_y, flow_y, count, noise_y)
        x, y = np.uint32(x + np.uint32(vx)) & wrap, np.uint32(y + np.uint32(vy)) & wrap
        crowd = min(np.int32(count - np.int32(1)), np.int32(15))
        energy = np.int32(energy - np.int32(16) - crowd)
        awake = _ENERGY_LOW
    else:
        energy = np.int32(energy + np.int32(64))
        awake = _ENERGY_HIGH
    # Written whether they changed or not, so that a warp writes whole lines.
    fields[at + X * slots], fields[at + Y * slots] = x, y
    fields[at + VX * slots], fields[at + VY * slots] = np.uint32(vx), np.uint32(vy)
    fields[at + ENERGY * slots] = np.uint32(energy)
    fields[at + STATE * slots] = PAUSED if energy < awake else RUNNING
    fields[at + AGE * slots] = np.uint32(fields[at + AGE * slots] + np.uint32(1))


@device_function
def _enlist(
    fields: u32s, base: u32, slots: u32, slot: Any, lists: Any, column_bits: u32, cell_bits: u32
) -> None:
    """Puts a slot's agent at the head of its cell's chain, with what others need of it."""
    heads, near, flow, following = lists
    at = np.uint32(base + np.uint32(slot))
    x, y = fields[at + X * slots], fields[at + Y * slots]
    vx, vy = fields[at + VX * slots], fields[at + VY * slots]
    cell = np.uint32(np.uint32(y >> cell_bits) << column_bits | np.uint32(x >> cell_bits))
    near[np.uint32(slot)] = np.uint32(x & np.uint32(0xFFFF) | np.uint32(y << np.uint32(16)))
    flow[np.uint32(slot)] = np.uint32(vx & np.uint32(0xFFFF) | np.uint32(vy << np.uint32(16)))
    following[np.uint32(slot)] = cuda.atomic.exch(heads, cell, np.uint32(slot + 1))


@device_function
def _correspond(
    fields: u32s,
    longs: u64s,
    swarm: Any,
    slots: u32,
    slot: Any,
    listed: Any,
    live: u32,
    parity: u32,
) -> Any:
    """A slot's agent reads its inbox and sends a message; returns how many it has read."""
    at = np.uint32(np.uint32(swarm) * FIELDS * slots + np.uint32(slot))
    row = np.uint32(np.uint32(swarm) * LONGS * slots)
    own = row + np.uint32(INBOX + parity) * slots + np.uint32(slot)
    unread = longs[own]
    longs[own] = np.uint64(0)
    read = np.uint32(unread >> MESSAGE_BITS)
    gain = np.int32((unread & PAYLOAD) >> np.uint64(12))
    fields[at + HEARD * slots] = np.uint32(fields[at + HEARD * slots] + read)
    energy = np.int32(np.int32(fields[at + ENERGY * slots]) + gain)
    fields[at + ENERGY * slots] = np.uint32(min(energy, _ENERGY_MAX))
    word = next_word(fields, np.uint32(at + RNG * slots), slots)
    rank = np.uint32((np.uint64(word) * np.uint64(live)) >> np.uint64(32))
    other = row + np.uint32(INBOX + np.uint32(1) - parity) * slots + np.uint32(listed[rank])
    message = (np.uint64(1) << MESSAGE_BITS) + np.uint64(word & np.uint32(0xFFFF))
    cuda.atomic.add(longs, other, message)
    return read


# Step: every live agent of every swarm moves one step among those that it sees.
#
#   v' = clamp(v + noise - sum(offset) / 64 + (sum(flow) - count v) / 16 - v / 16)
#   x' = x + v' on the torus, where the agent is not paused; energy falls when it moves, else rises
#
# The cell list (Hockney and Eastwood, "Computer Simulation Using Particles", 1988) is in shared
# memory: a chain of slots for each cell, whose order does not matter to sums of integers.
#
# Work    per agent: 44 bytes read, 44 written (place, velocity, energy, state, age, generator);
#         per slot one bit read. A word drawn, and about 25 operations per agent in the nine cells
#         around. Bound by memory where the agents are spread out.
# Launch  one block per swarm, a thread per slot or more slots in turn: any grid, any block;
#         shared memory 4 bytes per cell and 10 per slot.
# Needs   slots <= 8192, a multiple of 16; cells at least as wide as sight (4096) and 16 to 64
#         columns; answer[0..2) zero.
# Checked against Agents.reference: exact, no tolerance.
@kernel
def agents_step(
    fields: u32s,
    bits: u32s,
    ledger: i64s,
    answer: u64s,
    swarms: u32,
    slots: u32,
    column_bits: u32,
    cell_bits: u32,
) -> None:
    cells, words = np.uint32(1) << np.uint32(2 * column_bits), np.uint32((slots + 31) >> 5)
    heads = cuda.shared.array(0, types.uint32)
    near = heads[np.int64(cells) :]
    flow = near[np.int64(slots) :]
    following = cuda.shared.array(0, types.uint16)[2 * (np.int64(cells) + 2 * np.int64(slots)) :]
    took_part = cuda.shared.array(1, types.uint32)
    wrap = np.uint32((np.uint32(1) << np.uint32(column_bits + cell_bits)) - np.uint32(1))
    first, stride = cuda.threadIdx.x, cuda.blockDim.x
    for swarm in range(cuda.blockIdx.x, swarms, cuda.gridDim.x):
        base = np.uint32(np.uint32(swarm) * FIELDS * slots)
        occupied = bits[np.int64(2 * swarm * words) : np.int64((2 * swarm + 1) * words)]
        for cell in range(first, cells, stride):
            heads[np.uint32(cell)] = 0
        if first == 0:
            took_part[0] = 0
        cuda.syncthreads()
        for slot in range(first, slots, stride):
            if has(occupied, slot):
                _enlist(
                    fields,
                    base,
                    slots,
                    slot,
                    (heads, near, flow, following),
                    column_bits,
                    cell_bits,
                )
        cuda.syncthreads()
        moved = np.uint32(0)
        for slot in range(first, slots, stride):
            if has(occupied, slot):
                at = np.uint32(base + np.uint32(slot))
                row = np.uint32(fields[at + Y * slots] >> cell_bits)
                column = np.uint32(fields[at + X * slots] >> cell_bits)
                lists = (heads, near, flow, following)
                sums = _seen(lists, np.uint32(slot), row, column, column_bits)
                _travel(fields, base, slots, slot, sums, wrap)
                moved = np.uint32(moved + np.uint32(1))
        cuda.atomic.add(took_part, 0, moved)
        cuda.syncthreads()
        if first == 0:
            row_of = np.uint32(np.uint32(swarm) * LEDGER)
            ledger[row_of + STEPS] += 1
            ledger[row_of + STEPPED] += np.int64(took_part[0])
            cuda.atomic.add(answer, TOOK_PART, np.uint64(took_part[0]))
            cuda.atomic.add(answer, WERE_LIVE, np.uint64(ledger[row_of + LIVE]))


# Tick: every live agent of every swarm reads its messages and sends one to any live agent.
#
#   heard += count(inbox), energy = min(energy + sum(inbox) / 4096, most), inbox = nothing
#   other inbox of the live agent number floor(word * live / 2^32) += a message of word mod 2^16
#
# Work    per agent: 32 bytes read, 32 written (inbox, heard, energy, generator), and an inbox of
#         8 bytes read and written atomically; per slot one bit read. A word drawn. Bound by memory.
# Launch  one block per swarm, a thread per slot or more slots in turn: any grid, any block;
#         shared memory 4 bytes per slot and 8 per 32 of them.
# Needs   slots <= 8192; answer[0..2) zero; no agent lives in a slot whose bit is not set.
# Checked against Agents.reference: exact, no tolerance.
@kernel
def agents_tick(
    fields: u32s,
    longs: u64s,
    bits: u32s,
    ledger: i64s,
    answer: u64s,
    swarms: u32,
    slots: u32,
) -> None:
    words = np.uint32((slots + 31) >> 5)
    below = cuda.shared.array(0, types.uint32)
    listed = below[np.int64(words) :]
    counts = cuda.shared.array(2, types.uint32)
    first, stride = cuda.threadIdx.x, cuda.blockDim.x
    for swarm in range(cuda.blockIdx.x, swarms, cuda.gridDim.x):
        row_of = np.uint32(np.uint32(swarm) * LEDGER)
        occupied = bits[np.int64(2 * swarm * words) : np.int64((2 * swarm + 1) * words)]
        parity = np.uint32(ledger[row_of + TICKS] & 1)
        count_below(occupied, below, words)
        if first == 0:
            counts[0] = 0
            counts[1] = 0
        cuda.syncthreads()
        live = total_of(occupied, below, words)
        for slot in range(first, slots, stride):
            if has(occupied, slot):
                listed[rank_of(occupied, below, slot)] = np.uint32(slot)
        cuda.syncthreads()
        sent, read = np.uint32(0), np.uint32(0)
        for slot in range(first, slots, stride):
            if has(occupied, slot):
                read = np.uint32(
                    read + _correspond(fields, longs, swarm, slots, slot, listed, live, parity)
                )
                sent = np.uint32(sent + np.uint32(1))
        cuda.atomic.add(counts, 0, sent)
        cuda.atomic.add(counts, 1, read)
        cuda.syncthreads()
        if first == 0:
            ledger[row_of + TICKS] += 1
            ledger[row_of + SENT] += np.int64(counts[0])
            ledger[row_of + READ] += np.int64(counts[1])
            cuda.atomic.add(answer, TOOK_PART, np.uint64(counts[0]))
            cuda.atomic.add(answer, WERE_LIVE, np.uint64(ledger[row_of + LIVE]))
