//! What the detectors find, and what not: other people's cases, our own with spans marked in the text, and what must hold of any
//! text.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking, in its helpers too"
)]

mod cases;
mod properties;
mod recognizers;
