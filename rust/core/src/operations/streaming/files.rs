//! What a stream keeps on a disk: the placement `file`, and files for chunks of another backend.

use std::io;
use std::path::PathBuf;

use super::{Parameters, Shared, refuse};
use crate::operations::BuildError;
use crate::operations::memory::{Lender, Mover, Wish};
use crate::operations::scratch::{PageBuffer, Scratch, WriteBudget, refuse_directory};

/// How chunks of another backend are moved: so many requests at once, of so many bytes each. A
/// chunk of 1 MiB is one round of them.
const REQUESTS_IN_FLIGHT: usize = 4;
const REQUEST_BYTES: usize = 256 << 10;

/// The placement `file`: what it reads from and where workers write.
pub struct Files {
    pub directory: PathBuf,
    pub source: Scratch,
}

impl Files {
    /// Writes the pool where the placement is `file`, within the budget; else there is none.
    ///
    /// # Errors
    /// A placement of another backend, a budget that does not allow the pool, or a directory that
    /// the system refuses.
    pub fn of(
        parameters: &Parameters,
        pool: &[u8],
        budget: &WriteBudget,
    ) -> Result<Option<Self>, BuildError> {
        match parameters.placement.as_str() {
            "memory" => return Ok(None),
            "file" => {}
            other => {
                return Err(refuse(
                    "placement",
                    format!(
                        "`{other}` needs the cuda backend; the cpu backend has memory and file"
                    ),
                ));
            }
        }
        let directory = PathBuf::from(&parameters.directory);
        if !budget.take(pool.len() as u64) {
            return Err(refuse("write_budget_bytes", "is less than the source file needs"));
        }
        let failed = refuse_directory(&parameters.directory);
        let source = Scratch::create(&directory).map_err(&failed)?;
        let mut pages = PageBuffer::new(parameters.chunk_bytes);
        for (number, chunk) in pool.chunks(parameters.chunk_bytes).enumerate() {
            pages.as_mut_slice().copy_from_slice(chunk);
            let offset = (number * parameters.chunk_bytes) as u64;
            source.write(pages.as_slice(), offset).map_err(&failed)?;
        }
        Ok(Some(Self { directory, source }))
    }
}

impl Lender for Shared {
    fn budget(&self) -> &WriteBudget {
        &self.budget
    }

    fn lend(&self) -> Result<Mover, BuildError> {
        let refused = |error: io::Error| refuse("placement", format!("no way to a file: {error}"));
        Mover::open(Wish::Auto, REQUESTS_IN_FLIGHT, REQUEST_BYTES).map_err(refused)
    }
}
