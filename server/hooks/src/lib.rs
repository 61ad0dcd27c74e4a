//! Rows to wanted kernel objects to plans.
