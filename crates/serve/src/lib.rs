#![doc = include_str!("../README.md")]

mod access;
mod batches;
mod current;
mod decoding;
mod error;
mod limits;
mod metrics;
mod multipart;
mod page;
mod predict;
mod reply;
mod request;
mod server;
mod service;
mod teach;

pub use error::{Error, Result};
pub use limits::Limits;
pub use server::{ServeConfig, Server};
pub use teach::{Class, Session, Teaching, safe_name};

/// The OpenAPI document of the service, as `GET /openapi.json` answers it.
pub const OPENAPI: &str = include_str!("../assets/openapi.json");
