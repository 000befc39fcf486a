//! The report as one HTML page: the sections in the order in which a reviewer asks. It needs nothing from anywhere, runs
//! nothing but the one script that its policy names by hash, and is the same bytes for the same evidence.

use super::chart;
use super::html::{Count, Html};
use super::review::{ApprovalRow, Cells, ColumnRow, Outcome, Outcomes, Review, Rows};
use super::sample::Story;
use crate::explain::Word;
use crate::finding::Verdict;
use crate::story::Claim;
use crate::time::{minute, seconds, utc};
use countersign_ledger::evidence::digest::sha256;
use std::collections::BTreeMap;
use std::fmt::Display;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What each reason code means: the page that callers read.
const REASONS: &str = include_str!("../../../docs/reason-codes.md");

/// How many rows a table of the page has at most; the JSON has more.
const SHOWN_MAX: usize = 100;

/// The page.
pub fn render(review: &Review) -> String {
    let page = Page {
        review,
        names: (review.identities.iter())
            .filter_map(|row| Some((row.identity.as_str(), row.name.as_deref()?)))
            .collect(),
    };
    let mut html = Html::default();
    page.head(&mut html);
    html.raw("<body>\n");
    page.masthead(&mut html);
    html.raw("<div class=\"frame\">\n");
    page.contents(&mut html);
    html.raw("<main>\n");
    page.verdict(&mut html);
    if review.log.is_some() {
        page.glance(&mut html);
        page.claims(&mut html);
        page.asks(&mut html);
        page.data(&mut html);
        page.decisions(&mut html);
        page.approvals(&mut html);
        page.refusals(&mut html);
        page.exceptions(&mut html);
        page.criteria(&mut html);
        page.stories(&mut html);
    }
    page.method(&mut html);
    html.raw("</main>\n</div>\n");
    html.element(
        "footer",
        "",
        format!(
            "Made by {} from the evidence alone. It opens no connection and holds no other file.",
            review.generator
        ),
    );
    html.line();
    html.json("nodes", &review.stories.nodes).line();
    html.raw("<script>").raw(SCRIPT).raw("</script>\n</body>\n</html>\n");
    html.finish()
}

struct Page<'a> {
    review: &'a Review,
    names: BTreeMap<&'a str, &'a str>,
}

/// The sections: anchor, title.
const SECTIONS: [(&str, &str); 12] = [
    ("verdict", "Verdict"),
    ("glance", "At a glance"),
    ("claims", "How far it can be believed"),
    ("asks", "Who asked, for what, why"),
    ("data", "What left, column by column"),
    ("decisions", "Decisions and policies"),
    ("approvals", "Approvals"),
    ("refusals", "Refused and failed"),
    ("exceptions", "Exceptions and changes"),
    ("criteria", "SOC 2 criteria"),
    ("stories", "Stories, entry by entry"),
    ("method", "How this was made"),
];

