//! What the README tells people to type does what it says.
