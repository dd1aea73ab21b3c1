//! Each check passes on what the operations answer and fails on an answer tampered with.

use std::sync::Arc;

use super::super::super::{Build, Fault, NoPause, Operation, Request, Verdict};
use super::super::lookup::MISSING;
use super::super::paths::{Ending, is_as_searched, shortest_path};
use super::super::search::tests::small;
use super::super::worker::{Answer, Worker};
use super::super::{BFS, NODE_LOOKUP, OPS, PATH_BATCH, PATH_FINDING, Parameters, Shape, prepare};
use super::{graph_of, with_scratch};

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
    assert_eq!(worker.verify(&mut NoPause).violations, 0);
    worker.verified = [0; 4];
    ran(&mut worker, op, key);
    tamper(&mut worker);
    worker.verify(&mut NoPause).violations
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
                let is_full = [PATH_FINDING, PATH_BATCH].contains(&op) || key == 0;
                let expected = Verdict { checked: u32::from(is_full), violations: 0 };
                assert_eq!(worker.verify(&mut NoPause), expected, "{graph:?} {op} {key}");
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
                    let found = worker.verify(&mut NoPause);
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
    assert_eq!(worker.verify(&mut NoPause).violations, 1);
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
fn damage_to_a_path_is_seen_where_neither_its_edges_nor_its_length_are_looked_up() {
    for graph in [Shape::Rmat, Shape::Grid] {
        let mut worker = worker(graph);
        for (known, fault) in Fault::ALL {
            for key in 0..40 {
                worker.verified = [0, 1, 0, 0];
                ran(&mut worker, PATH_FINDING, key);
                let damaged = u32::from(worker.plant(fault));
                let expected = Verdict { checked: 1, violations: damaged };
                assert_eq!(worker.verify(&mut NoPause), expected, "{graph:?} {known} {key}");
            }
        }
    }
}

/// Violations of a path whose second node is another one, in the search's own records as well.
fn violations_of_a_misled_search(replaced: impl Fn(&Worker, u32) -> u32) -> u32 {
    let key = long_path_key(Shape::Grid);
    violations(Shape::Grid, PATH_FINDING, key, |worker| {
        let Ending::Met { places: [mut place, _], hops } = worker.scratch.ending else {
            panic!("the sides met");
        };
        assert!(hops[0] > 0, "the second node was reached from the first");
        let [forward, ..] = &worker.scratch.lanes;
        while forward[place] as u32 != 0 {
            place = forward[place] as u32 as usize;
        }
        let node = replaced(worker, worker.scratch.queue[1]);
        let entry = &mut worker.scratch.lanes[0][place];
        *entry = u64::from(node) << 32 | u64::from(*entry as u32);
        worker.scratch.queue[1] = node;
    })
}

#[test]
fn a_search_that_went_over_no_edge_is_seen_where_edges_are_looked_up() {
    assert_eq!(violations_of_a_misled_search(|_, node| node), 0);
    let far = |worker: &Worker, node: u32| {
        let graph = &worker.shared.graph;
        let from = worker.scratch.queue[0];
        (0..4000).find(|&other| other != node && !graph.has_edge(from, other)).unwrap()
    };
    assert_eq!(violations_of_a_misled_search(far), 1);
}

#[test]
fn ends_without_a_way_between_them_are_proved_and_not_believed() {
    // Two rings, one of four nodes and one of three.
    let edges = vec![(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 4)];
    let graph = graph_of(&(7, edges), 1);
    with_scratch(&graph, |scratch, meter| {
        let (here, there) = (graph.inner[0], graph.inner[4]);
        assert_eq!(shortest_path(&graph, here, there, scratch, meter), None);
        let ends = (here, there);
        assert!(is_as_searched(&graph, ends, None, scratch));
        assert!(!is_as_searched(&graph, ends, Some(2), scratch), "a path out of nothing");
        let Ending::Exhausted { side, reached } = scratch.ending else { panic!("it has no way") };
        let end = if side == 0 { here } else { there };
        assert!(!is_as_searched(&graph, (end, end), None, scratch), "the end is among the reached");
        scratch.ending = Ending::Exhausted { side, reached: reached - 1 };
        assert!(!is_as_searched(&graph, ends, None, scratch), "a node was left out");
        scratch.ending = Ending::Exhausted { side: 1 - side, reached };
        assert!(!is_as_searched(&graph, ends, None, scratch), "the other side was not exhausted");
        assert!(scratch.sides.iter().all(|&marks| marks == 0), "no mark is left");
    });
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
