//! The monitor's numbers for a microcontroller: what may follow a policy in the same memory. docs/FORMAT.md has the table.

use super::reader::{Rows, word};
use super::{Blob, BlobError, crc32};
use crate::drift::{Cusum, distance, score};

/// First bytes of the section.
pub const WATCH_MAGIC: [u8; 8] = *b"HYPEWTCH";
/// The version that this crate writes and reads.
pub const WATCH_VERSION: u16 = 1;
/// Bytes before the numbers.
const PREFIX_BYTES: usize = 32;

/// Scores observation-action pairs by their distance from the demonstrations', and adds up what is unusual.
#[derive(Debug, Clone)]
pub struct Watch<'a> {
    mean: &'a [f32],
    whitening: &'a [f32],
    cusum: Cusum,
    raised: bool,
}

impl<'a> Watch<'a> {
    /// The section behind `blob` in `memory`, at whose start the blob lies; `None` where something else follows.
    ///
    /// # Errors
    /// The section's first defect.
    pub fn open(memory: &'a [u8], blob: &Blob<'_>) -> Result<Option<Self>, BlobError> {
        let section = memory.get(blob.bytes()..).unwrap_or(&[]);
        if section.first_chunk() != Some(&WATCH_MAGIC) {
            return Ok(None);
        }
        let prefix = section.get(..PREFIX_BYTES).ok_or(BlobError::Size)?;
        if word(prefix, 8)? != usize::from(WATCH_VERSION) {
            return Err(BlobError::Version);
        }
        if crc32(prefix.get(..28).unwrap_or(&[])) as usize != word(prefix, 28)? {
            return Err(BlobError::PrefixDigest);
        }
        let contract = blob.header().contract_sha256;
        let widths = blob.observation_width() | blob.action_width() << 16;
        if word(prefix, 12)? != widths || word(contract, 0)? != word(prefix, 16)? {
            return Err(BlobError::Shape);
        }
        let end = PREFIX_BYTES.checked_add(word(prefix, 20)?).ok_or(BlobError::Size)?;
        let data = section.get(PREFIX_BYTES..end).ok_or(BlobError::Size)?;
        if crc32(data) as usize != word(prefix, 24)? {
            return Err(BlobError::DataDigest);
        }
        let mut rows = Rows(bytemuck::try_cast_slice(data).map_err(|_| BlobError::Alignment)?);
        let width = blob.observation_width() + blob.action_width();
        let statistic = rows.finite(5)?;
        let mean = rows.finite(width)?;
        let whitening = rows.finite(width * (width + 1) / 2)?;
        let [mean_score, deviation, slack, most, threshold] = *statistic else { return Err(BlobError::Shape) };
        let cusum = Cusum { mean: mean_score, deviation, slack, most, threshold, sum: 0.0 };
        match (rows.0.is_empty(), cusum.is_sane()) {
            (true, true) => Ok(Some(Self { mean, whitening, cusum, raised: false })),
            (true, false) => Err(BlobError::Number),
            (false, _) => Err(BlobError::Shape),
        }
    }

    /// Scores one raw observation and the action for it, in environment units; returns whether the alarm is raised now,
    /// where that changed.
    pub fn watch(&mut self, observation: &[f32], action: &[f32]) -> Option<bool> {
        let raised = self.cusum.add(score(distance(self.mean, self.whitening, observation, action)));
        let changed = raised != self.raised;
        self.raised = raised;
        changed.then_some(raised)
    }

    /// Whether the alarm is raised.
    pub fn is_raised(&self) -> bool {
        self.raised
    }

    /// Forgets what it added up.
    pub fn reset(&mut self) {
        self.cusum.reset();
        self.raised = false;
    }
}

