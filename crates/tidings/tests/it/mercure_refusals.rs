//! Bad input gets a clear error, stores nothing and delivers nothing.
