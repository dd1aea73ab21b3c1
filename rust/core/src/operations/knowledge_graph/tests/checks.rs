//! Each check passes on what the operations answer and fails on an answer tampered with.

use std::sync::Arc;

use super::super::super::{Build, Fault, NoPause, Operation, Request, Verdict};
use super::super::lookup::MISSING;
use super::super::search::tests::small;
use super::super::worker::{Answer, Worker};
use super::super::{BFS, NODE_LOOKUP, OPS, PATH_BATCH, PATH_FINDING, Parameters, Shape, prepare};

fn worker(graph: Shape) -> Worker {
    let search = small();
    let file = String::new();
    let parameters =
        Parameters { nodes: 4000, edges_per_node: 8, graph, file, lookup_batch: 256, search };
    let build = Build { seed: 5, threads: 2, progress: &|_, _| true };
    Worker::new(Arc::new(prepare(parameters, &build).unwrap()))
}

fn ran(worker: &mut Worker, op: u8, key: u64) {
    let before = worker.run(Request { op, key }, &mut NoPause);
    assert!(before.units > 0);
}

/// Violations that a full check finds after `tamper`; a run without it has none.
fn violations(graph: Shape, op: u8, key: u64, tamper: impl FnOnce(&mut Worker)) -> u32 {
    let mut worker = worker(graph);
    ran(&mut worker, op, key);
    assert_eq!(worker.verify().violations, 0);
    worker.verified = [0; 4];
    ran(&mut worker, op, key);
    tamper(&mut worker);
    worker.verify().violations
}

/// A key whose path has at least three edges.
fn long_path_key(graph: Shape) -> u64 {
    let mut worker = worker(graph);
    (0..100)
        .find(|&key| {
            ran(&mut worker, PATH_FINDING, key);
            matches!(worker.answer, Answer::Path { length: Some(4..), .. })
        })
        .unwrap()
}

#[test]
fn right_answers_pass_on_both_graphs() {
    for graph in [Shape::Rmat, Shape::Grid] {
        let mut worker = worker(graph);
        for op in [NODE_LOOKUP, PATH_FINDING, BFS, PATH_BATCH] {
            for key in 0..20 {
                ran(&mut worker, op, key);
                let is_full = [PATH_FINDING, PATH_BATCH].contains(&op)
                    || [0, 7].contains(&key)
                    || (op == NODE_LOOKUP && key == 15);
                let expected = Verdict { checked: u32::from(is_full), violations: 0 };
                assert_eq!(worker.verify(), expected, "{graph:?} {op} {key}");
            }
        }
    }
}

#[test]
fn every_planted_fault_is_seen_in_every_answer_that_is_checked() {
    for graph in [Shape::Rmat, Shape::Grid] {
        let mut worker = worker(graph);
        for (op, name) in (0..).zip(OPS) {
            for (known, fault) in Fault::ALL {
                let (mut planted, mut seen) = (0, 0);
                for key in 0..40 {
                    worker.verified = [0; 4];
                    ran(&mut worker, op, key);
                    let damaged = worker.plant(fault);
                    let found = worker.verify();
                    assert!(found.checked >= 1 && (damaged || found.violations == 0));
                    planted += u32::from(damaged);
                    seen += found.violations;
                }
                assert!(planted > 30, "{name} {known}");
                // A flipped bit may name another parent that is right as well.
                let spared = if op == BFS && fault == Fault::FlippedBit { planted / 4 } else { 0 };
                assert!(seen + spared >= planted, "{graph:?} {name} {known}: {seen} of {planted}");
            }
        }
    }
}

#[test]
fn a_miss_reported_as_a_hit_is_seen() {
    let found = violations(Shape::Rmat, NODE_LOOKUP, 1, |worker| {
        let place = worker.nodes.iter().position(|&node| node == MISSING).unwrap();
        worker.nodes[place] = 17;
    });
    assert_eq!(found, 1);
}

