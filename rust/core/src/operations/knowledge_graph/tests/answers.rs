//! Answers on random graphs equal those of plain searches.

use proptest::prelude::*;

use super::super::super::{Build, BuildError};
use super::super::batch::{self, NO_PATH};
use super::super::bfs::{self, is_set};
use super::super::bucket::{bucket_count, bucket_nodes, bucket_of};
use super::super::generate::{EdgeSource, Rmat};
use super::super::scratch::{Meter, Scratch};
use super::super::{assemble::assemble, paths};
use super::{Counted, Sketch, graph_of, plain_levels, plain_rows, with_scratch};

/// Graphs from nearly empty to dense, of several components.
fn sketches() -> impl Strategy<Value = Sketch> {
    (64_u32..700, 0_usize..2500).prop_flat_map(|(nodes, edges)| {
        let ends = (0..nodes, 0..nodes);
        (Just(nodes), prop::collection::vec(ends, edges))
    })
}

proptest! {
    #[test]
    fn rows_are_those_of_the_edge_list(sketch in sketches()) {
        let (offsets, neighbours) = graph_of(&sketch, 2).outer_rows();
        let rows: Vec<&[u32]> = offsets
            .windows(2)
            .map(|ends| &neighbours[ends[0] as usize..ends[1] as usize])
            .collect();
        prop_assert_eq!(rows, plain_rows(&sketch));
    }

    #[test]
    fn nodes_are_numbered_by_falling_degree(sketch in sketches()) {
        let graph = graph_of(&sketch, 1);
        let degrees: Vec<u32> = (0..graph.nodes() as u32).map(|node| graph.degree(node)).collect();
        prop_assert!(degrees.is_sorted_by(|one, next| one >= next));
        prop_assert_eq!(degrees.iter().filter(|degree| **degree > 0).count(), graph.connected());
    }

    #[test]
    fn paths_are_as_long_as_plain_distances(sketch in sketches(), from in 0_u32..64) {
        let graph = graph_of(&sketch, 1);
        let levels = plain_levels(&plain_rows(&sketch), from);
        let start = graph.inner[from as usize];
        with_scratch(&graph, |scratch, meter| {
            for (to, level) in (0..).zip(&levels) {
                let goal = graph.inner[to];
                let length = paths::shortest_path(&graph, start, goal, scratch, meter);
                prop_assert_eq!(length.map(|length| length as u32 - 1), *level);
                let path = &scratch.queue[..length.unwrap_or(0)];
                prop_assert!(path.windows(2).all(|step| graph.has_edge(step[0], step[1])));
                prop_assert!(scratch.sides.iter().all(|&marks| marks == 0));
            }
            Ok(())
        })?;
    }

    #[test]
    fn searches_reach_what_plain_ones_reach(sketch in sketches(), root in 0_u32..64) {
        let graph = graph_of(&sketch, 1);
        let levels = plain_levels(&plain_rows(&sketch), root);
        let start = graph.inner[root as usize];
        with_scratch(&graph, |scratch, meter| {
            let reached = bfs::search(&graph, start, scratch, meter);
            prop_assert_eq!(reached.nodes as usize, levels.iter().flatten().count());
            for (node, level) in levels.iter().enumerate() {
                let inner = graph.inner[node];
                prop_assert_eq!(is_set(&scratch.visited, inner), level.is_some());
                if let Some(level) = *level {
                    let parent = scratch.parents[inner as usize];
                    let above = levels[graph.outer[parent as usize] as usize];
                    prop_assert_eq!(above, Some(level.saturating_sub(1)));
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn distances_in_lanes_are_plain_distances(
        sketch in sketches(),
        pairs in prop::collection::vec((0_u32..64, 0_u32..64), 64),
    ) {
        let graph = graph_of(&sketch, 1);
        let rows = plain_rows(&sketch);
        let inner = |node: u32| graph.inner[node as usize];
        let asked: Vec<_> = pairs.iter().map(|&(from, to)| (inner(from), inner(to))).collect();
        let mut found = [0; 64];
        with_scratch(&graph, |scratch, meter| {
            batch::distances(&graph, &asked, &mut found, scratch, meter);
        });
        for (&(from, to), distance) in pairs.iter().zip(found) {
            let level = plain_levels(&rows, from)[to as usize];
            prop_assert_eq!(distance, level.unwrap_or(NO_PATH));
        }
    }
}

#[test]
fn a_batch_of_paths_pauses_while_it_passes_nodes_without_arcs() {
    let build = Build { seed: 3, threads: 2, progress: &|_, _| true };
    let graph = assemble(&Rmat::new(1 << 19, 4, 3), &build).unwrap();
    let (last, mut found) = (graph.connected() as u32 - 1, [0; 2]);
    let passed = |times: usize| times * graph.connected() / 8 / 16_384;
    let mut scratch = Scratch::new(graph.nodes());
    for (to, times) in [(last, 3), (graph.row(last)[0], 6)] {
        let mut pauses = Counted(0);
        let pairs = [(last, to), (last, last)];
        let meter = &mut Meter::new(&mut pauses);
        batch::distances(&graph, &pairs, &mut found, &mut scratch, meter);
        assert_eq!(found, [u32::from(to != last), 0]);
        assert!(passed(times) > 0 && pauses.0 >= passed(times) - 1, "{}", pauses.0);
    }
}

#[test]
fn every_node_is_in_the_bucket_that_lists_it() {
    for nodes in [1, 255, 256, 257, 512, 100_000, 1 << 20] {
        let mut next = 0;
        for bucket in 0..bucket_count(nodes) {
            let held = bucket_nodes(bucket, nodes);
            assert_eq!(held.start, next);
            assert!(held.clone().all(|node| bucket_of(node as u32) == bucket));
            next = held.end;
        }
        assert_eq!(next, nodes);
    }
}

#[test]
fn the_build_does_not_depend_on_the_number_of_threads() {
    let source = Rmat::new(50_000, 8, 3);
    let built = |threads| {
        let build = Build { seed: 3, threads, progress: &|_, _| true };
        assemble(&source, &build).unwrap()
    };
    let (one, five) = (built(1), built(5));
    assert_eq!(one.offsets, five.offsets);
    assert!(one.neighbours == five.neighbours && one.inner == five.inner);
    let mut edges = vec![[0; 2]; source.count() as usize];
    source.read(0, &mut edges);
    let proper = edges.iter().filter(|[one, other]| one != other).count();
    assert_eq!(one.edges(), proper as u64);
}

#[test]
fn a_build_ends_when_it_is_cancelled() {
    let source = Rmat::new(50_000, 8, 3);
    for stage in ["generating edges", "dealing edges", "sorting rows"] {
        let progress = move |at: &str, _| at != stage;
        let build = Build { seed: 3, threads: 2, progress: &progress };
        assert!(matches!(assemble(&source, &build), Err(BuildError::Cancelled)), "{stage}");
    }
}
