//! Arrays of numbers with a shape.

/// Numbers of one type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "named as in Rust")]
pub enum Numbers {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    U8(Vec<u8>),
    Bool(Vec<bool>),
}

/// Numbers in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// As many as the shape says.
    pub numbers: Numbers,
}

impl Numbers {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Numbers::F32(values) => values.len(),
            Numbers::F64(values) => values.len(),
            Numbers::I64(values) => values.len(),
            Numbers::I32(values) => values.len(),
            Numbers::U8(values) => values.len(),
            Numbers::Bool(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// numpy's name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Numbers::F32(_) => "<f4",
            Numbers::F64(_) => "<f8",
            Numbers::I64(_) => "<i8",
            Numbers::I32(_) => "<i4",
            Numbers::U8(_) => "|u1",
            Numbers::Bool(_) => "|b1",
        }
    }

    /// From `start` on `count` of them.
    pub fn part(&self, start: usize, count: usize) -> Option<Self> {
        let range = start..start.checked_add(count)?;
        Some(match self {
            Numbers::F32(values) => Numbers::F32(values.get(range)?.to_vec()),
            Numbers::F64(values) => Numbers::F64(values.get(range)?.to_vec()),
            Numbers::I64(values) => Numbers::I64(values.get(range)?.to_vec()),
            Numbers::I32(values) => Numbers::I32(values.get(range)?.to_vec()),
            Numbers::U8(values) => Numbers::U8(values.get(range)?.to_vec()),
            Numbers::Bool(values) => Numbers::Bool(values.get(range)?.to_vec()),
        })
    }

    /// Appends `more` of the same type; returns whether it was that.
    pub fn append(&mut self, more: &Self) -> bool {
        match (self, more) {
            (Numbers::F32(values), Numbers::F32(more)) => values.extend_from_slice(more),
            (Numbers::F64(values), Numbers::F64(more)) => values.extend_from_slice(more),
            (Numbers::I64(values), Numbers::I64(more)) => values.extend_from_slice(more),
            (Numbers::I32(values), Numbers::I32(more)) => values.extend_from_slice(more),
            (Numbers::U8(values), Numbers::U8(more)) => values.extend_from_slice(more),
            (Numbers::Bool(values), Numbers::Bool(more)) => values.extend_from_slice(more),
            _ => return false,
        }
        true
    }

    /// The numbers as f64.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Numbers::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Numbers::F64(values) => values.clone(),
            Numbers::I64(values) => values.iter().map(|value| *value as f64).collect(),
            Numbers::I32(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Numbers::U8(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Numbers::Bool(values) => values.iter().map(|value| f64::from(u8::from(*value))).collect(),
        }
    }

    /// Little-endian bytes of the numbers, in order.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Numbers::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Numbers::F64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Numbers::I64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Numbers::I32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Numbers::U8(values) => values.clone(),
            Numbers::Bool(values) => values.iter().map(|value| u8::from(*value)).collect(),
        }
    }
}
