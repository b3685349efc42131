#!/usr/bin/env bash
# delete.sh [--dry-run] NAME...
# Ends the machines of the runs, whatever state they are in. What is in the bucket stays: run.sh goes on from it.
source "$(dirname "${BASH_SOURCE[0]}")/library.sh"
parse_options "$@"
((${#words[@]} >= 1)) || { usage >&2 && exit 2; }
for name in "${words[@]}"; do check_name "$name"; done
read_settings
failed=''
for name in "${words[@]}"; do delete_slice "$name" || failed=1; done
[[ ! $failed ]] || die 1 "some machines may still be there and cost money; status.sh lists them"
