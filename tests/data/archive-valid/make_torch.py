#!/usr/bin/env python3
"""Write torch.pt2, an archive as Python writes it: a parameter, a persistent and a
non-persistent buffer, one of them transposed.  Made with torch 2.13.0 (CPU).

usage: python make_torch.py OUT.pt2
"""
import sys, torch


class M(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.l = torch.nn.Linear(4, 4)
        self.l.weight.data.copy_(torch.arange(16.).view(4, 4))
        self.l.bias.data.copy_(torch.arange(4.))
        self.register_buffer("c", torch.zeros(2, 3), persistent=False)
        self.register_buffer("d", torch.arange(6.).view(2, 3).t())

    def forward(self, x):
        return self.l(x) + self.c.sum() + self.d.sum()


torch.export.save(torch.export.export(M(), (torch.ones(2, 4),)), sys.argv[1], extra_files={"foo.txt": "hello"})
