# All targets of the kit, for people and CI alike. `make` lists them.
# Recipes longer than a line or two are in scripts/.

# Checked here because no script would start. By /bin/sh, which reads no BASH_ENV.
ifneq ($(shell LC_ALL=C grep -ls "$$(printf '\r')" versions.env scripts/*.sh),)
$(error The files of this checkout have Windows line endings (CRLF), which no shell can run. \
  Commit or stash your changes, then: git rm -r --cached --quiet . && git reset --hard)
endif
ifeq ($(shell test -x scripts/doctor.sh && echo yes),)
$(error The scripts are not executable: the repository was unpacked without file modes. \
  To fix: chmod +x .ci/run scripts/*.sh platform/cluster/*.sh)
endif

MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.NOTPARALLEL: # `make down up` runs sequentially, even with -j in MAKEFLAGS
# Bash reads these before the first line of a recipe or script; scripts/isolate.sh removes the rest.
unexport BASH_ENV BASHOPTS CDPATH ENV POSIXLY_CORRECT SHELLOPTS

# Only a variable from make's command line: a shell may export its own NAME.
typed = $(if $(filter command,$(firstword $(origin $(1)))),$($(1)))

ifeq ($(origin SERVICE),undefined)
  SERVICE := $(shell scripts/default-service.sh)
endif
PARTS ?=
LOOPS ?=
MODULES ?=
SERVICES := $(patsubst services/%/pyproject.toml,%,$(wildcard services/*/pyproject.toml))
export SERVICE

# Python environments: one per service and one for the chassis, one for the platform's check and test tools.
SERVICE_ENVIRONMENTS := $(SERVICES:%=services/%/.venv/dev.stamp)
CHASSIS_ENVIRONMENT := packages/chassis/.venv/dev.stamp
TOOLS_ENVIRONMENT := .venv/tools.stamp
BENCH_ENVIRONMENT := .tools/bench/bench.stamp
MUTANTS_ENVIRONMENT := .tools/mutants/mutants.stamp

##@ Getting started

.PHONY: help
help: ## Print this help
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo

.PHONY: run
run: services/$(SERVICE)/.venv/run.stamp ## Serve the API on http://127.0.0.1:8000, data in .data/
	@scripts/run.sh serve

.PHONY: install
install: $(CHASSIS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) ## Install the Python packages of all services

.PHONY: test
test: $(CHASSIS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) ## Run the tests of the chassis and all services
	@scripts/test.sh $(SERVICES)

.PHONY: test-full
test-full: $(CHASSIS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) ## Like test, including slow tests (minutes more)
	@scripts/test.sh --full $(SERVICES)

.PHONY: fuzz
fuzz: $(SERVICE_ENVIRONMENTS) ## Run the generated tests longer (MINUTES=10 SEED=)
	@scripts/fuzz.sh $(SERVICES)

.PHONY: mutants
mutants: $(CHASSIS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) $(TOOLS_ENVIRONMENT) $(MUTANTS_ENVIRONMENT) ## Find faults that no test notices (MODULES= MINUTES=)
	@scripts/mutants.sh $(MODULES)

.PHONY: doctor
doctor: ## Check this machine's tools and print how to fix problems
	@scripts/doctor.sh

##@ Develop

.PHONY: lint
lint: $(CHASSIS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) $(TOOLS_ENVIRONMENT) ## Run all static checks
	@scripts/lint.sh $(SERVICES)

.PHONY: test-platform
test-platform: $(CHASSIS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) $(TOOLS_ENVIRONMENT) $(MUTANTS_ENVIRONMENT) ## Test charts, scripts, workflows and docs
	@scripts/test-platform.sh

.PHONY: check
check: lint test-full test-platform ## Run all checks and tests that need no cluster

.PHONY: fmt
fmt: $(TOOLS_ENVIRONMENT) ## Format the Python code
	@.venv/bin/ruff check --quiet --fix-only . && .venv/bin/ruff format .

.PHONY: openapi
openapi: $(CHASSIS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) ## Regenerate the OpenAPI documents after an API change
	@scripts/openapi.sh $(SERVICES)

