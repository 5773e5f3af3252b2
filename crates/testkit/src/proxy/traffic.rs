//! What passed through a proxy: connections, requests by method, bytes in both directions.
//! It must never count what the proxy itself says to the server behind it.

use std::collections::BTreeMap;

/// What passed, as the client saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that were made.
    pub connections: u64,
    /// Requests by method.
    pub requests: BTreeMap<String, u64>,
    /// Bytes from the client, heads and bodies.
    pub up_bytes: u64,
    /// Bytes to the client, heads and bodies.
    pub down_bytes: u64,
}

impl Traffic {
    /// All requests.
    #[must_use]
    pub fn total_requests(&self) -> u64 {
        self.requests.values().sum()
    }
}
