//! Which running process a command asks, and how.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
};

use super::CommandError;
use crate::{
    admin::client::Client,
    cli::{Asked, Which},
    config::{AdminPlace, Token},
};

/// The client for the process that is to be asked.
pub(super) fn client(asked: Asked) -> Result<Client, CommandError> {
    let from_environment = asked.token.map(token).transpose()?;
    let source = match asked.which {
        Which::At(place) => return Ok(Client::new(vec![place], Ok(from_environment))),
        Which::With(source) => source,
    };
    let access = source.admin().map_err(CommandError::AdminUnknown)?;
    let places: Vec<AdminPlace> = access.admin.places().collect();
    if places.is_empty() {
        return Err(CommandError::NoAdmin {
            file: source.file.unwrap_or_default(),
        });
    }
    // Nobody has named the default: who listens there may be another's.
    let file = source.file.filter(|_| !access.admin.is_named);
    let token = match (access.token, from_environment) {
        (Ok(Some(token)), _) | (Ok(None) | Err(_), Some(token)) => Ok(Some(token)),
        (Ok(None), None) => Ok(None),
        (Err(errors), None) => Err(errors),
    };
    Ok(Client::new(places, token).only_of(file.map(whole)))
}

/// As a process tells it, wherever it was started.
fn whole(file: PathBuf) -> PathBuf {
    file.canonicalize().unwrap_or(file)
}

fn token(value: OsString) -> Result<Token, CommandError> {
    Token::try_new(value.as_encoded_bytes()).map_err(CommandError::Token)
}

/// Does `work` in a runtime of its own.
pub(super) fn block_on<T>(
    work: impl Future<Output = Result<T, CommandError>>,
) -> Result<T, CommandError> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(work)
}

/// Says it, at once: who waits for it may read a pipe.
pub(super) fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}
