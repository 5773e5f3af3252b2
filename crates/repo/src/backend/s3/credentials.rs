//! Who asks: from variables or from a profile of Amazon's files, as its own tools read them.
//! It must never show a secret, nor guess what a profile means that it does not support.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::backend::{BackendOptions, OptionError, Secret};

/// Longest file of profiles that is read, in bytes.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// What profiles say that we do not do.
const UNSUPPORTED: [&str; 6] = [
    "role_arn",
    "source_profile",
    "credential_source",
    "credential_process",
    "web_identity_token_file",
    "sso_session",
];

/// An access key.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) key_id: String,
    pub(super) secret: Secret,
    /// For keys that pass.
    pub(super) session_token: Option<Secret>,
}

/// What a user has set.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) credentials: Option<Credentials>,
    pub(super) region: Option<String>,
}

type Profile = BTreeMap<String, String>;

/// Credentials and region. Variables come first, then the profile; nobody is asked over the network.
pub(super) fn find(options: &BackendOptions, anonymous: bool) -> Result<Found, OptionError> {
    let variable = |name: &str| {
        options
            .variable(name)
            .map(|value| value.reveal().to_owned())
    };
    let profile = Profiles::of(options)?;
    let region = variable("AWS_REGION")
        .or_else(|| variable("AWS_DEFAULT_REGION"))
        .or_else(|| profile.merged.get("region").cloned());
    if anonymous {
        let credentials = None;
        return Ok(Found {
            credentials,
            region,
        });
    }
    if options.variable("RESTIC_AWS_ASSUME_ROLE_ARN").is_some() {
        return Err(wrong(
            "RESTIC_AWS_ASSUME_ROLE_ARN",
            "taking on a role is not supported; give the role's keys in AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
        ));
    }
    let credentials = match (
        variable("AWS_ACCESS_KEY_ID"),
        variable("AWS_SECRET_ACCESS_KEY"),
    ) {
        (Some(key_id), Some(secret)) => Credentials {
            key_id,
            secret: Secret::new(secret),
            session_token: variable("AWS_SESSION_TOKEN").map(Secret::new),
        },
        (Some(_), None) => {
            return Err(wrong(
                "AWS_SECRET_ACCESS_KEY",
                "it is not set, and AWS_ACCESS_KEY_ID is",
            ));
        }
        (None, Some(_)) => {
            return Err(wrong(
                "AWS_ACCESS_KEY_ID",
                "it is not set, and AWS_SECRET_ACCESS_KEY is",
            ));
        }
        (None, None) => profile.credentials()?,
    };
    if !credentials
        .key_id
        .bytes()
        .all(|byte| byte.is_ascii_graphic())
    {
        return Err(wrong(
            "AWS_ACCESS_KEY_ID",
            "it has blanks or signs that no key has",
        ));
    }
    let credentials = Some(credentials);
    Ok(Found {
        credentials,
        region,
    })
}

/// The profile that is chosen, in both files.
struct Profiles {
    name: String,
    is_named: bool,
    files: [Option<PathBuf>; 2],
    merged: Profile,
}

impl Profiles {
    fn of(options: &BackendOptions) -> Result<Self, OptionError> {
        let variable = |name: &str| {
            options
                .variable(name)
                .map(|value| value.reveal().to_owned())
        };
        let named = variable("AWS_PROFILE").or_else(|| variable("AWS_DEFAULT_PROFILE"));
        let is_named = named.is_some();
        let name = named.unwrap_or_else(|| "default".to_owned());
        let home = variable("HOME").map(PathBuf::from);
        let file = |name: &str, default: &str| {
            let set = variable(name).map(PathBuf::from);
            set.or_else(|| Some(home.as_ref()?.join(default)))
        };
        let files = [
            file("AWS_CONFIG_FILE", ".aws/config"),
            file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
        ];
        let mut merged = Profile::new();
        let mut is_found = false;
        for (index, path) in files.iter().enumerate() {
            let Some(text) = path.as_ref().map(read).transpose()?.flatten() else {
                continue;
            };
            let sections = sections(&text);
            let wanted = [format!("profile {name}"), name.clone()];
            // In the first file all but the default have a word before their names.
            let wanted = if index == 0 {
                &wanted[..]
            } else {
                &wanted[1..]
            };
            for section in wanted.iter().filter_map(|wanted| sections.get(wanted)) {
                is_found = true;
                merged.extend(section.clone());
            }
        }
        if is_named && !is_found {
            let list: Vec<String> = files
                .iter()
                .flatten()
                .map(|path| path.display().to_string())
                .collect();
            return Err(OptionError {
                name: "AWS_PROFILE".into(),
                why: format!("there is no profile {name:?} in {}", list.join(" nor ")),
            });
        }
        Ok(Self {
            name,
            is_named,
            files,
            merged,
        })
    }

    fn credentials(self) -> Result<Credentials, OptionError> {
        let mut merged = self.merged;
        if let (Some(key_id), Some(secret)) = (
            merged.remove("aws_access_key_id"),
            merged.remove("aws_secret_access_key"),
        ) {
            let session_token = merged.remove("aws_session_token").map(Secret::new);
            let secret = Secret::new(secret);
            return Ok(Credentials {
                key_id,
                secret,
                session_token,
            });
        }
        let unsupported = UNSUPPORTED.iter().find(|name| merged.contains_key(**name));
        if let Some(unsupported) = unsupported {
            return Err(OptionError {
                name: format!("profile {:?}", self.name),
                why: format!(
                    "{unsupported} is not supported; `aws configure export-credentials` shows keys that can be given in AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
                ),
            });
        }
        let place = match self.files {
            [_, Some(path)] if self.is_named => format!(
                ", and the profile {:?} in {} has none",
                self.name,
                path.display()
            ),
            [_, Some(path)] => format!(", and {} has none", path.display()),
            _ => String::new(),
        };
        Err(OptionError {
            name: "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY".into(),
            why: format!(
                "they are not set{place}; for a bucket that everybody may use, there is -o s3.unsafe-anonymous-auth=true"
            ),
        })
    }
}

/// A file that is missing says nothing, one that can't be read is an error.
fn read(path: &PathBuf) -> Result<Option<String>, OptionError> {
    use std::io::Read as _;
    let wrong = |why: String| OptionError {
        name: path.display().to_string(),
        why,
    };
    let file = match std::fs::File::open(path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|cause| wrong(cause.to_string()))?,
    };
    let mut text = String::new();
    let read = file.take(FILE_MAX_BYTES).read_to_string(&mut text);
    read.map_err(|cause| wrong(cause.to_string()))?;
    Ok(Some(text))
}

/// Sections of `[name]` and `key = value`. What is indented belongs to a list that nobody here needs.
fn sections(text: &str) -> BTreeMap<String, Profile> {
    let mut sections: BTreeMap<String, Profile> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with(['#', ';']) || line.starts_with([' ', '\t']) {
            continue;
        }
        if let Some(name) = trimmed
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
        {
            let name = name
                .0
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .replace('"', "");
            sections.entry(name.clone()).or_default();
            current = Some(name);
        } else if let (Some((key, value)), Some(current)) = (trimmed.split_once('='), &current) {
            let value = value.split(" #").next().unwrap_or_default().trim();
            if let Some(section) = sections.get_mut(current) {
                section.insert(key.trim().to_ascii_lowercase(), value.to_owned());
            }
        }
    }
    sections
}

fn wrong(name: &str, why: &str) -> OptionError {
    OptionError {
        name: name.to_owned(),
        why: why.to_owned(),
    }
}
