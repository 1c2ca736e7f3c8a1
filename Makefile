# Targets are explained by `make help`. Everything that is made goes to ./bin and ./dist.
VERSION ?= $(shell git describe --tags --match 'v*' 2>/dev/null | sed 's/^v//' || true)
LDFLAGS := -s -w $(if $(VERSION),-X main.release=$(VERSION))
# grpcnotrace keeps gRPC from linking templates, which would cost 10 MB (cmd/mxcert/size_test.go). FLEET=no leaves out the client of etcd: 3 MB less, and
# no fleets.
comma := ,
TAGS := grpcnotrace$(if $(filter no,$(FLEET)),$(comma)nofleet)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.13.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
PREFIX ?= /usr

.PHONY: build full demo test e2e judges rollovers load bench bench-idle bench-many house lint deb rpm release fuzz govulncheck install help

build: ## build mxcert and mxcert-lab into ./bin; FLEET=no leaves out the client of etcd
	@mkdir -p bin
	$(GOBUILD) -tags $(TAGS) -o bin/ ./cmd/mxcert ./cmd/mxcert-lab

full: ## build ./bin/mxcert-full with every DNS provider of lego (64 MB; minutes the first time)
	@mkdir -p bin
	$(GOBUILD) -tags grpcnotrace,allproviders -o bin/mxcert-full ./cmd/mxcert

demo: build ## the main job in a mail world on this machine; KEEP=1 leaves it up
	@KEEP=$(KEEP) sh packaging/demo.sh

test: ## everything: vet, unit tests with -race, the end-to-end test on a real mail host (as root)
	@sh packaging/test.sh

e2e: ## the end-to-end test on the real mail host alone, of Debian 12 and of Debian 13 (root)
	@MXCERT_E2E=require go test -count=1 -timeout 90m -parallel 3 -v ./packaging/e2e/...
	@MXCERT_E2E=require MXCERT_E2E_RELEASE=trixie go test -count=1 -timeout 90m -parallel 3 -v ./packaging/e2e ./packaging/e2e/fleet ./packaging/e2e/judges ./packaging/e2e/world

judges: ## what Postfix, Exim, OpenSSL, GnuTLS and mxcert say of 280 mail hosts, on Debian 12 and 13 (root; 10 minutes)
	@MXCERT_E2E=require go test -count=1 -timeout 20m -v ./packaging/e2e/judges
	@MXCERT_E2E=require MXCERT_E2E_RELEASE=trixie go test -count=1 -timeout 20m -v ./packaging/e2e/judges

ROLLOVERS ?= 5
rollovers: ## ROLLOVERS (5) changes of DANE keys of each kind between real name servers, with 3,000 mails and 40 kills of the daemon (root; 20 minutes)
	@MXCERT_E2E=require MXCERT_ROLLOVERS=$(ROLLOVERS) MXCERT_DELIVERIES=3000 MXCERT_KILLS=40 go test -count=1 -timeout 60m -v ./packaging/e2e/dane

crash: ## every kill, error and power cut at every system call of a deployment and of the store (root; about 100 minutes)
	@MXCERT_CRASH=all MXCERT_TEST_REQUIRE=1 go test -count=1 -p 1 -timeout 180m -v ./packaging/crash/...

.PHONY: dane
dane: ## changes of keys with TLSA records, in compressed time: every case of the grid, 5,000 histories of the gate, and 1,000 certificates over three years (an hour)
	@MXCERT_GRID=all MXCERT_YEARS=1000 MXCERT_HISTORIES=5000 MXCERT_FLEETS=300 go test -count=1 -timeout 180m -v -run '^Test(Grid|Years|NoSenderFails|Fleets|Races)' ./deploy/dane

STORMS ?= 20
FAULTS ?= 300
HOST_FAULTS ?= 48
.PHONY: fleet
fleet: ## STORMS (20) storms of 300 faults over three hosts, in compressed time; HOST_FAULTS (48) faults of three mail hosts and three members of etcd (root); the store in etcd: FAULTS (300) kills, pauses and partitions of three members and their clients, and 100 MB of others' keys; 30 minutes
	@MXCERT_FLEET=long MXCERT_FAULTS=$(FAULTS) go test -count=1 -timeout 60m -v ./acme/state/etcd
	@go test -count=1 -timeout 60m -v -run '^TestStorm' ./acme/fleet -fleet.seeds $(STORMS) -fleet.seed 100
	@MXCERT_E2E=require MXCERT_FLEET_FAULTS=$(HOST_FAULTS) go test -count=1 -timeout 60m -v ./packaging/e2e/fleet

