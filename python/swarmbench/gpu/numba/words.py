"""Random words for Numba kernels: the same bits as `common.cuh`, `random.rs` and `philox.py`."""

from typing import Any

import numpy as np

from swarmbench.gpu.numba.declared import counted, device_function, u32, u32s, u64

_LOW = np.uint64(0xFFFFFFFF)
_FACTORS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_FINALISERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@counted("random_draws")
def philox(ordinal: u32, purpose: u32, key: u64, stream: u64) -> Any:
    """Philox4x32-10 (Salmon et al., SC 2011) of the counter (ordinal, purpose, key) under the
    64-bit key `stream`: four words."""
    c0, c1 = np.uint64(ordinal), np.uint64(purpose)
    c2, c3 = np.uint64(key & _LOW), np.uint64(key >> np.uint64(32))
    k0, k1 = np.uint32(stream & _LOW), np.uint32(stream >> np.uint64(32))
    for _ in range(10):
        low, high = _FACTORS[0] * c0, _FACTORS[1] * c2
        c0, c1 = (high >> np.uint64(32)) ^ c1 ^ np.uint64(k0), high & _LOW
        c2, c3 = (low >> np.uint64(32)) ^ c3 ^ np.uint64(k1), low & _LOW
        k0, k1 = np.uint32(k0 + _WEYL[0]), np.uint32(k1 + _WEYL[1])
    return np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)


@counted("random_draws")
def next_word(states: u32s, first: u32, stride: u32) -> Any:
    """The next word of xoshiro128++ (Blackman and Vigna, ACM TOMS 2021), whose four words of state
    stand `stride` apart from `first` on."""
    i1, i2, i3 = first + stride, first + stride + stride, first + stride + stride + stride
    s0, s1, s2, s3 = states[first], states[i1], states[i2], states[i3]
    total = np.uint32(s0 + s3)
    word = np.uint32(np.uint32(total << np.uint32(7)) + np.uint32(total >> np.uint32(25)) + s0)
    states[i1] = np.uint32(s1 ^ s2 ^ s0)
    states[first] = np.uint32(s0 ^ s3 ^ s1)
    states[i2] = np.uint32(s2 ^ s0 ^ np.uint32(s1 << np.uint32(9)))
    s3 = np.uint32(s3 ^ s1)
    states[i3] = np.uint32(np.uint32(s3 << np.uint32(11)) | np.uint32(s3 >> np.uint32(21)))
    return word


@device_function
def mixed(word: u64) -> u64:
    """The finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    word = (word ^ word >> np.uint64(30)) * _FINALISERS[0]
    word = (word ^ word >> np.uint64(27)) * _FINALISERS[1]
    return word ^ word >> np.uint64(31)
