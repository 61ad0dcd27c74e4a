//! Drivers, cases and real peers for nonnet's tests.
