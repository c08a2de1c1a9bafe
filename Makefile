# `make demo` and `make test` need nothing before them: the first that is run sets up .venv.

.PHONY: demo test lint types help

demo: .venv/.complete
	@.venv/bin/borg-vault demo

test: .venv/.complete
	@.venv/bin/pytest -n 2 --dist worksteal

lint: .venv/.complete
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .

types: .venv/.complete
	@.venv/bin/mypy --strict borg_vault_plugin hooks tests

help:
	@echo "make demo | test | lint | types"

# The stamp is removed first and made last, so that a set-up that was killed is begun anew.
.venv/.complete: pyproject.toml
	@.ci/system-packages
	@test -e $@ || rm -rf .venv
	@rm -f $@
	@echo "setting up .venv (borgbackup is compiled: a minute or two)"
	@test -d .venv || python3 -m venv .venv
	@.venv/bin/python -m pip install -qq --upgrade "pip>=25.1"
	@.venv/bin/python -m pip install -qq --editable ".[borg,embedded]" --group dev
	@touch $@
