//! Who made a bundle: ed25519 signatures over the digests of all its files.
//!
//! `signature.json` lies in the bundle. What is signed is a text of fixed form: a first line that names the format, the
//! serial number, and one line with name, length and sha256 per file, the manifest among them, in order of names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use ed25519_dalek::{Signature, Signer};
use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, FileRecord, MANIFEST_FILE};
use crate::error::{Error, Result};
use crate::files::{MAX_ONNX_BYTES, read_bounded};

/// Name of the signature in a bundle.
pub const SIGNATURE_FILE: &str = "signature.json";
/// First line of what is signed.
const DOMAIN: &str = "hype-bundle-signature 1";
/// Most files of a signed bundle.
const MOST_FILES: usize = 64;
/// Largest signature file and key file that is read.
const MAX_BYTES: u64 = 1 << 16;
const SECRET: &str = "ed25519-secret:";
const PUBLIC: &str = "ed25519-public:";

/// What `signature.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureFile {
    /// The format and its version.
    format: String,
    /// Grows from bundle to bundle, so that an old one can be told.
    serial: u64,
    files: BTreeMap<String, FileRecord>,
    /// Public key, hexadecimal.
    key: String,
    /// Hexadecimal.
    signature: String,
}

impl SignatureFile {
    fn message(&self) -> Vec<u8> {
        let mut text = format!("{DOMAIN}\nserial {}\n", self.serial);
        for (name, record) in &self.files {
            text += &format!("{name:?} {} {}\n", record.bytes, record.sha256);
        }
        text.into_bytes()
    }
}

/// A key that signs.
pub struct SecretKey(ed25519_dalek::SigningKey);

/// A key that tells who signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

/// Whose bundles are loaded, and how new they must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// Any one of these.
    pub keys: Vec<PublicKey>,
    /// Lowest serial number.
    pub min_serial: u64,
}

/// A signature that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Who signed.
    pub key: PublicKey,
    /// The serial number.
    pub serial: u64,
    files: BTreeMap<String, FileRecord>,
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(not shown)")
    }
}

impl SecretKey {
    /// A new key from the operating system's random numbers.
    ///
    /// # Errors
    /// [`Error::File`] where the system has no `/dev/urandom`.
    pub fn generate() -> Result<Self> {
        let path = Path::new("/dev/urandom");
        let mut seed = [0; 32];
        fs::File::open(path)
            .and_then(|mut file| file.read_exact(&mut seed))
            .map_err(|e| Error::file("read", path, e))?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// Reads a secret key file.
    ///
    /// # Errors
    /// Where it cannot be read or is none.
    pub fn read(path: &Path) -> Result<Self> {
        key_bytes(path, SECRET).map(|seed| Self(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// Writes a new file that only its owner may read; one that is there is not replaced.
    ///
    /// # Errors
    /// [`Error::File`] where it is there or cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let text = format!("{SECRET}{}\n", hex(self.0.as_bytes()));
        let written =
            options.open(path).and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        written.map_err(|source| Error::file("create", path, source))
    }

    /// The key to give to robots.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PUBLIC}{}", hex(self.0.as_bytes()))
    }
}

impl PublicKey {
    /// Reads a public key file.
    ///
    /// # Errors
    /// Where it cannot be read or is none.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_bytes(&key_bytes(path, PUBLIC)?).map_err(|error| error.within(path.display()))
    }

    fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes);
        key.map(Self).map_err(|error| Error::malformed("public key", "a point of the curve", error))
    }

    /// Writes a new file; one that is there is not replaced.
    ///
    /// # Errors
    /// [`Error::File`] where it is there or cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        file.and_then(|mut file| writeln!(file, "{self}")).map_err(|source| Error::file("create", path, source))
    }
}

