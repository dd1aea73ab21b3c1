//! The first look at votes: which are valid and plain, and the ticket of each of those.
//!
//! A ticket is (cell << 8 | code), with the cell counted over all proposals: all that the ballot
//! box must know of a vote with sequence number 0 for a value that has a code.

use super::cells::CODES;
use super::parameters::Ballot;
use super::votes::{Digest, Vote};
use crate::operations::instructions::InstructionSet;

/// Votes looked at in one go; their tickets stay in the first-level cache.
pub const VOTES: usize = 256;
/// Bits of a ticket's code.
pub const CODE_BITS: u32 = 8;

/// What plain votes are told by.
#[derive(Clone, Copy)]
pub struct Screen {
    pub ballot: Ballot,
    /// Bits of an agent in a cell's number.
    pub stride: u32,
}

/// What was found among up to `VOTES` votes.
pub struct Screened {
    tickets: [u64; VOTES],
    plain: usize,
    others: [u64; VOTES],
    other: usize,
}

/// Sorts up to `VOTES` votes into tickets and others, and returns their digest; asks for the memory
/// of as many of the votes after them that are given.
pub type Screener = fn(&Screen, &[Vote], &[Vote], &mut Screened) -> Digest;

impl Default for Screened {
    fn default() -> Self {
        Self { tickets: [0; VOTES], plain: 0, others: [0; VOTES], other: 0 }
    }
}

impl Screened {
    pub fn tickets(&self) -> &[u64] {
        &self.tickets[..self.plain]
    }

    /// Indices of the votes that are invalid, or need more than a ticket.
    pub fn others(&self) -> impl Iterator<Item = usize> + '_ {
        self.others[..self.other].iter().map(|&index| index as usize)
    }

    fn clear(&mut self) {
        (self.plain, self.other) = (0, 0);
    }
}

impl Screen {
    /// The values whose votes are plain.
    fn codes(&self) -> u32 {
        self.ballot.values.min(CODES)
    }

    /// Looks at `votes`, of which the first has the given index, without a branch on any of them.
    #[inline(always)]
    fn look(&self, first: usize, votes: &[Vote], found: &mut Screened) -> Digest {
        let Ballot { agent_first, agents, proposal_first, proposals, round, .. } = self.ballot;
        let codes = self.codes();
        let mut digest = Digest::default();
        for (index, &vote) in (first..VOTES).zip(votes) {
            digest.add(vote);
            let agent = vote.agent.wrapping_sub(agent_first);
            let proposal = vote.proposal.wrapping_sub(proposal_first);
            let word = u32::from(vote.value) | u32::from(vote.flags) << 16;
            let plain =
                (agent < agents) & (proposal < proposals) & (word < codes) & (vote.round == round);
            let cell = u64::from(proposal) << self.stride | u64::from(agent);
            found.tickets[found.plain] = cell << CODE_BITS | (u64::from(word) + 1);
            found.others[found.other] = index as u64;
            found.plain += usize::from(plain);
            found.other += usize::from(!plain);
        }
        digest
    }
}

/// The screener of this CPU.
pub fn best() -> Screener {
    match InstructionSet::best() {
        #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
        InstructionSet::Avx512 | InstructionSet::Avx512Vnni => avx512::screen,
        _ => plain,
    }
}

/// The screener of any CPU.
pub fn plain(screen: &Screen, votes: &[Vote], _: &[Vote], found: &mut Screened) -> Digest {
    assert!(votes.len() <= VOTES);
    found.clear();
    let mut digest = screen.look(0, votes, found);
    digest.votes = votes.len() as u64;
    digest
}

