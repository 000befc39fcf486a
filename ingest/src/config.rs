//! The service's configuration: where its parts are and how to reach Kafka. What may be read by whom is not configured
//! here: identities, policy, catalog and connections live in the ledger and enter it by signed changes.

use countersign_ledger::evidence::Class;
use countersign_ledger::store::Periods;
use countersign_ledger::tlog::VerifierKey;
use secrecy::SecretString;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read.
    #[error("cannot read {what} `{path}`: {source}")]
    Read {
        /// What the file is.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Not TOML, or not of this shape.
    #[error("{path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// A secret that is not where the configuration says.
    #[error("{0}")]
    Secret(String),
}

/// `countersign.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The ledger's name: a URL without its scheme, the same in every checkpoint for ever.
    pub origin: String,
    /// The ledger's files.
    #[serde(default)]
    pub ledger: LedgerConfig,
    /// Kafka.
    pub kafka: KafkaConfig,
    /// The HTTP listeners.
    #[serde(default)]
    pub http: HttpConfig,
    /// The pipeline.
    #[serde(default)]
    pub service: ServiceConfig,
    /// Witnesses of the ledger.
    #[serde(default)]
    pub witness: WitnessConfig,
    /// For how many days the payloads of each class are kept; a class that is not named is kept for ever.
    #[serde(default)]
    pub retention: BTreeMap<Class, u64>,
}

/// Witnesses of the ledger.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WitnessConfig {
    /// A `tlog-policy` file: the witnesses, where they take checkpoints, and the quorum.
    pub policy: Option<PathBuf>,
    /// Nothing is appended any more once the quorum has not been reached for so many seconds. Not set: appends go on.
    pub appends_wait_after_seconds: Option<u64>,
}

/// Where the ledger's files are; relative paths start at the configuration's folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerConfig {
    /// The store.
    pub dir: PathBuf,
    /// The file with the last signed checkpoint; put it on another disk than the store where you can.
    pub head: PathBuf,
    /// The keys of the vault; never back them up together with the store.
    pub keyring: PathBuf,
    /// The ledger's signing key.
    pub key: PathBuf,
    /// The socket on which the running service takes operators' commands. Its path has at most some 100 bytes.
    pub control: PathBuf,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            dir: "ledger".into(),
            head: "head/HEAD".into(),
            keyring: "keyring".into(),
            key: "ledger.key".into(),
            control: "control.sock".into(),
        }
    }
}

/// How to reach Kafka.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port`, several separated by commas.
    pub bootstrap: String,
    /// Further librdkafka properties (`security.protocol`, `ssl.ca.location`, …), for values that are not secret.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// A file of `name=value` lines with the properties that are secret (`sasl.password`).
    pub secrets: Option<PathBuf>,
    /// Partitions of the topics that the service creates. Those of `chunk.work` are shared out among the workers, so fewer leave
    /// some without work.
    #[serde(default = "four")]
    pub partitions: i32,
    /// Replicas of the topics that the service creates.
    #[serde(default = "one")]
    pub replication: i32,
}

fn one() -> i32 {
    1
}

fn four() -> i32 {
    4
}

/// The HTTP listeners.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Checkpoints, tiles, approvals, administration, health.
    pub listen: SocketAddr,
    /// Metrics.
    pub metrics: SocketAddr,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8722)), metrics: SocketAddr::from(([127, 0, 0, 1], 8723)) }
    }
}

/// The pipeline.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// Workers: each fetches, masks and delivers one chunk at a time.
    pub workers: usize,
    /// The largest record value, in bytes; Kafka's own default allows a little over 1 MB with its overhead.
    pub max_record_bytes: usize,
    /// How long a request waits for approval, in seconds.
    pub approval_seconds: u64,
    /// How often a chunk is tried before the request fails.
    pub max_attempts: u64,
    /// How long Kafka waits for an unfinished transaction, in seconds.
    pub transaction_seconds: u64,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            workers: 4,
            max_record_bytes: 900_000,
            approval_seconds: 7 * 86_400,
            max_attempts: 5,
            transaction_seconds: 60,
        }
    }
}

