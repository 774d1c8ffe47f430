# make demo   install, train a tiny LLaVA on generated scenes, evaluate it, write the report
# make demo-reward   go on from the demo by rewards and, beside it, by supervised training, and compare the two
# make web    open a page on the demo's model, which is trained first if need be
# make test   install, run the tests;  make test-slow: the long ones
# make test-other   in .venv-other, with the oldest other Python that is found: the tests of what depends on its version
# make test-latest  in .venv-latest, with the newest release of each library but torch, also above the bounds of pyproject.toml
# make check  install, lint, types, import floors
# make native-table   check every vision language model of transformers, and write the table of docs/native.md
# make docs   the documentation as a site in site/, with its own packages in .venv-docs
# PYTHON=python3.12 make demo   chooses the interpreter of .venv

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
# processes that tests start find compiled modules, also where this is set
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo demo-reward web test test-slow test-other test-latest check docs native-table clean

install: $(VENV)/installed

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

FINETUNE := OMP_NUM_THREADS=1 $(BIN)/accelerate launch --config_file accelerate_config/cpu.yaml mllm/pipeline/finetune.py

demo: install
	$(FINETUNE) config/demo_scenes.py --overwrite_output_dir

demo-reward: install outputs/demo_scenes/model.safetensors
	$(BIN)/mllm eval config/demo_reward.py --output_dir outputs/demo_reward_start --overwrite_output_dir
	$(FINETUNE) config/demo_reward_supervised.py --overwrite_output_dir
	$(FINETUNE) config/demo_reward.py --overwrite_output_dir
	$(BIN)/mllm compare outputs/demo_reward_start outputs/demo_reward_supervised outputs/demo_reward

web: install outputs/demo_scenes/model.safetensors
	$(BIN)/mllm web outputs/demo_scenes --examples examples/shapes/images

outputs/demo_scenes/model.safetensors:
	$(MAKE) demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n auto --dist worksteal

VERSIONS := 3.11 3.12 3.13
OTHER_TESTS := $(addprefix tests/,config conversation dataset images metrics commands/data) \
	$(addprefix tests/repository/test_,accelerate_config.py config_levels.py dataset_catalogue.py imports.py layout.py) \
	$(wildcard tests/test_[abefgimrtv]*.py)
# on PATH or among pyenv's; its shims are on PATH for versions that do not start
find_other = for version in $(VERSIONS); do \
	for python in python$$version "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python; do \
		"$$python" -c "" 2>/dev/null && ! "$$python" -V | grep -q "^$$($(PYTHON) -V | cut -d. -f1,2)\\." && \
			echo "$$python" && exit; \
	done; done

test-other:
	@python="$$($(find_other))"; if [ -z "$$python" ]; then \
		echo "make test-other: skipped, no other Python of $(VERSIONS) on PATH or among pyenv's"; \
	else \
		echo "make test-other: $$("$$python" -V)"; \
		$(MAKE) --no-print-directory install VENV=.venv-other PYTHON="$$python" && \
		OMP_NUM_THREADS=1 .venv-other/bin/python -m pytest -n auto $(OTHER_TESTS); \
	fi

LATEST := .venv-latest
test-latest:
	$(PYTHON) -m venv $(LATEST)
	$(LATEST)/bin/python -m pip install --quiet --upgrade pip
	sed -E '/^torch==/!s/==[^ ]+//' requirements.txt > $(LATEST)/newest.txt
	$(LATEST)/bin/python -m pip install --quiet --upgrade -r $(LATEST)/newest.txt
	$(LATEST)/bin/python -m pip install --quiet --no-deps --editable .
	$(LATEST)/bin/python -m pip list | grep -iE '^(torch|transformers|tokenizers|accelerate|peft|mmengine|bitsandbytes) '
	OMP_NUM_THREADS=1 $(LATEST)/bin/python -m pytest -n auto --dist worksteal

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

native-table: install .native-packages/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.native_table --packages .native-packages

# what some types want beyond requirements.txt, beside it: torchvision fits the version of torch there
.native-packages/installed:
	$(BIN)/python -m pip install --quiet --no-deps --target .native-packages torchvision==0.28.0 timm num2words docopt
	touch $@

docs: .venv-docs/installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build
	@echo "open site/index.html"

.venv-docs/installed: docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet -r docs/requirements.txt
	touch $@

clean:
	rm -rf .venv .venv-other .venv-latest .venv-docs .native-packages site outputs
