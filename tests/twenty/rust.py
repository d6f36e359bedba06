"""Rust, wrong in twenty ways: most are found by the compiler, the others only by running."""

from tests.twenty.task import Task, differs, fails

DONE = 'fn main() {\n    println!("done");\n}'


def _refused(name: str, wrong: str, *needs: str, right: str = DONE) -> Task:
    """A program that does not compile."""
    return fails(name, wrong, *needs, right=right, verdict="compile_error")


RUST: list[Task] = [
    _refused("semicolon", 'fn main() {\n    let n = 1\n    println!("{n}");\n}', "expected `;`", "main.rs:2"),
    _refused("brace", 'fn main() {\n    println!("done");', "this file contains an unclosed delimiter"),
    _refused(
        "name", 'fn main() {\n    println!("{}", dnoe);\n}', "E0425", "cannot find value `dnoe`", "main.rs:2"
    ),
    _refused(
        "type",
        'fn main() {\n    let n: i32 = "1";\n    println!("{n}");\n}',
        "E0308",
        "expected `i32`, found `&str`",
        "main.rs:2",
    ),
    _refused(
        "return type",
        'fn double(n: i32) -> i32 {\n    n * 2;\n}\nfn main() {\n    println!("{}", double(2));\n}',
        "E0308",
        "remove this semicolon to return this value",
    ),
    _refused(
        "use",
        "fn main() {\n    let mut seen = HashMap::new();\n    seen.insert(1, 2);\n"
        '    println!("{}", seen[&1]);\n}',
        "use of undeclared type `HashMap`",
        "use std::collections::HashMap;",
    ),
    _refused(
        "crate",
        'use rand::Rng;\nfn main() {\n    println!("{}", rand::thread_rng().gen::<u8>());\n}',
        "unresolved import `rand`",
        "nothing can be installed",
    ),
    _refused(
        "move",
        'fn main() {\n    let a = String::from("done");\n    let b = a;\n    println!("{a}{b}");\n}',
        "E0382",
        "borrow of moved value: `a`",
        "value moved here",
    ),
    _refused(
        "borrow",
        "fn main() {\n    let mut v = vec![1];\n    let first = &v[0];\n    v.push(2);\n"
        '    println!("{first}");\n}',
        "E0502",
        "cannot borrow `v` as mutable because it is also borrowed as immutable",
    ),
    _refused(
        "not mutable",
        'fn main() {\n    let n = 1;\n    n += 1;\n    println!("{n}");\n}',
        "E0384",
        "cannot assign twice to immutable variable",
        "mut n",
    ),
    _refused(
        "lifetime",
        "fn longer(a: &str, b: &str) -> &str {\n    if a.len() > b.len() { a } else { b }\n}\n"
        'fn main() {\n    println!("{}", longer("a", "done"));\n}',
        "missing lifetime specifier",
        "<'a>",
    ),
    _refused(
        "trait",
        'struct Point(i32, i32);\nfn main() {\n    println!("{}", Point(1, 2));\n}',
        "`Point` doesn't implement `std::fmt::Display`",
    ),
    _refused(
        "match",
        "fn main() {\n    let n: Option<i32> = Some(1);\n    match n {\n"
        '        Some(n) => println!("{n}"),\n    }\n}',
        "non-exhaustive patterns: `None` not covered",
    ),
    _refused("method", 'fn main() {\n    println!("{}", "a".uppercase());\n}', "no method named `uppercase`"),
    fails(
        "index",
        "fn main() {\n    let v: Vec<i32> = (0..3).collect();\n    let at = v.len();\n"
        '    println!("{}", v[at]);\n}',
        "index out of bounds: the len is 3 but the index is 3",
        "main.rs:4",
        "a panic",
        right=DONE,
    ),
    fails(
        "parse",
        'fn main() {\n    let n: i32 = "1.5".parse().unwrap();\n    println!("{n}");\n}',
        "ParseIntError",
        "main.rs:2",
        right=DONE,
    ),
    fails(
        "result",
        'use std::fs::File;\nfn main() -> std::io::Result<()> {\n    File::open("data.csv")?;\n    Ok(())\n}',
        "No such file or directory",
        "Only files that the task names exist",
        right=DONE,
    ),
    fails(
        "recursion",
        "fn depth(n: u64) -> u64 {\n    let rows = std::hint::black_box([n; 64]);\n"
        "    depth(n + 1) + rows[0]\n}\n"
        'fn main() {\n    println!("{}", depth(0));\n}',
        "has overflowed its stack",
        "a loop with a stack of its own",
        right=DONE,
        verdict="signalled",
    ),
    differs(
        "overflow",
        "fn main() {\n    let mut sum: u8 = 0;\n    for n in 0..25u8 {\n        sum = sum + n;\n"
        '    }\n    println!("{sum}");\n}',
        "44",
        "300",
        right='fn main() {\n    let sum: u32 = (0..25u32).sum();\n    println!("{sum}");\n}',
    ),
    fails(
        "endless",
        "fn main() {\n    let mut n = std::env::args().count() as i64;\n    while n > 0 {\n"
        '        n = if n > 5 { 1 } else { n + 1 };\n    }\n    println!("done");\n}',
        "Look for a loop that never ends",
        "5 s of wall time",
        right=DONE,
        verdict="timeout",
        timeout_s=5,
    ),
]
