//! Damage to a worker's last answer, which its check has to see.

use super::worker::{Unverified, Worker};
use crate::operations::Fault;

/// Bytes that are lost or doubled in a buffer.
const PIECE_BYTES: usize = 64;

impl Worker {
    /// Damages the answer of the last operation; false where it holds nothing that could be
    /// damaged so.
    ///
    /// A chunk of the stream is lost or doubled as a whole, by its number; of one that has none,
    /// and of a frame, it is a piece.
    pub fn damage(&mut self, fault: Fault) -> bool {
        match (self.unverified, fault) {
            (Unverified::Chunk { sequence: Some(_), .. }, Fault::LostResult) => {
                self.open = self.shared.sink.admit();
                self.open.is_some()
            }
            (Unverified::Chunk { sequence: Some(sequence), .. }, Fault::DoubledResult) => {
                self.deliver(sequence);
                true
            }
            (Unverified::Chunk { index, .. }, _) => {
                let length = self.shared.parameters.chunk_bytes;
                damage_bytes(&mut self.chunk.as_mut_slice()[..length], fault, index)
            }
            (Unverified::Frame { index, length, .. }, _) => {
                damage_bytes(&mut self.frame.as_mut_slice()[..length], fault, index)
            }
            (Unverified::Nothing | Unverified::Noticed, _) => false,
        }
    }
}

/// A bit; a piece left as zeros; a piece written over the next one. False where nothing changed.
fn damage_bytes(bytes: &mut [u8], fault: Fault, draw: usize) -> bool {
    let draw = draw.wrapping_mul(0x9E37_79B9) >> 4;
    if fault == Fault::FlippedBit {
        let place = draw % bytes.len();
        bytes[place] ^= 1 << (draw % 8);
        return true;
    }
    if bytes.len() < 2 * PIECE_BYTES {
        return false;
    }
    let place = draw % (bytes.len() - 2 * PIECE_BYTES + 1);
    let (one, other) = bytes[place..].split_at_mut(PIECE_BYTES);
    let other = &mut other[..PIECE_BYTES];
    let changes = match fault {
        Fault::LostResult => other.iter().any(|&byte| byte != 0),
        _ => one != other,
    };
    match fault {
        Fault::LostResult => other.fill(0),
        _ => other.copy_from_slice(one),
    }
    changes
}
