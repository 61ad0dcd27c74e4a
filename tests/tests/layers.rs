//! Holds the architecture: which crate may use which, and what the pure crates must not contain.
//!
//! The table below is the plan of record. A new dependency between crates is a change of the architecture and belongs here first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use nonnet_tests::program::repository;
use serde_json::Value;

/// Each crate with the crates of the workspace it may depend on.
const LAYERS: &[(&str, &[&str])] = &[
    ("nonnet-schema", &[]),
    ("nonnet-engine", &["nonnet-schema"]),
    ("nonnet-chain", &["nonnet-engine", "nonnet-schema"]),
    ("nonnet-sessions", &["nonnet-chain", "nonnet-engine", "nonnet-schema"]),
    ("nonnet-hooks", &["nonnet-engine", "nonnet-schema"]),
    ("nonnet-store", &["nonnet-chain", "nonnet-engine", "nonnet-schema"]),
    (
        "nonnet-kernel",
        &["nonnet-hooks", "nonnet-client", "nonnet-engine", "nonnet-schema"],
    ),
    ("nonnet-resolver", &["nonnet-hooks", "nonnet-engine", "nonnet-schema"]),
    ("nonnet-rpc", &["nonnet-sessions", "nonnet-schema"]),
    ("nonnet-gateway", &["nonnet-sessions", "nonnet-rpc", "nonnet-schema"]),
    ("nonnet-client", &["nonnet-schema"]),
    (
        "nonnet",
        &[
            "nonnet-client",
            "nonnet-chain",
            "nonnet-store",
            "nonnet-engine",
            "nonnet-schema",
        ],
    ),
    (
        "nonnetd",
        &[
            "nonnet-gateway",
            "nonnet-rpc",
            "nonnet-kernel",
            "nonnet-resolver",
            "nonnet-store",
            "nonnet-sessions",
            "nonnet-hooks",
            "nonnet-chain",
            "nonnet-engine",
            "nonnet-client",
            "nonnet-schema",
        ],
    ),
];

/// Crates above the layers: they may use any of them.
const ABOVE: &[&str] = &["nonnet-tests", "nonnet-bench"];

/// The crates into which time, randomness and the outside arrive as values.
const PURE: &[&str] = &[
    "nonnet-schema",
    "nonnet-engine",
    "nonnet-chain",
    "nonnet-sessions",
    "nonnet-hooks",
];

/// Crates that do I/O, wait, or draw random numbers. (`rand` is built without a source of its own: seeds are values.)
const IMPURE_DEPENDENCIES: &[&str] = &[
    "futures-util",
    "getrandom",
    "jsonrpsee",
    "libc",
    "mio",
    "netlink-proto",
    "netlink-sys",
    "nix",
    "rtnetlink",
    "rusqlite",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "tokio-util",
    "tower",
    "tracing-subscriber",
];

/// Words that do not occur in the code of a pure crate.
const IMPURE_WORDS: &[&str] = &[
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "ToSocketAddrs",
    "std::os",
    "std::process",
    "std::thread",
    "std::env",
    "std::io::stdin",
    "std::io::stdout",
    "SystemTime",
    "Instant::now",
    "time::Instant",
    "async fn",
    "async move",
    ".await",
    "thread_rng",
    "rand::rng(",
    "rand::random",
    "from_os_rng",
    "getrandom",
    "new_v4",
    "println!",
];

#[test]
fn crates_depend_only_on_layers_below() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, BTreeSet<&str>> = LAYERS
        .iter()
        .map(|(name, below)| (*name, below.iter().copied().collect()))
        .collect();
    let workspace: BTreeSet<&str> = packages(&metadata)
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    for package in packages(&metadata) {
        let name = package["name"].as_str().unwrap();
        if ABOVE.contains(&name) {
            continue;
        }
        let below = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} has no place in the layers"));
        for dependency in dependencies(package) {
            if workspace.contains(dependency.as_str()) {
                assert!(
                    below.contains(dependency.as_str()),
                    "{name} must not depend on {dependency}"
                );
            }
        }
    }
}

#[test]
fn pure_crates_depend_on_nothing_that_reaches_outside() {
    let metadata = metadata();
    for package in packages(&metadata) {
        let name = package["name"].as_str().unwrap();
        if PURE.contains(&name) {
            for dependency in dependencies(package) {
                assert!(
                    !IMPURE_DEPENDENCIES.contains(&dependency.as_str()),
                    "{name} is pure and must not depend on {dependency}"
                );
            }
        }
    }
}

#[test]
fn pure_crates_contain_no_io_no_clock_and_no_chance() {
    let metadata = metadata();
    for package in packages(&metadata) {
        let name = package["name"].as_str().unwrap();
        if PURE.contains(&name) {
            let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
            for file in rust_files(&manifest.parent().unwrap().join("src")) {
                check_words(&file);
            }
        }
    }
}

/// Looks at code only: comments may name what is absent, tests may do what they like.
fn check_words(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    if file
        .file_stem()
        .is_some_and(|stem| stem == "tests" || stem.to_string_lossy().ends_with("_tests"))
    {
        return;
    }
    let code = text.split("#[cfg(test)]").next().unwrap();
    for (number, line) in code.lines().enumerate() {
        let line = line.split("//").next().unwrap();
        for word in IMPURE_WORDS {
            assert!(
                !line.contains(word),
                "{}:{}: a pure crate must not use {word}",
                file.display(),
                number + 1
            );
        }
    }
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn packages(metadata: &Value) -> &Vec<Value> {
    metadata["packages"].as_array().unwrap()
}

/// Names of what a package depends on, without what only its own tests need.
fn dependencies(package: &Value) -> Vec<String> {
    package["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|dependency| dependency["kind"] != "dev")
        .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
        .collect()
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files
}
