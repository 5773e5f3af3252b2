//! How fast each stage of a backup is on this processor alone, and how many bytes of a corpus pass each of them: the
//! limit that the benchmark compares with. It must never be part of what is shipped, and it leaves nothing behind.
#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it reads files and measures time"
)]

use std::collections::HashSet;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Instant;

use lifeboat_format::chunker::{CHUNK_MAX_BYTES, CHUNK_MIN_BYTES, ChunkRule, Chunker};
use lifeboat_format::{
    CompressionMode, Compressor, Kernel, MasterKey, NONCE_BYTES, OVERHEAD_BYTES, Polynomial,
};
use lifeboat_kernels::{RabinTable, WINDOW_BYTES, sha256, sha256_each};

const POLYNOMIAL: u64 = 0x003D_A335_8B4D_C173;
/// What a stage works on while it is measured, in bytes: more than caches hold.
const BYTES: usize = 64 << 20;
const PIECE_BYTES: usize = 1 << 20;
const PACK_BYTES: usize = 16 << 20;
const FILES_OPEN_MAX: usize = 512;
/// The best of so many counts: a limit is what nothing disturbed.
const TRIES: usize = 5;

/// `stages CORPUS DIRECTORY`: prints one JSON object a line. Files are written into a directory in memory, and removed.
fn main() -> io::Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [corpus, place] = arguments.as_slice() else {
        return Err(io::Error::other("usage: stages CORPUS DIRECTORY"));
    };
    let mut files = Vec::new();
    list(corpus, &mut files)?;
    let corpus_bytes = files.iter().map(|(_, bytes)| bytes).sum();
    let (passing, sample) = pass(&files, corpus_bytes)?;
    let random = random();
    // The best one last: it is what the other stages and the program itself use.
    for kernel in Kernel::ALL.into_iter().rev() {
        if kernel.choose().is_ok() {
            instructions(kernel, &random)?;
        }
    }
    measure("compress random", "", BYTES, compressor, |tools| {
        compress(tools, random.chunks(PIECE_BYTES))
    })?;
    if !sample.is_empty() {
        let bytes = sample.iter().map(Vec::len).sum();
        measure("compress", "", bytes, compressor, |tools| {
            compress(tools, sample.iter().map(Vec::as_slice))
        })?;
    }
    let key = MasterKey::from_bytes(&std::array::from_fn(|at| at as u8 + 1));
    let buffer = |_| Ok(Vec::with_capacity(PIECE_BYTES + OVERHEAD_BYTES));
    measure("seal", "", BYTES, buffer, |buffer: &mut Vec<u8>| {
        for piece in random.chunks(PIECE_BYTES) {
            buffer.clear();
            buffer.resize(NONCE_BYTES, 0);
            buffer.extend_from_slice(piece);
            key.seal(&[1; NONCE_BYTES], buffer).map_err(failed)?;
        }
        Ok(())
    })?;
    read(files)?;
    write(place, &random)?;
    passing.print();
    Ok(())
}

/// Prints the best rate of `work` on one thread, and on all cores at once.
fn measure<S>(
    stage: &str,
    kernel: &str,
    bytes: usize,
    prepare: impl Fn(usize) -> io::Result<S> + Sync,
    work: impl Fn(&mut S) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let rate = |threads: usize| {
        let mut best = 0.0;
        for _ in 0..TRIES {
            let ready = Barrier::new(threads);
            let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
                let spawn = |thread| {
                    let (ready, prepare, work) = (&ready, &prepare, &work);
                    scope.spawn(move || {
                        // Whatever fails, the others are not left waiting.
                        let state = prepare(thread);
                        ready.wait();
                        let began = Instant::now();
                        work(&mut state?)?;
                        io::Result::Ok((began, Instant::now()))
                    })
                };
                let running: Vec<_> = (0..threads).map(spawn).collect();
                let ended = running.into_iter().map(|thread| {
                    let ended = thread.join();
                    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                });
                ended.collect::<io::Result<_>>()
            })?;
            // From the first that began to the last that ended: a thread of its own that measured would have to wait for a
            // processor.
            let began = spans.iter().map(|(began, _)| *began).min();
            let ended = spans.iter().map(|(_, ended)| *ended).max();
            let seconds = match (began, ended) {
                (Some(began), Some(ended)) => ended.duration_since(began).as_secs_f64(),
                _ => continue,
            };
            best = f64::max(best, (threads * bytes) as f64 / seconds);
        }
        io::Result::Ok(best)
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        r#"{{"stage":"{stage}","kernel":"{kernel}","one_core":{:.0},"all_cores":{:.0}}}"#,
        rate(1)?,
        rate(cores)?
    );
    Ok(())
}

/// What can only be wrong in this program itself, or in a library of it.
fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// The stages that are different with other instructions.
fn instructions(kernel: Kernel, data: &[u8]) -> io::Result<()> {
    let table = RabinTable::new(POLYNOMIAL).ok_or_else(|| failed("no polynomial"))?;
    let nothing = |_| Ok(());
    measure("chunk", kernel.name(), BYTES, nothing, |()| {
        // No position is a candidate of this mask in practice, so that all of it is searched.
        for piece in data.chunks(PIECE_BYTES) {
            black_box(table.find(piece, WINDOW_BYTES, (1 << 20) - 1));
        }
        Ok(())
    })?;
    measure("hash one", kernel.name(), BYTES, nothing, |()| {
        for piece in data.chunks(PIECE_BYTES) {
            black_box(sha256(piece));
        }
        Ok(())
    })?;
    let pieces: Vec<&[u8]> = data.chunks(PIECE_BYTES).collect();
    measure("hash two", kernel.name(), BYTES, nothing, |()| {
        for pair in pieces.chunks(2) {
            black_box(sha256_each(pair));
        }
        Ok(())
    })?;
    measure("hash many", kernel.name(), BYTES, nothing, |()| {
        black_box(sha256_each(&pieces));
        Ok(())
    })
}

