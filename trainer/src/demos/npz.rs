//! NumPy archives with the keys of the published demonstrations.

use super::PhysicsStates;
use super::array::{Array, Elements, is_within};
use super::assemble::Columns;
use crate::error::{Error, Result};
use ndarray::{ArrayD, CowArray, IxDyn};
use ndarray_npy::npy::header::Header;
use ndarray_npy::{ReadNpyError, ReadNpyExt, ReadableElement};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zip::ZipArchive;

pub(super) fn read(path: &Path, origin: &str) -> Result<(Columns, BTreeMap<String, String>)> {
    let damaged = |source: zip::result::ZipError| {
        Error::data(format!("{origin} cannot be read: a truncated or damaged npz archive"))
            .source(source)
            .hint("compare the file's size and checksum with its origin's")
    };
    let file = File::open(path).map_err(|source| Error::io("read", path, source))?;
    let mut archive = ZipArchive::new(file).map_err(damaged)?;
    let mut arrays = BTreeMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(damaged)?;
        let key = entry.name().map_err(damaged)?.strip_suffix(".npy").map(str::to_owned);
        let Some(key) = key.filter(|key| KEYS.contains(&key.as_str())) else { continue };
        let name = format!("{origin}: array `{key}`");
        let mut bytes = Vec::new();
        // Reading to the end checks the archive's checksum: what follows sees the bytes that were written.
        entry.read_to_end(&mut bytes).map_err(|source| {
            Error::data(format!("{name} is damaged")).source(source).hint("download or record the file again")
        })?;
        check_size(&bytes, &name)?;
        arrays.insert(key, array(&bytes, name)?);
    }
    columns(arrays, origin)
}

const KEYS: [&str; 9] =
    ["observations", "actions", "next_observations", "rewards", "terminals", "timeouts", "seed", "qpos", "qvel"];

/// Refuses a size that cannot be true before anything is allocated for it: an element takes a byte or more.
fn check_size(bytes: &[u8], name: &str) -> Result<()> {
    // A header that cannot be read is told of where the array is.
    let Ok(Header { shape, .. }) = Header::from_reader(&mut &*bytes) else { return Ok(()) };
    if is_within(shape.iter().copied(), bytes.len() as u64) {
        return Ok(());
    }
    Err(Error::data(format!("{name} is damaged"))
        .expected(format!("a shape that {} bytes can hold", bytes.len()))
        .found(format!("{shape:?}"))
        .hint("download or record the file again"))
}

type Typed<T> = Result<(Vec<usize>, Vec<T>), ReadNpyError>;

fn array(bytes: &[u8], name: String) -> Result<Array> {
    // None where the file holds another element type.
    fn typed<T: ReadableElement + Clone>(bytes: &[u8]) -> Option<Typed<T>> {
        match ArrayD::<T>::read_npy(bytes) {
            Err(ReadNpyError::WrongDescriptor(_)) => None,
            Err(error) => Some(Err(error)),
            Ok(array) => {
                let shape = array.shape().to_vec();
                // Fortran-ordered files become row-major here.
                let rows: CowArray<'_, T, IxDyn> = array.as_standard_layout();
                Some(Ok((shape, rows.iter().cloned().collect())))
            }
        }
    }
    macro_rules! first_type_of {
        ($($element:ty => $wrap:expr),* $(,)?) => {$(
            if let Some(outcome) = typed::<$element>(bytes) {
                return match outcome {
                    Ok((shape, values)) => Ok(Array { name, shape, elements: $wrap(values) }),
                    Err(error) => Err(Error::data(format!("{name} cannot be read")).source(error)),
                };
            }
        )*};
    }
    fn widen<T: Into<i64>>(values: Vec<T>) -> Elements {
        Elements::Int(values.into_iter().map(Into::into).collect())
    }
    first_type_of!(
        f32 => Elements::F32,
        f64 => Elements::F64,
        bool => widen,
        u8 => widen,
        i8 => widen,
        i32 => widen,
        u32 => widen,
        i64 => Elements::Int,
    );
    Err(Error::data(format!("{name} has an element type this reader does not know"))
        .expected("float32, float64, bool or an integer")
        .hint("convert it before np.savez, for instance with .astype(np.float32)"))
}

fn columns(mut arrays: BTreeMap<String, Array>, origin: &str) -> Result<(Columns, BTreeMap<String, String>)> {
    let found = arrays.keys().cloned().collect::<Vec<_>>().join(", ");
    let mut take = |key: &str| {
        arrays.remove(key).ok_or_else(|| {
            Error::data(format!("{origin}: array `{key}` is missing"))
                .expected("observations, actions, terminals")
                .found(if found.is_empty() { "none of the known names" } else { &found })
                .hint("one row a step in each; `terminals` is 1 where the task ended an episode, `timeouts` where time did")
        })
    };
    let mut warnings = Vec::new();
    let (observations, actions) = (take("observations")?, take("actions")?);
    let rewards = take("rewards").ok().map(Array::into_column).transpose()?;
    let terminals = take("terminals")?.into_flags()?;
    let timeouts = match take("timeouts") {
        Ok(array) => array.into_flags()?,
        Err(_) => {
            warnings.push("no `timeouts`: episodes end at `terminals` only".to_owned());
            vec![false; terminals.len()]
        }
    };
    let (obs_dim, act_dim) = (observations.width()?, actions.width()?);
    let next_observations = match take("next_observations") {
        Ok(next) if next.width()? != obs_dim => {
            return Err(Error::data(format!("{} is not as wide as `observations`", next.name))
                .expected(format!("width {obs_dim}"))
                .found(format!("width {}", next.width()?)));
        }
        Ok(next) => Some(next.into_f32()),
        Err(_) => None,
    };
    let states = match (take("qpos"), take("qvel")) {
        (Ok(qpos), Ok(qvel)) => {
            let (nq, nv) = (qpos.width()?, qvel.width()?);
            Some(PhysicsStates { nq, nv, qpos: qpos.into_f64(), qvel: qvel.into_f64() })
        }
        _ => None,
    };
    let mut attributes = BTreeMap::new();
    if let Ok(seeds) = take("seed") {
        let count = seeds.shape.iter().product::<usize>();
        let mut seeds = seeds.into_f64();
        seeds.dedup();
        let text = seeds.iter().take(8).map(f64::to_string).collect::<Vec<_>>().join(", ");
        let more = if seeds.len() > 8 { ", …" } else { "" };
        attributes.insert("seed".to_owned(), format!("{text}{more} ({count} values)"));
    }
    let columns = Columns {
        obs_dim,
        act_dim,
        observations: observations.into_f32(),
        actions: actions.into_f32(),
        next_observations,
        rewards,
        terminals,
        timeouts,
        states,
        step_numbers: None,
        warnings,
    };
    Ok((columns, attributes))
}
