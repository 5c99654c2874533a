"""Make cases.json: what torch 2.13.0 takes of numbers among which many are equal, on the CPU:

    python tests/data/topk/make.py

A case a line: [k, sorted, the numbers, the places that torch.topk answers]."""
import json
import os

import torch

SHAPES = [(4, 2), (8, 2), (8, 4), (8, 8), (16, 1), (32, 4), (60, 4), (64, 1), (64, 8), (64, 33),
          (128, 2), (128, 8), (160, 6), (256, 4), (256, 8), (512, 8), (512, 10)]


def main():
    assert torch.__version__.startswith("2.13.0"), torch.__version__
    dice = torch.Generator().manual_seed(3)
    lines = []
    for n, k in SHAPES:
        for kinds in (1, 2, 5, n // 2):
            for is_sorted in (True, False):
                x = torch.randint(0, kinds, (n,), generator=dice)
                if kinds == 5 and is_sorted:
                    x = x.float()
                    x[n // 3] = float("nan")
                places = torch.topk(x.float(), k, sorted=is_sorted)[1].tolist()
                numbers = ["NaN" if v != v else int(v) for v in x.tolist()]
                lines.append(json.dumps([k, is_sorted, numbers, places], separators=(",", ":")))
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases.json"), "w") as f:
        f.write("[\n" + ",\n".join(lines) + "\n]\n")


main()
