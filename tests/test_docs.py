"""What the guides show is run."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def test_truncated_backpropagation_in_ten_lines(capsys):
    [code] = re.findall(r"```python\n(.*?)```", (DOCS / "truncated_backpropagation.md").read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    losses = names["history"].history["loss"]
    assert losses[0] > 1.0
    assert losses[-1] < 0.2  # the sentence is known by heart


@pytest.mark.parametrize("guide", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_every_file_that_a_guide_points_to_is_there(guide):
    text = guide.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (guide.parent / target).exists(), target
    for path in re.findall(r"\b(?:apps|shared|tests|tools)/[\w/]+\.py", text):
        assert (DOCS.parent / path).exists(), path
