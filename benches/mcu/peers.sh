#!/usr/bin/env bash
# Other engines for microcontrollers, on the network and the emulated board of the firmware's bill (docs/FIRMWARE.md).
# Needs qemu-system-arm, gcc-arm-none-eabi with newlib, python3 and the target thumbv7em-none-eabihf. Everything that it
# installs and makes goes to ${XDG_CACHE_HOME:-~/.cache}/hype/mcu-peers (2 GB, most of it TensorFlow).
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
work="${XDG_CACHE_HOME:-$HOME/.cache}/hype/mcu-peers"
mkdir -p "$work/microflow/src"
cd "$work"

python="$work/venv/bin/python"
if ! "$python" -c "import emlearn, tensorflow, tflite_micro" 2>/dev/null; then
    python3 -m venv venv
    venv/bin/pip install -q emlearn==0.23.2 scikit-learn==1.9.1 tflite-micro==0.dev20261023182759 tensorflow-cpu==2.21.0
fi
"$python" "$here/peers.py" 2>/dev/null

emulate() {
    timeout 120 qemu-system-arm -M mps2-an386 -display none -monitor none -serial none -icount shift=0 \
        -semihosting-config enable=on,target=native -kernel "$1" >"$work/out.txt" 2>&1 || true
    cat "$work/out.txt"
}

echo "== emlearn, f32"
headers="$("$python" -c "import emlearn; print(emlearn.includedir)")"
arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 -O2 -ffunction-sections -fdata-sections -w \
    -Wl,--gc-sections -nostartfiles --specs=nano.specs --specs=nosys.specs -I "$headers" -I "$work" \
    "$here/emlearn.c" -o emlearn.elf -T "$here/board.ld" -lm
arm-none-eabi-size -A emlearn.elf | grep -E "^[.](text|data|bss)"
emulate emlearn.elf

echo "== microflow, int8"
cp "$here/microflow.rs" microflow/src/main.rs
cp int8.tflite microflow/
cat >microflow/memory.x <<'END'
MEMORY { FLASH : ORIGIN = 0, LENGTH = 4M  RAM : ORIGIN = 0x20000000, LENGTH = 4M }
END
cat >microflow/build.rs <<'END'
fn main() {
    println!("cargo:rustc-link-search={}", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    println!("cargo:rustc-link-arg=-Tlink.x");
    println!("cargo:rustc-link-arg=--nmagic");
}
END
cat >microflow/Cargo.toml <<'END'
[package]
name = "peer"
version = "0.0.0"
edition = "2021"

[dependencies]
microflow = "=0.1.3"
nalgebra = { version = "0.32", default-features = false, features = ["macros"] }
cortex-m = { version = "=0.7.10", features = ["critical-section-single-core"] }
cortex-m-rt = "=0.7.7"
cortex-m-semihosting = "=0.5.0"

[profile.release]
opt-level = 3
lto = "fat"
codegen-units = 1
panic = "abort"

[workspace]
END
CARGO_TARGET_DIR="$work/microflow-target" cargo build -q --release --target thumbv7em-none-eabihf \
    --manifest-path microflow/Cargo.toml
elf="$work/microflow-target/thumbv7em-none-eabihf/release/peer"
arm-none-eabi-size -A "$elf" | grep -E "^[.](text|rodata|data|bss)"
emulate "$elf"
