//! The index of a set of patterns: which of them to compare at a node, found in constant time.
//!
//! A first look at types, child counts and some bits of the values leaves few nodes. Patterns are
//! kept by (type, class of child counts) of their root. Where such a cell holds many,
//! they are split by the rarest combination of further tokens that most of them demand (the root's
//! value, types and values of the first two children), each combination with a hash table of its
//! own: tuple space search (Srinivasan et al., SIGCOMM 1999) below a direct-mapped first level.

use super::filter::{BLOCK, CLASSES, Filter, Look, class_of};
use super::forest::{Forest, Node, marks};
use super::patterns::{COUNT, Patterns, Place, TYPE, VALUE};
use super::tokens::{best_fields, demanded, key_of_node, key_of_pattern};

/// Tables of one cell; what none of them covers is compared one by one.
const PROBES_MAX: usize = 4;
/// Patterns that are cheaper to compare than to look up.
const LINEAR_MAX: usize = 2;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    fn of<'a, T>(&self, values: &'a [T]) -> &'a [T] {
        &values[self.start as usize..self.end as usize]
    }
}

/// The patterns of one type and one class of child counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    /// Match whatever else the node is.
    pub certain: Span,
    /// Have to be compared.
    pub linear: Span,
    pub probes: Span,
}

/// One combination of tokens and its hash table.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    pub fields: u8,
    pub shift: u8,
    /// Where the table starts in `slots`.
    pub slots: u32,
}

/// Roots of one kind: with a type or without, with a value or without.
#[derive(Clone, Debug)]
pub struct Kind {
    is_typed: bool,
    is_valued: bool,
    /// Types and classes of child counts of these roots (all types, where they have none).
    pub shapes: Filter,
    /// Marks of these roots' values; where they have none, all.
    pub values: Filter,
    /// The row of cells of each type.
    pub rows: Box<[u16; 256]>,
    /// Rows times classes; the first row is empty.
    pub cells: Vec<Cell>,
}

/// The index; see the module.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Those kinds of roots that there are.
    pub kinds: Vec<Kind>,
    pub probes: Vec<Probe>,
    pub slots: Vec<Span>,
    /// Pattern numbers: lists of cells and slots.
    pub listed: Vec<u32>,
}

/// Kinds of roots at most.
pub const KINDS_MAX: usize = 4;

/// For each kind of roots the nodes of a block that it has to be held against, a bit each.
pub type Rows = [u64; KINDS_MAX];

impl Index {
    pub fn new(patterns: &Patterns) -> Self {
        let mut index = Self::default();
        for (is_typed, is_valued) in [(true, false), (true, true), (false, false), (false, true)] {
            let is_member = |&number: &u32| {
                let flags = patterns.of(number)[0].flags;
                (flags & TYPE != 0) == is_typed && (flags & VALUE != 0) == is_valued
            };
            let members: Vec<u32> = (0..patterns.len() as u32).filter(is_member).collect();
            if !members.is_empty() {
                let kind = index.kind(patterns, &members, is_typed, is_valued);
                index.kinds.push(kind);
            }
        }
        index
    }

    fn kind(
        &mut self,
        patterns: &Patterns,
        members: &[u32],
        is_typed: bool,
        is_valued: bool,
    ) -> Kind {
        let mut shapes = Filter { classes: [0; 256] };
        let mut values = Filter { classes: [if is_valued { 0 } else { u8::MAX }; 256] };
        let mut rows = Box::new([u16::from(!is_typed); 256]);
        let mut row_members = vec![vec![Vec::new(); CLASSES]; if is_typed { 1 } else { 2 }];
        for &number in members {
            let root = &patterns.of(number)[0];
            let class = class_of(root.count());
            let is_counted = root.flags & COUNT != 0;
            let classes = if is_counted { class..class + 1 } else { 0..CLASSES };
            let bits = if is_counted { 1 << class } else { u8::MAX };
            let [mark, submark] = marks(root.value);
            values.classes[usize::from(mark)] |= 1 << submark;
            if is_typed {
                shapes.classes[usize::from(root.kind())] |= bits;
            } else {
                shapes.classes.iter_mut().for_each(|classes| *classes |= bits);
            }
            let row = &mut rows[usize::from(root.kind())];
            if *row == 0 {
                *row = row_members.len() as u16;
                row_members.push(vec![Vec::new(); CLASSES]);
            }
            for class in classes {
                row_members[usize::from(*row)][class].push(number);
            }
        }
        let by_class = row_members.into_iter().flat_map(|row| row.into_iter().enumerate());
        let cells = by_class.map(|(class, members)| self.cell(patterns, members, class)).collect();
        Kind { is_typed, is_valued, shapes, values, rows, cells }
    }

