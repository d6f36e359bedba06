# ruff: noqa: E501 (programs are as long as they are)
"""The same small programs in every language, for tests and benchmarks."""

from collections.abc import Mapping
from dataclasses import dataclass

#: What each of these programs does. A program that is missing makes no sense in its language.
#:
#: - hello: prints `hello`
#: - stdin: prints what it reads, in capitals
#: - args: prints each of its arguments on a line
#: - env: prints the variable A
#: - exit: ends with 7
#: - signal: sends itself SIGTERM and waits
#: - uncaught: fails with an error that nobody catches, whose text has `oh no`
#: - large: writes 200,000 times `0123456789` and no line end
#: - endless: computes for ever
#: - memory: takes memory without end
#: - utf8: prints `äß→𝄞`
#: - file: writes `kept` to a file in its work folder, and prints what it reads from there
#: - leave: leaves a file in the work folder, one in /tmp, and a process behind
#: - look: prints how many files it finds in both
#: - outer: runs the Python program in the variable PROBE, for looking at a sandbox from inside


@dataclass(frozen=True, slots=True)
class Spoken:
    """A language: its image, what its program is called, and the programs."""

    image: str
    file: str
    programs: Mapping[str, str]
    compiled: bool = False


PYTHON = Spoken(
    "python",
    "main.py",
    {
        "copy": "import os; os.mkdir('out'); open('out/b', 'w').write(open('in/a').read() + 'b')",
        "hello": "print('hello')",
        "stdin": "import sys; print(sys.stdin.read().upper(), end='')",
        "args": "import sys\nfor a in sys.argv[1:]: print(a)",
        "env": "import os; print(os.environ['A'])",
        "exit": "raise SystemExit(7)",
        "signal": "import os, time; os.kill(os.getpid(), 15); time.sleep(9)",
        "uncaught": "raise ValueError('oh no')",
        "large": "import sys\nfor _ in range(200000): sys.stdout.write('0123456789')",
        "endless": "while True: pass",
        "memory": "x = []\nwhile True: x.append(bytearray(1 << 20))",
        "utf8": "print('äß→𝄞')",
        "file": "open('f', 'w').write('kept'); print(open('/work/f').read())",
        "leave": "import subprocess\nopen('left', 'w'); open('/tmp/left', 'w')\nsubprocess.Popen(['sleep', '99'])",
        "look": "import os\nprint(len(os.listdir('/work')) - 1, len(os.listdir('/tmp')))",
        "outer": "import os; exec(os.environ['PROBE'])",
    },
)

JAVASCRIPT = Spoken(
    "javascript",
    "main.js",
    {
        "copy": "const fs = require('fs'); fs.mkdirSync('out');"
        " fs.writeFileSync('out/b', fs.readFileSync('in/a', 'utf8') + 'b')",
        "hello": "console.log('hello')",
        "stdin": "process.stdout.write(require('fs').readFileSync(0, 'utf8').toUpperCase())",
        "args": "for (const a of process.argv.slice(2)) console.log(a)",
        "env": "console.log(process.env.A)",
        "exit": "process.exit(7)",
        "signal": "process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 9000)",
        "uncaught": "throw new Error('oh no')",
        "large": "for (let i = 0; i < 200000; i++) process.stdout.write('0123456789')",
        "endless": "for (;;) {}",
        "memory": "const a = []; for (;;) a.push(new Array(1e5).fill(a.length + 0.5))",
        "utf8": "console.log('äß→𝄞')",
        "file": "const fs = require('fs'); fs.writeFileSync('f', 'kept');"
        " console.log(fs.readFileSync('/work/f', 'utf8'))",
        "leave": "const fs = require('fs'); fs.writeFileSync('left', ''); fs.writeFileSync('/tmp/left', '');\n"
        "require('child_process').spawn('sleep', ['99'], {detached: true, stdio: 'ignore'}).unref()",
        "look": "const fs = require('fs');"
        " console.log(fs.readdirSync('/work').length - 1, fs.readdirSync('/tmp').length)",
        "outer": "require('child_process').execFileSync('python3', ['-c', process.env.PROBE], {stdio: 'inherit'})",
    },
)

