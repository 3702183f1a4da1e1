//! The seeded simulation of the log core.