#[test]
fn a_lost_hit_is_seen() {
    let found = violations(Shape::Rmat, NODE_LOOKUP, 1, |worker| {
        let place = worker.nodes.iter().position(|&node| node != MISSING).unwrap();
        worker.nodes[place] = MISSING;
    });
    assert_eq!(found, 1);
}

#[test]
fn a_bit_flipped_in_a_record_is_seen() {
    let mut worker = worker(Shape::Rmat);
    ran(&mut worker, NODE_LOOKUP, 1);
    let node = *worker.nodes.iter().find(|&&node| node != MISSING).unwrap();
    let shared = Arc::get_mut(&mut worker.shared).unwrap();
    shared.table.record_mut(node).words[6] ^= 1 << 40;
    ran(&mut worker, NODE_LOOKUP, 1);
    assert_eq!(worker.verify().violations, 1);
}

#[test]
fn a_path_over_an_edge_that_does_not_exist_is_seen() {
    let key = long_path_key(Shape::Rmat);
    let found = violations(Shape::Rmat, PATH_FINDING, key, |worker| {
        let path = &mut worker.scratch.queue;
        path[1] = path[0];
    });
    assert_eq!(found, 1);
}

#[test]
fn a_detour_is_seen() {
    let key = long_path_key(Shape::Grid);
    let found = violations(Shape::Grid, PATH_FINDING, key, |worker| {
        let Answer::Path { from, to, length: Some(length) } = worker.answer else {
            panic!("there is a path");
        };
        let path = &mut worker.scratch.queue;
        path.copy_within(0..length, 2);
        (path[0], path[1]) = (path[2], path[3]);
        worker.answer = Answer::Path { from, to, length: Some(length + 2) };
    });
    assert_eq!(found, 1);
}

#[test]
fn a_path_said_not_to_exist_is_seen() {
    let key = long_path_key(Shape::Rmat);
    let found = violations(Shape::Rmat, PATH_FINDING, key, |worker| {
        if let Answer::Path { length, .. } = &mut worker.answer {
            *length = None;
        }
    });
    assert_eq!(found, 1);
}

#[test]
fn a_parent_that_is_no_neighbour_is_seen() {
    let found = violations(Shape::Rmat, BFS, 3, |worker| {
        let last = worker.shared.graph.connected() - 1;
        worker.scratch.parents[last] = last as u32;
    });
    assert_eq!(found, 1);
}

#[test]
fn a_parent_one_level_too_deep_is_seen() {
    let found = violations(Shape::Grid, BFS, 3, |worker| {
        let Answer::Tree { root, .. } = worker.answer else { panic!("there is a tree") };
        let child = worker.shared.graph.row(root)[0];
        let graph = &worker.shared.graph;
        let below = |&&node: &&u32| worker.scratch.parents[node as usize] == child;
        let grandchild = *graph.row(child).iter().find(below).unwrap();
        worker.scratch.parents[child as usize] = grandchild;
    });
    assert_eq!(found, 1);
}

#[test]
fn a_node_lost_or_counted_twice_is_seen() {
    for change in [1_u64.wrapping_neg(), 1] {
        let found = violations(Shape::Rmat, BFS, 3, |worker| {
            if let Answer::Tree { reached, .. } = &mut worker.answer {
                reached.nodes = reached.nodes.wrapping_add(change);
            }
        });
        assert_eq!(found, 1);
    }
}

#[test]
fn a_component_not_spanned_is_seen() {
    let found = violations(Shape::Grid, BFS, 3, |worker| {
        let lost = worker.shared.graph.connected() - 1;
        worker.scratch.visited[lost / 64] &= !(1 << (lost % 64));
        if let Answer::Tree { reached, .. } = &mut worker.answer {
            reached.nodes -= 1;
        }
    });
    assert_eq!(found, 1);
}

#[test]
fn a_distance_off_by_one_is_seen() {
    let found = violations(Shape::Rmat, PATH_BATCH, 2, |worker| worker.distances[63] += 1);
    assert_eq!(found, 1);
}
