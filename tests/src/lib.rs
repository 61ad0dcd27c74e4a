//! What nonnet's tests share: real servers in directories of their own, a blocking OVSDB client, the case list and its player.
//!
//! The cases under `tests/cases` are data; the drivers under `tests/tests` run them. Only
//! `in_process` and `fuzz` know crates of the server: what any other test sees is what any client sees.

pub mod case;
pub mod control;
pub mod fuzz;
pub mod generate;
pub mod host;
pub mod host_directories;
pub mod in_process;
pub mod known_difference;
pub mod names;
pub mod netns;
pub mod open_vswitch;
pub mod ovn;
pub mod pki;
pub mod play;
pub mod program;
pub mod record;
pub mod reduce;
pub mod rename;
pub mod replica;
pub mod server;
pub mod side;
pub mod switch;
pub mod transcript;
pub mod wire;
