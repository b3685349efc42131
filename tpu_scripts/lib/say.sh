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

# call_within SECONDS COMMAND...: the same, ended with all it has started when it takes longer. Waited for from the
# background, so that a signal to the script is not kept waiting; a start that is under way then goes on to its end.
call_within() {
  local seconds=$1 code=0 child
  shift
  if [[ ${DRY_RUN:-} ]]; then
    quoted "$@"
    return
  fi
  timeout --kill-after=10 "$seconds" "$@" </dev/null 6>&- 7>&- &
  child=$!
  # shellcheck disable=SC2064  # a part of the script whose output is read has no trap of its own
  [[ $BASHPID == "$$" ]] || trap "kill $child; exit 143" INT TERM
  wait "$child" || code=$?
  [[ $code != 124 && $code != 137 ]] || echo "ERROR: no end after $seconds seconds" >&2
  return $code
}
