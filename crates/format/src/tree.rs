//! A tree is the content of one directory: its nodes in ascending order of their names.
//! It must never be written out of order or with a name twice: restic refuses such a tree.

use serde::Deserialize;

use crate::node::RawNode;
use crate::{FormatError, Node};

/// The content of a directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// The nodes.
    pub nodes: Vec<Node>,
}

/// Nodes are not in strictly ascending order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the names {before:?} and {after:?} of a tree are out of order or the same")]
pub struct TreeError {
    before: String,
    after: String,
}

impl Tree {
    /// Reads a tree. The order is not judged here: a damaged or hostile tree should be named by whoever reads it.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn from_json(json: &[u8]) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        struct Raw<'a> {
            #[serde(borrow)]
            nodes: Option<Vec<RawNode<'a>>>,
        }
        let raw: Raw<'_> = serde_json::from_slice(json).map_err(|cause| FormatError::Json {
            what: "tree",
            cause,
        })?;
        let nodes = raw
            .nodes
            .unwrap_or_default()
            .into_iter()
            .map(Node::try_from)
            .collect::<Result<_, _>>()?;
        Ok(Self { nodes })
    }

    /// As restic writes it, with the line break at the end that its encoder leaves.
    ///
    /// # Errors
    /// When the nodes are not in strictly ascending order of their names' bytes.
    pub fn to_json(&self) -> Result<Vec<u8>, TreeError> {
        self.check_order()?;
        let mut out = Vec::with_capacity(64 + self.nodes.len() * 420);
        out.extend_from_slice(b"{\"nodes\":[");
        for (at, node) in self.nodes.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            node.encode(&mut out);
        }
        out.extend_from_slice(b"]}\n");
        Ok(out)
    }

    /// Whether all names are in strictly ascending order.
    ///
    /// # Errors
    /// The first two names that are not.
    pub fn check_order(&self) -> Result<(), TreeError> {
        for pair in self.nodes.windows(2) {
            if let [before, after] = pair
                && before.name >= after.name
            {
                let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
                return Err(TreeError {
                    before: text(&before.name),
                    after: text(&after.name),
                });
            }
        }
        Ok(())
    }

    /// The node of this name.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&Node> {
        match self
            .nodes
            .binary_search_by(|node| node.name.as_slice().cmp(name))
        {
            Ok(at) => self.nodes.get(at),
            // A tree that is out of order is searched the slow way.
            Err(_) => self.nodes.iter().find(|node| node.name == name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeKind;

    #[test]
    fn an_empty_tree_is_restics() {
        assert_eq!(Tree::default().to_json().unwrap(), b"{\"nodes\":[]}\n");
        assert_eq!(
            Tree::from_json(b"{\"nodes\":null,\"more\":[1]}").unwrap(),
            Tree::default()
        );
    }

    #[test]
    fn disorder_is_refused_when_writing_and_named() {
        let nodes = |names: &[&str]| Tree {
            nodes: names
                .iter()
                .map(|n| Node::bare(n.as_bytes(), NodeKind::Dir))
                .collect(),
        };
        assert!(nodes(&["a", "a-b", "a/b", "ab", "b"]).to_json().is_ok());
        for names in [&["b", "a"][..], &["a", "a"]] {
            assert!(nodes(names).to_json().is_err());
        }
        assert_eq!(
            nodes(&["b", "a"]).find(b"a").map(|n| n.name.clone()),
            Some(b"a".to_vec())
        );
    }
}
