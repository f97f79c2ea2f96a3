# Nothing but Python (3.10 or newer) and make is needed: the first target you call makes .venv and installs.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: lab demo test gpu bench lint notebooks lock clean

lab: $(READY)  ## JupyterLab on the first notebook
	$(BIN)/osprey-nb lab

demo: $(READY)  ## describe the regions of a shipped picture, here in the terminal
	$(BIN)/osprey-nb demo

test: $(READY)  ## all the tests
	$(BIN)/python -m pytest

gpu: $(READY)  ## what needs a CUDA device: parity, a step of each stage, bf16
	$(BIN)/python benchmarks/gpu.py

bench: $(READY)  ## speed, against the naive way
	$(BIN)/python benchmarks/bench.py

lint: $(READY)
	$(BIN)/ruff check .

notebooks: $(READY)  ## make the .ipynb files again from their .py sources, executed
	$(BIN)/python notebooks/make.py

lock: $(READY)  ## write requirements.lock again from what is installed
	head -3 requirements.lock > requirements.lock.new
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/$$/ ; python_version >= "3.11"/' >> requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("osprey_nb needs Python 3.10 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[dev]" -c requirements.lock
	touch $@
