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

.PHONY: faults
faults: ## try bad evidence at length: 10,000 single faults, 3,000 lies, a million true entries (about 10 minutes)
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
bench: ## measure the way from PostgreSQL to Kafka beside a plain COPY (about 5 minutes); ROWS=2000000
	@scripts/setup --test
	cargo build --locked --package countersign
	cargo run --manifest-path benches/Cargo.toml -- $(or $(ROWS),2000000)
