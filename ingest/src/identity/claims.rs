//! The claims of the tokens that Countersign takes, strictly typed: an unknown or repeated member is refused. Their meaning
//! and form are normative in `docs/formats.md`.

use super::registry::{Identity, Registry};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_ledger::evidence::Reason;
use countersign_ledger::evidence::jws::{self, Unverified};
use countersign_ledger::tlog::Hash;
use countersign_masker::KeyRange;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The longest that a request may be valid, in seconds.
pub const MAX_LIFETIME_SECONDS: u64 = 3600;

/// How far clocks may differ, in seconds. `exp` gets none of it: what has expired has expired.
pub const CLOCK_SKEW_SECONDS: u64 = 30;

/// What a request says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestClaims {
    /// The caller's registered name.
    pub iss: String,
    /// The same name.
    pub sub: String,
    /// `<origin>/kafka`.
    pub aud: String,
    /// Issued at, Unix seconds.
    pub iat: u64,
    /// Valid until, Unix seconds.
    pub exp: u64,
    /// Valid from, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// At least 128 random bits, as 22 or more characters of base64url or 32 or more of hex.
    pub jti: String,
    /// `connection.table`.
    pub dataset: String,
    /// The columns wanted, in the order wanted.
    pub columns: Vec<String>,
    /// A filter in the filter language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// A half-open range of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<KeyRange>,
    /// At most so many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// `arrow` or `jsonl`.
    pub format: String,
    /// A word of the catalog's list.
    pub purpose: String,
    /// The identity that an agent acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
}

/// What an approver says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalClaims {
    /// The approver's registered name.
    pub iss: String,
    /// The same name.
    pub sub: String,
    /// `<origin>/approvals`.
    pub aud: String,
    /// Signed at, Unix seconds.
    pub iat: u64,
    /// Counts from, Unix seconds.
    pub nbf: u64,
    /// Counts until, Unix seconds.
    pub exp: u64,
    /// At least 128 random bits.
    pub jti: String,
    /// `grant`, `deny` or `revoke`.
    pub decision: ApprovalDecision,
    /// The request's trace; for `revoke` the approval's trace.
    pub request: Hash,
    /// The request's digest.
    pub digest: Hash,
    /// The obligations' digest.
    pub obligations: Hash,
    /// Commitment to the reason (class `approval`); the text and its salt may come with the record.
    pub reason: Hash,
}

/// Yes, no, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalDecision {
    /// Yes.
    Grant,
    /// No.
    Deny,
    /// An earlier yes is taken back.
    Revoke,
}

/// What an admin signs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminClaims {
    /// The admin's registered name.
    pub iss: String,
    /// The same name.
    pub sub: String,
    /// `<origin>/admin`.
    pub aud: String,
    /// Signed at, Unix seconds.
    pub iat: u64,
    /// May be submitted until, Unix seconds.
    pub exp: u64,
    /// At least 128 random bits.
    pub jti: String,
    /// SHA-256 of the change document.
    pub change: Hash,
}

/// How the owner of a new key proves to hold it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PossessionClaims {
    /// The name to be registered.
    pub iss: String,
    /// The same name.
    pub sub: String,
    /// `<origin>/admin`.
    pub aud: String,
    /// Signed at, Unix seconds.
    pub iat: u64,
    /// Good until, Unix seconds.
    pub exp: u64,
    /// At least 128 random bits.
    pub jti: String,
    /// The key's thumbprint.
    pub kid: String,
}

/// What somebody says who wants the values behind tokens. The tokens and the reason come beside it; what is signed commits to them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReidentifyClaims {
    /// The caller's registered name.
    pub iss: String,
    /// The same name.
    pub sub: String,
    /// `<origin>/http`.
    pub aud: String,
    /// Issued at, Unix seconds.
    pub iat: u64,
    /// Valid until, Unix seconds; at most five minutes after `iat`.
    pub exp: u64,
    /// At least 128 random bits.
    pub jti: String,
    /// `connection.table`.
    pub dataset: String,
    /// The column that the tokens were taken from.
    pub column: String,
    /// The purpose that they were made for.
    pub purpose: String,
    /// For `ff1`: the version of the key that they were made with, from 1; the newest unless stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    /// The identity that an agent acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// Commitment to the tokens (class `reidentify`).
    pub tokens: Hash,
    /// Commitment to the reason (class `reidentify`).
    pub reason: Hash,
}

