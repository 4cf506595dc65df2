PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed-$(shell cat setup.py constraints.txt | sha256sum | cut -c1-12)

.PHONY: demo test test-long lint clean

# From nothing to a served score on MovieLens-1M.
demo: $(INSTALLED)
	$(BIN)/python -m serving.demo configs/movielens/demo_retrieval.yaml configs/movielens/demo.yaml

# The whole suite, doctests and style included, in two processes.
test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0

test-long: $(INSTALLED)
	$(BIN)/python -m pytest -m long

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(INSTALLED):
	command -v $(PYTHON) >/dev/null 2>&1 && $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	rm -f $(VENV)/installed-*
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
