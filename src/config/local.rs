//! `local`: which of a pool's backends are on this machine, as a pod's own server is.

use std::net::IpAddr;

use super::{Placement, check::World, secrets, section::Section};
use crate::backend::{Backend, Host, Name};

/// The name of the local backend, or the host of its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    text: String,
    host: Host,
}

impl Local {
    fn of(text: &str) -> Self {
        let host = match text.parse::<IpAddr>() {
            Ok(address) => Host::Ip(address.to_canonical()),
            Err(_) => Host::Dns(text.to_ascii_lowercase().into()),
        };
        Self {
            text: text.to_owned(),
            host,
        }
    }

    /// As it was written, or as the variable has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is this address.
    #[must_use]
    pub fn is_at(&self, address: IpAddr) -> bool {
        self.host == Host::Ip(address)
    }

    /// Whether `backend` is on this machine.
    #[must_use]
    pub fn is(&self, backend: &Backend) -> bool {
        backend.name.as_str() == self.text || backend.endpoint.host == self.host
    }
}

/// Reads `placement` and `local`.
pub(super) fn read(section: &Section<'_>, world: &dyn World) -> (Placement, Option<Local>) {
    let placement = section.choice("placement", &Placement::WORDS);
    let placement = placement.unwrap_or(Placement::TwoChoices);
    let local = local(section, world);
    if placement == Placement::LocalFirst && !section.has("local") {
        let message = "which backend is the local one? Write local = \"env:POD_IP\" beside it, or the backend's name or IP address";
        section.refuse("placement", message);
    }
    (placement, local)
}

fn local(section: &Section<'_>, world: &dyn World) -> Option<Local> {
    let found = section.string("local")?;
    let refuse = |message: String| {
        section.report().push(found.spot.clone().fault(message));
        None
    };
    let text = match found.value.strip_prefix("env:") {
        None => found.value.to_owned(),
        Some(name) if !secrets::is_variable(name) => {
            return refuse("write env: and the name of a variable, as \"env:POD_IP\"".to_owned());
        }
        Some(name) => match world.env(name).map(|value| value.into_string()) {
            Some(Ok(value)) if !value.is_empty() => value,
            Some(_) | None => {
                return refuse(format!(
                    "the variable {name} is not set, or empty; give it the backend's address (in Kubernetes, fieldRef: status.podIP) or name"
                ));
            }
        },
    };
    if Name::try_new(&text).is_err() {
        return refuse(
            "write a backend's name or IP address, or \"env:NAME\" for a variable that holds it"
                .to_owned(),
        );
    }
    Some(Local::of(&text))
}