impl Page<'_> {
    fn head(&self, h: &mut Html) {
        let hash = |text: &str| sha256(text.as_bytes()).to_base64();
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
            hash(STYLE),
            hash(SCRIPT)
        );
        h.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        h.open("meta", &[("http-equiv", &"Content-Security-Policy"), ("content", &policy)]).line();
        h.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n");
        h.open("meta", &[("name", &"generator"), ("content", &self.review.generator)]).line();
        h.element("title", "", format!("Evidence report: {}", self.origin())).line();
        h.raw("<style>").raw(STYLE).raw("</style>\n</head>\n");
    }

    fn origin(&self) -> &str {
        self.review.log.as_ref().map_or("no ledger", |log| &log.origin)
    }

    fn masthead(&self, h: &mut Html) {
        h.raw("<header class=\"masthead\"><p class=\"kicker\">Countersign · evidence report</p>\n");
        h.element("h1", "", self.origin());
        let span = self.review.story.as_ref().and_then(|story| story.from_micros.zip(story.to_micros));
        if let Some((from, to)) = span {
            h.within("p", "period", |h| {
                h.element("time", "", minute(from))
                    .raw(" – ")
                    .element("time", "", minute(to))
                    .raw(" <abbr title=\"Coordinated Universal Time\">UTC</abbr>");
            });
        }
        h.raw("</header>\n");
    }

    fn contents(&self, h: &mut Html) {
        h.raw("<nav aria-label=\"Contents\"><ol>\n");
        for (anchor, title) in SECTIONS.iter().filter(|(anchor, _)| self.has(anchor)) {
            h.raw("<li>").open("a", &[("href", &format!("#{anchor}"))]).text(title).raw("</a></li>\n");
        }
        h.raw("</ol></nav>\n");
    }

    /// Whether there is such a section: without a ledger there is only the verdict, and how it was reached.
    fn has(&self, anchor: &str) -> bool {
        self.review.log.is_some() || matches!(anchor, "verdict" | "method")
    }

    /// Opens a section.
    fn section(&self, h: &mut Html, anchor: &'static str) {
        let at = SECTIONS.iter().filter(|(a, _)| self.has(a)).position(|(a, _)| *a == anchor).unwrap_or_default() + 1;
        let title = SECTIONS.iter().find(|(a, _)| *a == anchor).map_or("", |(_, title)| title);
        h.open("section", &[("id", &anchor)]);
        h.within("h2", "", |h| {
            h.element("span", "number", at).raw(" ").text(title);
        });
        h.line();
    }

    fn verdict(&self, h: &mut Html) {
        let review = self.review;
        self.section(h, "verdict");
        let (class, word) = match review.verdict {
            Verdict::Proven => ("verdict proven", "Proven"),
            Verdict::Broken => ("verdict broken", "Broken"),
            Verdict::Unreadable => ("verdict attested", "Unreadable"),
            Verdict::NotProvable => ("verdict attested", "Not provable"),
        };
        h.open("div", &[("class", &class)]);
        h.element("p", "seal", word);
        h.raw("<div>");
        let worst = review.findings.iter().map(|finding| finding.verdict).max();
        let first = review.findings.iter().find(|finding| Some(finding.verdict) == worst);
        match (&review.log, first) {
            (Some(log), None) if log.part.is_some() => {
                h.within("p", "lead", |h| {
                    h.text(format_args!("The {} entries that are here are among the {} that this ledger’s key signed, unchanged, and as far as a part can show their stories obey the rules.", Count(log.part.unwrap_or_default()), Count(log.size)));
                });
            }
            (Some(log), None) => {
                h.within("p", "lead", |h| {
                    h.text(format_args!("The {} entries of this ledger are those that its key signed, unchanged and in order, and every story in them obeys the rules.", Count(log.size)));
                });
            }
            (_, Some(first)) => {
                h.within("p", "lead", |h| {
                    h.text(&first.place).raw(": ").text(first.conclude).raw(".");
                });
                h.within("p", "", |h| {
                    h.text(format_args!("{} findings in all; they are listed below. What this report shows besides is only as good as what they leave standing.", Count(review.findings_total)));
                });
            }
            (None, None) => {}
        }
        if let Some(story) = &review.story {
            h.within("p", "", |h| {
                h.raw("Of what the entries say, ");
                h.element("b", "", Count(story.claims.proven)).raw(" claims are proven, ");
                h.element("b", "", Count(story.claims.attested)).raw(" are the service’s word, ");
                h.element("b", "", Count(story.claims.broken)).raw(" are broken.");
            });
        }
        h.raw("</div></div>\n");
        if review.log.as_ref().is_some_and(|log| log.part.is_some()) {
            h.raw("<p class=\"partial\"><b>A part of a ledger.</b> It shows some requests and what they rest on. Nothing here shows what was left out: other requests, later steps, a revocation, a change of policy. Totals below are of what is here.</p>\n");
        }
        if !review.findings.is_empty() {
            h.raw("<h3>Findings</h3>\n");
            table(h, "findings", &[("Where", ""), ("What was found, and what to conclude", "")], |h| {
                let mut findings: Vec<_> = review.findings.iter().collect();
                findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
                for finding in findings.into_iter().take(SHOWN_MAX) {
                    row(h, |h| {
                        h.within("td", "", |h| {
                            h.element("code", "", finding.code).raw("<br>").text(&finding.place);
                        });
                        h.within("td", "", |h| {
                            h.text(capital(finding.conclude)).raw(".");
                            h.within("p", "found", |h| {
                                h.raw("found ").element("code", "", &finding.found).raw("<br>expected ").element(
                                    "code",
                                    "",
                                    &finding.expected,
                                );
                            });
                        });
                    });
                }
            });
            more(h, review.findings.len().min(SHOWN_MAX), review.findings_total);
        }
        h.raw("</section>\n");
    }

    fn glance(&self, h: &mut Html) {
        let review = self.review;
        self.section(h, "glance");
        h.raw("<div class=\"tiles\">\n");
        let asked = review.requests.total().saturating_sub(review.requests.of(Outcome::Rejected));
        let granted = review.approvals.rows.iter().filter(|row| row.granted).count();
        for (count, what, note) in [
            (
                asked,
                "requests",
                format!(
                    "by {} of {} identities",
                    Count(review.identities.iter().filter(|row| row.requests.total() > 0).count() as u64),
                    Count(review.identities.len() as u64)
                ),
            ),
            (
                review.requests.of(Outcome::Delivered),
                "delivered",
                format!("{} rows, {}", Count(review.rows), size(review.bytes)),
            ),
            (
                review.requests.of(Outcome::Denied),
                "denied",
                format!("and {} records rejected", Count(review.requests.of(Outcome::Rejected))),
            ),
            (
                review.approvals.total,
                "answers by people",
                format!("{granted} of the latest {} were a yes", review.approvals.rows.len()),
            ),
        ] {
            h.within("div", "tile", |h| {
                h.element("p", "figure", Count(count)).element("p", "what", what).element("p", "note", note);
            });
            h.line();
        }
        h.raw("</div>\n<h3>Requests over time</h3>\n");
        outcomes_legend(h, &review.requests);
        h.within("div", "chart", |h| chart::timeline(h, &review.timeline));
        h.element(
            "p",
            "note",
            format!("Each column is {}, by when requests came in.", stretch(review.timeline.bucket_seconds)),
        );
        h.raw("<h3>Cells that left</h3>\n");
        cells_legend(h, &review.cells);
        chart::bar(h, "bar tall", &cells_parts(&review.cells, review.exposed));
        h.within("p", "note", |h| {
            h.text(format_args!(
                "Of the masked cells {} were left as they were: empty, or already in the masked form. ",
                Count(review.cells.unchanged)
            ));
            h.text(format_args!(
                "{} more cells were in attempts that were superseded or are not resolved: they may have been seen.",
                Count(review.exposed)
            ));
        });
        h.raw("</section>\n");
    }

    fn claims(&self, h: &mut Html) {
        self.section(h, "claims");
        if let Some(story) = &self.review.story {
            h.raw("<p class=\"legend\"><span class=\"word proven\">proven</span> follows from signatures and hashes that the key below anchors. <span class=\"word attested\">attested</span> is recorded for certain, and true if the service told the truth. <span class=\"word broken\">broken</span> is there, and wrong.</p>\n");
            table(h, "claims", &[("Claim", ""), ("", "bars"), ("Proven", "n"), ("Attested", "n")], |h| {
                for claim in Claim::ALL {
                    let Some(count) = story.claims.kinds.get(claim.as_str()).filter(|c| c.proven + c.attested > 0)
                    else {
                        continue;
                    };
                    row(h, |h| {
                        h.within("th", "", |h| {
                            h.text(spaced(claim.as_str())).element("small", "", meaning(claim));
                        });
                        h.within("td", "bars", |h| {
                            chart::bar(
                                h,
                                "bar",
                                &[
                                    ("fill-proven", count.proven, "proven"),
                                    ("fill-attested", count.attested, "attested"),
                                ],
                            )
                        });
                        number(h, count.proven);
                        number(h, count.attested);
                    });
                }
            });
        }
        h.raw("</section>\n");
    }

    fn asks(&self, h: &mut Html) {
        let review = self.review;
        self.section(h, "asks");
        h.raw("<p>Requests by who asked, for what, and why: the purpose is the word that the caller gave from the catalog’s list, and that policy saw.</p>\n");
        let heads = [
            ("Who", ""),
            ("Data set", ""),
            ("Purpose", ""),
            ("Requests", "n"),
            ("How they ended", "bars"),
            ("Rows", "n"),
            ("First – last", "time"),
        ];
        table(h, "asks", &heads, |h| {
            for ask in review.asks.rows.iter().take(SHOWN_MAX) {
                row(h, |h| {
                    h.within("td", "", |h| self.who(h, &ask.identity));
                    optional(h, ask.dataset.as_deref(), "not recorded");
                    optional(h, ask.purpose.as_deref(), "not recorded");
                    number(h, ask.requests.total());
                    h.within("td", "bars", |h| outcome_bar(h, &ask.requests));
                    number(h, ask.rows);
                    h.within("td", "time", |h| {
                        h.element("time", "", minute(ask.first_micros)).raw("<br>").element(
                            "time",
                            "",
                            minute(ask.last_micros),
                        );
                    });
                });
            }
        });
        more(h, review.asks.rows.len().min(SHOWN_MAX), review.asks.total);
        if review.asks.rows.iter().any(|ask| ask.dataset.is_none()) {
            h.raw("<p class=\"note\">A refusal names no table, so that forbidden and unknown names look alike. What was asked for is known where the request’s own text came with the evidence (class <code>request</code>).</p>\n");
        }
        h.raw("<h3>Identities</h3>\n");
        let heads = [
            ("Identity", ""),
            ("Kind", ""),
            ("Groups", ""),
            ("Registered", "n"),
            ("Requests", "n"),
            ("Cells received: clear, masked", "bars"),
            ("", "n"),
        ];
        table(h, "identities", &heads, |h| {
            for identity in review.identities.iter().take(SHOWN_MAX) {
                row(h, |h| {
                    h.within("td", "", |h| {
                        self.who(h, &identity.identity);
                        if let Some(owner) = &identity.owner {
                            h.raw("<small>owned by ").text(self.name(owner)).raw("</small>");
                        }
                    });
                    h.within("td", "", |h| {
                        h.text(identity.kind);
                        if identity.admin {
                            h.raw(" <span class=\"chip\">admin</span>");
                        }
                        if let Some(entry) = identity.revoked {
                            h.raw(" <span class=\"chip off\">").text(format_args!("revoked, {entry}")).raw("</span>");
                        }
                    });
                    h.element("td", "", identity.groups.join(", "));
                    h.within("td", "n", |h| entry(h, identity.registered));
                    number(h, identity.requests.total());
                    h.within("td", "bars", |h| chart::bar(h, "bar", &cells_parts(&identity.cells, 0)));
                    number(h, identity.cells.total());
                });
            }
        });
        more(h, review.identities.len().min(SHOWN_MAX), review.identities.len() as u64);
        if self.names.len() < review.identities.len() {
            h.raw("<p class=\"note\">The ledger knows identities by pseudonyms. Names stand here where the records that resolve them came with the evidence (class <code>identity</code>).</p>\n");
        }
        h.raw("</section>\n");
    }

    fn data(&self, h: &mut Html) {
        let review = self.review;
        self.section(h, "data");
        h.raw("<p>Cells in delivered chunks, as the mask accounts count them. An account must name the columns, classes and masks that were decided, or it is a finding; that it counted truly is the service’s word. <em>Refused</em> counts the denied requests whose signed text named the column.</p>\n");
        cells_legend(h, &review.cells);
        let refused: BTreeMap<(&str, &str), u64> =
            review.refused.rows.iter().map(|row| ((row.dataset.as_str(), row.column.as_str()), row.requests)).collect();
        let mut sets: BTreeMap<&str, Vec<&ColumnRow>> = BTreeMap::new();
        for column in &review.columns.rows {
            sets.entry(&column.dataset).or_default().push(column);
        }
        let mut left = SHOWN_MAX * 3;
        for (dataset, columns) in &sets {
            if left == 0 {
                break;
            }
            h.within("h3", "", |h| {
                h.element("code", "", dataset);
            });
            h.line();
            let heads = [
                ("Column", ""),
                ("Class", ""),
                ("Rule", ""),
                ("", "bars"),
                ("Clear", "n"),
                ("Masked", "n"),
                ("Unchanged", "n"),
                ("May be seen", "n"),
                ("Refused", "n"),
            ];
            table(h, "columns", &heads, |h| {
                let mut before = "";
                for column in columns.iter().take(left) {
                    row(h, |h| {
                        h.within("th", "", |h| {
                            h.element("code", "", &column.column);
                        });
                        h.within("td", "", |h| {
                            match column.class.as_str() {
                                "unclassified" => h.element("span", "chip off", "unclassified"),
                                class => h.text(class),
                            };
                        });
                        h.element("td", "", &column.rule);
                        h.within("td", "bars", |h| {
                            chart::bar(h, "bar", &cells_parts(&column.delivered, column.exposed))
                        });
                        number(h, column.delivered.clear);
                        number(h, column.delivered.masked);
                        number(h, column.delivered.unchanged);
                        number(h, column.exposed);
                        let asked = refused
                            .get(&(*dataset, column.column.as_str()))
                            .copied()
                            .filter(|_| before != column.column);
                        number(h, asked.unwrap_or_default());
                    });
                    before = &column.column;
                }
            });
            left = left.saturating_sub(columns.len());
        }
        more(h, review.columns.rows.len().min(SHOWN_MAX * 3), review.columns.total);
        let known = |row: &&super::review::RefusedRow| {
            !sets.get(row.dataset.as_str()).is_some_and(|set| set.iter().any(|c| c.column == row.column))
        };
        let others: Vec<_> = review.refused.rows.iter().filter(known).collect();
        if !others.is_empty() {
            h.raw("<h3>Asked for, and never delivered</h3>\n<p class=\"note\">In the callers’ own words: such a column, or such a table, need not exist.</p>\n");
            table(h, "columns", &[("Data set", ""), ("Column", ""), ("Refused requests", "n")], |h| {
                for refused in others.iter().take(SHOWN_MAX) {
                    row(h, |h| {
                        h.within("td", "", |h| {
                            h.element("code", "", &refused.dataset);
                        });
                        h.within("td", "", |h| {
                            h.element("code", "", &refused.column);
                        });
                        number(h, refused.requests);
                    });
                }
            });
            more(h, others.len().min(SHOWN_MAX), others.len() as u64);
        }
        if review.refused_unknown > 0 {
            h.element(
                "p",
                "note",
                format!(
                    "Of {} denied requests the columns are not known, since their text did not come with the evidence.",
                    Count(review.refused_unknown)
                ),
            );
        }
        h.raw("</section>\n");
    }

    fn decisions(&self, h: &mut Html) {
        let review = self.review;
        self.section(h, "decisions");
        h.raw("<p>Every decision names the policies that determined it. That it follows from them is the service’s word here; <code>countersign audit redecide</code> runs it again from the texts that the ledger commits to.</p>\n");
        table(
            h,
            "policies",
            &[("Policy", ""), ("", "bars"), ("Permitted", "n"), ("Asked people", "n"), ("Refused", "n")],
            |h| {
                for policy in review.policies.rows.iter().take(SHOWN_MAX) {
                    row(h, |h| {
                        h.within("th", "", |h| {
                            h.element("code", "", &policy.policy);
                        });
                        let parts = [
                            ("fill-delivered", policy.permit, "permitted"),
                            ("fill-waiting", policy.needs_approval, "asked people"),
                            ("fill-denied", policy.deny, "refused"),
                        ];
                        h.within("td", "bars", |h| chart::bar(h, "bar", &parts));
                        parts.iter().for_each(|(_, count, _)| number(h, *count));
                    });
                }
                if review.default_denials > 0 {
                    row(h, |h| {
                        h.element("th", "none", "none: nothing permitted");
                        h.within("td", "bars", |h| {
                            chart::bar(h, "bar", &[("fill-denied", review.default_denials, "refused")])
                        });
                        [0, 0, review.default_denials].into_iter().for_each(|count| number(h, count));
                    });
                }
            },
        );
        more(h, review.policies.rows.len().min(SHOWN_MAX), review.policies.total);
        h.raw("<h3>Versions of policy and catalog</h3>\n");
        table(
            h,
            "versions",
            &[
                ("Version", ""),
                ("In force from", "time"),
                ("SHA-256 of the text", ""),
                ("Signed by", ""),
                ("Entry", "n"),
                ("", ""),
            ],
            |h| {
                for version in latest(&review.versions) {
                    row(h, |h| {
                        h.element("th", "", format!("{} {}", version.what, version.version));
                        h.within("td", "time", |h| {
                            h.element("time", "", minute(version.at_micros));
                        });
                        h.within("td", "", |h| {
                            h.element("code", "hash", &version.digest);
                        });
                        h.element("td", "", version.by.iter().map(|by| self.name(by)).collect::<Vec<_>>().join(", "));
                        h.within("td", "n", |h| entry(h, version.entry));
                        h.within("td", "", |h| word(h, version.word));
                    });
                }
            },
        );
        more(h, review.versions.rows.len().min(SHOWN_MAX), review.versions.total);
        h.raw("</section>\n");
    }

    fn approvals(&self, h: &mut Html) {
        let review = self.review;
        self.section(h, "approvals");
        if review.approvals.total == 0 {
            h.raw("<p class=\"none\">Nobody was asked, or nobody answered.</p>\n</section>\n");
            return;
        }
        h.raw("<p>An answer is for one request and one set of obligations. Whoever gave it is neither the one who asked, nor its owner, nor the one it acts for; else it is a finding. Reasons are the approvers’ own and stand behind commitments.</p>\n");
        let heads = [
            ("When", "time"),
            ("Who answered", ""),
            ("For", ""),
            ("Answer", ""),
            ("What became of it", ""),
            ("Entry", "n"),
            ("", ""),
        ];
        table(h, "approvals", &heads, |h| {
            for approval in latest(&review.approvals) {
                row(h, |h| self.approval(h, approval));
            }
        });
        more(h, review.approvals.rows.len().min(SHOWN_MAX), review.approvals.total);
        h.raw("</section>\n");
    }

    fn approval(&self, h: &mut Html, approval: &ApprovalRow) {
        h.within("td", "time", |h| {
            h.element("time", "", minute(approval.at_micros));
        });
        h.within("td", "", |h| {
            self.who(h, &approval.approver);
            h.raw("<small>for ").text(approval.groups.join(", ")).raw("</small>");
        });
        h.within("td", "", |h| {
            match &approval.requester {
                Some(requester) => self.who(h, requester),
                None => {
                    h.raw("a request");
                }
            }
            if let Some(dataset) = &approval.dataset {
                h.raw("<small>").element("code", "", dataset).raw("</small>");
            }
        });
        h.within("td", "", |h| {
            match approval.granted {
                true => h.element("span", "chip yes", "yes"),
                false => h.element("span", "chip off", "no"),
            };
            if let Some(until) = approval.not_after {
                h.raw("<small>until ")
                    .element(
                        "time",
                        "",
                        seconds(until).replace('T', " ").trim_end_matches(":00Z").trim_end_matches('Z'),
                    )
                    .raw("</small>");
            }
        });
        h.within("td", "", |h| match (approval.used, approval.revoked) {
            (Some(used), None) => {
                h.raw("used, ");
                entry(h, used);
            }
            (Some(used), Some(revoked)) => {
                h.raw("used, ");
                entry(h, used);
                h.raw("; taken back, ");
                entry(h, revoked);
            }
            (None, Some(revoked)) => {
                h.raw("taken back, ");
                entry(h, revoked);
            }
            (None, None) => {
                h.element("span", "none", if approval.granted { "not used" } else { "" });
            }
        });
        h.within("td", "n", |h| entry(h, approval.entry));
        h.within("td", "", |h| word(h, approval.word));
    }

    fn refusals(&self, h: &mut Html) {
        let review = self.review;
        self.section(h, "refusals");
        h.raw("<p>The reasons are the service’s word. A rejected record leaves its coordinates only, since nobody could be held to it; a superseded attempt was followed by another, and a reader of uncommitted records may have seen its bytes.</p>\n");
        for (what, title) in [
            ("denied", "Denied"),
            ("rejected", "Rejected"),
            ("failed", "Permitted, and came to nothing"),
            ("aborted", "Attempts that were superseded"),
        ] {
            let mut rows: Vec<_> = review.reasons.iter().filter(|row| row.what == what).collect();
            rows.sort_by_key(|row| std::cmp::Reverse(row.count));
            h.element("h3", "", title).line();
            if rows.is_empty() {
                h.raw("<p class=\"none\">None.</p>\n");
                continue;
            }
            let most = rows.first().map_or(0, |row| row.count);
            let fill = match what {
                "denied" => "fill-denied",
                "rejected" => "fill-rejected",
                _ => "fill-failed",
            };
            table(h, "reasons", &[("Reason", ""), ("", "bars"), ("How often", "n"), ("Last entry", "n")], |h| {
                for reason in &rows {
                    row(h, |h| {
                        h.within("th", "", |h| {
                            h.element("code", "", reason.reason).element("small", "", reason_means(reason.reason));
                        });
                        h.within("td", "bars", |h| {
                            chart::bar(h, "bar", &[(fill, reason.count, what), ("fill-none", most - reason.count, "")])
                        });
                        number(h, reason.count);
                        h.within("td", "n", |h| entry(h, reason.last));
                    });
                }
            });
        }
        h.raw("</section>\n");
    }

    fn exceptions(&self, h: &mut Html) {
        self.section(h, "exceptions");
        h.raw("<p>What a reviewer looks at one by one. What does not stand here did not go through the ledger, or did not happen.</p>\n");
        for (what, rows) in &self.review.exceptions {
            h.within("h3", "", |h| {
                h.text(capital(what)).raw(" ").element("span", "count", Count(rows.total));
            });
            h.line();
            if rows.total == 0 {
                h.raw("<p class=\"none\">None.</p>\n");
                continue;
            }
            table(h, "exceptions", &[("When", "time"), ("What", ""), ("Entry", "n"), ("", "")], |h| {
                for exception in latest(rows) {
                    row(h, |h| {
                        h.within("td", "time", |h| {
                            h.element("time", "", minute(exception.at_micros));
                        });
                        h.within("td", "", |h| marked(h, &exception.text));
                        h.within("td", "n", |h| entry(h, exception.entry));
                        h.within("td", "", |h| word(h, exception.word));
                    });
                }
            });
            more(h, rows.rows.len().min(SHOWN_MAX), rows.total);
        }
        h.raw("</section>\n");
    }

    fn criteria(&self, h: &mut Html) {
        self.section(h, "criteria");
        h.raw("<p>Which of the AICPA’s trust services criteria this evidence supports, and where it ends. It is material for an assessment, not one.</p>\n");
        table(h, "criteria", &[("Criterion", ""), ("What the evidence shows", ""), ("What it leaves open", "")], |h| {
            for criterion in &self.review.criteria {
                row(h, |h| {
                    h.within("th", "", |h| {
                        h.element("b", "", criterion.id).element("small", "", criterion.about);
                    });
                    h.within("td", "", |h| {
                        for shows in &criterion.shows {
                            h.element("p", "", shows);
                        }
                    });
                    h.within("td", "open", |h| marked(h, criterion.leaves_open));
                });
            }
        });
        h.raw("</section>\n");
    }

    fn stories(&self, h: &mut Html) {
        let stories = &self.review.stories;
        self.section(h, "stories");
        h.element("p", "", format!(
            "{} of {} requests, whole. Of each kind those are shown whose traces have the smallest names; a trace’s name is a hash, so nobody chose them.",
            stories.stories.len(),
            Count(stories.of)
        ));
        h.raw("<div class=\"check\" id=\"check\">\n<h3>Check them here</h3>\n");
        h.raw("<p>Your browser can hold each entry below against the checkpoint, and the checkpoint against the ledger’s public key. Paste the key as you know it from elsewhere, not from this page.</p>\n");
        h.raw("<form id=\"check-form\"><label for=\"check-key\">Public key</label><input id=\"check-key\" type=\"text\" autocomplete=\"off\" spellcheck=\"false\" placeholder=\"name+id+key\"><button type=\"submit\">Check</button></form>\n");
        h.raw("<p id=\"check-status\" class=\"status\" data-state=\"unchecked\" role=\"status\">Not checked.</p>\n");
        h.raw("<p class=\"note\"><b>A page cannot prove itself.</b> Whoever can change this file can change its script, which then says what he likes. The check is a convenience. It covers the entries under each line and the checkpoint, not the words, totals and charts. What proves all of it is the evidence: see <a href=\"#method\">how this was made</a>.</p>\n</div>\n");
        for story in &stories.stories {
            self.story(h, story);
        }
        h.raw("</section>\n");
    }

    fn story(&self, h: &mut Html, story: &Story) {
        h.open(
            "details",
            &[("class", &"story"), ("id", &format!("trace-{}", story.trace)), ("data-trace", &story.trace)],
        );
        h.within("summary", "", |h| {
            if let Some(line) = story.lines.first() {
                h.element("time", "", minute(line.at_micros));
            }
            h.within("span", "who", |h| {
                match &story.identity {
                    Some(identity) => h.text(self.name(identity)),
                    None => h.raw("somebody"),
                };
                if let Some(dataset) = &story.dataset {
                    h.raw(" · ").element("code", "", dataset);
                }
            });
            h.open("span", &[("class", &format!("chip outcome {}", story.outcome.as_str()))])
                .text(story.outcome.as_str())
                .close("span");
            if story.shown_as != story.outcome.as_str() {
                h.element("span", "chip", story.shown_as);
            }
            h.raw("<span class=\"mark\"></span>");
        });
        h.within("p", "trace", |h| {
            h.raw("trace ").element("code", "hash", story.trace);
        });
        h.raw("<ol>\n");
        for line in &story.lines {
            h.within("li", "", |h| {
                h.within("p", "meta", |h| {
                    entry(h, line.entry);
                    h.raw(" ")
                        .element("code", "", line.kind)
                        .raw(" ")
                        .element("time", "", utc(line.at_micros))
                        .raw(" ");
                    word(h, line.word);
                    if line.other.is_some() {
                        h.raw(" <span class=\"chip\">own trace</span>");
                    }
                });
                h.within("p", "say", |h| marked(h, &line.text));
                h.raw("<details class=\"raw\"><summary>the entry</summary>");
                let mut attributes: Vec<(&'static str, &dyn Display)> = vec![("data-index", &line.entry)];
                let proof =
                    line.proof.as_ref().map(|proof| proof.iter().map(u32::to_string).collect::<Vec<_>>().join(" "));
                if let Some(proof) = &proof {
                    attributes.push(("data-proof", proof));
                }
                h.open("pre", &attributes).text(&line.bytes).raw("</pre></details>");
            });
            h.line();
        }
        h.raw("</ol>");
        if story.more > 0 {
            h.element("p", "note", format!("and {} more entries", story.more));
        }
        h.raw("</details>\n");
    }

    fn method(&self, h: &mut Html) {
        let review = self.review;
        self.section(h, "method");
        if let Some(log) = &review.log {
            h.raw("<dl>\n");
            for (what, value) in [
                ("Ledger", log.origin.clone()),
                ("Entries", Count(log.size).to_string()),
                ("Root", log.root.to_string()),
                ("Key", log.key.clone()),
                (
                    "Extends",
                    format!(
                        "{} published checkpoints, {} that the auditor kept",
                        Count(log.published),
                        Count(log.since)
                    ),
                ),
                ("Options", if review.options.is_empty() { "none".into() } else { review.options.join(" ") }),
            ] {
                h.element("dt", "", what).within("dd", "", |h| {
                    h.element("code", "hash", value);
                });
                h.line();
            }
            h.raw("</dl>\n<p>The key was given by whoever ran the tool. Compare it with the one that you have from the ledger’s operator by another way: a key in a report vouches for nothing.</p>\n");
            h.raw("<h3>Checkpoint</h3>\n")
                .open("pre", &[("id", &"checkpoint")])
                .text(&review.checkpoint)
                .raw("</pre>\n");
        }
        h.raw("<h3>To check this page</h3>\n<p>The same evidence, key and options give the same page, byte for byte. This makes it once more and compares:</p>\n<pre class=\"command\">countersign-verify report --check report.html EVIDENCE --key KEY</pre>\n<p>And this reads the evidence without any page:</p>\n<pre class=\"command\">countersign-verify log EVIDENCE --key KEY\ncountersign-verify explain EVIDENCE ENTRY --key KEY</pre>\n");
        h.raw("<h3>What no ledger shows</h3>\n<ul>\n<li>What did not go through it: access by other accounts, copies, backups.</li>\n<li>Whether what the service attests is true: see the counts of attested claims.</li>\n<li>Whether policies, classes and purposes are the right ones.</li>\n<li>What recipients did with what they received.</li>\n<li>That this is the latest state: a ledger may have grown since its checkpoint.</li>\n</ul>\n</section>\n");
    }

    fn name(&self, pseudonym: &str) -> String {
        self.names.get(pseudonym).map_or_else(|| pseudonym.to_owned(), |name| (*name).to_owned())
    }

    fn who(&self, h: &mut Html, pseudonym: &str) {
        match self.names.get(pseudonym) {
            Some(name) => h.element("b", "", name).element("small", "id", pseudonym),
            None => h.element("span", "id", pseudonym),
        };
    }
}

