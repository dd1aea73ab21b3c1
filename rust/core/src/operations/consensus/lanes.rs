//! The vector generator: the same bits as `Aim::vote`, several votes side by side.
//!
//! One body is compiled for each kind of vector, and the widest that the CPU has is chosen when a
//! component is built.

#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
use super::packed;
use super::parameters::Mix;
use super::vector::{Plain, Two, Vector};
use super::votes::{Aim, Digest, SEQUENCE_MAX, Vote};
use crate::operations::instructions::InstructionSet;
use crate::random::{MULTIPLIERS, WEYL};

/// Lanes of the widest group of vectors.
const LANES_MAX: usize = 32;

/// Writes the votes `first..first + votes.len()` of a batch and returns their digest.
pub type Fill = fn(&Aim<'_>, u32, &mut [Vote]) -> Digest;

/// Writes scores of candidates, four per Philox block; arguments: stream, request key, first block.
pub type Score = fn([u32; 2], [u32; 2], u32, &mut [u32]);

const UNIFORM: u8 = Mix::Uniform as u8;
pub const ZIPF: u8 = Mix::Zipf as u8;
pub const SAME: u8 = Mix::Same as u8;
const BYZANTINE: u8 = Mix::Byzantine as u8;
pub const DUPLICATES: u8 = Mix::Duplicates as u8;

macro_rules! by_mix {
    ($mix:expr, $path:ident) => {
        match $mix {
            Mix::Uniform => $path::<UNIFORM>,
            Mix::Zipf => $path::<ZIPF>,
            Mix::Same => $path::<SAME>,
            Mix::Byzantine => $path::<BYZANTINE>,
            Mix::Duplicates => $path::<DUPLICATES>,
        }
    };
}

/// The generator of a mix on this CPU.
pub fn best(mix: Mix) -> Fill {
    match InstructionSet::best() {
        InstructionSet::Portable => portable(mix),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => by_mix!(mix, fill_avx2),
        #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
        InstructionSet::Avx512 | InstructionSet::Avx512Vnni => match mix {
            Mix::Byzantine => fill_avx512::<BYZANTINE>,
            Mix::Uniform => packed::fill::<UNIFORM>,
            Mix::Zipf => packed::fill::<ZIPF>,
            Mix::Same => packed::fill::<SAME>,
            Mix::Duplicates => packed::fill::<DUPLICATES>,
        },
    }
}

/// The generator of a mix on any CPU.
pub fn portable(mix: Mix) -> Fill {
    by_mix!(mix, fill_plain)
}

/// The scorer of this CPU.
pub fn best_score() -> Score {
    match InstructionSet::best() {
        InstructionSet::Portable => score::<Plain>,
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => score_avx2,
        #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
        InstructionSet::Avx512 | InstructionSet::Avx512Vnni => score_avx512,
    }
}

fn fill_plain<const MIX: u8>(aim: &Aim<'_>, first: u32, votes: &mut [Vote]) -> Digest {
    fill::<Plain, MIX>(aim, first, votes)
}

/// Compiles the body for a kind of vector; for use where its feature was detected.
macro_rules! compiled {
    ($fill:ident, $score:ident, $vector:ident, $feature:literal) => {
        fn $fill<const MIX: u8>(aim: &Aim<'_>, first: u32, votes: &mut [Vote]) -> Digest {
            #[target_feature(enable = $feature)]
            unsafe fn body<const MIX: u8>(aim: &Aim<'_>, first: u32, votes: &mut [Vote]) -> Digest {
                fill::<Two<Two<super::vector::$vector>>, MIX>(aim, first, votes)
            }
            // SAFETY: `best` hands this function out only where the feature was detected.
            unsafe { body::<MIX>(aim, first, votes) }
        }

        fn $score(stream: [u32; 2], key: [u32; 2], first: u32, scores: &mut [u32]) {
            #[target_feature(enable = $feature)]
            unsafe fn body(stream: [u32; 2], key: [u32; 2], first: u32, scores: &mut [u32]) {
                score::<Two<super::vector::$vector>>(stream, key, first, scores);
            }
            // SAFETY: `best_score` hands this function out only where the feature was detected.
            unsafe { body(stream, key, first, scores) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(fill_avx2, score_avx2, Avx2, "avx2");
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
compiled!(fill_avx512, score_avx512, Avx512, "avx512f");

#[inline(always)]
pub fn word<V: Vector>(value: u32) -> V {
    V::splat(u64::from(value))
}

#[inline(always)]
fn low<V: Vector>(lanes: V) -> V {
    lanes.and(V::splat(0xFFFF_FFFF))
}

/// The words `first, first + 1, ...`.
#[inline(always)]
fn successive<V: Vector>(first: u32) -> V {
    let lanes: [u64; LANES_MAX] = std::array::from_fn(|lane| u64::from(first) + lane as u64);
    V::load(&lanes[..V::LANES])
}

/// The keys of Philox's ten rounds.
///
/// No closure goes through a function of the library: where the compiler keeps that one apart, it
/// is for any machine, and each instruction for vectors becomes a call.
#[inline(always)]
pub fn round_keys<V: Vector>(mut key: [u32; 2]) -> [[V; 2]; 10] {
    let mut keys = [[V::splat(0); 2]; 10];
    for lanes in &mut keys {
        *lanes = [word(key[0]), word(key[1])];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    keys
}

/// Philox4x32-10; the upper halves of counters and results mean nothing.
///
/// Written out: as a loop, the compiler kept it one and drew the keys anew in each round.
#[inline(always)]
pub fn philox<V: Vector>(counter: [V; 4], keys: &[[V; 2]; 10]) -> [V; 4] {
    let [k0, k1, k2, k3, k4, k5, k6, k7, k8, k9] = *keys;
    let half = round(round(round(round(round(counter, k0), k1), k2), k3), k4);
    round(round(round(round(round(half, k5), k6), k7), k8), k9)
}

#[inline(always)]
fn round<V: Vector>(counter: [V; 4], key: [V; 2]) -> [V; 4] {
    let products = [counter[0].mul(word(MULTIPLIERS[0])), counter[2].mul(word(MULTIPLIERS[1]))];
    [
        products[1].shift_right::<32>().xor(counter[1].xor(key[0])),
        products[1],
        products[0].shift_right::<32>().xor(counter[3].xor(key[1])),
        products[0],
    ]
}

/// One vote per lane as its two halves: agent and proposal; value, flags and round.
#[inline(always)]
fn fill<V: Vector, const MIX: u8>(aim: &Aim<'_>, first: u32, votes: &mut [Vote]) -> Digest {
    let mut digest = Digest { votes: votes.len() as u64, halves: [0; 2] };
    let mut sums = [V::splat(0); 2];
    let keys = round_keys(aim.source.stream);
    let mut rows = votes.chunks_exact_mut(V::LANES);
    let mut index = successive::<V>(first);
    for row in rows.by_ref() {
        let halves = halves(draw::<V, MIX>(aim, &keys, index));
        sums = [sums[0].add(halves[0]), sums[1].add(halves[1])];
        V::store(halves[0], halves[1], row);
        index = index.add(V::splat(V::LANES as u64));
    }
    for (total, sum) in digest.halves.iter_mut().zip(sums) {
        let mut lanes = [0; LANES_MAX];
        sum.unload(&mut lanes[..V::LANES]);
        *total = lanes.into_iter().fold(0, u64::wrapping_add);
    }
    let rest = rows.into_remainder();
    if !rest.is_empty() {
        let mut row = [Vote::default(); LANES_MAX];
        let halves = halves(draw::<V, MIX>(aim, &keys, index));
        V::store(halves[0], halves[1], &mut row[..V::LANES]);
        rest.copy_from_slice(&row[..rest.len()]);
        digest.merge(Digest { votes: 0, ..Digest::of(rest) });
    }
    digest
}

/// Four words, upper halves zero, as the two halves of 16 bytes.
#[inline(always)]
fn halves<V: Vector>(words: [V; 4]) -> [V; 2] {
    let [agent, proposal, word, round] = words;
    [agent.add(proposal.shift_left::<32>()), word.add(round.shift_left::<32>())]
}

/// The votes of these indices as their four words, upper halves zero.
#[inline(always)]
fn draw<V: Vector, const MIX: u8>(aim: &Aim<'_>, keys: &[[V; 2]; 10], index: V) -> [V; 4] {
    let ballot = &aim.ballot;
    let origin = if MIX == DUPLICATES { origins(aim, index) } else { index };
    let counter = [origin, V::splat(0), word(aim.key[0]), word(aim.key[1])];
    let words = philox(counter, keys);
    let agent = words[0].mul(word(ballot.agents)).shift_right::<32>();
    let proposal = if MIX == ZIPF {
        let mut lanes = [0; LANES_MAX];
        words[1].unload(&mut lanes[..V::LANES]);
        for lane in &mut lanes[..V::LANES] {
            *lane = u64::from(aim.source.zipf.rank(*lane as u32));
        }
        V::load(&lanes[..V::LANES])
    } else {
        words[1].mul(word(ballot.proposals)).shift_right::<32>()
    };
    let value = if MIX == SAME { V::splat(0) } else { preferences(aim, agent, proposal) };
    let sent = [
        agent.add(word(ballot.agent_first)),
        proposal.add(word(ballot.proposal_first)),
        value,
        word(ballot.round),
    ];
    if MIX == BYZANTINE { misbehave(aim, agent, words, sent) } else { sent }
}

/// `mixed` on lanes whose upper halves are zero, and stay so.
#[inline(always)]
fn mixed<V: Vector>(mut lanes: V) -> V {
    lanes = lanes.xor(lanes.shift_right::<16>()).mul_low(word(0x7FEB_352D));
    lanes = lanes.xor(lanes.shift_right::<15>()).mul_low(word(0x846C_A68B));
    lanes.xor(lanes.shift_right::<16>())
}

/// `Aim::origin` on lanes.
#[inline(always)]
pub fn origins<V: Vector>(aim: &Aim<'_>, index: V) -> V {
    let kept = word::<V>(aim.source.first_sent);
    let scaled = index.mul(kept).add(V::splat(65_535));
    let (before, after) = (scaled.shift_right::<16>(), scaled.add(kept).shift_right::<16>());
    let earlier = mixed(index.xor(word(aim.salt))).mul(before).shift_right::<32>();
    before.below(after, before, earlier)
}

/// `Aim::preference` on lanes.
#[inline(always)]
fn preferences<V: Vector>(aim: &Aim<'_>, agent: V, proposal: V) -> V {
    let (salt, values) = (word::<V>(aim.salt), word::<V>(aim.ballot.values));
    let spread = word::<V>(0x9E37_79B1);
    let pair = agent.mul_low(spread).xor(proposal.mul_low(word(0x85EB_CA77)));
    let hash = mixed(pair.xor(salt));
    let leading = proposal.mul(spread).add(salt).mul(values).shift_right::<32>();
    let own = hash.shift_right::<16>().mul(values).shift_right::<16>();
    hash.and(V::splat(0xFFFF)).below(word(aim.source.agreement), leading, own)
}

/// `Aim::misbehave` on lanes; `words` may have anything in their upper halves.
#[inline(always)]
fn misbehave<V: Vector>(aim: &Aim<'_>, agent: V, words: [V; 4], sent: [V; 4]) -> [V; 4] {
    let zero = V::splat(0);
    let drawn = low(words[3]).shift_right::<16>().mul(word(3)).shift_right::<16>();
    let kind = agent.below(word(aim.source.faulty), drawn, word(3));
    let sequence = words[3].and(word(u32::from(SEQUENCE_MAX))).shift_left::<16>();
    let other = words[2].mul(word(aim.ballot.values)).shift_right::<32>().xor(sequence);
    let above_forged = kind.below(word(2), word(aim.ballot.agents), zero);
    let forged = kind.below(word(1), zero, above_forged);
    let above_late = kind.below(word(3), word(1), zero);
    let late = kind.below(word(2), zero, above_late);
    [low(sent[0].add(forged)), sent[1], kind.below(word(1), other, sent[2]), low(sent[3].add(late))]
}

#[inline(always)]
fn score<V: Vector>(stream: [u32; 2], key: [u32; 2], first: u32, scores: &mut [u32]) {
    let mut row = [Vote::default(); LANES_MAX];
    let row = &mut row[..V::LANES];
    let keys = round_keys(stream);
    let mut index = successive::<V>(first);
    for out in scores.chunks_mut(4 * V::LANES) {
        let counter = [index, V::splat(0), word(key[0]), word(key[1])];
        let [first, second, third, fourth] = philox(counter, &keys);
        let halves = halves([low(first), low(second), low(third), low(fourth)]);
        V::store(halves[0], halves[1], row);
        for (two, half) in out.chunks_mut(2).zip(row.iter().flat_map(|block| block.halves())) {
            let scores = [half as u32, (half >> 32) as u32];
            two.copy_from_slice(&scores[..two.len()]);
        }
        index = index.add(V::splat(V::LANES as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::super::parameters::Ballot;
    use super::super::tests::{MIXES, parameters};
    use super::super::votes::Source;
    use super::*;

    fn paths(mix: Mix) -> Vec<Fill> {
        let mut paths = vec![best(mix), portable(mix)];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            paths.push(by_mix!(mix, fill_avx2));
        }
        paths
    }

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
                    for path in paths(mix) {
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
        score::<Plain>([1, 2], [3, 4], 5, &mut plain);
        let defined: Vec<u32> =
            (0..75).flat_map(|block| crate::random::philox([5 + block, 0, 3, 4], [1, 2])).collect();
        assert_eq!(fast, defined);
        assert_eq!(plain, defined);
    }
}
