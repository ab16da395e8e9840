PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DOCUMENTED = $(wildcard skunlearn/*.py skunlearn/*/*.py skunlearn/*/*/*.py)

.PHONY: demo test test-site test-slow test-oldest test-newest test-portable coverage lint format bench benchmark attacks questions benchmark-smoke docs clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/python examples/plot_forget_digits.py

# Two processes of one thread: the networks are small. Names of tests hold sets (of parameters of
# skorch's networks), whose order has to be one in both.
test: $(VENV)/installed
	PYTHONHASHSEED=0 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not slow' $(ARGS)

test-slow: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(ARGS)

# What depends on how a processor rounds: the networks and the metrics of each method, and what pages
# say is printed, with other instruction sets and thread counts. Of scikit-learn's checks, those that
# compare orders of rows.
PORTABLE = tests/test_common.py tests/methods tests/evaluation/test_relearning.py \
	tests/evaluation/test_report.py tests/evaluation/test_shadow.py tests/metrics/test_collapse.py \
	tests/engine/test_inputs.py tests/engine/test_outputs.py tests/engine/test_rows.py \
	tests/engine/test_run.py tests/test_base.py tests/test_features.py tests/test_pipeline.py \
	tests/test_docs.py tests/test_readme.py
PORTABLE_CHECKS = sample_order or subset_invariance or not (test_common or scikit_learn_checks)
test-portable: $(VENV)/installed
	for setting in "ATEN_CPU_CAPABILITY=default" "ATEN_CPU_CAPABILITY=avx2" "MKL_CBWR=COMPATIBLE" \
			"OMP_NUM_THREADS=2 PYTEST_XDIST_AUTO_NUM_WORKERS=1"; do \
		echo $$setting; \
		env PYTHONHASHSEED=0 OMP_NUM_THREADS=1 PYTEST_XDIST_AUTO_NUM_WORKERS=2 $$setting \
			$(BIN)/python -m pytest -n auto -m 'not slow' -k '$(PORTABLE_CHECKS)' \
			$(PORTABLE) $(ARGS) || exit 1; \
	done

# What other versions could break: the common checks of every unlearner, numbers, splits, transport,
# data, plots, the code of the readme, accelerate, dask and adapters. PYTHON_OLDEST and PYTHON_NEWEST
# may be paths.
SLICE = tests/test_common.py tests/metrics tests/test_model_selection.py tests/test_transport.py \
	tests/engine/test_data.py tests/datasets tests/inspection tests/test_package.py \
	tests/test_readme.py tests/engine/test_inputs.py tests/engine/test_adapters.py \
	tests/evaluation/test_relearning.py
PYTHON_OLDEST ?= python3.10
PYTHON_NEWEST ?= python3.13

$(VENV)-oldest/installed: pyproject.toml constraints-oldest.txt
	$(PYTHON_OLDEST) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet -c constraints-oldest.txt -e '.[test]'
	touch $@

test-oldest: $(VENV)-oldest/installed
	PYTHONHASHSEED=0 OMP_NUM_THREADS=1 $(VENV)-oldest/bin/python -m pytest -n 2 -m 'not slow' \
		$(SLICE) $(ARGS)

$(VENV)-newest/installed: pyproject.toml
	$(PYTHON_NEWEST) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade -e '.[test]'
	touch $@

test-newest: $(VENV)-newest/installed
	PYTHONHASHSEED=0 OMP_NUM_THREADS=1 $(VENV)-newest/bin/python -m pytest -n 2 -m 'not slow' \
		$(SLICE) $(ARGS)

coverage: $(VENV)/installed
	PYTHONHASHSEED=0 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not slow' --cov=skunlearn \
		--cov-branch --cov-report=term-missing:skip-covered $(ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/numpydoc lint $(DOCUMENTED)
	$(BIN)/numpydoc lint --config .ci/numpydoc $(DOCUMENTED)
	$(BIN)/python -m pytest -q tests/test_typing.py -k mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed
	$(BIN)/python benchmarks/bench_dlfd_batch.py

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

docs: $(VENV)/installed-docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going -n -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

# In a browser: what is copied runs; search, dark mode, phones, accessibility. Chromium is the system's.
test-site: docs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,docs,browser]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' tests/site $(ARGS)

DOMAINS ?= speeches speeches-long faces faces-long ecg ecg-long identities digits
LONG ?= speeches-long faces-long ecg-long
DEFAULTS ?= speeches speeches-long faces faces-long identities

# Hours. Stopped, it goes on where it was; DOMAINS=faces does one; benchmarks/study/README.md has more.
benchmark: $(VENV)/installed
	for domain in $(DOMAINS); do for step in tune report summarise; do \
		OMP_NUM_THREADS=1 $(BIN)/python benchmarks/study/$$step.py $$domain $(ARGS) || exit 1; \
	done; done
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/study/compare.py $(DOMAINS) $(ARGS)

# Of what `make benchmark` has chosen. Tens of minutes a domain; stopped, it goes on where it was.
attacks: $(VENV)/installed
	for step in guard report summarise attacks dial; do \
		OMP_NUM_THREADS=1 $(BIN)/python benchmarks/study/$$step.py $(LONG) $(ARGS) || exit 1; \
	done
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/study/compare.py $(DOMAINS) $(ARGS)

# What the other pages of the study show. Stopped, it goes on where it was, but for the costs.
questions: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/study/checks.py speeches identities $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/study/overlap.py speeches identities $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/study/misleading.py speeches faces ecg identities digits $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/study/defaults.py $(DEFAULTS) $(ARGS)
	$(BIN)/python benchmarks/study/cost.py

benchmark-smoke: $(VENV)/installed
	rm -rf build/smoke
	for step in tune report summarise; do \
		OMP_NUM_THREADS=1 $(BIN)/python benchmarks/study/$$step.py smoke \
			--trials 2 --tuning-splits 2 --results build/smoke || exit 1; \
	done

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	rm -rf docs/_build docs/auto_examples docs/generated docs/study