    /// The first look at a block: 64 nodes from `first` on, or those that are left.
    #[inline]
    pub fn rows(&self, look: Look, forest: &Forest, first: usize) -> Rows {
        let mut rows = [0; KINDS_MAX];
        for (bits, kind) in rows.iter_mut().zip(&self.kinds) {
            *bits = u64::MAX;
            if kind.is_typed || !kind.is_valued {
                *bits &= look_at(look, &kind.shapes, &forest.kinds, &forest.counts, first);
            }
            if kind.is_valued && *bits != 0 {
                *bits &= look_at(look, &kind.values, &forest.marks, &forest.submarks, first);
            }
        }
        rows
    }

    /// The same for one node, as bits 0.
    #[inline]
    pub fn rows_of(&self, node: &Node) -> Rows {
        let [mark, submark] = marks(node.value);
        let mut rows = [0; KINDS_MAX];
        for (bits, kind) in rows.iter_mut().zip(&self.kinds) {
            let shape = kind.shapes.classes[usize::from(node.kind())] >> class_of(node.count());
            let value = kind.values.classes[usize::from(mark)] >> submark;
            *bits = u64::from(shape & value & 1);
        }
        rows
    }

    /// Types and classes of child counts of all roots.
    pub fn shapes(&self) -> Filter {
        let mut shapes = Filter { classes: [0; 256] };
        for kind in &self.kinds {
            for (sum, classes) in shapes.classes.iter_mut().zip(kind.shapes.classes) {
                *sum |= classes;
            }
        }
        shapes
    }

    fn list(&mut self, numbers: &[u32]) -> Span {
        let start = self.listed.len() as u32;
        self.listed.extend_from_slice(numbers);
        Span { start, end: self.listed.len() as u32 }
    }

    fn cell(&mut self, patterns: &Patterns, members: Vec<u32>, class: usize) -> Cell {
        let (certain, mut rest): (Vec<u32>, Vec<u32>) =
            members.into_iter().partition(|&number| is_certain(patterns.of(number), class));
        let start = self.probes.len() as u32;
        while rest.len() > LINEAR_MAX && self.probes.len() - (start as usize) < PROBES_MAX {
            let Some(fields) = best_fields(patterns, &rest) else { break };
            let (covered, left): (Vec<u32>, Vec<u32>) =
                rest.iter().partition(|&&number| demanded(patterns.of(number)) & fields == fields);
            self.add_probe(patterns, fields, &covered);
            rest = left;
        }
        Cell {
            certain: self.list(&certain),
            linear: self.list(&rest),
            probes: Span { start, end: self.probes.len() as u32 },
        }
    }

    fn add_probe(&mut self, patterns: &Patterns, fields: u8, covered: &[u32]) {
        let bits = (2 * covered.len()).next_power_of_two().trailing_zeros().max(1);
        let shift = (64 - bits) as u8;
        let slot_of = |number: &u32| key_of_pattern(patterns.of(*number), fields) >> shift;
        let mut ordered: Vec<u32> = covered.to_vec();
        ordered.sort_by_key(|number| (slot_of(number), *number));
        let slots = self.slots.len();
        self.slots.resize(slots + (1 << bits), Span::default());
        for group in ordered.chunk_by(|left, right| slot_of(left) == slot_of(right)) {
            let span = self.list(group);
            self.slots[slots + slot_of(&group[0]) as usize] = span;
        }
        self.probes.push(Probe { fields, shift, slots: slots as u32 });
    }

