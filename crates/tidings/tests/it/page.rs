//! The page of `tidings dev` in a headless browser.
