from __future__ import annotations

from .cells import cells, runnable

NOTEBOOK = """# Title
```python id="a"
!pip install 'finetuner[full]'
import finetuner
```
prose
```bash
INFO done
```
```python tags=[]
for entry in run.stream_logs():
    print(entry)
```
```python id="empty"

```
"""
PAGE = """Fine-tuning#

From now on, all the action happens in the cloud! First you need to login to Jina ecosystem:

import finetuner
finetuner.login()

run = finetuner.fit(
    model='openai/clip-vit-base-patch32',
    cpu=False,
)

Monitoring#

We created a run! Now let's see its status.

print(run.status())
{'status': 'CREATED', 'details': 'Run submitted and awaits execution'}

Saving#
average_precision 0.25 0.41

run.save_artifact('clip-model')

That's it!"""


def test_fenced_cells_without_the_empty_one() -> None:
    found = cells(NOTEBOOK)
    assert len(found) == 2
    assert runnable(found[0]) == "import finetuner"
    assert found[1].startswith("for entry")


def test_code_in_plain_text() -> None:
    found = [cell.strip() for cell in cells(PAGE)]
    assert found[0].startswith("import finetuner\nfinetuner.login()")
    joined = "\n".join(found)
    assert "run = finetuner.fit(" in joined
    assert "print(run.status())" in joined
    assert found[-1] == "run.save_artifact('clip-model')"
    assert "CREATED" not in joined
    assert "average_precision" not in joined
