//! What `evaluate` computes: the answers that the NumPy reference also gives, and frames for tests.

use super::frame::{self, Coder};
use super::{Choice, OPS, Role, Shared, pack, refuse};
use crate::operations::{Array, Arrays, BuildError, NoPause};

impl Shared {
    /// Answers of an op for `chunk` (u8): what comes out of the pipeline and its checksum; `pack`
    /// also gives its blocks' bytes, `compress` the codec chosen. Beside the ops: `source` (`op`
    /// u8, `key` u64 → `chunk`), `frame` and `frame_zstd` (`chunk` → `frame`) and `unframe`
    /// (`frame` → `chunk`).
    pub fn answers(&self, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
        match op {
            "source" => self.source_of(inputs),
            "frame" | "frame_zstd" => {
                let choice = if op == "frame" { Choice::Auto } else { Choice::Zstd };
                let (frame, _) = self.framed(choice, bytes(inputs, "chunk")?);
                Ok(Arrays::from([("frame".into(), Array::U8(frame))]))
            }
            "unframe" => {
                let chunk = self.unframed(bytes(inputs, "frame")?)?;
                Ok(Arrays::from([("chunk".into(), Array::U8(chunk))]))
            }
            _ => self.op_answers(op, bytes(inputs, "chunk")?),
        }
    }

    fn op_answers(&self, op: &str, chunk: &[u8]) -> Result<Arrays, BuildError> {
        let (_, role) = OPS
            .iter()
            .find(|(name, _)| *name == op)
            .ok_or_else(|| refuse("op", format!("there is no op `{op}`")))?;
        let (frame, codec) = self.framed(role.choice(), chunk);
        let restored = self.unframed(&frame)?;
        let block_bytes = role.choice().block_bytes(self.parameters.block_bytes);
        let checksum = frame::chunk_checksum(&restored, block_bytes);
        let mut answers = Arrays::from([("checksum".into(), Array::U64(vec![checksum]))]);
        match role {
            Role::Compress => answers.insert("codec".into(), Array::U8(vec![codec])),
            Role::Pipeline(Choice::Pack) => {
                let mut encoded = Vec::new();
                for block in chunk.chunks(block_bytes) {
                    let mut room = vec![0; pack::bound(block.len())];
                    let length = pack::encode(block, &mut room);
                    encoded.extend_from_slice(&room[..length]);
                }
                answers.insert("encoded".into(), Array::U8(encoded))
            }
            Role::Pipeline(_) | Role::Decompress => None,
        };
        answers.insert("chunk".into(), Array::U8(restored));
        Ok(answers)
    }

    fn framed(&self, choice: Choice, chunk: &[u8]) -> (Vec<u8>, u8) {
        let block_bytes = self.parameters.block_bytes;
        let mut frame = vec![0; frame::bound(chunk.len(), block_bytes)];
        let mut coder = Coder::new(block_bytes, self.parameters.zstd_level);
        let (length, codec) = coder.encode(choice, 0, chunk, &mut frame, &mut NoPause);
        frame.truncate(length);
        (frame, codec as u8)
    }

    fn unframed(&self, frame: &[u8]) -> Result<Vec<u8>, BuildError> {
        let corrupt = |error: frame::FrameError| refuse("frame", error.to_string());
        let header = frame::Header::read(frame).map_err(corrupt)?;
        if header.chunk_bytes > self.parameters.chunk_bytes {
            return Err(refuse("frame", "is of a longer chunk than the component's"));
        }
        let mut chunk = vec![0; header.chunk_bytes];
        Coder::new(self.parameters.block_bytes, self.parameters.zstd_level)
            .decode(frame, &mut chunk, &mut NoPause)
            .map_err(corrupt)?;
        Ok(chunk)
    }

    fn source_of(&self, inputs: &Arrays) -> Result<Arrays, BuildError> {
        let (Some(Array::U8(op)), Some(Array::U64(key))) = (inputs.get("op"), inputs.get("key"))
        else {
            return Err(refuse("source", "needs `op` (u8) and `key` (u64)"));
        };
        let role = op.first().and_then(|&op| OPS.get(usize::from(op)));
        let (Some(&(_, role)), Some(&key)) = (role, key.first()) else {
            return Err(refuse("source", "needs one known op and one key"));
        };
        let index = self.index_of(role, key);
        Ok(Arrays::from([("chunk".into(), Array::U8(self.chunk(index).to_vec()))]))
    }
}

fn bytes<'a>(inputs: &'a Arrays, name: &'static str) -> Result<&'a [u8], BuildError> {
    match inputs.get(name) {
        Some(Array::U8(bytes)) => Ok(bytes),
        _ => Err(refuse(name, "is missing or not of type u8")),
    }
}