.PHONY: docs
docs: ## Regenerate the charts' READMEs after a values change
	@scripts/go-tools.sh && for template in platform/helm/*/README.md.gotmpl; do \
	  .tools/helm-docs --chart-search-root "$${template%/*}"; done

.PHONY: new-service
new-service: $(CHASSIS_ENVIRONMENT) $(TOOLS_ENVIRONMENT) ## Create a service (NAME=orders DATABASE=postgresql)
	@name='$(call typed,NAME)' database='$(call typed,DATABASE)'; \
	  .venv/bin/python -m scripts.new_service \
	  "$${name:?is not set: name the new service, make new-service NAME=orders}" $${database:+--database "$$database"}

.PHONY: remove-service
remove-service: ## Remove a service and all its files (NAME=)
	@name='$(call typed,NAME)'; \
	  python=$$(scripts/find-python.sh) || { scripts/doctor.sh python; exit 1; }; \
	  "$$python" -m scripts.remove_service "$${name:?is not set: name the service, make remove-service NAME=task-api}"

.PHONY: lock
lock: ## Update the Python locks (UPGRADE=1: newest versions)
	@scripts/lock.sh $(SERVICES)

##@ Local cluster (make up HTTP_PORT=8080 HTTPS_PORT=8443 REGISTRY_PORT=5001)

.PHONY: up
up: ## Create the cluster, build, deploy; re-run after changes
	@scripts/up.sh

.PHONY: dev
dev: ## Live-update the cluster on every save (needs Tilt)
	@scripts/dev.sh

.PHONY: status
status: ## Show the cluster's pods and HPA metrics
	@scripts/status.sh

.PHONY: logs
logs: ## Follow the logs of the service's pods
	@scripts/logs.sh

.PHONY: open
open: ## Open the service's API documentation in a browser
	@scripts/open.sh

FAULTS := $(wildcard e2e/*/faults)
# The fault tests run first and serially, since the autoscaler must see the load; the others mostly wait, so two in parallel.
.PHONY: e2e
e2e: $(TOOLS_ENVIRONMENT) ## Test image, chart and release; needs `make up`
	@failed=0; \
	for faults in $(FAULTS); do scripts/e2e.sh -m 'not full' "$$faults" || failed=1; done; \
	scripts/e2e.sh -m 'not full' $(FAULTS:%=--ignore %) --numprocesses 2 --dist loadfile || failed=1; \
	exit $$failed

.PHONY: e2e-full
e2e-full: $(TOOLS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) ## Like e2e, including slow tests (minutes more)
	@! command -v go > /dev/null || for tool in helm act cosign trivy; do scripts/go-tools.sh $$tool || exit; done
	@scripts/e2e.sh

.PHONY: load
load: ## Send load through the ingress for 30 s (needs wrk)
	@scripts/load.sh

.PHONY: demo-hpa
demo-hpa: ## Plot the HPA under load to reports/demo-hpa.svg
	@scripts/load.sh demo-hpa

.PHONY: down
down: ## Remove the cluster and everything `make up` created
	@scripts/down.sh

##@ Image

.PHONY: image
image: ## Build the image, tagged with its content hash and latest
	@scripts/image.sh

.PHONY: layout
layout: image ## Export the image as an OCI layout in .image/
	@python=$$(scripts/find-python.sh) || { scripts/doctor.sh python; exit 1; }; \
	  rm -rf ".image/$(SERVICE)" && mkdir -p .image && "$$python" scripts/layout.py save "$(SERVICE):latest" ".image/$(SERVICE)"

.PHONY: scan
scan: layout ## Scan the image; fixable HIGH or CRITICAL CVEs fail
	@scripts/scan.sh ".image/$(SERVICE)"

.PHONY: push
push: export REVISION = $(value IMAGE_TAG)
push: ## Push the image unchanged (IMAGE_REPOSITORY= IMAGE_TAG=)
	@: "$${IMAGE_REPOSITORY:?is not set: name the target, IMAGE_REPOSITORY=docker.io/you/$(SERVICE)}"
	@$(MAKE) --no-print-directory layout
	@scripts/push.sh ".image/$(SERVICE)" "$$IMAGE_REPOSITORY" "$${IMAGE_TAG:-$$(scripts/image-tag.sh)}"

