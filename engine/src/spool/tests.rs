//! The whole room over a real directory and the `epoll` driver.

use std::path::Path;

use super::*;
use crate::io::{Choice, IoOptions};

fn options(folder: &Path, key: Option<u8>) -> SpoolOptions {
    let key = key.map(|byte| SpoolKey::from_bytes(&[byte; 32]).expect("32 bytes"));
    SpoolOptions {
        segment_bytes: SEGMENT_BYTES_MIN,
        key,
        allow_volatile: true,
        min_free_bytes: 0,
        linger: Duration::from_millis(1),
        ..SpoolOptions::new(folder)
    }
}

fn in_shard<T>(work: impl AsyncFnOnce(Io) -> T) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let io_options = IoOptions {
            choice: Choice::Epoll,
            block_memory_bytes: 8 << 20,
            ..IoOptions::default()
        };
        work(Io::start(&io_options).expect("epoll is always there")).await
    })
}

fn id(number: u128) -> MessageId {
    MessageId::from_u128(number)
}

/// Content that tells its message and position.
fn content(number: u128, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| u8::try_from((at * 31 + at / 251 + number as usize) % 251).unwrap_or(0))
        .collect()
}

async fn store(spool: &Spool, number: u128, bytes: usize) -> Stored {
    let mut draft = spool.draft(None);
    let content = content(number, bytes);
    let mut rest = &content[..];
    while let Err(full) = draft.write(rest) {
        rest = &rest[full.taken..];
        spool.spill(&mut draft).await.expect("spilled");
    }
    let meta = format!("meta of {number}");
    spool.commit(draft, id(number), meta.as_bytes()).await.expect("committed")
}

async fn read(spool: &Spool, number: u128) -> Vec<u8> {
    spool.content(id(number)).await.expect("content").concat()
}

#[test]
fn what_was_committed_is_found_again_sealed_or_not() {
    for key in [None, Some(1)] {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(folder.path(), key);
        let sizes = [0, 1, 5000, 9000, 70_000, 300_000, 2_500_000];
        in_shard(async |io| {
            let (spool, found, _) = open(&io, &options, 0, 1).expect("opened");
            assert!(found.is_empty());
            for (number, bytes) in (1..).zip(sizes) {
                store(&spool, number, bytes).await;
                assert!(read(&spool, number).await == content(number, bytes), "hot {bytes}");
            }
            spool.note_durable(id(2), b"deferred".to_vec()).await.expect("noted");
            spool.settle(id(3));
            spool.drain().await;
        });
        in_shard(async |io| {
            let (spool, found, report) = open(&io, &options, 0, 1).expect("opened again");
            let ids: Vec<_> = found.iter().map(|message| message.id.as_u128()).collect();
            assert_eq!(ids, [1, 2, 4, 5, 6, 7]);
            assert!(report.damaged.is_empty() && report.damaged_messages.is_empty());
            assert_eq!(found[1].note.as_deref(), Some(&b"deferred"[..]));
            assert_eq!(found[0].meta, b"meta of 1");
            for message in &found {
                let number = message.id.as_u128();
                let bytes = sizes[number as usize - 1];
                assert_eq!(message.content_bytes, bytes as u64);
                assert!(read(&spool, number).await == content(number, bytes), "cold {bytes}");
            }
            assert!(matches!(spool.content(id(3)).await, Err(SpoolError::NotFound)));
        });
    }
}
