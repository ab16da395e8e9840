"""What the readme shows runs as it stands there, from top to bottom, and says what it says."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_the_code_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    monkeypatch.chdir(tmp_path)  # where it writes its report and its cache
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 5
    names = {}
    exec(blocks[0], names)
    shown = re.findall(r"repeated: (\S+), right ones found: (\S+)", capsys.readouterr().out)
    said = re.findall(
        r"^wrong labels repeated: (\S+), right ones found: (\S+)",
        README.read_text(encoding="utf-8"),
        re.M,
    )
    for ours, theirs in zip(shown, said, strict=True):
        assert [float(value) for value in ours] == pytest.approx(
            [float(v) for v in theirs], abs=0.1
        )
    for block in blocks[1:]:
        exec(block, names)
    pyplot.close("all")
    assert Path("report.json").stat().st_size > 1000
    assert names["search"].best_params_["lr"] in (0.03, 0.05)
    assert names["unlearner"].score(names["X_test"], names["y_test"]) > 0.4
