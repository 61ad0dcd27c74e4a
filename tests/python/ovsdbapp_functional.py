"""Runs ovsdbapp's own functional tests, as it ships them, and prints one line for each: its outcome and its name.

They find ovsdb-server and ovsdb-tool on PATH. What a failed test says goes to standard error.
Usage: ovsdbapp_functional.py [MODULE...]
"""

import pkgutil
import sys
import unittest

import ovsdbapp.tests.functional


class Lines(unittest.TestResult):
    """Prints outcomes as they come."""

    def tell(self, outcome, test, words=""):
        print(outcome, test.id(), flush=True)
        if words:
            print(test.id(), words, sep="\n", file=sys.stderr, flush=True)

    def addSuccess(self, test):
        self.tell("passed", test)

    def addSkip(self, test, reason):
        self.tell("skipped", test)

    def addExpectedFailure(self, test, error):
        self.tell("passed", test)

    def addError(self, test, error):
        self.tell("failed", test, self._exc_info_to_string(error, test))

    addFailure = addError


def modules():
    package = ovsdbapp.tests.functional
    found = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    return sorted(module.name for module in found if module.name.rpartition(".")[2].startswith("test_"))


suite = unittest.TestSuite()
for name in sys.argv[1:] or modules():
    suite.addTests(unittest.defaultTestLoader.loadTestsFromName(name))
suite.run(Lines())