/// Who reads over HTTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessClaims {
    /// The reader's registered name.
    pub iss: String,
    /// The same name.
    pub sub: String,
    /// `<origin>/http`.
    pub aud: String,
    /// Issued at, Unix seconds.
    pub iat: u64,
    /// Valid until, Unix seconds; at most five minutes after `iat`.
    pub exp: u64,
    /// At least 128 random bits.
    pub jti: String,
}

/// The claims that every token has, for the checks that every token gets.
pub trait Claims: serde::de::DeserializeOwned {
    /// The `typ` of tokens with these claims.
    const TYP: &'static str;
    /// The last part of `aud`.
    const DOOR: &'static str;
    /// The longest lifetime, in seconds.
    const LIFETIME: u64 = MAX_LIFETIME_SECONDS;
    /// `iss`, `sub`, `aud`, `jti`.
    fn names(&self) -> (&str, &str, &str, &str);
    /// `iat`, `nbf`, `exp`.
    fn times(&self) -> (u64, Option<u64>, u64);
}

macro_rules! claims {
    ($name:ident, $typ:expr, $door:literal, |$s:ident| $nbf:expr $(, $lifetime:expr)?) => {
        impl Claims for $name {
            const TYP: &'static str = $typ;
            const DOOR: &'static str = $door;
            $(const LIFETIME: u64 = $lifetime;)?
            fn names(&self) -> (&str, &str, &str, &str) {
                (&self.iss, &self.sub, &self.aud, &self.jti)
            }
            fn times(&self) -> (u64, Option<u64>, u64) {
                let $s = self;
                (self.iat, $nbf, self.exp)
            }
        }
    };
}

claims!(RequestClaims, jws::TYP_REQUEST, "kafka", |s| s.nbf);
// An approval is a permission for a time: how long is the approver's to say. When it starts is a field of its own, which
// the pipeline judges when it relies on it.
claims!(ApprovalClaims, jws::TYP_APPROVAL, "approvals", |_s| None, 366 * 86_400);
claims!(AdminClaims, jws::TYP_ADMIN, "admin", |_s| None, 7 * 86_400);
claims!(PossessionClaims, jws::TYP_POSSESSION, "admin", |_s| None, 7 * 86_400);
claims!(ReidentifyClaims, jws::TYP_REIDENTIFY, "http", |_s| None, 300);
claims!(AccessClaims, jws::TYP_ACCESS, "http", |_s| None, 300);

/// Checks a token's `typ` before anything else: a token of one kind must not serve as another.
pub fn expect_typ<T: Claims>(token: &Unverified<'_>) -> Result<(), Reason> {
    if token.header.typ == T::TYP { Ok(()) } else { Err(Reason::BadType) }
}

/// Checks whom verified claims speak of and whom they are for: `iss = sub = name`, `aud` is `<origin>/<door>`, and `jti`
/// is long enough.
pub fn expect_names<T: Claims>(claims: &T, origin: &str, name: &str) -> Result<(), Reason> {
    let (iss, sub, aud, jti) = claims.names();
    if aud.strip_prefix(origin).and_then(|rest| rest.strip_prefix('/')) != Some(T::DOOR) {
        return Err(Reason::BadAudience);
    }
    if iss != name || sub != name {
        return Err(Reason::IssuerMismatch);
    }
    expect_jti(jti)
}

fn expect_jti(jti: &str) -> Result<(), Reason> {
    let hex = jti.bytes().filter(|b| *b != b'-').all(|b| b.is_ascii_hexdigit());
    let digits = jti.bytes().filter(|b| *b != b'-').count();
    let plain = jti.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    // 128 bits are 32 hex digits (a UUID writes them with hyphens) or 22 base64url characters.
    if plain && jti.len() <= 128 && (if hex { digits >= 32 } else { jti.len() >= 22 }) {
        Ok(())
    } else {
        Err(Reason::WeakJti)
    }
}

