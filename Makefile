# Every verb of the kit, for people and continuous integration alike. `make` prints them.
# Recipes longer than a line or two are in scripts/.

# What no script can say, since none would start. Asked of /bin/sh, which reads no BASH_ENV.
ifneq ($(shell LC_ALL=C grep -ls "$$(printf '\r')" versions.env scripts/*.sh),)
$(error The files of this checkout end their lines as Windows does (CRLF), and no shell runs them. \
  Commit or stash what you changed, then: git rm -r --cached --quiet . && git reset --hard)
endif
ifeq ($(shell test -x scripts/doctor.sh && echo yes),)
$(error The scripts of this folder cannot be run: it was unpacked without the modes of files. \
  Repair: chmod +x .ci/run scripts/*.sh platform/cluster/*.sh)
endif

MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.NOTPARALLEL: # `make down up` is one after the other, with -j in MAKEFLAGS too
# What bash reads before the first line of a recipe or script; scripts/isolate.sh takes away the rest.
unexport BASH_ENV BASHOPTS CDPATH ENV POSIXLY_CORRECT SHELLOPTS

# A variable of make's command line alone: a shell may export some NAME of its own.
typed = $(if $(filter command,$(firstword $(origin $(1)))),$($(1)))

ifeq ($(origin SERVICE),undefined)
  SERVICE := $(shell scripts/default-service.sh)
endif
PARTS ?=
LOOPS ?=
SERVICES := $(patsubst services/%/pyproject.toml,%,$(wildcard services/*/pyproject.toml))
export SERVICE

# Python environments: one for each service and the chassis, one for the tools that check and test the platform, one for checkov.
SERVICE_ENVIRONMENTS := $(SERVICES:%=services/%/.venv/dev.stamp)
CHASSIS_ENVIRONMENT := packages/chassis/.venv/dev.stamp
TOOLS_ENVIRONMENT := .venv/tools.stamp
CHECKOV_ENVIRONMENT := .tools/checkov/tools.stamp
BENCH_ENVIRONMENT := .tools/bench/bench.stamp

##@ Start here

.PHONY: help
help: ## Print this help
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo

.PHONY: run
run: services/$(SERVICE)/.venv/run.stamp ## Serve the API on http://127.0.0.1:8000, tasks in .data/
	@scripts/run.sh serve

.PHONY: install
install: $(CHASSIS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) ## Install every service's Python packages ahead of need

.PHONY: test
test: $(CHASSIS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) ## Run the tests of the chassis and of every service
	@scripts/test.sh $(SERVICES)

.PHONY: test-full
test-full: $(CHASSIS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) ## The same with what takes minutes more
	@scripts/test.sh --full $(SERVICES)

.PHONY: fuzz
fuzz: $(SERVICE_ENVIRONMENTS) ## Run the generated tests for long (MINUTES=10 SEED=)
	@scripts/fuzz.sh $(SERVICES)

.PHONY: doctor
doctor: ## Check what this machine has; says what repairs it
	@scripts/doctor.sh

##@ Change

.PHONY: lint
lint: $(CHASSIS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) $(TOOLS_ENVIRONMENT) $(CHECKOV_ENVIRONMENT) ## Check what can be checked by reading it
	@scripts/lint.sh $(SERVICES)

.PHONY: test-platform
test-platform: $(SERVICE_ENVIRONMENTS) $(TOOLS_ENVIRONMENT) ## Test charts, scripts, workflows and pages
	@scripts/test-platform.sh

.PHONY: check
check: lint test-full test-platform ## All that runs before a push, without a cluster

.PHONY: fmt
fmt: $(TOOLS_ENVIRONMENT) ## Format the Python code
	@.venv/bin/ruff check --quiet --fix-only . && .venv/bin/ruff format .

.PHONY: openapi
openapi: $(CHASSIS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) ## Write the OpenAPI documents, after a change of an API
	@scripts/openapi.sh $(SERVICES)

