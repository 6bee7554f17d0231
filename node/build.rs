//! How the binary is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_gnu_linux = std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux")
        && std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu");
    if is_gnu_linux {
        // At a fixed address. Elsewhere the loader writes 80,000 addresses into 500 pages each time that anybody types a
        // command, which takes as long as all that the command then does.
        println!("cargo::rustc-link-arg-bin=jobmesh=-no-pie");
    }
}
