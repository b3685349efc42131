#!/usr/bin/env bash
# stop.sh [--dry-run] NAME
# Asks the job of run NAME to save and end (exit code 42) on all workers. The machines stay, and cost; delete.sh ends them.
source "$(dirname "${BASH_SOURCE[0]}")/library.sh"
parse_options "$@"
((${#words[@]} == 1)) || { usage >&2 && exit 2; }
check_name "${words[0]}"
read_settings
on_workers "$(slice_of "${words[0]}")" "$(worker_command stop)"
