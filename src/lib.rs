//! pinring: a session-affinity reverse proxy for MCP servers.

pub mod app;
pub mod backend;
pub mod cli;
pub mod commands;
pub mod config;
pub mod demo;
pub mod listener;
pub mod mcp;
pub mod net;
pub mod observe;
pub mod pin;
pub mod proxy;
pub mod reload;
pub mod ring;
pub mod router;
pub mod shutdown;
pub mod upstream;
