//! The generator with AVX-512 where nobody misbehaves: Philox on 64-bit lanes, the rest on 32-bit.
//!
//! A word in 64 bits leaves room for its product, which the ten rounds need; what follows them does
//! not, and sixteen votes a vector cost three vector instructions of twelve less a vote.

use std::arch::x86_64::*;

use super::lanes::{DUPLICATES, SAME, ZIPF, origins, philox, round_keys, word};
use super::vector::{Avx512, Two, Vector};
use super::votes::{Aim, Digest, Vote};

/// Votes of one packed vector, and of the two that are drawn together.
const PACKED: usize = 16;
const STEP: usize = 2 * PACKED;

/// The even and the odd lanes of a packed vector; those of two of them.
type Pair = Two<Avx512>;
type Four = Two<Pair>;

/// Writes the votes `first..first + votes.len()` of a batch and returns their digest.
pub fn fill<const MIX: u8>(aim: &Aim<'_>, first: u32, votes: &mut [Vote]) -> Digest {
    // SAFETY: `lanes::best` hands this function out only where AVX-512 F was detected.
    unsafe { fill_steps::<MIX>(aim, first, votes) }
}

/// # Safety
/// Needs AVX-512 F.
#[target_feature(enable = "avx512f")]
unsafe fn fill_steps<const MIX: u8>(aim: &Aim<'_>, first: u32, votes: &mut [Vote]) -> Digest {
    let keys = round_keys::<Four>(aim.source.stream);
    let mut index = indices(first);
    let mut sums = [_mm512_setzero_si512(); 2];
    let mut last = [Vote::default(); STEP];
    let whole = votes.len() / STEP * STEP;
    for begin in (0..votes.len()).step_by(STEP) {
        // One place that draws, or it would be called and its vectors pass through memory.
        let [front, back] = draw::<MIX>(aim, &keys, index);
        let is_whole = begin < whole;
        let step = if is_whole { &mut votes[begin..begin + STEP] } else { &mut last[..] };
        let (front_votes, back_votes) = step.split_at_mut(PACKED);
        // SAFETY: the CPU has AVX-512 F, and both have sixteen votes.
        let added = unsafe { store(back, store(front, sums, front_votes), back_votes) };
        sums = if is_whole { added } else { sums };
        index = index.add(Four::splat(STEP as u64));
    }
    let halves = [_mm512_reduce_add_epi64(sums[0]) as u64, _mm512_reduce_add_epi64(sums[1]) as u64];
    let mut digest = Digest { votes: whole as u64, halves };
    let rest = &mut votes[whole..];
    rest.copy_from_slice(&last[..rest.len()]);
    digest.merge(Digest::of(rest));
    digest
}

/// The indices of a step's votes. Lane 4j + i of a packed vector is its vote 4i + j, so that the
/// unpacking by which votes are stored puts them in order.
#[inline]
#[target_feature(enable = "avx512f")]
fn indices(first: u32) -> Four {
    let mut lanes = [u64::from(first); STEP];
    for (place, index) in lanes.iter_mut().enumerate() {
        let (vector, half) = (place / 8, place % 8);
        let lane = 2 * half + vector % 2;
        let vote = 4 * (lane % 4) + lane / 4;
        *index += (vector / 2 * PACKED + vote) as u64;
    }
    Four::load(&lanes)
}

/// Agents, proposals and values (from the ballot's first) of both packed vectors of a step.
#[inline]
#[target_feature(enable = "avx512f")]
fn draw<const MIX: u8>(aim: &Aim<'_>, keys: &[[Four; 2]; 10], index: Four) -> [[__m512i; 4]; 2] {
    let origin = if MIX == DUPLICATES { origins(aim, index) } else { index };
    let counter = [origin, Four::splat(0), word(aim.key[0]), word(aim.key[1])];
    let [agents, proposals, ..] = philox(counter, keys);
    [place::<MIX>(aim, agents.0, proposals.0), place::<MIX>(aim, agents.1, proposals.1)]
}

