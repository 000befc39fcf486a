//! What callers, approvers and admins sign: a compact JWS (RFC 7515) with a strict header and typed claims.
//!
//! Strict means: base64url without padding and in its only spelling; exactly the header members `alg`, `typ` and `kid`, each
//! once; `alg` decided by the registered key, never by the token. Nothing else of JOSE is understood, so `crit`, `jwk`,
//! `jku`, `x5c` and all their kin are refused with everything unknown. Signatures: Ed25519 (RFC 8037, `verify_strict`) and
//! ECDSA P-256 (RFC 7518 §3.4).

use super::digest::sha256;
use super::step::{Alg, Reason};
use crate::tlog::Hash;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

/// The largest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// `typ` of a request.
pub const TYP_REQUEST: &str = "countersign-request+jwt";
/// `typ` of an approval, a denial or a revocation.
pub const TYP_APPROVAL: &str = "countersign-approval+jwt";
/// `typ` of an admin's signature on a change.
pub const TYP_ADMIN: &str = "countersign-admin+jwt";
/// `typ` of the proof that a key's owner holds it.
pub const TYP_POSSESSION: &str = "countersign-possession+jwt";
/// `typ` of a request for the values behind tokens.
pub const TYP_REIDENTIFY: &str = "countersign-reidentify+jwt";
/// `typ` of a bearer token for reading over HTTP.
pub const TYP_ACCESS: &str = "countersign-access+jwt";

/// The header members that a token may and must have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The algorithm.
    pub alg: String,
    /// The type.
    pub typ: String,
    /// The RFC 7638 thumbprint of the key.
    pub kid: String,
}

/// A token whose form is right and whose signature nobody has checked.
#[derive(Clone, Debug)]
pub struct Unverified<'a> {
    /// The header.
    pub header: Header,
    signing_input: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// A token signed by a known key.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The claims' JSON, as signed.
    pub payload: Vec<u8>,
    /// SHA-256 of the signing input.
    pub digest: Hash,
}

/// A public key that tokens are checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    alg: Alg,
    /// 32 bytes (Ed25519) or the 65-byte uncompressed point (P-256).
    bytes: Vec<u8>,
}

/// Why a public key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a public key for {alg}: {reason}")]
pub struct KeyError {
    alg: Alg,
    reason: &'static str,
}

fn decode_part(part: &str) -> Result<Vec<u8>, Reason> {
    // The engine is strict: no padding, no spare bits, no other alphabet, so a token has one spelling.
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::Malformed)
}

impl<'a> Unverified<'a> {
    /// Takes a compact JWS apart.
    pub fn parse(token: &'a [u8]) -> Result<Self, Reason> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Reason::TooLarge);
        }
        let token = std::str::from_utf8(token).map_err(|_| Reason::Malformed)?;
        let (signing_input, signature) = token.rsplit_once('.').ok_or(Reason::Malformed)?;
        let (header, payload) = signing_input.split_once('.').ok_or(Reason::Malformed)?;
        let header = decode_part(header)?;
        if !header.starts_with(b"{") {
            return Err(Reason::Malformed);
        }
        // First whether it is JSON at all, then whether it is our header: the answers differ.
        serde_json::from_slice::<serde::de::IgnoredAny>(&header).map_err(|_| Reason::Malformed)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| Reason::BadHeader)?;
        Ok(Self { header, signing_input, payload: decode_part(payload)?, signature: decode_part(signature)? })
    }

    /// Checks the signature against the key that is registered for `kid`, and nothing else: type, audience and time are
    /// the caller's business.
    pub fn verify(self, key: &PublicKey) -> Result<Verified, Reason> {
        if self.header.alg != key.alg.as_str() {
            return Err(Reason::BadAlgorithm);
        }
        if !key.verifies(self.signing_input.as_bytes(), &self.signature) {
            return Err(Reason::BadSignature);
        }
        Ok(Verified { payload: self.payload, digest: sha256(self.signing_input.as_bytes()) })
    }

    /// SHA-256 of the signing input.
    pub fn digest(&self) -> Hash {
        sha256(self.signing_input.as_bytes())
    }

    /// The claims as the token states them, unchecked: good for showing and for finding a key, never for deciding.
    pub fn claims_unverified<T: DeserializeOwned>(&self) -> Result<T, Reason> {
        serde_json::from_slice(&self.payload).map_err(|_| Reason::BadClaims)
    }
}

