# make demo, make test, make lab, make app: each first makes the environment in .venv that it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test coverage lab app notebooks fuzz
demo: .venv/installed-lab
	$(BIN)/l2gnet run notebooks/01_train.ipynb --profile demo

test: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf .types && mkdir .types && cp -rs $(CURDIR)/l2gnet .types/l2gnet && cp -rs $(CURDIR)/widgets .types/l2gnet/widgets
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses 2 --dist loadfile --durations 10 --nbval-lax tests notebooks

# Which lines of the library ran, be it in a test, a command, a notebook's kernel or a worker of a sweep.
coverage: .venv/installed-test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses 2 --dist loadfile --nbval-lax tests notebooks
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# A hundred times as many damaged files as `make test` has, others each time; minutes to an hour.
fuzz: .venv/installed-test
	L2GNET_FUZZ=100 L2GNET_FUZZ_SEED=$$(date +%s) $(BIN)/pytest --numprocesses 2 tests/test_fuzz.py tests/data/formats/test_series_fuzz.py

lab: .venv/installed-lab
	$(BIN)/jupyter lab --notebook-dir notebooks

app: .venv/installed-lab
	$(BIN)/l2gnet app notebooks/0[234]_*.ipynb

# Run every notebook anew and keep its output; look at the pictures before you commit them.
notebooks: .venv/installed-test
	$(BIN)/python notebooks/refresh.py

.venv/installed-%: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$*]'
	touch $@
