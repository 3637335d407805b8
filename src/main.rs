//! The program; everything is in the library.

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// Wipes what is freed, whoever freed it: of a secret that was let go of, also of the copies that libraries made
/// on its way, nothing stays in memory.
#[global_allocator]
static WIPING: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    leasehold::cli::main(std::env::args_os())
}
