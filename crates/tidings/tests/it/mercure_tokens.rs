//! Tokens of every kind, as seen from outside.