fn table(h: &mut Html, class: &'static str, heads: &[(&'static str, &'static str)], rows: impl FnOnce(&mut Html)) {
    h.raw("<div class=\"scroll\">").open("table", &[("class", &class)]).raw("<thead><tr>");
    for (head, class) in heads {
        h.open("th", &[("class", class), ("scope", &"col")]).raw(head).raw("</th>");
    }
    h.raw("</tr></thead>\n<tbody>\n");
    rows(h);
    h.raw("</tbody></table></div>\n");
}

fn row(h: &mut Html, cells: impl FnOnce(&mut Html)) {
    h.within("tr", "", cells).line();
}

fn number(h: &mut Html, n: u64) {
    match n {
        0 => h.element("td", "n zero", 0),
        n => h.element("td", "n", Count(n)),
    };
}

fn optional(h: &mut Html, text: Option<&str>, without: &'static str) {
    match text {
        Some(text) => h.within("td", "", |h| {
            h.element("code", "", text);
        }),
        None => h.element("td", "none", without),
    };
}

fn entry(h: &mut Html, index: u64) {
    h.element("span", "entry", index);
}

fn word(h: &mut Html, word: Word) {
    match word {
        Word::Proven => h.raw("<span class=\"word proven\">proven</span>"),
        Word::Attested => h.raw("<span class=\"word attested\">attested</span>"),
        Word::Broken => h.raw("<span class=\"word broken\">broken</span>"),
    };
}

