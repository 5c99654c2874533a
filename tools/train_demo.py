#!/usr/bin/env python3
"""Train the bundled model: a byte-level Llama of under 1 MB.

usage: train_demo.py [--out DIR] [--steps N]

Makes its own text (facts of this project, sums, capitals, opposites, orders), trains a
small LlamaForCausalLM on it and writes a Hugging Face checkpoint directory: config.json,
generation_config.json, model.safetensors (bfloat16), tokenizer.json, tokenizer_config.json.
Needs torch, transformers and tokenizers; a few minutes on one core.  The same versions
and the same machine give the same weights.

How text becomes ids: a token is a byte, its id is the byte's value (UTF-8); 256 ends a
text, 257 pads.  tokenizer.json says so in the usual words: a BPE of no merges over the
256 symbols of ByteLevel, which `tokenizers` and transformers' AutoTokenizer load."""

import argparse
import json
import math
import pathlib
import random
import time

END, PAD, VOCAB = 256, 257, 258
SEQ = 192  # bytes a training row
CONTEXT = 256  # max_position_embeddings

NUMBERS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen "
           "fourteen fifteen sixteen seventeen eighteen nineteen twenty").split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = ("January February March April May June July August September October "
          "November December").split()
CAPITALS = {
    "Austria": "Vienna", "Belgium": "Brussels", "Canada": "Ottawa", "Chile": "Santiago",
    "China": "Beijing", "Cuba": "Havana", "Denmark": "Copenhagen", "Egypt": "Cairo",
    "Finland": "Helsinki", "France": "Paris", "Germany": "Berlin", "Greece": "Athens",
    "Hungary": "Budapest", "Iceland": "Reykjavik", "India": "New Delhi", "Ireland": "Dublin",
    "Italy": "Rome", "Japan": "Tokyo", "Kenya": "Nairobi", "Mexico": "Mexico City",
    "Norway": "Oslo", "Peru": "Lima", "Poland": "Warsaw", "Portugal": "Lisbon",
    "Spain": "Madrid", "Sweden": "Stockholm", "Turkey": "Ankara", "Ukraine": "Kyiv"}
OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "old": "new", "up": "down",
    "early": "late", "full": "empty", "light": "dark", "open": "closed", "dry": "wet",
    "hard": "soft", "long": "short", "high": "low", "loud": "quiet", "rich": "poor",
    "read": "write", "first": "last", "true": "false", "start": "stop", "left": "right"}
COLOURS = {"grass": "green", "the sky": "blue", "snow": "white", "coal": "black",
           "a lemon": "yellow", "a carrot": "orange", "blood": "red", "chocolate": "brown"}

# What this project is, a question and its answer; each answer stands alone too.
FACTS = [
    ("What is pt2d?",
     "pt2d is a small daemon that exports language models and steps them token by token."),
    ("What does pt2d write?",
     "pt2d writes a program: the graph of the model and its weights, in one file."),
    ("What is a program?",
     "A program is a file that holds the graph of a model and all of its weights."),
    ("What is a checkpoint?",
     "A checkpoint is a folder with the weights of a model and a file that describes them."),
    ("What is an export?",
     "An export turns a checkpoint into a program that runs without Python."),
    ("What is a token step?",
     "A token step reads one token, writes its keys and values to the cache, and answers with "
     "logits."),
    ("What is a session?",
     "A session is a program with a static cache of its own."),
    ("What is a static cache?",
     "A static cache has room for a fixed number of positions, and never grows."),
    ("What is a logit?",
     "A logit says how much the model likes a token; the best logit wins."),
    ("What is a position?",
     "A position is the place of a token in the cache, counted from zero."),
    ("What is a fork?",
     "A fork starts a new session from the cache of another one."),
    ("What is a rewind?",
     "A rewind takes a session back to an earlier position; what came later is overwritten."),
    ("What is a token?",
     "A token is a piece of text. For this model a token is one byte."),
    ("What are you?",
     "I am a very small model. I know a few facts, and I read one byte at a time."),
    ("Who are you?",
     "I am a very small model. I know a few facts, and I read one byte at a time."),
    ("How big are you?",
     "I am less than one megabyte, and I was trained in a few minutes."),
    ("How are you?", "I am fine, thank you. Every step so far went well."),
    ("Can you think?", "No. I only guess the next byte, again and again."),
    ("Is Python needed?",
     "No. Python is not needed to export a model, and not needed to run it."),
    ("Why export a model?",
     "An exported model runs anywhere, and always gives the same answer."),
]
HELLOS = ["Hello", "Hi", "Hello there", "Good morning", "Good day"]
TALES = [
    "Once upon a time a model had a cache with room for {n} tokens. It filled it, one step at "
    "a time, and then it rested.",
    "Once upon a time a small daemon lived on a small machine. Each day it stepped {n} "
    "sessions, and none of them ever waited long.",
]


def upper(s):
    return s[0].upper() + s[1:]


