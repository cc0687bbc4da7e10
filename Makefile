# Everything a fresh machine with python3 (3.11 or newer) and make needs. Nothing is installed outside .venv,
# except by `make test-real`, which installs Debian packages and needs root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INVENTORY ?=

.PHONY: demo run test check unit test-wheel test-real bench picture lock clean

demo: $(VENV)/run.stamp
	@$(BIN)/dstui demo

run: $(VENV)/run.stamp
	@$(BIN)/dstui $(if $(INVENTORY),-i $(INVENTORY))

test: $(VENV)/dev.stamp check unit

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/dev.stamp
	$(BIN)/pytest -q -n 2

# The same tests against the built wheel, with no checkout in sight.
test-wheel: $(VENV)/dev.stamp
	sh tests/wheel.sh $(BIN)

test-real: $(VENV)/dev.stamp
	sh tests/real/packages.sh
	$(BIN)/pytest -q -m real tests/real

bench: $(VENV)/dev.stamp
	$(BIN)/python bench/sweep.py
	$(BIN)/python bench/first_paint.py
	$(BIN)/python bench/live.py
	$(BIN)/python bench/ladder.py --quick

picture: $(VENV)/dev.stamp
	$(BIN)/python docs/picture.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dstui needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Name another: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 has no venv module here; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/run.stamp: requirements.lock pyproject.toml $(VENV)/bin/python
	$(BIN)/python -m pip install -q --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --no-deps -e .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock pyproject.toml $(VENV)/bin/python
	$(BIN)/python -m pip install -q --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install -q --no-deps -e .
	@touch $@ $(VENV)/run.stamp

# After a change of dependencies in pyproject.toml.
lock: $(VENV)/bin/python
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --group dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) dist build .lab
