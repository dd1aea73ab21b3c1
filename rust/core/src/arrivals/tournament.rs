//! The earliest of up to 64 lanes, and the next one after it, in six comparisons.

use super::FOREVER;

/// Lanes that one tournament can hold.
pub const LANES_MAX: usize = 64;
const LANE_BITS: u32 = LANES_MAX.trailing_zeros();

/// A lane's due moment and its number as one ordered word: whoever is earlier wins, and of two
/// that are due at once the lower number. Moments from 9 years on count as never.
#[inline]
fn key(due: u64, lane: usize) -> u64 {
    due.min(FOREVER >> LANE_BITS) << LANE_BITS | lane as u64
}

/// A tree of losers (Knuth, The Art of Computer Programming, vol. 3, section 5.4.1): each node
/// keeps the later of the two that met there, the earliest of all is the winner.
pub struct Tournament {
    losers: [u64; LANES_MAX],
    winner: u64,
    lanes: usize,
}

impl Tournament {
    /// A tournament in which nobody is ever due; 1 to `LANES_MAX` lanes.
    pub fn new(lanes: usize) -> Self {
        assert!((1..=LANES_MAX).contains(&lanes), "{lanes} lanes");
        let mut tree = Self { losers: [0; LANES_MAX], winner: 0, lanes };
        tree.rebuild(|_| FOREVER);
        tree
    }

    /// Plays all games again.
    pub fn rebuild(&mut self, due: impl Fn(usize) -> u64) {
        let mut winners = [u64::MAX; 2 * LANES_MAX];
        for lane in 0..self.lanes {
            winners[LANES_MAX + lane] = key(due(lane), lane);
        }
        for node in (1..LANES_MAX).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            winners[node] = left.min(right);
            self.losers[node] = left.max(right);
        }
        self.winner = winners[1];
    }

    /// The winner's lane, and when it is due: `FOREVER` where nobody ever is.
    #[inline]
    pub fn winner(&self) -> (usize, u64) {
        let due = self.winner >> LANE_BITS;
        let due = if due == FOREVER >> LANE_BITS { FOREVER } else { due };
        (self.winner as usize % LANES_MAX, due)
    }

    /// Plays the games of the winner's lane again, which is due at `due` now.
    #[inline]
    pub fn replay(&mut self, due: u64) {
        let lane = self.winner as usize % LANES_MAX;
        let mut winner = key(due, lane);
        for level in 1..=LANE_BITS {
            let loser = &mut self.losers[(LANES_MAX + lane) >> level];
            (winner, *loser) = (winner.min(*loser), winner.max(*loser));
        }
        self.winner = winner;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn the_winner_is_the_earliest_and_of_equals_the_first() {
        let mut draws = Stream::new([1, 2], 3);
        for lanes in [1, 2, 5, 63, 64] {
            let mut dues: Vec<u64> = (0..lanes).map(|_| draws.next_below(8)).collect();
            let mut tree = Tournament::new(lanes);
            assert_eq!(tree.winner().1, FOREVER);
            tree.rebuild(|lane| dues[lane]);
            for _ in 0..1000 {
                let earliest = (0..lanes).min_by_key(|lane| (dues[*lane], *lane)).unwrap();
                assert_eq!(tree.winner(), (earliest, dues[earliest]));
                let step = draws.next_below(5);
                dues[earliest] = if step == 4 { FOREVER } else { dues[earliest] + step };
                tree.replay(dues[earliest]);
                if dues.iter().all(|due| *due == FOREVER) {
                    assert_eq!(tree.winner().1, FOREVER);
                    break;
                }
            }
        }
    }
}
