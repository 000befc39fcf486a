//! What callers, approvers and admins signed: tokens from payloads, held against the key that was registered at that point.
//! Members of the claims that this file does not know are no business of the verifier's; the service refuses them.

use countersign_ledger::evidence::jws::{PublicKey, Unverified};
use countersign_ledger::tlog::Hash;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The claims of a request, as far as evidence can be held against them.
#[derive(Clone, Debug, Deserialize)]
pub struct RequestClaims {
    /// The caller's registered name.
    pub iss: String,
    /// The same.
    pub sub: String,
    /// `<origin>/<door>`.
    pub aud: String,
    /// Issued at, Unix seconds.
    pub iat: u64,
    /// Valid until, Unix seconds.
    pub exp: u64,
    /// Unique for `iss`.
    pub jti: String,
    /// `connection.table`.
    pub dataset: String,
    /// The columns, in the order of delivery.
    pub columns: Vec<String>,
    /// `arrow` or `jsonl`.
    pub format: String,
    /// The purpose.
    pub purpose: String,
    /// Valid from, Unix seconds.
    #[serde(default)]
    pub nbf: Option<u64>,
    /// At most so many rows.
    #[serde(default)]
    pub limit: Option<u64>,
    /// The name of the one for whom it is asked.
    #[serde(default)]
    pub on_behalf_of: Option<String>,
}

/// The claims of a request for the values behind tokens.
#[derive(Clone, Debug, Deserialize)]
pub struct ReidentifyClaims {
    /// The caller's registered name.
    pub iss: String,
    /// The same.
    pub sub: String,
    /// `<origin>/http`.
    pub aud: String,
    /// Issued at, Unix seconds.
    pub iat: u64,
    /// Valid until, Unix seconds.
    pub exp: u64,
    /// Unique for `iss`.
    pub jti: String,
    /// `connection.table`.
    pub dataset: String,
    /// The column.
    pub column: String,
    /// The purpose that the tokens were made for.
    pub purpose: String,
    /// The one for whom the caller asks.
    #[serde(default)]
    pub on_behalf_of: Option<String>,
    /// Commitment to the tokens.
    pub tokens: Hash,
    /// Commitment to the reason.
    pub reason: Hash,
}

/// The claims of an approver's answer.
#[derive(Clone, Debug, Deserialize)]
pub struct ApprovalClaims {
    /// The approver's registered name.
    pub iss: String,
    /// The same.
    pub sub: String,
    /// `<origin>/approvals`.
    pub aud: String,
    /// Signed at, Unix seconds.
    pub iat: u64,
    /// Counts from, Unix seconds.
    pub nbf: u64,
    /// Counts until, Unix seconds.
    pub exp: u64,
    /// Unique for `iss`.
    pub jti: String,
    /// `grant`, `deny` or `revoke`.
    pub decision: String,
    /// The request's trace; for `revoke` the approval's.
    pub request: Hash,
    /// The request's digest.
    pub digest: Hash,
    /// The obligations' digest.
    pub obligations: Hash,
    /// Commitment to the reason.
    pub reason: Hash,
}

/// The claims of an admin's signature on a change.
#[derive(Clone, Debug, Deserialize)]
pub struct AdminClaims {
    /// The admin's registered name.
    pub iss: String,
    /// The same.
    pub sub: String,
    /// `<origin>/admin`.
    pub aud: String,
    /// Signed at, Unix seconds.
    pub iat: u64,
    /// Good until, Unix seconds.
    pub exp: u64,
    /// SHA-256 of the change document.
    pub change: Hash,
}

/// The claims of a proof of possession.
#[derive(Clone, Debug, Deserialize)]
pub struct PossessionClaims {
    /// The name to be registered.
    pub iss: String,
    /// The same.
    pub sub: String,
    /// `<origin>/admin`.
    pub aud: String,
    /// Signed at, Unix seconds.
    pub iat: u64,
    /// Good until, Unix seconds.
    pub exp: u64,
    /// The key's thumbprint.
    pub kid: String,
}

/// A token that was signed by the key it should be signed by.
#[derive(Clone, Debug)]
pub struct Opened<T> {
    /// Its claims.
    pub claims: T,
    /// SHA-256 of its signing input.
    pub digest: Hash,
}

/// Opens a token that must be of type `typ` and signed by `key`; in words, what is wrong with it.
pub fn open<T: DeserializeOwned>(token: &[u8], typ: &str, kid: &str, key: &PublicKey) -> Result<Opened<T>, String> {
    let token = Unverified::parse(token).map_err(|reason| format!("a token that is {reason}"))?;
    if token.header.typ != typ {
        return Err(format!("a token of type `{}`", token.header.typ));
    }
    if token.header.kid != kid {
        return Err(format!("a token by key {}", token.header.kid));
    }
    let verified = token.verify(key).map_err(|reason| format!("a token with {reason}"))?;
    let claims = verified.claims().map_err(|reason| format!("a token with {reason}"))?;
    Ok(Opened { claims, digest: verified.digest })
}

/// Whether `iss` and `sub` are one name (the registered one, where it is known) and `aud` is `<origin>/<door>`.
pub fn names(claims: (&str, &str, &str), origin: &str, door: &str, name: Option<&str>) -> Result<(), (String, String)> {
    let (iss, sub, aud) = claims;
    let expected = format!("{origin}/{door}");
    if aud != expected {
        return Err((format!("aud `{aud}`"), format!("aud `{expected}`")));
    }
    let name = name.unwrap_or(iss);
    if iss != name || sub != name {
        return Err((format!("iss `{iss}`, sub `{sub}`"), format!("both `{name}`")));
    }
    Ok(())
}