/// Signs the bundle at `path` as it is, every file of it, and writes [`SIGNATURE_FILE`].
///
/// # Errors
/// Where the bundle cannot be opened, or the signature not written.
pub fn sign(path: &Path, key: &SecretKey, serial: u64) -> Result<Signed> {
    // What is not whole is not signed.
    Bundle::open(path)?;
    let mut files = BTreeMap::new();
    for name in names_in(path)? {
        let record = FileRecord::of(&read_bounded(&path.join(&name), MAX_ONNX_BYTES)?);
        files.insert(name, record);
    }
    let public = key.public();
    let mut file =
        SignatureFile { format: DOMAIN.into(), serial, files, key: hex(public.0.as_bytes()), signature: String::new() };
    file.signature = hex(&key.0.sign(&file.message()).to_bytes());
    let text = serde_json::to_vec_pretty(&file).map_err(|error| Error::malformed("signature", "JSON", error))?;
    let (target, staged) = (path.join(SIGNATURE_FILE), path.join(".signature.json.new"));
    let write = || {
        let mut file = fs::File::create(&staged)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&staged, &target)
    };
    write().map_err(|source| Error::file("write", &target, source))?;
    Ok(Signed { key: public, serial, files: file.files })
}

impl Trust {
    /// Trust in the keys of these files.
    ///
    /// # Errors
    /// Where one of them cannot be read.
    pub fn read(paths: &[impl AsRef<Path>], min_serial: u64) -> Result<Self> {
        let keys = paths.iter().map(|path| PublicKey::read(path.as_ref())).collect::<Result<_>>()?;
        Ok(Self { keys, min_serial })
    }

    /// Opens a bundle, when it is signed by a trusted key, new enough, and every file is the one that was signed.
    ///
    /// # Errors
    /// [`Error::Untrusted`] says why not; otherwise as [`Bundle::open`].
    pub fn open(&self, path: &Path) -> Result<(Bundle, Signed)> {
        let refused = |reason: String| Error::Untrusted { path: path.to_path_buf(), reason };
        if path.is_file() {
            return Err(refused("a model file carries no signature, a bundle does".into()));
        }
        let signed = self.signature(path)?;
        let there: BTreeSet<String> = names_in(path)?.into_iter().collect();
        let listed: BTreeSet<String> = signed.files.keys().cloned().collect();
        if let Some(name) = there.symmetric_difference(&listed).next() {
            let how = if there.contains(name) { "was added after signing" } else { "is missing" };
            return Err(refused(format!("{name} {how}")));
        }
        let mut read = BTreeSet::new();
        let mut check = |name: &str, content: &[u8]| {
            read.insert(name.to_owned());
            if signed.files.get(name) == Some(&FileRecord::of(content)) {
                return Ok(());
            }
            Err(refused(format!("{name} was altered or truncated after signing")))
        };
        let bundle = Bundle::open_with(path, &mut check)?;
        for name in &listed {
            if !read.contains(name) {
                let content = read_bounded(&path.join(name), MAX_ONNX_BYTES)?;
                if signed.files.get(name) != Some(&FileRecord::of(&content)) {
                    return Err(refused(format!("{name} was altered or truncated after signing")));
                }
            }
        }
        Ok((bundle, signed))
    }

    fn signature(&self, path: &Path) -> Result<Signed> {
        let refused = |reason: &str| Error::Untrusted { path: path.to_path_buf(), reason: reason.into() };
        let file = path.join(SIGNATURE_FILE);
        let bytes = match read_bounded(&file, MAX_BYTES) {
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(refused("it is not signed"));
            }
            read => read?,
        };
        let parsed = parse(&bytes).map_err(|error| refused(&format!("its signature cannot be read: {error}")))?;
        let (file, key, signature) = parsed;
        if !self.keys.contains(&key) {
            return Err(refused(&format!("it is signed by {key}, which is not trusted")));
        }
        if key.0.verify_strict(&file.message(), &signature).is_err() {
            return Err(refused("its signature does not fit"));
        }
        if file.serial < self.min_serial {
            let reason = format!("its serial number is {}, at least {} is required", file.serial, self.min_serial);
            return Err(refused(&reason));
        }
        if !file.files.contains_key(MANIFEST_FILE) {
            return Err(refused("its signature does not cover the manifest"));
        }
        Ok(Signed { key, serial: file.serial, files: file.files })
    }
}

/// Whether these are the bytes of a signature file, and its signature fits the key that it names. Whose key that is it does not tell: only a
/// [`Trust`] makes something of it.
pub fn is_whole(bytes: &[u8]) -> bool {
    parse(bytes).is_ok_and(|(file, key, signature)| key.0.verify_strict(&file.message(), &signature).is_ok())
}

