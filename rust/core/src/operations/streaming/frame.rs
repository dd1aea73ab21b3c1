//! A compressed chunk as it travels: a header, the blocks' lengths, the blocks.
//!
//! Little-endian: magic u32, codec u8, transform u8, blocks u16, sequence u64, checksum u64, chunk
//! bytes u32, block bytes u32; then per block its length u32, the top bit set where it is stored as
//! it is; then the blocks, each coded on its own so that a worker can serve others in between.
//! The checksum folds those of the original blocks, each taken while its block is in the cache.

use super::pack;
use super::shuffle;
use super::survey::{Content, survey};
use super::{OPS, Role};
use crate::operations::Pause;
use crate::operations::checksum::checksum;

const MAGIC: u32 = 0x3153_5753;
const HEADER_BYTES: usize = 32;
/// Zstandard's two contexts at the blocks and levels in use: 0.8 MB measured.
const CONTEXTS_BYTES: usize = 1 << 20;
const STORED: u32 = 1 << 31;
/// Bytes between two marks that a decoder must overwrite.
const POISON_STRIDE: usize = 4096;

/// How the blocks of a chunk are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    Stored = 0,
    Lz4 = 1,
    Zstd = 2,
    Pack = 3,
}

/// Why a chunk could not be coded or a frame not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the frame's header or table contradicts itself")]
    Header,
    #[error("a block could not be decoded")]
    Block,
    #[error("the decoded chunk is not the original")]
    Checksum,
}

/// Which codec an operation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// By content: pack for numeric chunks, LZ4 for others.
    Auto,
    Lz4,
    Zstd,
    Pack,
}

impl Choice {
    /// The choice of a pipeline's op.
    #[must_use]
    pub fn named(op: &str) -> Option<Self> {
        OPS.iter().find_map(|&(name, role)| match role {
            Role::Pipeline(choice) if name == op => Some(choice),
            _ => None,
        })
    }

    /// Bytes of a block where the component's are `block_bytes`: Zstandard takes about twice as
    /// long per byte as LZ4, so its blocks are half as long.
    #[must_use]
    pub fn block_bytes(self, block_bytes: usize) -> usize {
        if self == Self::Zstd { block_bytes / 2 } else { block_bytes }
    }

    /// The codec for a chunk, and whether its words are to be shuffled first.
    fn resolve(self, content: Content) -> (Codec, bool) {
        let numeric = content == Content::Numeric;
        match (self, content) {
            (Self::Pack, _) | (Self::Auto, Content::Numeric) => (Codec::Pack, false),
            (_, Content::Incompressible) => (Codec::Stored, false),
            (Self::Zstd, _) => (Codec::Zstd, numeric),
            (Self::Auto | Self::Lz4, _) => (Codec::Lz4, numeric),
        }
    }
}

/// What a finished frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub codec: Codec,
    pub shuffled: bool,
    pub sequence: u64,
    pub checksum: u64,
    pub chunk_bytes: usize,
    block_bytes: usize,
    blocks: usize,
}

/// Bytes that a frame of a chunk may take, the coder's working room included.
#[must_use]
pub fn bound(chunk_bytes: usize, block_bytes: usize) -> usize {
    let blocks = chunk_bytes.div_ceil(Choice::Zstd.block_bytes(block_bytes));
    HEADER_BYTES + blocks * 4 + chunk_bytes + block_bound(block_bytes) - block_bytes
}

/// LZ4's and Zstandard's worst cases and ours are all below this.
fn block_bound(block_bytes: usize) -> usize {
    block_bytes + block_bytes / 128 + 1024
}

/// A worker's coding state; nothing is allocated after `new`.
pub struct Coder {
    block_bytes: usize,
    compressor: zstd_safe::CCtx<'static>,
    decompressor: zstd_safe::DCtx<'static>,
    planes: Vec<u8>,
}

impl Coder {
    /// A coder for blocks of `block_bytes` at a Zstandard level.
    pub fn new(block_bytes: usize, zstd_level: i32) -> Self {
        let mut compressor = zstd_safe::CCtx::create();
        let level = zstd_safe::CParameter::CompressionLevel(zstd_level);
        assert!(compressor.set_parameter(level).is_ok(), "the level was checked when building");
        Self {
            block_bytes,
            compressor,
            decompressor: zstd_safe::DCtx::create(),
            planes: vec![0; block_bytes],
        }
    }

    /// Bytes that one coder keeps, Zstandard's contexts included.
    pub fn resident_bytes(block_bytes: usize) -> usize {
        block_bytes + CONTEXTS_BYTES
    }

    /// Codes `chunk` into `frame` (at least `bound` long); returns the frame's length and codec.
    pub fn encode(
        &mut self,
        choice: Choice,
        sequence: u64,
        chunk: &[u8],
        frame: &mut [u8],
        pause: &mut dyn Pause,
    ) -> (usize, Codec) {
        let (codec, shuffled) = choice.resolve(survey(chunk));
        let block_bytes = choice.block_bytes(self.block_bytes);
        let blocks = chunk.len().div_ceil(block_bytes);
        let mut at = HEADER_BYTES + blocks * 4;
        let mut folded = 0;
        for (number, block) in chunk.chunks(block_bytes).enumerate() {
            let coded = match codec {
                Codec::Stored => None,
                _ => self.encode_block(codec, shuffled, block, &mut frame[at..]),
            };
            let (length, mark) = coded.map_or((block.len(), STORED), |length| (length, 0));
            if coded.is_none() {
                frame[at..at + length].copy_from_slice(block);
            }
            folded = fold(folded, checksum(block));
            put_u32(frame, HEADER_BYTES + number * 4, length as u32 | mark);
            at += length;
            pause.point();
        }
        put_u32(frame, 0, MAGIC);
        frame[4] = codec as u8;
        frame[5] = u8::from(shuffled);
        frame[6..8].copy_from_slice(&(blocks as u16).to_le_bytes());
        frame[8..16].copy_from_slice(&sequence.to_le_bytes());
        frame[16..24].copy_from_slice(&folded.to_le_bytes());
        put_u32(frame, 24, chunk.len() as u32);
        put_u32(frame, 28, block_bytes as u32);
        (at, codec)
    }

