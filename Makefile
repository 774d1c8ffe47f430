# make demo   install, train a tiny LLaVA on generated scenes, evaluate it, write the report
# make test   install, run the tests;  make test-slow: the long ones
# make check  install, lint, types, import floors
# PYTHON=python3.12 make demo   chooses the interpreter of .venv

PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: install demo test test-slow check clean

install: .venv/installed

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

demo: install
	OMP_NUM_THREADS=1 $(BIN)/accelerate launch --config_file accelerate_config/cpu.yaml \
		mllm/pipeline/finetune.py config/demo_scenes.py --overwrite_output_dir

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test-slow: install
	$(BIN)/python -m pytest -m slow

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

clean:
	rm -rf .venv outputs
