//! Makes the backend of a location from the options and the environment, with everything that belongs around it.
//! It must never contact anything, and never take a secret from the command line.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use lifeboat_flow::Event;
use lifeboat_plan::parse_go_duration;
use lifeboat_repo::Repository;
use lifeboat_repo::backend::{
    self, Backend, BackendOptions, CACHE_MAX_AGE, CachedBackend, LimitedBackend, Location,
    RateLimits, RetryPolicy, RetryingBackend, Secret, TlsOptions, remove_old_caches,
};
use tempfile::TempDir;

use crate::args::{Global, Remote};
use crate::failure::Failure;
use crate::format;
use crate::ui::Ui;

/// Variables that backends are given: all with these beginnings …
const VARIABLE_PREFIXES: [&str; 2] = ["AWS_", "RESTIC_AWS_"];
/// … and these, in capitals or, for proxies, in small letters.
const VARIABLES: [&str; 7] = [
    "RESTIC_REST_USERNAME",
    "RESTIC_REST_PASSWORD",
    "HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];
/// Permissions of the folder that holds caches.
const CACHE_PERMISSIONS: u32 = 0o700;
/// Bytes in the unit of rates.
const KIBIBYTE: u64 = 1024;

/// The backend of a location. From the inside out: what fails is tried again, and a rate is kept around that, because
/// waiting for the rate must not use up the time of a request. A cache comes when the repository's ID is known.
/// `more` are variables that count before those of the environment.
pub fn connect(
    location: &Location,
    global: &Global,
    more: &BTreeMap<String, Secret>,
    ui: &Ui,
) -> Result<Arc<dyn Backend>, Failure> {
    let remote = &global.remote;
    let mut options = options(remote)?;
    options.variables.extend(more.clone());
    let backend = backend::open(location, &options).map_err(|error| Failure::from_error(&error))?;
    let mut policy = RetryPolicy::default();
    if let Some(patience) = remote.patience {
        policy.total = patience;
    }
    let mut backend: Arc<dyn Backend> = Arc::new(RetryingBackend::new(
        backend,
        policy,
        ui.notes(),
        ui.wish.clone(),
    ));
    let rate = |rate: Option<u32>| {
        rate.filter(|rate| *rate > 0)
            .map(|rate| u64::from(rate) * KIBIBYTE)
    };
    let limits = RateLimits {
        upload_bytes_per_second: rate(remote.limit_upload),
        download_bytes_per_second: rate(remote.limit_download),
    };
    if limits != RateLimits::default() {
        backend = Arc::new(LimitedBackend::new(backend, limits, ui.wish.clone()));
    }
    Ok(backend)
}

/// Whose cache a command uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// The repository's, which is kept for the next command.
    Kept,
    /// A new one that is removed in the end: a check asks what the backend has, not what it once had.
    Fresh,
}

/// The repository with a cache, unless nobody wants one; and the folder of a fresh one, which is removed when it is
/// dropped. A cache is outermost: what it holds is neither fetched nor paced. Of a directory of this machine only the
/// image of a large index is kept.
pub fn with_cache(
    repository: Repository,
    location: &Location,
    global: &Global,
    ui: &Ui,
    caching: Caching,
) -> (Repository, Option<TempDir>) {
    let remote = &global.remote;
    if remote.no_cache {
        return (repository, None);
    }
    if matches!(location, Location::Local(_)) {
        // Its files are here already, but for what is made of its index.
        let repository = match (cache_base(remote), caching) {
            (None, _) => repository,
            (Some(base), Caching::Kept) => repository.with_index_cache(&base),
            (Some(base), Caching::Fresh) => repository.with_fresh_index(&base),
        };
        return (repository, None);
    }
    let without = |why: &dyn std::fmt::Display| {
        let text = format!("working without a cache: {why}");
        ui.notes().event(Event::Note(text));
    };
    let Some(base) = cache_base(remote) else {
        without(&"nothing says where it may be; give --cache-dir or set HOME");
        return (repository, None);
    };
    if remote.cleanup_cache {
        clean_up(&base, ui);
    }
    let fresh = match caching {
        Caching::Kept => None,
        Caching::Fresh => match fresh_below(&base) {
            Ok(fresh) => Some(fresh),
            Err(error) => {
                without(&format_args!("{}: {error}", base.display()));
                return (repository, None);
            }
        },
    };
    let base = fresh.as_ref().map_or(base.as_path(), TempDir::path);
    let repository = repository
        .with_backend(|inner, config| CachedBackend::wrap(inner, base, &config.id, ui.notes()))
        .with_index_cache(base);
    (repository, fresh)
}

