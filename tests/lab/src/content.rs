//! Content that both ends can compute: a window into one fixed pool of pseudo-random bytes.

use std::fmt::Write;
use std::sync::OnceLock;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

/// The largest `offset + len` of [`bytes`].
pub(crate) const POOL_LEN: usize = 32 << 20;

/// `len` bytes of the pool from `offset`.
///
/// # Panics
/// When `offset + len` is beyond 32 MiB.
#[must_use]
pub fn bytes(offset: usize, len: usize) -> &'static [u8] {
    static POOL: OnceLock<Vec<u8>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        let mut pool = vec![0; POOL_LEN];
        ChaCha8Rng::seed_from_u64(0x5ad0).fill_bytes(&mut pool);
        pool
    });
    &pool[offset..offset + len]
}

/// SHA-256 (FIPS 180-4) in lower-case hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_of_nothing_is_the_known_one() {
        assert!(
            sha256_hex(b"").starts_with("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b")
        );
    }

    #[test]
    fn windows_overlap_as_windows_do() {
        assert_eq!(&bytes(100, 20)[5..], bytes(105, 15));
        assert_ne!(bytes(0, 16), bytes(16, 16));
    }
}