/// The section for a bundle's monitor, to be flashed behind either of its blobs; `None` where the monitor was not fitted, or
/// watches the discriminator's cost.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) where monitor and contract do not fit each other.
#[cfg(feature = "std")]
pub fn watch_section(
    contract: &crate::Contract,
    record: &crate::monitor::MonitorRecord,
) -> crate::Result<Option<Vec<u8>>> {
    use super::ALIGNMENT;
    use crate::monitor::Score;

    record.validate(contract)?;
    let (Score::Mahalanobis, Some(cusum)) = (record.score, record.cusum) else { return Ok(None) };
    let Cusum { mean, deviation, slack, most, threshold, .. } = cusum;
    let mut data: Vec<u8> = Vec::new();
    for row in [&[mean, deviation, slack, most, threshold][..], &record.shape.mean, &record.shape.whitening] {
        data.extend(row.iter().flat_map(|value| value.to_le_bytes()));
        data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
    }
    let mut bytes = WATCH_MAGIC.to_vec();
    bytes.extend(u32::from(WATCH_VERSION).to_le_bytes());
    for width in [contract.observation.len(), contract.action.len()] {
        // `validate` knows a smaller bound.
        bytes.extend((width as u16).to_le_bytes());
    }
    bytes.extend(&super::write::contract_digest(contract)?[..4]);
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(crc32(&data).to_le_bytes());
    bytes.extend(crc32(&bytes).to_le_bytes());
    bytes.extend(data);
    Ok(Some(bytes))
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::super::heap::BlobFile;
    use super::super::tests::{contract, kinds, written};
    use super::super::{ALIGNMENT, Precision};
    use super::*;
    use crate::monitor::{Monitor, MonitorRecord, Score, Shape};
    use crate::probe::Draws;

    fn pair(draws: &mut Draws, shift: f32) -> ([f32; 5], [f32; 3]) {
        let common = draws.normal();
        let observation = std::array::from_fn(|index| common + 0.3 * draws.normal() + shift * index as f32);
        (observation, std::array::from_fn(|_| 0.2 * draws.normal()))
    }

    fn record(draws: &mut Draws) -> MonitorRecord {
        let rows: Vec<f32> = (0..500)
            .flat_map(|_| {
                let (observation, action) = pair(draws, 0.0);
                observation.into_iter().chain(action)
            })
            .collect();
        let shape = Shape::of(&rows, 8).unwrap();
        let cusum = Cusum { mean: 0.6, deviation: 0.3, slack: 0.5, most: 10.0, threshold: 20.0, sum: 0.0 };
        MonitorRecord { shape, score: Score::Mahalanobis, cusum: Some(cusum) }
    }

    /// A blob with what follows it.
    fn flash(section: &[u8]) -> BlobFile {
        let mut draws = Draws::new(51);
        let blob = written(&kinds(&mut draws)[0], Precision::F32, &mut draws);
        assert!(blob.bytes().len().is_multiple_of(ALIGNMENT));
        BlobFile::new(&[blob.bytes(), section].concat())
    }

    fn open(file: &BlobFile) -> Result<bool, BlobError> {
        let blob = Blob::open(file.bytes())?;
        Watch::open(file.bytes(), &blob).map(|watch| watch.is_some())
    }

    #[test]
    fn it_says_what_the_hosts_monitor_says() {
        let mut draws = Draws::new(52);
        let record = record(&mut draws);
        let file = flash(&watch_section(&contract(5, 3), &record).unwrap().unwrap());
        let blob = Blob::open(file.bytes()).unwrap();
        let mut watch = Watch::open(file.bytes(), &blob).unwrap().unwrap();
        let mut monitor = Monitor::new(&record, None).unwrap();
        let (mut raised, mut changes) = (false, 0);
        for step in 0..600 {
            let shift = if (200..260).contains(&step) { 0.8 } else { 0.0 };
            let (mut observation, action) = pair(&mut draws, shift);
            if step == 210 {
                observation[2] = f32::NAN;
            }
            if let Some(changed) = watch.watch(&observation, &action) {
                (raised, changes) = (changed, changes + 1);
            }
            assert_eq!(raised, monitor.watch(&observation, &action), "step {step}");
            assert_eq!(watch.cusum.sum.to_bits(), monitor.sum().to_bits(), "step {step}");
            assert!(!raised || step >= 200, "step {step}");
        }
        assert!(changes >= 2 && !raised, "{changes} changes");
    }

    #[test]
    fn every_defect_is_refused_and_nothing_is_nothing() {
        let mut draws = Draws::new(53);
        let mut record = record(&mut draws);
        let good = watch_section(&contract(5, 3), &record).unwrap().unwrap();
        assert_eq!(open(&flash(&good)), Ok(true));
        for nothing in [&[][..], &[0xff; 64], b"HYPEBLOB", &good[1..]] {
            assert_eq!(open(&flash(nothing)), Ok(false));
        }
        for at in (8..good.len()).step_by(3) {
            let mut spoiled = good.clone();
            spoiled[at] ^= 0x10;
            assert!(open(&flash(&spoiled)).is_err(), "byte {at}");
        }
        assert_eq!(open(&flash(&good[..20])), Err(BlobError::Size));
        assert_eq!(open(&flash(&good[..good.len() - 1])), Err(BlobError::Size));
        let mut other = contract(5, 3);
        other.task = "other".into();
        let foreign = watch_section(&other, &record).unwrap().unwrap();
        assert_eq!(open(&flash(&foreign)), Err(BlobError::Shape));
        record.cusum = None;
        assert_eq!(watch_section(&contract(5, 3), &record).unwrap(), None);
    }
}