.PHONY: docs
docs: ## Write the charts' READMEs, after a change of values
	@scripts/go-tools.sh && for template in platform/helm/*/README.md.gotmpl; do \
	  .tools/helm-docs --chart-search-root "$${template%/*}"; done

.PHONY: new-service
new-service: $(CHASSIS_ENVIRONMENT) $(TOOLS_ENVIRONMENT) ## Make a service (NAME=orders DATABASE=postgresql)
	@name='$(call typed,NAME)' database='$(call typed,DATABASE)'; \
	  .venv/bin/python -m scripts.new_service \
	  "$${name:?is not given: say what it is to be called, make new-service NAME=orders}" $${database:+--database "$$database"}

.PHONY: remove-service
remove-service: ## Remove a service and all that is its own (NAME=)
	@name='$(call typed,NAME)'; \
	  python=$$(scripts/find-python.sh) || { scripts/doctor.sh python; exit 1; }; \
	  "$$python" -m scripts.remove_service "$${name:?is not given: say which, make remove-service NAME=task-api}"

.PHONY: lock
lock: ## Lock the Python packages again (UPGRADE=1: the newest)
	@scripts/lock.sh $(SERVICES)

##@ Local cluster (make up HTTP_PORT=8080 HTTPS_PORT=8443 REGISTRY_PORT=5001)

.PHONY: up
up: ## Make the cluster, build, deploy; again after a change
	@scripts/up.sh

.PHONY: dev
dev: ## Run every saved line in the cluster (needs Tilt)
	@scripts/dev.sh

.PHONY: status
status: ## Show the cluster's pods and how the HPA sees them
	@scripts/status.sh

.PHONY: logs
logs: ## Follow what the service's pods log
	@scripts/logs.sh

.PHONY: open
open: ## Open the service's documentation in a browser
	@scripts/open.sh

FAULTS := $(wildcard e2e/*/faults)
# The faults come first and alone, since the autoscaler has to see the load; the others mostly wait, so two at a time.
.PHONY: e2e
e2e: $(TOOLS_ENVIRONMENT) ## Test image, chart and release; needs `make up`
	@failed=0; \
	for faults in $(FAULTS); do scripts/e2e.sh -m 'not full' "$$faults" || failed=1; done; \
	scripts/e2e.sh -m 'not full' $(FAULTS:%=--ignore %) --numprocesses 2 --dist loadfile || failed=1; \
	exit $$failed

.PHONY: e2e-full
e2e-full: $(TOOLS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) ## The same with what takes minutes more
	@! command -v go > /dev/null || for tool in helm act cosign trivy; do scripts/go-tools.sh $$tool || exit; done
	@scripts/e2e.sh

.PHONY: load
load: ## Send load through the ingress for 30 s (needs wrk)
	@scripts/load.sh

.PHONY: demo-hpa
demo-hpa: ## Watch the HPA under load; draws reports/demo-hpa.svg
	@scripts/load.sh demo-hpa

.PHONY: down
down: ## Remove the cluster and all that `make up` made
	@scripts/down.sh

##@ Image

.PHONY: image
image: ## Build the image, tagged by its content and as latest
	@scripts/image.sh

.PHONY: layout
layout: image ## Lay the image out as a folder, as it is pushed
	@python=$$(scripts/find-python.sh) || { scripts/doctor.sh python; exit 1; }; \
	  rm -rf ".image/$(SERVICE)" && mkdir -p .image && "$$python" scripts/layout.py save "$(SERVICE):latest" ".image/$(SERVICE)"

.PHONY: scan
scan: layout ## Scan the image: a HIGH or CRITICAL with a fix fails
	@scripts/scan.sh ".image/$(SERVICE)"

.PHONY: push
push: export REVISION = $(value IMAGE_TAG)
push: ## Push it, digest unchanged (IMAGE_REPOSITORY= IMAGE_TAG=)
	@: "$${IMAGE_REPOSITORY:?is not set: say where, IMAGE_REPOSITORY=docker.io/you/$(SERVICE)}"
	@$(MAKE) --no-print-directory layout
	@scripts/push.sh ".image/$(SERVICE)" "$$IMAGE_REPOSITORY" "$${IMAGE_TAG:-$$(scripts/image-tag.sh)}"

