//! What is set once for the whole process: no core dumps, no panic that quotes what it choked on.

use std::panic;

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// Keeps what is in memory there: no core file, no debugger of the same user, and a panic says where it
/// was and nothing else. What the system refuses is done without.
pub(super) fn harden() {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).ok();
    prctl::set_dumpable(false).ok();
    panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        super::complain(format_args!(
            "error: Leasehold panicked{place}; this is a bug, please report it"
        ));
    }));
}