/// A new folder with a name by which restic and `--cleanup-cache` know what it is, should nobody remove it.
fn fresh_below(base: &Path) -> std::io::Result<TempDir> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(CACHE_PERMISSIONS)
        .create(base)?;
    let number = lifeboat_repo::now().unix_nanoseconds();
    tempfile::Builder::new()
        .prefix(&format!("restic-check-cache-{number}"))
        .rand_bytes(0)
        .tempdir_in(base)
}

fn clean_up(base: &Path, ui: &Ui) {
    match remove_old_caches(base, SystemTime::now(), CACHE_MAX_AGE) {
        Ok(0) => {}
        Ok(removed) => ui.say(format_args!(
            "removed {} that nobody used for 30 days",
            format::count(removed as u64, "cache")
        )),
        Err(error) => ui.warn(format_args!(
            "can't remove old caches in {}: {error}",
            base.display()
        )),
    }
}

/// Below which folder the caches of repositories are.
fn cache_base(remote: &Remote) -> Option<PathBuf> {
    if let Some(dir) = &remote.cache_dir {
        return Some(dir.clone());
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = match set("XDG_CACHE_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(set("HOME")?).join(".cache"),
    };
    Some(cache.join("lifeboat/repositories"))
}

fn options(remote: &Remote) -> Result<BackendOptions, Failure> {
    let mut options = BackendOptions {
        variables: variables(),
        settings: settings(&remote.options)?,
        tls: TlsOptions {
            ca_files: remote.cacert.clone(),
            client_file: remote.tls_client_cert.clone(),
            insecure: remote.insecure_tls,
        },
        ..BackendOptions::default()
    };
    if let Some(text) = &remote.stuck_request_timeout {
        let doing = "--stuck-request-timeout";
        options.stall = parse_go_duration(text)
            .map_err(|error| Failure::from_error(&error).while_doing(doing))?;
        if options.stall.is_zero() {
            return Err(Failure::new(format!(
                "{doing}: no request succeeds within no time"
            )));
        }
    }
    Ok(options)
}

fn variables() -> BTreeMap<String, Secret> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| {
            let is_proxy = name.ends_with("_proxy");
            VARIABLES.contains(&name.as_str())
                || is_proxy && VARIABLES.contains(&name.to_ascii_uppercase().as_str())
                || VARIABLE_PREFIXES
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
        })
        .map(|(name, value)| (name, Secret::new(value)))
        .collect()
}

/// Reads `KEY=VALUE`, keys in any case as restic does.
fn settings(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut settings = BTreeMap::new();
    for text in texts {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            Failure::new(format!("--option {text:?} is not of the form KEY=VALUE"))
        })?;
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        let kind = key.split_once('.').map(|(kind, _)| kind);
        if !backend::option_kinds().any(|known| kind == Some(known)) {
            let known: Vec<String> = backend::option_kinds()
                .map(|kind| format!("{kind}."))
                .collect();
            return Err(Failure::new(format!(
                "--option {key}: it belongs to no kind of place that this program knows"
            ))
            .hint(format!(
                "options begin with one of {}, as s3.region=eu-west-1",
                known.join(", ")
            )));
        }
        let before = settings.insert(key.clone(), value.to_owned());
        if before.is_some_and(|before| before != value) {
            return Err(Failure::new(format!(
                "--option {key} is given twice, with two values"
            )));
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<BTreeMap<String, String>, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        settings(&texts).map_err(|failure| failure.message)
    }

    #[test]
    fn options_are_read_as_restic_reads_them() {
        let found = read(&["s3.Region= eu ", "sftp.args=-p 22 -o a=b", "s3.region=eu"]).unwrap();
        assert_eq!(found["s3.region"], "eu");
        assert_eq!(found["sftp.args"], "-p 22 -o a=b");
        for wrong in [
            &["s3.region"][..],
            &["region=eu"],
            &["b2.connections=3"],
            &["=x"],
            &["s3.region=eu", "s3.region=us"],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_cache_of_ours_is_not_beside_that_of_the_tools() {
        let remote = Remote {
            cache_dir: Some("/var/cache/restic".into()),
            ..Remote::default()
        };
        assert_eq!(
            cache_base(&remote).unwrap(),
            PathBuf::from("/var/cache/restic")
        );
    }
}