fn parse(bytes: &[u8]) -> Result<(SignatureFile, PublicKey, Signature)> {
    let not_json = |error: serde_json::Error| Error::malformed(SIGNATURE_FILE, "JSON of a signature", error);
    let file: SignatureFile = serde_json::from_slice(bytes).map_err(not_json)?;
    if file.format != DOMAIN {
        return Err(Error::malformed(SIGNATURE_FILE, format!("format {DOMAIN:?}"), format!("{:?}", file.format)));
    }
    let key =
        PublicKey::from_bytes(&unhex(&file.key).ok_or_else(|| Error::malformed("key", "64 hex digits", "others"))?)?;
    let signature =
        unhex::<64>(&file.signature).ok_or_else(|| Error::malformed("signature", "128 hex digits", "others"))?;
    Ok((file, key, Signature::from_bytes(&signature)))
}

/// Names of all files of a bundle but its signature.
fn names_in(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(|source| Error::file("read", path, source))? {
        let entry = entry.map_err(|source| Error::file("read", path, source))?;
        let kind = entry.file_type().map_err(|source| Error::file("read", &entry.path(), source))?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|_| Error::malformed(path.display().to_string(), "file names in UTF-8", "others"))?;
        if !kind.is_file() {
            let thing = entry.path().display().to_string();
            return Err(Error::malformed(thing, "a plain file in a signed bundle", "a folder, link or device"));
        }
        if name != SIGNATURE_FILE {
            names.push(name);
        }
        if names.len() > MOST_FILES {
            return Err(Error::malformed(path.display().to_string(), format!("at most {MOST_FILES} files"), "more"));
        }
    }
    Ok(names)
}

