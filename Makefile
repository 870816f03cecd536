# make demo, make check, make test, make lab, make app, make docs: each first makes the environment in .venv that it needs.
PYTHON ?= $(or $(shell command -v python3 || uv python find --system 2>/dev/null),python3)
BIN := .venv/bin
TESTS := --numprocesses 2 --no-loadscope-reorder

.PHONY: demo test coverage lab app docs notebooks fuzz check style javascript
demo: .venv/installed-lab
	$(BIN)/l2gnet run notebooks/01_train.ipynb --profile demo

# Everything that must hold, in a quarter of an hour.
test: style javascript
	$(BIN)/pytest $(TESTS) --durations 10 --nbval tests notebooks

# What one runs while working, in under two minutes: the same without browser, notebooks, SLURM and slow tests.
check: style javascript
	$(BIN)/pytest $(TESTS) -m 'not slow and not browser and not slurm' tests

style: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf .types && mkdir .types && cp -rs $(CURDIR)/l2gnet .types/l2gnet && cp -rs $(CURDIR)/widgets .types/l2gnet/widgets
	$(BIN)/mypy

# Of the viewers: types, and what needs no browser.
ifneq ($(shell command -v npm),)
javascript: widgets/node_modules/.package-lock.json
	widgets/node_modules/.bin/tsc --project widgets
	node --test --test-reporter spec tests/widgets/js/*.mjs

widgets/node_modules/.package-lock.json: widgets/package-lock.json
	npm ci --prefix widgets --no-audit --no-fund
	touch $@
else
javascript:
	@echo 'The JavaScript of the viewers is not checked: there is no npm here (apt-get install nodejs npm).'
endif

# Which lines of the library ran, be it in a test, a command, a notebook's kernel or a worker of a sweep.
coverage: .venv/installed-test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(TESTS) --nbval tests notebooks
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# A hundred times as many damaged files as `make test` has, others each time; minutes to an hour.
fuzz: .venv/installed-test
	L2GNET_FUZZ=100 L2GNET_FUZZ_SEED=$$(date +%s) $(BIN)/pytest --numprocesses 2 tests/test_fuzz.py tests/data/formats/test_series_fuzz.py

lab: .venv/installed-lab
	$(BIN)/l2gnet lab

app: .venv/installed-lab
	$(BIN)/l2gnet app

# The documentation as a site, to open in a browser: docs/_build/html/index.html.
docs: .venv/installed-docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs . docs/_build/html

# Run every notebook anew and keep its output; look at the pictures before you commit them.
notebooks: .venv/installed-test
	$(BIN)/python tests/refresh_notebooks.py

.venv/installed-%: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$*]'
	touch $@
