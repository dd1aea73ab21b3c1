//! Against plain searches on small random graphs, and every check seen failing.

use std::collections::VecDeque;

use super::super::{Build, NoPause, Pause};
use super::assemble::assemble;
use super::generate::Listed;
use super::graph::Graph;
use super::scratch::{Meter, Scratch};

mod answers;
mod checks;

/// Counts its points.
pub struct Counted(pub usize);

impl Pause for Counted {
    fn point(&mut self) {
        self.0 += 1;
    }
}

/// Nodes and edges of a small graph.
pub type Sketch = (u32, Vec<(u32, u32)>);

pub fn graph_of((nodes, edges): &Sketch, threads: usize) -> Graph {
    let (sources, targets): (Vec<u32>, Vec<u32>) = edges.iter().copied().unzip();
    let listed = Listed { nodes: *nodes, sources: &sources, targets: &targets };
    assemble(&listed, &Build { seed: 1, threads, progress: &|_, _| true }).unwrap()
}

/// Neighbours of every node, sorted, self-loops dropped.
pub fn plain_rows((nodes, edges): &Sketch) -> Vec<Vec<u32>> {
    let mut rows = vec![Vec::new(); *nodes as usize];
    for &(one, other) in edges.iter().filter(|(one, other)| one != other) {
        rows[one as usize].push(other);
        rows[other as usize].push(one);
    }
    rows.iter_mut().for_each(|row| row.sort_unstable());
    rows
}

/// Steps from `root` by a queue.
pub fn plain_levels(rows: &[Vec<u32>], root: u32) -> Vec<Option<u32>> {
    let mut levels = vec![None; rows.len()];
    levels[root as usize] = Some(0);
    let mut queue = VecDeque::from([(root, 0)]);
    while let Some((node, level)) = queue.pop_front() {
        for &neighbour in &rows[node as usize] {
            if levels[neighbour as usize].is_none() {
                levels[neighbour as usize] = Some(level + 1);
                queue.push_back((neighbour, level + 1));
            }
        }
    }
    levels
}

/// Runs `work` with scratch memory for the graph and no pauses.
pub fn with_scratch<Out>(
    graph: &Graph,
    work: impl FnOnce(&mut Scratch, &mut Meter<'_>) -> Out,
) -> Out {
    let mut pause = NoPause;
    work(&mut Scratch::new(graph.nodes()), &mut Meter::new(&mut pause))
}
