#!/usr/bin/env bash
# create.sh [--dry-run] [--yes] NAME
# Asks for the machines of run NAME, as one queued resource: FTCOT_TPU_SLICES slices of FTCOT_TPU_TYPE. Says what they
# cost and asks first. Returns at once; status.sh shows when they are there. run.sh does this by itself.
source "$(dirname "${BASH_SOURCE[0]}")/library.sh"
parse_options "$@"
((${#words[@]} == 1)) || { usage >&2 && exit 2; }
check_name "${words[0]}"
read_settings
check_region
confirm_cost "$slices"
create_slice "${words[0]}" || die 1 "not created; try again later"
