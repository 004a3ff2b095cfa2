# Causeway. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# go.mod pins the toolchain; Go gets it like any module, whichever Go is installed.
export GOTOOLCHAIN := auto
export CAUSEWAY_TOOLS ?= $(CURDIR)/.tools
BIN     := $(CAUSEWAY_TOOLS)/bin
GET     := test/tools/get
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
# Without this tag gRPC brings templates, and with them the linker drops no method of any type.
TAGS    := grpcnotrace
MOST    := 70000000
FUZZTIME ?= 2s
SOAKTIME ?= 30m
MODULE  := github.com/causeway-mesh/causeway

# The race detector finds nothing where there is one goroutine: what has none runs on the
# normal build, in a fraction of the time. Lint keeps sync out of policy and xds/compile; the
# tests of xds/engine, discovery/file and discovery/kubernetes, which have goroutines, call all
# of it under the detector. test/manifests asks an API server one thing after the other. Load
# and fault tests measure the normal binary. All the rest runs under the detector.
LIST_PURE = go list ./policy/... ./xds/compile ./discovery/convert ./discovery/objects ./discovery/kubernetes/conditions ./test/manifests | \
	grep -vE '/policy/shift/(notify|outbound|query|runner)$$'
# discovery/file is in both: its hostile files are whole on the normal build alone.
PURE = $$($(LIST_PURE)) ./discovery/file ./test/equivalence ./test/bench
RACE = $$(go list ./... | grep -vxFf <($(LIST_PURE)) | grep -vE '/test/(e2e|bench|conformance|equivalence|cluster/e2e)$$')
LOAD := ./test/e2e
SOAK := ./policy/shift $(LOAD) ./test/bench ./test/equivalence
# Half as many packages again as there are cores run at once: most wait for a part of their time.
CORES  := $(shell nproc)
ATONCE := $(shell echo $$(( ($(CORES) * 3 + 1) / 2 )))
GOTESTSUM = $(BIN)/gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg
# Linkers and tests that live for seconds or minutes collect garbage seldom. Load and fault tests
# do not have it: they measure the binary as it is shipped.
SELDOM = GOGC=400
# A third of a test binary's link is symbols that only a debugger wants.
LEAN = -ldflags=-s
SHELL_SCRIPTS = $$(git ls-files -co --exclude-standard | xargs grep -lE '^\#!.*\b(bash|sh)$$' 2>/dev/null || true)

##@ Try it

.PHONY: demo
demo: ## A mesh over EC2 and Kubernetes on this machine, with faults and a count of failed requests
	@echo "demo, part 1 of 3: building causeway (four minutes on two cores where nothing is cached, else seconds)"
	@$(MAKE) build
	@echo "demo, part 2 of 3: Envoy, an EC2 API and PHP (a minute the first time)"
	@$(GET) venv
	@$(GET) debian || echo "PHP is not there: the demo's built-in HTTP workload takes its place"
	@echo "demo, part 3 of 3: the migration (a bit over a minute)"
	bin/causeway demo $(DEMO_FLAGS)

.PHONY: build
build: ## bin/causeway, static
	CGO_ENABLED=0 go build -tags $(TAGS) -trimpath -ldflags '$(LDFLAGS)' -o bin/causeway ./cmd/causeway
	@size=$$(wc -c < bin/causeway); if ((size > $(MOST))); then \
		echo "bin/causeway has $$size bytes, more than $(MOST): docs/ARCHITECTURE.md says where its size is from"; exit 1; \
	fi

.PHONY: image
image: ## A container image (needs docker, podman or buildah as DOCKER=)
	$(or $(DOCKER),docker) build --build-arg VERSION=$(VERSION) -t $(or $(IMAGE),causeway:$(VERSION)) .

.PHONY: image-agent
image-agent: ## An image with the agent and Envoy, for pods (needs docker, podman or buildah as DOCKER=)
	$(or $(DOCKER),docker) build --target agent --build-arg VERSION=$(VERSION) -t $(or $(IMAGE),causeway-agent:$(VERSION)) .

