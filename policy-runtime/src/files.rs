//! Size-bounded reading and digests of a bundle's files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Largest ONNX file that is read: about 2000 times the policy of a simulated humanoid.
pub const MAX_ONNX_BYTES: u64 = 1 << 30;
/// Largest manifest that is read.
pub const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// The whole file, unless it is longer than `limit_bytes`. Devices, pipes and growing files are bounded as well.
///
/// # Errors
/// [`Error::File`] where it cannot be read, [`Error::TooLarge`] where it is longer.
pub fn read_bounded(path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|source| Error::file("open", path, source))?;
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1).read_to_end(&mut bytes).map_err(|source| Error::file("read", path, source))?;
    if bytes.len() as u64 > limit_bytes {
        return Err(Error::TooLarge { path: path.to_path_buf(), limit_bytes });
    }
    Ok(bytes)
}

/// sha256 of `bytes`, as 64 lower-case hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_stops_at_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [7; 10]).unwrap();
        assert_eq!(read_bounded(&path, 10).unwrap().len(), 10);
        assert!(matches!(read_bounded(&path, 9), Err(Error::TooLarge { limit_bytes: 9, .. })));
        assert!(matches!(read_bounded(Path::new("/dev/zero"), 100), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn digest_of_a_published_vector() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
