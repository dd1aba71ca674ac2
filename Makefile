# make run: fill the sample photos on the embedded weights. make test: the test suite. make web: the web page.
# All set up .venv by themselves.
PYTHON ?= python3
CONF ?= confs/face.yml
ARGS ?=

.PHONY: run test web lint check clean

run: .venv/ready
	.venv/bin/python test.py --conf_path $(CONF) $(ARGS)

test: .venv/dev
	.venv/bin/python -m pytest -n 2 --dist loadfile

web: .venv/web
	.venv/bin/repaint web $(ARGS)

lint: .venv/dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

check: lint test

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache

.venv/ready: setup.py pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/web: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[web]'
	touch $@

.venv/dev: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
