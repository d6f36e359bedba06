"""The figures of a run as a picture."""

from pathlib import Path

from benchmarks.document import Document
from benchmarks.e2e import CLIENTS
from benchmarks.targets import FLOOR

_LATENCIES = (
    ("driver.recycled", "driver, recycled"),
    ("driver.fresh", "driver, fresh"),
    ("e2e.latency.recycled", "HTTP, recycled"),
    ("e2e.latency.fresh", "HTTP, fresh"),
    ("floor.interpreter.bare", "python3 start alone"),
    ("floor.exec", "docker exec"),
    (FLOOR, "engine: container"),
    ("floor.run", "docker run"),
)
_OURS = ("driver", "HTTP")


def draw(document: Document, path: Path) -> None:
    """Write a PNG: latencies, throughput, CPU per job."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (latency, throughput, cpu) = pyplot.subplots(1, 3, figsize=(15, 4.5), layout="constrained")

    shown = [
        (name, one.ms) for key, name in _LATENCIES if (one := document.find(key)) and one.ms and one.ms.p50
    ]
    for row, (name, ms) in enumerate(reversed(shown)):
        assert ms.p50 is not None
        assert ms.p99 is not None
        latency.barh(row, ms.p50, color="tab:blue" if name.startswith(_OURS) else "tab:gray")
        latency.plot([ms.p50, ms.p99], [row, row], color="black", marker="|")
        latency.annotate(f" {ms.p50:.1f}", (ms.p99, row), va="center")
    latency.set_yticks(range(len(shown)), [name for name, _ in reversed(shown)])
    latency.set_xscale("log")
    latency.set_xlim(1, 2000)
    latency.set_title("Milliseconds: p50, line to p99")

    for kind, name in (("recycled", "recycled cells"), ("fresh", "fresh container each")):
        points = [
            (int(one.key.rpartition(".")[2]), one.per_s)
            for one in document.measurements
            if one.key.startswith(f"e2e.{kind}.") and one.per_s is not None
        ]
        if points:
            throughput.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    floor = document.rate("floor.true.parallel")
    if floor:
        throughput.axhline(floor, color="tab:gray", linestyle="--", label="engine alone, four in parallel")
    throughput.set_xscale("log", base=2)
    throughput.set_xticks(CLIENTS, [str(clients) for clients in CLIENTS])
    throughput.set_yscale("log")
    throughput.set_xlabel("clients")
    throughput.set_title("Jobs per second")
    throughput.grid(visible=True, which="both", alpha=0.3)
    if throughput.has_data():
        throughput.legend()

    recycled = [one for one in document.cpu_per_job if "recycled" in one.title]
    names = list(dict.fromkeys(name for one in recycled for name in one.ms))
    left = [0.0] * len(recycled)
    for name in names:
        values = [one.ms.get(name, 0.0) for one in recycled]
        cpu.barh(range(len(recycled)), values, left=left, label=name)
        left = [begin + value for begin, value in zip(left, values, strict=True)]
    cpu.set_yticks(range(len(recycled)), [one.title.rpartition(", ")[2] for one in recycled])
    cpu.set_title("CPU per job, ms (recycled cells)")
    if recycled:
        figure.legend(*cpu.get_legend_handles_labels(), loc="outside lower right", ncols=9, fontsize="small")

    figure.suptitle(f"{document.machine['cpu']}, {document.machine['cores']} cores, {document.when[:10]}")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
