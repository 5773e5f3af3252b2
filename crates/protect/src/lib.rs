//! The one executor of plans: the only place where repository and state meet.
