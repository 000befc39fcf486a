//! What the README shows, by the commands that it shows: the demo, and the walk from `init` to a proof on a real Kafka and a real
//! PostgreSQL. Catalog and policy are taken from the README itself.

use crate::support::{Folder, Kafka, Postgres, free_port, process::Process};
use crate::world::{PATIENCE, binary};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
const ORIGIN: &str = "ledger.example.com/audit";

/// A newcomer's terminal.
struct Terminal {
    folder: Folder,
}

impl Terminal {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary(program).unwrap());
        command.current_dir(self.folder.path()).env("COUNTERSIGN_CLIENT", "service/admin.toml").args(arguments);
        command
    }

    fn run(&self, program: &str, line: &str) -> Output {
        self.command(program, &words(line)).output().unwrap()
    }

    /// What `countersign` prints, which must succeed.
    fn done(&self, line: &str) -> String {
        said(&self.run("countersign", line), line)
    }

    fn proven(&self, line: &str) -> String {
        let said = said(&self.run("countersign-verify", line), line);
        assert!(said.starts_with("PROVEN"), "{line}: {said}");
        said
    }
}

/// The words of a line; what stands in double quotes is one.
fn words(line: &str) -> Vec<&str> {
    let parts = line.split('"').enumerate();
    parts.flat_map(|(nth, part)| if nth % 2 == 1 { vec![part] } else { part.split_whitespace().collect() }).collect()
}

fn said(output: &Output, line: &str) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {} {error}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The block of the README that begins with this line.
fn block(first: &str) -> String {
    let readme = fs::read_to_string(README).unwrap();
    let (_, rest) = readme.split_once(&format!("\n{first}\n")).unwrap_or_else(|| panic!("the README has no `{first}`"));
    rest.split("\n```").next().unwrap().to_owned() + "\n"
}

fn parts_of(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names = names.collect::<Vec<_>>();
    names.sort();
    names
}

