//! Zipf's law by the alias method (Walker 1977; Vose, IEEE TSE 1991) in exact integers.
//!
//! Only IEEE basic operations are used, so NumPy builds the very same table.

/// Ranks `0..n` with probability proportional to (rank + 1)^-1.1.
pub struct Zipf {
    slots: Vec<Slot>,
}

#[derive(Clone, Copy)]
struct Slot {
    /// A draw whose fraction is below this keeps its slot.
    threshold: u32,
    alias: u32,
}

/// x^0.1 for x >= 1, by ten Newton steps from x^0.125.
fn tenth_root(x: f64) -> f64 {
    let mut root = x.sqrt().sqrt().sqrt();
    for _ in 0..10 {
        let squared = root * root;
        let fourth = squared * squared;
        let ninth = fourth * fourth * root;
        root -= (ninth * root - x) / (10.0 * ninth);
    }
    root
}

/// Weights in units of 2^-32 of a slot, which sum to exactly n * 2^32.
fn weights(ranks: u32) -> Vec<u64> {
    let raw: Vec<f64> =
        (1..=ranks).map(|rank| 1.0 / (f64::from(rank) * tenth_root(f64::from(rank)))).collect();
    let mut total = 0.0;
    for weight in &raw {
        total += weight;
    }
    let whole = u64::from(ranks) << 32;
    let mut parts: Vec<u64> = raw.iter().map(|w| (w / total * whole as f64) as u64).collect();
    parts[0] = parts[0] + whole - parts.iter().sum::<u64>();
    parts
}

impl Zipf {
    pub fn new(ranks: u32) -> Self {
        const FULL: u64 = 1 << 32;
        let mut left = weights(ranks);
        let mut slots: Vec<Slot> =
            (0..ranks).map(|rank| Slot { threshold: u32::MAX, alias: rank }).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..ranks).partition(|&rank| left[rank as usize] < FULL);
        while let (Some(&poor), Some(&rich)) = (small.last(), large.last()) {
            small.pop();
            slots[poor as usize] = Slot { threshold: left[poor as usize] as u32, alias: rich };
            left[rich as usize] -= FULL - left[poor as usize];
            if left[rich as usize] < FULL {
                large.pop();
                small.push(rich);
            }
        }
        Self { slots }
    }

    /// The rank that a uniform 32-bit word draws.
    #[inline(always)]
    pub fn rank(&self, word: u32) -> u32 {
        let product = u64::from(word) * self.slots.len() as u64;
        let column = (product >> 32) as u32;
        let slot = self.slots[column as usize];
        // A mask, as a branch here would be foreseen wrongly half the time.
        let kept = u32::from((product as u32) < slot.threshold).wrapping_neg();
        (column & kept) | (slot.alias & !kept)
    }

    pub fn bytes(&self) -> u64 {
        size_of_val(self.slots.as_slice()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_as_often_as_the_law_says() {
        let zipf = Zipf::new(50);
        let mut seen = [0u32; 50];
        const DRAWS: u32 = 1 << 20;
        for draw in 0..DRAWS {
            seen[zipf.rank(draw << 12) as usize] += 1;
        }
        let total: f64 = (1..=50).map(|rank| f64::from(rank).powf(-1.1)).sum();
        for (index, &count) in seen.iter().enumerate() {
            let share = (index as f64 + 1.0).powf(-1.1) / total;
            let expected = share * f64::from(DRAWS);
            assert!((f64::from(count) - expected).abs() < 100.0, "rank {index}: {count}");
        }
    }

    #[test]
    fn one_rank_is_always_drawn() {
        let zipf = Zipf::new(1);
        assert!([0, 7, u32::MAX].iter().all(|&word| zipf.rank(word) == 0));
    }
}
