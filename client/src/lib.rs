//! An asynchronous OVSDB client.
