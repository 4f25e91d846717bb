//! numpy's `.npz` files of arrays.

use std::io::{Cursor, Read, Write};

use crate::array::{Array, Numbers};
use crate::error::{Error, Result};

/// Most bytes of all arrays together.
const MAX_TOTAL_BYTES: u64 = 4 << 30;
/// Most arrays in a file.
const MAX_ARRAYS: usize = 4096;

/// Arrays by name, and names of the arrays that were not wanted; both in the file's order.
type Unpacked = (Vec<(String, Array)>, Vec<String>);

/// Reads the `wanted` arrays of an `.npz` file, compressed or not. The others are not unpacked.
///
/// # Errors
/// [`Error::Malformed`] names the array that cannot be read, or with which there are too many bytes.
pub(super) fn read_npz(bytes: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Unpacked> {
    read_within(bytes, wanted, MAX_TOTAL_BYTES)
}

fn read_within(bytes: &[u8], wanted: impl Fn(&str) -> bool, mut bytes_left: u64) -> Result<Unpacked> {
    let limit = bytes_left;
    let damaged = |error: zip::result::ZipError| Error::malformed("npz file", "a zip archive of npy files", error);
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    if archive.len() > MAX_ARRAYS {
        return Err(Error::malformed("npz file", format!("at most {MAX_ARRAYS} arrays"), archive.len()));
    }
    let (mut arrays, mut skipped) = (Vec::new(), Vec::new());
    for index in 0..archive.len() {
        let file = archive.by_index(index).map_err(damaged)?;
        let name = file.name().map_err(damaged)?;
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
        if !wanted(&name) {
            skipped.push(name);
            continue;
        }
        let mut content = Vec::new();
        let read = file.take(bytes_left + 1).read_to_end(&mut content);
        read.map_err(|error| Error::malformed(format!("array {name:?}"), "readable content", error))?;
        bytes_left = bytes_left.checked_sub(content.len() as u64).ok_or_else(|| {
            let expected = format!("at most {limit} bytes in it and the arrays before it");
            Error::malformed(format!("array {name:?}"), expected, "more")
        })?;
        arrays.push((name.clone(), read_npy(&name, &content)?));
    }
    Ok((arrays, skipped))
}

fn read_npy(name: &str, bytes: &[u8]) -> Result<Array> {
    let malformed = |expected: &str, found: String| Error::malformed(format!("array {name:?}"), expected, found);
    let Some((b"\x93NUMPY", rest)) = bytes.split_at_checked(6) else {
        return Err(malformed("numpy's npy format", "another beginning".into()));
    };
    let (length, rest) = match rest {
        [1, _, low, high, rest @ ..] => (usize::from(u16::from_le_bytes([*low, *high])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err(malformed("npy version 1, 2 or 3", "another".into())),
    };
    let header = rest.split_at_checked(length).map(|(header, data)| (String::from_utf8_lossy(header), data));
    let Some((header, data)) = header else { return Err(malformed("a whole header", "its beginning".into())) };
    let entry = |key: &str| {
        let after = header.split_once(&format!("'{key}'"))?.1;
        Some(after.trim_start_matches([':', ' ']).to_owned())
    };
    let (Some(descr), Some(order), Some(shape)) = (entry("descr"), entry("fortran_order"), entry("shape")) else {
        return Err(malformed("a header with descr, fortran_order and shape", header.trim().into()));
    };
    let dims = shape.trim_start_matches('(').split(')').next().unwrap_or_default();
    let dims = dims.split(',').map(str::trim).filter(|dim| !dim.is_empty()).map(str::parse::<usize>);
    let shape: Vec<usize> = dims.collect::<Result<_, _>>().map_err(|_| malformed("a shape of whole numbers", shape))?;
    let descr = descr.trim_start_matches('\'').split('\'').next().unwrap_or_default().to_owned();
    let size = match descr.as_str() {
        "|b1" | "|u1" => 1,
        "<f4" | "<i4" => 4,
        "<f8" | "<i8" => 8,
        _ => return Err(malformed("f4, f8, i4, i8, u1 or b1, little-endian", format!("{descr:?}"))),
    };
    let count = shape.iter().try_fold(size, |product: usize, dim| product.checked_mul(*dim));
    if count != Some(data.len()) {
        return Err(malformed("as many numbers as its shape says", format!("{} bytes for {shape:?}", data.len())));
    }
    let turned = if order.starts_with("True") { row_major(data, &shape, size) } else { Vec::new() };
    let data = if turned.is_empty() { data } else { &turned };
    let numbers = match descr.as_str() {
        "<f4" => Numbers::F32(data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
        "<f8" => Numbers::F64(data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()),
        "<i8" => Numbers::I64(data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
        "<i4" => Numbers::I32(data.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect()),
        "|u1" => Numbers::U8(data.to_vec()),
        _ => Numbers::Bool(data.iter().map(|byte| *byte != 0).collect()),
    };
    Ok(Array { shape, numbers })
}

/// Column-major content in row-major order; `size` bytes per number.
fn row_major(data: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut index = vec![0; shape.len()];
    let mut turned = Vec::with_capacity(data.len());
    while turned.len() < data.len() {
        let offset = shape.iter().zip(&index).rev().fold(0, |offset, (dim, at)| offset * dim + at);
        turned.extend_from_slice(&data[offset * size..(offset + 1) * size]);
        for (at, dim) in index.iter_mut().zip(shape).rev() {
            *at += 1;
            if *at < *dim {
                break;
            }
            *at = 0;
        }
    }
    turned
}

/// The arrays as the bytes of an `.npz` file.
///
/// # Errors
/// [`Error::Malformed`] where the archive cannot be written.
pub(super) fn write_npz(arrays: &[(String, Array)]) -> Result<Vec<u8>> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let failed = |error: String| Error::malformed("npz file", "one that can be written", error);
    for (name, array) in arrays {
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .large_file(array.numbers.len() > 1 << 27);
        archive.start_file(format!("{name}.npy"), options).map_err(|error| failed(error.to_string()))?;
        archive.write_all(&npy(array)).map_err(|error| failed(error.to_string()))?;
    }
    Ok(archive.finish().map_err(|error| failed(error.to_string()))?.into_inner())
}

fn npy(array: &Array) -> Vec<u8> {
    let dims: String = array.shape.iter().map(|dim| format!("{dim}, ")).collect();
    let descr = array.numbers.type_name();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", dims.trim_end());
    // The numbers start at a multiple of 64 bytes.
    let padding = (64 - (10 + header.len() + 1) % 64) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(array.numbers.to_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_survive_a_file() {
        let arrays = vec![
            ("a".to_owned(), Array { shape: vec![2, 3], numbers: Numbers::F32(vec![1.0, -2.5, 3.0, 4.0, 5.0, 6.0]) }),
            ("b".to_owned(), Array { shape: vec![2], numbers: Numbers::I64(vec![-1, 7]) }),
            ("c".to_owned(), Array { shape: vec![], numbers: Numbers::Bool(vec![true]) }),
            ("d".to_owned(), Array { shape: vec![0, 4], numbers: Numbers::F64(vec![]) }),
        ];
        let file = write_npz(&arrays).unwrap();
        assert_eq!(read_npz(&file, |_| true).unwrap(), (arrays.clone(), vec![]));
        let (some, skipped) = read_npz(&file, |name| name == "b").unwrap();
        assert_eq!((some, skipped), (arrays[1..2].to_vec(), ["a", "c", "d"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn all_arrays_together_have_one_budget() {
        let array = |name: &str| (name.to_owned(), Array { shape: vec![1000], numbers: Numbers::U8(vec![0; 1000]) });
        let file = write_npz(&[array("a"), array("b"), array("c")]).unwrap();
        assert_eq!(read_within(&file, |_| true, 4000).unwrap().0.len(), 3);
        let error = read_within(&file, |_| true, 2500).unwrap_err().to_string();
        assert!(error.contains("array \"c\"") && error.contains("at most 2500 bytes"), "{error}");
        assert_eq!(read_within(&file, |name| name != "a", 2500).unwrap().0.len(), 2);
    }

    #[test]
    fn damaged_files_are_errors_or_arrays() {
        let good =
            write_npz(&[("a".to_owned(), Array { shape: vec![4], numbers: Numbers::F32(vec![1.0; 4]) })]).unwrap();
        let mut draws = crate::probe::Draws::new(2);
        for _ in 0..5000 {
            let mut bytes = good.clone();
            for _ in 0..1 + draws.next_u64() % 3 {
                let at = (draws.next_u64() % bytes.len() as u64) as usize;
                bytes[at] = draws.next_u64() as u8;
            }
            bytes.truncate((draws.next_u64() % (2 * good.len() as u64)) as usize);
            // Neither a panic nor an allocation beyond the budget.
            drop(read_within(&bytes, |_| true, 1 << 16));
        }
    }

    #[test]
    fn column_major_arrays_are_turned() {
        let bytes: Vec<u8> = (0..6).collect();
        assert_eq!(row_major(&bytes, &[2, 3], 1), [0, 2, 4, 1, 3, 5]);
        assert_eq!(row_major(&bytes, &[6], 1), bytes);
    }

    #[test]
    fn damaged_arrays_are_named() {
        let good = npy(&Array { shape: vec![2], numbers: Numbers::F32(vec![1.0, 2.0]) });
        assert!(read_npy("x", &good).is_ok());
        for cut in [0, 5, 9, 20, good.len() - 1] {
            assert!(read_npy("x", &good[..cut]).unwrap_err().to_string().contains("array \"x\""), "{cut}");
        }
        assert!(read_npz(b"PK nothing", |_| true).is_err());
    }
}
