//! tidings-connectors
