//! A repository over a backend: reading, writing, index, locks, checks.
