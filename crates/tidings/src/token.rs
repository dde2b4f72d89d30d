//! `tidings token mint` and `tidings token explain`. Knows no hub that runs and no network: minting
//! signs, explaining runs the hub's own checks on a token.

mod explain;
mod mint;

pub(crate) use explain::{ExplainArguments, Explanation, explain};
pub(crate) use mint::{MintArguments, MintError, Secret, mint};

#[cfg(test)]
mod tests;
