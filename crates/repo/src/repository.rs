//! An open repository: a backend, the keys to it and its config.
//! It must never write a file whose plaintext it could not read back, and never create what should already be there.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_format::chunker::Chunker;
use lifeboat_format::{
    CompressionMode, Compressor, Config, FormatError, Id, KeyFile, KeyMaking, KeyParams, MasterKey,
    NONCE_BYTES, OVERHEAD_BYTES, Polynomial, compress_unpacked, decode_unpacked,
};

mod interrupted;

use interrupted::interrupted_init;

use crate::backend::{Backend, BackendError, FileKind, FileName};
use crate::clock::now;
use crate::index::store::ImageStore;
use crate::index_image::IMAGE_MIN_BYTES;
use crate::random;
use crate::{RepoError, both};

/// Longest config, key, lock or snapshot file that is read, in bytes.
const SMALL_FILE_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Longest index file that is read, in bytes.
const INDEX_FILE_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Small files that are fetched at once, at least: decrypting and parsing take time on a local disk too.
const LOADERS_MIN: usize = 4;
/// Small files that are fetched at once, at most: an index file may take [`INDEX_FILE_MAX_BYTES`] while it is read.
const LOADERS_MAX: usize = 16;
/// Requests at once at most, whatever a backend is worth.
const REQUESTS_MAX: usize = 32;
/// Keys that are tried with a password, as restic does: each costs half a second.
const KEYS_TRIED_MAX: usize = 20;

/// Who opens a repository, for the files that say so.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The user's name.
    pub username: String,
    /// The host's name.
    pub hostname: String,
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl Identity {
    /// The user and host of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let username = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        });
        let hostname = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        Self {
            username: username.unwrap_or_default(),
            hostname,
            uid,
            gid: rustix::process::getegid().as_raw(),
        }
    }
}

/// How much work a password costs to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyCost {
    /// As much as restic's: half a second on this machine, never below its floor.
    Calibrated,
    /// Next to nothing. For tests: whoever has the repository can guess the password.
    Test,
}

impl KeyCost {
    /// restic's floor (its `DefaultKDFParams`), in this order: N, r, p.
    const FLOOR: KeyParams = KeyParams {
        n: 1 << 15,
        r: 8,
        p: 1,
    };
    /// restic's time for one try on one core.
    const CALIBRATED: Duration = Duration::from_millis(500);
    /// Lanes at most: beyond that a fast machine would lock out a slow one.
    const LANES_MAX: u32 = 8;

    fn params(self) -> KeyParams {
        if self == Self::Test {
            return KeyParams { n: 2, r: 1, p: 1 };
        }
        let begin = Instant::now();
        // The result does not matter, only how long it takes; the floor is legal.
        let _ = Self::FLOOR.derive(b"calibration", &[0; 64]);
        let lane = begin.elapsed().max(Duration::from_millis(1));
        let lanes = Self::CALIBRATED.as_millis().div_ceil(lane.as_millis());
        KeyParams {
            p: u32::try_from(lanes)
                .unwrap_or(Self::LANES_MAX)
                .clamp(1, Self::LANES_MAX),
            ..Self::FLOOR
        }
    }
}

/// An open repository.
pub struct Repository {
    backend: Arc<dyn Backend>,
    master: MasterKey,
    key_id: Id,
    config: Config,
    /// As it lies in the repository: other programs may have added to it.
    pub(crate) config_json: Vec<u8>,
    chunker: Chunker,
    image_store: Option<ImageStore>,
    image_min_bytes: u64,
}