impl Verified {
    /// The claims, strictly typed: `T` should deny unknown members; members that stand twice are refused by serde.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, Reason> {
        serde_json::from_slice(&self.payload).map_err(|_| Reason::BadClaims)
    }
}

impl PublicKey {
    /// A key from its bytes; checks that it is a point of its curve, and not one of small order.
    pub fn from_bytes(alg: Alg, bytes: &[u8]) -> Result<Self, KeyError> {
        let fail = |reason| Err(KeyError { alg, reason });
        match alg {
            Alg::EdDsa => {
                let Ok(array) = <&[u8; 32]>::try_from(bytes) else { return fail("not 32 bytes") };
                match ed25519_dalek::VerifyingKey::from_bytes(array) {
                    Ok(key) if !key.is_weak() => {}
                    Ok(_) => return fail("a point of small order"),
                    Err(_) => return fail("not a point of the curve"),
                }
            }
            Alg::Es256 => {
                if bytes.len() != 65 || p256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).is_err() {
                    return fail("not an uncompressed point of 65 bytes");
                }
            }
        }
        Ok(Self { alg, bytes: bytes.to_vec() })
    }

    /// A key from the base64url text that `identity.registered` holds.
    pub fn from_text(alg: Alg, text: &str) -> Result<Self, KeyError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError { alg, reason: "not base64url" })?;
        Self::from_bytes(alg, &bytes)
    }

    /// The algorithm.
    pub const fn alg(&self) -> Alg {
        self.alg
    }

    /// The base64url text that `identity.registered` holds.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.bytes)
    }

    /// The RFC 7638 thumbprint: SHA-256 of the JWK's required members, base64url.
    pub fn thumbprint(&self) -> String {
        let jwk = match self.alg {
            Alg::EdDsa => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, self.to_text()),
            Alg::Es256 => {
                let (x, y) = self.bytes.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
                let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
        };
        URL_SAFE_NO_PAD.encode(Sha256::digest(jwk.as_bytes()))
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self.alg {
            Alg::EdDsa => {
                let key = <&[u8; 32]>::try_from(self.bytes.as_slice())
                    .ok()
                    .and_then(|b| ed25519_dalek::VerifyingKey::from_bytes(b).ok());
                let signature = ed25519_dalek::Signature::from_slice(signature).ok();
                key.zip(signature).is_some_and(|(k, s)| k.verify_strict(message, &s).is_ok())
            }
            Alg::Es256 => {
                use p256::ecdsa::signature::Verifier;
                let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&self.bytes).ok();
                let signature = p256::ecdsa::Signature::from_slice(signature).ok();
                key.zip(signature).is_some_and(|(k, s)| k.verify(message, &s).is_ok())
            }
        }
    }
}

