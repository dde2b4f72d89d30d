//! The options of token verification stand beside it; here they are part of the whole.

pub use tidings_frontends::auth::{Generation, IssuerOptions, KeyOptions, Options};
