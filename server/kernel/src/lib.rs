//! Carries out plans in the Linux kernel and observes it.
