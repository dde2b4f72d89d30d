//! Reconnecting with a cursor in every spelling.
