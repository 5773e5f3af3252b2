//! What flows between layers: entries, sources, targets, events, cancellation and budgets.
