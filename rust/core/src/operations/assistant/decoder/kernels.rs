//! Matrix times vector, by the instructions that this machine has: the same sums in the same order.
//!
//! An output is one chain of fused multiply-adds over the inputs, in their order, whatever the
//! width of a register: so all kernels give the same bits. Work per matrix: a byte and two
//! floating-point operations per weight. Inputs that are zero (half of them behind a ReLU) are left
//! out, which changes no sum.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::kernels_avx2 as avx2;
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
use super::kernels_avx512 as avx512;
use super::{LANES, Line, Matrix, Together};
use crate::operations::instructions::InstructionSet;

/// An input that is not zero: its number and its value.
pub type Input = (u32, f32);

/// Kernels are methods of the instructions that they are compiled for.
pub type Kernels = InstructionSet;

impl InstructionSet {
    /// `outputs[o] = scale * sum of weight[o][i] * value` over `inputs`, for the outputs of the
    /// whole blocks from `first` on that `outputs` has room for.
    #[inline]
    pub fn multiply(
        self,
        matrix: &Matrix,
        first: usize,
        inputs: &[Input],
        scale: f32,
        outputs: &mut [f32],
    ) {
        assert!(first % LANES == 0 && outputs.len() % LANES == 0, "whole blocks");
        let lines = &matrix.lines[first / LANES * matrix.inputs..];
        let lines = &lines[..outputs.len() / LANES * matrix.inputs];
        assert!(inputs.iter().all(|(input, _)| (*input as usize) < matrix.inputs));
        match self {
            Self::Portable => portable(lines, matrix.inputs, inputs, scale, outputs),
            // SAFETY: the set is only made where it was detected; the lines are whole
            // blocks of `matrix.inputs`, one per 64 outputs, and every input's number is below it.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::multiply(lines, matrix.inputs, inputs, scale, outputs) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512 | Self::Avx512Vnni => unsafe {
                avx512::multiply(lines, matrix.inputs, inputs, scale, outputs)
            },
        }
    }
}

impl InstructionSet {
    /// `outputs[s][o] = scale * sum of weight[o][i] * inputs[i][s]` for the outputs `places`, whole
    /// blocks, of up to eight sequences `s`; inputs that are zero are not left out.
    #[inline]
    pub fn multiply_together(
        self,
        matrix: &Matrix,
        places: Range<usize>,
        inputs: &[f32],
        scale: f32,
        outputs: &mut [f32],
    ) {
        let count = inputs.len() / matrix.inputs;
        assert!((1..=Together::MOST).contains(&count) && inputs.len() == count * matrix.inputs);
        assert!(places.start % LANES == 0 && places.end % LANES == 0, "whole blocks");
        let stride = outputs.len() / count;
        assert!(places.start <= places.end && places.end <= stride);
        let lines = &matrix.lines[places.start / LANES * matrix.inputs..];
        let lines = &lines[..places.len() / LANES * matrix.inputs];
        let parts = Parts { inputs, scale, first: places.start, stride };
        match self {
            Self::Portable => portable_together(lines, &parts, count, outputs),
            // SAFETY: the set is only made where it was detected; the lines are whole blocks of
            // `matrix.inputs`, and every sequence has `stride` outputs, `places` among them.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::multiply_together(lines, &parts, count, outputs) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512 | Self::Avx512Vnni => unsafe {
                avx512::multiply_together(lines, &parts, count, outputs)
            },
        }
    }
}

/// What a product of several sequences takes beside the lines of its weights.
pub struct Parts<'a> {
    /// By input, then by sequence.
    pub inputs: &'a [f32],
    pub scale: f32,
    /// The first output of the lines, and outputs of a sequence.
    pub first: usize,
    pub stride: usize,
}

fn portable_together(lines: &[Line], parts: &Parts<'_>, count: usize, outputs: &mut [f32]) {
    let rows = parts.inputs.len() / count;
    for (number, block) in lines.chunks_exact(rows).enumerate() {
        for sequence in 0..count {
            let mut sums = [0f32; LANES];
            for (line, inputs) in block.iter().zip(parts.inputs.chunks_exact(count)) {
                for (sum, weight) in sums.iter_mut().zip(line.0) {
                    *sum = inputs[sequence].mul_add(f32::from(weight), *sum);
                }
            }
            let place = sequence * parts.stride + parts.first + number * LANES;
            for (output, sum) in outputs[place..place + LANES].iter_mut().zip(sums) {
                *output = parts.scale * sum;
            }
        }
    }
}

fn portable(lines: &[Line], count: usize, inputs: &[Input], scale: f32, outputs: &mut [f32]) {
    for (block, outputs) in lines.chunks_exact(count).zip(outputs.chunks_exact_mut(LANES)) {
        let mut sums = [0f32; LANES];
        for (input, value) in inputs {
            let line = &block[*input as usize].0;
            for (sum, weight) in sums.iter_mut().zip(line) {
                *sum = value.mul_add(f32::from(*weight), *sum);
            }
        }
        for (output, sum) in outputs.iter_mut().zip(sums) {
            *output = scale * sum;
        }
    }
}
