#!/bin/sh
# Makes the peers' environments, one folder each under DIR, from the package index:
#   benchmarks/peers/environment.sh DIR [trl] [vllm] [easydel]       (all of them without names; PYTHON=python3.11)
# Then: python -m benchmarks.peers --peers DIR ...
set -eu
here=$(dirname "$0")
out=$1
shift
[ $# -gt 0 ] || set -- trl vllm easydel
for peer in "$@"; do
  "${PYTHON:-python3.11}" -m venv "$out/$peer"
  "$out/$peer/bin/python" -m pip install -q -r "$here/requirements-$peer.txt"
done
# What vLLM's dependencies bring for pictures and sound is built for other versions of PyTorch, and fails at import.
if [ -x "$out/vllm/bin/python" ]; then
  "$out/vllm/bin/python" -m pip uninstall -q -y torchvision torchaudio torchcodec
fi
