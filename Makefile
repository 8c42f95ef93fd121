# `make demo` and `make test` are all that a newcomer needs; the first of them makes .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What npm writes down of its last install.
NPM := tests/clients/node_modules/.package-lock.json
# fal's own package, beside which ours is tested and measured; it asks for other releases than our tools are locked to.
FAL := .venv-fal

.PHONY: demo test check bench reliability plain-celery chaos

demo: $(VENV)/.demo
	$(BIN)/python examples/digits/demo.py

# Many tests wait for processes and clocks: three files at a time keep two cores busy, from the longest (chaos) on.
# Hundreds of processes import our files: compiled once, also where the environment has Python write no bytecode.
test: $(VENV)/.test $(NPM) $(FAL)/.ready
	$(BIN)/python -m compileall -q rankcast tasks gpu_worker web examples tests benchmarks
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# mypy sees rankcast.tasks, .gpu_worker and .web only where they are installed; build/ goes first
# because a module that was deleted would be installed out of it.
check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-deps --target build/check .
	cd build/check && $(abspath $(BIN))/mypy -p rankcast --config-file ../../pyproject.toml

bench: $(VENV)/.test $(FAL)/.ready
	$(BIN)/python benchmarks/run.py

reliability: $(VENV)/.test
	$(BIN)/python benchmarks/reliability.py

plain-celery: $(VENV)/.test
	$(BIN)/python benchmarks/plain_celery.py

# Faults into a system under load; tests/chaos/README.md says how to read what it prints.
chaos: SECONDS ?= 600
chaos: SEED ?= $(shell date +%s)
chaos: $(VENV)/.test
	cd tests && $(abspath $(BIN))/python -m chaos.driver $(SECONDS) $(SEED)

# A stamp a kind of install: the second run does nothing until what it depends on has changed.
$(VENV)/.demo: EXTRAS := server,demo
$(VENV)/.test: EXTRAS := test
$(VENV)/.demo $(VENV)/.test: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

# Node and npm come with the environment.
$(NPM): tests/clients/package-lock.json | $(VENV)/.test
	$(BIN)/npm ci --no-audit --no-fund --prefix tests/clients
	touch $@

# torch, with what it needs, is the tests' own: both sides compute with the same, and no second one is fetched.
$(FAL)/.ready: TORCH_IS_IN := import importlib.util as u; print(u.find_spec("torch").origin.rpartition("/torch/")[0])
$(FAL)/.ready: benchmarks/peers/requirements.txt | $(VENV)/.test
	$(BIN)/python -m venv --clear $(FAL)
	$(FAL)/bin/python -m pip install --quiet --no-deps -r $<
	$(BIN)/python -c '$(TORCH_IS_IN)' > $$(echo $(FAL)/lib/python*/site-packages)/torch.pth
	touch $@