    /// Calls `found` with every pattern that matches at a node, in no order; of `rows` the bits
    /// number `place` are the node's.
    #[inline(always)]
    pub fn at(
        &self,
        patterns: &Patterns,
        nodes: &[Node],
        number: u32,
        (rows, place): (&Rows, u32),
        mut found: impl FnMut(u32),
    ) {
        let node = &nodes[number as usize];
        for (bits, kind) in rows.iter().zip(&self.kinds) {
            if bits >> place & 1 != 0 {
                let row = usize::from(kind.rows[usize::from(node.kind())]);
                let cell = &kind.cells[row * CLASSES + class_of(node.count())];
                self.look(cell, patterns, nodes, number, &mut found);
            }
        }
    }

    #[inline(always)]
    fn look(
        &self,
        cell: &Cell,
        patterns: &Patterns,
        nodes: &[Node],
        number: u32,
        found: &mut impl FnMut(u32),
    ) {
        for &pattern in cell.certain.of(&self.listed) {
            found(pattern);
        }
        for &pattern in cell.linear.of(&self.listed) {
            if patterns.matches(pattern, nodes, number) {
                found(pattern);
            }
        }
        for probe in cell.probes.of(&self.probes) {
            let key = key_of_node(nodes, number, probe.fields);
            let slot = &self.slots[probe.slots as usize + (key >> probe.shift) as usize];
            for &pattern in slot.of(&self.listed) {
                if patterns.matches(pattern, nodes, number) {
                    found(pattern);
                }
            }
        }
    }

    /// Sizes, for the manifest: cells in use, tables, lists.
    pub fn sizes(&self) -> [usize; 3] {
        let cells = self.kinds.iter().flat_map(|kind| &kind.cells);
        let used = cells.filter(|cell| {
            [cell.certain, cell.linear, cell.probes].iter().any(|span| span.start < span.end)
        });
        [used.count(), self.probes.len(), self.listed.len()]
    }

    /// Most patterns of a slot.
    #[cfg(test)]
    pub fn crowd_max(&self) -> usize {
        self.slots.iter().map(|slot| slot.of(&self.listed).len()).max().unwrap_or(0)
    }

    pub fn held_bytes(&self) -> usize {
        let cells = self.kinds.iter().map(|kind| {
            size_of::<Kind>() + size_of_val(&*kind.rows) + size_of_val(kind.cells.as_slice())
        });
        cells.sum::<usize>()
            + size_of_val(self.probes.as_slice())
            + size_of_val(self.slots.as_slice())
            + size_of_val(self.listed.as_slice())
    }
}

/// One look; the last block is filled up with nodes whose answer is thrown away.
#[inline]
fn look_at(look: Look, filter: &Filter, rows: &[u8], bits: &[u8], first: usize) -> u64 {
    let left = rows.len() - first;
    if left >= BLOCK {
        let block = first..first + BLOCK;
        return look(filter, &rows[block.clone()], &bits[block]);
    }
    let (mut last_rows, mut last_bits) = ([0; BLOCK], [0; BLOCK]);
    last_rows[..left].copy_from_slice(&rows[first..]);
    last_bits[..left].copy_from_slice(&bits[first..]);
    look(filter, &last_rows, &last_bits) & ((1 << left) - 1)
}

/// Whether the cell alone decides: a root without a value whose children are not listed.
fn is_certain(places: &[Place], class: usize) -> bool {
    let root = &places[0];
    places.len() == 1 && root.flags & VALUE == 0 && (root.flags & COUNT == 0 || class < CLASSES - 1)
}
