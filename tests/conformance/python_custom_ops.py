"""A model of Transformers with ExecuTorch's own cache and attention, as optimum-executorch and
ExecuTorch's examples put them there: caches (batch, positions, heads, head_dim), which each
layer writes at cache_position[0].item(), shown and read transposed."""

import torch
import transformers
from executorch.extension.llm.custom_ops import custom_ops
from transformers.masking_utils import AttentionMaskInterface

assert custom_ops  # it registers the ops


class KVCache(torch.nn.Module):
    def __init__(self, length, n_heads, head_dim):
        super().__init__()
        self.register_buffer("k_cache", torch.zeros(1, length, n_heads, head_dim))
        self.register_buffer("v_cache", torch.zeros(1, length, n_heads, head_dim))

    def update(self, position, k, v):
        start = position[0].item()
        torch._check(start >= 0)
        torch._check(start + k.shape[2] <= self.k_cache.shape[1])
        torch.ops.llama.update_cache(k.transpose(1, 2), self.k_cache, start)
        torch.ops.llama.update_cache(v.transpose(1, 2), self.v_cache, start)
        return self.k_cache.transpose(1, 2), self.v_cache.transpose(1, 2)


class Cache(transformers.StaticCache):
    def __init__(self, config, length, layers, position):
        super().__init__(config=config, max_cache_len=length)
        self.own, self.position = layers, position

    def update(self, k, v, layer_idx, *args, **more):
        return self.own[layer_idx].update(self.position, k, v)

    def get_seq_length(self, layer_idx=0):
        return 0


def attention(module, query, key, value, mask, scaling, **more):
    start = Model.position[0].item()
    torch._check(start >= 0)
    out = torch.ops.llama.custom_sdpa(
        query.transpose(1, 2).contiguous(), key.transpose(1, 2), value.transpose(1, 2), start, None,
        0.0, True, scale=scaling)
    return out, None


transformers.AttentionInterface.register("custom_sdpa", attention)
AttentionMaskInterface.register("custom_sdpa", lambda *args, **more: None)


class Model(torch.nn.Module):
    position = None  # of the call under way: attention is told of no cache_position

    def __init__(self, folder, length):
        super().__init__()
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="custom_sdpa").eval()
        config, self.length = self.model.config, length
        self.caches = torch.nn.ModuleList(
            KVCache(length, config.num_key_value_heads, self.model.model.layers[0].self_attn.head_dim)
            for _ in range(config.num_hidden_layers))

    def forward(self, input_ids, cache_position):
        Model.position = cache_position
        cache = Cache(self.model.config, self.length, self.caches, cache_position)
        return self.model(input_ids=input_ids, position_ids=cache_position[None],
                          past_key_values=cache, use_cache=True).logits


def export(folder, path, length=32, dynamic=False):
    n = 3 if dynamic else 1
    s = torch.export.Dim("s", min=1, max=length - 1)
    args = dict(input_ids=torch.ones(1, n, dtype=torch.long), cache_position=torch.arange(n))
    with torch.no_grad():
        program = torch.export.export(
            Model(folder, length), (), args, strict=False,
            dynamic_shapes={"input_ids": {1: s}, "cache_position": {0: s}} if dynamic else None)
    torch.export.save(program, str(path))
    return program
