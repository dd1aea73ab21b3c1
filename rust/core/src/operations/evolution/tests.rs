//! Generations held against their definition: on every path, in every portion, under every fault.

use proptest::prelude::*;

use super::breed::{Scratch, TILE};
use super::island::{breed_generation, rank_all};
use super::parameters::{BOUND, Chance};
use super::population::{Digest, fitness_of, individual_of, ranked};
use super::*;
use crate::operations::{Fault, Status, Verdict};

const KEY: u64 = 7 << 48 | 123_456_789;

fn parameters(population: usize, genome: usize, mutation: f64) -> Parameters {
    let (elites, tournament, sigma) = (5.min(population / 2), 3, 0.3);
    Parameters {
        population,
        genome,
        elites,
        tournament,
        mutation,
        sigma,
        target_share: 0.25,
        checked_every: 1,
    }
}

fn shared(parameters: Parameters, path: Path) -> Shared {
    Shared { path, ..Shared::new(parameters, 7) }
}

fn first(shared: &Shared, kind: usize) -> Population {
    let mut population = Population::new(&shared.plan);
    (shared.path.settle)(&shared.plan, 0, &mut population.rows);
    rank_all(shared, kind, &mut population);
    population
}

fn next(shared: &Shared, before: &Population, request: Request, children: usize) -> Population {
    let mut after = Population::new(&shared.plan);
    let mut scratch = Scratch::new(&shared.plan);
    let generations = (before, &mut after);
    breed_generation(shared, request, generations, (&mut scratch, children), &mut NoPause);
    after
}

fn bits(population: &Population) -> Vec<u32> {
    population.rows.iter().flat_map(|line| line.0.map(f32::to_bits)).collect()
}

#[test]
fn every_path_and_portion_makes_the_children_of_the_definition() {
    for (population, genome, mutation) in
        [(40, 16, 0.5), (61, 64, 0.3), (33, 100, 0.0), (16, 252, 1.0), (50, 1000, 0.01)]
    {
        for kind in 0..OPS.len() {
            let request = Request { op: kind as u8, key: KEY };
            let portable = shared(parameters(population, genome, mutation), paths::PORTABLE);
            let before = first(&portable, kind);
            let plan = &portable.plan;
            let after = next(&portable, &before, request, population);
            for individual in plan.parameters.elites..population {
                let row = after.row(plan, individual).iter().flat_map(|line| line.0);
                let made = definition::child(plan, &before, individual, KEY);
                let same = row.clone().zip(made).all(|(gene, made)| gene == made.gene);
                assert!(same, "{genome} {mutation} {individual}");
                assert!(row.skip(genome).all(|padding| padding == 0.0));
                let (fitness, off) =
                    definition::fitness(plan, kind as u8, after.row(plan, individual));
                let found = f64::from(fitness_of(after.ranks[individual]));
                assert!((found - fitness).abs() <= off, "{found} is not {fitness}");
            }
            for path in paths::paths() {
                let other = shared(parameters(population, genome, mutation), path);
                let begun = first(&other, kind);
                assert_eq!(begun.ranks, before.ranks);
                for children in [TILE, 3 * TILE, population.next_multiple_of(TILE)] {
                    let found = next(&other, &begun, request, children);
                    assert_eq!(bits(&found), bits(&after), "{} {genome} {children}", path.name);
                    assert_eq!(found.ranks, after.ranks);
                    assert_eq!(found.leaders, after.leaders);
                }
            }
        }
    }
}

