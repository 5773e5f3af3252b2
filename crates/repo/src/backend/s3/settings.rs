//! The `-o s3.…` options, read once.
//! It must never pass over an option that it does not know: a mistyped storage class costs money.

use crate::backend::{BackendOptions, FileKind, OptionError};

/// Requests at once, if nobody says otherwise.
const CONNECTIONS_DEFAULT: usize = 10;
/// Most requests at once.
const CONNECTIONS_MAX: usize = 64;
/// All options that there are.
pub(in crate::backend) const OPTIONS: &[&str] = &[
    "s3.bucket-lookup",
    "s3.connections",
    "s3.list-objects-v1",
    "s3.region",
    "s3.sse",
    "s3.sse-kms-key-id",
    "s3.storage-class",
    "s3.unsafe-anonymous-auth",
];
/// Classes from which nothing can be read at once.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// Whether the bucket is part of the host's name or of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// As the server needs it.
    Auto,
    /// `bucket.host`.
    Dns,
    /// `host/bucket`.
    Path,
}

/// What `-o` says.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) region: Option<String>,
    pub(super) lookup: Lookup,
    pub(super) connections: usize,
    pub(super) list_objects_v1: bool,
    pub(super) anonymous: bool,
    storage_class: Option<String>,
    encryption: Vec<(&'static str, String)>,
}

impl Settings {
    pub(super) fn read(options: &BackendOptions) -> Result<Self, OptionError> {
        options.only("s3", OPTIONS)?;
        let text = |name: &str| {
            let found = options.setting(name).filter(|text| !text.is_empty());
            found.map(str::to_owned)
        };
        let header = |name: &str| match text(name) {
            Some(text) if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(wrong(name, format!("{text:?} can't be sent in a header")))
            }
            other => Ok(other),
        };
        let lookup = match text("s3.bucket-lookup").as_deref() {
            None | Some("auto") => Lookup::Auto,
            Some("dns") => Lookup::Dns,
            Some("path") => Lookup::Path,
            Some(other) => {
                return Err(wrong(
                    "s3.bucket-lookup",
                    format!("{other:?} is neither auto, dns nor path"),
                ));
            }
        };
        let mut encryption = Vec::new();
        let key = header("s3.sse-kms-key-id")?;
        match (text("s3.sse").as_deref(), key) {
            (None, None) => {}
            (Some("AES256"), None) => {
                encryption.push(("x-amz-server-side-encryption", "AES256".to_owned()));
            }
            (Some("aws:kms"), key) => {
                encryption.push(("x-amz-server-side-encryption", "aws:kms".to_owned()));
                let name = "x-amz-server-side-encryption-aws-kms-key-id";
                encryption.extend(key.map(|key| (name, key)));
            }
            (_, Some(_)) => {
                return Err(wrong("s3.sse-kms-key-id", "it needs s3.sse=aws:kms".into()));
            }
            (Some(other), None) => {
                return Err(wrong(
                    "s3.sse",
                    format!("{other:?} is neither AES256 nor aws:kms"),
                ));
            }
        }
        Ok(Self {
            region: header("s3.region")?,
            lookup,
            connections: options.number(
                "s3.connections",
                CONNECTIONS_DEFAULT,
                1..=CONNECTIONS_MAX,
            )?,
            list_objects_v1: options.flag("s3.list-objects-v1")?,
            anonymous: options.flag("s3.unsafe-anonymous-auth")?,
            storage_class: header("s3.storage-class")?,
            encryption,
        })
    }

    /// Headers that a new object of this kind gets. In an archive class lie only packs, as with restic: everything
    /// else must be readable at any time.
    pub(super) fn headers(&self, kind: FileKind) -> Vec<(&'static str, String)> {
        let mut headers = vec![("content-type", "application/octet-stream".to_owned())];
        headers.extend(self.encryption.iter().cloned());
        if let Some(class) = &self.storage_class
            && (kind == FileKind::Pack || !ARCHIVES.contains(&class.as_str()))
        {
            headers.push(("x-amz-storage-class", class.clone()));
        }
        headers
    }
}

fn wrong(name: &str, why: String) -> OptionError {
    OptionError {
        name: name.to_owned(),
        why,
    }
}
