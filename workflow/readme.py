"""The README's first screen, computed from a saved report: its verdict and the headline figure.

python -m workflow.readme reports/sberbank_sample
"""

import json
import sys
from pathlib import Path

from lib.storage import ROOT, write_atomic
from study.headline import PANELS, headline, verdict_sentences
from study.report import load_rows
from workflow.pages import filled

START, END = "<!-- made by `python -m workflow.readme`, do not edit -->", "<!-- end of what is made -->"
FIGURE = "figures/headline.svg"
ALT = "ROC-AUC of the models with intervals; time and memory of one attention layer against length"


def write(study: Path, root: Path = ROOT) -> None:
    """Draw the headline figure and put the verdict between the README's marks. Raises ValueError unless it has both."""
    readme, place = root / "README.md", study.resolve().relative_to(root).as_posix()
    before, after = readme.read_text(encoding="utf-8").split(START)
    _, after = after.split(END)
    rows = load_rows(study.name, reports=study.parent)
    record = json.loads((study / "provenance.json").read_text(encoding="utf-8"))
    write_atomic(study / FIGURE, headline(rows, [*PANELS], "headline", ALT))
    given = {"verdict": verdict_sentences(rows, record), "data": record["data"]}
    text = filled("readme.md.j2", place=place, figure=FIGURE, alt=ALT, **given)
    write_atomic(readme, f"{before}{START}\n{text}\n{END}{after}")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
