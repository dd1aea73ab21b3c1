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

/// How a search ended, for the check of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both ends are one node.
    Same,
    /// The sides, forward and backward, met: where in their queues, and how many levels each had
    /// gone.
    Met { places: [usize; 2], hops: [usize; 2] },
    /// A side (0: forward) has reached so many nodes and has nothing left.
    Exhausted { side: usize, reached: usize },
}

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
    let Scratch { sides, queue: path, lanes: [one, other, _], ending, .. } = scratch;
    if from == to {
        (path[0], *ending) = (from, Ending::Same);
        return Some(1);
    }
    let mut forward = Side::new(one, from, FORWARD, sides);
    let mut backward = Side::new(other, to, BACKWARD, sides);
    *ending = meet(graph, &mut forward, &mut backward, sides, meter);
    forward.clear_marks(sides);
    backward.clear_marks(sides);
    let Ending::Met { places, .. } = *ending else { return None };
    let length = forward.walk_back(places[0], path);
    path[..length].reverse();
    Some(length + backward.walk_back(places[1], &mut path[length..]))
}

/// Expands the sides in turn until they meet or one has nothing left.
fn meet(
    graph: &Graph,
    forward: &mut Side<'_>,
    backward: &mut Side<'_>,
    sides: &mut [u64],
    meter: &mut Meter<'_>,
) -> Ending {
    let (mut forward_arcs, mut backward_arcs) = (forward.arcs(graph), backward.arcs(graph));
    let mut hops = [0, 0];
    while forward_arcs > 0 && backward_arcs > 0 {
        if forward_arcs <= backward_arcs {
            if let Some((place, node)) = forward.expand(graph, sides, meter) {
                return Ending::Met { places: [place, place_of(backward, node)], hops };
            }
            hops[0] += 1;
            forward_arcs = forward.arcs(graph);
        } else {
            if let Some((place, node)) = backward.expand(graph, sides, meter) {
                return Ending::Met { places: [place_of(forward, node), place], hops };
            }
            hops[1] += 1;
            backward_arcs = backward.arcs(graph);
        }
    }
    let (side, reached) = if forward_arcs == 0 { (0, forward.tail) } else { (1, backward.tail) };
    Ending::Exhausted { side, reached }
}

/// Where a node met is in the other side's queue: always in its newest level, since everything
/// next to older levels is marked by that side already.
fn place_of(side: &Side<'_>, node: u32) -> usize {
    let newest = &side.queue[side.level.clone()];
    let place = newest.iter().position(|&entry| (entry >> 32) as u32 == node);
    side.level.start + place.expect("a met node is in the other side's newest level")
}

/// Whether `scratch.queue[..length]` is the path at whose ends the last search met, by the queues
/// and the levels that it left behind; or, where it found none, whether what one of its sides
/// reached has no way out and does not hold the other end.
pub fn is_as_searched(
    graph: &Graph,
    ends: (u32, u32),
    length: Option<usize>,
    scratch: &mut Scratch,
) -> bool {
    let Scratch { sides, queue: path, lanes: [one, other, _], ending, .. } = scratch;
    let path = &path[..length.unwrap_or(0)];
    let ends_fit = (path.first(), path.last()) == (Some(&ends.0), Some(&ends.1));
    match *ending {
        Ending::Same => ends_fit && path.len() == 1,
        Ending::Met { places, hops } => {
            if !ends_fit || path.len() != hops[0] + hops[1] + 2 {
                return false;
            }
            let (there, back) = path.split_at(hops[0] + 1);
            leads_back(there.iter().rev(), one, places[0])
                && leads_back(back.iter(), other, places[1])
        }
        Ending::Exhausted { side, reached } => {
            let (queue, (own, other)) =
                if side == 0 { (&*one, ends) } else { (&*other, (ends.1, ends.0)) };
            length.is_none()
                && queue[0] >> 32 == u64::from(own)
                && is_closed(graph, &queue[..reached], other, sides)
        }
    }
}

/// Whether these are the nodes on the way from a place of a queue to its first one.
fn leads_back<'a>(nodes: impl Iterator<Item = &'a u32>, queue: &[u64], mut place: usize) -> bool {
    let mut is_over = false;
    for &node in nodes {
        if is_over || (queue[place] >> 32) as u32 != node {
            return false;
        }
        is_over = place == 0;
        place = queue[place] as u32 as usize;
    }
    is_over
}

/// Whether all neighbours of a queue's nodes are in it, and the node `without` is not.
fn is_closed(graph: &Graph, queue: &[u64], without: u32, sides: &mut [u64]) -> bool {
    let node_of = |entry: &u64| (entry >> 32) as u32;
    queue.iter().for_each(|entry| put_mark(sides, node_of(entry), FORWARD));
    let is_inside = |node: u32| mark_of(sides, node) != 0;
    let is_closed = !is_inside(without)
        && queue.iter().all(|entry| graph.row(node_of(entry)).iter().all(|&next| is_inside(next)));
    queue.iter().for_each(|entry| sides[(entry >> 37) as usize] = 0);
    is_closed
}
