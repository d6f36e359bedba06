# ruff: noqa: E501 (programs are as long as they are)
"""What is peculiar to each language, in real cells."""

from domain.states import Verdict
from tests.integration.cells import Run
from tests.integration.sandboxes import STANDARD
from tests.unit.test_cell_files import Kept
from worker.sandbox.running import Input

# JavaScript


def test_modules_by_content(run: Run) -> None:
    decision, ending = run(
        "javascript",
        "import fs from 'node:fs';\nconsole.log(import.meta.url, typeof require, await Promise.resolve(5))",
    )
    assert (decision.verdict, ending.stdout) == (Verdict.OK, b"file:///work/main.js undefined 5\n")


def test_sort_of_100_000_objects(run: Run) -> None:
    decision, ending = run(
        "javascript",
        "let s = 1; const rows = Array.from({length: 100000}, (_, i) => ({id: i, key: (s = s * 16807 % 2147483647)}));\n"
        "rows.sort((a, b) => a.key - b.key || a.id - b.id);\n"
        "console.log(rows.length, rows.every((r, i) => !i || rows[i - 1].key <= r.key))",
    )
    assert (decision.verdict, ending.stdout) == (Verdict.OK, b"100000 true\n")


def test_a_heap_may_use_the_memory(run: Run) -> None:
    """Node's own limit, half of the container's, does not come first."""
    decision, ending = run(
        "javascript",
        "const a = []; for (let i = 0; i < 38; i++) a.push(new Array(1e6).fill(i + 0.5)); console.log(a.length)",
    )
    assert (decision.verdict, ending.stdout) == (Verdict.OK, b"38\n"), ending.stderr


# Bash


def test_pipeline(run: Run) -> None:
    code = "seq 1 10000 | awk '{ s += $1 } END { print s }'; echo '{\"a\": [1, 2]}' | jq -c '.a | map(. * 2)'\n"
    code += "printf 'b\\na\\nb\\n' | sort | uniq -c | sort -rn | head -1 | sed 's/^ *//'; set -o pipefail; false | cat"
    decision, ending = run("bash", code)
    assert (decision.exit_code, ending.stdout) == (1, b"50005000\n[2,4]\n2 b\n")


# R


def test_regression_with_its_own_graphics_file(run: Run) -> None:
    decision, ending = run(
        "r",
        "fit <- lm(mpg ~ wt, mtcars); cat(round(coef(fit), 3), '\\n')\n"
        "png('fit.png'); plot(mpg ~ wt, mtcars); abline(fit); invisible(dev.off())\n"
        "plot(1:3)\n"
        "cat(readBin('fit.png', 'raw', 4), '\\n'); cat(sort(dir()), '\\n'); cat(file.size('fit.png') > 1000, '\\n')",
    )
    assert decision.verdict is Verdict.OK, ending.stderr
    assert ending.stdout == b"37.285 -5.344 \n89 50 4e 47 \nfit.png main.R Rplots.pdf \nTRUE \n"


def test_recommended_packages(run: Run) -> None:
    code = "for (p in c('MASS', 'Matrix', 'nlme', 'survival', 'mgcv', 'data.table', 'jsonlite'))\n"
    code += "  suppressMessages(library(p, character.only = TRUE)); cat(as.character(toJSON(1:2)), '\\n')"
    _, ending = run("r", code)
    assert ending.stdout == b"[1,2] \n", ending.stderr


# Rust


def test_compile_error(run: Run) -> None:
    decision, ending = run("rust", 'fn main() { let x: i32 = "a"; }')
    assert (decision.verdict, decision.exit_code) == (Verdict.COMPILE_ERROR, 1)
    assert b"mismatched types" in ending.stderr
    assert ending.stdout == b""


def test_what_does_not_compile_leaves_nothing(run: Run) -> None:
    sink = Kept()
    given = [Input("a.rs", lambda: [b"fn a() {"])]
    code = "mod a;\nfn main() {}"
    decision, ending = run("rust", code, files=given, collect=STANDARD.files, sink=sink)
    assert (decision.verdict, sink.files, ending.left_out) == (Verdict.COMPILE_ERROR, {}, {})


def test_a_program_written_anew_is_a_file_it_leaves(run: Run) -> None:
    sink = Kept()
    code = 'fn main() { std::fs::remove_file("main").unwrap(); std::fs::write("main", "new").unwrap(); }'
    _, ending = run("rust", code, collect=STANDARD.files, sink=sink)
    assert (ending.status, sink.files) == (0, {"main": b"new"})


def test_warnings_are_not_the_programs_output(run: Run) -> None:
    decision, ending = run("rust", 'fn main() { let unused = 1; println!("x"); }')
    assert (decision.verdict, ending.stdout, ending.stderr) == (Verdict.OK, b"x\n", b"")
    assert ending.compile_s is not None
    assert ending.compile_s > ending.wall_s


#: A thousand generic functions that each need all before: minutes for any compiler.
ENDLESS = "trait T { const N: u128; }\nstruct S<const I: u128>;\n" + "\n".join(
    f"fn f{i}(x: [u64; {i + 1}]) -> u64 {{ let mut s = 0; " + "s ^= x[0].wrapping_mul(31); " * 400 + "s }"
    for i in range(2000)
)


def test_a_compiler_without_end(run: Run) -> None:
    code = (
        ENDLESS
        + '\nfn main() { println!("{}", 0'
        + "".join(f" + f{i}([1; {i + 1}])" for i in range(2000))
        + "); }"
    )
    decision, ending = run("rust", code, limits={"compile_s": 1})
    assert (decision.verdict, ending.compile_s) == (Verdict.TIMEOUT, None)
    assert decision.reason is not None
    assert "compile_s" in decision.reason


def test_a_compiler_without_memory(run: Run) -> None:
    code = 'static A: [u8; 1 << 29] = [1; 1 << 29];\nfn main() { println!("{}", A[std::env::args().count()]); }'
    decision, _ = run("rust", code, limits={"memory_mb": 128})
    assert decision.verdict is Verdict.OUT_OF_MEMORY
    assert decision.reason is not None
    assert "compiler" in decision.reason


def test_the_program_has_its_own_time(run: Run) -> None:
    """A limit of one second for the run is not used up by the compiler."""
    code = "fn main() { std::thread::sleep(std::time::Duration::from_millis(700)); }"
    decision, _ = run("rust", code, limits={"timeout_s": 1})
    assert decision.verdict is Verdict.OK