/// Text in which `this` is code.
fn marked(h: &mut Html, text: &str) {
    for (at, part) in text.split('`').enumerate() {
        if at % 2 == 1 {
            h.element("code", "", part)
        } else {
            h.text(part)
        };
    }
}

/// How many rows are left out.
fn more(h: &mut Html, shown: usize, total: u64) {
    if total > shown as u64 {
        h.element("p", "more", format!("and {} more; report --json lists up to 2000", Count(total - shown as u64)));
        h.line();
    }
}

/// The last rows of a list that grows with the log, the latest first.
fn latest<T>(rows: &Rows<T>) -> impl Iterator<Item = &T> {
    rows.rows.iter().rev().take(SHOWN_MAX)
}

fn outcome_bar(h: &mut Html, outcomes: &Outcomes) {
    let fill = |outcome| match outcome {
        Outcome::Delivered => "fill-delivered",
        Outcome::Denied => "fill-denied",
        Outcome::Failed => "fill-failed",
        Outcome::Waiting => "fill-waiting",
        Outcome::Open => "fill-open",
        Outcome::Rejected => "fill-rejected",
    };
    let parts = Outcome::ALL.map(|outcome| (fill(outcome), outcomes.of(outcome), outcome.as_str()));
    chart::bar(h, "bar", &parts);
}

