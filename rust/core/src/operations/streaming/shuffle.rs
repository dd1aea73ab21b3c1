//! The transform in front of a byte codec for numeric chunks: differences, then byte planes.
//!
//! Word i becomes `zigzag(word[i] - word[i - 1])` (0 before the first), and the codes' lowest bytes
//! come first, then their second ones, and so on (Blosc's shuffle), so that the mostly empty upper
//! bytes stand together. Bytes beyond the last whole word stay as they are.

/// Writes the transform of `block` to `planes`, which is as long.
pub fn forward(block: &[u8], planes: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was just asked for AVX2.
        return unsafe { forward_avx2(block, planes) };
    }
    forward_portable(block, planes);
}

/// Writes to `block` what `forward` was given for `planes`, which is as long.
pub fn backward(planes: &[u8], block: &mut [u8]) {
    let words = block.len() / 4;
    let (coded, tail) = planes.split_at(words * 4);
    let (first, rest) = coded.split_at(words);
    let (second, rest) = rest.split_at(words);
    let (third, fourth) = rest.split_at(words);
    let mut value = 0u32;
    let mut places = block.chunks_exact_mut(4);
    for (index, place) in places.by_ref().enumerate() {
        let code = u32::from_le_bytes([first[index], second[index], third[index], fourth[index]]);
        value = value.wrapping_add(code >> 1 ^ (code & 1).wrapping_neg());
        place.copy_from_slice(&value.to_le_bytes());
    }
    places.into_remainder().copy_from_slice(tail);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn forward_avx2(block: &[u8], planes: &mut [u8]) {
    forward_portable(block, planes);
}

#[inline(always)]
fn forward_portable(block: &[u8], planes: &mut [u8]) {
    let words = block.len() / 4;
    let (coded, tail) = planes.split_at_mut(words * 4);
    let (first, rest) = coded.split_at_mut(words);
    let (second, rest) = rest.split_at_mut(words);
    let (third, fourth) = rest.split_at_mut(words);
    let mut before = 0u32;
    for (index, place) in block.chunks_exact(4).enumerate() {
        let value = u32::from_le_bytes([place[0], place[1], place[2], place[3]]);
        let difference = value.wrapping_sub(before);
        before = value;
        let code = (difference << 1 ^ ((difference as i32) >> 31) as u32).to_le_bytes();
        (first[index], second[index], third[index], fourth[index]) =
            (code[0], code[1], code[2], code[3]);
    }
    tail.copy_from_slice(&block[words * 4..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transform_is_undone_for_any_length() {
        for length in [0, 3, 4, 7, 64, 4099] {
            let block: Vec<u8> = (0..length as u32).map(|i| ((i * i) >> 3) as u8).collect();
            let mut planes = vec![0x55; length];
            let mut portable = vec![0xAA; length];
            forward(&block, &mut planes);
            forward_portable(&block, &mut portable);
            assert_eq!(planes, portable);
            let mut restored = vec![0x55; length];
            backward(&planes, &mut restored);
            assert_eq!(restored, block);
        }
    }

    #[test]
    fn a_slow_series_leaves_the_upper_planes_empty() {
        let block: Vec<u8> = (0..256u32).flat_map(|i| (1000 + 3 * i).to_le_bytes()).collect();
        let mut planes = vec![0; block.len()];
        forward(&block, &mut planes);
        assert!(planes[512..].iter().all(|&byte| byte == 0));
    }
}
