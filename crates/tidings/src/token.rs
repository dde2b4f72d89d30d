//! `tidings token mint` and `tidings token explain`. Knows no hub that runs and no network: minting
//! signs, explaining runs the hub's own checks on a token.

mod explain;
mod mint;

#[cfg(test)]
use explain::Explanation;
pub(crate) use explain::{ExplainArguments, explain};
pub(crate) use mint::{MintArguments, mint};
#[cfg(test)]
use mint::MintError;

#[cfg(test)]
mod tests;