fn compressor(_: usize) -> io::Result<(Compressor, Vec<u8>)> {
    let compressor = Compressor::new(CompressionMode::Auto).map_err(failed)?;
    Ok((compressor, Vec::with_capacity(2 * CHUNK_MAX_BYTES)))
}

fn compress<'d>(
    (compressor, out): &mut (Compressor, Vec<u8>),
    blobs: impl Iterator<Item = &'d [u8]>,
) -> io::Result<()> {
    for blob in blobs {
        out.clear();
        compressor.append(blob, out).map_err(failed)?;
    }
    Ok(())
}

/// Copies files from the page cache, the largest first: what opening a file takes is not a matter of bytes.
fn read(mut files: Vec<(PathBuf, u64)>) -> io::Result<()> {
    files.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let (mut open, mut total) = (Vec::new(), 0);
    for (path, bytes) in files.iter().take(FILES_OPEN_MAX) {
        let wanted = usize::try_from(*bytes)
            .unwrap_or(usize::MAX)
            .min(BYTES - total);
        open.push((File::open(path)?, wanted));
        total += wanted;
        if total == BYTES {
            break;
        }
    }
    let buffer = |_| Ok(vec![0; PIECE_BYTES]);
    measure("read", "", total, buffer, |buffer: &mut Vec<u8>| {
        for (file, wanted) in &open {
            for at in (0..*wanted).step_by(PIECE_BYTES) {
                let piece = PIECE_BYTES.min(wanted - at);
                file.read_exact_at(&mut buffer[..piece], at as u64)?;
            }
        }
        Ok(())
    })
}

/// Writes packs as files, each by one call.
fn write(place: &Path, data: &[u8]) -> io::Result<()> {
    let path = |thread: usize| place.join(format!("stages-{thread}"));
    let create = |thread| {
        // A new file each time, for its memory is to be had from the system.
        let _ = std::fs::remove_file(path(thread));
        File::create(path(thread))
    };
    let measured = measure("write", "", BYTES, create, |file: &mut File| {
        let mut packs = data.chunks(PACK_BYTES);
        packs.try_for_each(|pack| file.write_all(pack))
    });
    for thread in 0.. {
        if std::fs::remove_file(path(thread)).is_err() {
            break;
        }
    }
    measured
}

/// Bytes of a corpus that pass each stage.
#[derive(Default)]
struct Passing {
    read: u64,
    chunk: u64,
    hash: u64,
    compress: u64,
    seal: u64,
    pack: u64,
}

impl Passing {
    fn print(&self) {
        let stages = [
            ("read", self.read),
            ("chunk", self.chunk),
            ("hash", self.hash),
            ("compress", self.compress),
            ("seal", self.seal),
            ("pack hash", self.pack),
            ("write", self.pack),
        ];
        for (stage, bytes) in stages {
            println!(r#"{{"passing":"{stage}","bytes":{bytes}}}"#);
        }
    }
}

/// Does what a backup does with files, and counts. Also gives some of what was compressed, evenly from everywhere.
fn pass(files: &[(PathBuf, u64)], corpus_bytes: u64) -> io::Result<(Passing, Vec<Vec<u8>>)> {
    let chunker = Polynomial::new(POLYNOMIAL).and_then(Chunker::new);
    let chunker = chunker.ok_or_else(|| failed("no chunker"))?;
    let mut tools = compressor(0)?;
    let (mut seen, mut passing, mut sample) = (HashSet::new(), Passing::default(), Vec::new());
    let one_in = (corpus_bytes / BYTES as u64).max(1);
    for (path, _) in files {
        let mut file = File::open(path)?;
        let mut data = Vec::new();
        loop {
            let room = (CHUNK_MAX_BYTES - data.len()) as u64;
            let is_last = Read::by_ref(&mut file).take(room).read_to_end(&mut data)? == 0;
            let Some(end) = chunker.cut(ChunkRule::Restic, &data, 0, is_last) else {
                if is_last {
                    break;
                }
                continue;
            };
            let rest = data.split_off(end);
            passing.read += end as u64;
            passing.hash += end as u64;
            passing.chunk += end.saturating_sub(CHUNK_MIN_BYTES - WINDOW_BYTES) as u64;
            let hash = sha256(&data);
            if seen.insert(hash) {
                let mut stored = end;
                if tools.0.is_worthwhile(&data) {
                    passing.compress += end as u64;
                    compress(&mut tools, std::iter::once(data.as_slice()))?;
                    stored = stored.min(tools.1.len());
                    let number = hash.first_chunk().copied().map_or(0, u64::from_le_bytes);
                    if number.is_multiple_of(one_in) {
                        sample.push(std::mem::take(&mut data));
                    }
                }
                passing.seal += stored as u64;
                passing.pack += (stored + OVERHEAD_BYTES) as u64;
            }
            data = rest;
        }
    }
    Ok((passing, sample))
}

/// The files below a directory, with their sizes; no link is followed.
fn list(dir: &Path, files: &mut Vec<(PathBuf, u64)>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            list(&entry.path(), files)?;
        } else if meta.is_file() {
            files.push((entry.path(), meta.len()));
        }
    }
    Ok(())
}

fn random() -> Vec<u8> {
    let mut state = 1u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(BYTES / 8).flatten().collect()
}
