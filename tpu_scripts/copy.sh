#!/usr/bin/env bash
# copy.sh [--dry-run] NAME PART DIR
# Copies a part of run NAME's output from the bucket to DIR: report, logs, tensorboard, artifacts, or . for everything.
# What is there already and unchanged is not copied again.
source "$(dirname "${BASH_SOURCE[0]}")/library.sh"
parse_options "$@"
((${#words[@]} == 3)) || { usage >&2 && exit 2; }
check_name "${words[0]}"
read_settings
part=${words[1]%/}
[[ $part =~ ^[A-Za-z0-9._/-]+$ && $part != *..* ]] || die 2 "'$part' is no part of an output folder"
call mkdir -p "${words[2]}"
from=$(out_of "${words[0]}")
[[ $part == . ]] || from+=/$part
call gcloud storage rsync --recursive "$from" "${words[2]}" "--project=$FTCOT_TPU_PROJECT"
