# Everything here is a thin name for a cargo command; the work itself is in xtask/.

CARGO ?= cargo
PREFIX ?= /usr/local

# Continuous integration builds exactly what was committed.
ifeq ($(CI),true)
LOCKED := --locked
endif

.DEFAULT_GOAL := help
.PHONY: help demo test tidy bench soak fuzz install

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Back up this machine's own files twice, restore both and prove them equal
	@$(CARGO) build $(LOCKED) --release -p lifeboat
	@$(CARGO) xtask demo

test: ## Install what the tests need, then run all of them
	@$(CARGO) xtask test

tidy: ## Check the rules that no compiler knows
	@$(CARGO) xtask tidy

bench: ## Compare with restic and rustic; writes bench/ (BENCH="--only s3" measures a part anew)
	@$(CARGO) build $(LOCKED) --release -p lifeboat
	@$(CARGO) xtask bench $(BENCH)

soak: ## Run the long test matrices whole instead of a sample
	@$(CARGO) xtask soak

fuzz: ## Fuzz every parser of untrusted bytes for a minute each
	@$(CARGO) xtask fuzz

install: ## Build and install the binary into PREFIX (default /usr/local)
	$(CARGO) build $(LOCKED) --release -p lifeboat
	install -D -m 0755 target/release/lifeboat $(DESTDIR)$(PREFIX)/bin/lifeboat
