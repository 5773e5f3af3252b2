//! A rate is kept on average, whoever transfers, and neither locks nor a wish to stop wait for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_flow::Cancel;
use lifeboat_format::Id;
use lifeboat_repo::backend::{
    Backend, BackendError, FileKind, FileName, LimitedBackend, MemoryBackend, RateLimits,
};

const KIBIBYTE: u64 = 1024;

fn name(kind: FileKind, number: u8) -> FileName {
    FileName::new(kind, Id([number; 32]))
}

fn limited(up: Option<u64>, down: Option<u64>) -> (LimitedBackend, Cancel) {
    let memory = MemoryBackend::new();
    memory.create().unwrap();
    let cancel = Cancel::new();
    let limits = RateLimits {
        upload_bytes_per_second: up,
        download_bytes_per_second: down,
    };
    let backend = LimitedBackend::new(Arc::new(memory), limits, cancel.clone());
    (backend, cancel)
}

#[test]
fn several_threads_share_one_rate_in_each_direction() {
    // 8 files of 16 KiB at 1 MiB a second are an eighth of a second: never less.
    let rate = Some(KIBIBYTE * KIBIBYTE);
    let content = vec![7u8; 16 * 1024];
    let (backend, _) = limited(rate, rate);
    let all = |work: &(dyn Fn(u8) + Sync)| {
        let began = Instant::now();
        std::thread::scope(|scope| {
            for number in 0..8 {
                scope.spawn(move || work(number));
            }
        });
        began.elapsed()
    };
    let expected = Duration::from_millis(125);
    let up = all(&|number| {
        backend
            .save(name(FileKind::Pack, number), &[&content])
            .unwrap();
    });
    assert!(up >= expected, "{up:?}");
    let down = all(&|number| {
        let name = name(FileKind::Pack, number);
        if number % 2 == 0 {
            assert_eq!(backend.load(name, u64::MAX).unwrap(), content);
        } else {
            let mut buf = vec![0; content.len()];
            backend.load_at(name, 0, &mut buf).unwrap();
            assert_eq!(buf, content);
        }
    });
    assert!(down >= expected, "{down:?}");
}

#[test]
fn a_lock_does_not_wait_behind_packs() {
    // At a byte a second a pack of this size takes an hour.
    let (backend, cancel) = limited(Some(1), Some(1));
    let pack = name(FileKind::Pack, 1);
    std::thread::scope(|scope| {
        let uploading = scope.spawn(|| backend.save(pack, &[&[0; 3600]]));
        while backend.size(pack).is_err() {
            std::thread::yield_now();
        }
        let lock = name(FileKind::Lock, 1);
        backend.save(lock, &[&[0; 300]]).unwrap();
        backend.load(lock, 1000).unwrap();
        // A second pack must wait; the wish to stop ends that, and leaves what was done as it is.
        let waiting = scope.spawn(|| backend.save(name(FileKind::Pack, 2), &[&[0; 3600]]));
        cancel.cancel();
        assert!(matches!(
            waiting.join().unwrap(),
            Err(BackendError::Cancelled(_))
        ));
        uploading.join().unwrap().unwrap();
    });
    assert!(
        backend
            .size(name(FileKind::Pack, 2))
            .unwrap_err()
            .is_missing()
    );
}

#[test]
fn without_a_limit_nothing_waits() {
    let (backend, _) = limited(Some(1), None);
    let lock = name(FileKind::Lock, 1);
    backend.save(lock, &[&[1; 3600]]).unwrap();
    assert_eq!(backend.load(lock, 3600).unwrap().len(), 3600);
    backend.remove(lock).unwrap();
}