#[test]
fn mutations_are_as_many_as_the_binomial_allows() {
    for mutation in [0.01, 0.3, 0.5, 0.9] {
        let shared = shared(parameters(2000, 100, mutation), paths::best());
        let before = first(&shared, 0);
        let mut after = Population::new(&shared.plan);
        let mut scratch = Scratch::new(&shared.plan);
        for key in 0..10 {
            let (_, mutated) = breed_generation(
                &shared,
                Request { op: 0, key },
                (&before, &mut after),
                (&mut scratch, 64),
                &mut NoPause,
            );
            let genes = 1995.0 * 100.0;
            let chance = shared.plan.chance.value();
            assert!((chance - mutation).abs() <= 1.0 / 131_072.0);
            let deviation = (genes * chance * (1.0 - chance)).sqrt();
            let off = (mutated as f64 - genes * chance).abs() / deviation;
            assert!(off < 5.0, "{mutation}: {off} deviations");
        }
    }
}

#[test]
fn a_probability_is_the_nearest_of_the_shortest_fractions() {
    for (probability, numerator, bits) in
        [(0.0, 0, 0), (1.0, 1, 0), (0.5, 1, 1), (0.75, 3, 2), (1.0 / 65536.0, 1, 16), (1e-9, 0, 0)]
    {
        assert_eq!(Chance::nearest(probability), Chance { numerator, bits });
    }
}

/// A normal variate is below each of these with the probability beside it.
const NORMAL: [(f64, f64); 7] = [
    (-4.0, 3.167_124_183e-5),
    (-3.0, 1.349_898_032e-3),
    (-1.0, 0.158_655_253_9),
    (0.0, 0.5),
    (0.5, 0.691_462_461_3),
    (2.0, 0.977_249_868_1),
    (3.5, 0.999_767_370_9),
];

#[test]
fn steps_are_normal_far_into_the_tails_and_the_two_of_a_word_independent() {
    // An odd stride over the words: a sample without repetition, four million of them.
    let count = 1u32 << 22;
    let (mut below, mut product, mut squares) = ([0u32; NORMAL.len()], 0.0, 0.0);
    for index in 0..count {
        let [first, second] =
            definition::normal_pair(index.wrapping_mul(0x9E37_79B1) ^ 0x5555, 1.0).map(f64::from);
        assert!(first.abs() < 6.7 && second.abs() < 6.7);
        product += first * second;
        squares += (first * first - 1.0) * (second * second - 1.0);
        for (count, (limit, _)) in below.iter_mut().zip(NORMAL) {
            *count += u32::from(first < limit) + u32::from(second < limit);
        }
    }
    let drawn = f64::from(2 * count);
    for (count, (limit, probability)) in below.into_iter().zip(NORMAL) {
        let deviation = (drawn * probability * (1.0 - probability)).sqrt();
        let off = (f64::from(count) - drawn * probability).abs() / deviation;
        assert!(off < 5.0, "below {limit}: {off} deviations");
    }
    assert!((product / f64::from(count)).abs() < 5.0 / f64::from(count).sqrt());
    assert!((squares / f64::from(count)).abs() < 10.0 / f64::from(count).sqrt());
}

#[test]
fn the_extreme_words_give_steps_that_are_numbers() {
    for word in [0, 1, 2, 3, u32::MAX, u32::MAX - 1, 1 << 31, (1 << 31) - 1] {
        for step in definition::normal_pair(word, 1.0) {
            assert!(step.abs() < 6.8, "{word}: {step}");
        }
    }
}

fn island(population: usize, genome: usize) -> (Arc<Shared>, Island) {
    let shared = Arc::new(shared(parameters(population, genome, 0.5), paths::best()));
    (Arc::clone(&shared), Island::new(shared))
}

#[test]
fn every_fault_is_seen_in_the_generation_it_befalls_and_in_no_other() {
    let (_, mut island) = island(100, 100);
    for op in 0..OPS.len() as u8 {
        for (turn, (name, fault)) in Fault::ALL.into_iter().enumerate() {
            let key = 10 * turn as u64;
            assert_eq!(island.run(Request { op, key }, &mut NoPause).status, Status::Ok);
            assert!(island.plant(fault));
            assert_eq!(
                island.verify(&mut NoPause),
                Verdict { checked: 1, violations: 1 },
                "{name}"
            );
            assert!(!island.plant(fault), "the answer was taken");
            for key in key + 1..key + 10 {
                island.run(Request { op, key }, &mut NoPause);
                assert_eq!(
                    island.verify(&mut NoPause),
                    Verdict { checked: 1, violations: 0 },
                    "{name}"
                );
            }
        }
    }
    let unknown = island.run(Request { op: 9, key: 0 }, &mut NoPause);
    assert_eq!((unknown.status, unknown.units), (Status::Error, 0));
}

