#!/usr/bin/env python3
"""Writes tests/golden/statistics.json: what SciPy says about samples from fixed seeds.

The study's own statistics (src/study/record/statistics.h) are held against it by statistics_test.cc.
Run it again only to add cases: `python tools/make_statistics_golden.py`.
"""

import json
import pathlib

import numpy
import scipy
from scipy import stats


def samples(generator):
    """Named samples of the shapes that a study meets: few blocks, many requests, heavy tails, ties."""
    return {
        "two": generator.normal(3.0, 1.0, 2),
        "five_blocks": generator.normal(0.1, 0.05, 5),
        "heavy_tails": generator.standard_t(2, 12),
        "latencies": generator.lognormal(3.0, 0.4, 200),
        "ties": generator.integers(0, 4, 40).astype(float),
        "large_offset": 1e6 + generator.normal(0.0, 1e-3, 9),
    }


def describe(x):
    test = stats.ttest_1samp(x, 0.0)
    case = {
        "samples": x.tolist(),
        "percentiles": {str(q): float(numpy.quantile(x, q)) for q in (0.0, 0.1, 0.5, 0.9, 0.95, 0.99, 1.0)},
        "mean": float(numpy.mean(x)),
        "variance": float(numpy.var(x, ddof=1)),
        "p": float(test.pvalue),
        "intervals": {},
    }
    for confidence in (0.9, 0.95, 0.999):
        interval = test.confidence_interval(confidence)
        case["intervals"][str(confidence)] = [float(interval.low), float(interval.high)]
    return case


def rate(events, trials, confidence):
    test = stats.binomtest(events, trials)
    interval = test.proportion_ci(confidence, method="exact")
    upper = stats.binomtest(events, trials, alternative="less").proportion_ci(confidence, method="exact")
    lower = stats.binomtest(events, trials, alternative="greater").proportion_ci(confidence, method="exact")
    return {
        "events": events,
        "trials": trials,
        "confidence": confidence,
        "interval": [float(interval.low), float(interval.high)],
        "upper": float(upper.high),
        "lower": float(lower.low),
    }


def slope(generator, count, with_covariate):
    """Slope of x from the full design matrix, by least squares with the textbook covariance."""
    x = numpy.arange(count, dtype=float)
    covariate = generator.integers(50, 900, count).astype(float)
    y = 100 + 0.7 * x + 2.0 * covariate + generator.normal(0, 5, count)
    columns = [numpy.ones(count), x] + ([covariate] if with_covariate else [])
    design = numpy.stack(columns, axis=1)
    solution, residual_sum, _, _ = numpy.linalg.lstsq(design, y, rcond=None)
    freedom = count - design.shape[1]
    covariance = numpy.linalg.inv(design.T @ design) * residual_sum[0] / freedom
    half = stats.t.ppf(0.975, freedom) * numpy.sqrt(covariance[1, 1])
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "covariate": covariate.tolist() if with_covariate else [],
        "slope": float(solution[1]),
        "interval": [float(solution[1] - half), float(solution[1] + half)],
    }


def holm_case(p_values):
    """Adjusted p values by the definition: the largest of the scaled p values up to one's own rank."""
    order = numpy.argsort(p_values, kind="stable")
    adjusted = numpy.empty(len(p_values))
    for rank, index in enumerate(order):
        scaled = [(len(p_values) - r) * p_values[order[r]] for r in range(rank + 1)]
        adjusted[index] = min(1.0, max(scaled))
    return {"p": list(map(float, p_values)), "adjusted": adjusted.tolist()}


def main():
    generator = numpy.random.default_rng(20260131)
    golden = {
        "made_with": {"numpy": numpy.__version__, "scipy": scipy.__version__},
        "samples": {name: describe(x) for name, x in samples(generator).items()},
        "rates": [
            rate(events, trials, confidence)
            for events, trials in ((0, 65), (65, 65), (3, 200), (1, 2), (0, 1), (17, 1000), (999, 1000))
            for confidence in (0.9, 0.95, 0.99)
        ],
        "slopes": [
            slope(generator, count, with_covariate)
            for count in (5, 20, 100)
            for with_covariate in (False, True)
        ],
        "holm": [holm_case(generator.beta(0.5, 2, size)) for size in (1, 2, 6, 18, 66)],
        "t_quantiles": [
            {"p": p, "freedom": freedom, "t": float(stats.t.ppf(p, freedom))}
            for p in (0.6, 0.95, 0.975, 0.9995)
            for freedom in (1, 2, 4, 30, 1000)
        ],
    }
    path = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "statistics.json"
    path.write_text(json.dumps(golden, indent=1) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
