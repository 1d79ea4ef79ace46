# Every verb of the kit, for people and continuous integration alike. `make` prints them.
# Recipes longer than a line or two are in scripts/.

MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

SERVICE ?= task-api
PARTS ?=
LOOPS ?=
SERVICES := $(patsubst services/%/pyproject.toml,%,$(wildcard services/*/pyproject.toml))
export SERVICE

# Python environments: one for each service, one for the tools that check and test the platform, one for checkov.
SERVICE_ENVIRONMENTS := $(SERVICES:%=services/%/.venv/dev.stamp)
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
run: services/$(SERVICE)/.venv/run.stamp ## Serve the API on http://127.0.0.1:8000, tasks in .data/ (needs Python 3.11)
	@scripts/run.sh serve

.PHONY: install
install: $(SERVICE_ENVIRONMENTS) ## Install every service's Python packages; other verbs do it when they need to

.PHONY: test
test: $(SERVICE_ENVIRONMENTS) ## Run every service's tests
	@scripts/test.sh $(SERVICES)

.PHONY: doctor
doctor: ## Check what this machine has against what the kit needs; says the command that repairs it
	@scripts/doctor.sh

##@ Change

.PHONY: lint
lint: $(SERVICE_ENVIRONMENTS) $(TOOLS_ENVIRONMENT) $(CHECKOV_ENVIRONMENT) ## Check code, manifests, workflows, pages; says what it left out
	@scripts/lint.sh $(SERVICES)

.PHONY: fmt
fmt: $(TOOLS_ENVIRONMENT) ## Format the Python code
	@.venv/bin/ruff check --quiet --fix-only . && .venv/bin/ruff format .

.PHONY: openapi
openapi: $(SERVICE_ENVIRONMENTS) ## Write every service's OpenAPI document again, after a change of its API
	@for service in $(SERVICES); do SERVICE=$$service scripts/run.sh openapi > services/$$service/openapi.json; done

.PHONY: docs
docs: ## Write the chart's README again, after a change of its values (needs Go)
	@scripts/go-tools.sh && .tools/helm-docs --chart-search-root platform/helm

.PHONY: new-service
new-service: services/task-api/.venv/run.stamp $(TOOLS_ENVIRONMENT) ## Make a second service out of the first, with tests and chart (NAME=orders)
	@.venv/bin/python scripts/new_service.py "$${NAME:?is not set: say what it is to be called, NAME=orders}"

.PHONY: lock
lock: $(TOOLS_ENVIRONMENT) ## Resolve the Python dependencies again, with hashes (UPGRADE=1: to the newest)
	@scripts/lock.sh $(SERVICES)

##@ Local cluster (kind)

.PHONY: up
up: ## Make the cluster, build the image, deploy; again after a change (HTTP_PORT=8080 HTTPS_PORT=8443 REGISTRY=1)
	@scripts/up.sh

.PHONY: dev
dev: ## Make the cluster, then run every saved line in it within a second (needs Tilt)
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

.PHONY: e2e
e2e: $(TOOLS_ENVIRONMENT) ## Test the image, the chart and the deployed service; needs `make up`
	@scripts/e2e.sh -m 'not full'

.PHONY: e2e-full
e2e-full: $(TOOLS_ENVIRONMENT) $(SERVICE_ENVIRONMENTS) ## The same with what takes minutes more: ten replicas, the manifests a second time
	@scripts/e2e.sh

.PHONY: load
load: ## Send load through the ingress for 30 s and show how it is served (needs wrk)
	@scripts/load.sh

.PHONY: demo-hpa
demo-hpa: ## Watch the HPA start pods under load and take them away; draws reports/demo-hpa.svg (needs wrk)
	@scripts/load.sh demo-hpa

.PHONY: down
down: ## Remove the cluster and all that `make up` made
	@scripts/down.sh

##@ Image

.PHONY: image
image: ## Build the service's image, tagged by its content and as latest
	@scripts/image.sh

.PHONY: layout
layout: image ## Lay the image out as a folder, .image/SERVICE: what is scanned and pushed
	@python=$$(scripts/find-python.sh) || { scripts/doctor.sh python; exit 1; }; \
	  rm -rf ".image/$(SERVICE)" && mkdir -p .image && "$$python" scripts/layout.py save "$(SERVICE):latest" ".image/$(SERVICE)"

.PHONY: scan
scan: layout ## Scan the image as the pipeline does: a HIGH or CRITICAL finding with a fix fails
	@scripts/scan.sh ".image/$(SERVICE)"

.PHONY: push
push: export REVISION = $(value IMAGE_TAG)
push: layout ## Push the image, its digest unchanged (IMAGE_REPOSITORY=you/task-api IMAGE_TAG=...)
	@scripts/push.sh ".image/$(SERVICE)" "$${IMAGE_REPOSITORY:?is not set: say where, IMAGE_REPOSITORY=docker.io/you/$(SERVICE)}" \
	  "$${IMAGE_TAG:-$$(scripts/image-tag.sh)}"

.PHONY: audit
audit: $(TOOLS_ENVIRONMENT) ## Ask for known vulnerabilities of the locked Python packages
	@scripts/audit.sh $(SERVICES)

##@ Deploy (KUBECONFIG=file or KUBE_CONFIG=base64 says where; docs/delivery.md)

.PHONY: deploy
deploy: ## Deploy a pushed image; goes back by itself if it fails (IMAGE_REPOSITORY= IMAGE_TAG= IMAGE_DIGEST=)
	@exec scripts/deploy.sh deploy

.PHONY: deploy-settle
deploy-settle: ## Recover a release that a killed deploy left pending
	@exec scripts/deploy.sh settle

.PHONY: smoke
smoke: ## Ask every pod which commit it is (COMMIT=..., or else the deployed one)
	@exec scripts/deploy.sh smoke $${COMMIT:+"$$COMMIT"}

.PHONY: rollback
rollback: ## Go back to the last other image, or REVISION=n, and hold what it left
	@exec scripts/deploy.sh rollback $${REVISION:+"$$REVISION"}

.PHONY: history
history: ## Show the release's revisions, their images and what is held
	@exec scripts/deploy.sh history

.PHONY: unhold
unhold: ## Let a held commit be deployed again (COMMIT=...)
	@exec scripts/deploy.sh unhold "$${COMMIT:?is not set: name the commit, COMMIT=...}"

.PHONY: kubeconfig-ci
kubeconfig-ci: ## Make the kubeconfig that the pipeline deploys with (NAMESPACE=...)
	@scripts/kubeconfig-ci.sh "$${NAMESPACE:?is not set: name the namespace to deploy to, NAMESPACE=...}"

##@ Measure (bench/README.md)

.PHONY: bench
bench: services/task-api/.venv/run.stamp $(BENCH_ENVIRONMENT) ## Measure how close to the limit it is; writes bench/RESULTS.md (needs Docker, wrk; PARTS=ladder)
	@scripts/bench.sh $(PARTS)

.PHONY: bench-loop
bench-loop: ## Measure what a developer waits for: make test, up, up again, e2e (LOOPS=test)
	@scripts/bench-loop.sh $(LOOPS)

##@ Clean up

.PHONY: clean
clean: ## Remove Python environments, built tools, caches and reports; keeps .data/ and the cluster
	rm -rf .image .tools .venv services/*/.venv reports .mypy_cache .ruff_cache .pytest_cache services/*/.pytest_cache
	find services e2e platform scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# --- Python environments --------------------------------------------------------------

services/%/.venv/run.stamp: services/%/requirements.txt
	@scripts/install.sh services/$*/.venv $<
	@touch $@

services/%/.venv/dev.stamp: services/%/requirements-dev.txt
	@scripts/install.sh services/$*/.venv $<
	@touch $@ services/$*/.venv/run.stamp

$(TOOLS_ENVIRONMENT): requirements-tools.txt
	@scripts/install.sh .venv $<
	@touch $@

$(CHECKOV_ENVIRONMENT): requirements-checkov.txt
	@scripts/install.sh .tools/checkov $<
	@touch $@

$(BENCH_ENVIRONMENT): bench/requirements.txt
	@scripts/install.sh .tools/bench $<
	@touch $@