.PHONY: audit
audit: $(TOOLS_ENVIRONMENT) ## Audit Python dependencies for known vulnerabilities
	@scripts/audit.sh $(SERVICES)

##@ Deploy (cluster: KUBECONFIG=file or KUBE_CONFIG=base64; docs/delivery.md)

.PHONY: deploy
deploy: ## Deploy a pushed image; rolls back on failure
	@exec scripts/deploy.sh deploy

.PHONY: deploy-settle
deploy-settle: ## Recover an interrupted deploy: verify it or roll back
	@exec scripts/deploy.sh settle

.PHONY: smoke
smoke: ## Verify that every pod serves the commit (COMMIT=)
	@exec scripts/deploy.sh smoke $${COMMIT:+"$$COMMIT"}

.PHONY: rollback
rollback: ## Roll back to the last different image, or to REVISION=n
	@exec scripts/deploy.sh rollback $${REVISION:+"$$REVISION"}

.PHONY: history
history: ## List revisions with their images, and held commits
	@exec scripts/deploy.sh history

.PHONY: unhold
unhold: ## Allow a held commit to be deployed again (COMMIT=)
	@exec scripts/deploy.sh unhold "$${COMMIT:?is not set: name the commit, COMMIT=...}"

.PHONY: kubeconfig-ci
kubeconfig-ci: ## Create the pipeline's kubeconfig (NAMESPACE=)
	@scripts/kubeconfig-ci.sh "$${NAMESPACE:?is not set: name the namespace to deploy to, NAMESPACE=...}"

##@ Back up (cluster of make up, or KUBECONFIG=; docs/operate.md)

.PHONY: backup
backup: ## Dump a release's PostgreSQL (FILE= RELEASE= NAMESPACE=)
	@exec scripts/backup.sh backup

.PHONY: restore
restore: ## Restore a backup while pods run (FILE= CONFIRM=)
	@exec scripts/backup.sh restore

##@ Measure (bench/README.md)

.PHONY: bench
bench: services/task-api/.venv/run.stamp $(BENCH_ENVIRONMENT) ## Run the benchmarks (PARTS=ladder)
	@scripts/bench.sh $(PARTS)

.PHONY: bench-loop
bench-loop: ## Benchmark the development loop (LOOPS=test)
	@scripts/bench-loop.sh $(LOOPS)

##@ Third-party tools (findings/README.md)

.PHONY: findings
findings: ## Verify documented quirks of third-party tools (NAME=)
	@name='$(call typed,NAME)'; exec scripts/findings.sh $$name

##@ Clean up

.PHONY: clean
clean: ## Remove installed tools, builds, caches and reports
	rm -rf .image .tools .venv {packages,services}/*/.venv {packages,services}/*/build {packages,services}/*/src/*.egg-info reports
	find . \( -name .git -o -name .data \) -prune -o -type d \( -name __pycache__ -o -name '.*_cache' -o -name .hypothesis \
	  -o -name .schemathesis \) -prune -exec rm -rf {} +

# --- Python environments --------------------------------------------------------------

services/%/requirements.txt:
	@echo "There is no service named $*. The services are: $(SERVICES)" >&2; exit 1

# install.sh checks every time whether they match their requirements. That takes a twentieth of a second.
always:

services/%/.venv/run.stamp: services/%/requirements.txt always
	@scripts/install.sh services/$*/.venv $< $@

services/%/.venv/dev.stamp: services/%/requirements-dev.txt always
	@scripts/install.sh services/$*/.venv $< $@ services/$*/requirements.txt services/$*/.venv/run.stamp

$(CHASSIS_ENVIRONMENT): packages/chassis/requirements-dev.txt always
	@scripts/install.sh packages/chassis/.venv $< $@

$(TOOLS_ENVIRONMENT): requirements-tools.txt always
	@scripts/install.sh .venv $< $@

$(MUTANTS_ENVIRONMENT): requirements-mutants.txt always
	@scripts/install.sh .tools/mutants $< $@

$(BENCH_ENVIRONMENT): bench/requirements.txt always
	@scripts/install.sh .tools/bench $< $@
