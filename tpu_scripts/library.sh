# shellcheck shell=bash
# Sourced by every script here: strict mode, a scratch folder that goes away, and the parts, one idea a file.
set -euo pipefail
((BASH_VERSINFO[0] >= 5)) || { echo "tpu_scripts: bash 5 or newer is needed, this is $BASH_VERSION" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scratch=$(mktemp -d)
touch "$scratch/error"
trap 'rm -rf "$scratch"' EXIT
source "$here/lib/say.sh"
source "$here/lib/options.sh"
source "$here/lib/settings.sh"
source "$here/lib/price.sh"
source "$here/lib/region.sh"
source "$here/lib/slice.sh"
source "$here/lib/workers.sh"
source "$here/lib/bundle.sh"