.PHONY: package
package: ## bin/package: tarball, .deb, .rpm and SSM Distributor package of a host's agent, for amd64 and arm64
	@$(GET) nfpm
	@rm -rf bin/package
	@for arch in amd64 arm64; do \
		GOOS=linux GOARCH=$$arch CGO_ENABLED=0 go build -tags $(TAGS) -trimpath -ldflags '$(LDFLAGS)' -o bin/package/.$$arch ./cmd/causeway; \
		manifests/package/build '$(VERSION)' bin/package/.$$arch $$arch bin/package; \
		rm bin/package/.$$arch; \
	done
	@manifests/package/distributor '$(VERSION)' bin/package

##@ Check it

.PHONY: check
check: test fuzz-short lint generate-check ## What CI runs

.PHONY: test
test: tools-test ## All tests: those under the race detector beside those without goroutines, then load and fault tests
	@test/tools/together '$(MAKE) test-race ATONCE=$(CORES)' "$(MAKE) test-pure ATONCE=$$(( $(ATONCE) - $(CORES) ))"
	@$(MAKE) e2e

.PHONY: test-race
test-race: tools-test ## Tests of all that has goroutines but load and faults, with -race
	$(SELDOM) $(GOTESTSUM) -- -race $(LEAN) -timeout 15m -p $(ATONCE) $(TESTFLAGS) $(RACE)

.PHONY: test-pure
test-pure: tools-test ## Tests of what has no goroutines, and explain against Envoy, on the normal build
	$(SELDOM) $(GOTESTSUM) -- $(LEAN) -timeout 15m -p $(ATONCE) $(TESTFLAGS) $(PURE)

.PHONY: e2e
e2e: tools-test ## Load and fault tests, on the normal build
	$(GOTESTSUM) -- $(LEAN) -timeout 25m $(TESTFLAGS) $(LOAD)

.PHONY: demo-cluster
demo-cluster: cluster-up ## The migration from EC2 hosts to real pods, on that cluster, which is ended after it
	@cd test/cluster/e2e && CAUSEWAY_E2E_CLUSTER=1 CAUSEWAY_E2E_DEMO=1 go test -count=1 $(LEAN) -timeout 15m -run '^TestShiftFromHostsToPods$$'; \
	status=$$?; $(MAKE) --no-print-directory -C '$(CURDIR)' cluster-down; exit $$status

.PHONY: cluster-up
cluster-up: tools-cluster build ## A Kubernetes cluster of one node with images of this tree (root; in CAUSEWAY_CLUSTER, or .cluster)
	@go run ./test/cluster/run up

.PHONY: cluster-down
cluster-down: ## End that cluster: nothing of it stays but its images' files
	@go run ./test/cluster/run down

.PHONY: e2e-cluster
e2e-cluster: cluster-up ## Tests on that cluster: installation, pods of the mesh, uninstallation
	@$(GET) gotestsum
	CAUSEWAY_E2E_CLUSTER=1 $(GOTESTSUM) -- -count=1 $(LEAN) -timeout 15m $(TESTFLAGS) ./test/cluster/e2e

.PHONY: conformance
conformance: cluster-up ## The Gateway API's conformance suite on that cluster, mesh and gateways; report in test/conformance
	@$(GET) conformance
	CAUSEWAY_E2E_CLUSTER=1 CAUSEWAY_CONFORMANCE=1 go test -count=1 $(LEAN) -timeout 60m -run '^TestConformance$$' -v ./test/cluster/e2e

.PHONY: fuzz-short
fuzz-short: ## Each fuzz target for FUZZTIME (2s), as many at once as there are cores
	$(SELDOM) test/tools/fuzz $(FUZZTIME)

.PHONY: soak
soak: tools-test build ## Load and fault tests for SOAKTIME (30m) each, and many more cases of test/equivalence and policy/shift
	CAUSEWAY_SOAK=$(SOAKTIME) go test -count=1 -timeout 24h -p 1 -v $(TESTFLAGS) $(SOAK)

