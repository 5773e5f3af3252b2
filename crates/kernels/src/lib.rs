//! Rabin chunk boundaries and SHA-256 behind one safe interface.
