//! `pinring health` and `pinring reload`: one question, and one change, by the exit code.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use http::Method;

use super::{
    CommandError,
    asking::{block_on, client},
};
use crate::{
    admin::{api::ReloadStatus, client::Client},
    cli::{Asked, Which},
    config::AdminPlace,
};

/// Asks whether the process is ready: where probes are asked, else at the admin listener, else where clients are.
pub(super) fn health(asked: Asked, backends: bool) -> Result<ExitCode, CommandError> {
    let probed = match &asked.which {
        Which::At(_) => None,
        Which::With(source) => source.probed().map_err(CommandError::AdminUnknown)?,
    };
    let (client, path) = match probed {
        Some((address, path)) => {
            let client = Client::new(vec![AdminPlace::Tcp(address)], Ok(None));
            (client, path)
        }
        None => (client(asked)?, "/readyz".to_owned()),
    };
    let query = if backends { "?backends=1" } else { "" };
    let (good, text) = block_on(async {
        let target = path + query;
        Ok(client.fetch(Method::GET, &target, Vec::new()).await?)
    })?;
    io::stdout().write_all(&text)?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Has the process read its configuration again, and says what came of it.
pub(super) fn reload(asked: Asked) -> Result<ExitCode, CommandError> {
    let client = client(asked)?;
    let told: ReloadStatus =
        block_on(async { Ok(client.ask(Method::POST, "/reload", &()).await?) })?;
    let mut out = io::stdout();
    let (line, code) = match &*told.result {
        "changed" => ("reloaded", ExitCode::SUCCESS),
        "unchanged" => ("reloaded: nothing has changed", ExitCode::SUCCESS),
        _ => (
            "not reloaded: the configuration before stays in force",
            ExitCode::FAILURE,
        ),
    };
    writeln!(out, "{line}")?;
    for detail in &told.details {
        writeln!(out, "{detail}")?;
    }
    Ok(code)
}
