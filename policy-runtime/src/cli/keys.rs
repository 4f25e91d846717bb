//! `hype-policy keygen | sign | check`.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;

use super::{Outcome, Subject};
use crate::error::{Error, Kind, Result};
use crate::signature::{SecretKey, sign as sign_bundle};

#[derive(Debug, Args)]
pub(super) struct KeygenArgs {
    /// Writes NAME.key, for whoever signs, and NAME.pub, for robots.
    #[arg(short, long, value_name = "NAME")]
    output: PathBuf,
    /// Print one JSON object on standard output and nothing else there.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct SignArgs {
    /// A bundle's folder.
    #[arg(value_name = "BUNDLE")]
    path: PathBuf,
    /// The secret key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Grows from bundle to bundle, so that robots can refuse old ones; seconds since 1970 when not given.
    #[arg(long)]
    serial: Option<u64>,
    /// Print one JSON object on standard output and nothing else there.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn keygen(args: &KeygenArgs) -> Result<Outcome> {
    let with = |ending: &str| {
        let mut name = args.output.clone().into_os_string();
        name.push(ending);
        PathBuf::from(name)
    };
    let (secret, public) = (with(".key"), with(".pub"));
    let key = SecretKey::generate()?;
    key.write(&secret)?;
    key.public().write(&public)?;
    let text = format!("{}: keep it to yourself\n{}: {}\n", secret.display(), public.display(), key.public());
    let json = json!({"secret": secret, "public": public, "key": key.public().to_string()});
    Ok(Outcome { text, json, kind: None })
}

pub(super) fn sign(args: &SignArgs) -> Result<Outcome> {
    let key = SecretKey::read(&args.key)?;
    let signed = sign_bundle(&args.path, &key, args.serial.unwrap_or_else(seconds_since_1970))?;
    let text = format!("{}: signed by {}, serial {}\n", args.path.display(), signed.key, signed.serial);
    let json = json!({"bundle": args.path, "key": signed.key.to_string(), "serial": signed.serial});
    Ok(Outcome { text, json, kind: None })
}

pub(super) fn check(subject: &Subject) -> Result<Outcome> {
    let Some(trust) = subject.trust()? else {
        return Err(Error::Unsupported {
            thing: "check".into(),
            reason: "no key is trusted".into(),
            hint: "give the maker's public key with --trust",
        });
    };
    let path = &subject.path;
    match trust.open(path) {
        Ok((_, signed)) => {
            let text = format!("{}: good, signed by {}, serial {}\n", path.display(), signed.key, signed.serial);
            let json = json!({"bundle": path, "ok": true, "key": signed.key.to_string(), "serial": signed.serial});
            Ok(Outcome { text, json, kind: None })
        }
        Err(error) if error.kind() == Kind::Verification => {
            let json = json!({"bundle": path, "ok": false, "error": error.to_string()});
            Ok(Outcome { text: format!("{error}\n"), json, kind: Some(Kind::Verification) })
        }
        Err(error) => Err(error),
    }
}

#[allow(clippy::disallowed_methods, reason = "a signature says when it was made")]
fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