impl Config {
    /// Reads `path`; relative paths in it then start at its folder.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text("the configuration", path)?;
        let mut config: Self = toml::from_str(&text).map_err(|e| ConfigError::Parse {
            path: path.to_path_buf(),
            reason: e.to_string().trim_end().to_string(),
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        let ledger = &mut config.ledger;
        for file in [&mut ledger.dir, &mut ledger.head, &mut ledger.keyring, &mut ledger.key, &mut ledger.control] {
            *file = base.join(&*file);
        }
        if let Some(policy) = &mut config.witness.policy {
            *policy = base.join(&*policy);
        }
        let mut periods = Periods::default();
        for (class, days) in &config.retention {
            periods
                .set(*class, *days)
                .map_err(|e| ConfigError::Parse { path: path.to_path_buf(), reason: format!("`retention`: {e}") })?;
        }
        if let Some(secrets) = &mut config.kafka.secrets {
            *secrets = base.join(&*secrets);
        }
        Ok(config)
    }

    /// How long payloads are kept.
    pub fn periods(&self) -> Periods {
        let mut periods = Periods::default();
        // `load` has refused what can't be.
        self.retention.iter().for_each(|(class, days)| drop(periods.set(*class, *days)));
        periods
    }
}

impl KafkaConfig {
    /// All librdkafka properties, secrets included.
    pub fn client(&self) -> Result<rdkafka::ClientConfig, ConfigError> {
        let mut client = rdkafka::ClientConfig::new();
        client.set("bootstrap.servers", &self.bootstrap);
        for (name, value) in &self.properties {
            client.set(name, value);
        }
        if let Some(path) = &self.secrets {
            for line in read_text("the Kafka secrets", path)?.lines() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let Some((name, value)) = line.split_once('=') else {
                    return Err(ConfigError::Secret(format!("`{}`: a line is not `name=value`", path.display())));
                };
                client.set(name.trim(), value.trim());
            }
        }
        Ok(client)
    }
}

/// Reads a text file, or says which one could not be read.
pub fn read_text(what: &'static str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { what, path: path.to_path_buf(), source })
}

/// Where a credential is found: in a file or in a variable of the service's environment, never in the description itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialRef {
    /// The path of a file that holds it.
    File(PathBuf),
    /// The name of a variable that holds it.
    Env(String),
}

impl CredentialRef {
    /// Fetches the credential.
    pub fn resolve(&self) -> Result<SecretString, ConfigError> {
        match self {
            Self::File(path) => Ok(SecretString::from(read_text("the credential file", path)?.trim().to_string())),
            Self::Env(name) => std::env::var(name)
                .map(SecretString::from)
                .map_err(|_| ConfigError::Secret(format!("the variable `{name}` with a credential is not set"))),
        }
    }
}

/// `client.toml`: what a caller, approver or admin needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// The ledger's name.
    pub origin: String,
    /// The identity's name.
    pub identity: String,
    /// The identity's private key, a JWK file.
    pub key: PathBuf,
    /// The service's HTTP address, as in `http://127.0.0.1:8722`; approvals and administration need it.
    pub http: Option<String>,
    /// Kafka; requests need it.
    pub kafka: Option<KafkaConfig>,
    /// Where this identity's chunks are delivered, if not to `chunk.masked.<identity>`.
    pub chunk_topic: Option<String>,
    /// The ledger's verifier key, or a file of it: receipts are then checked before a chunk is kept.
    pub ledger_key: Option<String>,
}

impl ClientConfig {
    /// Reads `path`; relative paths in it then start at its folder.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text("the client configuration", path)?;
        let mut config: Self = toml::from_str(&text).map_err(|e| ConfigError::Parse {
            path: path.to_path_buf(),
            reason: e.to_string().trim_end().to_string(),
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        config.key = base.join(&config.key);
        if let Some(named) = config.ledger_key.as_mut()
            && named.parse::<VerifierKey>().is_err()
        {
            *named = base.join(&*named).to_string_lossy().into_owned();
        }
        if let Some(secrets) = config.kafka.as_mut().and_then(|k| k.secrets.as_mut()) {
            *secrets = base.join(&*secrets);
        }
        Ok(config)
    }
}
