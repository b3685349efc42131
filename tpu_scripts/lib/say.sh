# shellcheck shell=bash
# What is said goes to stderr; stdout is for the commands of a dry run and for what was asked for.

say() { printf '%s\n' "$*" >&2; }

# die CODE MESSAGE: one clear line, and the exit code of ftcot: 1 failed, 2 bad usage.
die() {
  local code=$1
  shift
  printf 'tpu_scripts: %s\n' "$*" >&2
  exit "$code"
}

# One command line that a shell reads back as exactly these words.
quoted() {
  local word line=
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word=${word@Q}
    line+="${line:+ }$word"
  done
  printf '%s\n' "$line"
}

# Runs a command that changes something; a dry run prints it instead.
call() {
  if [[ ${DRY_RUN:-} ]]; then
    quoted "$@"
  else
    "$@" 7>&- # run.sh's lock is run.sh's alone
  fi
}
