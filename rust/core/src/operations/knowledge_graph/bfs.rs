//! Breadth-first search of the whole component of a root, from above and from below.
//!
//! Direction-optimising: Beamer et al., "Direction-Optimizing Breadth-First Search", SC 2012. While
//! the frontier is small its rows are scanned (top-down); when it holds most arcs, every unvisited
//! node looks for one parent in it instead (bottom-up) and stops at the first. Rows begin with the
//! node's biggest neighbour, which is kept in an array of its own, so most nodes find their parent
//! by one sequential read and one bit.

use std::ops::Range;

use super::graph::Graph;
use super::pages::prefetch;
use super::scratch::{Meter, Scratch};

/// Go bottom-up once the frontier's arcs exceed 1 / this of the unvisited nodes' (Beamer's alpha).
const ARCS_FACTOR: u64 = 15;

/// Come back once the frontier holds fewer than 1 / this of the nodes (Beamer's beta).
const NODES_FACTOR: usize = 18;

/// How far ahead the rows of the queue are asked for, in nodes.
const AHEAD_NODES: usize = 8;

/// Arcs of one row scanned between two looks at the meter.
pub const PIECE_ARCS: usize = 4096;

/// What one search reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    pub nodes: u64,
    /// Arcs of all nodes reached: twice the edges of the component.
    pub arcs: u64,
}

/// Nodes and arcs found in one level.
#[derive(Clone, Copy, Default)]
struct Level {
    nodes: usize,
    arcs: u64,
}

/// Searches from inner node `root`; `scratch.visited` and `scratch.parents` hold the tree.
///
/// A parent is valid where the node's bit in `visited` is set; the root is its own.
pub fn search(graph: &Graph, root: u32, scratch: &mut Scratch, meter: &mut Meter<'_>) -> Reached {
    scratch.visited.fill(0);
    scratch.parents[root as usize] = root;
    set(&mut scratch.visited, root);
    scratch.queue[0] = root;
    let mut level = Level { nodes: 1, arcs: u64::from(graph.degree(root)) };
    let mut reached = Reached { nodes: 1, arcs: level.arcs };
    let mut begin = 0;
    while level.nodes > 0 {
        let unvisited_arcs = graph.neighbours.len() as u64 - reached.arcs;
        if level.arcs > unvisited_arcs / ARCS_FACTOR {
            let tail = begin + level.nodes;
            level = from_below(graph, begin..tail, scratch, meter, &mut reached);
            begin = 0;
        } else {
            let end = begin + level.nodes;
            level = from_above(graph, begin..end, scratch, meter);
            reached.nodes += level.nodes as u64;
            reached.arcs += level.arcs;
            begin = end;
        }
    }
    reached
}

#[inline]
fn set(bits: &mut [u64], node: u32) {
    bits[node as usize / 64] |= 1 << (node % 64);
}

#[inline]
pub fn is_set(bits: &[u64], node: u32) -> bool {
    bits[node as usize / 64] >> (node % 64) & 1 == 1
}

/// One level: scans the rows of the frontier `queue[level]`, appends what is new to the queue.
fn from_above(
    graph: &Graph,
    level: Range<usize>,
    scratch: &mut Scratch,
    meter: &mut Meter<'_>,
) -> Level {
    let (mut tail, mut arcs) = (level.end, 0);
    for position in level.clone() {
        ask_for_rows(graph, &scratch.queue[..level.end], position);
        let node = scratch.queue[position];
        for piece in graph.row(node).chunks(PIECE_ARCS) {
            for &neighbour in piece {
                if !is_set(&scratch.visited, neighbour) {
                    set(&mut scratch.visited, neighbour);
                    scratch.parents[neighbour as usize] = node;
                    scratch.queue[tail] = neighbour;
                    tail += 1;
                    arcs += u64::from(graph.degree(neighbour));
                }
            }
            meter.add(piece.len());
        }
    }
    Level { nodes: tail - level.end, arcs }
}

/// Levels from below until the frontier is small again; it is then at the start of the queue.
fn from_below(
    graph: &Graph,
    level: Range<usize>,
    scratch: &mut Scratch,
    meter: &mut Meter<'_>,
    reached: &mut Reached,
) -> Level {
    scratch.frontier.fill(0);
    for position in level {
        let node = scratch.queue[position];
        set(&mut scratch.frontier, node);
    }
    loop {
        let found = one_level_from_below(graph, scratch, meter);
        reached.nodes += found.nodes as u64;
        reached.arcs += found.arcs;
        std::mem::swap(&mut scratch.frontier, &mut scratch.next);
        if found.nodes <= graph.connected() / NODES_FACTOR {
            list(&scratch.frontier, &mut scratch.queue);
            return found;
        }
    }
}

/// Gives every unvisited node a parent in `frontier` if it has one; the new ones are in `next`.
fn one_level_from_below(graph: &Graph, scratch: &mut Scratch, meter: &mut Meter<'_>) -> Level {
    let mut found = Level::default();
    let connected = graph.connected();
    for word in 0..connected.div_ceil(64) {
        let nodes_left = connected - word * 64;
        let existing = if nodes_left >= 64 { u64::MAX } else { (1 << nodes_left) - 1 };
        let mut unvisited = !scratch.visited[word] & existing;
        let mut new = 0_u64;
        let mut looked_at = unvisited.count_ones() as usize;
        while unvisited != 0 {
            let bit = unvisited.trailing_zeros();
            unvisited &= unvisited - 1;
            let node = word as u32 * 64 + bit;
            let Some(parent) = parent_in(graph, node, &scratch.frontier, &mut looked_at) else {
                continue;
            };
            new |= 1 << bit;
            scratch.parents[node as usize] = parent;
            found.arcs += u64::from(graph.degree(node));
        }
        found.nodes += new.count_ones() as usize;
        scratch.next[word] = new;
        meter.add(looked_at);
    }
    for (visited, new) in scratch.visited.iter_mut().zip(&scratch.next) {
        *visited |= new;
    }
    found
}

/// The first neighbour of `node` in the frontier.
#[inline]
fn parent_in(graph: &Graph, node: u32, frontier: &[u64], looked_at: &mut usize) -> Option<u32> {
    let biggest = graph.biggest[node as usize];
    if is_set(frontier, biggest) {
        return Some(biggest);
    }
    let row = graph.row(node);
    let found = row[1..].iter().position(|&neighbour| is_set(frontier, neighbour));
    *looked_at += found.unwrap_or(row.len() - 1);
    found.map(|place| row[place + 1])
}

/// Lists the set bits.
fn list(bits: &[u64], nodes: &mut [u32]) {
    let mut length = 0;
    for (word, &bits) in (0..).zip(bits) {
        let mut left = bits;
        while left != 0 {
            nodes[length] = word * 64 + left.trailing_zeros();
            length += 1;
            left &= left - 1;
        }
    }
}

/// Prefetches what the nodes a few places further in the queue will need.
#[inline]
fn ask_for_rows(graph: &Graph, queue: &[u32], position: usize) {
    if let Some(&node) = queue.get(position + 2 * AHEAD_NODES) {
        prefetch(&graph.offsets, node as usize);
    }
    if let Some(&node) = queue.get(position + AHEAD_NODES) {
        prefetch(&graph.neighbours, graph.offsets[node as usize] as usize);
    }
}
