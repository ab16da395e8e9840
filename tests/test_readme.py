"""What the readme and the front page show runs as it stands there, and says what it says."""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("page", "block"),
    [
        ("README.md", r"^```python\n(.*?)^```"),
        ("docs/index.rst", r"^\.\. code-block:: python\n\n(.*?)^(?=\S)"),
    ],
)
def test_the_code_of_the_first_page_runs(page, block, capsys):
    text = (ROOT / page).read_text(encoding="utf-8")
    (code,) = re.findall(block, text, re.M | re.S)
    exec(textwrap.dedent(code), {})
    pattern = r"^ *wrong labels repeated: (\S+), right ones found: (\S+)$"
    shown = re.findall(pattern, capsys.readouterr().out, re.M)
    said = re.findall(pattern, text, re.M)
    assert len(said) == 2
    for ours, theirs in zip(shown, said, strict=True):
        assert [float(value) for value in ours] == pytest.approx(
            [float(v) for v in theirs], abs=0.1
        )
