#!/usr/bin/env bash
# The real ftcot on a machine of the fake cloud: gs:// is the folder that stands for the buckets.
echo "$(ps -o pgid= -p $$)" >>"$FAKE_MACHINE/pids"
export PYTHONPATH=$FAKE_CHECKOUT
exec "$FAKE_PYTHON" -c "from ftcot_jax.cli import main; main()" "${@//gs:\/\//$FAKE_CLOUD/buckets/}"
