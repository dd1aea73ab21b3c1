//! Distances of 64 pairs of nodes at once: 64 breadth-first searches in the bits of one word.
//!
//! Then et al., "The More the Merrier: Efficient Multi-Source Graph Traversal", VLDB 2014, with
//! levels from above while few nodes are in any frontier and from below after that.

use super::bfs::PIECE_ARCS;
use super::graph::Graph;
use super::scratch::{BLOCK_NODES, Meter, Scratch};

/// Searches in one batch, one bit each.
pub const LANES: usize = 64;

/// The distance written where there is no path.
pub const NO_PATH: u32 = u32::MAX;

/// A level is scanned from below once its frontier's arcs exceed 1 / this of all.
const ARCS_FACTOR: u64 = 12;

/// What an arc counts here: it reads or writes a word of its own, where a search of one root reads
/// a bit, and far more of those are in a cache.
const ARC_COST: usize = 4;

/// Writes the distance of each pair of inner nodes (at most 64 of them).
pub fn distances(
    graph: &Graph,
    pairs: &[(u32, u32)],
    found: &mut [u32],
    scratch: &mut Scratch,
    meter: &mut Meter<'_>,
) {
    let [seen, frontier, next] = &mut scratch.lanes;
    let connected = graph.connected();
    for words in [&mut *seen, &mut *frontier, &mut *next] {
        meter.fill(&mut words[..connected], 0);
    }
    found.fill(NO_PATH);
    let mut open = 0;
    for (lane, &(from, to)) in pairs.iter().enumerate() {
        if from == to {
            found[lane] = 0;
        } else if graph.degree(from) > 0 && graph.degree(to) > 0 {
            open |= 1 << lane;
            seen[from as usize] |= 1 << lane;
            frontier[from as usize] |= 1 << lane;
        }
    }
    let mut distance = 0;
    let mut arcs: u64 = pairs.iter().map(|&(from, _)| u64::from(graph.degree(from))).sum();
    while open != 0 && arcs > 0 {
        distance += 1;
        arcs = if arcs > graph.neighbours.len() as u64 / ARCS_FACTOR {
            level_from_below(graph, open, seen, frontier, next, meter)
        } else {
            level_from_above(graph, open, seen, frontier, next, meter)
        };
        std::mem::swap(frontier, next);
        for (lane, &(_, to)) in pairs.iter().enumerate() {
            if open >> lane & 1 == 1 && seen[to as usize] >> lane & 1 == 1 {
                found[lane] = distance;
                open &= !(1 << lane);
            }
        }
    }
}

/// Pushes each frontier word to the neighbours; returns the arcs of the new frontier.
fn level_from_above(
    graph: &Graph,
    open: u64,
    seen: &mut [u64],
    frontier: &[u64],
    next: &mut [u64],
    meter: &mut Meter<'_>,
) -> u64 {
    let connected = graph.connected();
    meter.fill(&mut next[..connected], 0);
    for first in (0..connected).step_by(BLOCK_NODES) {
        let block = first..connected.min(first + BLOCK_NODES);
        for (node, word) in (first as u32..).zip(&frontier[block.clone()]) {
            let lanes = word & open;
            if lanes == 0 {
                continue;
            }
            for piece in graph.row(node).chunks(PIECE_ARCS) {
                piece.iter().for_each(|&neighbour| next[neighbour as usize] |= lanes);
                meter.add(ARC_COST * piece.len());
            }
        }
        meter.pass(block.len());
    }
    let mut arcs = 0;
    for first in (0..connected).step_by(BLOCK_NODES) {
        let block = first..connected.min(first + BLOCK_NODES);
        let words = next[block.clone()].iter_mut().zip(&mut seen[block.clone()]);
        for (node, (new, seen)) in (first as u32..).zip(words) {
            *new &= !*seen;
            *seen |= *new;
            arcs += if *new == 0 { 0 } else { u64::from(graph.degree(node)) };
        }
        meter.pass(block.len());
    }
    arcs
}

/// Gathers, for each node, the lanes it lacks from its neighbours; returns the arcs of the new
/// frontier.
fn level_from_below(
    graph: &Graph,
    open: u64,
    seen: &mut [u64],
    frontier: &[u64],
    next: &mut [u64],
    meter: &mut Meter<'_>,
) -> u64 {
    let mut arcs = 0;
    let connected = graph.connected();
    for node in 0..connected {
        if node % BLOCK_NODES == BLOCK_NODES - 1 {
            meter.pass(BLOCK_NODES);
        }
        let lacking = open & !seen[node];
        let mut lanes = 0;
        if lacking != 0 {
            let row = graph.row(node as u32);
            for piece in row.chunks(PIECE_ARCS) {
                let mut looked_at = 0;
                for &neighbour in piece {
                    lanes |= frontier[neighbour as usize];
                    looked_at += 1;
                    if lanes & lacking == lacking {
                        break;
                    }
                }
                meter.add(ARC_COST * looked_at);
                if lanes & lacking == lacking {
                    break;
                }
            }
            lanes &= lacking;
            seen[node] |= lanes;
            arcs += if lanes == 0 { 0 } else { row.len() as u64 };
        }
        next[node] = lanes;
    }
    arcs
}
