"""`quire bench` for scripts that hold its figures to something."""

import json
import subprocess

import quire
from checks import expect
from runner import work_directory


def measure(scale, arguments):
    """The results of a bench; its progress and warnings go to stderr. Inputs are kept for the next time."""
    size = [] if scale.full else ["--small"]
    inputs = ["--inputs", work_directory() + "/bench"]
    command = [quire.binary(), "bench", *arguments, *size, *inputs, "--rounds", str(scale.rounds), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    expect(done.returncode == 0, "%s: status %d" % (" ".join(command), done.returncode))
    return json.loads(done.stdout)


def metric(results, workload, name):
    """A metric of a workload at the only amount of memory that was measured."""
    work = next((one for one in results["workloads"] if one["name"] == workload), None)
    expect(work, "%s was not measured: %s" % (workload, [one["why"] for one in results["left_out"] if one["name"] == workload]))
    (level,) = work["levels"]
    expect(not level["problem"], "%s: %s" % (workload, level["problem"]))
    return next(one for one in level["metrics"] if one["name"] == name)


def expect_at_most(figures, found, ratio, most):
    """One of a metric's ratios, its figures on the line."""
    units = {"seconds": "s", "us-per-page": "us", "milliseconds": "ms"}
    for side in ("native", "kernel", "quire"):
        if found[side]["median"] is not None:
            figures.append("%s %.3g %s" % (side, found[side]["median"], units[found["unit"]]))
    times = found[ratio]["median"]
    figures.append("%s %.2f" % (ratio.replace("_", " "), times))
    expect(times <= most, "more than %g times" % most)
