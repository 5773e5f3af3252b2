//! Random facts, and what must hold of the plan for each of them.
