//! Tests of the search: kernels, bounds, exactness, determinism and checks that can fail.

use std::sync::Arc;

use proptest::prelude::*;

use super::codes::{Coded, EMPTY, HIGH_OFFSET, LINE_DIMS, OFFSET, TILE, code, put, residuals};
use super::embeddings::{Source, cosine, dot, norm};
use super::index::Index;
use super::kernels::{Asked, Kernels};
use super::scan::{Scan, Scratch, Slot};
use super::top::{Found, Top};
use super::{Parameters, Search, SearchKind, SearchOperation, Storage};
use crate::operations::{Array, Arrays, Build, BuildError, NoPause, Pause};
use crate::random::{Stream, stream_key};

/// Sizes that build in milliseconds.
pub fn small() -> Parameters {
    Parameters {
        vectors: 3000,
        dims: 32,
        clusters: 20,
        storage: Storage::Fp32,
        lists: 24,
        probes: 4,
        batch: 18,
        top: 10,
        full_check_one_in: 1,
    }
}

fn context(threads: usize) -> Build<'static> {
    Build { seed: 11, threads, progress: &|_, _| true }
}

fn over(rows: Vec<f32>, parameters: Parameters, kernels: Kernels) -> Search {
    Search::over(Source::Given(rows), parameters, kernels, &context(2)).unwrap()
}

/// The answer by the plainest scan there is.
fn plain(rows: &[f32], query: &[f32], limit: usize) -> Vec<Found> {
    let length = norm(query);
    let mut all: Vec<Found> = rows
        .chunks_exact(query.len())
        .enumerate()
        .map(|(id, row)| {
            let score = cosine(dot(row, query), norm(row), length);
            Found { id: id as u32, score }
        })
        .collect();
    all.sort_by(|left, right| right.score.total_cmp(&left.score).then(left.id.cmp(&right.id)));
    all.truncate(limit);
    all
}

fn found(search: &Search, query: &[f32]) -> Vec<Found> {
    let inputs = Arrays::from([("queries".to_owned(), Array::F32(query.to_vec()))]);
    let answers = search.evaluate("semantic_search", &inputs).unwrap();
    let (Array::U32(ids), Array::F64(scores)) = (&answers["ids"], &answers["scores"]) else {
        panic!("ids and scores")
    };
    ids.iter().zip(scores).map(|(id, score)| Found { id: *id, score: *score }).collect()
}