impl Repository {
    /// Makes a new repository where none is. An init that was interrupted is finished, if its password is known.
    ///
    /// # Errors
    /// [`RepoError::Exists`] if there is one, [`RepoError::Refused`] if there is a part of one,
    /// [`RepoError::ConfigInTheWay`] if what is left of its config can't be removed; others when the backend can't be
    /// written.
    pub fn init(
        backend: Arc<dyn Backend>,
        password: &[u8],
        version: u32,
        polynomial: Option<Polynomial>,
        who: &Identity,
        cost: KeyCost,
    ) -> Result<Self, RepoError> {
        let draw = || {
            let mut failed = None;
            let drawn = Polynomial::draw(|| {
                random::bytes().map(u64::from_le_bytes).unwrap_or_else(|e| {
                    failed = Some(e);
                    0
                })
            });
            failed.map_or_else(
                || {
                    drawn.ok_or_else(|| {
                        RepoError::Random("no irreducible polynomial was drawn".into())
                    })
                },
                Err,
            )
        };
        let polynomial = polynomial.map_or_else(draw, Ok)?;
        let config = Config {
            version,
            id: Id(random::bytes()?).to_string(),
            chunker_polynomial: polynomial,
        };
        let whole_bytes = (config.to_json().len() + OVERHEAD_BYTES) as u64;
        let location = backend.location();
        let broken_off_bytes = match backend.size(FileName::CONFIG) {
            Ok(size_bytes) if size_bytes >= whole_bytes => {
                return Err(RepoError::Exists { location });
            }
            Ok(size_bytes) => Some(size_bytes),
            Err(error)
                if error.is_missing()
                    || matches!(error, crate::backend::BackendError::NoRepository { .. }) =>
            {
                None
            }
            Err(error) => return Err(error.into()),
        };
        backend.create()?;
        let (key_id, master) = match interrupted_init(backend.as_ref(), password, broken_off_bytes)?
        {
            Some((id, master)) => (Some(id), master),
            None => (None, MasterKey::from_bytes(&random::bytes()?)),
        };
        let chunker = chunker(&config, &location)?;
        let mut repository = Self {
            backend,
            master,
            key_id: Id::default(),
            config_json: config.to_json(),
            config,
            chunker,
            image_store: None,
            image_min_bytes: IMAGE_MIN_BYTES,
        };
        repository.key_id = match key_id {
            Some(id) => id,
            None => repository.add_key(password, who, cost)?,
        };
        // The config comes last: it is what makes this a repository.
        let sealed = repository.sealed_config()?;
        repository.backend.save(FileName::CONFIG, &[&sealed])?;
        Ok(repository)
    }

    /// Opens a repository with a password.
    ///
    /// # Errors
    /// [`RepoError::WrongPassword`] if no key fits; others when it is not there or damaged.
    pub fn open(
        backend: Arc<dyn Backend>,
        password: &[u8],
        key_hint: Option<&str>,
    ) -> Result<Self, RepoError> {
        let location = backend.location();
        // A key alone makes no repository: what is missing should be named before a password is tried.
        let (sealed_config, ids) = both(
            || backend.load(FileName::CONFIG, SMALL_FILE_MAX_BYTES),
            || ids(backend.as_ref(), FileKind::Key),
        );
        let sealed_config = match sealed_config {
            Err(error) if error.is_missing() => {
                return Err(BackendError::NoRepository {
                    location,
                    what: "the file config".into(),
                }
                .into());
            }
            other => other?,
        };
        let mut ids = ids?;
        if let Some(hint) = key_hint {
            ids.sort_by_key(|id| !id.to_string().starts_with(hint));
        }
        let mut damaged = None;
        for id in ids.into_iter().take(KEYS_TRIED_MAX) {
            match unlock(backend.as_ref(), id, password) {
                Ok(master) => {
                    let json = open_config(backend.as_ref(), &master, sealed_config)?;
                    let config = Config::from_json(&json).map_err(|cause| match cause {
                        FormatError::Version { .. } => RepoError::Version {
                            location: location.clone(),
                            cause,
                        },
                        cause => RepoError::Damaged {
                            name: FileName::CONFIG,
                            location: location.clone(),
                            cause,
                        },
                    })?;
                    let chunker = chunker(&config, &location)?;
                    return Ok(Self {
                        backend,
                        master,
                        key_id: id,
                        config,
                        config_json: json,
                        chunker,
                        image_store: None,
                        image_min_bytes: IMAGE_MIN_BYTES,
                    });
                }
                Err(RepoError::Damaged {
                    cause: FormatError::Unauthenticated,
                    ..
                }) => {}
                Err(error) => damaged = Some(error),
            }
        }
        Err(damaged.unwrap_or(RepoError::WrongPassword { location }))
    }

