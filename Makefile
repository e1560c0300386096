# Two commands do everything: `make demo` and `make test`. Both set up .venv first if it is not there.
# A machine without a GPU can have the small CPU build of torch: `make demo TORCH_BACKEND=cpu`.
PYTHON := .venv/bin/python
export TORCH_BACKEND

.PHONY: help setup demo test test-slow lint docs clean
.SUFFIXES:

help:
	@echo "make demo       the whole job on the sample data: labels -> trained detector -> report"
	@echo "make test       the test suite"
	@echo "make setup      only .venv with everything in it; the other targets make it, too"
	@echo "make test-slow  the long tests"
	@echo "make lint       format, ruff and types (mypy)"
	@echo "make docs       the pages of docs/ as a site: site/index.html"
	@echo "make clean      remove .venv, site and what demo wrote"

setup: .venv/ready

.venv/ready: setup.sh pyproject.toml
	@sh setup.sh

demo: .venv/ready
	@$(PYTHON) -m toolkit demo $(DEMO)

# one thread a worker, one worker a core: more threads only wait for each other
test: .venv/ready
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n auto --dist loadfile $(TESTS)

# FRCNN_MUTATIONS=18000 FRCNN_KILLS=50 before a release: 200,000 damaged inputs, 200 kills; each file alone takes minutes
test-slow: .venv/ready
	@$(PYTHON) -m pytest -q -m slow $(TESTS)

lint: .venv/ready
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy

docs: .venv/ready
	@$(PYTHON) -m mkdocs build --quiet
	@echo site/index.html

clean:
	rm -rf .venv demo site
