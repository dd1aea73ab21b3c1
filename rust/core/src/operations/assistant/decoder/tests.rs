//! The kernels against one another and against sums in float64.

use std::sync::Arc;

use super::kernels::Kernels;
use super::{Decoder, Decoding, LANES, Matrix, Model, Together};
use crate::operations::{Build, NoPause};

const CONTEXT: Build<'_> = Build { seed: 7, threads: 2, progress: &|_, _| true };

#[test]
fn every_kernel_gives_the_bits_of_the_portable_one_and_is_near_the_right_sum() {
    let matrix = Matrix::draw(7, 3, 5 * LANES, 104, 0.1);
    let inputs: Vec<(u32, f32)> =
        (0..104).filter(|at| at % 3 != 1).map(|at| (at, (at as f32 * 0.7).sin())).collect();
    for kernels in Kernels::available() {
        for blocks in 1..=3 {
            let mut found = vec![0f32; blocks * LANES];
            let mut portable = found.clone();
            kernels.multiply(&matrix, LANES, &inputs, matrix.scale, &mut found);
            Kernels::Portable.multiply(&matrix, LANES, &inputs, matrix.scale, &mut portable);
            assert_eq!(found, portable, "{}", kernels.name());
            for (output, value) in found.iter().enumerate() {
                let mut row = vec![0f32; 104];
                matrix.row(LANES + output, &mut row);
                let right: f64 = inputs
                    .iter()
                    .map(|(at, value)| f64::from(row[*at as usize]) * f64::from(*value))
                    .sum();
                assert!((f64::from(*value) - right).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn products_of_several_sequences_have_the_bits_of_each_alone() {
    let matrix = Matrix::draw(7, 3, 5 * LANES, 104, 0.1);
    let value = |input: usize, sequence: usize| {
        // Every third is zero, which products of one sequence leave out.
        if (input + sequence) % 3 == 1 { 0.0 } else { ((input * 9 + sequence) as f32 * 0.7).sin() }
    };
    for kernels in Kernels::available() {
        for (count, blocks) in (1..=Together::MOST).flat_map(|count| [(count, 1), (count, 4)]) {
            let inputs: Vec<f32> =
                (0..104 * count).map(|at| value(at / count, at % count)).collect();
            let stride = 5 * LANES;
            let mut found = vec![f32::NAN; count * stride];
            let places = LANES..(1 + blocks) * LANES;
            kernels.multiply_together(&matrix, places.clone(), &inputs, 0.3, &mut found);
            for sequence in 0..count {
                let listed: Vec<(u32, f32)> = (0..104)
                    .map(|input| (input as u32, value(input, sequence)))
                    .filter(|(_, value)| *value != 0.0)
                    .collect();
                let mut alone = vec![0f32; blocks * LANES];
                Kernels::Portable.multiply(&matrix, LANES, &listed, 0.3, &mut alone);
                let own = &found[sequence * stride..][..stride];
                assert_eq!(own[places.clone()], alone, "{} {count} {blocks}", kernels.name());
                assert!(own[..LANES].iter().all(|untouched| untouched.is_nan()));
                assert!(own[places.end..].iter().all(|untouched| untouched.is_nan()));
            }
        }
    }
}

#[test]
fn every_kernel_speaks_the_same_tokens_with_the_same_logits() {
    let mut right: Option<(Vec<u32>, Vec<f32>)> = None;
    for kernels in Kernels::available() {
        let mut decoder = Decoder::build(Model::Small, &CONTEXT).expect("not cancelled");
        decoder.kernels = kernels;
        let mut decoding = Decoding::new(Arc::new(decoder));
        let (mut token, mut tokens) = (0, Vec::new());
        for position in 0..20 {
            decoding.take(token, position, &mut NoPause);
            token = decoding.next(&mut NoPause);
            tokens.push(token);
        }
        let found = (tokens, decoding.logits.clone());
        let right = right.get_or_insert_with(|| found.clone());
        assert_eq!(*right, found, "{}", kernels.name());
    }
    let (tokens, _) = right.expect("one kernel at least");
    let mut different = tokens.clone();
    different.sort_unstable();
    different.dedup();
    assert!(different.len() > 5, "{tokens:?}");
}

#[test]
fn the_small_model_has_one_and_a_half_million_parameters_and_the_base_one_25() {
    assert_eq!(Model::Small.shape().parameters(), 1_499_136);
    assert_eq!(Model::Base.shape().parameters(), 25_165_824);
}

#[test]
fn a_large_model_pauses_within_a_token_and_a_cancelled_build_ends() {
    struct Count(usize);
    impl crate::operations::Pause for Count {
        fn point(&mut self) {
            self.0 += 1;
        }
    }
    let decoder = Decoder::build(Model::Base, &CONTEXT).expect("not cancelled");
    let decoder = Arc::new(decoder);
    let mut decoding = Decoding::new(Arc::clone(&decoder));
    let mut pauses = Count(0);
    decoding.take(0, 0, &mut pauses);
    decoding.next(&mut pauses);
    assert!(pauses.0 >= 10, "{} pauses in 25 million parameters", pauses.0);
    pauses.0 = 0;
    let mut together = Together::new(decoder, 8);
    together.take(&[0; 8], 0, &mut pauses);
    together.weigh(8, &mut pauses);
    assert!(pauses.0 >= 150, "{} pauses in eight times as many", pauses.0);
    let cancelled = Build { progress: &|_, _| false, ..CONTEXT };
    assert!(Decoder::build(Model::Small, &cancelled).is_err());
}
