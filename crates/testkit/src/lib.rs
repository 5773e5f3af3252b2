//! What tests share: fixtures, generators, comparisons, faults.
