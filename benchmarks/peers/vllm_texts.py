"""vLLM's generation of the given texts: `python -m benchmarks.peers.vllm_texts FOLDER`, in the environment ``vllm``.

Greedy, float32, the end token ignored, each text of its own length, 32 texts at a time as ours. Without prefix caching:
the same prompts come again at every turn, which no evaluation has.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.peers.answering import Texts, answer_texts, claim_stdout
from benchmarks.peers.work import STUDENT, GivenWork

ROWS = 32


def main() -> None:
    answers, folder = claim_stdout(), Path(sys.argv[1])
    os.environ |= {
        "VLLM_CPU_KVCACHE_SPACE": "4",  # GB; 32 texts of 1024 tokens of GPT-2 take 2.4
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process, whose peak memory is read
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",  # all cores compute, as in the other programs
        "OMP_NUM_THREADS": str(os.cpu_count()),
        "HF_HUB_OFFLINE": "1",
    }
    import vllm

    work = GivenWork.read(folder)
    model = vllm.LLM(
        str(folder / STUDENT), dtype="float32", max_model_len=1024, max_num_seqs=ROWS, enable_prefix_caching=False
    )
    prompts = [{"prompt_token_ids": prompt} for prompt in work.prompts]
    asked = [
        vllm.SamplingParams(temperature=0, ignore_eos=True, max_tokens=length, detokenize=False)
        for length in work.lengths
    ]

    def write() -> Texts:
        return [list(done.outputs[0].token_ids) for done in model.generate(prompts, asked, use_tqdm=False)]

    answer_texts(answers, {"program": f"vLLM {vllm.__version__}"}, folder, "vllm", write)


if __name__ == "__main__":
    main()
