#!/usr/bin/env bash
# The real ftcot on a machine of the fake cloud: gs:// is the folder that stands for the buckets.
echo "$(ps -o pgid= -p $$)" >>"$FAKE_MACHINE/pids"
cd "$FAKE_CHECKOUT"
words=("$@")
words[1]=$OLDPWD/${words[1]}
exec "$FAKE_PYTHON" -c "from ftcot_jax.cli import main; main()" "${words[@]//gs:\/\//$FAKE_CLOUD/buckets/}"
