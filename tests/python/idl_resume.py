"""A Python IDL whose connection ends, twice: what it missed must reach it without its rows being read anew.

Waits for a line on standard input before each return, and prints after it the rows and how often all of them were thrown away.
Usage: idl_resume.py REMOTE SCHEMA_FILE
"""

import sys
import time

import ovs.db.idl
import ovs.poller

TIMEOUT_SECONDS = 20


class CountingIdl(ovs.db.idl.Idl):
    """Counts how often the replica is cleared, which a reply that says "not found" makes it do."""

    clears = 0

    def _Idl__clear(self):
        CountingIdl.clears += 1
        super()._Idl__clear()


def rows(idl):
    return sorted((row.name, row.n, sorted(row.s)) for row in idl.tables["t"].rows.values())


def wait_until(idl, condition):
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        idl.run()
        if condition():
            return
        if time.monotonic() > deadline:
            sys.exit("waited %d s; rows %s, clears %d" % (TIMEOUT_SECONDS, rows(idl), idl.clears))
        poller = ovs.poller.Poller()
        idl.wait(poller)
        poller.timer_wait(100)
        poller.block()


def main(remote, schema_file):
    helper = ovs.db.idl.SchemaHelper(location=schema_file)
    helper.register_all()
    idl = CountingIdl(remote, helper)
    for name in ("first", "second", "third"):
        wait_until(idl, lambda: name in {row.name for row in idl.tables["t"].rows.values()})
        print(rows(idl), idl.clears, flush=True)
        sys.stdin.readline()
        if name == "first":
            idl.force_reconnect()


main(*sys.argv[1:])
