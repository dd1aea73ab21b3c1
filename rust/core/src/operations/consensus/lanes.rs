//! The vector generator: sixteen votes side by side, the same bits as `Aim::vote`.
//!
//! One body is compiled for the plain target and for AVX2, and the best that the CPU has is chosen
//! when a component is built.

use super::parameters::Mix;
use super::votes::{Aim, Digest, SEQUENCE_MAX, Vote, scaled};
use crate::random::{MULTIPLIERS, WEYL};

const LANES: usize = 16;
type Lanes = [u32; LANES];

/// Writes the votes `first..first + votes.len()` of a batch and returns their digest.
pub type Fill = fn(&Aim<'_>, u32, &mut [Vote]) -> Digest;

const UNIFORM: u8 = Mix::Uniform as u8;
const ZIPF: u8 = Mix::Zipf as u8;
const SAME: u8 = Mix::Same as u8;
const BYZANTINE: u8 = Mix::Byzantine as u8;
const DUPLICATES: u8 = Mix::Duplicates as u8;

/// The generator of a mix on this CPU.
pub fn best(mix: Mix) -> Fill {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return match mix {
            Mix::Uniform => wide::<UNIFORM>,
            Mix::Zipf => wide::<ZIPF>,
            Mix::Same => wide::<SAME>,
            Mix::Byzantine => wide::<BYZANTINE>,
            Mix::Duplicates => wide::<DUPLICATES>,
        };
    }
    portable(mix)
}

/// The generator of a mix on any CPU.
pub fn portable(mix: Mix) -> Fill {
    match mix {
        Mix::Uniform => fill::<UNIFORM>,
        Mix::Zipf => fill::<ZIPF>,
        Mix::Same => fill::<SAME>,
        Mix::Byzantine => fill::<BYZANTINE>,
        Mix::Duplicates => fill::<DUPLICATES>,
    }
}

#[cfg(target_arch = "x86_64")]
fn wide<const MIX: u8>(aim: &Aim<'_>, first: u32, votes: &mut [Vote]) -> Digest {
    #[target_feature(enable = "avx2")]
    fn compiled<const MIX: u8>(aim: &Aim<'_>, first: u32, votes: &mut [Vote]) -> Digest {
        fill::<MIX>(aim, first, votes)
    }
    // SAFETY: `best` hands this function out only where AVX2 was detected.
    unsafe { compiled::<MIX>(aim, first, votes) }
}

#[inline(always)]
fn each(make: impl Fn(usize) -> u32) -> Lanes {
    std::array::from_fn(make)
}

