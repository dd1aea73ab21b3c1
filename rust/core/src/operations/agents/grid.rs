//! The cell list: agents sorted by cell, so that whom one can see lies in three rows of cells.
//!
//! A swarm lives on a torus of columns × columns cells. Of an agent in the list, the low 16 bits of
//! its coordinates suffice: those are 16 cells, and whoever it may see is at most two away.

use crate::operations::pages::filled;

use super::agent::{CELL_BITS, STOPPED, Sums};
use super::tile::{LANES, Tile, place};

/// Fewest columns: as many as the low 16 bits of a coordinate can tell apart.
const COLUMNS_MIN: usize = 16;
/// Rows of cells around an agent, and the most stretches they are in: two each at the seam.
const STRETCHES_MAX: usize = 6;
/// Bytes that the list needs per slot.
pub const SLOT_BYTES: usize = 12;

pub struct Grid {
    column_bits: u32,
    /// Where the agents of each cell begin; two more than there are cells and the vacant.
    starts: Vec<u32>,
    /// By cell: low halves of x (low) and y, of both velocities, and the slot.
    pub near: Vec<u32>,
    pub flow: Vec<u32>,
    pub slots: Vec<u32>,
}

/// Stretches of the sorted arrays that hold all whom an agent may see.
pub struct Stretches {
    bounds: [(u32, u32); STRETCHES_MAX],
    count: usize,
}

impl Stretches {
    #[inline(always)]
    pub fn bounds(&self) -> &[(u32, u32)] {
        &self.bounds[..self.count]
    }
}

/// Two 16-bit numbers in a word, each signed.
#[inline(always)]
pub fn halves(word: u32) -> [i32; 2] {
    [i32::from(word as i16), i32::from((word >> 16) as i16)]
}

#[inline(always)]
fn packed(low: u32, high: u32) -> u32 {
    low & 0xFFFF | high << 16
}

/// Columns of a swarm of so many slots: a power of two, and at least as many cells as slots.
pub fn columns(slots: usize) -> usize {
    let mut columns = COLUMNS_MIN;
    while columns * columns < slots {
        columns *= 2;
    }
    columns
}

/// How an agent's surroundings are summed up, by what kind of vector.
pub trait Sight {
    /// What the agent at `near` sees in the stretches.
    fn sum(grid: &Grid, near: u32, stretches: &Stretches) -> Sums;
}

impl Grid {
    pub fn new(slots: usize) -> Self {
        let columns = columns(slots);
        Self {
            column_bits: columns.trailing_zeros(),
            starts: filled(columns * columns + 3),
            near: filled(slots),
            flow: filled(slots),
            slots: filled(slots),
        }
    }

    /// Bytes of the cells' table, which come on top of `SLOT_BYTES`.
    pub fn table_bytes(slots: usize) -> u64 {
        (4 * (columns(slots) * columns(slots) + 3)) as u64
    }

    /// The bit mask of a coordinate.
    pub fn wrap(&self) -> u32 {
        (1 << (self.column_bits + CELL_BITS)) - 1
    }

    /// Sorts the agents by cell, the vacant slots behind them.
    #[inline(always)]
    pub fn sort(&mut self, tiles: &mut [Tile]) {
        let vacant = 1u32 << (2 * self.column_bits);
        self.starts.fill(0);
        for tile in &mut *tiles {
            let bits = self.column_bits;
            let cells: [u32; LANES] = std::array::from_fn(|lane| {
                let cell = tile.y[lane] >> CELL_BITS << bits | tile.x[lane] >> CELL_BITS;
                if tile.state[lane] == STOPPED { vacant } else { cell }
            });
            tile.cell = cells;
            for cell in cells {
                self.starts[cell as usize + 2] += 1;
            }
        }
        let mut below = 0;
        for start in &mut self.starts[2..] {
            below += std::mem::replace(start, below);
        }
        self.spread(tiles);
    }

    #[inline(always)]
    fn spread(&mut self, tiles: &[Tile]) {
        let Self { starts, near, flow, slots, .. } = self;
        // After a cell's last agent its start has become the next one's.
        for (index, tile) in tiles.iter().enumerate() {
            let (mut places, mut flows) = ([0; LANES], [0; LANES]);
            for lane in 0..LANES {
                places[lane] = packed(tile.x[lane], tile.y[lane]);
                flows[lane] = packed(tile.velocity_x[lane] as u32, tile.velocity_y[lane] as u32);
            }
            for lane in 0..LANES {
                let start = &mut starts[tile.cell[lane] as usize + 2];
                let at = *start as usize;
                *start += 1;
                near[at] = places[lane];
                flow[at] = flows[lane];
                slots[at] = (index * LANES + lane) as u32;
            }
        }
    }

    /// Where whoever can be seen from a cell is to be looked for.
    #[inline(always)]
    fn stretches(&self, cell: u32) -> Stretches {
        let (bits, last) = (self.column_bits, (1u32 << self.column_bits) - 1);
        let (row, column) = (cell >> bits, cell & last);
        let mut found = Stretches { bounds: [(0, 0); STRETCHES_MAX], count: 3 };
        let start = |row: u32, column: u32| self.starts[((row << bits) + column) as usize + 1];
        let rows = [row.wrapping_sub(1) & last, row, (row + 1) & last];
        if column.wrapping_sub(1) < last - 1 {
            for (bounds, row) in found.bounds.iter_mut().zip(rows) {
                *bounds = (start(row, column - 1), start(row, column + 2));
            }
            return found;
        }
        // At the seam the three columns are the first and the last ones.
        let (left, right) = if column == 0 { (2, last) } else { (1, last - 1) };
        for (bounds, row) in found.bounds.chunks_exact_mut(2).zip(rows) {
            bounds[0] = (start(row, 0), start(row, left));
            bounds[1] = (start(row, right), start(row, last + 1));
        }
        found.count = STRETCHES_MAX;
        found
    }

    /// Sums up what each of the `live` agents sees; the list is of now.
    #[inline(always)]
    pub fn look<S: Sight>(&self, tiles: &mut [Tile], live: usize) {
        for (&near, &slot) in self.near[..live].iter().zip(&self.slots) {
            let (tile, lane) = place(slot);
            let tile = &mut tiles[tile];
            let sums = S::sum(self, near, &self.stretches(tile.cell[lane]));
            tile.sums[lane] = [sums.offset_x, sums.offset_y, sums.flow_x, sums.flow_y];
            tile.count[lane] = sums.count;
        }
    }
}

/// One candidate after the other, on any machine.
pub struct Plain;

impl Sight for Plain {
    #[inline(always)]
    fn sum(grid: &Grid, near: u32, stretches: &Stretches) -> Sums {
        let [x, y] = halves(near);
        let mut sums = Sums::default();
        for &(first, end) in stretches.bounds() {
            let range = first as usize..end as usize;
            for (&other, &flow) in grid.near[range.clone()].iter().zip(&grid.flow[range]) {
                let [other_x, other_y] = halves(other);
                let offset = [other_x.wrapping_sub(x), other_y.wrapping_sub(y)];
                sums.see(offset.map(|offset| i32::from(offset as i16)), halves(flow));
            }
        }
        sums
    }
}
