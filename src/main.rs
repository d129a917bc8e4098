//! The `postern` program: everything is in the library, see `postern::cli`.

use std::process::ExitCode;

/// Many threads hand memory to each other here (a mail goes through three); this one is made for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    postern::cli::main()
}
