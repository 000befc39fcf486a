//! What rules say: foretold as it is then decided, explained, made again from the evidence; and values for tokens, to those who have the
//! right, with an entry each time.

use crate::support::Folder;
use crate::world::{World, binary, people, pg_people};
use countersign::client::{self, Wish};
use countersign::http::ask::{ColumnsQuestion, DryRun};
use countersign::identity::change::Operation;
use countersign::identity::registry::Payloads;
use countersign::pipeline::status::Word;
use countersign::redecide::{Evidence, Export, Outcome, redecide};
use countersign_ledger::evidence::step::{Reason, Revocation, Verdict};
use countersign_ledger::evidence::{Class, Commitment, Entry, Step};
use std::process::{Command, Output};

fn run(world: &World, arguments: &[&str]) -> Output {
    Command::new(binary("countersign").unwrap()).current_dir(world.dir()).args(arguments).output().unwrap()
}

/// The output of a command that must end with this code.
fn said(world: &World, code: i32, arguments: &[&str]) -> String {
    let output = run(world, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

fn members(columns: &[&str]) -> Wish {
    Wish { dataset: "files.members".into(), ..people(columns) }
}

/// One column of a JSON Lines chunk.
fn cells(parts: &[Vec<u8>], column: &str) -> Vec<String> {
    let text = String::from_utf8(parts.concat()).unwrap();
    let cell =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()[column].as_str().unwrap().to_owned();
    text.lines().map(cell).collect()
}

#[test]
fn values_for_tokens() {
    let world = World::shared();
    let (_, answer) = world.ask("reports", &members(&["number", "code"])).unwrap();
    assert_eq!(answer.status.status, Word::Delivered);
    let (tokens, codes) = (cells(&answer.parts, "number"), cells(&answer.parts, "code"));
    assert!(tokens.len() == 8 && tokens.iter().all(|token| token.starts_with("tok_")));
    let frida = world.client("frida").unwrap();
    let wish = |column: &str, purpose: &str| client::Reidentify {
        dataset: "files.members".into(),
        column: column.into(),
        purpose: purpose.into(),
        ..client::Reidentify::default()
    };
    let from = world.service().core.ledger.size().get();

    let told = frida.reidentify(&wish("number", "reporting"), &tokens, "case 17").unwrap();
    let mut values: Vec<String> = told.values.iter().flatten().cloned().collect();
    values.sort();
    assert_eq!(values, (0..8).map(|n| format!("Membersecret-{n}")).collect::<Vec<_>>());
    let mut stranger = tokens.clone();
    let another = if stranger[3].as_bytes()[6] == b'A' { "B" } else { "A" };
    stranger[3].replace_range(6..7, another);
    let other = frida.reidentify(&wish("number", "reporting"), &stranger, "case 17").unwrap();
    assert_eq!(other.values.iter().filter(|value| value.is_none()).count(), 1, "{other:?}");
    let codes = frida.reidentify(&wish("code", "reporting"), &codes, "case 18").unwrap();
    let mut codes: Vec<String> = codes.values.into_iter().flatten().collect();
    codes.sort();
    assert_eq!(codes, (0..8).map(|n| format!("7700-000{n}")).collect::<Vec<_>>());

    // What lies inside of a column, by its path.
    let (_, answer) = world.ask("reports", &members(&["profile"])).unwrap();
    let profiles = cells(&answer.parts, "profile");
    let pass =
        |text: &String| serde_json::from_str::<serde_json::Value>(text).unwrap()["pass"].as_str().unwrap().to_owned();
    let passes: Vec<String> = profiles.iter().map(pass).collect();
    let told = frida.reidentify(&wish("profile.pass", "reporting"), &passes, "case 18").unwrap();
    let mut values: Vec<String> = told.values.into_iter().flatten().collect();
    values.sort();
    assert_eq!(values, (0..8).map(|n| format!("Membersecret-pass-{n}")).collect::<Vec<_>>());

    // Of another purpose no token is one.
    let none = frida.reidentify(&wish("number", "support"), &tokens, "case 17").unwrap();
    assert!(none.refusal.is_none() && none.values.iter().all(Option::is_none));
    for (who, wish) in [
        ("reports", wish("number", "reporting")),
        ("frida", wish("id", "reporting")),
        ("frida", wish("gone", "reporting")),
    ] {
        let refused = world.client(who).unwrap().reidentify(&wish, &tokens, "curiosity").unwrap();
        assert_eq!((refused.refusal, refused.values.len()), (Some(Reason::Forbidden), 0), "{who} {wish:?}");
    }
    assert!(frida.reidentify(&wish("number", "reporting"), &tokens, " ").is_err(), "a reason is needed");
    assert!(frida.reidentify(&wish("number", "reporting"), &[], "none").is_err(), "nothing is no question");

    let entries: Vec<Entry> = world.entries_since(from).unwrap();
    let calls: Vec<_> = entries
        .iter()
        .filter_map(|entry| if let Step::ReidentifyDecided(s) = &entry.body { Some(s) } else { None })
        .collect();
    assert_eq!(calls.iter().filter(|s| s.verdict == Verdict::Permit).count(), 5);
    assert_eq!(calls.iter().filter(|s| s.verdict == Verdict::Deny && s.column.is_none()).count(), 3);
    assert_eq!((calls[0].count.get(), calls[0].rule.as_deref()), (8, Some("token(members)")));
    for entry in &entries {
        let text = String::from_utf8(entry.encode().unwrap()).unwrap();
        assert!(!text.contains("Membersecret") && !text.contains("case 17") && !text.contains(&tokens[0]), "{text}");
    }
    let report = world.prove().unwrap();
    assert!(report.contains("values given back for tokens"), "{report}");
    let asked = |of: &[&str]| {
        let about = ["--purpose", "reporting", "--reason", "case 19"];
        said(world, 0, &[&["reidentify", "--client", "frida.toml"], of, &about].concat())
    };
    let printed = asked(&["files.members.number", &tokens[0]]);
    assert!(printed.contains("Membersecret-"), "{printed}");
    let printed = asked(&["files.members", "--path", "profile.pass", &passes[0]]);
    assert!(printed.contains("Membersecret-pass-"), "{printed}");
}

#[test]
fn what_detectors_find_is_masked_and_counted() {
    let world = World::shared();
    let wish = Wish { dataset: "files.notes".into(), ..people(&["id", "text"]) };
    let (trace, answer) = world.ask("reports", &wish).unwrap();
    assert_eq!(answer.status.status, Word::Delivered, "{:?}", answer.status);
    let mut texts = cells(&answer.parts, "text");
    texts.sort();
    let expected: Vec<String> = (0..6).map(|n| format!("note {n}: [pii.email], badge [acme.badge]")).collect();
    assert_eq!(texts, expected);
    let story = world.story(trace).unwrap();
    let masked = story.iter().find_map(|step| if let Step::ChunkMasked(s) = step { Some(s) } else { None }).unwrap();
    let hits: Vec<_> = masked.columns[1].hits.iter().map(|hit| (hit.class.as_str(), hit.count.get())).collect();
    assert_eq!(hits, [("acme.badge", 6), ("pii.email", 6)]);
    let entries = serde_json::to_string(&masked.columns).unwrap();
    assert!(!entries.contains("found.in") && !entries.contains("ACME-"), "a hit is told by its value");
    world.prove().unwrap();
}

#[test]
fn old_tokens_outlive_their_key() {
    let mut world = World::start("").unwrap();
    let tokens = |world: &World| {
        let (_, answer) = world.ask("reports", &members(&["number"])).unwrap();
        cells(&answer.parts, "number")
    };
    let old = tokens(&world);
    let text = said(&world, 0, &["keys", "rotate-tokens", "--config", "countersign.toml"]);
    assert!(text.contains("token key version 2"), "{text}");
    world.stop_service();
    world.start_service().unwrap();
    let new = tokens(&world);
    assert!(old.iter().all(|t| t.starts_with("tok_")) && new.iter().all(|t| t.starts_with("tok2_")), "{old:?} {new:?}");
    let wish = client::Reidentify {
        dataset: "files.members".into(),
        column: "number".into(),
        purpose: "reporting".into(),
        ..client::Reidentify::default()
    };
    let told = world.client("frida").unwrap().reidentify(&wish, &[old, new].concat(), "case 20").unwrap();
    let mut values: Vec<String> = told.values.into_iter().flatten().collect();
    values.sort();
    let expected: Vec<String> = (0..8).flat_map(|n| [n, n]).map(|n| format!("Membersecret-{n}")).collect();
    assert_eq!(values, expected);

    // Revoked, whoever had the right has it no longer.
    let frida = world.client("frida").unwrap();
    let revoke = Operation::RevokeIdentity { name: "frida".into(), reason: Revocation::Left };
    world.client("admin").unwrap().change(revoke).unwrap();
    let from = world.service().core.ledger.size().get();
    let token = "tok_AAAA".to_owned();
    let error = frida.reidentify(&wish, &[token], "case 20").unwrap_err().to_string();
    assert!(error.contains("revoked_key"), "{error}");
    assert!(world.entries_since(from).unwrap().is_empty(), "nobody can be held to it, so nothing is recorded");
    world.prove().unwrap();
    world.stop_service();
}

#[test]
fn what_is_foretold_is_what_is_decided() {
    let world = World::shared();
    let from_bot = |wish: Wish| Wish { on_behalf_of: Some("kim".into()), ..wish };
    let cases = [
        ("reports", people(&["id", "name", "email"])),
        ("reports", Wish { filter: Some("country = 'DE'".into()), ..people(&["id"]) }),
        ("reports", Wish { filter: Some("name = 'x'".into()), ..people(&["id"]) }),
        ("reports", Wish { filter: Some("country = ".into()), ..people(&["id"]) }),
        ("reports", Wish { limit: Some(1 << 40), ..people(&["id"]) }),
        ("reports", Wish { purpose: "curiosity".into(), ..people(&["id"]) }),
        ("reports", Wish { format: "xml".into(), ..people(&["id"]) }),
        ("reports", Wish { dataset: "files.nothing".into(), ..people(&["id"]) }),
        ("reports", Wish { dataset: "down.public.people".into(), ..people(&["id"]) }),
        ("reports", people(&["id", "nothing"])),
        ("outsider", people(&["id"])),
        ("outsider", Wish { dataset: "files.nothing".into(), ..people(&["id"]) }),
        ("bot", pg_people(&["id", "email"])),
        ("bot", from_bot(pg_people(&["id"]))),
        ("reports", from_bot(pg_people(&["id"]))),
    ];
    for (who, wish) in cases {
        let w = wish.clone();
        let dry = DryRun {
            dataset: w.dataset,
            columns: w.columns,
            filter: w.filter,
            range: w.range,
            limit: w.limit,
            format: w.format,
            purpose: w.purpose,
            on_behalf_of: w.on_behalf_of,
        };
        let foretold = world.client(who).unwrap().dry_run(&dry).unwrap();
        let (trace, answer) = world.ask(who, &wish).unwrap();
        let step = world.story(trace).unwrap().into_iter().find_map(|step| match step {
            Step::PolicyDecided(s) => Some(s),
            _ => None,
        });
        let step = step.unwrap();
        assert_eq!(foretold.verdict, step.verdict, "{who} {wish:?}");
        assert_eq!(foretold.groups, step.approval, "{who} {wish:?}");
        let columns = |name: &str, class: &str, rule: &str| format!("{name} {class} {rule}");
        let told: Vec<_> = foretold.columns.iter().map(|c| columns(&c.column, &c.class, &c.rule)).collect();
        let decided: Vec<_> = step.columns.iter().map(|c| columns(&c.column, &c.class, &c.rule)).collect();
        assert_eq!(told, decided, "{who} {wish:?}");
        if step.verdict == Verdict::Deny {
            assert_eq!(foretold.reason, answer.status.reason, "{who} {wish:?}");
        }
    }
    // The same answer for what there is not and what is not for one.
    let columns = |who: &str, dataset: &str| {
        let question = ColumnsQuestion { dataset: dataset.into(), purpose: "reporting".into(), on_behalf_of: None };
        let own = world.client(who).unwrap().columns(&question).unwrap();
        own.into_iter().map(|own| format!("{}: {}", own.column, own.rule)).collect::<Vec<_>>()
    };
    for (who, dataset) in [("reports", "files.nothing"), ("outsider", "files.people"), ("reports", "nothing")] {
        assert!(columns(who, dataset).is_empty(), "{who} {dataset}");
    }
    let own = ["id: clear", "name: keep_first(1)", "email: email", "born: year_only", "country: clear"];
    assert_eq!(columns("reports", "files.people"), own);
}

#[test]
fn admins_are_told_what_rules_say() {
    let world = World::shared();
    drop(world.client("admin").unwrap());
    drop(world.client("reports").unwrap());
    let explain =
        ["policy", "explain", "--client", "admin.toml", "--dataset", "files.people", "--purpose", "reporting"];
    let with = |more: &[&'static str]| [&explain, more].concat();
    let text = said(world, 0, &with(&["--identity", "reports", "--columns", "id,email"]));
    for line in
        ["answer    clear, email, at most", "read_clear  yes, by public-is-clear", "read_clear  no, nothing permits it"]
    {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    said(world, 1, &with(&["--identity", "nobody"]));
    let refused = [
        "policy",
        "explain",
        "--client",
        "reports.toml",
        "--dataset",
        "files.people",
        "--purpose",
        "reporting",
        "--identity",
        "reports",
    ];
    assert!(said(world, 1, &refused).contains("this is for admins"));

    let dir = Folder::new("rules").unwrap();
    let new = dir.path().join("new.cedar");
    let forbid = "\n@id(\"no-mail\") forbid (principal == Identity::\"reports\", action == Action::\"read\", resource) when { resource.class == \"pii.email\" };";
    let idle = "\n@id(\"gone\") permit (principal in Group::\"gone\", action == Action::\"read\", resource);";
    std::fs::write(&new, [crate::world::POLICY, forbid, idle].concat()).unwrap();
    let new = new.to_str().unwrap();
    let text = said(world, 1, &["policy", "diff", "--client", "admin.toml", "in-force", new]);
    assert!(
        text.contains("reports: read files.people.email, reporting\n  - email, at most")
            && text.contains("  + forbidden"),
        "{text}"
    );
    assert!(!text.contains("bot"), "nobody else is told of\n{text}");
    said(world, 0, &["policy", "diff", "--client", "admin.toml", "in-force", "in-force"]);
    let text = said(world, 0, &["policy", "check", "--client", "admin.toml", new]);
    assert!(text.contains("policy `gone` matches nothing"), "{text}");
    assert!(!text.contains("no-mail") && !text.contains("by nobody"), "{text}");
    let hidden = dir.path().join("hidden.cedar");
    let forbid = "\n@id(\"no-births\") forbid (principal, action, resource == Column::\"files.people.born\");";
    std::fs::write(&hidden, [crate::world::POLICY, forbid].concat()).unwrap();
    let text = said(world, 0, &["policy", "check", "--client", "admin.toml", hidden.to_str().unwrap()]);
    assert!(text.contains("column `files.people.born` can be read by nobody") && !text.contains("no-births"), "{text}");

    let text = said(world, 1, &["catalog", "coverage", "--client", "admin.toml"]);
    for line in [
        "down.public.people: the source does not answer",
        "files.members: `note` (text) has no class",
        "files.unlisted: not in the catalog",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    let from = world.service().core.ledger.size().get();
    let text = said(world, 0, &["catalog", "scan", "--client", "admin.toml", "files.unlisted", "--rows", "50"]);
    for line in [
        "+[tables.\"files.unlisted\".columns]",
        "+\"mail\" = \"pii.email\"",
        "+\"card\" = \"fin.card\"",
        "+[classes.\"fin.card\"]",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains("scanned0@example.org") && !text.contains("4111"), "no cell is shown\n{text}");
    let sampled = world.entries_since(from).unwrap().into_iter().find_map(|entry| match entry.body {
        Step::SourceSampled(s) => Some(s),
        _ => None,
    });
    assert_eq!(sampled.map(|s| (s.table, s.rows.get())), Some(("unlisted".into(), 50)));
    assert!(said(world, 1, &["catalog", "scan", "--client", "reports.toml", "files.unlisted"]).contains("for admins"));
    world.prove().unwrap();
}

/// Evidence with one decision changed.
struct Tampered<'a>(&'a Export, u64, fn(&mut Step));

impl Payloads for Tampered<'_> {
    fn bytes(&self, commitment: &Commitment) -> Result<Option<Vec<u8>>, String> {
        self.0.bytes(commitment)
    }
}

impl Evidence for Tampered<'_> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn entry(&self, index: u64) -> Result<Entry, String> {
        let mut entry = self.0.entry(index)?;
        if index == self.1 {
            self.2(&mut entry.body);
        }
        Ok(entry)
    }
}

#[test]
fn every_decision_follows_when_it_is_made_again() {
    let world = World::shared();
    for who in ["reports", "outsider"] {
        world.ask(who, &people(&["id", "email"])).unwrap();
    }
    for _ in 0..4 {
        world.ask("hasty", &people(&["id"])).unwrap();
    }
    let ledger = &world.service().core.ledger;
    ledger.wait_published().unwrap();
    let dir = Folder::new("redecide").unwrap();
    let classes = [Class::Request, Class::Identity, Class::Config, Class::Query];
    let whole = dir.path().join("whole");
    ledger.export(&whole, &classes).unwrap();
    let text = said(world, 0, &["audit", "redecide", whole.to_str().unwrap()]);
    assert!(text.contains("0 come out otherwise") && text.contains("0 cannot be made again"), "{text}");
    let text = said(world, 0, &["audit", "redecide", "--config", "countersign.toml"]);
    assert!(text.contains("0 come out otherwise"), "{text}");
    for class in classes {
        let without: Vec<Class> = classes.into_iter().filter(|other| *other != class).collect();
        let part = dir.path().join(class.as_str());
        ledger.export(&part, &without).unwrap();
        said(world, 3, &["audit", "redecide", part.to_str().unwrap()]);
    }

    let export = Export::open(&whole).unwrap();
    let find = |is: &dyn Fn(&Step) -> bool| (0..export.size()).find(|i| is(&export.entry(*i).unwrap().body)).unwrap();
    // A permit that each of the changes below does change.
    let permit = find(&|step| match step {
        Step::PolicyDecided(s) => {
            s.verdict == Verdict::Permit && s.purpose.as_deref() == Some("reporting") && s.columns[0].rule != "null"
        }
        _ => false,
    });
    let deny = find(&|step| matches!(step, Step::RequestDenied(s) if s.reason == Reason::Forbidden)) - 1;
    fn decided(step: &mut Step) -> &mut countersign_ledger::evidence::step::PolicyDecided {
        match step {
            Step::PolicyDecided(s) => s,
            other => panic!("{} is no decision", other.kind()),
        }
    }
    type Change = fn(&mut Step);
    let changes: &[(u64, Change)] = &[
        (permit, |step| decided(step).columns[0].rule = "null".into()),
        (permit, |step| decided(step).policies.push("zzz".into())),
        (permit, |step| decided(step).purpose = Some("support".into())),
        (permit, |step| decided(step).verdict = Verdict::NeedsApproval),
        (permit, |step| decided(step).policy = decided(step).catalog),
        (deny, |step| decided(step).policies.push("zzz".into())),
    ];
    for (n, (index, change)) in changes.iter().enumerate() {
        let mut otherwise = Vec::new();
        let judge = |judged: countersign::redecide::Judged| {
            if matches!(judged.outcome, Outcome::Differs(_)) {
                otherwise.push(judged.index);
            }
        };
        redecide(&Tampered(&export, *index, *change), judge).unwrap();
        assert_eq!(otherwise, [*index], "change {n}");
    }
}
