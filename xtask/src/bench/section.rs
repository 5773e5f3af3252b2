//! The sections of the benchmark, each of which can be measured alone.
//! A section never needs what another one left behind.

use super::corpus::Kind;
use super::tool::{Dialect, Tool};
use super::{
    Bench, blobs, captures, changed, cluster, disk, growth, local, pgbackrest, pushes, s3,
};
use crate::failure::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Random,
    Tree,
    Postgres,
    Kernels,
    Changed,
    S3,
    Disk,
    Growth,
    Blobs,
    Captures,
    Pushes,
}

impl Section {
    /// In the order in which they are measured and shown.
    pub(super) const ALL: [Self; 11] = [
        Self::Random,
        Self::Tree,
        Self::Postgres,
        Self::Kernels,
        Self::Changed,
        Self::S3,
        Self::Disk,
        Self::Growth,
        Self::Blobs,
        Self::Captures,
        Self::Pushes,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Random => Kind::Random.name(),
            Self::Tree => Kind::Tree.name(),
            Self::Postgres => Kind::Postgres.name(),
            Self::Kernels => "kernels",
            Self::Changed => changed::TABLE.section,
            Self::S3 => s3::FAR_TREE.section,
            Self::Disk => disk::TABLE.section,
            Self::Growth => growth::SECTION,
            Self::Blobs => blobs::TABLE.section,
            Self::Captures => captures::TABLE.section,
            Self::Pushes => pushes::LOCAL.section,
        }
    }

    /// What a reader should know of it.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Random | Self::Tree | Self::Postgres => {
                "Everything that is done with one corpus, and the stages of a first backup alone."
            }
            Self::Kernels => {
                "The first backups by each set of instructions that this processor has (`LIFEBOAT_KERNEL`); the others \
                 choose their own, and are measured once a run."
            }
            Self::Changed => {
                "Ten files of a private copy of the tree get new content before each row. Opening was measured three \
                 times a run."
            }
            Self::S3 => {
                "An S3 server (Garage) on the same machine, with its files in memory too, behind a proxy that counts and adds a round trip to each \
                 request and to each new connection. `copy` goes into a second repository in the same bucket; `prune` \
                 follows the forgetting of a snapshot of everything beside one of a half, and deletes at once. Bytes and \
                 requests are those between client and proxy."
            }
            Self::Disk => {
                "Repository and target on the disk of the user's cache, the corpus in the page cache. \"left to sync\" is \
                 how long it takes after the program ended until all it wrote is on the disk. What a program syncs was \
                 counted by `strace` on one small run."
            }
            Self::Growth => {
                "A sixteenth, a quarter and all of the work, which is MiB of the random file and files of the tree. The \
                 exponent is that of the power that fits best: 1 is proportional."
            }
            Self::Blobs => {
                "A repository that was generated and lies in the page cache: index files of restic's size, packs of the right \
                 length with nothing in them, and a snapshot that uses nine tenths of the blobs. Its key costs next to nothing to try, \
                 so what is measured is the index. To open is `cat tree` with the ID of the snapshot, for everybody: each loads \
                 the whole index for it, and one small tree. With a cache, each has a folder of its own that an earlier run has \
                 filled, and so has `prune --dry-run`. Without, the others are told `--no-cache`, and we are measured twice: with \
                 an empty folder, as in the first run on a machine, which makes the cache too, and with `--no-cache`. We and \
                 restic are told `--no-lock`; rustic has no locks. The peak of memory includes pages of mapped files."
            }
            Self::Captures => {
                "pgBackRest has two processes and level 1 of zstd, encrypts nothing, and does not take the log along or wait for \
                 it; its later backups are incremental. pg_basebackup makes a tar with the log of each capture whole. restic \
                 backs up the data directory as if nobody worked on it, which nobody should rely on: it is there for the size. \
                 Newly stored is all that the repository grows by, with trees and indexes. As much as was there has to be \
                 restored, and restic has to find our repository sound. There is no row \"snapshots\" here: opening the \
                 repository is in every number of ours and restic's."
            }
            Self::Pushes => {
                "Segments full of pgbench's work, one after the other, each by a process that a shell starts, as the server does \
                 it; the next begins when the one before is acknowledged. The wall time is that of all of them. pgBackRest has \
                 level 1 of zstd and encrypts nothing; with the bucket it works asynchronously, with four processes. Ours has its \
                 resident process, which the first push starts. The bucket is a Garage with its files in memory, 20 ms \
                 away, behind stunnel, because pgBackRest speaks to no bucket without TLS. CPU is that of the whole machine, with \
                 what works in the background, and through S3 with the server."
            }
        }
    }

    pub(super) fn measure(self, bench: &mut Bench) -> Result<()> {
        match self {
            Self::Random => local::measure(bench, Kind::Random),
            Self::Tree => local::measure(bench, Kind::Tree),
            Self::Postgres => local::measure(bench, Kind::Postgres),
            Self::Kernels => local::measure_kernels(bench),
            Self::Changed => changed::measure(bench),
            Self::S3 => s3::measure(bench),
            Self::Disk => disk::measure(bench),
            Self::Growth => growth::measure(bench),
            Self::Blobs => blobs::measure(bench),
            Self::Captures => captures::measure(bench),
            Self::Pushes => pushes::measure(bench),
        }
    }

    /// The programs that take part, with their versions.
    pub(super) fn programs(self, tools: &[Tool]) -> Result<Vec<String>> {
        let takes_part = |tool: &&Tool| match self {
            Self::Captures => tool.dialect != Dialect::Rustic,
            Self::Pushes => tool.dialect == Dialect::Lifeboat,
            _ => true,
        };
        let named = tools.iter().filter(takes_part);
        let named = named.map(|tool| format!("{} {}", tool.name, tool.version));
        let mut programs: Vec<String> = named.collect();
        if let Self::Captures | Self::Pushes = self {
            programs.push(format!(
                "{} {}",
                pgbackrest::NAME,
                pgbackrest::PgBackRest::version()?
            ));
            programs.push(cluster::version()?);
        }
        Ok(programs)
    }

    /// Those of a list of names with commas between.
    pub(super) fn of_names(names: &str) -> Option<Vec<Self>> {
        let find = |name| Self::ALL.into_iter().find(|section| section.name() == name);
        names.split(',').map(find).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_have_names() {
        let some = Some(vec![Section::Disk, Section::Tree]);
        assert_eq!(Section::of_names("disk,tree"), some);
        assert_eq!(Section::of_names("disk,trees"), None);
        for section in Section::ALL {
            assert_eq!(Section::of_names(section.name()), Some(vec![section]));
        }
    }
}
