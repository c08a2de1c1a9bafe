# `make demo` and `make test` need nothing before them: the first that is run sets up .venv.

.PHONY: demo test test-faults bench docs demo-recording lint types audit help

demo: .venv/.complete
	@.venv/bin/borg-vault demo

test: .venv/.complete
	@.venv/bin/pytest -n 2 --dist worksteal

# ENTRIES=500000 for the full one; ROUNDS and SIZES are in tests/bench/__main__.py.
bench: .venv/.complete
	@PYTHONPATH=tests .venv/bin/python -m bench

# Whole runs to which one bad thing happens. ONLY="17 18" plays these runs of a SEED again; RESULTS= keeps nothing.
RUNS = 300
SEED = 175
RESULTS = tests/faults/results
test-faults: .venv/.complete
	@PYTHONPATH=tests .venv/bin/python -m faults --runs $(RUNS) --seed $(SEED) \
		$(if $(ONLY),--only $(ONLY),$(if $(RESULTS),--results $(RESULTS)))

# The generated parts of README.md, and the run of the demo that one of them shows.
docs: .venv/.complete
	@PYTHONPATH=tests .venv/bin/python -m readme

demo-recording: .venv/.complete
	@.venv/bin/borg-vault demo >tests/readme/demo.txt.new
	@mv tests/readme/demo.txt.new tests/readme/demo.txt

lint: .venv/.complete
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .

types: .venv/.complete
	@.venv/bin/mypy --strict borg_vault_plugin hooks tests

audit: .venv/.complete
	@.ci/audit

help:
	@echo "make demo | test | test-faults | bench | docs | demo-recording | lint | types | audit"

# The stamp is removed first and made last, so that a set-up that was killed is begun anew.
.venv/.complete: pyproject.toml
	@.ci/system-packages
	@test -e $@ || rm -rf .venv
	@rm -f $@
	@echo "setting up .venv (borgbackup is compiled: a minute or two)"
	@test -d .venv || python3 -m venv .venv
	@.venv/bin/python -m pip install -qq --upgrade "pip>=25.1"
	@.venv/bin/python -m pip install -qq --editable ".[apprise,borg,embedded,prometheus]" --group dev
	@touch $@