.PHONY: bench-fleet
bench-fleet: build ## what the client of etcd costs a service without a fleet, beside a build without it; 3 minutes
	$(GOBUILD) -tags grpcnotrace,nofleet -o bin/mxcert-nofleet ./cmd/mxcert
	go run ./packaging/bench/idle -mxcert bin/mxcert -beside bin/mxcert-nofleet -rest 5s

LOAD ?= 200
load: ## what LOAD (200) deployments under load cost senders, for each server, layout, way to reload and kind of key, and with OCSP responses (root; hours)
	@MXCERT_E2E=require MXCERT_LOAD=$(LOAD) go test -count=1 -parallel 1 -timeout 600m -v -run 'TestDeploymentsUnderLoad|TestOCSPUnderLoad|TestTimeToNewHandshake' ./packaging/e2e

bench: ## benchmarks
	go test -run '^$$' -bench . -benchmem ./...

bench-idle: build ## what the service costs at rest, with 1, 100 and 1,000 certificates, beside Caddy (apt-get install caddy); 10 minutes
	go run ./packaging/bench/idle -mxcert bin/mxcert

.PHONY: bench-told
bench-told: build ## what telling people costs: a scrape of 1,000 certificates beside a registry, and the resting daemon with and without it; 20 minutes
	go test -run '^$$' -bench Scrape -benchtime 50x ./hooks/metrics
	go run ./packaging/bench/idle -mxcert bin/mxcert -told

HOUSE ?= cmd/mxcert acme configs deploy hooks
house: ## how large the packages below HOUSE are and how their files use each other; BEFORE=DIR compares with another tree
	@go run ./packaging/house $(if $(BEFORE),-before $(BEFORE)) $(HOUSE)

.PHONY: bench-verify
bench-verify: ## verify of 1, 20 and 200 endpoints, beside the slowest of them and posttls-finger (root, Debian); 5 minutes
	@MXCERT_E2E=require go test -timeout 30m -run '^$$' -bench '^BenchmarkVerify$$' -benchtime 2x -v ./packaging/e2e/senders

bench-many: build ## renew and status over 1, 200 and 1,000 certificates with nothing to do, beside a yardstick; 2 minutes
	go run ./packaging/bench/many -mxcert bin/mxcert

.PHONY: bench-dane
bench-dane: build ## TLSA records: looks beside the slowest server, 200 certificates beside one, renewals and the resting daemon with and without them; 10 minutes
	go test -timeout 10m -run '^$$' -bench 'Look|Looks' -benchtime 10x ./deploy/dane
	go test -timeout 10m -run '^$$' -bench 'WithPublish' -benchtime 20x ./cmd/mxcert/internal/pass
	go test -timeout 10m -run '^$$' -bench 'DNSOfPasses' -benchtime 2x ./cmd/mxcert/internal/pass
	go run ./packaging/bench/idle -mxcert bin/mxcert -dane

lint: ## gofmt, go vet, golangci-lint
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run: gofmt -w .'; exit 1; }
	go vet ./...
	go run $(GOLANGCI) run ./...

deb: ## Debian packages in ./dist: mxcert, and mxcert-full with all DNS providers
	sh packaging/nfpm/build.sh deb
	VARIANT=full sh packaging/nfpm/build.sh deb

rpm: ## RPM packages in ./dist
	sh packaging/nfpm/build.sh rpm
	VARIANT=full sh packaging/nfpm/build.sh rpm

release: ## packages for amd64 and arm64, checksums and a bill of materials (CycloneDX) in ./dist
	sh packaging/nfpm/release.sh

FUZZTIME ?= 20s
fuzz: ## run every fuzz target for FUZZTIME
	@FUZZTIME=$(FUZZTIME) sh packaging/fuzz.sh

govulncheck: ## known vulnerabilities in what the program calls; GOVULNDB=file:///path names a copy of the database
	@GOVULNDB=$(GOVULNDB) sh packaging/govulncheck.sh $(GOVULNCHECK)

install: ## install the program, its units and its pages below DESTDIR
	sh packaging/nfpm/build.sh tree
	install -d $(DESTDIR)/etc/mxcert $(DESTDIR)$(PREFIX)
	cp -r --no-preserve=ownership dist/root-mxcert-$$(go env GOARCH)/usr/. $(DESTDIR)$(PREFIX)/
	install -m 0640 configs/mxcert.yaml $(DESTDIR)/etc/mxcert/mxcert.yaml.example
	-[ -n "$(DESTDIR)" ] || ! command -v journalctl >/dev/null || journalctl --update-catalog

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/\1 \2/p' Makefile | while read -r target text; do \
		printf '%s\n' "$$text" | fold -s -w 60 | sed "1s/^/$$(printf 'make %-13s' "$$target")/; 2,\$$s/^/                  /; s/ *\$$//"; \
	done
