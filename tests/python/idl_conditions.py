"""Python IDLs with conditions and a lock, over a reconnect and over restarts of the server.

One IDL sees all rows and writes; the other sees what matches its conditions. Both want the same lock. Prints what they saw, and waits for a
line on standard input where it prints "restart", so that the server can be killed and started again there.
Usage: idl_conditions.py REMOTE SCHEMA_FILE
"""

import sys
import time

import ovs.db.idl
import ovs.poller

from idl_session import TIMEOUT_SECONDS, commit, connect, wait_until


def names(idl, table="t"):
    return sorted((row.name, row.n) for row in idl.tables[table].rows.values())


def write(idl, numbers):
    """Gives the rows of these names these numbers; makes those that are missing."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        txn = ovs.db.idl.Transaction(idl)
        rows = {row.name: row for row in idl.tables["t"].rows.values()}
        for name, number in numbers.items():
            row = rows.get(name) or txn.insert(idl.tables["t"])
            row.name = name
            row.n = number
        status = commit(idl, txn)
        # A replica that is still being read after a restart says so by these words.
        if status != "try again" or time.monotonic() > deadline:
            return status
        poller = ovs.poller.Poller()
        idl.run()
        idl.wait(poller)
        poller.timer_wait(100)
        poller.block()


def main(remote, schema_file):
    writer = connect(remote, schema_file)
    reader = connect(remote, schema_file)
    both = [writer, reader]
    # Before the first connection: the conditions go out with the monitor request.
    reader.cond_change("t", [["n", ">", 1]])
    reader.cond_change("u", [False])
    writer.set_lock("the_lock")
    wait_until(both, lambda: writer.has_ever_connected() and writer.has_lock, "the writer's lock")
    reader.set_lock("the_lock")
    wait_until(both, lambda: reader.has_ever_connected() and reader.is_lock_contended, "the reader's wait for it")

    def settle(title, expected):
        wait_until(both, lambda: names(reader) == expected, "%s: %s, not %s" % (title, expected, names(reader)))
        print(title, names(reader))

    print(write(writer, {name: number for number, name in enumerate("abcd")}))
    settle("those that match", [("c", 2), ("d", 3)])
    print(write(writer, {"a": 5, "c": 1}))
    settle("one came, one left", [("a", 5), ("d", 3)])

    reader.cond_change("t", [["n", "<", 2], ["name", "==", "d"]])
    settle("other conditions", [("b", 1), ("c", 1), ("d", 3)])
    reader.cond_change("t", [])
    settle("none", [])
    reader.cond_change("t", [True])
    settle("all", [("a", 5), ("b", 1), ("c", 1), ("d", 3)])
    reader.cond_change("t", [["n", ">", 2]])
    settle("some", [("a", 5), ("d", 3)])

    # A condition that changes at the very moment at which the connection ends, and rows that change meanwhile.
    reader.force_reconnect()
    reader.cond_change("t", [["n", ">", 0], ["name", "==", "e"]])
    print(write(writer, {"b": 0, "e": -1, "c": 7}))
    settle("after a reconnect", [("a", 5), ("c", 7), ("d", 3), ("e", -1)])
    wait_until(both, lambda: writer.has_lock and reader.is_lock_contended, "the lock as before")

    for round in range(2):
        before = writer.change_seqno
        print("restart", flush=True)
        sys.stdin.readline()
        wait_until(both, lambda: writer.has_lock or reader.has_lock, "a lock")
        # Who asks first gets it. Only its holder may write.
        wait_until(both, lambda: writer.is_lock_contended or reader.is_lock_contended, "the other to wait")
        holder, waiter = (writer, reader) if writer.has_lock else (reader, writer)
        print("one has the lock", holder.has_lock, waiter.has_lock)
        print("who waits may not write", write(waiter, {"never": 1}))
        holder.set_lock(None)
        wait_until(both, lambda: waiter.has_lock, "the lock to pass")
        print(write(waiter, {"f": 10 + round}))
        settle("after a restart", [("a", 5), ("c", 7), ("d", 3), ("e", -1), ("f", 10 + round)])
        holder.set_lock("the_lock")
        wait_until(both, lambda: holder.is_lock_contended, "to wait again")
        print("the sequence went on", writer.change_seqno > before)
    for idl in both:
        idl.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