    /// The same repository over another way to its backend, as one with a cache of its ID.
    #[must_use]
    pub fn with_backend(
        mut self,
        wrap: impl FnOnce(Arc<dyn Backend>, &Config) -> Arc<dyn Backend>,
    ) -> Self {
        self.backend = wrap(self.backend, &self.config);
        self
    }

    /// The same repository with a folder of caches, where an image of a large index is kept, so that it need not be read
    /// each time.
    #[must_use]
    pub fn with_index_cache(mut self, base: &Path) -> Self {
        self.image_store = ImageStore::new(base, &self.config.id, &self.master, true);
        self
    }

    /// The same, but what is kept there is not looked at, and an image that is made is in the way of nobody: for who asks
    /// what there is now.
    #[must_use]
    pub fn with_fresh_index(mut self, base: &Path) -> Self {
        self.image_store = ImageStore::new(base, &self.config.id, &self.master, false);
        self
    }

    /// The same repository, with an image made of index files that have so many bytes together, instead of 16 MiB:
    /// for tests, and for machines with little memory.
    #[must_use]
    pub fn with_index_image_from(mut self, min_bytes: u64) -> Self {
        self.image_min_bytes = min_bytes;
        self
    }

    pub(crate) fn image_store(&self) -> Option<&ImageStore> {
        self.image_store.as_ref()
    }

    pub(crate) fn image_min_bytes(&self) -> u64 {
        self.image_min_bytes
    }

    /// Threads that fetch small files at once: as many as the backend is worth.
    pub(crate) fn loaders(&self) -> usize {
        self.backend.connections().clamp(LOADERS_MIN, LOADERS_MAX)
    }

    /// Threads that read blobs: as many as the backend is worth, but no fewer than there is work for.
    pub(crate) fn readers(&self, threads: usize) -> usize {
        let requests = self.backend.connections().min(REQUESTS_MAX);
        requests.max(threads).max(1)
    }

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The config.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The chunker of this repository's polynomial.
    #[must_use]
    pub fn chunker(&self) -> &Chunker {
        &self.chunker
    }

    /// The keys.
    #[must_use]
    pub fn master(&self) -> &MasterKey {
        &self.master
    }

    /// The key that the password opened.
    #[must_use]
    pub fn key_id(&self) -> Id {
        self.key_id
    }

    /// Whether blobs and files may be compressed.
    #[must_use]
    pub fn compresses(&self) -> bool {
        self.config.version >= 2
    }

