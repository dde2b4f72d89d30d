//! `tidings token mint` and `tidings token explain`. Knows no hub that runs and no network: minting
//! signs, explaining runs the hub's own checks on a token.

pub(crate) mod dates;
mod decode;
mod explain;
mod mint;
mod own;

pub(crate) use decode::decode;
#[cfg(test)]
use explain::Explanation;
pub(crate) use explain::{ExplainArguments, explain};
#[cfg(test)]
use mint::MintError;
pub(crate) use mint::{MintArguments, mint};
pub(crate) use own::{OwnToken, own};

#[cfg(test)]
mod tests;
