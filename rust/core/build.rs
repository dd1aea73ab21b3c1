//! Says whether the compiler knows the AVX-512 intrinsics, stable since Rust 1.89.
//!
//! The crate builds with Rust 1.85; there AVX2 is the widest path.

use std::process::Command;

/// The compiler's minor version, or `None` where it does not tell.
fn minor() -> Option<u32> {
    let output = Command::new(std::env::var_os("RUSTC")?).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1)?.split('.').nth(1)?.parse().ok()
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(avx512_intrinsics)");
    if minor().is_some_and(|minor| minor >= 89) {
        println!("cargo::rustc-cfg=avx512_intrinsics");
    }
}