BASH = Spoken(
    "bash",
    "main.sh",
    {
        "copy": "mkdir out; { cat in/a; echo -n b; } > out/b",
        "hello": "echo hello",
        "stdin": r"sed 's/.*/\U&/'",
        "args": 'for a; do printf "%s\\n" "$a"; done',
        "env": 'echo "$A"',
        "exit": "exit 7",
        "signal": "kill -TERM $$; sleep 9",
        "uncaught": "set -u; echo ${oh_no:?oh no}",
        "large": "for i in {1..200000}; do printf 0123456789; done",
        "endless": "while :; do :; done",
        "memory": 'x=0123456789; while :; do x="$x$x"; done',
        "utf8": "echo äß→𝄞",
        "file": "echo kept > f; cat /work/f",
        "leave": "touch left /tmp/left; setsid sleep 99 &",
        "look": "cd /work; set -- *; echo -n $(( $# - 1 )) ''; ls -A /tmp | wc -l",
        "outer": 'exec python3 -c "$PROBE"',
    },
)

R = Spoken(
    "r",
    "main.R",
    {
        "copy": "dir.create('out'); cat(readLines('in/a', warn = FALSE), 'b', sep = '', file = 'out/b')",
        "hello": "cat('hello\\n')",
        "stdin": "cat(toupper(readLines(file('stdin'))), sep = '\\n')",
        "args": "writeLines(commandArgs(TRUE))",
        "env": "cat(Sys.getenv('A'), '\\n', sep = '')",
        "exit": "quit(status = 7)",
        "signal": "tools::pskill(Sys.getpid(), 15); Sys.sleep(9)",
        "uncaught": "stop('oh no')",
        "large": "for (i in 1:20000) cat(strrep('0123456789', 10))",
        "endless": "while (TRUE) {}",
        "memory": "x <- list(); while (TRUE) x[[length(x) + 1]] <- runif(1e6)",
        "utf8": "cat('äß→𝄞\\n')",
        "file": "writeLines('kept', 'f'); cat(readLines('/work/f'), '\\n', sep = '')",
        "leave": "file.create('left', '/tmp/left'); system('setsid sleep 99 &')",
        "look": "cat(length(dir('/work', all.files = TRUE, no.. = TRUE)) - 1,"
        " sum(!startsWith(dir('/tmp', all.files = TRUE, no.. = TRUE), 'Rtmp')), '\\n')",
        # Without the program's own file, which R hands on to what it starts.
        "outer": "invisible(system2('python3', c('-c', shQuote(Sys.getenv('PROBE')), '3<&-', '4<&-')))",
    },
)

RUST = Spoken(
    "rust",
    "main.rs",
    {
        "copy": 'use std::fs::*;\nfn main() { create_dir("out").unwrap();'
        ' write("out/b", read_to_string("in/a").unwrap() + "b").unwrap(); }',
        "hello": 'fn main() { println!("hello"); }',
        "stdin": 'fn main() { print!("{}", std::io::read_to_string(std::io::stdin()).unwrap().to_uppercase()); }',
        "args": 'fn main() { for a in std::env::args().skip(1) { println!("{a}"); } }',
        "env": 'fn main() { println!("{}", std::env::var("A").unwrap()); }',
        "exit": "fn main() { std::process::exit(7); }",
        "signal": 'extern "C" { fn raise(n: i32) -> i32; }\nfn main() { unsafe { raise(15); } loop {} }',
        "uncaught": 'fn main() { panic!("oh no"); }',
        "large": 'fn main() { for _ in 0..200000 { print!("0123456789"); } }',
        "endless": "fn main() { loop { std::hint::spin_loop(); } }",
        "memory": "fn main() { let mut v = vec![]; loop { v.push(vec![1u8; 1 << 20]); } }",
        "utf8": 'fn main() { println!("äß→𝄞"); }',
        "file": 'fn main() { std::fs::write("f", "kept").unwrap();'
        ' println!("{}", std::fs::read_to_string("/work/f").unwrap()); }',
        "leave": 'use std::{fs::write, process::Command};\nfn main() { write("left", "").unwrap();'
        ' write("/tmp/left", "").unwrap(); Command::new("sleep").arg("99").spawn().unwrap(); }',
        # Source and program are there, too.
        "look": "fn n(p: &str) -> usize { std::fs::read_dir(p).unwrap().count() }\n"
        'fn main() { println!("{} {}", n("/work") - 2, n("/tmp")); }',
        "outer": "use std::os::unix::process::CommandExt;\n"
        'fn main() { let probe = std::env::var("PROBE").unwrap();\n'
        '    panic!("{}", std::process::Command::new("python3").arg("-c").arg(probe).exec()); }',
    },
    compiled=True,
)

LANGUAGES = {"python": PYTHON, "javascript": JAVASCRIPT, "bash": BASH, "r": R, "rust": RUST}
