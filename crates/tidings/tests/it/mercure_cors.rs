//! Origins: who may read answers from a page.