fn outcomes_legend(h: &mut Html, outcomes: &Outcomes) {
    h.raw("<ul class=\"key\">");
    for outcome in Outcome::ALL {
        h.open("li", &[("class", &format!("key-{}", outcome.as_str()))]);
        h.text(outcome.as_str()).raw(" ").element("b", "", Count(outcomes.of(outcome))).raw("</li>");
    }
    h.raw("</ul>\n");
}

fn cells_legend(h: &mut Html, cells: &Cells) {
    h.raw("<ul class=\"key\"><li class=\"key-clear\">clear ").element("b", "", Count(cells.clear));
    h.raw("</li><li class=\"key-masked\">masked ").element(
        "b",
        "",
        Count(cells.masked.saturating_sub(cells.unchanged)),
    );
    h.raw("</li><li class=\"key-unchanged\">masked, unchanged ").element("b", "", Count(cells.unchanged));
    h.raw("</li><li class=\"key-exposed\">may have been seen</li></ul>\n");
}

fn cells_parts(cells: &Cells, exposed: u64) -> [(&'static str, u64, &'static str); 4] {
    [
        ("fill-clear", cells.clear, "clear"),
        ("fill-masked", cells.masked.saturating_sub(cells.unchanged), "masked"),
        ("fill-unchanged", cells.unchanged, "masked, unchanged"),
        ("fill-exposed", exposed, "may have been seen"),
    ]
}

