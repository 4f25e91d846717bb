//! CRC-32 as in Ethernet and zip (reflected polynomial 0xedb88320), four bits at a time: 64 bytes of table.

const TABLE: [u32; 16] = table();

const fn table() -> [u32; 16] {
    let mut table = [0; 16];
    let mut index = 0;
    while index < 16 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 4 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

/// A digest that is fed piece by piece.
#[derive(Debug, Clone, Copy)]
pub struct Crc32(u32);

impl Default for Crc32 {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc32 {
    /// Of nothing yet.
    pub const fn new() -> Self {
        Self(!0)
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u32::from(*byte);
            for _ in 0..2 {
                self.0 = (self.0 >> 4) ^ TABLE[(self.0 & 15) as usize];
            }
        }
    }

    /// The digest of all that was added.
    pub const fn finish(self) -> u32 {
        !self.0
    }
}

/// The digest of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc32::new();
    crc.update(bytes);
    crc.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_check_value() {
        // "check" of CRC-32/ISO-HDLC in the CRC RevEng catalogue.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let mut parts = Crc32::default();
        parts.update(b"1234");
        parts.update(b"56789");
        assert_eq!(parts.finish(), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }
}