/// The signing input of a compact JWS: `base64url(header) "." base64url(claims)`.
pub fn signing_input(alg: Alg, typ: &str, kid: &str, claims: &[u8]) -> String {
    // The three values are words of ours and base64url text, none of which needs escaping.
    let header = format!(r#"{{"alg":"{alg}","typ":"{typ}","kid":"{kid}"}}"#);
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

/// The token: the signing input and the signature's bytes.
pub fn compact(signing_input: &str, signature: &[u8]) -> String {
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;

    fn key() -> (SigningKey, PublicKey) {
        let signing = SigningKey::from_bytes(&[9; 32]);
        let public = PublicKey::from_bytes(Alg::EdDsa, signing.verifying_key().as_bytes()).unwrap();
        (signing, public)
    }

    fn token(header: &str, claims: &str) -> String {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        compact(&input, &key().0.sign(input.as_bytes()).to_bytes())
    }

    fn check(token: &str, expect: Result<(), Reason>) {
        let got = Unverified::parse(token.as_bytes()).and_then(|t| t.verify(&key().1)).map(|_| ());
        assert_eq!(got, expect, "{token}");
    }

    #[test]
    fn header_is_strict() {
        let h = |more: &str| format!(r#"{{"alg":"EdDSA","typ":"t","kid":"k"{more}}}"#);
        check(&token(&h(""), "{}"), Ok(()));
        for more in [
            r#","crit":["exp"]"#,
            r#","jwk":{}"#,
            r#","jku":"https://example.com""#,
            r#","x5c":[]"#,
            r#","b64":false"#,
            r#","alg":"EdDSA""#,
            r#","kid":"k""#,
        ] {
            check(&token(&h(more), "{}"), Err(Reason::BadHeader));
        }
        check(&token(r#"{"alg":"none","typ":"t","kid":"k"}"#, "{}"), Err(Reason::BadAlgorithm));
        check(&token(r#"{"alg":"HS256","typ":"t","kid":"k"}"#, "{}"), Err(Reason::BadAlgorithm));
        check(&token(r#"{"alg":"EdDSA","typ":"t"}"#, "{}"), Err(Reason::BadHeader));
        check(&token("[]", "{}"), Err(Reason::Malformed));
        check(&token("{", "{}"), Err(Reason::Malformed));
    }

    #[test]
    fn form_is_strict() {
        let good = token(r#"{"alg":"EdDSA","typ":"t","kid":"k"}"#, "{}");
        check(&format!("{good}="), Err(Reason::Malformed));
        check(&format!("{good}."), Err(Reason::Malformed));
        check(&format!(" {good}"), Err(Reason::Malformed));
        check(&good.replacen('.', "", 1), Err(Reason::Malformed));
        check("", Err(Reason::Malformed));
        check(&"a".repeat(MAX_TOKEN_BYTES + 1), Err(Reason::TooLarge));
        let (input, _) = good.rsplit_once('.').unwrap();
        check(&format!("{input}."), Err(Reason::BadSignature));
        check(&compact(input, &[0; 64]), Err(Reason::BadSignature));
    }

    #[test]
    fn thumbprint_is_that_of_rfc_8037() {
        // RFC 8037 appendix A.2 and A.3.
        let key = PublicKey::from_text(Alg::EdDsa, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn es256_round_trip() {
        use p256::ecdsa::{Signature, SigningKey, signature::Signer};
        let signing = SigningKey::from_slice(&[7; 32]).unwrap();
        let point = signing.verifying_key().to_sec1_point(false);
        let public = PublicKey::from_bytes(Alg::Es256, point.as_bytes()).unwrap();
        let input = signing_input(Alg::Es256, TYP_REQUEST, &public.thumbprint(), b"{}");
        let signature: Signature = signing.sign(input.as_bytes());
        let token = compact(&input, &signature.to_bytes());
        Unverified::parse(token.as_bytes()).unwrap().verify(&public).unwrap();
        check(&token, Err(Reason::BadAlgorithm));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Unverified::parse(&bytes);
        }

        #[test]
        fn any_changed_character_is_refused(at in 0usize..1000, to in "[A-Za-z0-9_-]") {
            let good = token(r#"{"alg":"EdDSA","typ":"t","kid":"k"}"#, r#"{"iss":"a"}"#);
            let at = at % good.len();
            let mut bad = good.clone();
            bad.replace_range(at..=at, &to);
            if bad != good {
                let got = Unverified::parse(bad.as_bytes()).and_then(|t| t.verify(&key().1));
                prop_assert!(got.is_err());
            }
        }
    }
}
