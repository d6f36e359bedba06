"""R, wrong in twenty ways."""

from tests.twenty.task import Task, differs, fails

DONE = "cat('done\\n')"

R: list[Task] = [
    fails("syntax", "cat('done\\n'", "unexpected end of input", "syntax error", right=DONE),
    fails("two on a line", "x <- 1 y <- 2\ncat(x, y, '\\n')", "unexpected symbol", "syntax error", right=DONE),
    fails("name", "result <- 1\ncat(reslut, '\\n')", "object 'reslut' not found", "not defined", right=DONE),
    fails("function", "pirnt('done')", 'could not find function "pirnt"', "not defined", right=DONE),
    fails(
        "library",
        "rows <- fread('a,b\\n1,2\\n')\ncat(rows$b, '\\n')",
        'could not find function "fread"',
        "Is a library() or a definition missing?",
        right="library(data.table)\nrows <- fread('a,b\\n1,2\\n')\ncat(rows$b, '\\n')",
    ),
    fails(
        "package",
        "library(frobnicate)\ncat('done\\n')",
        "there is no package called",
        "nothing can be installed",
        right=DONE,
    ),
    fails("type", "cat('1' + 1, '\\n')", "non-numeric argument to binary operator", right="cat(1 + 1, '\\n')"),
    fails(
        "missing value",
        "x <- c(1, NA)\nif (x[2] > 0) cat('done\\n')",
        "missing value where TRUE/FALSE needed",
        "is.na",
        right="x <- c(1, NA)\nif (is.na(x[2])) cat('done\\n')",
    ),
    differs(
        "NA in a mean",
        "cat(mean(c(1, NA, 3)), '\\n')",
        "NA",
        "2",
        right="cat(mean(c(1, NA, 3), na.rm = TRUE), '\\n')",
    ),
    fails(
        "index", "x <- list(1, 2)\ncat(x[[3]], '\\n')", "subscript out of bounds", "counts from 1", right=DONE
    ),
    differs(
        "index base",
        "x <- c(10, 20, 30)\ncat(x[0:1], '\\n')",
        "10",
        "10 20",
        right="x <- c(10, 20, 30)\ncat(x[1:2], '\\n')",
    ),
    differs(
        "factor",
        "x <- factor(c('10', '20'))\ncat(as.numeric(x), '\\n')",
        "1 2",
        "10 20",
        right="x <- factor(c('10', '20'))\ncat(as.numeric(as.character(x)), '\\n')",
    ),
    differs(
        "off by one", "n <- 4\ncat(sum(1:n-1), '\\n')", "6", "3", right="n <- 3\ncat(sum(1:(n - 1)), '\\n')"
    ),
    differs(
        "format", "print(c(1, 2, 3))", "[1] 1 2 3", "1 2 3", "Print with cat", right="cat(c(1, 2, 3), '\\n')"
    ),
    fails(
        "conversion",
        "x <- as.integer('1,5')\nstopifnot(!is.na(x))\ncat(x, '\\n')",
        "NAs introduced by coercion",
        "!is.na(x) is not TRUE",
        right=DONE,
    ),
    fails(
        "encoding",
        "x <- rawToChar(as.raw(c(0x67, 0xfc, 0x6e)))\ncat(nchar(x), '\\n')",
        "invalid multibyte string",
        "Name the encoding wherever bytes become text",
        right="cat(nchar('gün'), '\\n')",
    ),
    fails(
        "json",
        "x <- jsonlite::fromJSON(\"{'a': 1}\")\ncat(x$a, '\\n')",
        "lexical error",
        "JSON library",
        right="x <- jsonlite::fromJSON('{\"a\": 1}')\ncat(x$a, '\\n')",
    ),
    fails(
        "file",
        "rows <- read.csv('data.csv')\ncat(nrow(rows), '\\n')",
        "cannot open file 'data.csv'",
        "Only files that the task names exist",
        right=DONE,
    ),
    fails(
        "endless",
        "n <- 10\nwhile (n != 0) n <- n - 3\ncat('done\\n')",
        "Look for a loop that never ends",
        "it used up its CPU time",
        right=DONE,
        verdict="timeout",
        cpu_s=1,
    ),
    fails(
        "memory",
        "x <- list()\nwhile (TRUE) x[[length(x) + 1]] <- runif(1e6)",
        "chunks of at most 50,000 rows",
        "rm()",
        "128 MB of memory",
        right=DONE,
        verdict="out_of_memory",
        memory_mb=128,
    ),
]
