//! The cell list: agents sorted by cell, so that whom one can see lies in three rows of cells.
//!
//! A swarm lives on a torus of columns × columns cells. Of an agent in the list, the low 16 bits of
//! its coordinates suffice: those are 16 cells, and whoever it may see is at most two away.

use crate::operations::pages::filled;

use super::agent::{CELL_BITS, STOPPED, Sums};
use super::tile::{LANES, Tile, place};

/// Fewest columns: as many as the low 16 bits of a coordinate can tell apart.
const COLUMNS_MIN: usize = 16;
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

/// Stretches of the sorted arrays that hold all whom an agent may see: one in each of three rows,
/// and at the seam of the torus, where the columns are the first and the last ones, three more.
pub struct Stretches {
    pub rows: [(u32, u32); 3],
    pub beyond_seam: Option<[(u32, u32); 3]>,
}

impl Stretches {
    #[inline(always)]
    pub fn bounds(&self) -> impl Iterator<Item = (u32, u32)> {
        self.rows.into_iter().chain(self.beyond_seam.into_iter().flatten())
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
            let mut cells = [0; LANES];
            for (lane, cell) in cells.iter_mut().enumerate() {
                let own = tile.y[lane] >> CELL_BITS << bits | tile.x[lane] >> CELL_BITS;
                *cell = if tile.state[lane] == STOPPED { vacant } else { own };
            }
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

    /// Where the agents of the columns `left..right` of three rows lie.
    #[inline(always)]
    fn around(&self, rows: [u32; 3], left: u32, right: u32) -> [(u32, u32); 3] {
        let [above, own, below] = rows;
        [
            self.stretch(above, left, right),
            self.stretch(own, left, right),
            self.stretch(below, left, right),
        ]
    }

    #[inline(always)]
    fn stretch(&self, row: u32, left: u32, right: u32) -> (u32, u32) {
        let first = (row << self.column_bits) as usize + 1;
        (self.starts[first + left as usize], self.starts[first + right as usize])
    }

    /// Where whoever can be seen from a cell is to be looked for.
    #[inline(always)]
    fn stretches(&self, cell: u32) -> Stretches {
        let last = (1u32 << self.column_bits) - 1;
        let (row, column) = (cell >> self.column_bits, cell & last);
        let rows = [row.wrapping_sub(1) & last, row, (row + 1) & last];
        if column.wrapping_sub(1) < last - 1 {
            let rows = self.around(rows, column - 1, column + 2);
            return Stretches { rows, beyond_seam: None };
        }
        let (left, right) = if column == 0 { (2, last) } else { (1, last - 1) };
        Stretches {
            rows: self.around(rows, 0, left),
            beyond_seam: Some(self.around(rows, right, last + 1)),
        }
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
        for (first, end) in stretches.bounds() {
            let range = first as usize..end as usize;
            for (&other, &flow) in grid.near[range.clone()].iter().zip(&grid.flow[range]) {
                let [other_x, other_y] = halves(other);
                let offset = [(other_x - x) as i16, (other_y - y) as i16];
                sums.see([i32::from(offset[0]), i32::from(offset[1])], halves(flow));
            }
        }
        sums
    }
}