#[inline(always)]
fn philox_lanes(mut counter: [Lanes; 4], mut key: [u32; 2]) -> [Lanes; 4] {
    for _ in 0..10 {
        let [c0, c1, c2, c3] = counter;
        counter = [
            each(|i| scaled(c2[i], MULTIPLIERS[1]) ^ c1[i] ^ key[0]),
            each(|i| c2[i].wrapping_mul(MULTIPLIERS[1])),
            each(|i| scaled(c0[i], MULTIPLIERS[0]) ^ c3[i] ^ key[1]),
            each(|i| c0[i].wrapping_mul(MULTIPLIERS[0])),
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

#[inline(always)]
fn fill<const MIX: u8>(aim: &Aim<'_>, first: u32, votes: &mut [Vote]) -> Digest {
    let mut sums = [[0u32; LANES]; 4];
    let whole = votes.len() / LANES * LANES;
    let (rows, rest) = votes.split_at_mut(whole);
    for (row, out) in rows.chunks_exact_mut(LANES).enumerate() {
        let words = draw::<MIX>(aim, first + (row * LANES) as u32);
        for (sum, word) in sums.iter_mut().zip(&words) {
            *sum = each(|i| sum[i].wrapping_add(word[i]));
        }
        for (i, vote) in out.iter_mut().enumerate() {
            *vote = Vote {
                agent: words[0][i],
                proposal: words[1][i],
                value: words[2][i] as u16,
                flags: (words[2][i] >> 16) as u16,
                round: words[3][i],
            };
        }
    }
    let mut digest = Digest {
        votes: whole as u64,
        words: sums.map(|sum| sum.iter().fold(0u32, |total, &part| total.wrapping_add(part))),
    };
    for (offset, vote) in rest.iter_mut().enumerate() {
        *vote = aim.vote(first + (whole + offset) as u32);
        digest.add(*vote);
    }
    digest
}

/// Votes `first..first + LANES` as their four words.
#[inline(always)]
fn draw<const MIX: u8>(aim: &Aim<'_>, first: u32) -> [Lanes; 4] {
    let ballot = &aim.ballot;
    let index = each(|i| first.wrapping_add(i as u32));
    let origin = if MIX == DUPLICATES { each(|i| aim.origin(index[i])) } else { index };
    let counter = [origin, [0; LANES], [aim.key[0]; LANES], [aim.key[1]; LANES]];
    let words = philox_lanes(counter, aim.source.stream);
    let agent = each(|i| scaled(words[0][i], ballot.agents));
    let proposal = if MIX == ZIPF {
        each(|i| aim.source.zipf.rank(words[1][i]))
    } else {
        each(|i| scaled(words[1][i], ballot.proposals))
    };
    let value =
        if MIX == SAME { [0; LANES] } else { each(|i| aim.preference(agent[i], proposal[i])) };
    let sent = [
        each(|i| ballot.agent_first.wrapping_add(agent[i])),
        each(|i| ballot.proposal_first.wrapping_add(proposal[i])),
        value,
        [ballot.round; LANES],
    ];
    if MIX == BYZANTINE { misbehave(aim, agent, &words, sent) } else { sent }
}

#[inline(always)]
fn misbehave(aim: &Aim<'_>, agent: Lanes, words: &[Lanes; 4], sent: [Lanes; 4]) -> [Lanes; 4] {
    let ballot = &aim.ballot;
    let kind = each(|i| {
        let kind = ((words[3][i] >> 16) * 3) >> 16;
        if agent[i] < aim.source.faulty { kind } else { 3 }
    });
    let other = each(|i| {
        let sequence = (words[3][i] & u32::from(SEQUENCE_MAX)) << 16;
        scaled(words[2][i], ballot.values) | sequence
    });
    [
        each(|i| sent[0][i].wrapping_add(if kind[i] == 1 { ballot.agents } else { 0 })),
        sent[1],
        each(|i| if kind[i] == 0 { other[i] } else { sent[2][i] }),
        each(|i| sent[3][i].wrapping_add(u32::from(kind[i] == 2))),
    ]
}

/// Writes the scores of the agents `first * 4 ..` of an election: four per Philox block.
#[inline(always)]
fn scores_body(stream: [u32; 2], key: [u32; 2], first: u32, scores: &mut [u32]) {
    for (row, out) in scores.chunks_mut(4 * LANES).enumerate() {
        let start = first + (row * LANES) as u32;
        let block = each(|i| start.wrapping_add(i as u32));
        let counter = [block, [0; LANES], [key[0]; LANES], [key[1]; LANES]];
        let words = philox_lanes(counter, stream);
        for (position, score) in out.iter_mut().enumerate() {
            *score = words[position % 4][position / 4];
        }
    }
}

/// Writes scores of candidates; arguments: stream, request key, first block, scores.
pub type Score = fn([u32; 2], [u32; 2], u32, &mut [u32]);

/// The scorer of this CPU.
pub fn best_score() -> Score {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return |stream, key, first, scores| {
            #[target_feature(enable = "avx2")]
            fn compiled(stream: [u32; 2], key: [u32; 2], first: u32, scores: &mut [u32]) {
                scores_body(stream, key, first, scores);
            }
            // SAFETY: this closure is handed out only where AVX2 was detected.
            unsafe { compiled(stream, key, first, scores) }
        };
    }
    scores_body
}

#[cfg(test)]
mod tests {
    use super::super::parameters::Ballot;
    use super::super::tests::{MIXES, parameters};
    use super::super::votes::Source;
    use super::*;

    #[test]
    fn every_path_gives_the_votes_of_the_definition() {
        for mix in MIXES {
            let parameters = parameters(mix);
            let source = Source::new(&parameters, 11);
            for key in [0, 3, 5 << 48 | 9_999] {
                let aim = source.aim(Ballot::of(&parameters, key), key);
                for (first, length) in [(0, 1), (0, 16), (7, 100), (1 << 20, 1000)] {
                    let expected: Vec<Vote> =
                        (0..length).map(|offset| aim.vote(first + offset)).collect();
                    for path in [best(mix), portable(mix)] {
                        let mut votes = vec![Vote::default(); length as usize];
                        let digest = path(&aim, first, &mut votes);
                        assert_eq!(votes, expected, "{mix:?} {first} {length}");
                        assert_eq!(digest, Digest::of(&expected));
                    }
                }
            }
        }
    }

    #[test]
    fn scores_are_the_words_of_successive_blocks() {
        let mut fast = vec![0; 300];
        let mut plain = vec![0; 300];
        best_score()([1, 2], [3, 4], 5, &mut fast);
        scores_body([1, 2], [3, 4], 5, &mut plain);
        let defined: Vec<u32> =
            (0..75).flat_map(|block| crate::random::philox([5 + block, 0, 3, 4], [1, 2])).collect();
        assert_eq!(fast, defined);
        assert_eq!(plain, defined);
    }
}
