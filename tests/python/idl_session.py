"""One session of the Python IDL against a server: insert, see, modify, verify, delete.

Prints what it saw, without UUIDs, so that two servers can be compared line by line.
Usage: idl_session.py REMOTE SCHEMA_FILE
"""

import json
import sys
import time

import ovs.db.idl
import ovs.poller

TIMEOUT_SECONDS = 20


def wait_until(idls, condition, what):
    """Runs the IDLs until the condition holds."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        for idl in idls:
            idl.run()
        if condition():
            return
        if time.monotonic() > deadline:
            sys.exit("waited %d s for: %s" % (TIMEOUT_SECONDS, what))
        poller = ovs.poller.Poller()
        for idl in idls:
            idl.wait(poller)
        poller.timer_wait(100)
        poller.block()


def commit(idl, txn):
    """Commits a transaction and returns its status as a word."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    status = txn.commit()
    while status == ovs.db.idl.Transaction.INCOMPLETE:
        if time.monotonic() > deadline:
            sys.exit("a commit did not end: %s" % txn.get_error())
        idl.run()
        status = txn.commit()
        if status == ovs.db.idl.Transaction.INCOMPLETE:
            poller = ovs.poller.Poller()
            idl.wait(poller)
            txn.wait(poller)
            poller.timer_wait(100)
            poller.block()
    return ovs.db.idl.Transaction.status_to_string(status)


def show(title, idl):
    """Prints all rows of an IDL."""
    print(title)
    for row in sorted(idl.tables["t"].rows.values(), key=lambda row: row.name):
        print("  t", row.name, row.n, sorted(row.s), sorted(row.m.items()), row.o)
    for row in sorted(idl.tables["u"].rows.values(), key=lambda row: row.name):
        print("  u", row.name, row.flag)


def connect(remote, schema_file):
    helper = ovs.db.idl.SchemaHelper(location=schema_file)
    helper.register_all()
    return ovs.db.idl.Idl(remote, helper)


def main(remote, schema_file):
    writer = connect(remote, schema_file)
    reader = connect(remote, schema_file)
    both = [writer, reader]
    wait_until(both, lambda: writer.has_ever_connected() and reader.has_ever_connected(), "both to connect")
    show("at first", reader)

    txn = ovs.db.idl.Transaction(writer)
    txn.add_comment("a row")
    row = txn.insert(writer.tables["t"])
    row.name = "one"
    row.n = 1
    row.s = ["x", "y"]
    row.m = {"k": "v"}
    other = txn.insert(writer.tables["u"])
    other.name = "u"
    print("insert", commit(writer, txn))
    wait_until(both, lambda: reader.tables["t"].rows and reader.tables["u"].rows, "the inserted rows")
    show("after insert", reader)

    row = next(iter(writer.tables["t"].rows.values()))
    txn = ovs.db.idl.Transaction(writer)
    row.verify("n")
    row.n = 2
    row.addvalue("s", "z")
    row.delvalue("s", "x")
    row.setkey("m", "k2", "v2")
    row.delkey("m", "k")
    row.o = "set"
    print("modify", commit(writer, txn))
    wait_until(both, lambda: next(iter(reader.tables["t"].rows.values())).n == 2, "the modified row")
    show("after modify", reader)

    txn = ovs.db.idl.Transaction(writer)
    row.o = []
    row.increment("n")
    print("increment", commit(writer, txn), txn.get_increment_new_value())
    wait_until(both, lambda: next(iter(reader.tables["t"].rows.values())).n == 3, "the incremented row")

    # A verify of what somebody else has changed meanwhile must not commit.
    stale = next(iter(reader.tables["t"].rows.values()))
    txn = ovs.db.idl.Transaction(writer)
    row.n = 10
    print("change", commit(writer, txn))
    txn = ovs.db.idl.Transaction(reader)
    stale.verify("n")
    stale.n = 99
    print("stale", commit(reader, txn) in ("try again", "success"))
    wait_until(both, lambda: next(iter(reader.tables["t"].rows.values())).n == 10, "the row of the other")
    show("after a conflict", reader)

    txn = ovs.db.idl.Transaction(writer)
    bad = txn.insert(writer.tables["t"])
    bad.name = "never"
    txn.abort()
    print("unchanged", commit(writer, ovs.db.idl.Transaction(writer)))

    writer.set_lock("the_lock")
    wait_until(both, lambda: writer.has_lock, "the lock")
    reader.set_lock("the_lock")
    wait_until(both, lambda: reader.is_lock_contended, "the lock to be contended")
    print("lock", writer.has_lock, reader.has_lock)
    writer.set_lock(None)
    wait_until(both, lambda: reader.has_lock, "the lock to pass")
    print("lock passed", reader.has_lock)

    writer.cond_change("u", [])
    txn = ovs.db.idl.Transaction(writer)
    for row in list(writer.tables["t"].rows.values()):
        row.delete()
    print("delete", commit(writer, txn))
    wait_until(both, lambda: not reader.tables["t"].rows, "the deleted rows")
    show("at last", reader)
    for idl in both:
        idl.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
