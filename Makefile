# Everything sets itself up: system packages (as root or with sudo), a venv in .venv, the lab.
#   make demo [ANSWER=yes|no|over|silence|busy|noanswer|reject|hangup|keys]
#   make test · make lint · make serve · make bench · make soak
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
SUDO   := $(if $(filter 0,$(shell id -u)),,sudo -E)
ANSWER ?= yes
STAMP  := $(VENV)/.ready-$(shell cat setup.py constraints.txt scripts/setup.sh | sha256sum | cut -c1-16)
TESTS  ?= tests

.PHONY: demo test lint serve bench soak setup lab clean

demo: setup lab
	$(SUDO) $(PY) asterisk/lab/demo.py --answer $(ANSWER)

serve: setup lab
	$(SUDO) $(PY) asterisk/lab/demo.py --serve

test: setup lab
	$(SUDO) $(PY) -m pytest $(TESTS)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(MAKE) -s -C asterisk cppcheck
	$(SUDO) asterisk/lab/build.sh --warnings-are-errors

bench: setup lab
	$(SUDO) $(PY) tests/bench/run.py $(BENCH)

soak: setup lab
	$(SUDO) $(PY) -m pytest tests/soak

# A real Asterisk and the module for it, cached outside the checkout.
lab:
	@$(SUDO) asterisk/lab/build.sh >/dev/null

setup: $(STAMP)

$(STAMP): setup.py constraints.txt scripts/setup.sh
	PYTHON=$(PYTHON) scripts/setup.sh $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) var build *.egg-info
