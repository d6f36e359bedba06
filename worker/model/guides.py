"""What prompts say of each language: its title, its fences, what is particular to it, what is there."""

from dataclasses import dataclass
from functools import cache

from domain.languages import Language, load_languages, split_wish


@dataclass(frozen=True, slots=True)
class Guide:
    """What a prompt says of a language.

    Attributes:
        tag: what its fences say.
        testing: how tests reach the program.
    """

    title: str
    tag: str
    notes: str
    testing: str


_PYTHON = "numpy, pandas, scipy, matplotlib, seaborn, scikit-learn, sympy, pillow, openpyxl"
_PYTHON_EXTENDED = (
    f"{_PYTHON}, beautifulsoup4, lxml, networkx, numba, plotly, polars, pyyaml, statsmodels, tabulate"
)
_R = "data.table, jsonlite, and those that R recommends (MASS, Matrix, nlme, survival and others)"

#: What a program may use beside its language's own, by image.
PACKAGES = {
    "python": _PYTHON,
    "python-3.12": _PYTHON,
    "python-extended": _PYTHON_EXTENDED,
    "machine-learning": f"{_PYTHON_EXTENDED}, tensorflow",
    "bash": "bc, bzip2, file, gawk, jq, procps, time, unzip, xxd, xz-utils, zip",
    "r": _R,
    "r-extended": "dplyr, e1071, ggplot2, glmnet, lme4, lubridate, purrr, randomForest, readr, stringr, tidyr, "
    f"xts, zoo, {_R}",
}


GUIDES: dict[str, Guide] = {
    "python": Guide(
        "Python",
        "python",
        "Begin with every import that is used. Open text files with encoding='utf-8', CSV files with "
        "encoding='utf-8-sig'. Draw with matplotlib's Agg backend and save figures as files in the working "
        "folder.",
        "in the same namespace after the program, so define what they use at the top level",
    ),
    "javascript": Guide(
        "JavaScript (Node.js, CommonJS)",
        "javascript",
        "Begin with every require that is used; write CommonJS, not ES modules. There are no packages beside "
        "Node's own modules. Read and write files as 'utf8'. Wait for every promise, and do not call "
        "process.exit.",
        "in the same scope after the program, so define what they use at the top level",
    ),
    "bash": Guide(
        "Bash",
        "bash",
        "Begin with set -eu. Quote every variable. Use only what a small Debian system has: coreutils, grep, "
        "sed, awk.",
        "in the same shell after the program, so define what they use as functions and do not call exit at "
        "its end",
    ),
    "r": Guide(
        "R",
        "r",
        "Begin with every library() that is used; where unsure use base R. Read text with encoding = "
        "'UTF-8'. Print with cat or print, save plots with png() and dev.off(). Do not call quit.",
        "in the global environment after the program, so define what they use there",
    ),
    "rust": Guide(
        "Rust (edition 2021)",
        "rust",
        "Write one file with fn main. There are no crates beside the standard library.",
        "in the same module as the program after main has run, so define what they use at the top level",
    ),
}


def guide_of(language: str) -> Guide:
    """What a prompt says of a language, also of one that is not listed; a version wished for is no matter."""
    name, _ = split_wish(language)
    return GUIDES.get(name, Guide(name, name, "", "after the program"))


def title_of(language: str) -> str:
    """The language's title, with the version that a job wishes for."""
    guide, (_, wish) = guide_of(language), split_wish(language)
    return f"{guide.title} {wish}" if wish and wish[0].isdigit() else guide.title


def there(language: str, profile: str) -> str:
    """What a program may use beside its language's own; empty where that is nothing."""
    name, wish = split_wish(language)
    known = _languages().get(name)
    chosen = known.choose(wish, profile) if known else None
    return PACKAGES.get(chosen.image, "") if chosen else ""


@cache
def _languages() -> dict[str, Language]:
    return load_languages()