#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
#[allow(clippy::incompatible_msrv, reason = "compiled only where build.rs found them stable")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{CODE_BITS, Digest, Screen, Screened, VOTES, Vote};
    use crate::operations::pages::prefetch;

    /// Votes of a step: two vectors of four.
    const STEP: usize = 8;

    pub fn screen(screen: &Screen, votes: &[Vote], ahead: &[Vote], found: &mut Screened) -> Digest {
        // SAFETY: `best` hands this function out only where AVX-512 F was detected.
        unsafe { screen_steps(screen, votes, ahead, found) }
    }

    /// # Safety
    /// Needs AVX-512 F and the counting of bits.
    #[target_feature(enable = "avx512f,popcnt")]
    unsafe fn screen_steps(
        screen: &Screen,
        votes: &[Vote],
        ahead: &[Vote],
        found: &mut Screened,
    ) -> Digest {
        assert!(votes.len() <= VOTES);
        found.clear();
        let all = |word: u64| _mm512_set1_epi64(word as i64);
        let both = |low: u32, high: u32| all(u64::from(low) | u64::from(high) << 32);
        let ballot = &screen.ballot;
        let first = both(ballot.agent_first, ballot.proposal_first);
        let (agents, proposals) = (both(ballot.agents, 0), both(0, ballot.proposals));
        let (codes, round) = (both(screen.codes(), 0), both(0, ballot.round));
        let stride = _mm_cvtsi32_si128(screen.stride as i32);
        // The vote of each lane, once the halves of two vectors were unpacked from each other.
        let mut index = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
        let mut sums = [_mm512_setzero_si512(); 2];
        for (step, eight) in votes.chunks_exact(STEP).enumerate() {
            prefetch(ahead, step * STEP);
            prefetch(ahead, step * STEP + STEP / 2);
            let source: *const __m512i = eight.as_ptr().cast();
            // SAFETY: eight votes are two vectors.
            let (front, back) =
                unsafe { (_mm512_loadu_si512(source), _mm512_loadu_si512(source.add(1))) };
            let lower = _mm512_unpacklo_epi64(front, back);
            let upper = _mm512_unpackhi_epi64(front, back);
            sums = [_mm512_add_epi64(sums[0], lower), _mm512_add_epi64(sums[1], upper)];

            let place = _mm512_sub_epi32(lower, first);
            let agent = _mm512_and_si512(place, both(u32::MAX, 0));
            let value = _mm512_sub_epi64(upper, round);
            // As one number a vote's upper half is below the codes only if its round is right and
            // its sequence number 0.
            let fits = _mm512_cmplt_epu64_mask(value, codes);
            let fits = _mm512_mask_cmplt_epu64_mask(fits, place, proposals);
            let fits = _mm512_mask_cmplt_epu64_mask(fits, agent, agents);
            let proposal = _mm512_sll_epi64(_mm512_srli_epi64::<32>(place), stride);
            let cell = _mm512_slli_epi64::<CODE_BITS>(_mm512_or_si512(proposal, agent));
            let ticket = _mm512_add_epi64(cell, _mm512_add_epi64(value, all(1)));
            let target = &mut found.tickets[found.plain..found.plain + STEP];
            let packed = _mm512_maskz_compress_epi64(fits, ticket);
            // SAFETY: the target is as long as the vector.
            unsafe { _mm512_storeu_si512(target.as_mut_ptr().cast(), packed) };
            found.plain += fits.count_ones() as usize;
            let target = &mut found.others[found.other..found.other + STEP];
            let packed = _mm512_maskz_compress_epi64(!fits, index);
            // SAFETY: the target is as long as the vector.
            unsafe { _mm512_storeu_si512(target.as_mut_ptr().cast(), packed) };
            found.other += STEP - fits.count_ones() as usize;
            index = _mm512_add_epi64(index, all(STEP as u64));
        }
        let whole = votes.len() / STEP * STEP;
        let mut digest = screen.look(whole, &votes[whole..], found);
        digest.votes = votes.len() as u64;
        for (half, sum) in digest.halves.iter_mut().zip(sums) {
            *half = half.wrapping_add(_mm512_reduce_add_epi64(sum) as u64);
        }
        digest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Words close to a bound, on both sides of it, and anywhere.
    fn near(bound: u32) -> impl Strategy<Value = u32> {
        prop_oneof![4 => (0u32..5).prop_map(move |off| bound.wrapping_add(off).wrapping_sub(3)),
            1 => any::<u32>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn votes_that_are_not_plain_get_no_ticket(
            (agents, proposals, values) in (1u32..9, 1u32..5, prop_oneof![1u32..4, Just(300)]),
            words in proptest::collection::vec(
                (near(9003), near(2003), near(3), near(u32::MAX)), 0..VOTES,
            ),
        ) {
            let ballot = Ballot {
                agent_first: 9000, agents, proposal_first: 2000, proposals, values, round: u32::MAX,
            };
            let screen = Screen { ballot, stride: 3 };
            let vote = |&(agent, proposal, word, round): &(u32, u32, u32, u32)| Vote {
                agent, proposal, value: word as u16, flags: (word >> 16) as u16, round,
            };
            let votes: Vec<Vote> = words.iter().map(vote).collect();
            let (mut tickets, mut others) = (Vec::new(), Vec::new());
            for (index, vote) in votes.iter().enumerate() {
                let agent = vote.agent.wrapping_sub(9000);
                let proposal = vote.proposal.wrapping_sub(2000);
                let is_plain = agent < agents && proposal < proposals && vote.flags == 0
                    && u32::from(vote.value) < values.min(254) && vote.round == u32::MAX;
                if is_plain {
                    let cell = u64::from(proposal << 3 | agent);
                    tickets.push(cell << 8 | (u64::from(vote.value) + 1));
                } else {
                    others.push(index);
                }
            }
            tickets.sort_unstable();
            for screener in [best(), plain] {
                let mut found = Screened::default();
                prop_assert_eq!(screener(&screen, &votes, &[], &mut found), Digest::of(&votes));
                let mut sorted = found.tickets().to_vec();
                sorted.sort_unstable();
                prop_assert_eq!(&sorted, &tickets);
                let mut sorted: Vec<usize> = found.others().collect();
                sorted.sort_unstable();
                prop_assert_eq!(&sorted, &others);
            }
        }
    }
}
