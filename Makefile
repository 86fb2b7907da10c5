PYTHON ?= python3
VENV := .venv
ARGS ?=

.PHONY: run test test-thorough test-slurm lint venv

run: venv
	$(VENV)/bin/python launch.py --config experiments/digits_lenet.py --workdir runs/digits_lenet $(ARGS)

test: venv
	$(VENV)/bin/python -m pytest -q -n 3 -m 'not thorough' $(ARGS)

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
	$(VENV)/bin/python -m pip install -q -r requirements.txt
	touch $@
