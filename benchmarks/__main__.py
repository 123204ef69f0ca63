"""The benchmarks. `python -m benchmarks` is a full run, `--quick` a short one; see README.rst in this directory."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import django

from benchmarks import cases, measured, project, report, scaling, senders, servers

HERE = Path(__file__).resolve().parent


class Runner:
    """Measures all installed senders in one case after the other; within a case, they take turns.

    Arguments:
        directory: for certificates and for nodemailer.
        budget: approximate seconds for one measurement.
    """

    def __init__(self, directory, *, names, rounds, budget):
        self._directory, self._rounds, self._budget = directory, rounds, budget
        self.skipped = {name: why for name in names if (why := senders.missing(name))}
        self._names = [name for name in names if name not in self.skipped]
        self._authority, self._certificate = servers.certificates(directory)
        if any(senders.SENDERS[name] is None for name in self._names):
            command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "nodemailer@10"]
            subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)

    def rows(self, case):
        """Measure one case."""
        results = {name: [] for name in self._names}
        with ExitStack() as stack:
            sink = stack.enter_context(
                servers.sink(delay=case.delay, certificate=self._certificate if case.is_secure else None)
            )
            port = stack.enter_context(servers.distance(sink, case.rtt))
            for number in range(self._rounds):
                turn = number % len(self._names)
                for name in self._names[turn:] + self._names[:turn]:
                    if not (case.is_secure and senders.SENDERS[name] is senders.SmtpSource):  # it does not support TLS
                        results[name].append(self._measured(name, case, port, sink))
        references = results.get(report.REFERENCE, [])
        return [report.row(name, rounds, references) for name, rounds in results.items() if rounds]

    def _measured(self, name, case, port, sink):
        job = measured.Job(
            sender=name,
            port=port,
            sink=sink,
            content=case.content,
            connections=case.connections,
            is_secure=case.is_secure,
            budget=self._budget,
            authority=str(self._authority),
        )
        before = servers.counted(sink).messages
        done = subprocess.run(self._command(job), capture_output=True, text=True, env=self._environment(), check=False)
        if done.returncode:
            raise SystemExit(f"{name}, {case}:\n{done.stderr}")
        result = measured.Result(**json.loads(done.stdout))
        arrived = servers.counted(sink).messages - before
        if arrived != result.total:
            raise SystemExit(f"{name}, {case}: {result.total} messages were sent, {arrived} arrived")
        return result

    def _command(self, job):
        if senders.SENDERS[job.sender] is not None:
            return [sys.executable, "-m", "benchmarks.measured", json.dumps(asdict(job))]
        text = {"body": project.TEXT}
        contents = {"text": text, "html": {**text, "html": project.HTML}}
        contents |= {name: {**text, "attached": size} for name, size in project.ATTACHED.items()}
        counter = [sys.executable, str(HERE / "servers.py")]
        given = json.dumps({"job": asdict(job), "messages": contents, "counter": counter})
        return ["node", str(HERE / "nodemailer.mjs"), str(self._directory), given]

    def _environment(self):
        authority = str(self._authority)
        return {**os.environ, "SSL_CERT_FILE": authority, "NODE_EXTRA_CA_CERTS": authority}


def chosen_cases(options):
    """Return the cases of a quick or a full run; with `--only`, those that contain all the words."""
    every = cases.QUICK if options.quick else cases.FULL
    return [case for case in every if all(word in str(case) for word in options.only)]


def main(options):
    """Measure, print the results, and write them to the documentation if requested."""
    facts = (
        f"Python {platform.python_version()}, Django {django.__version__}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} before the run, {'quick run, ' * options.quick}rounds: {options.rounds}."
    )
    print(facts)
    results, points = {}, []
    with tempfile.TemporaryDirectory() as directory:
        budget = 0.3 if options.quick else 1.0
        runner = Runner(Path(directory), names=options.senders, rounds=options.rounds, budget=budget)
        for name, why in runner.skipped.items():
            print(f"SKIPPED: {name}: {why}")
        for case in chosen_cases(options):
            results[case] = runner.rows(case)
            print(f"\n{case}\n{report.text(results[case])}", flush=True)
    print("", *report.goals(results), sep="\n")
    if not options.only:
        print(f"\n{'':48}{'number':>10}{'CPU ms':>10}{'messages/s':>12}{'memory MB':>12}")
        for kind, number, found in scaling.run(scaling.QUICK if options.quick else scaling.FULL):
            points.append((kind, number, found))
            head = f"{scaling.TITLES[kind]:48}{number:>10}"
            if found is None:
                print(f"{head}  SKIPPED: this version of the package has no asend_messages()", flush=True)
            else:
                print(f"{head}{found['cpu']:>10.3f}{found['rate']:>12.0f}{found['memory']:>12.1f}", flush=True)
    if options.write:
        report.write(results, points, facts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few cases, one round: under two minutes")
    parser.add_argument("--rounds", type=int, help="the table has medians; 1 in a quick run, else 3")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help='cases with these words: "RTT 50", TLS ...'
    )
    parser.add_argument("--senders", nargs="+", default=list(senders.SENDERS), choices=senders.SENDERS, metavar="NAME")
    parser.add_argument("--write", action="store_true", help="update the tables and charts of the docs and README")
    given = parser.parse_args()
    given.rounds = given.rounds or (1 if given.quick else 3)
    if given.write and given.only:
        parser.error("--write needs all cases")
    main(given)