.PHONY: audit
audit: $(TOOLS_ENVIRONMENT) ## Ask for known vulnerabilities of Python packages
	@scripts/audit.sh $(SERVICES)

##@ Deploy (where: KUBECONFIG=file or KUBE_CONFIG=base64; docs/delivery.md)

.PHONY: deploy
deploy: ## Deploy a pushed image; goes back by itself if it fails
	@exec scripts/deploy.sh deploy

.PHONY: deploy-settle
deploy-settle: ## Finish what an interrupted deploy left: verify or go back
	@exec scripts/deploy.sh settle

.PHONY: smoke
smoke: ## Ask every pod which commit it is (COMMIT=)
	@exec scripts/deploy.sh smoke $${COMMIT:+"$$COMMIT"}

.PHONY: rollback
rollback: ## Go back to the last other image, or REVISION=n
	@exec scripts/deploy.sh rollback $${REVISION:+"$$REVISION"}

.PHONY: history
history: ## Show revisions, their images and what is held
	@exec scripts/deploy.sh history

.PHONY: unhold
unhold: ## Let a held commit be deployed again (COMMIT=)
	@exec scripts/deploy.sh unhold "$${COMMIT:?is not set: name the commit, COMMIT=...}"

.PHONY: kubeconfig-ci
kubeconfig-ci: ## Make the pipeline's kubeconfig (NAMESPACE=)
	@scripts/kubeconfig-ci.sh "$${NAMESPACE:?is not set: name the namespace to deploy to, NAMESPACE=...}"

##@ Back up (the cluster of make up, or KUBECONFIG=; docs/operate.md)

.PHONY: backup
backup: ## Dump a release's PostgreSQL (FILE= RELEASE= NAMESPACE=)
	@exec scripts/backup.sh backup

.PHONY: restore
restore: ## Put a backup in its place, pods running (FILE= CONFIRM=)
	@exec scripts/backup.sh restore

##@ Measure (bench/README.md)

.PHONY: bench
bench: services/task-api/.venv/run.stamp $(BENCH_ENVIRONMENT) ## Measure how near the limit it is (PARTS=ladder)
	@scripts/bench.sh $(PARTS)

.PHONY: bench-loop
bench-loop: ## Measure what a developer waits for (LOOPS=test)
	@scripts/bench-loop.sh $(LOOPS)

##@ Outside tools (findings/README.md)

.PHONY: findings
findings: ## See whether tools still do what nobody guesses (NAME=)
	@name='$(call typed,NAME)'; exec scripts/findings.sh $$name

##@ Clean up

.PHONY: clean
clean: ## Remove what was installed, built, cached and reported
	rm -rf .image .tools .venv {packages,services}/*/.venv {packages,services}/*/build {packages,services}/*/src/*.egg-info reports
	find . \( -name .git -o -name .data \) -prune -o -type d \( -name __pycache__ -o -name '.*_cache' -o -name .hypothesis \
	  -o -name .schemathesis \) -prune -exec rm -rf {} +

# --- Python environments --------------------------------------------------------------

services/%/requirements.txt:
	@echo "There is no service named $*. The services are: $(SERVICES)" >&2; exit 1

# Each time, install.sh looks whether they are as their list says. That takes a twentieth of a second.
always:

services/%/.venv/run.stamp: services/%/requirements.txt always
	@scripts/install.sh services/$*/.venv $< $@

services/%/.venv/dev.stamp: services/%/requirements-dev.txt always
	@scripts/install.sh services/$*/.venv $< $@ services/$*/requirements.txt services/$*/.venv/run.stamp

$(CHASSIS_ENVIRONMENT): packages/chassis/requirements-dev.txt always
	@scripts/install.sh packages/chassis/.venv $< $@

$(TOOLS_ENVIRONMENT): requirements-tools.txt always
	@scripts/install.sh .venv $< $@

$(CHECKOV_ENVIRONMENT): requirements-checkov.txt always
	@scripts/install.sh .tools/checkov $< $@

$(BENCH_ENVIRONMENT): bench/requirements.txt always
	@scripts/install.sh .tools/bench $< $@
