//! Hands the board's memory map to the linker; does nothing for the host.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=memory");
    let has = |feature: &str| env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    if env::var("CARGO_CFG_TARGET_OS")? != "none" || !has("BOARD") {
        return Ok(());
    }
    let map = if has("STM32F407") { "memory/stm32f407.x" } else { "memory/mps2.x" };
    let folder = PathBuf::from(env::var("OUT_DIR")?);
    fs::copy(map, folder.join("memory.x"))?;
    // Names of a chip's interrupts; none is used.
    fs::write(folder.join("device.x"), "")?;
    println!("cargo:rustc-link-search={}", folder.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rustc-link-arg-bins=--nmagic");
    Ok(())
}
