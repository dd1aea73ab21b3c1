//! Matrix times vector, by the instructions that this machine has: the same sums in the same order.
//!
//! An output is one chain of fused multiply-adds over the inputs, in their order, whatever the
//! width of a register: so all kernels give the same bits. Work per matrix: a byte and two
//! floating-point operations per weight. Inputs that are zero (half of them behind a ReLU) are left
//! out, which changes no sum.

#[cfg(target_arch = "x86_64")]
use super::kernels_avx2 as avx2;
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
use super::kernels_avx512 as avx512;
use super::{LANES, Line, Matrix};
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