fn meaning(claim: Claim) -> &'static str {
    match claim {
        Claim::Entries => "stand where they stand, unchanged",
        Claim::CallerSignatures => "the caller signed this very request",
        Claim::ApprovalSignatures => "the approver signed this very answer",
        Claim::AdminSignatures => "an admin signed this very change",
        Claim::PossessionProofs => "a key’s owner proved to hold it",
        Claim::Obligations => "the columns are those whose digest people approved",
        Claim::Decisions => "follow from their policy",
        Claim::Statements => "recorded is what was sent to the source",
        Claim::MaskAccounts => "counted is what the masker did",
        Claim::Deliveries => "recorded is what left, or did not",
        Claim::Refusals => "the reason is the true one",
        Claim::Exports => "what was packed, and for whom",
    }
}

/// The second column of that code's row in `docs/reason-codes.md`.
fn reason_means(code: &str) -> String {
    let row =
        REASONS.lines().find(|line| line.strip_prefix("| `").is_some_and(|rest| rest.starts_with(&format!("{code}`"))));
    row.and_then(|row| row.split(" | ").nth(1)).unwrap_or_default().replace('`', "")
}

fn spaced(word: &str) -> String {
    word.replace('-', " ")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = "bytes";
    for next in UNITS {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") }
}

fn stretch(seconds: u64) -> String {
    match seconds {
        0 => "nothing".into(),
        60 => "one minute".into(),
        3_600 => "one hour".into(),
        86_400 => "one day".into(),
        604_800 => "one week".into(),
        s if s < 3_600 => format!("{} minutes", s / 60),
        s if s < 86_400 => format!("{} hours", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_ledger::evidence::Reason;

    #[test]
    fn assets_cannot_end_their_element() {
        assert!(!STYLE.contains("</") && !STYLE.contains("url(") && !STYLE.contains("@import"));
        assert!(!SCRIPT.contains("</") && !SCRIPT.contains("http:") && !SCRIPT.contains("https:"));
    }

    #[test]
    fn every_reason_has_words() {
        for reason in Reason::ALL {
            assert!(!reason_means(reason.as_str()).is_empty(), "{reason}");
        }
    }

    #[test]
    fn sizes_and_stretches() {
        assert_eq!([size(999), size(1_500), size(2_000_000)], ["999 bytes", "1.5 kB", "2.0 MB"]);
        assert_eq!([stretch(60), stretch(900), stretch(604_800)], ["one minute", "15 minutes", "one week"]);
    }
}
