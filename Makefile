# make setup   the environment, in .venv (done once; again when constraints.txt or setup.py change)
# make test    the tests, two at a time         (TEST_FLAGS="--slow" adds the slow ones)
# make demo    LoAd from nothing to a report    (DEMO_FLAGS="--smallest" for a first look)
# make gpu-check   is the GPU right? text to paste  (GPU_FLAGS="--device=cpu" without one)
# make clean   removes .venv, .venv-* and what was built
#
# PYTHON=/path/to/python chooses the interpreter; else the first of PYTHONS that is 3.9 to 3.13:
# the reference lane (TensorFlow 2.15) first, then the current one (TensorFlow 2.21).
# VENV=.venv-3.13 PYTHON=python3.13 makes a second environment beside the first.
VENV := .venv
PYTHON :=
PYTHONS := python3.11 python3.10 python3.9 python3.13 python3.12 python3 python
DEMO_FLAGS :=
TEST_FLAGS :=
GPU_FLAGS :=
LOG := $(VENV)/setup.log
DONE := $(VENV)/setup.done
# An environment that is there keeps its interpreter; one that was asked for in vain is an error.
CHOSEN := $(if $(PYTHON),chosen)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.PHONY: all setup test demo gpu-check clean chosen
all: setup

setup: $(DONE) $(CHOSEN)

test: $(DONE) $(CHOSEN)
	@$(VENV)/bin/python -m pytest -n 2 --dist loadfile $(TEST_FLAGS)

demo: $(DONE) $(CHOSEN)
	@$(VENV)/bin/python tools/demo.py $(DEMO_FLAGS)

gpu-check: $(DONE) $(CHOSEN)
	@$(VENV)/bin/python tools/gpu_check.py $(GPU_FLAGS)

chosen: $(DONE)
	@ask='import sys; print("%d.%d" % sys.version_info[:2])'; \
	have=$$($(VENV)/bin/python -c "$$ask"); \
	if ! want=$$("$(PYTHON)" -c "$$ask" 2>/dev/null); then \
	  echo "error: PYTHON=$(PYTHON) does not run; give the full path of a Python 3.9 to 3.13" >&2; \
	  exit 1; \
	elif [ "$$want" != "$$have" ]; then \
	  echo "error: $(VENV) has Python $$have, and PYTHON=$(PYTHON) is $$want; give it a folder of" \
	    "its own: make VENV=.venv-$$want PYTHON=$(PYTHON)" >&2; \
	  exit 1; \
	fi

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(DONE): constraints.txt setup.py
	@found= ; seen= ; \
	for python in $(if $(PYTHON),"$(PYTHON)",$(PYTHONS)); do \
	  version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) \
	    || continue; \
	  case $$version in \
	    3.9|3.10|3.11|3.12|3.13) found=$$python; break ;; \
	    *) seen="$$seen, $$python is $$version" ;; \
	  esac; \
	done; \
	if [ -z "$$found" ] && [ -n "$(PYTHON)" ]; then \
	  if [ -n "$$version" ]; then what="is Python $$version"; else what="does not run"; fi; \
	  echo "error: PYTHON=$(PYTHON) $$what; give the full path of a Python 3.9 to 3.13" \
	    "(3.11 if you can choose)" >&2; \
	  exit 1; \
	elif [ -z "$$found" ]; then \
	  echo "error: Python 3.9 to 3.13 is needed and was not found$$seen; install one" \
	    "(3.11 if you can choose), or name it: make PYTHON=/path/to/python" >&2; \
	  exit 1; \
	fi; \
	step() { \
	  echo "setup: $$1"; shift; \
	  "$$@" >>$(LOG) 2>&1 </dev/null || { \
	    tail -n 25 $(LOG) >&2; \
	    echo "error: setup failed; the whole log is in $(LOG)" >&2; \
	    exit 1; \
	  }; \
	}; \
	rm -rf $(VENV); mkdir -p $(VENV); : >$(LOG); \
	step "1/3 virtual environment $(VENV) with Python $$version" "$$found" -m venv $(VENV); \
	step "2/3 packages (about 800 MB; some minutes; log: $(LOG))" \
	  $(VENV)/bin/python -m pip install -r constraints.txt; \
	step "3/3 this package" \
	  $(VENV)/bin/python -m pip install --no-deps --no-build-isolation --use-pep517 -e .; \
	step "checking" $(VENV)/bin/python -m pip check; \
	touch $(DONE); \
	echo "setup: done"
