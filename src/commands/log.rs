//! `pinring log`: what one running process logs.

use std::process::ExitCode;

use http::Method;

use super::{
    CommandError,
    asking::{block_on, client, say},
};
use crate::{
    admin::api::{ChangeLog, Log},
    cli::{Asked, LogWanted},
    config::format_duration,
};

pub(super) fn log(wanted: LogWanted, asked: Asked) -> Result<ExitCode, CommandError> {
    let client = client(asked)?;
    let (method, body) = match wanted {
        LogWanted::Shown => (Method::GET, None),
        LogWanted::Reset => (Method::POST, Some((None, None))),
        LogWanted::Changed { filter, time } => (Method::POST, Some((Some(filter), time))),
    };
    let body = body.map(|(filter, time)| ChangeLog {
        filter,
        time: time.map(format_duration),
    });
    block_on(async {
        let log: Log = client.ask(method, "/log", &body).await?;
        say(&description(&log))?;
        Ok(ExitCode::SUCCESS)
    })
}

fn description(log: &Log) -> String {
    let Log {
        filter,
        configured,
        reset_in_s,
    } = log;
    match reset_in_s {
        Some(seconds) => format!("{filter} (in {seconds} s again as configured: {configured})"),
        None if filter != configured => {
            format!("{filter} (until the next reload; configured: {configured})")
        }
        None => format!("{filter} (as configured)"),
    }
}
