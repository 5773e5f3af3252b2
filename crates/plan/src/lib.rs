//! Every decision as a pure function: what to back up, keep, restore and in which order.
