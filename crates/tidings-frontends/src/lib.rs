//! tidings-frontends
