//! How fast the kernels are on this processor, in GB/s: the table that benchmarks compare with.
//! It must never be part of what is shipped.
#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures time"
)]

use std::hint::black_box;
use std::time::Instant;

use lifeboat_kernels::{Kernel, RabinTable, sha256, sha256_each};

const BYTES: usize = 64 << 20;

fn best(mut work: impl FnMut()) -> f64 {
    let runs = (0..7).map(|_| {
        let began = Instant::now();
        work();
        BYTES as f64 / began.elapsed().as_secs_f64() / 1e9
    });
    runs.fold(0.0, f64::max)
}

fn main() {
    let mut state = 1u64;
    let data: Vec<u8> = (0..BYTES / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    let table = RabinTable::new(0x003D_A335_8B4D_C173).expect("a polynomial");
    for kernel in Kernel::ALL {
        if kernel.choose().is_err() {
            continue;
        }
        // No position is a candidate of this mask in practice, so that all of it is searched.
        let rabin = best(|| {
            for chunk in data.chunks(1 << 20) {
                black_box(table.find(chunk, 64, (1 << 20) - 1));
            }
        });
        let blobs: Vec<&[u8]> = data.chunks(1 << 20).collect();
        let hashes = best(|| {
            black_box(sha256_each(&blobs));
        });
        println!(
            "{:8} rabin {rabin:6.2}, SHA-256 of many {hashes:6.2} GB/s",
            kernel.name()
        );
    }
    let hash = best(|| {
        for chunk in data.chunks(1 << 20) {
            black_box(sha256(chunk));
        }
    });
    println!("SHA-256 of one {hash:6.2} GB/s");
}
