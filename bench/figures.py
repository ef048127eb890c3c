"""Paired figures: rounds of the same work by two engines in turn, and what their ratios say.

A round's ratio cancels what the machine did meanwhile. Ratios are always "more is better for Crible".
"""
import math
import statistics
from dataclasses import dataclass

from scipy import stats


@dataclass
class Figure:
    title: str
    unit: str  # of the two values; "s" and "MiB" are better small, all others better large
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float

    def row(self):
        return (f"| {self.title} | {self.unit} | {self.ours:.4g} | {self.theirs:.4g} | {self.ratio:.2f} "
                f"| {self.low:.2f} to {self.high:.2f} |")


HEADER = ("| figure | unit | Crible | llama.cpp | ratio (more is better) | 95% interval |\n"
          "|---|---|---|---|---|---|")


def interval(ratios):
    """Geometric mean of the ratios and a 95% t-interval of it, on the logarithms."""
    logs = [math.log(r) for r in ratios]
    mean = statistics.fmean(logs)
    half = stats.t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def paired(title, unit, ours, theirs):
    small_is_better = unit in ("s", "MiB", "ms")
    ratios = [(b / a if small_is_better else a / b) for a, b in zip(ours, theirs, strict=True)]
    return Figure(title, unit, statistics.median(ours), statistics.median(theirs), *interval(ratios))


def resident_mib(pid):
    """Memory that the process holds now, file pages included."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{pid}/status has no VmRSS")
