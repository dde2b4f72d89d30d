//! Subscribing in protocol 1.0.