/// Changes one gene of each of some individuals by its last bit, and the digest with it, as if the
/// generation had been bred so.
fn rebred(island: &mut Island, plan: &Plan, individuals: std::ops::Range<usize>) {
    let mut last = island.last.unwrap();
    let after = &mut island.populations[usize::from(last.request.op)];
    for individual in individuals {
        let gene = &mut after.rows[individual * plan.lines()].0[3];
        *gene = f32::from_bits(gene.to_bits() ^ 1);
    }
    last.digest = Digest::default();
    (paths::PORTABLE.sum)(plan, 0, &after.rows, &mut last.digest);
    for (individual, &rank) in after.ranks.iter().enumerate() {
        last.digest.add_rank(individual, plan.lines(), rank);
    }
    island.last = Some(last);
}

#[test]
fn elites_that_changed_and_children_of_no_definition_are_seen() {
    for (individuals, violations) in [(0..0, 0), (0..1, 1), (4..5, 1), (5..100, 1)] {
        let (shared, mut island) = island(100, 64);
        island.run(Request { op: 1, key: 3 }, &mut NoPause);
        rebred(&mut island, &shared.plan, individuals);
        assert_eq!(island.verify(&mut NoPause), Verdict { checked: 1, violations });
    }
}

#[test]
fn a_fitness_that_double_precision_does_not_give_is_seen() {
    let (shared, mut island) = island(100, 64);
    island.run(Request { op: 1, key: 3 }, &mut NoPause);
    for (individual, rank) in island.populations[1].ranks.iter_mut().enumerate().skip(5) {
        *rank = ranked(fitness_of(*rank) * 1.001, individual);
    }
    rebred(&mut island, &shared.plan, 0..0);
    assert_eq!(island.verify(&mut NoPause), Verdict { checked: 1, violations: 1 });
}

#[test]
fn an_island_searches_and_says_what_its_target_took() {
    let (shared, mut island) = island(1000, 64);
    let mut best = f32::MAX;
    for key in 0..200 {
        let done = island.run(Request { op: 0, key }, &mut NoPause);
        assert_eq!(done.units, 1000);
        let found = shared.best[0].read().unwrap();
        assert!(found <= best);
        best = found;
    }
    let counters: std::collections::BTreeMap<_, _> = shared.counters.read().into_iter().collect();
    assert_eq!(counters["generations"], 200);
    assert_eq!(counters["targets_reached"], 1);
    assert!((2..200).contains(&counters["generations_to_target"]));
    assert!(counters["ns_to_target"] > 0);
}