/// Rows that are awkward on purpose: few distinct values (ties), copies, zeros, one-hot outliers.
fn awkward(count: usize, dims: usize, draw: u64) -> Vec<f32> {
    let mut stream = Stream::new(stream_key(draw, 99), 0);
    let mut rows = vec![0.0; count * dims];
    for number in 0..count {
        let kind = stream.next_below(8);
        let copied = stream.next_below(number as u64 + 1) as usize;
        for dim in 0..dims {
            rows[number * dims + dim] = match kind {
                0 => 0.0,
                1 => rows[copied * dims + dim],
                2 => f32::from(u8::from(dim == copied % dims)) * 1000.0,
                3 => stream.next_below(3) as f32 - 1.0,
                4 => 1e-6 * (stream.next_unit() as f32 - 0.5),
                _ => stream.next_unit() as f32 - 0.5,
            };
        }
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn all_kernels_give_the_same_integers(lines in 1usize..12, tiles in 1usize..7, draw: u64) {
        let mut stream = Stream::new(stream_key(draw, 1), 0);
        let mut plane = vec![EMPTY; lines * tiles];
        plane.iter_mut().for_each(|line| line.0.fill_with(|| stream.next_u64() as u8));
        let queries: Vec<i32> = (0..5 * 2 * lines)
            .map(|_| {
                let bytes = [0; 4].map(|_: u8| (stream.next_below(255) as i32 - 127) as i8 as u8);
                i32::from_le_bytes(bytes)
            })
            .collect();
        let query = |index: usize| &queries[2 * lines * index..2 * lines * (index + 1)];
        let asked = Asked {
            queries: [query(0), query(1), query(2), query(3)],
            thresholds: [0, 500, -500, i32::MAX],
            count: 1 + (draw % 4) as usize,
        };
        let biases = [3, -70, 70, 0, 1];
        let mut other = plane.clone();
        other.reverse();
        for kernels in Kernels::available() {
            let mut sums = vec![0; tiles * TILE];
            kernels.whole_dots([&plane, &other], query(0), &mut sums);
            let pairs = plane.chunks(lines).zip(other.chunks(lines)).zip(sums.chunks(TILE));
            for ((high, low), sums) in pairs {
                let halves = [high, low].map(|tile| Kernels::Portable.dots(tile, query(0)));
                let whole: Vec<i32> =
                    (0..TILE).map(|lane| 16 * halves[0][lane] + halves[1][lane]).collect();
                prop_assert_eq!(sums, whole);
                let reached = (0..TILE).filter(|&lane| sums[lane] >= sums[3]);
                let lanes = reached.fold(0, |lanes, lane| lanes | 1 << lane);
                prop_assert_eq!(kernels.at_least(sums, sums[3]), lanes);
            }
            let (mut hits, mut wanted) = (Vec::new(), Vec::new());
            kernels.filter(&plane, &asked, &mut hits);
            Kernels::Portable.filter(&plane, &asked, &mut wanted);
            hits.sort_by_key(|hit| (hit.tile, hit.query));
            prop_assert_eq!(&hits, &wanted);
            for tile in plane.chunks_exact(lines) {
                prop_assert_eq!(
                    kernels.dots(tile, query(1)), Kernels::Portable.dots(tile, query(1)));
                prop_assert_eq!(
                    kernels.nearest(tile, &queries, &biases),
                    Kernels::Portable.nearest(tile, &queries, &biases));
            }
        }
    }

    #[test]
    fn no_score_is_farther_from_its_codes_than_the_bound(draw: u64, spread in 1.0f64..40.0) {
        const DIMS: usize = 48;
        let rows = awkward(TILE + 1, DIMS, draw);
        let (query, rows) = rows.split_at(DIMS);
        let length = norm(query);
        let mut coded = Coded::new(DIMS);
        coded.set(query, length);
        let scale = spread / 127.0 / (DIMS as f64).sqrt();
        for (lane, row) in rows.chunks_exact(DIMS).enumerate() {
            let own = norm(row);
            let inverse = if own > 0.0 { 1.0 / own } else { 0.0 };
            let codes: Vec<u8> =
                row.iter().map(|value| code(f64::from(*value), inverse / scale)).collect();
            let (high_residual, full_residual) = residuals(row, inverse, &codes, scale);
            let mut planes = [vec![EMPTY; DIMS / LINE_DIMS], vec![EMPTY; DIMS / LINE_DIMS]];
            put(&mut planes[0], lane, codes.iter().map(|code| code >> 4));
            put(&mut planes[1], lane, codes.iter().map(|code| code & 15));
            let [high, low] =
                [0, 1].map(|half| Kernels::best().dots(&planes[half], &coded.words)[lane]);
            let exact = cosine(dot(row, query), own, length);
            let step = scale * coded.scale;
            let coarse = step * (16.0 * f64::from(high) - HIGH_OFFSET * f64::from(coded.sum));
            let fine = step * f64::from(16 * high + low - OFFSET * coded.sum);
            let bound = |residual: f64| residual + coded.residual * (1.0 + residual);
            prop_assert!((exact - coarse).abs() <= bound(high_residual));
            prop_assert!((exact - fine).abs() <= bound(full_residual));
        }
    }

    #[test]
    fn exact_search_equals_a_plain_scan_with_ties_copies_zeros_and_outliers(
        draw: u64, count in 1usize..400, lists in 1u32..12, dims in 1usize..5, top in 1u32..20,
    ) {
        let dims = 8 * dims;
        let rows = awkward(count + 3, dims, draw);
        let (queries, rows) = rows.split_at(3 * dims);
        let parameters = Parameters {
            vectors: count as u32,
            dims: dims as u32,
            lists: lists.min(count as u32),
            probes: 1,
            top,
            ..small()
        };
        for kernels in Kernels::available() {
            let search = over(rows.to_vec(), parameters, kernels);
            for query in queries.chunks_exact(dims) {
                prop_assert_eq!(found(&search, query), plain(rows, query, top as usize));
            }
        }
    }
}

#[test]
fn the_best_of_many_offers_are_kept_in_order() {
    let mut top = Top::new(3);
    for (id, score) in [(5, 0.5), (1, 0.5), (9, 0.9), (2, 0.5), (3, 0.1)] {
        top.offer(Found { id, score });
    }
    let ids: Vec<u32> = top.found().iter().map(|one| one.id).collect();
    assert_eq!(ids, [9, 1, 2]);
    assert_eq!(top.floor(), 0.5);
}

#[test]
fn the_index_does_not_depend_on_threads_or_instructions() {
    let build = |threads, kernels| {
        let source = Source::Seeded(super::Generator::new(11, 32, 20));
        Search::over(source, small(), kernels, &context(threads)).unwrap().index
    };
    let one = build(1, Kernels::Portable);
    for kernels in Kernels::available() {
        let other = build(3, kernels);
        assert_eq!(one.ids, other.ids);
        assert_eq!(one.rows, other.rows);
        assert!(one.high.iter().zip(&other.high).all(|(left, right)| left.0 == right.0));
        assert!(one.low.iter().zip(&other.low).all(|(left, right)| left.0 == right.0));
    }
}

#[test]
fn int8_vectors_are_their_own_codes() {
    let parameters = Parameters { storage: Storage::Int8, ..small() };
    let search = Search::build(parameters, &context(2)).unwrap();
    assert!(search.index.rows.is_empty());
    let (mut wanted, mut scratch) = (vec![0.0; 32], vec![0.0; 32]);
    for (place, id) in search.index.ids.iter().enumerate().filter(|(_, id)| **id < 3000) {
        search.regenerate(*id, &mut wanted);
        assert_eq!(search.index.vector(place, &mut scratch), wanted);
    }
    assert_eq!(violations(&search, |_| {}), 0);
}

/// Violations found in the answers to a few requests, each damaged before it is checked.
fn violations(search: &Arc<Search>, damage: impl Fn(&mut Vec<Found>)) -> u32 {
    let mut operation = search.operation();
    let mut count = 0;
    for key in 0..8 {
        for kind in [SearchKind::Single, SearchKind::Batch, SearchKind::Approximate] {
            operation.run(kind, key, &mut NoPause);
            damage(operation.slots_mut()[0].top.found_mut());
            count += operation.verify(&mut NoPause).violations;
        }
    }
    count
}

#[test]
fn right_answers_pass_their_checks() {
    let search = Search::build(small(), &context(2)).unwrap();
    assert_eq!(violations(&search, |_| {}), 0);
}

#[test]
fn every_damaged_answer_is_seen() {
    let search = Search::build(small(), &context(2)).unwrap();
    let damages: [fn(&mut Vec<Found>); 6] = [
        |found| found[0].score = f64::from_bits(found[0].score.to_bits() ^ 1),
        |found| found[3].id ^= 1,
        |found| found[9].id = u32::MAX,
        |found| found[4] = found[5],
        |found| found.swap(1, 2),
        |found| found.clear(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let seen = violations(&search, damage);
        let wanted = if number == 5 { 16 } else { 24 };
        assert!(seen >= wanted, "damage {number}: {seen} of {wanted}");
    }
}

#[test]
fn a_lost_result_is_seen_by_the_full_check() {
    let search = Search::build(small(), &context(2)).unwrap();
    let mut operation = search.operation();
    for key in 0..8 {
        operation.run(SearchKind::Single, key, &mut NoPause);
        let slot = &mut operation.slots_mut()[0];
        let query = slot.row.clone();
        let eleventh = every(&search, &query, 11)[10];
        let answer = slot.top.found_mut();
        answer.remove(4);
        answer.push(eleventh);
        assert_eq!(operation.verify(&mut NoPause).violations, 1);
    }
}

fn every(search: &Search, query: &[f32], limit: usize) -> Vec<Found> {
    let mut rows = vec![0.0; search.parameters.vectors as usize * query.len()];
    for (id, row) in rows.chunks_exact_mut(query.len()).enumerate() {
        search.regenerate(id as u32, row);
    }
    plain(&rows, query, limit)
}

#[test]
fn a_flipped_bit_in_a_row_or_in_the_codes_is_seen() {
    let mut search = Search::build(small(), &context(2)).unwrap();
    let mut operation = search.operation();
    operation.run(SearchKind::Single, 5, &mut NoPause);
    let best = operation.slots_mut()[0].top.found()[0];
    drop(operation);
    let place = search.index.ids.iter().position(|id| *id == best.id).unwrap();
    let index = &mut Arc::get_mut(&mut search).unwrap().index;
    let value = &mut index.rows[place * 32 + 7];
    *value = f32::from_bits(value.to_bits() ^ 1 << 22);
    assert_eq!(checked(&search, 5), 1);

    let mut search = Search::build(small(), &context(2)).unwrap();
    let index = &mut Arc::get_mut(&mut search).unwrap().index;
    for lines in [index.tile(place / TILE)] {
        for line in &mut index.high[lines] {
            line.0[4 * (place % TILE)..4 * (place % TILE) + 4].fill(0x88);
        }
    }
    assert_eq!(checked(&search, 5), 1);
}

fn checked(search: &Arc<Search>, key: u64) -> u32 {
    let mut operation: SearchOperation = search.operation();
    operation.run(SearchKind::Single, key, &mut NoPause);
    operation.verify(&mut NoPause).violations
}

#[test]
fn the_slice_check_sees_rows_that_are_not_their_seed_s() {
    let parameters = Parameters { full_check_one_in: u32::MAX, ..small() };
    let mut search = Search::build(parameters, &context(2)).unwrap();
    let index = &mut Arc::get_mut(&mut search).unwrap().index;
    index.rows.iter_mut().for_each(|value| *value = -*value);
    assert!((0..8).map(|key| checked(&search, key)).sum::<u32>() == 8);
}

#[test]
fn approximate_search_of_all_lists_is_exact_and_of_few_reports_its_recall() {
    let parameters = Parameters { probes: 24, ..small() };
    let search = Search::build(parameters, &context(2)).unwrap();
    assert_eq!(search.recall, 1.0);
    let search = Search::build(Parameters { probes: 1, ..small() }, &context(2)).unwrap();
    assert!(search.recall > 0.3 && search.recall < 1.0, "recall {}", search.recall);
}

#[test]
fn queries_are_not_members() {
    let search = Search::build(small(), &context(2)).unwrap();
    let mut operation = search.operation();
    for key in 0..64 {
        operation.run(SearchKind::Single, key, &mut NoPause);
        assert!(operation.slots_mut()[0].top.found()[0].score < 0.999);
    }
}

struct Counted(usize);

impl Pause for Counted {
    fn point(&mut self) {
        self.0 += 1;
    }
}

#[test]
fn a_search_pauses_at_least_once_a_chunk() {
    let search = Search::build(small(), &context(2)).unwrap();
    let index: &Index = &search.index;
    let mut scratch = Scratch::new(index);
    let mut counted = Counted(0);
    let mut slots = vec![Slot::new(32, 10); 5];
    Scan { index, scratch: &mut scratch }.exact(&mut slots, &mut counted);
    let tiles: usize = index.lists.iter().map(|list| list.tiles.len()).sum();
    assert!(counted.0 * index.kernels.chunk_tiles() >= 2 * tiles);
}

#[test]
fn wrong_parameters_and_inputs_are_said_and_cancelling_is_heard() {
    let refused = |parameters| Search::build(parameters, &context(1)).err().unwrap().to_string();
    assert!(refused(Parameters { dims: 12, ..small() }).contains("search.dims"));
    assert!(refused(Parameters { lists: 4000, ..small() }).contains("search.lists"));
    let cancelled = Build { seed: 1, threads: 2, progress: &|_, _| false };
    assert!(matches!(Search::build(small(), &cancelled), Err(BuildError::Cancelled)));
    let search = Search::build(small(), &context(2)).unwrap();
    assert!(search.evaluate("semantic_search", &Arrays::new()).is_err());
    let short = Arrays::from([("queries".to_owned(), Array::F32(vec![0.0; 31]))]);
    assert!(search.evaluate("semantic_search", &short).is_err());
}

#[test]
fn resident_bytes_bound_what_is_allocated_within_a_tenth() {
    for storage in [Storage::Fp32, Storage::Fp16, Storage::Int8] {
        let parameters = Parameters { vectors: 40_000, storage, ..small() };
        let search = Search::build(parameters, &context(2)).unwrap();
        let index = &search.index;
        let held = 64 * (index.high.len() + index.low.len())
            + 4 * (index.rows.len() + index.ids.len())
            + 2 * index.half_rows.len()
            + 8 * index.norms.len();
        let stated = Search::resident_bytes(&parameters, 1);
        assert!(stated >= held as u64 && stated as f64 <= held as f64 * 1.1, "{stated} {held}");
    }
}
