//! What all commands share that ask a running process.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use super::CommandError;
use crate::cli::Asked;

/// The admin socket of the process that is to be asked.
pub(super) fn socket(asked: Asked) -> Result<PathBuf, CommandError> {
    let source = match asked {
        Asked::At(path) => return Ok(path),
        Asked::With(source) => source,
    };
    let admin = source.admin().map_err(CommandError::AdminUnknown)?;
    admin.ok_or(CommandError::NoAdmin {
        file: source.file.unwrap_or_default(),
    })
}

/// Does `work` in a runtime of its own.
pub(super) fn block_on(
    work: impl Future<Output = Result<ExitCode, CommandError>>,
) -> Result<ExitCode, CommandError> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(work)
}

/// Says it, at once: who waits for it may read a pipe.
pub(super) fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}