#[test]
fn a_long_generation_pauses_between_chunks() {
    struct Counted(usize);
    impl crate::operations::Pause for Counted {
        fn point(&mut self) {
            self.0 += 1;
        }
    }
    let (_, mut island) = island(5000, 64);
    let mut pauses = Counted(0);
    island.run(Request { op: 1, key: 0 }, &mut pauses);
    assert_eq!(pauses.0, (5000 - 5usize).div_ceil(256) + 1);
    let mut pauses = Counted(0);
    assert_eq!(island.verify(&mut pauses).checked, 1);
    assert_eq!(pauses.0, 5000usize.div_ceil(256) + 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn elites_stay_and_the_best_never_gets_worse(
        (population, genome) in (16usize..80, 4usize..40),
        mutation in 0.0f64..=1.0,
        (op, keys) in (0u8..3, proptest::array::uniform3(any::<u64>())),
    ) {
        let shared = shared(parameters(population, 4 * genome, mutation), paths::best());
        let plan = &shared.plan;
        let mut before = first(&shared, usize::from(op));
        for key in keys {
            let after = next(&shared, &before, Request { op, key }, 16);
            for (place, &leader) in before.leaders.iter().enumerate() {
                prop_assert_eq!(after.row(plan, place), before.row(plan, individual_of(leader)));
            }
            prop_assert!(after.best() <= before.best());
            prop_assert!(after.rows.iter().all(|line| line.0.iter().all(|x| x.abs() <= BOUND)));
            let mut ranks = after.ranks.clone();
            ranks.sort_unstable();
            prop_assert_eq!(&ranks[..after.leaders.len()], &after.leaders[..]);
            before = after;
        }
    }

    #[test]
    fn an_unmutated_gene_is_that_of_one_parent(key in any::<u64>(), mutation in 0.0f64..1.0) {
        let shared = shared(parameters(24, 64, mutation), paths::best());
        let before = first(&shared, 0);
        let after = next(&shared, &before, Request { op: 0, key }, 8);
        for individual in 5..24 {
            let row = after.row(&shared.plan, individual).iter().flat_map(|line| line.0);
            for (gene, made) in row.zip(definition::child(&shared.plan, &before, individual, key)) {
                prop_assert!(made.parents.contains(&made.inherited));
                prop_assert!(made.mutated || gene == made.inherited);
            }
        }
    }

    #[test]
    fn a_digest_is_that_of_its_parts_and_knows_every_bit(
        (place, lane, bit, split) in (0usize..8 * 30, 0usize..16, 0u32..32, 0usize..30),
    ) {
        let shared = shared(parameters(30, 128, 0.5), paths::best());
        let (plan, mut population) = (&shared.plan, first(&shared, 0));
        let mut whole = Digest::default();
        (shared.path.sum)(plan, 0, &population.rows, &mut whole);
        let (front, back) = population.rows.split_at(split * plan.lines());
        let mut parts = Digest::default();
        (paths::PORTABLE.sum)(plan, split, back, &mut parts);
        (shared.path.sum)(plan, 0, front, &mut parts);
        prop_assert_eq!(parts.word(), whole.word());
        let gene = &mut population.rows[place].0[lane];
        *gene = f32::from_bits(gene.to_bits() ^ 1 << bit);
        let mut damaged = Digest::default();
        (shared.path.sum)(plan, 0, &population.rows, &mut damaged);
        prop_assert_ne!(damaged.word(), whole.word());
    }

    #[test]
    fn ranks_order_as_fitness_does(left in any::<f32>(), right in any::<f32>()) {
        prop_assume!(!left.is_nan() && !right.is_nan() && left != right);
        prop_assert_eq!(left < right, ranked(left, 9) < ranked(right, 3));
        prop_assert_eq!(fitness_of(ranked(left, 5)), left);
        prop_assert_eq!(individual_of(ranked(left, 5)), 5);
    }
}

#[test]
fn parameters_out_of_their_bounds_are_refused_by_name() {
    let good = serde_json::json!({
        "population": 100, "genome": 64, "elites": 4, "tournament": 3, "mutation": 0.5,
        "sigma": 0.1, "target_share": 0.25, "checked_every": 1
    });
    assert!(Parameters::parse(&good.to_string()).is_ok());
    for (key, value) in [
        ("population", json!(15)),
        ("genome", json!(66)),
        ("genome", json!(5000)),
        ("elites", json!(51)),
        ("elites", json!(0)),
        ("tournament", json!(17)),
        ("mutation", json!(1.5)),
        ("sigma", json!(-1.0)),
        ("target_share", json!(2.0)),
        ("checked_every", json!(0)),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        let refused = Parameters::parse(&bad.to_string()).unwrap_err().to_string();
        assert!(refused.starts_with(key), "{refused}");
    }
}