.PHONY: lint
lint: ## golangci-lint (with the layering), shell scripts, YAML, Makefile
	@$(GET) golangci-lint venv
	$(BIN)/golangci-lint run ./...
	$(BIN)/golangci-lint fmt --diff
	@for script in $(SHELL_SCRIPTS); do bash -n "$$script"; done
	@$(CAUSEWAY_TOOLS)/venv/bin/python test/tools/yamlcheck.py

.PHONY: fmt
fmt: ## Format the Go code (gofumpt, gci)
	@$(GET) golangci-lint
	$(BIN)/golangci-lint fmt

.PHONY: vulncheck
vulncheck: ## Known vulnerabilities in what the binary uses (needs vuln.go.dev; CI does not run it)
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

##@ Measure it

.PHONY: bench
bench: tools-test build ## The benchmark's main rows, into bench.json and a table
	go run ./test/bench -server bin/causeway -out bench.json $(BENCHFLAGS)

.PHONY: bench-full
bench-full: tools-test build ## The benchmark with its growth curves
	go run ./test/bench -server bin/causeway -out bench.json -full $(BENCHFLAGS)

##@ Change it

.PHONY: generate
generate: ## CRDs, their reference and deep copies, from policy/v1alpha1; the Gateway API's CRDs; plain YAML of the chart; Go code of our protocols
	@$(GET) controller-gen buf protoc-gen-go helm
	$(BIN)/controller-gen object paths=./policy/v1alpha1
	$(BIN)/controller-gen crd paths=./policy/v1alpha1 output:crd:dir=manifests/crds
	go run ./test/tools/kinds manifests manifests
	install -m 644 manifests/crds/*.yaml manifests/chart/charts/crds/files/
	install -m 644 manifests/alerts/causeway.rules.yaml manifests/chart/files/
	for chart in manifests/chart manifests/chart/charts/crds; do go run ./test/tools/values $$chart || exit 1; done
	test/tools/plain
	go run ./test/tools/reference $$(for kind in $$(go run ./test/tools/kinds ours); do echo manifests/crds/mesh.causeway.dev_$$kind.yaml; done) > docs/reference.md
	@from=$$(go list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)/config/crd; \
	for channel in experimental standard; do for kind in $$(go run ./test/tools/kinds gateway); do \
		install -m 644 $$from/$$channel/gateway.networking.k8s.io_$$kind.yaml manifests/gateway-api/$$channel/; \
	done; done
	for of in observe members; do (cd xds/$$of && PATH=$(BIN):$$PATH buf lint && PATH=$(BIN):$$PATH buf generate) || exit 1; done

.PHONY: generate-check
generate-check: ## Fail if `make generate` would change anything
	@before=$$(git status --porcelain -- $(GENERATED); git diff -- $(GENERATED)); \
	$(MAKE) generate; \
	after=$$(git status --porcelain -- $(GENERATED); git diff -- $(GENERATED)); \
	if [[ "$$before" != "$$after" ]]; then \
		echo "$$after"; echo "make generate changes files: run it and commit what it makes"; exit 1; \
	fi
GENERATED := policy/v1alpha1 manifests/crds manifests/gateway-api docs/reference.md manifests/kustomization.yaml manifests/chart manifests/install manifests/inject manifests/gateways xds/observe/observev1 xds/members/membersv1

.PHONY: golden
golden: ## Rewrite the golden files from what the code does now
	go test $(GOLDEN) -run 'Golden$$' -update
# The packages whose tests have the flag -update.
GOLDEN = $$(grep -rlF '"$(MODULE)/test/golden"' --include='*_test.go' . | xargs -n1 dirname | sort -u)

.PHONY: tools
tools: tools-test ## Everything that tests, lint and generate need, into .tools/
	@$(GET) golangci-lint controller-gen buf protoc-gen-go benchstat

.PHONY: tools-test
tools-test:
	@$(GET) gotestsum venv etcd kube-apiserver helm nfpm ec2-metadata-mock debian browser

.PHONY: tools-cluster
tools-cluster:
	@$(GET) venv etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl helm coredns debian containerd

.PHONY: clean
clean: ## Remove what was built, but not the tools (for those: rm -rf .tools)
	rm -rf bin bench.json

.PHONY: help
help:
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
