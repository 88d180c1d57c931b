"""The README's first screen, computed from a saved report: its verdict and the headline figure.

python -m workflow.readme reports/sberbank_sample
"""

import json
import re
import sys
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt

from lib.paths import ROOT
from lib.storage import write_atomic
from study.headline import headline_figure, verdict_sentences
from study.report import load_rows, named_svg, use_style
from workflow.pages import filled

START, END = "<!-- made by `python -m workflow.readme`, do not edit -->", "<!-- end of what is made -->"
FIGURE = Path("figures") / "headline.svg"
ALT = "ROC-AUC of the models with intervals; time and memory of one attention layer against length"


def markdown(text: str) -> str:
    """The text as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", escape(text, quote=False))


def write(study: Path, root: Path = ROOT) -> None:
    """Draw the headline figure and put the verdict between the README's marks. Raises ValueError unless it has both."""
    readme, place = root / "README.md", study.resolve().relative_to(root).as_posix()
    before, after = readme.read_text(encoding="utf-8").split(START)
    _, after = after.split(END)
    rows = load_rows(study.name, reports=study.parent)
    record = json.loads((study / "provenance.json").read_text(encoding="utf-8"))
    with plt.rc_context():
        use_style()
        fig = headline_figure(rows)
        write_atomic(study / FIGURE, named_svg(fig, FIGURE.stem, ALT))
        plt.close(fig)
    verdict = {name: markdown(sentence) for name, sentence in verdict_sentences(rows, record).items()}
    given = {"verdict": verdict, "data": record["data"], "place": place, "figure": FIGURE.as_posix(), "alt": ALT}
    write_atomic(readme, f"{before}{START}\n{filled('readme.md.j2', **given)}\n{END}{after}")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
