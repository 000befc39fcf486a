//! Who is who, and what is in force: identities, policy, catalog and connections, as the ledger's entries say. Changes come in
//! signed by admins ([`change`]); [`registry`] is the state that they add up to; [`claims`] and [`key`] are what people and
//! machines sign with.

pub mod change;
pub mod claims;
pub mod key;
pub mod registry;

pub use change::{Change, ChangeError, Submission};
pub use key::PrivateKey;
pub use registry::{Identity, Registry, Shared};
