# usedge: `make demo` shows the main job, `make test` runs every check. Both make their own virtual environment.
PYTHON ?= python3
VENV   ?= .venv
FUZZ_SECONDS ?= 60
PIP     = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt

.PHONY: bench-check instructions help demo test slow-checks lint fuzz size bench train report qemu qemu-tools clean
help:
	@echo "make demo   the shipped bundle over a virtual transducer: live readings, then a summary"
	@echo "make test   every check: style, types, the one-way rule, C, tests"
	@echo "make slow-checks  wheels for aarch64, int8 variants on an emulated aarch64, tflite-runtime on 32-bit ARM; needs the network"
	@echo "make fuzz   libFuzzer on the C library, FUZZ_SECONDS=60 long; part of make test where clang is installed"
	@echo "make bench  latency, memory and cold start of this machine"
	@echo "make bench-check  the latency suite against the stored run of this host class; not part of make test"
	@echo "make train  pretrain, fine-tune and export a bundle with the recipe field, from nothing: hours, resumed where cut"
	@echo "make report tables, plots and verdicts on the papers' claims from the stored trials"
	@echo "make size   flash and RAM of the C library and of the network in C, by arm-none-eabi-gcc"
	@echo "make instructions  count what the network in C executes on each board's core, by qemu-user (minutes)"
	@echo "make qemu   firmware on three emulated boards streams to usedge run, every A-scan compared"
	@echo "make qemu-tools  install the emulator and the ARM compiler that make qemu needs"
	@echo "make clean  remove the virtual environment and what the checks left behind"

$(VENV)/bin/python:
	@echo "== making a virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "usedge needs python3 >= 3.10"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing. Run: sudo apt-get install python3-venv"; exit 2; }

$(VENV)/.device: $(VENV)/bin/python pyproject.toml .ci/constraints.txt
	@echo "== installing usedge as a device does (numpy, pyserial, typer, rich, LiteRT)"
	@$(PIP) --editable .
	@touch $@

# torch comes first and pinned: a plain `torch` would pull gigabytes of CUDA.
$(VENV)/.checks: $(VENV)/.device
	@echo "== installing what training, export and the checks need (about 2.5 GB, once)"
	@$(PIP) torch==2.13.0
	@$(PIP) --editable '.[all,dev]'
	@touch $@

demo: $(VENV)/.device
	@echo "== 12 seconds of A-scans from a virtual transducer on a pty, classified by the shipped bundle"
	@$(VENV)/bin/usedge run --port 'sim://?prf=20' --seconds 12 --speed-of-sound 1482

lint: $(VENV)/.checks
	@echo "== style, types, the one-way rule"
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

fuzz:
	@if echo 'int LLVMFuzzerTestOneInput(const unsigned char *b, unsigned long n) { return !b && n; }' \
	    | clang -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null; \
	then echo "== fuzzing the C library, $(FUZZ_SECONDS) s"; \
	    $(MAKE) --no-print-directory -s -C firmware_bridge/c fuzz SECONDS=$(FUZZ_SECONDS); \
	    $(MAKE) --no-print-directory -s -C export/c fuzz SECONDS=15; \
	else echo "== not fuzzing: clang or its libFuzzer (Debian: clang, libclang-rt-14-dev) is not installed"; fi

test: lint fuzz
	@echo "== tests"
	@$(VENV)/bin/python -m pytest

slow-checks: $(VENV)/.checks
	@$(VENV)/bin/python .ci/slow.py

bench: $(VENV)/.checks
	@$(VENV)/bin/usedge bench latency

bench-check: $(VENV)/.checks
	@$(VENV)/bin/usedge bench check

TRAIN = runs/train
train: $(VENV)/.checks
	@$(VENV)/bin/usedge pretrain --out $(TRAIN)/pretrain
	@$(VENV)/bin/usedge finetune $(TRAIN)/pretrain/last --out $(TRAIN)/finetune
	@$(VENV)/bin/usedge export $(TRAIN)/finetune/last --int8 -o $(TRAIN)/field.usedge

report: $(VENV)/.checks
	@$(VENV)/bin/usedge report docs/results/trials.csv --out docs/results

size:
	@$(MAKE) --no-print-directory -s -C firmware_bridge/c size
	@$(MAKE) --no-print-directory -s -C export/c size

instructions: $(VENV)/.device
	@echo "== counting the instructions of a pass; the result does not depend on this machine"
	@$(VENV)/bin/python benchmarks/instructions/run.py --out benchmarks/results/instructions.json

qemu: $(VENV)/.device
	@command -v qemu-system-arm >/dev/null && command -v arm-none-eabi-gcc >/dev/null \
	    || { echo "qemu-system-arm or arm-none-eabi-gcc is missing. Run: make qemu-tools"; exit 2; }
	@$(MAKE) --no-print-directory -C firmware_bridge/ports/qemu PYTHON=$(abspath $(VENV)/bin/python)
	@echo "== 200 A-scans from each board to usedge run, 20 a second"
	@$(VENV)/bin/python firmware_bridge/ports/qemu/run.py

qemu-tools:
	@echo "== installing qemu-system-arm and gcc-arm-none-eabi by apt-get (about 70 MB, 550 MB on disk)"
	@command -v apt-get >/dev/null || { echo "no apt-get here: install QEMU for ARM and arm-none-eabi-gcc"; exit 2; }
	@if [ "$$(id -u)" = 0 ]; then as_root=; else as_root=sudo; fi; \
	    $$as_root apt-get update -qq && \
	    $$as_root apt-get install -y --no-install-recommends qemu-system-arm gcc-arm-none-eabi

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist \
	    firmware_bridge/c/build export/c/build firmware_bridge/ports/build firmware_bridge/ports/qemu/build
