//! pinring: a session-affinity reverse proxy for MCP servers.

pub mod backend;
pub mod config;
pub mod pin;
pub mod ring;