fn key_bytes(path: &Path, prefix: &str) -> Result<[u8; 32]> {
    let bytes = read_bounded(path, MAX_BYTES)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    text.strip_prefix(prefix).and_then(unhex).ok_or_else(|| {
        Error::malformed(path.display().to_string(), format!("{prefix}, then 64 hexadecimal digits"), "something else")
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 2 * N { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{FORMAT, FORMAT_VERSION, Manifest, POLICY_FILE};
    use crate::contract::{Channel, Contract};
    use crate::selfcheck::{Golden, ProbeKind};

    fn bundle(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("bundle");
        fs::create_dir(&path).unwrap();
        let contract = Contract {
            task: "t".into(),
            observation: vec![Channel::unbounded("a", "1")],
            action: vec![Channel::bounded("b", "1", -1.0, 1.0)],
            control_period_secs: 0.01,
            fallback: crate::Fallback::Zero,
            max_observation_age_secs: None,
            guards: Default::default(),
        };
        let golden = Golden {
            kind: ProbeKind::Random,
            observation: vec![0.5],
            action: vec![0.25],
            activation_scale: 1.0,
            judgement: None,
        };
        let manifest = Manifest {
            format: FORMAT.into(),
            format_version: FORMAT_VERSION,
            contract,
            files: BTreeMap::from([(POLICY_FILE.into(), FileRecord::of(b"model"))]),
            golden: vec![golden],
            monitor: None,
            embedded: Vec::new(),
            agreement: Vec::new(),
            provenance: serde_json::Value::Null,
            training: serde_json::Value::Null,
        };
        fs::write(path.join(POLICY_FILE), b"model").unwrap();
        fs::write(path.join(MANIFEST_FILE), serde_json::to_vec(&manifest).unwrap()).unwrap();
        path
    }

    fn edit(path: &Path, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(path.join(name)).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path.join(name), text.replacen(from, to, 1)).unwrap();
    }

    fn trust(key: &SecretKey, min_serial: u64) -> Trust {
        Trust { keys: vec![key.public()], min_serial }
    }

    #[test]
    fn a_signed_bundle_opens_and_every_way_of_spoiling_it_is_refused() {
        type Spoil = fn(&Path);
        let cases: [(Spoil, &str); 9] = [
            (|path| fs::remove_file(path.join(SIGNATURE_FILE)).unwrap(), "not signed"),
            (|path| fs::write(path.join(POLICY_FILE), b"mode").unwrap(), "altered or truncated"),
            (|path| fs::write(path.join(POLICY_FILE), b"nodel").unwrap(), "altered or truncated"),
            (|path| edit(path, MANIFEST_FILE, "0.25", "0.26"), "manifest.json was altered"),
            (|path| fs::write(path.join("extra"), b"").unwrap(), "extra was added"),
            (|path| fs::remove_file(path.join(POLICY_FILE)).unwrap(), "policy.onnx is missing"),
            (|path| edit(path, SIGNATURE_FILE, "\"serial\": 7", "\"serial\": 8"), "does not fit"),
            (|path| fs::write(path.join(SIGNATURE_FILE), b"{}").unwrap(), "cannot be read"),
            (|path| edit(path, SIGNATURE_FILE, "\"sha256\": \"", "\"sha256\": \"0"), "does not fit"),
        ];
        let key = SecretKey::generate().unwrap();
        for (spoil, wanted) in cases {
            let folder = tempfile::tempdir().unwrap();
            let path = bundle(folder.path());
            assert!(trust(&key, 0).open(&path).unwrap_err().to_string().contains("not signed"));
            sign(&path, &key, 7).unwrap();
            let (opened, signed) = trust(&key, 7).open(&path).unwrap();
            assert_eq!((opened.policy.as_slice(), signed.serial, signed.key), (&b"model"[..], 7, key.public()));
            let old = trust(&key, 8).open(&path).unwrap_err();
            assert!(old.to_string().contains("at least 8 is required"), "{old}");
            let stranger = trust(&SecretKey::generate().unwrap(), 0).open(&path).unwrap_err();
            assert!(stranger.to_string().contains("not trusted"), "{stranger}");
            spoil(&path);
            let error = trust(&key, 0).open(&path).unwrap_err();
            assert!(error.to_string().contains(wanted), "{error} does not mention {wanted:?}");
            assert_eq!(error.kind(), crate::Kind::Verification);
        }
    }

    #[test]
    fn no_damage_to_a_signature_goes_unnoticed_or_panics() {
        let folder = tempfile::tempdir().unwrap();
        let path = bundle(folder.path());
        let key = SecretKey::generate().unwrap();
        sign(&path, &key, 7).unwrap();
        let good = fs::read(path.join(SIGNATURE_FILE)).unwrap();
        assert!(is_whole(&good));
        let same = |bytes: &[u8]| serde_json::from_slice::<SignatureFile>(bytes).ok();
        let mut draws = crate::probe::Draws::new(8);
        for _ in 0..2000 {
            let mut bytes = good.clone();
            let at = (draws.next_u64() % bytes.len() as u64) as usize;
            match draws.next_u64() % 3 {
                0 => bytes.truncate(at),
                1 => bytes[at] ^= 1 << (draws.next_u64() % 8),
                _ => bytes[at] = b'9',
            }
            // White space and the case of a hexadecimal digit are the same content.
            let changed = same(&bytes).is_none_or(|file| file.message() != same(&good).unwrap().message());
            assert!(!changed || !is_whole(&bytes), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn keys_survive_their_files_and_are_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (secret_file, public_file) = (folder.path().join("k.key"), folder.path().join("k.pub"));
        let key = SecretKey::generate().unwrap();
        key.write(&secret_file).unwrap();
        key.public().write(&public_file).unwrap();
        assert_eq!(SecretKey::read(&secret_file).unwrap().public(), key.public());
        assert_eq!(PublicKey::read(&public_file).unwrap(), key.public());
        assert!(key.write(&secret_file).is_err() && key.public().write(&public_file).is_err());
        assert!(PublicKey::read(&secret_file).unwrap_err().to_string().contains(PUBLIC));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&secret_file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(!format!("{key:?}").contains(&hex(key.0.as_bytes())));
    }

    #[test]
    fn a_published_signature() {
        // RFC 8032, section 7.1, test 3.
        let seed = unhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7").unwrap();
        let key = SecretKey(ed25519_dalek::SigningKey::from_bytes(&seed));
        assert_eq!(hex(key.public().0.as_bytes()), "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
        let signature = hex(&key.0.sign(&[0xaf, 0x82]).to_bytes());
        assert!(signature.starts_with("6291d657deec24024827e69c3abe01a3"), "{signature}");
    }
}
