//! Process entry: the command line, and an exit code that tells how it went: 0, 64 for a command line or
//! configuration that cannot be used, 1 for a failed start.

use std::process::ExitCode;

use pinring::{
    cli,
    commands::{self, BAD_CONFIGURATION, CommandError},
};

/// glibc's keeps seven blocks of a size at hand, and 64 requests at a time need more: user CPU of a call ×0.88, memory of an
/// idle stream ×0.97, an idle process 3 MiB more. musl's own takes three system calls for a request, and has one lock for
/// all threads.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(command) => command,
        Err(error) => {
            let code = if error.use_stderr() {
                BAD_CONFIGURATION
            } else {
                0
            };
            drop(error.print()); // nobody is there to be told that it failed
            return ExitCode::from(code);
        }
    };
    commands::run(command).unwrap_or_else(|error| {
        report(&error);
        error.exit_code()
    })
}

/// The error with its causes: the one place where a chain is printed.
///
/// Faults of a configuration stand alone: each of their lines begins with the file and line, for editors.
fn report(error: &CommandError) {
    match error {
        CommandError::Config(faults) => eprintln!("{faults}"),
        error => eprintln!("pinring: {error}"),
    }
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
