//! How clients reach the hub: one protocol, one file or folder.

pub mod auth;
pub mod limits;
