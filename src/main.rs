//! The `postern` program: everything is in the library, see `postern::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern::cli::main()
}
