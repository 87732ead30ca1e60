# banger: make run boots the default sandbox, make test runs every test. Both
# install what the host lacks (Debian packages; as root, or through sudo).

PREFIX    ?= /usr/local
DESTDIR   ?=
SHARE     := $(DESTDIR)$(PREFIX)/share
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# Tools, images and kernels that outlive the checkout.
CACHE     ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/banger-dev
LINT_VERSION := v2.15.0
LINT      := $(CACHE)/bin/golangci-lint-$(LINT_VERSION)
# Where a log is watched, long steps show that they go on.
V         := $(if $(CI),-v)
GO        ?= $(CURDIR)/scripts/go
# go test, which fails also for a skip that SKIPS doesn't expect on this machine.
TEST      := $(GO) run ./test/skips $(GO) test
# Processor time for each fuzz target of "make fuzz".
FUZZTIME  ?= 10m
# How long "make soak" goes on.
SOAKTIME  ?= 30m
LDFLAGS   := -s -w -X banger/internal/version.stamped=$(VERSION)

export GO
export CGO_ENABLED := 0
export BANGER_TEST_CACHE ?= $(CACHE)/test

.PHONY: help build run test unit fuzz-short fuzz e2e day soak test-firecracker lint bench install clean host-packages test-packages

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build banger, bangerd and the guest agent into bin/
	$(GO) build $(V) -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

run: build host-packages ## boot the default sandbox and test a real repository in it
	scripts/demo

test: build test-packages lint unit fuzz-short e2e ## run everything: lint, unit tests, testscript, real VMs

unit: ## run the tests that need no VM
	CGO_ENABLED=1 $(GO) build $(V) -race ./...
	CGO_ENABLED=1 $(TEST) -race ./...

fuzz-short: ## fuzz every parser of foreign bytes for two seconds
	$(GO) run ./test/fuzz -time 2s

fuzz: ## fuzz every parser for FUZZTIME (10m) of processor time each
	$(GO) run ./test/fuzz -time $(FUZZTIME) -cache $(CACHE)/fuzz

e2e: build ## run the tests that boot VMs
	$(TEST) -tags e2e -count 1 -timeout 30m $(V) ./internal/image/...
	$(TEST) -tags e2e -count 1 -timeout 75m -v ./test/e2e

day: build test-packages ## let a VM live through a developer's day for an hour (DAY=short: once)
	BANGER_E2E_DAY=$(or $(DAY),hour) $(TEST) -tags e2e -count 1 -timeout 0 -v -run '^TestDayInTheLife$$' ./test/e2e

soak: build test-packages ## let hostile guests work beside a build for SOAKTIME (30m)
	BANGER_SOAK=$(SOAKTIME) $(TEST) -tags e2e -count 1 -timeout 0 -v -run '^TestSoak$$' ./test/e2e

test-firecracker: build ## run the suites on the Firecracker that BANGER_FIRECRACKER_BIN names
	scripts/test-firecracker

lint: $(LINT) ## check the style
	PATH="$$($(GO) env GOROOT)/bin:$$PATH" $(LINT) run $(V) ./...
	PATH="$$($(GO) env GOROOT)/bin:$$PATH" $(LINT) run $(V) --build-tags e2e ./test/... ./internal/image/...
	@test -z "$$($(GO) mod tidy -diff)" || { echo 'go.mod is not tidy: run go mod tidy'; exit 1; }

$(LINT):
	mkdir -p $(dir $@)
	GOBIN=$(dir $@) $(GO) install $(V) github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv $(dir $@)golangci-lint $@

bench: build test-packages ## print measured figures
	$(GO) test -tags e2e -count 1 -timeout 60m -run "^$$" -bench . -benchtime 3x ./test/e2e
	$(GO) test -tags e2e -count 1 -timeout 30m -run "^$$" -bench . -benchtime 1x ./internal/image/oci

install: build ## install below PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/banger
	install -m 755 bin/banger bin/bangerd $(DESTDIR)$(PREFIX)/bin/
	install -m 755 bin/banger-vsock-agent $(DESTDIR)$(PREFIX)/lib/banger/
	install -d $(addprefix $(SHARE)/,man/man1 bash-completion/completions zsh/site-functions fish/vendor_completions.d)
	$(GO) run ./internal/cli/mandoc $(SHARE)/man/man1
	bin/banger completion bash >$(SHARE)/bash-completion/completions/banger
	bin/banger completion zsh >$(SHARE)/zsh/site-functions/_banger
	bin/banger completion fish >$(SHARE)/fish/vendor_completions.d/banger.fish

# A bangerd of an earlier build makes way; its VMs go on.
host-packages:
	bin/banger daemon stop
	bin/banger doctor --fix

test-packages:
	scripts/test-packages

clean: ## remove what was built
	rm -rf bin
