//! The AVX2 and AVX-512 loops behind `kernels`, which detects them before it calls.

use std::arch::asm;
use std::arch::x86_64::{
    __m256i, _mm_sfence, _mm256_fmadd_ps, _mm256_load_si256, _mm256_loadu_ps, _mm256_set1_epi64x,
    _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm256_stream_si256,
};

use super::kernels::{ADDEND, FACTOR, LANES};

/// # Safety
/// The machine has AVX2.
#[target_feature(enable = "avx2")]
pub unsafe fn read_avx2(words: &[u64]) -> u64 {
    super::kernels::read_portable(words)
}

/// # Safety
/// The machine has AVX-512 F.
pub unsafe fn read_avx512(words: &[u64]) -> u64 {
    let blocks = words.len() / 32;
    let rest = super::kernels::read_portable(&words[blocks * 32..]);
    if blocks == 0 {
        return rest;
    }
    let mut sums = [0_u64; 32];
    // SAFETY: reads `blocks` times 256 bytes from the start of `words` and writes the 256 of
    // `sums`; the registers named are declared lost.
    unsafe {
        asm!(
            "vpxorq zmm0, zmm0, zmm0",
            "vpxorq zmm1, zmm1, zmm1",
            "vpxorq zmm2, zmm2, zmm2",
            "vpxorq zmm3, zmm3, zmm3",
            "2:",
            "vpaddq zmm0, zmm0, [{from}]",
            "vpaddq zmm1, zmm1, [{from} + 64]",
            "vpaddq zmm2, zmm2, [{from} + 128]",
            "vpaddq zmm3, zmm3, [{from} + 192]",
            "add {from}, 256",
            "dec {left}",
            "jnz 2b",
            "vmovdqu64 [{sums}], zmm0",
            "vmovdqu64 [{sums} + 64], zmm1",
            "vmovdqu64 [{sums} + 128], zmm2",
            "vmovdqu64 [{sums} + 192], zmm3",
            "vzeroupper",
            from = inout(reg) words.as_ptr() => _,
            left = inout(reg) blocks => _,
            sums = in(reg) sums.as_mut_ptr(),
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack),
        );
    }
    sums.iter().fold(rest, |sum, word| sum.wrapping_add(*word))
}

/// # Safety
/// The machine has AVX2.
#[target_feature(enable = "avx2")]
pub unsafe fn copy_avx2(target: &mut [u64], source: &[u64]) {
    assert!(target.len() == source.len() && target.len() % 8 == 0);
    assert!(target.as_ptr().align_offset(32) == 0 && source.as_ptr().align_offset(32) == 0);
    let (to, from) = (target.as_mut_ptr(), source.as_ptr());
    // SAFETY: lengths and alignment are asserted above; 8 words stay inside both slices.
    unsafe {
        for word in (0..target.len()).step_by(8) {
            let low = _mm256_load_si256(from.add(word).cast::<__m256i>());
            let high = _mm256_load_si256(from.add(word + 4).cast::<__m256i>());
            _mm256_stream_si256(to.add(word).cast::<__m256i>(), low);
            _mm256_stream_si256(to.add(word + 4).cast::<__m256i>(), high);
        }
        _mm_sfence();
    }
}

/// # Safety
/// The machine has AVX2.
#[target_feature(enable = "avx2")]
pub unsafe fn fill_avx2(target: &mut [u64], value: u64) {
    assert!(target.len() % 8 == 0 && target.as_ptr().align_offset(32) == 0);
    // SAFETY: AVX2 by this function's contract; 8 words stay inside the slice, aligned.
    unsafe {
        let pattern = _mm256_set1_epi64x(value as i64);
        for word in (0..target.len()).step_by(8) {
            let to = target.as_mut_ptr().add(word).cast::<__m256i>();
            _mm256_stream_si256(to, pattern);
            _mm256_stream_si256(to.add(1), pattern);
        }
        _mm_sfence();
    }
}

/// # Safety
/// The machine has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn fused_avx2(lanes: &mut [f32; LANES], steps: usize) {
    // Twelve 8-float registers at a time; two groups make all lanes.
    for group in lanes.chunks_exact_mut(12 * 8) {
        // SAFETY: AVX2 and FMA by this function's contract; `group` holds 96 floats.
        unsafe {
            let (factor, addend) = (_mm256_set1_ps(FACTOR), _mm256_set1_ps(ADDEND));
            let mut held = [_mm256_setzero_ps(); 12];
            for (register, from) in held.iter_mut().zip(group.chunks_exact(8)) {
                *register = _mm256_loadu_ps(from.as_ptr());
            }
            for _ in 0..steps {
                for register in &mut held {
                    *register = _mm256_fmadd_ps(*register, factor, addend);
                }
            }
            for (register, to) in held.iter().zip(group.chunks_exact_mut(8)) {
                _mm256_storeu_ps(to.as_mut_ptr(), *register);
            }
        }
    }
}

/// # Safety
/// The machine has AVX-512 F.
pub unsafe fn fused_avx512(lanes: &mut [f32; LANES], steps: usize) {
    if steps == 0 {
        return;
    }
    let constants = [FACTOR, ADDEND];
    // SAFETY: reads and writes the 768 bytes of `lanes`, reads the 8 of `constants`; all
    // vector registers are declared lost.
    unsafe {
        asm!(
            "vbroadcastss zmm14, [{constants}]; vbroadcastss zmm15, [{constants} + 4]",
            "vmovups zmm0, [{lanes}]; vmovups zmm1, [{lanes} + 64]",
            "vmovups zmm2, [{lanes} + 128]; vmovups zmm3, [{lanes} + 192]",
            "vmovups zmm4, [{lanes} + 256]; vmovups zmm5, [{lanes} + 320]",
            "vmovups zmm6, [{lanes} + 384]; vmovups zmm7, [{lanes} + 448]",
            "vmovups zmm8, [{lanes} + 512]; vmovups zmm9, [{lanes} + 576]",
            "vmovups zmm10, [{lanes} + 640]; vmovups zmm11, [{lanes} + 704]",
            "2:",
            "vfmadd213ps zmm0, zmm14, zmm15; vfmadd213ps zmm1, zmm14, zmm15",
            "vfmadd213ps zmm2, zmm14, zmm15; vfmadd213ps zmm3, zmm14, zmm15",
            "vfmadd213ps zmm4, zmm14, zmm15; vfmadd213ps zmm5, zmm14, zmm15",
            "vfmadd213ps zmm6, zmm14, zmm15; vfmadd213ps zmm7, zmm14, zmm15",
            "vfmadd213ps zmm8, zmm14, zmm15; vfmadd213ps zmm9, zmm14, zmm15",
            "vfmadd213ps zmm10, zmm14, zmm15; vfmadd213ps zmm11, zmm14, zmm15",
            "dec {steps}",
            "jnz 2b",
            "vmovups [{lanes}], zmm0; vmovups [{lanes} + 64], zmm1",
            "vmovups [{lanes} + 128], zmm2; vmovups [{lanes} + 192], zmm3",
            "vmovups [{lanes} + 256], zmm4; vmovups [{lanes} + 320], zmm5",
            "vmovups [{lanes} + 384], zmm6; vmovups [{lanes} + 448], zmm7",
            "vmovups [{lanes} + 512], zmm8; vmovups [{lanes} + 576], zmm9",
            "vmovups [{lanes} + 640], zmm10; vmovups [{lanes} + 704], zmm11",
            "vzeroupper",
            lanes = in(reg) lanes.as_mut_ptr(),
            constants = in(reg) constants.as_ptr(),
            steps = inout(reg) steps => _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack),
        );
    }
}
