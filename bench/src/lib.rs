//! nonnetd beside ovsdb-server, in one run.