    /// Puts the repository's keys under one more password and gives the new key's ID.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn add_key(&self, password: &[u8], who: &Identity, cost: KeyCost) -> Result<Id, RepoError> {
        let file = KeyFile::protect(
            &self.master,
            password,
            cost.params(),
            random::bytes()?,
            &random::nonce()?,
            KeyMaking {
                created: now(),
                username: &who.username,
                hostname: &who.hostname,
            },
        )?;
        let json = file.to_json();
        let id = Id::of(&json);
        self.backend
            .save(FileName::new(FileKind::Key, id), &[&json])?;
        Ok(id)
    }

    /// All keys with what they say of themselves.
    ///
    /// # Errors
    /// When they can't be listed or one can't be read.
    pub fn keys(&self) -> Result<Vec<(Id, KeyFile)>, RepoError> {
        self.ids(FileKind::Key)?
            .into_iter()
            .map(|id| Ok((id, load_key(self.backend.as_ref(), id)?)))
            .collect()
    }

    /// Removes a key.
    ///
    /// # Errors
    /// [`RepoError::Refused`] for the key that opened the repository.
    pub fn remove_key(&self, id: Id) -> Result<(), RepoError> {
        if id == self.key_id {
            return Err(RepoError::Refused(format!(
                "key {} opened the repository and can't be removed with it; open it with another password",
                id.short()
            )));
        }
        Ok(self.backend.remove(FileName::new(FileKind::Key, id))?)
    }

    /// Makes another key the one that counts as ours, after its password was set: the old one may then be removed.
    pub fn use_key(&mut self, id: Id) {
        self.key_id = id;
    }

    /// The content of a file as it lies in the backend, compared with its name. What does not have the hash that it is
    /// named by is fetched once more: it may have been garbled on the way.
    ///
    /// # Errors
    /// When it is not there or its hash is not its name.
    pub fn load_raw(&self, name: FileName) -> Result<Vec<u8>, RepoError> {
        let limit = match name.kind {
            FileKind::Index => INDEX_FILE_MAX_BYTES,
            FileKind::Pack => u64::from(u32::MAX),
            _ => SMALL_FILE_MAX_BYTES,
        };
        match name.kind {
            FileKind::Config => Ok(self.backend.load(name, limit)?),
            _ => load_named(self.backend.as_ref(), name, limit),
        }
    }

    /// The JSON in an encrypted file: config, index file, snapshot or lock.
    ///
    /// # Errors
    /// When it is not there or damaged.
    pub fn load_json(&self, name: FileName) -> Result<Vec<u8>, RepoError> {
        let mut sealed = self.load_raw(name)?;
        if name.kind == FileKind::Config {
            return open_config(self.backend.as_ref(), &self.master, sealed);
        }
        let plain = self
            .master
            .open(&mut sealed)
            .map_err(|cause| self.damaged(name, cause))?
            .to_vec();
        decode_unpacked(plain, name.kind.noun()).map_err(|cause| self.damaged(name, cause))
    }

    /// Encrypts JSON and stores it under its hash.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save_json(&self, kind: FileKind, json: &[u8]) -> Result<Id, RepoError> {
        let (id, sealed) = self.seal_json(kind, json)?;
        self.backend.save(FileName::new(kind, id), &[&sealed])?;
        Ok(id)
    }

    /// The encrypted form of JSON, and its hash.
    pub(crate) fn seal_json(
        &self,
        kind: FileKind,
        json: &[u8],
    ) -> Result<(Id, Vec<u8>), RepoError> {
        let mut plain = Vec::new();
        if self.compresses() {
            let mode = CompressionMode::Auto;
            let compressed =
                Compressor::new(mode).and_then(|mut c| compress_unpacked(json, &mut c, &mut plain));
            compressed.map_err(|e| RepoError::WriterFailed(e.to_string()))?;
        } else {
            plain.extend_from_slice(json);
        }
        let sealed = self.seal(&plain)?;
        // Metadata is small and precious: what can't be read back must not be stored.
        let mut copy = sealed.clone();
        let back = self.master.open(&mut copy)?.to_vec();
        if decode_unpacked(back, kind.noun())? != json {
            return Err(RepoError::WriterFailed(format!(
                "the {} did not survive its own encryption: this machine's memory is not to be trusted",
                kind.noun()
            )));
        }
        Ok((Id::of(&sealed), sealed))
    }

    /// The error for a damaged file.
    #[must_use]
    pub fn damaged(&self, name: FileName, cause: FormatError) -> RepoError {
        RepoError::Damaged {
            name,
            location: self.backend.location(),
            cause,
        }
    }

    pub(crate) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, RepoError> {
        let mut sealed = vec![0; NONCE_BYTES];
        sealed.extend_from_slice(plain);
        self.master
            .seal(&random::nonce()?, &mut sealed)
            .map_err(|e| RepoError::Random(e.to_string()))?;
        Ok(sealed)
    }

    /// IDs of all files of a kind, sorted, each once.
    ///
    /// # Errors
    /// When the listing is not complete.
    pub fn ids(&self, kind: FileKind) -> Result<Vec<Id>, RepoError> {
        Ok(ids(self.backend.as_ref(), kind)?)
    }

    /// The only file of a kind whose ID begins like this.
    ///
    /// # Errors
    /// When none or several do.
    pub fn find(&self, kind: FileKind, prefix: &str) -> Result<Id, RepoError> {
        let prefix = prefix.to_ascii_lowercase();
        let hits: Vec<Id> = self
            .ids(kind)?
            .into_iter()
            .filter(|id| id.to_string().starts_with(&prefix))
            .collect();
        match hits.as_slice() {
            [id] if !prefix.is_empty() => Ok(*id),
            [] => Err(RepoError::NotFound(format!(
                "no {} has an ID that begins with {prefix:?}",
                kind.noun()
            ))),
            several => {
                let shown: Vec<String> = several.iter().take(5).map(Id::short).collect();
                Err(RepoError::NotFound(format!(
                    "{} {}s have an ID that begins with {prefix:?}: {} …",
                    several.len(),
                    kind.noun(),
                    shown.join(", ")
                )))
            }
        }
    }
}

