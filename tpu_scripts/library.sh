# shellcheck shell=bash
# Sourced by every script here: strict mode, a scratch folder that goes away, and the parts, one idea a file.
set -euo pipefail
((BASH_VERSINFO[0] >= 5)) || { echo "tpu_scripts: bash 5 or newer is needed, this is $BASH_VERSION" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scratch=$(mktemp -d)
touch "$scratch/error"
trap 'rm -rf "$scratch"' EXIT
for part in say options settings price region slice workers bundle; do
  # shellcheck source=/dev/null
  source "$here/lib/$part.sh"
done
