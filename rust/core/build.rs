//! Says whether the compiler knows the AVX-512 intrinsics, stable since Rust 1.89, and compiles the
//! program of the process agents, which the crate carries as bytes.
//!
//! The crate builds with Rust 1.85; there AVX2 is the widest path.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const PROGRAM: &str = "process/agent.rs";
const SHARED: &str = "src/operations/agents/solitary.rs";
/// Architectures that the program has an entry and system calls for.
const PROGRAM_ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// The compiler's minor version, or `None` where it does not tell.
fn minor() -> Option<u32> {
    let output = Command::new(env::var_os("RUSTC")?).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1)?.split('.').nth(1)?.parse().ok()
}

fn set(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// Compiles the program for the target, with the compiler and linker of the crate itself: static
/// and without any library, so that it runs wherever the crate does. False where it knows nothing
/// of the target.
fn compile_program() -> bool {
    let architecture = set("CARGO_CFG_TARGET_ARCH");
    let known = PROGRAM_ARCHITECTURES.contains(&architecture.as_str());
    if set("CARGO_CFG_TARGET_OS") != "linux" || !known {
        return false;
    }
    let output = PathBuf::from(set("OUT_DIR")).join("process_agent");
    let mut compiler = Command::new(set("RUSTC"));
    compiler
        .args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "process_agent"])
        .args(["--target", &set("TARGET"), "-C", "opt-level=2", "-C", "panic=abort"])
        .args(["-C", "relocation-model=static", "-C", "strip=symbols"])
        .args(["-C", "link-arg=-nostartfiles", "-C", "link-arg=-nostdlib"])
        .args(["-C", "link-arg=-static", "-o"])
        .arg(&output)
        .arg(PROGRAM);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        compiler.arg("-C").arg(format!("linker={}", linker.to_string_lossy()));
    }
    let status = compiler.status().expect("the compiler of this crate can be started again");
    assert!(status.success(), "{PROGRAM} was not compiled: {compiler:?}");
    true
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={PROGRAM}");
    println!("cargo::rerun-if-changed={SHARED}");
    println!("cargo::rustc-check-cfg=cfg(avx512_intrinsics)");
    println!("cargo::rustc-check-cfg=cfg(process_agents)");
    if minor().is_some_and(|minor| minor >= 89) {
        println!("cargo::rustc-cfg=avx512_intrinsics");
    }
    if compile_program() {
        println!("cargo::rustc-cfg=process_agents");
    }
}
