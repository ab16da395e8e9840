"""What the readme shows runs as it stands there, and says what it says."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_the_code_of_the_readme_runs(capsys):
    text = README.read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    exec(block, {})
    pattern = r"^wrong labels repeated: (\S+), right ones found: (\S+)$"
    shown = re.findall(pattern, capsys.readouterr().out, re.M)
    said = re.findall(pattern, text, re.M)
    assert len(said) == 2
    for ours, theirs in zip(shown, said, strict=True):
        assert [float(value) for value in ours] == pytest.approx(
            [float(v) for v in theirs], abs=0.1
        )