def say_sum(r):
    a, b = r.randrange(10), r.randrange(10)
    if r.random() < 0.3:
        a, b = max(a, b), min(a, b)
        return r.choice([f"{a} - {b} = {a - b}.",
                         f"{upper(NUMBERS[a])} minus {NUMBERS[b]} is {NUMBERS[a - b]}."])
    return r.choice([f"{a} + {b} = {a + b}.",
                     f"{upper(NUMBERS[a])} plus {NUMBERS[b]} is {NUMBERS[a + b]}."])


def say_order(r):
    kind = r.randrange(3)
    if kind == 0:
        n = r.randrange(3, 11)
        return f"Count to {NUMBERS[n]}: " + ", ".join(NUMBERS[1:n + 1]) + "."
    names, unit = (DAYS, "day") if kind == 1 else (MONTHS, "month")
    i = r.randrange(len(names))
    j = (i + 1) % len(names)
    return r.choice([f"After {names[i]} comes {names[j]}.",
                     f"The {unit} after {names[i]} is {names[j]}."])


def say_fact(r):
    kind = r.randrange(3)
    if kind == 0:
        land = r.choice(list(CAPITALS))
        return r.choice([f"The capital of {land} is {CAPITALS[land]}.",
                         f"{CAPITALS[land]} is the capital of {land}."])
    if kind == 1:
        a, b = r.choice(list(OPPOSITES.items()))
        if r.random() < 0.5:
            a, b = b, a
        return f"The opposite of {a} is {b}."
    thing = r.choice(list(COLOURS))
    return r.choice([f"{upper(thing)} is {COLOURS[thing]}.",
                     f"The colour of {thing} is {COLOURS[thing]}."])


def say(r):
    """One text, as it would stand between two ends."""
    x = r.random()
    if x < 0.22:
        return say_sum(r)
    if x < 0.34:
        return say_order(r)
    if x < 0.56:
        return say_fact(r)
    if x < 0.59:
        return r.choice(TALES).format(n=r.choice([8, 16, 64, 100, 256]))
    if x < 0.63:
        return f"{r.choice(HELLOS)}! " + "I am a very small model. Ask me what pt2d is."
    question, answer = r.choice(FACTS)
    if x < 0.82:
        return answer
    return f"Question: {question}\nAnswer: {answer}"


def row(r):
    """Texts one after another, each followed by END, cut at SEQ + 1 ids."""
    ids = []
    while len(ids) < SEQ + 1:
        ids += say(r).encode()
        ids.append(END)
    return ids[:SEQ + 1]


def byte_symbols():
    """The printable character that ByteLevel shows for each byte (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols, extra = {}, 0
    for b in range(256):
        if b in plain:
            symbols[b] = chr(b)
        else:
            symbols[b] = chr(256 + extra)
            extra += 1
    return symbols


def write_tokenizer(out):
    special = [{"id": i, "content": text, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": True}
               for i, text in ((END, "<|end|>"), (PAD, "<|pad|>"))]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": False}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {c: b for b, c in byte_symbols().items()}, "merges": []}}
    (out / "tokenizer.json").write_text(
        json.dumps(tokenizer, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (out / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|end|>",
         "eos_token": "<|end|>", "pad_token": "<|pad|>", "model_max_length": CONTEXT,
         "clean_up_tokenization_spaces": False}, indent=1) + "\n")


def train(steps, batch, peak):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(2)
    r = random.Random(2)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCAB, hidden_size=96, intermediate_size=256, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=24,
        max_position_embeddings=CONTEXT, rms_norm_eps=1e-5, rope_theta=10000.0,
        tie_word_embeddings=True, bos_token_id=END, eos_token_id=END, pad_token_id=PAD,
        initializer_range=0.05))
    opt = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.97),
                            weight_decay=0.05)
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    began = time.monotonic()
    for step in range(steps):
        warm = min(1.0, (step + 1) / 50)
        rate = peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in opt.param_groups:
            group["lr"] = rate
        ids = torch.tensor([row(r) for _ in range(batch)])
        logits = model(input_ids=ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB),
                                                 ids[:, 1:].reshape(-1))
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step} loss {loss.item():.4f} {time.monotonic() - began:.0f} s",
                  flush=True)
    return model.to(torch.bfloat16)


def show(out):
    """What the written checkpoint says, greedily."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.encode("pt2d é") == list("pt2d é".encode())
    for prompt in ("Question: What is pt2d?\nAnswer:", "pt2d is", "A token step", "Hello",
                   "Question: What are you?\nAnswer:", "The capital of France is",
                   "Two plus three is", "7 + 5 =", "Count to six:", "The opposite of hot",
                   "Once upon a time", "After Friday comes"):
        ids = tokenizer(prompt, return_tensors="pt")
        said = model.generate(**ids, max_new_tokens=120, do_sample=False)
        print(repr(tokenizer.decode(said[0], skip_special_tokens=True)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = pathlib.Path(__file__).resolve().parent.parent / "share/models/demo"
    parser.add_argument("--out", type=pathlib.Path, default=default)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--peak", type=float, default=4e-3)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = train(args.steps, args.batch, args.peak)
    model.save_pretrained(args.out)
    write_tokenizer(args.out)
    size = sum(f.stat().st_size for f in args.out.iterdir())
    print(f"{size} bytes in {args.out}")
    assert size <= 1_000_000
    show(args.out)


if __name__ == "__main__":
    main()
