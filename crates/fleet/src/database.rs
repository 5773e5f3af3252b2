//! A database of an app: which server holds it and how it is captured.
//! It never holds a password, nor connects to anything.

use std::str::FromStr;

use crate::credentials::holds_password;
use crate::forms::{POSTGRES_URL, SERVER_PATH, TEXT};
use crate::key_table::DATABASE;
use crate::known::Known;
use crate::node::{Fields, Node};
use crate::problems::Problems;
use crate::refusal::Refusal;
use crate::secret::SecretRef;
use crate::spot::Placed;
use crate::volume::{read_exempt, read_policy};

/// A database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its name in the app.
    pub name: Placed<String>,
    /// What serves it.
    pub engine: Engine,
    /// The password for the server; none leaves it to libpq's rules.
    pub password: Option<SecretRef>,
    /// Its data directory, if this machine can read it.
    pub data: Option<Placed<String>>,
    /// How it is captured, if that is said.
    pub method: Option<Method>,
    /// Which databases are dumped; all if none is named.
    pub databases: Vec<Placed<String>>,
    /// Whether its log is archived, if that is said.
    pub wal: Option<bool>,
    /// Its own policy.
    pub policy: Option<Placed<String>>,
    /// Why it is not protected, if it is not.
    pub exempt: Option<String>,
}

/// What serves a database, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL.
    Postgres(Placed<ServerUrl>),
}

/// How a database is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Its files, as they lie on this machine.
    Files,
    /// Its files, as the server sends them.
    Stream,
    /// As dumps.
    Dump,
}

/// The URL of a server, without a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// As it was written.
    pub text: String,
}

impl Database {
    pub(crate) fn read(
        name: Placed<String>,
        node: &Node<'_>,
        known: &Known,
        problems: &mut Problems,
    ) -> Option<Self> {
        let fields = node.object(problems, &DATABASE)?;
        let url = fields
            .get("postgres")
            .and_then(|node| node.parsed(problems, &POSTGRES_URL));
        let password = fields
            .get("password")
            .and_then(|node| SecretRef::read(&node, problems));
        let data = fields
            .get("data")
            .and_then(|node| node.checked(problems, &SERVER_PATH, check_absolute));
        let methods = [
            ("files", Method::Files),
            ("stream", Method::Stream),
            ("dump", Method::Dump),
        ];
        let method = fields
            .get("method")
            .and_then(|node| node.word(problems, &methods));
        let items = fields.get("databases").and_then(|node| node.list(problems));
        let databases = items.unwrap_or_default().into_iter();
        let databases = databases
            .filter_map(|node| node.placed(problems, &TEXT))
            .collect();
        let wal = fields.get("wal").and_then(|node| node.boolean(problems));
        let policy = read_policy(&fields, known, problems);
        let exempt = read_exempt(&fields, problems);
        check_together(&fields, method, wal, problems);
        Some(Self {
            name,
            engine: Engine::Postgres(url?),
            password,
            data,
            method,
            databases,
            wal,
            policy,
            exempt,
        })
    }

    /// Whether its log is archived under a policy that keeps a window or not.
    #[must_use]
    pub fn has_log(&self, keeps_window: bool) -> bool {
        self.method != Some(Method::Dump) && self.wal.unwrap_or(keeps_window)
    }
}

/// What one key says must be possible with what the others say.
fn check_together(
    fields: &Fields<'_>,
    method: Option<Method>,
    wal: Option<bool>,
    problems: &mut Problems,
) {
    let has = |key| fields.key_spot(key).is_some();
    match method {
        Some(Method::Files) if !has("data") => {
            let hint = "add `data:` with the server's data directory, or write `method: stream`";
            fields.misplaced(
                problems,
                "method",
                "files of the server can't be read without their place",
                hint,
            );
        }
        Some(Method::Stream | Method::Dump) if has("data") => {
            let hint = "remove `data:`, or write `method: files`";
            fields.misplaced(
                problems,
                "data",
                "this method does not read the data directory",
                hint,
            );
        }
        _ => {}
    }
    if method == Some(Method::Dump) && wal == Some(true) {
        let hint = "dumps have no log: remove `wal`, or use `method: stream`";
        fields.misplaced(
            problems,
            "wal",
            "a log leads on from files, not from dumps",
            hint,
        );
    }
    if method != Some(Method::Dump) && has("databases") && (method.is_some() || !has("method")) {
        let hint = "add `method: dump`, or remove `databases`";
        fields.misplaced(
            problems,
            "databases",
            "single databases are captured as dumps only",
            hint,
        );
    }
}

fn check_absolute(path: &str) -> Result<(), Refusal> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(());
    }
    Err(Refusal::unlike(
        path,
        "absolute path",
        "write the directory as the server knows it: `/var/lib/postgresql/17/main`",
    ))
}

impl FromStr for ServerUrl {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        if holds_password(text) {
            let hint =
                "give it as `password: { file: PATH }`, and change it if this file was shared";
            return Err(Refusal::new(
                "the password does not belong into the URL",
                hint,
            ));
        }
        if !text.starts_with("postgresql://") && !text.starts_with("postgres://") {
            let hint = "write `postgresql://USER@HOST/DATABASE`";
            return Err(Refusal::new("this is no URL of a PostgreSQL server", hint));
        }
        let text = text.to_owned();
        Ok(Self { text })
    }
}
