//! `cargo bench -p nonnet-bench [-- --help]`: nonnetd beside ovsdb-server, in one run.

use std::process::ExitCode;

fn main() -> ExitCode {
    match nonnet_bench::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