/// What sixteen votes say, from the words that decide agent and proposal. A function of its own, as
/// a closure would not be compiled for AVX-512 where it is called from elsewhere.
#[inline]
#[target_feature(enable = "avx512f")]
fn place<const MIX: u8>(aim: &Aim<'_>, agents: Pair, proposals: Pair) -> [__m512i; 4] {
    let ballot = &aim.ballot;
    let agent = scaled([agents.0.0, agents.1.0], ballot.agents);
    let proposal = if MIX == ZIPF {
        ranks(aim, [proposals.0.0, proposals.1.0])
    } else {
        scaled([proposals.0.0, proposals.1.0], ballot.proposals)
    };
    let value =
        if MIX == SAME { _mm512_setzero_si512() } else { preferences(aim, agent, proposal) };
    [
        _mm512_add_epi32(agent, all(ballot.agent_first)),
        _mm512_add_epi32(proposal, all(ballot.proposal_first)),
        value,
        all(ballot.round),
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn all(word: u32) -> __m512i {
    _mm512_set1_epi32(word as i32)
}

/// The upper halves of the products of even and odd lanes with `bound`, packed.
#[inline]
#[target_feature(enable = "avx512f")]
fn scaled([even, odd]: [__m512i; 2], bound: u32) -> __m512i {
    let bound = _mm512_set1_epi64(i64::from(bound));
    let even = _mm512_srli_epi64::<32>(_mm512_mul_epu32(even, bound));
    _mm512_mask_blend_epi32(0xAAAA, even, _mm512_mul_epu32(odd, bound))
}

/// The ranks by Zipf's law that even and odd lanes draw, packed.
#[inline]
#[target_feature(enable = "avx512f")]
fn ranks(aim: &Aim<'_>, [even, odd]: [__m512i; 2]) -> __m512i {
    let words = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64::<32>(odd));
    let mut lanes = [0u32; PACKED];
    // SAFETY: sixteen words are written to as many, and read from there.
    unsafe {
        _mm512_storeu_si512(lanes.as_mut_ptr().cast(), words);
        lanes.iter_mut().for_each(|lane| *lane = aim.source.zipf.rank(*lane));
        _mm512_loadu_si512(lanes.as_ptr().cast())
    }
}

/// `Aim::preference` on packed lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn preferences(aim: &Aim<'_>, agent: __m512i, proposal: __m512i) -> __m512i {
    let (salt, values) = (all(aim.salt), aim.ballot.values);
    let spread = _mm512_mullo_epi32(proposal, all(0x9E37_79B1));
    let pair = _mm512_xor_si512(
        _mm512_mullo_epi32(agent, all(0x9E37_79B1)),
        _mm512_mullo_epi32(proposal, all(0x85EB_CA77)),
    );
    let hash = mixed(_mm512_xor_si512(pair, salt));
    let place = _mm512_add_epi32(spread, salt);
    let leading = scaled([place, _mm512_srli_epi64::<32>(place)], values);
    let own = _mm512_mullo_epi32(_mm512_srli_epi32::<16>(hash), all(values));
    let chance = _mm512_and_si512(hash, all(0xFFFF));
    let agrees = _mm512_cmplt_epu32_mask(chance, all(aim.source.agreement));
    _mm512_mask_blend_epi32(agrees, _mm512_srli_epi32::<16>(own), leading)
}

/// `votes::mixed` on packed lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn mixed(mut lanes: __m512i) -> __m512i {
    lanes = _mm512_xor_si512(lanes, _mm512_srli_epi32::<16>(lanes));
    lanes = _mm512_mullo_epi32(lanes, all(0x7FEB_352D));
    lanes = _mm512_xor_si512(lanes, _mm512_srli_epi32::<15>(lanes));
    lanes = _mm512_mullo_epi32(lanes, all(0x846C_A68B));
    _mm512_xor_si512(lanes, _mm512_srli_epi32::<16>(lanes))
}

/// Writes sixteen votes and adds their halves to `sums`.
///
/// # Safety
/// Needs AVX-512 F and sixteen votes.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(words: [__m512i; 4], sums: [__m512i; 2], votes: &mut [Vote]) -> [__m512i; 2] {
    let [agent, proposal, value, round] = words;
    let lower = [_mm512_unpacklo_epi32(agent, proposal), _mm512_unpackhi_epi32(agent, proposal)];
    let upper = [_mm512_unpacklo_epi32(value, round), _mm512_unpackhi_epi32(value, round)];
    let whole = [
        _mm512_unpacklo_epi64(lower[0], upper[0]),
        _mm512_unpackhi_epi64(lower[0], upper[0]),
        _mm512_unpacklo_epi64(lower[1], upper[1]),
        _mm512_unpackhi_epi64(lower[1], upper[1]),
    ];
    let target = votes.as_mut_ptr().cast::<__m512i>();
    for (place, four) in whole.iter().enumerate() {
        // SAFETY: the caller vouches for sixteen votes: four vectors.
        unsafe { _mm512_storeu_si512(target.add(place).cast(), *four) };
    }
    [
        _mm512_add_epi64(sums[0], _mm512_add_epi64(lower[0], lower[1])),
        _mm512_add_epi64(sums[1], _mm512_add_epi64(upper[0], upper[1])),
    ]
}
