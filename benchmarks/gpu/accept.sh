#!/usr/bin/env bash
# Acceptance on a machine with a GPU that is at hand for 15 minutes and has torch but nothing else of ours.
# Results: $OUT/results.json (after each step), $OUT/log, $OUT/samples.png.
#
# At home, in a clone of its own, since `pack` takes weights and golden vectors out of git's index (64 MiB may travel):
#   benchmarks/gpu/accept.sh wheels   # fills .wheels with the libraries that the other machine lacks
#   benchmarks/gpu/accept.sh pack     # copies the six weights that the steps need to .accept
# On the other machine, two calls, each with .accept and .wheels at hand:
#   benchmarks/gpu/accept.sh checks   # at most 330 s
#   benchmarks/gpu/accept.sh train    # at most 400 s
# Where the project is installed: make gpu. A dry run: DEVICE=cpu QUICK=1 PYTHON=.venv/bin/python OUT=scratch/gpu benchmarks/gpu/accept.sh checks (and train)
set -u
cd "$(dirname "$0")/../.." || exit 1
DEVICE="${DEVICE:-cuda}" PYTHON="${PYTHON:-python3}" OUT="${OUT:-$PWD/accept-out}" START=$SECONDS SLACK=1
[ "$DEVICE" = cpu ] && SLACK=4 # limits keep a borrowed GPU; a dry run may share its core with others
SITE="${TMPDIR:-/var/tmp}/touchstone-site"
LEFT="manifests/weights tests/golden"
WHEELS="annotated-types dask distributed donfig google-crc32c locket msgspec numcodecs partd pydantic pydantic-core
  pywavelets safetensors scikit-learn tblib tornado typer typing-extensions typing-inspection zarr zict"

wheels() {
  local pinned=() name
  for name in $WHEELS; do pinned+=("$(grep -m1 -o "^$name==[^ ]*" requirements.lock)"); done
  exec python3 -m pip download -q --no-deps --only-binary=:all: --python-version "${FOR:-3.12}" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --platform manylinux1_x86_64 -d .wheels "${pinned[@]}"
}

pack() {
  local name path
  mkdir -p .accept
  for name in progan-small-raw stylegan-small-raw stylegan2-small-raw stargan2-small-raw rdn-small-SR perceptual-small; do
    cp "manifests/weights/$name.safetensors" .accept/ || exit 1
  done
  for path in .accept .wheels $LEFT; do
    grep -qx "/$path/" .git/info/exclude || echo "/$path/" >>.git/info/exclude
  done
  git rm -r -q --cached $LEFT || exit 1
  { git ls-files; git ls-files --others --exclude-standard; find .accept .wheels -type f; } | tr '\n' '\0' |
    xargs -0 stat -c %s | awk '{s += $1} END {printf "%.1f MiB travel (limit 64)\n", s / 1048576}'
}

step() { # NAME MOST_SECONDS [arguments]
  local name=$1 most=$(($2 * SLACK)) left=$((BUDGET - (SECONDS - START)))
  shift 2
  [ "$left" -lt 10 ] && { echo "== $name: no time left"; return; }
  [ "$most" -gt "$left" ] && most=$left
  echo "== $name (at $((SECONDS - START)) s, at most $most s)"
  timeout -k 5 "$most" "$PYTHON" -m benchmarks.gpu "$name" --device "$DEVICE" --out "$OUT" ${QUICK:+--quick} "$@" \
    >>"$OUT/log" 2>&1
  echo "   exit code $?"
  tail -n 3 "$OUT/log" | cut -c1-400
}

prepare() {
  export CUBLAS_WORKSPACE_CONFIG=:4096:8 PYTHONUNBUFFERED=1
  export PYTHONPATH="$PWD:$PWD/tests"
  mkdir -p "$OUT"
  [ "$DEVICE" = cpu ] && return
  [ -d manifests/weights ] || cp -r .accept manifests/weights || exit 1
  "$PYTHON" -c "import zarr, dask, typer" 2>/dev/null && return # an environment of the project's
  [ -e "$SITE/zarr" ] || "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --target "$SITE" .wheels/*.whl ||
    exit 9
  export PYTHONPATH="$SITE:$PYTHONPATH"
}

case "${1:-}" in
wheels) wheels ;;
pack) pack ;;
checks)
  BUDGET="${BUDGET:-$((310 * SLACK))}"
  prepare
  step machine 40
  step tests 80
  step paths 110
  step lanes 90
  step feeding 100
  step programs 120
  ;;
train)
  BUDGET="${BUDGET:-$((380 * SLACK))}"
  prepare
  step generator 375 ${TRAIN_SECONDS:+--seconds "$TRAIN_SECONDS"}
  ;;
*)
  echo "usage: accept.sh wheels | pack | checks | train (the head of this file says in which order)" >&2
  exit 2
  ;;
esac
case "$1" in checks | train) "$PYTHON" -m benchmarks.gpu summary --out "$OUT" && echo "took $((SECONDS - START)) s" ;; esac
