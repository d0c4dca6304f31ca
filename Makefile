# Rampart. `make help` lists the targets.
#
# Everything is built in one profile (release), so that what is tested is what
# runs, and nothing is built twice.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Tools that make installs for itself, where the machine has none that are new enough.
TOOLS := $(CURDIR)/.tools
export PATH := $(TOOLS)/bin:$(HOME)/.cargo/bin:$(PATH)

# Where cargo puts what it builds.
BIN := $(or $(CARGO_TARGET_DIR),target)

# apt can't be run twice at once.
.NOTPARALLEL:

# A cargo that runs under make prints no progress bar and must not ask.
export CARGO_TERM_PROGRESS_WHEN := never

CONSOLE_SOURCES := $(shell find console -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null) \
	schema/openapi.json

.PHONY: help deps deps-test deps-bench console build run demo test test-long test-windows windows package-windows telemetry lint fmt bench bench-kill bench-response bench-sensor bench-engine screenshots openapi clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what building needs (Debian packages, Node)
	@scripts/install-dependencies.sh build

deps-bench: ## install what the benchmarks need besides (the sensors to compare with)
	@scripts/install-dependencies.sh build bench

deps-test: ## install what the tests need besides (Chromium, a Chinese font)
	@scripts/install-dependencies.sh build test

console: console/dist/index.html ## build the web console

console/node_modules/.package-lock.json: console/package-lock.json | deps
	cd console && npm ci --ignore-scripts --no-audit --no-fund

console/dist/index.html: console/node_modules/.package-lock.json $(CONSOLE_SOURCES)
	cd console && npm run build

build: deps console ## build edr-agent, edr-server and edr
	cargo build --release --locked --bins

run: build ## start server and agent on this machine; Ctrl-C stops both
	@scripts/run.sh

demo: build ## act a harmless attack against a running `make run` and show what came of it
	@scripts/demo.sh

test: deps-test build ## run all tests
	cd console && npm run --silent check-types && npm run --silent test
	cargo test --release --locked --workspace --no-fail-fast

windows: deps console ## build edr-agent.exe, edr.exe and edr-server.exe for Windows
	@scripts/build-windows.sh

package-windows: deps console ## agent and tool as a zip file with what installs them
	@scripts/package-windows.sh

test-windows: deps-test console ## run the Windows agent under Wine against the server of this machine
	@scripts/test-windows.sh

test-long: ## run all tests, the slow ones for longer
	RAMPART_LONG_TESTS=1 $(MAKE) test

lint: deps console ## formatting and lints
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	@scripts/lint-windows.sh

fmt: ## format the code
	cargo fmt --all

bench: bench-response bench-sensor bench-engine ## run the benchmarks

bench-sensor: deps-bench build ## what watching costs, beside other sensors
	cargo bench --locked -p end-to-end --bench sensor_cost

bench-engine: deps ## what the detection engine does per second and core, beside two others
	@scripts/bench-engine.sh

bench-kill: build ## time from exec to the agent's signal and to the proved end
	cargo bench --locked -p agent --bench kill_latency

bench-response: bench-kill ## the same, and from an alert over bus, responder and order to the proof, hop by hop
	cargo bench --locked -p end-to-end --bench response_latency

telemetry: deps-test build ## act every row of the telemetry list and show the events and the score
	cargo test --release --locked -p end-to-end --test telemetry -- --nocapture

screenshots: deps-test build ## refresh the pictures in docs/images from the end-to-end test
	rm -rf $(BIN)/screenshots
	cargo test --release --locked -p end-to-end --test first_light
	@test -d $(BIN)/screenshots || { echo "no pictures were taken: the test was skipped; see its output above"; exit 1; }
	mkdir -p docs/images
	cp $(BIN)/screenshots/*.png docs/images/

openapi: console/node_modules/.package-lock.json ## write schema/openapi.json and the console's types from the server
	@# The console may already need what the document still lacks, so it is not built before.
	cargo build --release --locked --bin edr-server
	$(BIN)/release/edr-server -openapi > schema/openapi.json.new
	mv schema/openapi.json.new schema/openapi.json
	cd console && npm run generate

clean: ## remove what was built
	rm -rf target console/dist console/node_modules
