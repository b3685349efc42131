"""Stands in for ``vllm run-batch``: reads a batch file, writes results in vLLM's form, keeps a count of what it did.

Usage: local_runner.py INPUT OUTPUT COUNT_FILE [--die-after ROWS] [--slow SECONDS] [--refuse CUSTOM_ID] [--think]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("count", type=Path)
    parser.add_argument("--die-after", type=int)
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--refuse")
    parser.add_argument("--think", action="store_true")
    args = parser.parse_args()
    with args.output.open("w") as output:
        for place, text in enumerate(args.input.read_text().splitlines()):
            row = json.loads(text)
            if place == args.die_after and "-s1" in row["custom_id"]:
                output.write('{"id": "half a row')
                sys.exit("out of memory")
            time.sleep(args.slow)
            with args.count.open("a") as count:
                count.write(row["custom_id"] + "\n")
            output.write(
                json.dumps(refused(row) if row["custom_id"] == args.refuse else answered(row, args.think)) + "\n"
            )
            output.flush()


def answered(row: dict[str, Any], think: bool) -> dict[str, Any]:
    body = row["body"]
    prompt = body["messages"][0]["content"] if "messages" in body else body["prompt"]
    choices = []
    for choice in range(body["n"]):
        content = f"text {body['seed'] + choice} of {len(prompt)}"
        message = {"role": "assistant", "content": content, "reasoning": None}
        if think:  # of every other sample the limit cuts the answer off
            message = {"content": None if choice % 2 else content, "reasoning": f"hm {choice}"}
        choices.append({"index": choice, "text": content, "message": message, "finish_reason": "stop"})
    usage = {"prompt_tokens": 3, "completion_tokens": 2 * body["n"]}
    response = {"status_code": 200, "request_id": "r", "body": {"choices": choices, "usage": usage}}
    return {"id": "vllm-1", "custom_id": row["custom_id"], "response": response, "error": None}


def refused(row: dict[str, Any]) -> dict[str, Any]:
    """As vLLM 0.32 words it: no body, the error one level down."""
    error = {"error": {"message": "longer than the model's context", "type": "BadRequestError", "code": 400}}
    response = {"status_code": 400, "request_id": "r", "body": None}
    return {"id": "vllm-1", "custom_id": row["custom_id"], "response": response, "error": error}


if __name__ == "__main__":
    main()
