"""By what interpreters and compilers print, which kind of failure it was. Pure data.

Patterns are searched for in this order, `^` and `$` at any line; the first that is found decides.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """What kind of failure it was, in words, and advice; either may be empty."""

    name: str
    advice: str = ""


Signs = tuple[tuple[str, Kind], ...]

_ENCODING = Kind(
    "an encoding error",
    "Name the encoding wherever bytes become text: UTF-8, and for CSV files utf-8-sig, which also takes a "
    "byte order mark. Never assume ASCII. Decode base64 strictly, and encode text as UTF-8 before encoding "
    "it as base64.",
)
_RECURSION = Kind(
    "recursion that is too deep",
    "Rewrite the recursion as a loop with a stack of its own. Only where the depth is known and moderate "
    "raise the recursion limit, in Python with sys.setrecursionlimit(10000).",
)
_MODULE = (
    "There is no network and nothing can be installed: use the standard library or what is said to be there."
)
_FILE = Kind(
    "a file that cannot be used",
    "Only files that the task names exist, and those that the program makes itself in its working folder.",
)
_JSON = Kind(
    "text that is not JSON",
    "Write JSON with the language's JSON library only, one document, with nothing printed beside it.",
)
_COMMONJS = (
    "Write CommonJS only: write require, never import or export, and put what awaits into "
    "async function main() { … }, called once at the end."
)
_ARITHMETIC = (
    "Bash counts in whole numbers: awk or bc has fractions. A number that begins with 0 is octal: write "
    "$((10#$n)). Look for values that are empty or 0."
)
_QUOTE = 'Quote every variable: "$name", "$@".'
_BORROW = (
    "Lend a reference instead of giving the value away, clone it, or let the first borrow end before the "
    "second begins."
)

PYTHON: Signs = (
    (r"^\s*(?:IndentationError|TabError|SyntaxError):", Kind("syntax error: the program did not start")),
    (r"^AssertionError", Kind("a failed assertion")),
    (r"^(?:ModuleNotFoundError|ImportError):", Kind("an import that is not there", _MODULE)),
    (r"^NameError:", Kind("a name that is not defined", "Is an import or a definition missing?")),
    (r"^Unicode\w*Error:|^binascii\.Error:", _ENCODING),
    (r"^(?:json\.decoder\.)?JSONDecodeError:", _JSON),
    (r"^RecursionError:", _RECURSION),
    (r"^MemoryError", Kind("a failed allocation of memory")),
    (r"^FileNotFoundError:|^PermissionError:", _FILE),
    (
        r"^EOFError:",
        Kind("no input", "Standard input holds only what the task gives, which may be nothing."),
    ),
    (r"^[\w.]*(?:Error|Exception|Warning|Interrupt|Exit)\b", Kind("an exception that nobody caught")),
)

JAVASCRIPT: Signs = (
    (
        r"Cannot use import statement|in ES module scope|intended module format|Unexpected token 'export'",
        Kind("import and require in one program", _COMMONJS),
    ),
    (r"await is only valid", Kind("await outside of an async function", _COMMONJS)),
    # Node shows the line that failed, so what stands in a program must not decide.
    (r"^ +at JSON\.\w+ |in JSON at position|is not valid JSON|JSON input|circular structure to JSON", _JSON),
    (r"^SyntaxError:", Kind("syntax error: the program did not start")),
    (r"AssertionError", Kind("a failed assertion")),
    (r"Cannot find (?:module|package)", Kind("a module that is not there", _MODULE)),
    (
        r"^(?:Uncaught )?ReferenceError:",
        Kind("a name that is not defined", "Is a require or a definition missing?"),
    ),
    (r"Maximum call stack size", _RECURSION),
    (r"JavaScript heap out of memory|Invalid (?:string|array) length", Kind("not enough memory")),
    (r"ERR_ENCODING|ERR_INVALID_CHAR|URI malformed|InvalidCharacterError", _ENCODING),
    (r"\b(?:ENOENT|EACCES|EROFS)\b", _FILE),
    (
        r"UnhandledPromiseRejection|ERR_UNHANDLED_REJECTION",
        Kind("a promise that was rejected and that nobody caught", "Catch it, or do not let it be rejected."),
    ),
    (
        r"Cannot read properties of (?:undefined|null)",
        Kind(
            "a value that is not there", "Is a name misspelt, a promise not awaited, a search without result?"
        ),
    ),
    (r"^\s*(?:Uncaught )?\w*Error\b", Kind("an exception that nobody caught")),
)

BASH: Signs = (
    (
        r"division by 0|value too great for base|integer expression|invalid arithmetic|arithmetic syntax",
        Kind("arithmetic that cannot be done", _ARITHMETIC),
    ),
    (r"syntax error|unexpected EOF", Kind("syntax error")),
    (
        r"line \d+: \[+[^ ].*: command not found|missing `\]",
        Kind("brackets without spaces", "[ and ] are words of their own: put spaces around both."),
    ),
    (
        r"command not found",
        Kind("a command that is not there", f"{_MODULE} An assignment has no spaces around its =."),
    ),
    (
        r"unbound variable|bad substitution",
        Kind("a variable that is not set", "Set it first; write ${name:-} where it may be missing."),
    ),
    (
        r"too many arguments|(?:binary|unary) operator expected|ambiguous redirect",
        Kind("a variable that became several words, or none", _QUOTE),
    ),
    (r"illegal input sequence|[Ii]nvalid (?:or incomplete )?multibyte|cannot convert", _ENCODING),
    (r"^jq: (?:parse )?error", _JSON),
    (
        r"No such file or directory|Permission denied|Read-only file system|Is a directory",
        Kind(_FILE.name, f"{_FILE.advice} {_QUOTE}"),
    ),
)

R: Signs = (
    (r"unexpected (?:symbol|end of input|string|numeric|'|INCOMPLETE|input)", Kind("syntax error")),
    (r"there is no package called", Kind("a package that is not there", _MODULE)),
    (
        r"object '.*' not found|could not find function",
        Kind("a name that is not defined", "Is a library() or a definition missing?"),
    ),
    (r"invalid multibyte|input string \d+ is invalid|embedded nul|invalid UTF-8", _ENCODING),
    (r"lexical error|parse error:|json text", _JSON),
    (
        r"missing value where TRUE/FALSE needed|argument is of length zero",
        Kind(
            "a condition that is NA or empty",
            "Ask is.na() or length() first; sums and means take na.rm = TRUE.",
        ),
    ),
    (
        r"subscript out of bounds|undefined columns selected|incorrect number of dimensions",
        Kind("an index that is not there", "R counts from 1; look at length(), dim() and names()."),
    ),
    (r"is not TRUE|are not all TRUE", Kind("a failed assertion")),
    (
        r"non-numeric argument|NAs introduced by coercion|not meaningful for factors|invalid 'type'",
        Kind(
            "a value of the wrong type",
            "Convert text with as.numeric, a factor with as.numeric(as.character(x)); read columns with the "
            "types they have.",
        ),
    ),
    (r"cannot allocate", Kind("not enough memory")),
    (r"infinite recursion|node stack overflow|C stack usage|nested too deeply", _RECURSION),
    (r"cannot open (?:the connection|file)", _FILE),
    (r"^Error\b", Kind("an error that nobody caught")),
)

RUST: Signs = (
    (
        r"^error.*(?:unresolved import|(?:undeclared|unresolved|unlinked) (?:crate|module)|can't find crate)",
        Kind("a compiler error: a crate or module that is not there", f"{_MODULE} Only std is there."),
    ),
    (
        r"^error.*(?:undeclared type|cannot find (?:\w+ )+`|no \w+ named)",
        Kind(
            "a compiler error: a name that is not defined",
            "Is a use or a definition missing? The compiler's help often says which.",
        ),
    ),
    (
        r"^error\[E0(?:373|382|499|502|503|505|506|507|515|597|716)\]",
        Kind("a compiler error: ownership and borrowing", _BORROW),
    ),
    (
        r"^error\[E0(?:384|594|596)\]",
        Kind("a compiler error: something that is not mutable is changed", "Declare it with mut."),
    ),
    (r"^error(?:\[E\d+\])?:", Kind("a compiler error: the program did not start")),
    (r"overflowed its stack", _RECURSION),
    (r"memory allocation of \d+ bytes failed|capacity overflow", Kind("not enough memory")),
    (r"assertion .*failed", Kind("a failed assertion")),
    (r"Utf8Error|valid UTF-8|invalid utf-8", _ENCODING),
    (r"\bNotFound\b|PermissionDenied|ReadOnlyFilesystem", _FILE),
    (
        r"panicked at",
        Kind("a panic", "Deal with what is None, an Err or out of range instead of unwrapping it."),
    ),
    (r"^Error:", Kind("an error that main returned")),
)

STDERR: dict[str, Signs] = {
    "python": PYTHON,
    "javascript": JAVASCRIPT,
    "bash": BASH,
    "r": R,
    "rust": RUST,
}

#: In the output of a program that printed something else than it should: what it did instead.
STDOUT: dict[str, Signs] = {
    "python": (
        (
            r"<(?:generator|map|filter|zip|function|coroutine|bound method|class|[\w.]+ object)\b.*>",
            Kind("it printed an object, not what is in it", "Print its values: join them, or call it."),
        ),
    ),
    "javascript": (
        (
            r"Promise \{",
            Kind("it printed a promise, not its value", "Wait for the promise before printing."),
        ),
        (
            r"\[object \w+\]|\[(?:Array|Object)\]",
            Kind("it printed an object, not what is in it", "Print objects with JSON.stringify."),
        ),
    ),
    "bash": (
        (r"\\[nt]", Kind("it printed an escape as it is", "Write with printf, which knows \\n and \\t.")),
    ),
    "r": (
        (
            r"^ *\[\d+\] ",
            Kind("it printed as the console does", "Print with cat: print adds [1], quotes and padding."),
        ),
        (r"\bNA\b", Kind("it printed NA", "Leave missing values out: na.rm = TRUE, or na.omit().")),
    ),
}
