PYTHON ?= python3
VENV := .venv
ARGS ?=

.PHONY: run test test-thorough test-slurm lint venv

run: venv
	$(VENV)/bin/python launch.py --config experiments/digits_lenet.py --workdir runs/digits_lenet $(ARGS)

# Compiled once, and not by each of the many processes that the tests start. What fails twenty times is the machine.
test: venv
	@$(VENV)/bin/python -m compileall -q -j 0 launch.py __init__.py $(dir $(wildcard */__init__.py)) > /dev/null || true
	$(VENV)/bin/python -m pytest -q -n 3 --maxfail=20 -m 'not thorough' $(ARGS)

# More kills at random, more cases: some minutes
test-thorough: venv
	$(VENV)/bin/python -m pytest -q -n 3 -m thorough $(ARGS)

# A real Slurm on this machine, for minutes: apt-get install slurm-wlm munge
test-slurm: venv
	PRACTICUM_TEST_SLURM=1 $(VENV)/bin/python -m pytest -q tests/training/test_slurm.py tests/tuning/test_slurm.py $(ARGS)

lint: venv
	$(VENV)/bin/ruff check .

venv: $(VENV)/.installed

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --no-compile -r requirements.txt
	@# As pip does on one core alone, and also for the packages' own tests. A file for another Python does no harm.
	$(VENV)/bin/python -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib > /dev/null || true
	touch $@
