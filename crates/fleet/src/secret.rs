//! Where a secret is to be had when it is needed.
//! It never holds the secret, and neither its debug text nor an error shows what was written in its place.

use std::fmt;

use crate::forms::{PATH, SHELL, VARIABLE};
use crate::key_table::SECRET;
use crate::names::check_variable;
use crate::node::Node;
use crate::problems::Problems;

/// A secret by reference.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// The file that holds it.
    File(String),
    /// The environment variable that holds it.
    Env(String),
    /// The command that prints it.
    Command(String),
}

impl SecretRef {
    pub(crate) fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        if !node.is_map() {
            let hint = "write `{ file: PATH }`, `{ env: NAME }` or `{ command: COMMAND }`, and change the secret if this file was shared";
            node.wrong(problems, "a secret is not written into this file", hint);
            return None;
        }
        let fields = node.object(problems, &SECRET)?;
        let file = fields
            .get("file")
            .and_then(|node| node.placed(problems, &PATH));
        let env = fields
            .get("env")
            .and_then(|node| node.checked(problems, &VARIABLE, check_variable));
        let command = fields
            .get("command")
            .and_then(|node| node.placed(problems, &SHELL));
        let file = file.map(|file| Self::File(file.value));
        let env = || env.map(|env| Self::Env(env.value));
        let command = || command.map(|command| Self::Command(command.value));
        file.or_else(env).or_else(command)
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(_) => "SecretRef::File(…)",
            Self::Env(_) => "SecretRef::Env(…)",
            Self::Command(_) => "SecretRef::Command(…)",
        })
    }
}
