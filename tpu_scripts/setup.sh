#!/usr/bin/env bash
# setup.sh [--dry-run] [--file PATH]... NAME RECIPE [section.key=value ...]
# Sends the job to the bucket and starts it on all workers of machines that are there already: they install the package
# from this checkout first, unless they have it. run.sh does this by itself, and watches.
source "$(dirname "${BASH_SOURCE[0]}")/library.sh"
parse_options "$@"
((${#words[@]} >= 2)) || { usage >&2 && exit 2; }
check_name "${words[0]}"
read_settings
check_region
send_bundle "${words[@]}"
on_workers "$(slice_of "${words[0]}")" "$(start_command "$(out_of "${words[0]}")/launch")"
