//! A real Apache Kafka: one JVM that is broker and controller (KRaft), transactions working, topics made only when asked for. The
//! version is the one `tools/kafka/pom.xml` names.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use super::process::START_TIMEOUT;
use super::{Folder, Process, free_port, output, retry_start, script};

/// The user that may do everything where [`Kafka::start_with_acls`] was used, beside those that the test names.
pub const ADMIN: (&str, &str) = ("admin", "admin-secret");

/// A running Kafka, killed when dropped. Its data survives [`Kafka::kill`] and [`Kafka::restart`].
pub struct Kafka {
    // Dropped in this order: first the process, then the folder that it writes to.
    process: Process,
    folder: Folder,
    libs: String,
    jvm: Jvm,
    port: u16,
    /// With passwords; empty: everybody may do everything.
    users: Vec<(String, String)>,
    starts: u32,
}

impl Kafka {
    /// A Kafka where everybody may do everything, without a password.
    pub fn start() -> Result<Kafka> {
        retry_start(|| Self::start_once(&[], QUICK))
    }

    /// The same with the JVM settings of Kafka's own start script, for measuring.
    pub fn start_for_load() -> Result<Kafka> {
        retry_start(|| Self::start_once(&[], LASTING))
    }

    /// A Kafka where clients log in by SASL/PLAIN over plain TCP as one of `users` (name, password) or as [`ADMIN`], and may do
    /// only what an ACL allows ([`Kafka::acl`]); `ADMIN` needs none.
    pub fn start_with_acls(users: &[(&str, &str)]) -> Result<Kafka> {
        retry_start(|| Self::start_once(&[&[ADMIN], users].concat(), QUICK))
    }

    fn start_once(users: &[(&str, &str)], jvm: Jvm) -> Result<Kafka> {
        let libs = script("kafka-fetch")?;
        let folder = Folder::new("kafka")?;
        let port = free_port()?;
        let users: Vec<_> = users.iter().map(|(name, password)| (name.to_string(), password.to_string())).collect();
        let settings = settings(&folder, port, free_port()?, &users);
        fs::write(folder.path().join("server.properties"), settings)?;
        let (name, password) = ADMIN;
        let client = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config={PLAIN_LOGIN} username=\"{name}\" \
             password=\"{password}\";\n"
        );
        fs::write(folder.path().join("admin.properties"), client)?;

        let mut format = java(&libs, QUICK);
        format.args(["kafka.tools.StorageTool", "format", "--cluster-id", "countersign-test-kafka", "--config"]);
        output(format.arg(folder.path().join("server.properties"))).context("could not format Kafka's data folder")?;
        let process = Self::spawn(&libs, jvm, &folder, 0)?;
        Ok(Kafka { process, folder, libs, jvm, port, users, starts: 1 })
    }

    fn spawn(libs: &str, jvm: Jvm, folder: &Folder, starts: u32) -> Result<Process> {
        let mut server = java(libs, jvm);
        server.arg("kafka.Kafka").arg(folder.path().join("server.properties"));
        let mut process = Process::start("Kafka", &server, &folder.path().join(format!("log-{starts}.txt")))?;
        process.wait_until("ready", START_TIMEOUT, |log| log.contains("Kafka Server started"))?;
        Ok(process)
    }

    /// `host:port`, for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A client configuration that reaches it; as [`ADMIN`] where there are ACLs.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        if let Some((name, password)) = self.users.first() {
            log_in(&mut config, name, password);
        }
        config
    }

    /// A client configuration that logs in as `user`.
    pub fn client_as(&self, user: &str) -> Result<ClientConfig> {
        let Some((name, password)) = self.users.iter().find(|(name, _)| name == user) else {
            bail!("this Kafka was started without a user `{user}`");
        };
        let mut config = self.client();
        log_in(&mut config, name, password);
        Ok(config)
    }

    /// Makes a topic.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for result in admin.create_topics([&topic], &AdminOptions::new()).await? {
            result.map_err(|(name, code)| anyhow!("could not make topic `{name}`: {code}"))?;
        }
        Ok(())
    }

    /// Runs Kafka's own ACL tool: `kafka.acl(&["--add", "--allow-principal", "User:ann", "--operation", "Read", "--topic", "t"])`.
    /// Each call starts a JVM, about 2 s: name several topics or operations in one.
    pub fn acl(&self, arguments: &[&str]) -> Result<String> {
        let mut tool = java(&self.libs, QUICK);
        tool.args(["org.apache.kafka.tools.AclCommand", "--bootstrap-server", &self.bootstrap(), "--command-config"]);
        output(tool.arg(self.folder.path().join("admin.properties")).args(arguments))
    }

    /// SIGKILL: what a crash leaves.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again on the same port and data, killing it first if it runs.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.process = retry_start(|| {
            self.starts += 1;
            Self::spawn(&self.libs, self.jvm, &self.folder, self.starts)
        })?;
        Ok(())
    }

    /// The process, for signals and its output.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Where its data, settings and logs stand.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

fn log_in(config: &mut ClientConfig, name: &str, password: &str) {
    config.set("security.protocol", "SASL_PLAINTEXT").set("sasl.mechanism", "PLAIN");
    config.set("sasl.username", name).set("sasl.password", password);
}

/// The options of a JVM.
type Jvm = &'static [&'static str];

/// Starts fast and stays small: for a test's few seconds the full compiler and the parallel collectors cost more than they give.
const QUICK: Jvm = &["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"];

/// What `kafka-server-start.sh` gives.
const LASTING: Jvm = &[
    "-Xms1g",
    "-Xmx1g",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    // Kafka's operations guide recommends it: without it a record of a megabyte is half a region, which G1 treats apart.
    "-XX:G1HeapRegionSize=16M",
];

fn java(libs: &str, options: Jvm) -> Command {
    let mut java = Command::new("java");
    java.args(options);
    java.args(["-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS"]);
    // The list of all settings, at every start.
    java.arg("-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn");
    java.arg("-cp").arg(format!("{libs}/*"));
    java
}

const PLAIN_LOGIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required";

fn settings(folder: &Folder, port: u16, controller_port: u16, users: &[(String, String)]) -> String {
    let data = folder.path().join("data");
    let data = data.display();
    let (listener, security) = match users.first() {
        None => ("PLAINTEXT", String::new()),
        Some((admin, password)) => {
            let users: String = users.iter().map(|(name, password)| format!(" user_{name}=\"{password}\"")).collect();
            // ANONYMOUS is the controller talking to itself: the only listener without a login is its own.
            let security = format!(
                "sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config={PLAIN_LOGIN} username=\"{admin}\" password=\"{password}\"{users};
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:{admin};User:ANONYMOUS
"
            );
            ("SASL_PLAINTEXT", security)
        }
    };
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners={listener}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners={listener}://127.0.0.1:{port}
inter.broker.listener.name={listener}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
# One node: its own topics have one replica, and few partitions, which it opens at every start.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# After a kill the controller lets the broker back in only when its old session is over; by default after 9 s.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# A group's first member need not wait for others, and one that was killed is missed soon.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# Transactions left open are looked for every second, not every ten.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=2097152
{security}"
    )
}
