"""The report on a screen."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from retort.bench.figures import Figures
from retort.bench.measurement import EXECUTION
from retort.bench.metrics import Metric, best
from retort.bench.report import Report, Section
from retort.bench.words import UNKNOWN, dollars, shown, winner


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    for section in report.sections():
        console.print(_section(section))
    if report.plan.models:
        console.print(_parts(report))
    _wrong_programs(report, console)
    for each in report.worth():
        console.print(
            f"{each['dear']} instead of {each['cheap']} pays where a wrong result costs more than "
            f"{dollars(each['error_cost_usd'])}.",
            markup=False,
        )
    for note in report.notes():
        console.print(note, markup=False)


def _section(section: Section) -> Table:
    names = list(section.found)
    table = Table(title=section.title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name in names:
        table.add_column(escape(name), justify="right")
    if len(names) > 1:
        table.add_column("best")
    for metric in section.metrics:
        cells = [_cell(metric, section, name) for name in names]
        if len(names) > 1:
            cells.append(escape(winner(metric, best(metric, section.found))))
        table.add_row(metric.title, *cells)
    return table


def _cell(metric: Metric, section: Section, name: str) -> str:
    found = section.found[name]
    text, note = shown(metric.value(found), metric.unit), metric.note(found)
    return f"[dim]{note or UNKNOWN}[/dim]" if text == UNKNOWN else text


def _parts(report: Report) -> Table:
    table = Table(
        title="Right in the end, by category and task", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("")
    for name in report.plan.models:
        table.add_column(escape(name), justify="right")
    tasks = report.tasks()
    for category, found in report.categories().items():
        if not any(name in found for name in report.plan.models):
            continue
        table.add_row(f"[bold]{escape(category)}[/bold]", *(_rate(found, name) for name in report.plan.models))
        for task in report.plan.tasks:
            if task.category == category and task.name in tasks:
                rates = (_rate(tasks[task.name], name) for name in report.plan.models)
                table.add_row(f"  {escape(task.name)}", *rates)
    return table


def _rate(found: Mapping[str, Figures], name: str) -> str:
    if name not in found:
        return ""
    rate = found[name].accuracy
    return f"{rate.hits} of {rate.of}"


def _wrong_programs(report: Report, console: Console) -> None:
    for task, found in report.tasks().items():
        if EXECUTION in found and found[EXECUTION].successes < found[EXECUTION].runs:
            reasons = "; ".join(report.reasons(task, EXECUTION))
            console.print(f"execution side, {task}: {reasons}", markup=False)
