//! The bodies of `breed` compiled for each kind of vector; the widest that the CPU has is taken.

use super::breed::{Brood, Family, breed, judge, settle, sum};
use super::lanes::{Line, Plain};
use super::numbers::{MLP, RASTRIGIN, SPHERE};
use super::parameters::Plan;
use super::population::Digest;
use crate::operations::instructions::InstructionSet;

pub type Breed = fn(&Family<'_>, &mut Brood<'_>);
/// Writes the first population's individuals from the given number on.
pub type Settle = fn(&Plan, usize, &mut [Line]);
/// The fitness of one individual.
pub type Judge = fn(&Plan, &[Line]) -> f32;
/// Adds rows, from the given number on, to a digest.
pub type Sum = fn(&Plan, usize, &[Line], &mut Digest);

/// One kind of vector's functions, the fitness functions in the order of the op types.
#[derive(Clone, Copy)]
pub struct Path {
    pub name: &'static str,
    pub breed: [Breed; 3],
    pub judge: [Judge; 3],
    pub settle: Settle,
    pub sum: Sum,
}

pub const PORTABLE: Path = Path {
    name: "portable",
    breed: [breed::<Plain, SPHERE>, breed::<Plain, RASTRIGIN>, breed::<Plain, MLP>],
    judge: [judge::<Plain, SPHERE>, judge::<Plain, RASTRIGIN>, judge::<Plain, MLP>],
    settle: settle::<Plain>,
    sum: sum::<Plain>,
};

/// The best path that this CPU can take.
pub fn best() -> Path {
    paths()[0]
}

/// Every path that this CPU can take, the best first.
pub fn paths() -> Vec<Path> {
    let mut found: Vec<Path> = InstructionSet::available().filter_map(of).collect();
    found.reverse();
    found
}

/// The path that these instructions are the first to allow.
fn of(instructions: InstructionSet) -> Option<Path> {
    match instructions {
        InstructionSet::Portable => Some(PORTABLE),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => Some(avx2::PATH),
        #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
        InstructionSet::Avx512 => Some(avx512::PATH),
        #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
        InstructionSet::Avx512Vnni => None,
    }
}

/// Compiles the bodies for a kind of vector; for use where its feature was detected.
macro_rules! compiled {
    ($module:ident, $vector:ident, $feature:literal) => {
        mod $module {
            use super::super::breed as bodies;
            use super::super::$module::$vector;
            use super::*;

            fn breed<const FITNESS: u8>(family: &Family<'_>, brood: &mut Brood<'_>) {
                #[target_feature(enable = $feature)]
                unsafe fn body<const FITNESS: u8>(family: &Family<'_>, brood: &mut Brood<'_>) {
                    bodies::breed::<$vector, FITNESS>(family, brood);
                }
                // SAFETY: `paths` hands this out only where the feature was detected.
                unsafe { body::<FITNESS>(family, brood) }
            }

            fn judge<const FITNESS: u8>(plan: &Plan, row: &[Line]) -> f32 {
                #[target_feature(enable = $feature)]
                unsafe fn body<const FITNESS: u8>(plan: &Plan, row: &[Line]) -> f32 {
                    bodies::judge::<$vector, FITNESS>(plan, row)
                }
                // SAFETY: `paths` hands this out only where the feature was detected.
                unsafe { body::<FITNESS>(plan, row) }
            }

            fn settle(plan: &Plan, first: usize, rows: &mut [Line]) {
                #[target_feature(enable = $feature)]
                unsafe fn body(plan: &Plan, first: usize, rows: &mut [Line]) {
                    bodies::settle::<$vector>(plan, first, rows);
                }
                // SAFETY: `paths` hands this out only where the feature was detected.
                unsafe { body(plan, first, rows) }
            }

            fn sum(plan: &Plan, first: usize, rows: &[Line], digest: &mut Digest) {
                #[target_feature(enable = $feature)]
                unsafe fn body(plan: &Plan, first: usize, rows: &[Line], digest: &mut Digest) {
                    bodies::sum::<$vector>(plan, first, rows, digest);
                }
                // SAFETY: `paths` hands this out only where the feature was detected.
                unsafe { body(plan, first, rows, digest) }
            }

            pub const PATH: Path = Path {
                name: stringify!($module),
                breed: [breed::<SPHERE>, breed::<RASTRIGIN>, breed::<MLP>],
                judge: [judge::<SPHERE>, judge::<RASTRIGIN>, judge::<MLP>],
                settle,
                sum,
            };
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(avx2, Avx2, "avx2,popcnt");
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
compiled!(avx512, Avx512, "avx512f,popcnt");
