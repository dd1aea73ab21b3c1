"""What the agents' kernels must do: bytes moved, words drawn, pairs of agents looked at."""

from __future__ import annotations

import numpy as np

from swarmbench.components.cuda.base import Cost
from swarmbench.components.cuda.swarms import HostSwarm, Longs, words_of
from swarmbench.components.populations import PAUSED

#: Numbers of a ledger that a turnover reads, and that it writes.
_TURNOVER_READS, _TURNOVER_WRITES = 13, 12


def step(live: int, compared: int, swarms: int, slots: int) -> Cost:
    """A step of `live` agents, who look at so many pairs in the cells around them."""
    return Cost(
        44 * live + swarms * (4 * words_of(slots) + 24) + 16,
        44 * live + 16 * swarms + 16,
        random_draws=live,
        comparisons=compared,
    )


def tick(live: int, swarms: int, slots: int) -> Cost:
    """A message from each of `live` agents: of n to n agents these many are to different ones."""
    each = max(live / swarms, 1.0)
    met = live * (1.0 - (1.0 - 1.0 / each) ** each)
    moved = 32 * live + round(8 * met) + 16
    read = moved + swarms * (4 * words_of(slots) + 32)
    return Cost(read, moved + 24 * swarms, random_draws=live)


def turnover(op: str, header: Longs, ids: int, slots: int) -> Cost:
    """Births and ends by what an answer's header counts; two blocks are drawn for each birth, one
    for four ends by chance."""
    _, _, born, ended, scanned = (int(number) for number in header[:5])
    fixed = 8 * words_of(slots)
    chosen = 0 if op == "destroy_oldest" else ended
    return Cost(
        fixed + 8 * _TURNOVER_READS + 8 * born + 24 * ended + 8 * scanned,
        fixed + 8 * _TURNOVER_WRITES + 40 + 76 * born + 20 * ended + 8 * ids,
        random_draws=2 * born + -(-chosen // 4),
    )


def pairs_before(swarm: HostSwarm, column_bits: int, cell_bits: int) -> int:
    """Pairs of agents, each with itself too, that were in the same cell or in cells that touch
    before a swarm's last step. Who is paused has rested; all others are as far on as they are fast.
    """
    occupied, columns = swarm.occupied, 1 << column_bits
    moves = swarm.plane("state")[occupied] != PAUSED
    wrap = np.uint32((1 << column_bits + cell_bits) - 1)
    places = []
    for axis in "xy":
        speed = np.where(moves, swarm.plane(f"velocity_{axis}")[occupied], 0).astype(np.int32)
        place = (swarm.plane(axis)[occupied] - speed.view(np.uint32)) & wrap
        places.append(place >> np.uint32(cell_bits))
    cells = places[1] << np.uint32(column_bits) | places[0]
    agents = np.bincount(cells, minlength=columns**2).reshape(columns, columns)
    beside = sum(np.roll(agents, step, axis=1) for step in (-1, 0, 1))
    around = sum(np.roll(beside, step, axis=0) for step in (-1, 0, 1))
    return int((agents * around).sum())
