"""For each task whose check is tests, what makes its right program nearly right. The tests must refuse it."""

WRONG: dict[str, list[tuple[str, str]]] = {
    "quicksort": [
        ("import random\n", ""),  # as it was published
        ("quicksort(low) + same + quicksort(high)", "low + same + high"),
    ],
    "fibonacci": [("n if n < 2", "1 if n < 2")],
    "clean-records": [('.replace(",", "")', "")],
    "regression": [("polyfit(x, y, 1)", "polyfit(y, x, 1)")],
    "hypothesis-test": [("equal_var=False", "equal_var=True")],
    "monte-carlo": [("default_rng(seed)", "default_rng(1)")],
    "panels": [("title=name, ", ""), ('savefig("panels.png", dpi=100)', 'savefig("panels.png", dpi=20)')],
    "styled-bars": [("ax.legend()", "pass"), ("x + offset for", "x for")],
    "binary-search": [("items[middle] < x", "items[middle] <= x")],
    "shortest-path": [("(length + more, count", "(length + 1, count")],
    "linear-system": [("linalg.solve(a, b)", "linalg.solve(a.T, b)")],
    "fft": [("signal - signal.mean()", "signal")],
    "ode": [("[1.0, 0.0]", "[1.0, 0.1]")],
    "pivot-10000": [('"sum"', '"mean"'), ("fill_value=0", "fill_value=1")],
    "unexpected-input": [("isinstance(value, bool) or ", "")],
}
