//! Shortest paths between two nodes: breadth-first search from both ends, level by level.
//!
//! Pohl, "Bi-directional Search", Machine Intelligence 6, 1971. The side whose frontier has fewer
//! arcs is expanded by one whole level; the first node seen that the other side has closes a
//! shortest path, because every shorter one would have closed at an earlier level.

use std::ops::Range;

use super::bfs::PIECE_ARCS;
use super::graph::Graph;
use super::pages::prefetch;
use super::scratch::{Meter, Scratch};

/// A side's mark in the two bits of a node.
const FORWARD: u64 = 1;
const BACKWARD: u64 = 2;

/// How far ahead the rows of the queue are asked for, in nodes.
const AHEAD_NODES: usize = 4;

/// One side of the search: its queue holds each node once, as node << 32 | place of its parent.
struct Side<'a> {
    queue: &'a mut [u64],
    level: Range<usize>,
    tail: usize,
    mark: u64,
}

impl<'a> Side<'a> {
    fn new(queue: &'a mut [u64], node: u32, mark: u64, sides: &mut [u64]) -> Self {
        queue[0] = u64::from(node) << 32;
        put_mark(sides, node, mark);
        Self { queue, level: 0..1, tail: 1, mark }
    }

    fn arcs(&self, graph: &Graph) -> u64 {
        let level = &self.queue[self.level.clone()];
        level.iter().map(|&entry| u64::from(graph.degree((entry >> 32) as u32))).sum()
    }

    /// Visits the next level; gives (place in this queue, node of the other side) on meeting it.
    fn expand(
        &mut self,
        graph: &Graph,
        sides: &mut [u64],
        meter: &mut Meter<'_>,
    ) -> Option<(usize, u32)> {
        for place in self.level.clone() {
            if place + AHEAD_NODES < self.level.end {
                let ahead = (self.queue[place + AHEAD_NODES] >> 32) as usize;
                prefetch(&graph.neighbours, graph.offsets[ahead] as usize);
            }
            let node = (self.queue[place] >> 32) as u32;
            for piece in graph.row(node).chunks(PIECE_ARCS) {
                for &neighbour in piece {
                    let mark = mark_of(sides, neighbour);
                    if mark == 0 {
                        put_mark(sides, neighbour, self.mark);
                        self.queue[self.tail] = u64::from(neighbour) << 32 | place as u64;
                        self.tail += 1;
                    } else if mark != self.mark {
                        return Some((place, neighbour));
                    }
                }
                meter.add(piece.len());
            }
        }
        self.level = self.level.end..self.tail;
        None
    }

    /// Writes the nodes from `place` back to this side's end; returns how many.
    fn walk_back(&self, mut place: usize, path: &mut [u32]) -> usize {
        let mut length = 0;
        loop {
            path[length] = (self.queue[place] >> 32) as u32;
            length += 1;
            if place == 0 {
                return length;
            }
            place = self.queue[place] as u32 as usize;
        }
    }

    fn clear_marks(&self, sides: &mut [u64]) {
        for &entry in &self.queue[..self.tail] {
            sides[(entry >> 37) as usize] = 0;
        }
    }
}

#[inline]
fn mark_of(sides: &[u64], node: u32) -> u64 {
    sides[node as usize / 32] >> (node % 32 * 2) & 3
}

#[inline]
fn put_mark(sides: &mut [u64], node: u32, mark: u64) {
    sides[node as usize / 32] |= mark << (node % 32 * 2);
}

/// Finds a shortest path between inner nodes; `scratch.queue[..nodes]` then holds it, ends
/// included. Returns its number of nodes, or None where there is no path.
pub fn shortest_path(
    graph: &Graph,
    from: u32,
    to: u32,
    scratch: &mut Scratch,
    meter: &mut Meter<'_>,
) -> Option<usize> {
    if from == to {
        scratch.queue[0] = from;
        return Some(1);
    }
    let Scratch { sides, queue: path, lanes: [one, other, _], .. } = scratch;
    let mut forward = Side::new(one, from, FORWARD, sides);
    let mut backward = Side::new(other, to, BACKWARD, sides);
    let meeting = meet(graph, &mut forward, &mut backward, sides, meter);
    forward.clear_marks(sides);
    backward.clear_marks(sides);
    let (place, other_place) = meeting?;
    let length = forward.walk_back(place, path);
    path[..length].reverse();
    Some(length + backward.walk_back(other_place, &mut path[length..]))
}

/// The places, forward and backward, of the two ends of the edge at which the sides meet.
fn meet(
    graph: &Graph,
    forward: &mut Side<'_>,
    backward: &mut Side<'_>,
    sides: &mut [u64],
    meter: &mut Meter<'_>,
) -> Option<(usize, usize)> {
    let (mut forward_arcs, mut backward_arcs) = (forward.arcs(graph), backward.arcs(graph));
    while forward_arcs > 0 && backward_arcs > 0 {
        if forward_arcs <= backward_arcs {
            if let Some((place, node)) = forward.expand(graph, sides, meter) {
                return Some((place, place_of(backward, node)));
            }
            forward_arcs = forward.arcs(graph);
        } else {
            if let Some((place, node)) = backward.expand(graph, sides, meter) {
                return Some((place_of(forward, node), place));
            }
            backward_arcs = backward.arcs(graph);
        }
    }
    None
}

/// Where a node met is in the other side's queue: always in its newest level, since everything
/// next to older levels is marked by that side already.
fn place_of(side: &Side<'_>, node: u32) -> usize {
    let newest = &side.queue[side.level.clone()];
    let place = newest.iter().position(|&entry| (entry >> 32) as u32 == node);
    side.level.start + place.expect("a met node is in the other side's newest level")
}
