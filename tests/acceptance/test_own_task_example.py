"""The example of docs/your-own-task.md measures what it learned on points that it has not seen."""

from __future__ import annotations

import re
import subprocess
import sys

from conftest import ROOT


def test_the_splits_have_no_point_in_common() -> None:
    page = (ROOT / "docs" / "your-own-task.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python file=my_task\.py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    program += """
data_sets = [Points(split, 100) for split in ("train", "val", "test")]
splits = [[tuple(points.load(i, None)[0].tolist()) for i in range(100)] for points in data_sets]
print(len(set().union(*splits)), *(sum(x * y > 0 for x, y in points) for points in splits))
"""
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    different, *positive = map(int, printed.split())
    assert different == 300
    assert all(30 < number < 70 for number in positive)
