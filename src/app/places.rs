//! Where a process really listens, also where port 0 was asked for.

use std::{io, net::SocketAddr};

use super::{admins::AdminSockets, socket::Socket};
use crate::{
    admin::api::Listeners,
    config::{self, AdminPlace, Config, Listen},
};

/// Where a process listens.
#[derive(Debug)]
pub(super) struct Places {
    traffic: Vec<Listen>,
    admin: Vec<AdminPlace>,
    probes: Option<SocketAddr>,
}

impl Places {
    pub(super) fn of(traffic: &[Socket], admin: &AdminSockets) -> io::Result<Self> {
        Ok(Self {
            traffic: traffic
                .iter()
                .map(Socket::listen)
                .collect::<io::Result<_>>()?,
            admin: admin.places(),
            probes: admin.probes(),
        })
    }

    /// As they are told.
    pub(super) fn listeners(&self) -> Listeners {
        Listeners {
            traffic: self.traffic.iter().map(ToString::to_string).collect(),
            admin: self.admin.iter().map(ToString::to_string).collect(),
            probes: self.probes.iter().map(ToString::to_string).collect(),
        }
    }

    /// What nothing protects there.
    pub(super) fn unprotected(&self, config: &Config) -> Vec<String> {
        config::unprotected(config, &self.traffic, &self.admin)
    }
}
