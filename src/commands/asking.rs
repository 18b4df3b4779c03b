//! Which running process a command asks, and how.

use std::{ffi::OsString, process::ExitCode};

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
    let token = match (access.token, from_environment) {
        (Ok(Some(token)), _) | (Ok(None) | Err(_), Some(token)) => Ok(Some(token)),
        (Ok(None), None) => Ok(None),
        (Err(errors), None) => Err(errors),
    };
    Ok(Client::new(places, token))
}

fn token(value: OsString) -> Result<Token, CommandError> {
    Token::try_new(value.as_encoded_bytes()).map_err(CommandError::Token)
}

pub(super) fn block_on(
    work: impl Future<Output = Result<ExitCode, CommandError>>,
) -> Result<ExitCode, CommandError> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(work)
}
