//! Publishing in protocol 1.0.
