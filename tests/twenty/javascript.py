"""JavaScript, wrong in twenty ways."""

from tests.twenty.task import Task, differs, fails, tested

DONE = "console.log('done');"

JAVASCRIPT: list[Task] = [
    fails(
        "syntax", "console.log('done';", "SyntaxError: missing ) after argument list", "main.js:1", right=DONE
    ),
    fails("name", "const done = 'done';\nconsole.log(dnoe);", "dnoe is not defined", "main.js:2", right=DONE),
    fails(
        "constant",
        "const n = 1;\nn += 1;\nconsole.log(n);",
        "Assignment to constant variable",
        "main.js:2",
        right="let n = 1;\nn += 1;\nconsole.log(n);",
    ),
    fails(
        "type",
        "const job = {};\nconsole.log(job.result.length);",
        "Cannot read properties of undefined (reading 'length')",
        "main.js:2",
        right=DONE,
    ),
    fails("not a function", "console.log([1, 2].first());", "[1,2].first is not a function", right=DONE),
    fails("big number", "console.log(2n ** 64n + 1);", "Cannot mix BigInt and other types", right=DONE),
    fails(
        "package",
        "const _ = require('lodash');\nconsole.log(_.sum([1, 2]));",
        "Cannot find module 'lodash'",
        "nothing can be installed",
        right="console.log([1, 2].reduce((a, b) => a + b));",
    ),
    fails(
        "require",
        "console.log(fs.existsSync('main.js'));",
        "ReferenceError: fs is not defined",
        "Is a require or a definition missing?",
        right="const fs = require('fs');\nconsole.log(fs.existsSync('main.js'));",
    ),
    fails(
        "module",
        "import os from 'os';\nconst fs = require('fs');\nconsole.log(os.EOL, fs.sep);",
        "require is not defined in ES module scope",
        "Write CommonJS only",
        right="const fs = require('fs');\nconsole.log(fs.existsSync('main.js'));",
    ),
    fails(
        "await",
        "function main() {\n  const done = await Promise.resolve('done');\n  console.log(done);\n}\nmain();",
        "await is only valid in async functions",
        "async function main()",
        right="async function main() {\n  console.log(await Promise.resolve('done'));\n}\nmain();",
    ),
    differs(
        "not awaited",
        "const get = async () => 'done';\nconsole.log(get());",
        "Promise { 'done' }",
        "done",
        "Wait for the promise before printing",
        right="const get = async () => 'done';\nget().then((text) => console.log(text));",
    ),
    fails(
        "rejection",
        "async function main() { throw 'no rows'; }\nmain();",
        'rejected with the reason "no rows"',
        "nobody caught",
        right=DONE,
    ),
    fails(
        "json",
        "console.log(JSON.parse(\"{'a': 1}\").a);",
        "Expected property name or '}' in JSON at position 1",
        "JSON library",
        right="console.log(JSON.parse('{\"a\": 1}').a);",
    ),
    fails(
        "encoding",
        "const bytes = Buffer.from([0x67, 0xfc, 0x6e]);\n"
        "console.log(new TextDecoder('utf-8', { fatal: true }).decode(bytes));",
        "The encoded data was not valid for encoding utf-8",
        "Name the encoding wherever bytes become text",
        right="console.log(Buffer.from('gün', 'utf8').toString('utf8'));",
    ),
    fails(
        "file",
        "const fs = require('fs');\nconsole.log(fs.readFileSync('data.csv', 'utf8'));",
        "no such file or directory, open 'data.csv'",
        "Only files that the task names exist",
        right=DONE,
    ),
    fails("exit", "console.log('half');\nprocess.exit(3);", "exit code 3", "half", right=DONE),
    differs(
        "off by one",
        "let sum = 0;\nfor (let i = 1; i < 10; i++) sum += i;\nconsole.log(sum);",
        "45",
        "55",
        right="let sum = 0;\nfor (let i = 1; i <= 10; i++) sum += i;\nconsole.log(sum);",
    ),
    fails(
        "endless",
        "let n = 10;\nwhile (n !== 0) n -= 3;\nconsole.log('done');",
        "Look for a loop that never ends",
        "5 s of wall time",
        right=DONE,
        verdict="timeout",
        timeout_s=5,
    ),
    fails(
        "memory",
        "const rows = [];\nfor (let i = 0; i < 1e8; i++) rows.push([i, i + 0.5]);\nconsole.log(rows.length);",
        "chunks of at most 50,000 rows",
        "stream instead of reading whole files",
        "64 MB of memory",
        right=DONE,
        verdict="out_of_memory",
        memory_mb=64,
    ),
    tested(
        "tests",
        "function ordered(numbers) {\n  return [...numbers].sort();\n}",
        "const assert = require('assert');\nassert.deepStrictEqual(ordered([10, 9, 1]), [1, 9, 10]);",
        "tests.js:2",
        "a failed assertion",
        right="function ordered(numbers) {\n  return [...numbers].sort((a, b) => a - b);\n}",
    ),
]
