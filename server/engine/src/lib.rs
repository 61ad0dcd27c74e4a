//! One OVSDB database in memory.
