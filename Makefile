# Everything sets itself up: system packages (as root or with sudo), a venv in .venv, the lab.
#   make demo [ANSWER=yes|no|over|silence|busy|noanswer|reject|hangup|keys]
#   make test · make lint · make serve · make bench · make soak · make sanitize · make fuzz [RUNS=10000000]
# ASTERISK_DIALOG_LAB=22 make …  Asterisk 22 instead of 16; test and lint: 22 alone instead of both
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
SUDO   := $(if $(filter 0,$(shell id -u)),,sudo -E)
ANSWER ?= yes
STAMP  := $(VENV)/.ready-$(shell cat setup.py constraints.txt scripts/*.sh | sha256sum | cut -c1-16)
TESTS  ?= tests
RUNS   ?= 10000000
LABS   := $(or $(ASTERISK_DIALOG_LAB),all)

.PHONY: demo test lint serve bench soak sanitize fuzz setup lab labs clean

demo: setup lab
	$(SUDO) $(PY) asterisk/lab/demo.py --answer $(ANSWER)

serve: setup lab
	$(SUDO) $(PY) asterisk/lab/demo.py --serve

# Most of their time the tests wait for calls: four processes fill two cores (tests/conftest.py).
test: setup labs
	$(SUDO) $(PY) -m pytest -n 4 --no-loadscope-reorder $(TESTS)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(MAKE) -s -C asterisk cppcheck
	$(SUDO) asterisk/lab/build.sh --asterisk $(LABS) --warnings-are-errors

bench: setup lab
	$(SUDO) $(PY) tests/bench/run.py $(BENCH)

soak: setup labs
	$(SUDO) $(PY) -m pytest -rP --show-capture=stdout tests/soak

# The module under AddressSanitizer and UndefinedBehaviorSanitizer: its tests with real calls, and the soak.
sanitize: setup
	$(SUDO) ASTERISK_DIALOG_SANITIZE=1 $(PY) -m pytest $(wildcard tests/e2e/test_fork_*.py) \
		tests/e2e/test_keys.py tests/e2e/test_keys_guard.py tests/e2e/test_streaming.py $(wildcard tests/soak/test_fork_*.py)

fuzz:
	tests/fuzz/run.sh $(RUNS)

# Real Asterisks and the module for each, cached outside the checkout: one, or those of the tests.
lab:
	@$(SUDO) asterisk/lab/build.sh >/dev/null

labs:
	@$(SUDO) asterisk/lab/build.sh --asterisk $(LABS) >/dev/null

setup: $(STAMP)

$(STAMP): setup.py constraints.txt scripts/setup.sh scripts/packages.sh
	PYTHON=$(PYTHON) scripts/setup.sh $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) var build *.egg-info
