//! Votes, and the plain generator: vote `index` of a request is a pure function of (seed, key,
//! index), one Philox block each.

use super::parameters::{Ballot, Mix, Parameters, per_65536};
use super::zipf::Zipf;
use crate::random::{philox, stream_key};

pub const DOMAIN_VOTES: u64 = 0x636F_6E73_0000_0001;

/// Flags above this are malformed; below it they are the sender's own sequence number.
pub const SEQUENCE_MAX: u16 = 0x7FFF;

/// One vote, 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    pub agent: u32,
    pub proposal: u32,
    pub value: u16,
    /// The sender's sequence number: the lowest one is the agent's first vote.
    pub flags: u16,
    pub round: u32,
}

impl Vote {
    /// A vote of its 16 bytes as two little-endian halves.
    #[inline(always)]
    pub fn from_halves(lower: u64, upper: u64) -> Self {
        Self {
            agent: lower as u32,
            proposal: (lower >> 32) as u32,
            value: upper as u16,
            flags: (upper >> 16) as u16,
            round: (upper >> 32) as u32,
        }
    }

    /// The inverse of `from_halves`.
    #[inline(always)]
    pub fn halves(self) -> [u64; 2] {
        let word = u64::from(self.value) | u64::from(self.flags) << 16;
        [u64::from(self.agent) | u64::from(self.proposal) << 32, word | u64::from(self.round) << 32]
    }
}

/// Sums of a batch's halves, which any lost, doubled or altered vote changes.
///
/// Addition commutes, so the digest depends neither on order nor on how a batch is split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    pub votes: u64,
    pub halves: [u64; 2],
}

impl Digest {
    #[inline(always)]
    pub fn add(&mut self, vote: Vote) {
        self.merge(Self { votes: 1, halves: vote.halves() });
    }

    /// Adds the digest of another part of the batch.
    #[inline(always)]
    pub fn merge(&mut self, other: Self) {
        self.votes += other.votes;
        for (sum, part) in self.halves.iter_mut().zip(other.halves) {
            *sum = sum.wrapping_add(part);
        }
    }

    pub fn of(votes: &[Vote]) -> Self {
        let mut digest = Self::default();
        votes.iter().for_each(|&vote| digest.add(vote));
        digest
    }
}

/// The upper half of a 64-bit product: uniform in `0..bound` for a uniform word.
#[inline(always)]
pub fn scaled(word: u32, bound: u32) -> u32 {
    ((u64::from(word) * u64::from(bound)) >> 32) as u32
}

/// A 32-bit finaliser without fixed weak bits ("lowbias32", Wellons, hash-prospector, 2018).
#[inline(always)]
pub fn mixed(mut word: u32) -> u32 {
    word = (word ^ (word >> 16)).wrapping_mul(0x7FEB_352D);
    word = (word ^ (word >> 15)).wrapping_mul(0x846C_A68B);
    word ^ (word >> 16)
}

/// What votes of a component are drawn with: decided when it is built.
pub struct Source {
    pub stream: [u32; 2],
    pub mix: Mix,
    /// Pairs in 65 536 that agree with the leading value.
    pub agreement: u32,
    pub faulty: u32,
    /// Votes in 65 536 that are sent for the first time.
    pub first_sent: u32,
    pub zipf: Zipf,
}

/// A `Source` aimed at one request.
#[derive(Clone, Copy)]
pub struct Aim<'a> {
    pub source: &'a Source,
    pub ballot: Ballot,
    pub key: [u32; 2],
    /// Makes the preferences of this request its own.
    pub salt: u32,
}

impl Source {
    pub fn new(parameters: &Parameters, seed: u64) -> Self {
        let repeated = match parameters.mix {
            Mix::Duplicates => per_65536(parameters.duplicates),
            _ => 0,
        };
        let ranks = if parameters.mix == Mix::Zipf { parameters.proposals } else { 1 };
        Self {
            stream: stream_key(seed, DOMAIN_VOTES),
            mix: parameters.mix,
            agreement: per_65536(parameters.agreement),
            faulty: if parameters.mix == Mix::Byzantine { parameters.faulty() } else { 0 },
            first_sent: 65_536 - repeated,
            zipf: Zipf::new(ranks),
        }
    }

    pub fn aim(&self, ballot: Ballot, key: u64) -> Aim<'_> {
        let words = [key as u32, (key >> 32) as u32];
        let salt = mixed(words[0] ^ mixed(words[1].wrapping_add(0x9E37_79B9)));
        Aim { source: self, ballot, key: words, salt }
    }
}

impl Aim<'_> {
    /// The index whose draw vote `index` sends: its own, or an earlier one where it repeats it.
    ///
    /// First-sent votes are spread evenly over the batch; a repeat picks any of those before it.
    #[inline(always)]
    pub fn origin(&self, index: u32) -> u32 {
        let kept = u64::from(self.source.first_sent);
        let before = ((u64::from(index) * kept + 65_535) >> 16) as u32;
        let after = (((u64::from(index) + 1) * kept + 65_535) >> 16) as u32;
        if after > before { before } else { scaled(mixed(index ^ self.salt), before) }
    }

    /// What an honest agent votes on a proposal: always the same within one request.
    #[inline(always)]
    pub fn preference(&self, agent: u32, proposal: u32) -> u32 {
        let values = self.ballot.values;
        let pair = agent.wrapping_mul(0x9E37_79B1) ^ proposal.wrapping_mul(0x85EB_CA77);
        let hash = mixed(pair ^ self.salt);
        let leading = scaled(proposal.wrapping_mul(0x9E37_79B1).wrapping_add(self.salt), values);
        let own = ((hash >> 16) * values) >> 16;
        if (hash & 0xFFFF) < self.source.agreement { leading } else { own }
    }

    /// Vote `index` of the batch, one at a time: the definition that the vector path must meet.
    pub fn vote(&self, index: u32) -> Vote {
        let origin = match self.source.mix {
            Mix::Duplicates => self.origin(index),
            _ => index,
        };
        let words = philox([origin, 0, self.key[0], self.key[1]], self.source.stream);
        let agent = scaled(words[0], self.ballot.agents);
        let proposal = match self.source.mix {
            Mix::Zipf => self.source.zipf.rank(words[1]),
            _ => scaled(words[1], self.ballot.proposals),
        };
        let value = match self.source.mix {
            Mix::Same => 0,
            _ => self.preference(agent, proposal),
        };
        let mut vote = Vote {
            agent: self.ballot.agent_first.wrapping_add(agent),
            proposal: self.ballot.proposal_first.wrapping_add(proposal),
            value: value as u16,
            flags: 0,
            round: self.ballot.round,
        };
        if agent < self.source.faulty {
            self.misbehave(&mut vote, words);
        }
        vote
    }

    /// One third each: another value under a random sequence number, an agent of another group,
    /// the next round.
    fn misbehave(&self, vote: &mut Vote, words: [u32; 4]) {
        match ((words[3] >> 16) * 3) >> 16 {
            0 => {
                vote.value = scaled(words[2], self.ballot.values) as u16;
                vote.flags = words[3] as u16 & SEQUENCE_MAX;
            }
            1 => vote.agent = vote.agent.wrapping_add(self.ballot.agents),
            _ => vote.round = vote.round.wrapping_add(1),
        }
    }
}
