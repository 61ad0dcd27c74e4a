//! Where records and rows are kept.
