//! What all work of one machine together may take.
//! A limit that is not said is none, never zero.

use crate::forms::RATE;
use crate::key_table::LIMITS;
use crate::node::Node;
use crate::problems::Problems;
use crate::size::Rate;

/// Limits of all work together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many captures run at once.
    pub captures: Option<u32>,
    /// How fast data is stored.
    pub upload: Option<Rate>,
    /// How fast data is fetched.
    pub download: Option<Rate>,
}

impl Limits {
    pub(crate) fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let fields = node.object(problems, &LIMITS)?;
        let captures = fields.get("captures").and_then(|node| node.count(problems));
        let mut rate = |key| {
            let read = fields
                .get(key)
                .and_then(|node| node.parsed::<Rate>(problems, &RATE));
            read.map(|rate| rate.value)
        };
        let (upload, download) = (rate("upload"), rate("download"));
        Some(Self {
            captures,
            upload,
            download,
        })
    }
}
