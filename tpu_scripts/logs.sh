#!/usr/bin/env bash
# logs.sh [--dry-run] NAME [WORKER] [LINES]
# The end of a worker's log (worker 0, 50 lines). When the machines are gone: copy.sh NAME logs DIR.
source "$(dirname "${BASH_SOURCE[0]}")/library.sh"
parse_options "$@"
((${#words[@]} >= 1 && ${#words[@]} <= 3)) || { usage >&2 && exit 2; }
check_name "${words[0]}"
worker=${words[1]:-0} lines=${words[2]:-50}
[[ $worker =~ ^[0-9]+$ && $lines =~ ^[0-9]+$ ]] || die 2 "logs.sh NAME WORKER LINES: the last two are numbers"
read_settings
on_workers "$(slice_of "${words[0]}")" "$(worker_command "log $lines")" "$worker"