fn chunker(config: &Config, location: &str) -> Result<Chunker, RepoError> {
    Chunker::new(config.chunker_polynomial).ok_or_else(|| {
        RepoError::Refused(format!(
            "the chunker polynomial of {location} makes no chunker"
        ))
    })
}

/// The content of a file that is named by its hash. Only what comes twice with another hash is damaged.
fn load_named(
    backend: &dyn Backend,
    name: FileName,
    limit_bytes: u64,
) -> Result<Vec<u8>, RepoError> {
    let first = backend.load(name, limit_bytes)?;
    if Id::of(&first) == name.id {
        return Ok(first);
    }
    let second = backend.load(name, limit_bytes)?;
    let (expected, got) = (name.id, Id::of(&second));
    if got == expected {
        return Ok(second);
    }
    Err(RepoError::Damaged {
        name,
        location: backend.location(),
        cause: FormatError::Hash { expected, got },
    })
}

/// The JSON of a config that was fetched. No hash names it, so what can't be opened is fetched once more.
fn open_config(
    backend: &dyn Backend,
    master: &MasterKey,
    mut sealed: Vec<u8>,
) -> Result<Vec<u8>, RepoError> {
    if let Ok(json) = master.open(&mut sealed) {
        return Ok(json.to_vec());
    }
    let mut sealed = backend.load(FileName::CONFIG, SMALL_FILE_MAX_BYTES)?;
    let json = master
        .open(&mut sealed)
        .map_err(|cause| RepoError::Damaged {
            name: FileName::CONFIG,
            location: backend.location(),
            cause,
        })?;
    Ok(json.to_vec())
}

/// IDs of all files of a kind, sorted, and each once however often a place names it: who counts or removes twice what
/// is there once would give up the only one.
fn ids(backend: &dyn Backend, kind: FileKind) -> Result<Vec<Id>, BackendError> {
    let mut ids = Vec::new();
    backend.list(kind, &mut |id, _| ids.push(id))?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn load_key(backend: &dyn Backend, id: Id) -> Result<KeyFile, RepoError> {
    let name = FileName::new(FileKind::Key, id);
    let json = load_named(backend, name, SMALL_FILE_MAX_BYTES)?;
    KeyFile::from_json(&json).map_err(|cause| RepoError::Damaged {
        name,
        location: backend.location(),
        cause,
    })
}

fn unlock(backend: &dyn Backend, id: Id, password: &[u8]) -> Result<MasterKey, RepoError> {
    let file = load_key(backend, id)?;
    file.unlock(password).map_err(|cause| RepoError::Damaged {
        name: FileName::new(FileKind::Key, id),
        location: backend.location(),
        cause,
    })
}
