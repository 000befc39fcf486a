//! Private keys of callers, approvers and admins: a JWK file (RFC 7517, RFC 8037) that only its owner may read, and that any
//! JOSE library reads as well.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_ledger::evidence::jws::{self, PublicKey};
use countersign_ledger::evidence::step::Alg;
use ed25519_dalek::{Signer, SigningKey};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("key file `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("key file `{path}` has mode {mode:o}: others may read it, required 600")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not an Ed25519 private JWK.
    #[error("key file `{path}`: not a private JWK with `kty` OKP and `crv` Ed25519")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// No random numbers from the system.
    #[error("no random numbers from the system: {0}")]
    Random(getrandom::Error),
}

#[derive(Serialize, Deserialize, zeroize::ZeroizeOnDrop)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    d: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
}

/// An Ed25519 key that signs tokens. Keys of other kinds (ES256) can be registered, and are kept by other software.
#[derive(Clone)]
pub struct PrivateKey {
    signing: SigningKey,
    public: PublicKey,
    kid: String,
}

impl PrivateKey {
    /// A new key.
    pub fn generate() -> Result<Self, KeyFileError> {
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut *seed).map_err(KeyFileError::Random)?;
        Self::from_seed(&seed).ok_or_else(|| KeyFileError::NotAKey { path: PathBuf::new() })
    }

    fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        let signing = SigningKey::from_bytes(seed);
        let public = PublicKey::from_bytes(Alg::EdDsa, signing.verifying_key().as_bytes()).ok()?;
        let kid = public.thumbprint();
        Some(Self { signing, public, kid })
    }

    /// Reads a key file, refusing one that others can read.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_path_buf(), source };
        let mode = std::fs::metadata(path).map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Open { path: path.to_path_buf(), mode });
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(io)?);
        let not_a_key = || KeyFileError::NotAKey { path: path.to_path_buf() };
        let jwk: Jwk = serde_json::from_str(&text).map_err(|_| not_a_key())?;
        let seed = Zeroizing::new(URL_SAFE_NO_PAD.decode(jwk.d.as_bytes()).map_err(|_| not_a_key())?);
        let seed = <&[u8; 32]>::try_from(seed.as_slice()).map_err(|_| not_a_key())?;
        let key = Self::from_seed(seed).ok_or_else(not_a_key)?;
        if jwk.kty != "OKP" || jwk.crv != "Ed25519" || jwk.x != key.public.to_text() {
            return Err(not_a_key());
        }
        Ok(key)
    }

    /// Writes the key to a new file of mode 600; never over an existing one.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_path_buf(), source };
        let jwk = Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: self.public.to_text(),
            d: URL_SAFE_NO_PAD.encode(self.signing.as_bytes()),
            kid: Some(self.kid.clone()),
        };
        let text = Zeroizing::new(serde_json::to_string_pretty(&jwk).map_err(|e| io(e.into()))?);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all()).map_err(io)
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Signs claims as a compact JWS.
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> serde_json::Result<String> {
        let input = jws::signing_input(Alg::EdDsa, typ, &self.kid, &serde_json::to_vec(claims)?);
        let signature = self.signing.sign(input.as_bytes());
        Ok(jws::compact(&input, &signature.to_bytes()))
    }
}
