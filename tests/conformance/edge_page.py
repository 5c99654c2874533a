"""The commands and the lines of Python in doc/edge.md, as they are written there."""

import pathlib
import re
import shlex

PAGE = pathlib.Path(__file__).resolve().parents[2] / "doc/edge.md"
PROGRAM, LOWERED = "smollm2.pt2", "smollm2.pte"  # what the page calls them
CHECKPOINT = "SmolLM2-135M-Instruct"


def block(word):
    """The one block of Python that has the word in it."""
    found = [text for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
             if word in text]
    assert len(found) == 1, f"{len(found)} blocks of {PAGE.name} with {word}"
    return found[0]


def lowering():
    """From PROGRAM to LOWERED, and the files of extra/, in the working directory."""
    return block("to_edge_transform_and_lower")


def commands(word):
    """The commands of the page's shell blocks that begin with the word, as lists."""
    text = "".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.S))
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.split()[:1] == [word]]
