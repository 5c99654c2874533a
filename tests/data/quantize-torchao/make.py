"""Write torchao.txt: groups of floats, and the scales and whole numbers that torchao 0.18 (torch
2.13) makes of them.  A line: dtype, bits, the group as float32 bits, the scale's bits, numbers."""

import torch
from torchao.quantization.quant_primitives import MappingType, choose_qparams_affine, quantize_affine

N = 16
torch.manual_seed(1)
ramp = torch.linspace(-1, 1, N)
GROUPS = [
    torch.zeros(N), -torch.zeros(N), torch.randn(N), torch.randn(N) * 1e-3, torch.randn(N) * 30,
    torch.arange(N) - 8.0,                       # 8 / 7.5: numbers between
    (torch.arange(N) - 7.5) * 2,                 # all ties where the scale is 2
    torch.cat([torch.tensor([7.5, -7.5]), torch.arange(14) / 2 - 3]),   # scale 1, halves
    torch.cat([torch.tensor([127.5]), torch.arange(15) - 7.5]),
    torch.full((N,), 3.0), -torch.rand(N), torch.rand(N),
    ramp * 1e-39, ramp * 1e-44, ramp * 2e-38, ramp * 6e-5, ramp * 3e38,
    torch.where(torch.arange(N) == 3, float("inf"), ramp),
    torch.where(torch.arange(N) == 4, float("-inf"), ramp),
    torch.where(torch.arange(N) == 5, float("nan"), ramp),
    torch.where(torch.arange(N) == 15, -float("nan"), ramp),
]

with open(__file__.replace("make.py", "torchao.txt"), "w") as out:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for bits in (4, 8):
            low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
            x = torch.stack(GROUPS).to(dtype)
            scale, zero = choose_qparams_affine(
                x, MappingType.SYMMETRIC, (1, N), torch.int8, low, high,
                zero_point_dtype=torch.int8, keepdim=True)
            numbers = quantize_affine(x, (1, N), scale, zero, torch.int8, low, high)
            assert not zero.any()
            scale = torch.where(scale.isnan(), torch.tensor(float("nan"), dtype=dtype), scale)
            kind = torch.int32 if dtype is torch.float32 else torch.int16
            mask = 0xffffffff if dtype is torch.float32 else 0xffff
            for i in range(len(GROUPS)):
                words = [str(dtype).removeprefix("torch."), str(bits)]
                words += [f"{b & 0xffffffff:08x}" for b in x[i].float().view(torch.int32).tolist()]
                words += [f"{scale[i].view(kind).item() & mask:x}"]
                print(*words, *numbers[i].tolist(), file=out)
