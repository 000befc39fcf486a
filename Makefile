# What a newcomer types. Everything built or fetched stays outside the clone: in $XDG_CACHE_HOME/countersign, or
# ~/.cache/countersign; set CARGO_TARGET_DIR to build elsewhere.

SHELL := bash
.DEFAULT_GOAL := help
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/countersign
CARGO_TARGET_DIR ?= $(CACHE)/target
export CARGO_TARGET_DIR

.PHONY: help
help: ## say what there is
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: build
build: ## build the service and the verify tool
	@scripts/setup --demo
	cargo build --locked --package countersign --package countersign-verify

.PHONY: demo
demo: build ## see the whole promise in a minute; KEEP=1 leaves it running
	@"$(CARGO_TARGET_DIR)/debug/countersign" demo $(if $(KEEP),--keep)

.PHONY: test
test: ## check formatting, lints and borders, and run all tests, on a real Kafka and PostgreSQL
	@scripts/test

.PHONY: test-million
test-million: ## have fsck, hammer, spicy and litewitness judge a log of a million entries (about 3 minutes)
	COUNTERSIGN_JUDGES_SIZES=1000000 cargo test --locked --package countersign-ledger --test judges -- the_log_is_accepted_at_every_size --nocapture

.PHONY: test-kills
test-kills: ## kill -9 the ledger under load, again and again, verifying after each (about 10 minutes); KILLS=1000
	COUNTERSIGN_TEST_KILLS=$(or $(KILLS),1000) cargo test --locked --package countersign-ledger --lib -- kill_9 --nocapture

.PHONY: test-crashes
test-crashes: ## let each of a process's first calls that write fail or kill it, verifying after each (about 10 minutes); CALLS=40
	COUNTERSIGN_TEST_CALLS=$(or $(CALLS),40) cargo test --locked --package countersign-ledger --lib -- whatever_call_fails --nocapture

.PHONY: test-faults
test-faults: ## try bad evidence at length: 10,000 single faults, 3,000 lies, a million true entries (about 10 minutes)
	COUNTERSIGN_FAULTS=10000 cargo test --locked --package countersign-verify --test faults -- --nocapture
	COUNTERSIGN_LIES=3000 COUNTERSIGN_ENTRIES=1000000 cargo test --locked --package countersign-verify --test liar -- --nocapture

.PHONY: clean
clean: ## remove the demo's folder and what was built from this clone; compiled dependencies stay
	rm -rf demo-run
	cargo clean --package countersign --package countersign-verify --package countersign-ledger --package countersign-masker

.PHONY: distclean
distclean: clean ## also remove everything in the cache folder: dependencies, Kafka, judges
	rm -rf "$(CACHE)"

.PHONY: bench
bench: ## measure the way from PostgreSQL to Kafka beside a plain COPY (about 6 minutes); ROWS=2000000 ROUNDS=7
	@scripts/setup --test
	cargo build --locked --package countersign
	cargo run --manifest-path benches/Cargo.toml -- $(or $(ROWS),2000000) $(or $(ROUNDS),7)

.PHONY: bench-verify
bench-verify: ## measure how fast a ledger is judged, beside Tessera's fsck; ENTRIES=1000000
	@scripts/bench-verify $(or $(ENTRIES),1000000)

.PHONY: fuzz
fuzz: ## fuzz a format of the ledger's with libFuzzer; TARGET=note SECONDS=60
	@scripts/fuzz-formats $(or $(TARGET),entry) $(or $(SECONDS),60)

.PHONY: bench-detect
bench-detect: ## measure the detectors beside a copy of the same text
	cargo run --locked --release --manifest-path benches/detect/Cargo.toml -- speed

.PHONY: bench-ledger
bench-ledger: ## measure appends beside Tessera's POSIX log and PostgreSQL (about 6 minutes); CELL_SECONDS=5
	@scripts/setup --test
	cargo build --manifest-path benches/Cargo.toml --bin ledger --bin log-server
	"$(CARGO_TARGET_DIR)/debug/ledger" appends $(or $(CELL_SECONDS),5)

.PHONY: bench-ledger-growth
bench-ledger-growth: ## measure what entries cost from a thousand to ten million: time, bytes, memory, opening (about 10 minutes, 10 GB); ENTRIES=10000000
	cargo build --manifest-path benches/Cargo.toml --bin ledger
	"$(CARGO_TARGET_DIR)/debug/ledger" growth $(or $(ENTRIES),10000000)

.PHONY: bench-trees
bench-trees: ## measure our tree beside merkle-tree-rs: build, prove, verify, at 10^3 to 10^6 leaves
	cargo run --release --manifest-path benches/merkle-tree-rs/Cargo.toml
