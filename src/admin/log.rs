//! What the process logs: told, and changed while it runs.

use http::StatusCode;

use super::{
    Answered,
    api::{self, ChangeLog, Fault, Log},
    guard::Visitor,
};
use crate::{config, net, observe::logging};

pub(super) fn show() -> Answered {
    let log = Log::from(logging::standing()?);
    Ok(api::json(StatusCode::OK, &log))
}

pub(super) fn change(wanted: ChangeLog, visitor: Visitor) -> Answered {
    let ChangeLog { filter, time } = wanted;
    if let Some(filter) = &filter {
        config::parse_filter(filter).map_err(|error| Fault::body(&format!("filter: {error}")))?;
    }
    let time = time.as_deref().map(config::parse_duration).transpose();
    let time = time.map_err(|error| Fault::body(&format!("for: {error}")))?;
    let time = time.filter(|time| !time.is_zero() && filter.is_some());
    // Before and not after: the new filter may let nothing through.
    tracing::info!(
        target: "pinring::audit",
        action = "log",
        filter = filter.as_deref().unwrap_or("as configured"),
        for_s = time.map(|time| time.as_secs_f64()),
        user = visitor.user(),
        peer = visitor.peer().map(tracing::field::display),
        "changed through the admin listener",
    );
    let (standing, change) = logging::change(filter, time)?;
    if let Some(time) = time {
        tokio::spawn(async move {
            net::sleep(time).await;
            if logging::end(change) {
                tracing::info!(
                    target: "pinring::audit",
                    action = "log",
                    filter = "as configured",
                    "the time for another one is over",
                );
            }
        });
    }
    Ok(api::json(StatusCode::OK, &Log::from(standing)))
}
