#!/bin/sh
# Make the environments of the benches' peers that do not fit beside ours, with the libraries in our versions.
# Never fails: a peer that cannot be installed is left out of the benches.
python=.venv/bin/python

same=$($python -c 'from importlib.metadata import version
for name in ("ipykernel", "mlflow", "numpy", "pandas", "scikit-learn", "skops"):
    print(f"{name}=={version(name)}")')

# make FOLDER PACKAGE... - nothing is installed again while the packages stay the same.
make() {
  folder=$1
  shift
  [ "$(cat "$folder/.stamp" 2>/dev/null)" = "$*" ] && return
  echo "Installing peers of the benches into $folder (a few minutes when nothing is cached) ..."
  { [ -x "$folder/bin/python" ] || $python -m venv "$folder"; } &&
    { .venv/bin/uv pip install --quiet --python "$folder/bin/python" "$@" || "$folder/bin/python" -m pip install --quiet "$@"; } &&
    echo "$*" >"$folder/.stamp" && return
  echo "They could not be installed, and are left out."
}

make .venv-peers dvclive litserve ploomber-engine $same
make .venv-mlserver mlserver mlserver-mlflow $same # it wants an older FastAPI than the others get
exit 0
