//! The vector instructions of this machine, detected in one place for kernels that are compiled
//! for several.

/// Sets of vector instructions, each with all of those before it.
///
/// A value other than `Portable` is only made here, where its features were detected; that is what
/// kernels compiled for a set rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    Portable,
    /// With FMA and POPCNT.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// F, BW, DQ and VL: Skylake-X and later.
    #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
    Avx512,
    /// VBMI and VNNI as well: Ice Lake, Zen 4 and later.
    #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
    Avx512Vnni,
}

const ALL: &[InstructionSet] = &[
    InstructionSet::Portable,
    #[cfg(target_arch = "x86_64")]
    InstructionSet::Avx2,
    #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
    InstructionSet::Avx512,
    #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
    InstructionSet::Avx512Vnni,
];

impl InstructionSet {
    /// All that this machine has, narrowest first.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        let missing = ALL.iter().position(|set| !set.adds_what_is_there()).unwrap_or(ALL.len());
        ALL[..missing].iter().copied()
    }

    /// The widest that this machine has.
    pub fn best() -> Self {
        Self::available().next_back().unwrap_or(Self::Portable)
    }

    /// Whether the machine has what this set has beyond the one before it.
    fn adds_what_is_there(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        use std::arch::is_x86_feature_detected as has;
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => has!("avx2") && has!("fma") && has!("popcnt"),
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512 => {
                has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl")
            }
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512Vnni => has!("avx512vbmi") && has!("avx512vnni"),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512 => "avx512",
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512Vnni => "avx512-vnni",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_come_narrowest_first_and_the_last_is_the_best() {
        let found: Vec<InstructionSet> = InstructionSet::available().collect();
        assert_eq!(found[0], InstructionSet::Portable);
        assert!(found.is_sorted() && found.last() == Some(&InstructionSet::best()));
    }
}