    /// The coded block's length, or nothing where coding would not shorten it.
    fn encode_block(
        &mut self,
        codec: Codec,
        shuffled: bool,
        block: &[u8],
        room: &mut [u8],
    ) -> Option<usize> {
        let room = &mut room[..block_bound(block.len())];
        let source = if shuffled {
            shuffle::forward(block, &mut self.planes[..block.len()]);
            &self.planes[..block.len()]
        } else {
            block
        };
        let length = match codec {
            Codec::Stored => None,
            Codec::Lz4 => lz4::block::compress_to_buffer(source, None, false, room).ok(),
            Codec::Zstd => self.compressor.compress2(room, source).ok(),
            Codec::Pack => Some(pack::encode(source, room)),
        };
        length.filter(|&length| length < block.len())
    }

    /// Decodes `frame` into `chunk`, which is first poisoned, and checks it.
    ///
    /// # Errors
    /// The frame contradicts itself, does not fit `chunk`, or decodes to something else than its
    /// checksum says.
    pub fn decode(
        &mut self,
        frame: &[u8],
        chunk: &mut [u8],
        pause: &mut dyn Pause,
    ) -> Result<Header, FrameError> {
        let header = Header::read(frame)?;
        if header.chunk_bytes != chunk.len() || header.block_bytes > self.block_bytes {
            return Err(FrameError::Header);
        }
        for mark in chunk.iter_mut().step_by(POISON_STRIDE) {
            *mark = !*mark;
        }
        let (table, mut coded) =
            frame[HEADER_BYTES..].split_at_checked(header.blocks * 4).ok_or(FrameError::Header)?;
        let mut folded = 0;
        for (block, entry) in chunk.chunks_mut(header.block_bytes).zip(table.chunks_exact(4)) {
            let entry = get_u32(entry, 0);
            let (bytes, rest) =
                coded.split_at_checked((entry & !STORED) as usize).ok_or(FrameError::Header)?;
            coded = rest;
            let codec = if entry & STORED == 0 { header.codec } else { Codec::Stored };
            self.decode_block(codec, header.shuffled, bytes, block)?;
            folded = fold(folded, checksum(block));
            pause.point();
        }
        if !coded.is_empty() {
            return Err(FrameError::Header);
        }
        if folded != header.checksum {
            return Err(FrameError::Checksum);
        }
        Ok(header)
    }

    fn decode_block(
        &mut self,
        codec: Codec,
        shuffled: bool,
        bytes: &[u8],
        block: &mut [u8],
    ) -> Result<(), FrameError> {
        if codec == Codec::Stored {
            if bytes.len() != block.len() {
                return Err(FrameError::Header);
            }
            block.copy_from_slice(bytes);
            return Ok(());
        }
        let target = if shuffled { &mut self.planes[..block.len()] } else { &mut *block };
        let expected = target.len();
        let decoded = match codec {
            Codec::Lz4 => {
                let expected = i32::try_from(expected).map_err(|_| FrameError::Header)?;
                lz4::block::decompress_to_buffer(bytes, Some(expected), target).ok()
            }
            Codec::Zstd => self.decompressor.decompress(target, bytes).ok(),
            Codec::Pack => pack::decode(bytes, target).ok().map(|()| expected),
            Codec::Stored => None,
        };
        if decoded != Some(expected) {
            return Err(FrameError::Block);
        }
        if shuffled {
            shuffle::backward(&self.planes[..block.len()], block);
        }
        Ok(())
    }
}

impl Header {
    /// Reads and checks the fixed part of a frame.
    ///
    /// # Errors
    /// Too short, another magic, an unknown codec, or numbers that contradict one another.
    pub fn read(frame: &[u8]) -> Result<Self, FrameError> {
        if frame.len() < HEADER_BYTES || get_u32(frame, 0) != MAGIC {
            return Err(FrameError::Header);
        }
        let codec = match frame[4] {
            0 => Codec::Stored,
            1 => Codec::Lz4,
            2 => Codec::Zstd,
            3 => Codec::Pack,
            _ => return Err(FrameError::Header),
        };
        let header = Self {
            codec,
            shuffled: frame[5] == 1,
            sequence: get_u64(frame, 8),
            checksum: get_u64(frame, 16),
            chunk_bytes: get_u32(frame, 24) as usize,
            block_bytes: get_u32(frame, 28) as usize,
            blocks: usize::from(u16::from_le_bytes([frame[6], frame[7]])),
        };
        let consistent = frame[5] <= 1
            && header.block_bytes > 0
            && header.blocks == header.chunk_bytes.div_ceil(header.block_bytes);
        consistent.then_some(header).ok_or(FrameError::Header)
    }
}

/// The checksum of a chunk: those of its blocks, folded in order.
#[must_use]
pub fn chunk_checksum(chunk: &[u8], block_bytes: usize) -> u64 {
    chunk.chunks(block_bytes).fold(0, |folded, block| fold(folded, checksum(block)))
}

fn fold(folded: u64, block: u64) -> u64 {
    (folded.rotate_left(29) ^ block).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from(get_u32(bytes, at)) | u64::from(get_u32(bytes, at + 4)) << 32
}