/// A token that its registered, active owner signed, for this ledger and this door. Whether its time is right is not said.
#[derive(Debug)]
pub struct Authentic<T> {
    /// Who signed.
    pub identity: Arc<Identity>,
    /// What it says.
    pub claims: T,
    /// SHA-256 of the signing input.
    pub digest: Hash,
}

/// A record that is no token of anybody's, or none that counts here.
#[derive(Debug)]
pub struct Rejected {
    /// Why.
    pub reason: Reason,
    /// The identity whose signature it bears, if it bears one: it is told.
    pub signer: Option<Arc<Identity>>,
}

/// Finds out who signed a record of a Kafka door. `now` in Unix seconds.
pub fn authenticate<T: Claims>(
    registry: &Registry,
    origin: &str,
    record: &[u8],
    now: u64,
) -> Result<Authentic<T>, Rejected> {
    let nobody = |reason| Rejected { reason, signer: None };
    let token = Unverified::parse(record).map_err(nobody)?;
    expect_typ::<T>(&token).map_err(nobody)?;
    let identity = registry.by_kid(&token.header.kid).ok_or_else(|| nobody(Reason::UnknownKey))?.clone();
    let verified = token.verify(&identity.key).map_err(nobody)?;
    if !identity.is_active(now) {
        return Err(nobody(Reason::RevokedKey));
    }
    let somebody = |reason| Rejected { reason, signer: Some(identity.clone()) };
    let claims: T = verified.claims().map_err(somebody)?;
    expect_names(&claims, origin, &identity.name).map_err(somebody)?;
    Ok(Authentic { identity, claims, digest: verified.digest })
}

/// Checks verified claims against the clock, `now` in Unix seconds.
pub fn expect_time<T: Claims>(claims: &T, now: u64) -> Result<(), Reason> {
    let (iat, nbf, exp) = claims.times();
    if exp <= now {
        return Err(Reason::Expired);
    }
    if iat > now + CLOCK_SKEW_SECONDS || nbf.is_some_and(|nbf| nbf > now + CLOCK_SKEW_SECONDS) {
        return Err(Reason::NotYetValid);
    }
    if exp.saturating_sub(iat) > T::LIFETIME {
        return Err(Reason::LifetimeTooLong);
    }
    Ok(())
}

/// 128 random bits as a `jti`.
pub fn new_jti() -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jti_needs_128_bits() {
        let check = |jti: &str, ok: bool| assert_eq!(expect_jti(jti).is_ok(), ok, "{jti}");
        check("AAAAAAAAAAAAAAAAAAAAAz", true);
        check(&new_jti().unwrap(), true);
        check("6f1c2a52-7c0b-4d4e-9d57-0a4f8a3a9b11", true);
        check("0123456789abcdef0123456789abcdef", true);
        check("0123456789abcdef0123456789abcde", false);
        check("short", false);
        check("AAAAAAAAAAAAAAAAAAAAz", false);
        // Digits of hexadecimal alone hold four bits each.
        check("AAAAAAAAAAAAAAAAAAAAAA", false);
        check("AAAAAAAAAAAAAAAAAAAAAz\n", false);
        check(&"z".repeat(129), false);
    }

    #[test]
    fn time_is_strict_at_the_end() {
        let check = |iat: u64, exp: u64, expect: Result<(), Reason>| {
            let claims = AccessClaims { iss: "".into(), sub: "".into(), aud: "".into(), iat, exp, jti: "".into() };
            assert_eq!(expect_time(&claims, 1000), expect, "iat {iat}, exp {exp}");
        };
        check(990, 1001, Ok(()));
        check(990, 1000, Err(Reason::Expired));
        check(1030, 1100, Ok(()));
        check(1031, 1100, Err(Reason::NotYetValid));
        check(1000, 1300, Ok(()));
        check(1000, 1301, Err(Reason::LifetimeTooLong));
        check(u64::MAX, 1300, Err(Reason::NotYetValid));
    }
}