#[test]
fn the_walk_of_the_readme() {
    let (kafka, postgres) = (Kafka::start().unwrap(), Postgres::start().unwrap());
    postgres
        .psql(
            "create table customers as select n as id, 'Person ' || n as name, 'person' || n || '@example.com' as email, \
             date '1960-01-01' + n as born, (array['DE', 'FR', 'AT'])[n % 3 + 1] as country from generate_series(1, 5000) n",
        )
        .unwrap();
    let terminal = Terminal { folder: Folder::new("readme").unwrap() };
    let (http, metrics) = (free_port().unwrap(), free_port().unwrap());
    let bootstrap = kafka.bootstrap();
    let listen = format!("--listen 127.0.0.1:{http} --metrics 127.0.0.1:{metrics}");
    let made = terminal.done(&format!("init --origin {ORIGIN} --kafka {bootstrap} {listen} service"));
    assert!(made.ends_with("next: countersign serve --config service/countersign.toml\n"), "{made}");
    let serve = terminal.command("countersign", &["serve", "--config", "service/countersign.toml"]);
    let mut service = Process::start("countersign", &serve, &terminal.path("serve.log")).unwrap();
    let until = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", http)).is_err() {
        assert!(Instant::now() < until, "{}", service.log());
        std::thread::sleep(Duration::from_millis(50));
    }

    for (file, name, rest) in [
        ("reports/weekly-report", "weekly-report", "--kind service --group analysts"),
        ("dana/dana", "dana", "--kind human --group data-owners"),
    ] {
        let key = terminal.done(&format!("identity new-key --origin {ORIGIN} --out {file}.key {name}"));
        assert!(key.contains(&format!("{file}.offer")), "{key}");
        assert!(terminal.done(&format!("identity register {file}.offer {rest}")).starts_with("in force from entry "));
        let admin = fs::read_to_string(terminal.path("service/admin.toml")).unwrap();
        let own = admin.replace("identity = \"admin\"", &format!("identity = \"{name}\""));
        let own = own.replace("\"admin.key\"", &format!("\"{name}.key\""));
        let own = own.replace("\"ledger.vkey\"", "\"../service/ledger.vkey\"");
        fs::write(terminal.path(file).with_file_name("client.toml"), own).unwrap();
    }
    fs::write(terminal.path("service/shop.url"), postgres.url()).unwrap();
    terminal.done("connection postgres shop --url-file service/shop.url");
    fs::write(terminal.path("catalog.toml"), block("# catalog.toml")).unwrap();
    fs::write(terminal.path("policy.cedar"), block("// policy.cedar")).unwrap();
    terminal.done("catalog check catalog.toml");
    assert!(terminal.done("catalog set catalog.toml").starts_with("catalog.toml: 1 tables\nin force from entry "));
    assert!(terminal.done("policy set policy.cedar").starts_with("policy.cedar: 4 policies\nin force from entry "));

    let ask = "request shop.public.customers --client reports/client.toml";
    let masked = format!("{ask} --columns id,name,email,born,country --purpose reporting");
    let rows = terminal.done(&format!("{masked} --filter \"country = 'DE'\" --limit 3 --format jsonl"));
    let first = r#"{"id":3,"name":"P*****","email":"p***@***.com","born":"1960-01-01","country":"DE"}"#;
    assert_eq!((rows.lines().next(), rows.lines().count()), (Some(first), 3), "{rows}");
    // Whose key of the ledger can't be read asks for nothing: what is delivered is delivered once.
    let client = terminal.path("reports/client.toml");
    let own = fs::read_to_string(&client).unwrap();
    fs::write(&client, own.replace("../service/", "")).unwrap();
    let refused = terminal.run("countersign", &masked);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && error.contains("the ledger's key `reports/ledger.vkey`"), "{error}");
    assert!(!error.contains("request "), "{error}");
    fs::write(&client, own).unwrap();
    let files = terminal.done(&format!("{masked} --out chunks"));
    let names = parts_of(&terminal.path("chunks"));
    assert_eq!(files.lines().map(|file| file.trim_start_matches("chunks/")).collect::<Vec<_>>(), names);

    let waits =
        format!("{ask} --columns id,name,country --purpose support --range id:100..103 --limit 3 --format jsonl");
    let stopped = terminal.run("countersign", &waits);
    assert_eq!(stopped.status.code(), Some(75), "{}", String::from_utf8_lossy(&stopped.stderr));
    let asking = terminal.command("countersign", &words(&format!("{waits} --wait-for-approval")));
    let mut asking = Process::start("request", &asking, &terminal.path("request.log")).unwrap();
    let own = String::from_utf8(stopped.stdout).unwrap();
    let stopped = own.split_whitespace().nth(1).unwrap();
    let until = Instant::now() + PATIENCE;
    let waiting = loop {
        let listed = terminal.done("approvals list --client dana/client.toml");
        let other = listed.lines().find(|line| !line.starts_with(stopped)).map(str::to_owned);
        if let Some(line) = other {
            break line;
        }
        assert!(Instant::now() < until, "{listed} {}", asking.log());
        std::thread::sleep(Duration::from_millis(100));
    };
    let trace = waiting.split_whitespace().next().unwrap();
    assert!(waiting.ends_with("weekly-report  shop.public.customers  for support"), "{waiting}");
    let shown = terminal.done(&format!("approvals show {trace} --client dana/client.toml"));
    assert!(shown.contains("column       name (pii.name): clear\n"), "{shown}");
    let approved =
        terminal.done(&format!("approvals approve {trace} --reason \"case 4711\" --client dana/client.toml"));
    assert!(approved.contains("approved: answer "), "{approved}");
    assert!(asking.wait_for_end(PATIENCE).unwrap().success(), "{}", asking.log());
    assert!(asking.log().contains("\"name\":\"Person 100\""), "{}", asking.log());

    let export = "ledger export evidence --config service/countersign.toml --payloads request,approval,admin";
    assert!(terminal.done(export).ends_with(" payloads in evidence\n"));
    terminal.proven("log evidence --key service/ledger.vkey --require caller-signatures,approval-signatures");
    let (receipt, parts) = names.split_last().unwrap();
    let parts = parts.iter().map(|part| format!("chunks/{part}")).collect::<Vec<_>>().join(" ");
    terminal.proven(&format!("chunk {parts} --receipt chunks/{receipt} --key service/ledger.vkey"));
    terminal.proven(&format!("receipt chunks/{receipt} --key service/ledger.vkey"));
    service.signal("TERM").unwrap();
    assert!(service.wait_for_end(PATIENCE).unwrap().success(), "{}", service.log());
}

/// The demo tells its story to the end, proves it and names the entry that was altered.
#[test]
fn the_demo() {
    let terminal = Terminal { folder: Folder::new("demo").unwrap() };
    let story = terminal.done("demo --dir run");
    for told in ["PROVEN: ", "BROKEN: entry "] {
        assert!(story.contains(told), "no `{told}` in\n{story}");
    }
    terminal.proven("log run/evidence --key run/ledger.vkey");
}
