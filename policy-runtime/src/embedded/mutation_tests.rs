//! Whatever happens to a blob, opening it gives an error code or a policy that runs, never a panic.

use super::heap::BlobFile;
use super::tests::{kinds, written};
use super::*;
use crate::probe::Draws;

fn put(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Makes the digests fit again, as far as the sizes allow.
fn seal(bytes: &mut [u8]) {
    let (start, end) = (word(bytes, 20), word(bytes, 20).saturating_add(word(bytes, 24)));
    let text = bytes.get(PREFIX_BYTES..start).map(crc32);
    let data = bytes.get(start..end).map(crc32);
    put(bytes, 28, text.unwrap_or(0));
    put(bytes, 32, data.unwrap_or(0));
    let prefix = crc32(&bytes[..60]);
    put(bytes, 60, prefix);
}

fn blobs() -> Vec<Vec<u8>> {
    let mut draws = Draws::new(11);
    let networks = kinds(&mut draws);
    let of = |network, precision| written(network, precision, &mut Draws::new(12)).bytes().to_vec();
    networks.iter().flat_map(|network| [of(network, Precision::F32), of(network, Precision::Int8)]).collect()
}

fn open(bytes: &[u8]) -> Result<(), BlobError> {
    let file = BlobFile::new(bytes);
    let mut executor = file.open()?;
    let observation = vec![0.5; executor.blob().observation_width()];
    let mut action = vec![0.0; executor.blob().action_width()];
    executor.run(&observation, &mut action).map_err(|_| BlobError::Shape)
}

#[test]
fn each_defect_has_its_code() {
    let good = &blobs()[0];
    assert_eq!(open(good), Ok(()));
    let data = word(good, 20);
    type Spoil = fn(&mut Vec<u8>, usize);
    let defects: [(Spoil, BlobError); 11] = [
        (|b, _| b.truncate(b.len() - 1), BlobError::Size),
        (|b, _| b.truncate(40), BlobError::Size),
        (|b, _| b[0] = b'h', BlobError::Magic),
        (|b, _| b[8] = 2, BlobError::Version),
        (|b, _| b[40] ^= 1, BlobError::PrefixDigest),
        (|b, _| b[PREFIX_BYTES + 3] ^= 1, BlobError::HeaderDigest),
        (|b, data| b[data + 100] ^= 1, BlobError::DataDigest),
        (
            |b, data| {
                put(b, 20, data as u32 + 4);
                seal(b)
            },
            BlobError::Alignment,
        ),
        (
            |b, data| {
                b[data..data + 4].fill(0xff);
                seal(b)
            },
            BlobError::Number,
        ),
        (
            |b, data| {
                let bytes = word(b, 24);
                put(b, 24, bytes as u32 - 16);
                let _ = data;
                seal(b)
            },
            BlobError::Shape,
        ),
        (
            |b, _| {
                let last = b.len() - 5;
                b[last] ^= 1;
                let last = b.len() - 20;
                b[last] ^= 1;
                seal(b)
            },
            BlobError::Golden,
        ),
    ];
    for (spoil, wanted) in defects {
        let mut spoiled = good.clone();
        spoil(&mut spoiled, data);
        assert_eq!(open(&spoiled), Err(wanted), "{wanted}");
    }
    let mut shifted = vec![0; 4];
    shifted.extend(good);
    let file = BlobFile::new(&shifted);
    assert_eq!(Blob::open(&file.bytes()[4..]).unwrap_err(), BlobError::Alignment);
    assert_eq!(BlobError::Golden.code(), 12);
}

/// Digests that fit do not make a rule usable.
#[test]
fn rules_that_cannot_be_kept_are_refused() {
    let good = &blobs()[0];
    let data = word(good, 20);
    // Action low and high of 3, observation low and high of 5 numbers, each filled up to 16 bytes; then the dampers.
    let (velocity, gain) = (data + 2 * 16 + 2 * 32, data + 3 * 16 + 2 * 32);
    assert_eq!(word(good, velocity), 0, "the damper of the first action has the first velocity");
    assert_eq!(f32::from_bits(word(good, gain) as u32), 0.5);
    // Task, widths, period and age take 16 bytes; two dense layers and the number of golden vectors are the last 10.
    let (fallback, end) = (PREFIX_BYTES + 16, PREFIX_BYTES + word(good, 12));
    let (dampers, squash) = (end - 13, end - 11);
    assert_eq!((good[fallback], good[dampers], good[squash]), (3, 1, 2));
    type Spoil<'a> = Box<dyn Fn(&mut [u8]) + 'a>;
    let cases: [(&str, Spoil<'_>, BlobError); 9] = [
        ("reserved", Box::new(|b| b[40] = 1), BlobError::Version),
        ("reserved", Box::new(|b| b[59] = 1), BlobError::Version),
        ("velocity", Box::new(|b| put(b, velocity, 5)), BlobError::Number),
        ("gain", Box::new(|b| put(b, gain, 0)), BlobError::Number),
        ("gain", Box::new(|b| put(b, gain, (-0.5_f32).to_bits())), BlobError::Number),
        ("fixed without its row", Box::new(|b| b[fallback] = 2), BlobError::Header),
        ("damping without its rows", Box::new(|b| b[dampers] = 0), BlobError::Header),
        ("squash", Box::new(|b| b[squash] = 1), BlobError::Header),
        ("gain", Box::new(|b| put(b, gain, f32::NAN.to_bits())), BlobError::Number),
    ];
    for (name, spoil, wanted) in cases {
        let mut spoiled = good.clone();
        spoil(&mut spoiled);
        seal(&mut spoiled);
        assert_eq!(open(&spoiled), Err(wanted), "{name}");
    }
}

#[test]
fn what_follows_a_blob_is_not_its_business() {
    let mut longer = blobs()[0].clone();
    longer.extend([0xff; 1000]);
    assert_eq!(open(&longer), Ok(()));
}

#[test]
fn every_flipped_bit_is_found() {
    let mut draws = Draws::new(13);
    for good in blobs() {
        for _ in 0..300 {
            let mut spoiled = good.clone();
            let at = draws.next_u64() as usize % good.len();
            spoiled[at] ^= 1 << (draws.next_u64() % 8);
            assert!(open(&spoiled).is_err(), "byte {at}");
        }
    }
}

/// A blob whose digests were made to fit what was done to it: the checks behind them must hold alone.
#[test]
fn sealed_mutations_never_panic() {
    let mut draws = Draws::new(14);
    let (mut opened, mut refused) = (0, 0);
    for good in blobs() {
        let text = word(&good, 20);
        for round in 0..1500 {
            let mut spoiled = good.clone();
            for _ in 0..=draws.next_u64() % 4 {
                // Mostly where sizes and shapes are.
                let reach = if round % 4 == 0 { good.len() } else { text };
                let at = 12 + draws.next_u64() as usize % (reach - 12);
                spoiled[at] = match draws.next_u64() % 3 {
                    0 => draws.next_u64() as u8,
                    1 => spoiled[at].wrapping_add(1),
                    _ => [0x00, 0x7f, 0x80, 0xff][draws.next_u64() as usize % 4],
                };
            }
            if draws.next_u64().is_multiple_of(8) {
                spoiled.truncate(PREFIX_BYTES + draws.next_u64() as usize % (good.len() - PREFIX_BYTES));
            }
            seal(&mut spoiled);
            match open(&spoiled) {
                Ok(()) => opened += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(opened > 500 && refused > 2000, "{opened} opened, {refused} refused");
}
