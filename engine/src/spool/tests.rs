//! The whole room over a real directory and the `epoll` driver.

use std::path::Path;

use bytes::Bytes;

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
    in_shard_on(Choice::Epoll, work)
}

/// As [`in_shard`], on another driver.
fn in_shard_on<T>(choice: Choice, work: impl AsyncFnOnce(Io) -> T) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limit = Duration::from_secs(60);
    let work = async {
        let io_options = IoOptions { choice, block_memory_bytes: 8 << 20, ..IoOptions::default() };
        let io = Io::start(&io_options).expect("epoll is always there");
        tokio::time::timeout(limit, work(io)).await.expect("nothing hangs")
    };
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

fn id(number: u128) -> MessageId {
    MessageId::from_u128(number)
}

/// Content that tells its message and position.
fn content(number: u128, bytes: usize) -> Vec<u8> {
    let number = usize::try_from(number).expect("small");
    let byte = |at: usize| u8::try_from((at * 31 + at / 251 + number) % 251).expect("below 251");
    (0..bytes).map(byte).collect()
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

/// All of a content, each piece let go before the next one is asked for.
async fn read_out(content: Content) -> Result<Vec<u8>, SpoolError> {
    let mut whole = content.head.concat();
    drop(content.head);
    let Some(mut reader) = content.rest else { return Ok(whole) };
    while let Some(piece) = reader.next().await? {
        whole.extend_from_slice(&piece);
    }
    assert!(reader.is_over());
    Ok(whole)
}

async fn read(spool: &Spool, number: u128) -> Vec<u8> {
    let content = spool.content(id(number)).await.expect("content");
    let bytes = content.bytes;
    let whole = read_out(content).await.expect("content");
    assert_eq!(whole.len() as u64, bytes);
    whole
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
                let bytes = sizes[usize::try_from(number).expect("small") - 1];
                assert_eq!(message.content_bytes, bytes as u64);
                assert!(read(&spool, number).await == content(number, bytes), "cold {bytes}");
            }
            assert!(matches!(spool.content(id(3)).await, Err(SpoolError::NotFound)));
        });
    }
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn each_content_byte_is_copied_once() {
    for key in [None, Some(1)] {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options(folder.path(), key);
        in_shard(async |io| {
            let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
            let mut total = 0;
            for (number, bytes) in (1..).zip([100, 4096, 20_000, 600_000]) {
                assert!(store(&spool, number, bytes).await.is_hot);
                total += bytes as u64;
            }
            for (number, bytes) in (1..).zip([100, 4096, 20_000, 600_000]) {
                let pieces = spool.content(id(number)).await.expect("hot").head;
                assert!(pieces.concat() == content(number, bytes));
                let again = spool.content(id(number)).await.expect("hot").head;
                let addresses = |pieces: &[Bytes]| -> Vec<_> {
                    pieces.iter().map(|piece| piece.as_ptr()).collect()
                };
                assert_eq!(addresses(&pieces), addresses(&again), "the same memory");
            }
            assert_eq!(spool.stats().bytes_copied, total);
        });
    }
}

#[test]
fn commits_of_one_turn_share_a_group() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(folder.path(), None);
    in_shard(async |io| {
        let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
        store(&spool, 1, 10).await;
        let before = spool.stats().groups;
        let commits: Vec<_> = (2..50)
            .map(|number| {
                let spool = spool.clone();
                tokio::task::spawn_local(async move { store(&spool, number, 3000).await })
            })
            .collect();
        for commit in commits {
            commit.await.expect("no panic");
        }
        assert_eq!(spool.stats().groups - before, 1);
    });
}

#[test]
fn a_message_larger_than_memory_goes_through_in_parts() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SpoolOptions { segment_bytes: 4 << 20, ..options(folder.path(), Some(3)) };
    in_shard(async |io| {
        let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
        let stored = store(&spool, 1, 20_000_000).await;
        assert!(!stored.is_hot);
        assert!(read(&spool, 1).await == content(1, 20_000_000));
        store(&spool, 2, 3_000_000).await;
        assert!(read(&spool, 2).await == content(2, 3_000_000));
    });
}

/// Several messages, each larger than all memory, read at once by readers that hold what they were
/// given for a while, beside drafts that take all the memory they can get.
#[test]
fn many_large_messages_are_read_at_once_beside_arriving_mail() {
    const READ_AT_ONCE: u128 = 9;
    const BYTES: usize = 9_000_000;
    for (choice, key) in [
        (Choice::Epoll, None),
        (Choice::Epoll, Some(3)),
        (Choice::Auto, None),
        (Choice::Auto, Some(3)),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let options = SpoolOptions { segment_bytes: 32 << 20, ..options(folder.path(), key) };
        in_shard_on(choice, async |io| {
            let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
            store(&spool, 1, BYTES).await;
        });
        // Nothing is hot after a restart.
        in_shard_on(choice, async |io| {
            let (spool, ..) = open(&io, &options, 0, 1).expect("opened again");
            let free = io.blocks().free_bytes();
            let mut arriving = Vec::new();
            while let Some(block) = io.blocks().take(32_768) {
                arriving.push(block);
            }
            let expected: Rc<[u8]> = content(1, BYTES).into();
            let readers: Vec<_> = (0..READ_AT_ONCE)
                .map(|_| {
                    let (spool, expected) = (spool.clone(), Rc::clone(&expected));
                    tokio::task::spawn_local(async move {
                        let content = spool.content(id(1)).await.expect("content");
                        assert!(content.rest.is_some() && content.bytes == BYTES as u64);
                        assert!(read_out(content).await.expect("content") == *expected);
                    })
                })
                .collect();
            // With every other block taken, the window that was set aside has to do for all.
            let mut readers = readers.into_iter();
            readers.next().expect("nine").await.expect("no panic");
            arriving.clear();
            for reader in readers {
                reader.await.expect("no panic");
            }
            spool.drain().await;
            tokio::task::yield_now().await;
            assert_eq!(io.blocks().free_bytes(), free, "all memory came back");
        });
    }
}

#[test]
fn one_piece_is_read_ahead_and_no_more_while_the_caller_keeps_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SpoolOptions { segment_bytes: 8 << 20, ..options(folder.path(), None) };
    in_shard(async |io| {
        let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
        store(&spool, 1, 3_000_000).await;
        let mut streamed = spool.content(id(1)).await.expect("content");
        let reader = streamed.rest.as_mut().expect("a stream");
        // It waits in memory already, although the first piece is still held.
        let second = reader.next().await.expect("a piece").expect("a second");
        let third = tokio::time::timeout(Duration::from_millis(100), reader.next()).await;
        assert!(third.is_err(), "both blocks are out");
        let first_bytes = streamed.head[0].len();
        streamed.head.clear();
        let third = reader.next().await.expect("a piece").expect("a third");
        let all = content(1, 3_000_000);
        assert!(all[first_bytes..].starts_with(&[&second[..], &third[..]].concat()));
    });
}

#[test]
fn a_head_may_grow_beyond_what_a_window_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SpoolOptions { segment_bytes: 8 << 20, ..options(folder.path(), Some(1)) };
    in_shard(async |io| {
        let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
        // Spilled again and again, as when memory is short: many short parts.
        let mut draft = spool.draft(None);
        let whole = content(1, 900_000);
        for piece in whole.chunks(9_000) {
            draft.write(piece).expect("memory");
            spool.spill(&mut draft).await.expect("spilled");
        }
        spool.commit(draft, id(1), b"").await.expect("committed");
        let mut content = spool.content(id(1)).await.expect("content");
        assert_eq!(content.bytes, 900_000);
        let copied = spool.stats().bytes_copied;
        while content.head.iter().map(Bytes::len).sum::<usize>() < 100_000 {
            assert!(content.extend_head().await.expect("a piece"));
        }
        assert!(spool.stats().bytes_copied > copied, "copies are counted");
        assert!(read_out(content).await.expect("content") == whole);
    });
}

#[test]
fn a_reader_that_is_given_up_gives_its_memory_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SpoolOptions { segment_bytes: 8 << 20, ..options(folder.path(), None) };
    in_shard(async |io| {
        let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
        store(&spool, 1, 3_000_000).await;
        let free = io.blocks().free_bytes();
        // More often than there are turns.
        for taken in 0..40 {
            let mut content = spool.content(id(1)).await.expect("content");
            let reader = content.rest.as_mut().expect("a stream");
            content.head.clear();
            for _ in 0..taken % 4 {
                reader.next().await.expect("a piece");
            }
        }
        // The last one's task has to notice.
        while io.blocks().free_bytes() < free {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(read(&spool, 1).await == content(1, 3_000_000));
    });
}

#[test]
fn a_message_settled_while_it_is_read_does_not_end_well_once_its_segment_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SpoolOptions { hot_bytes: 0, ..options(folder.path(), Some(1)) };
    in_shard(async |io| {
        let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
        store(&spool, 1, 4_000_000).await;
        let content = spool.content(id(1)).await.expect("content");
        spool.settle_durable(id(1)).await.expect("settled");
        for number in 2..10 {
            store(&spool, number, 600_000).await;
        }
        let freed = spool.stats().segments_freed;
        assert!(freed > 0, "its first segments are gone");
        assert!(matches!(read_out(content).await, Err(SpoolError::NotFound)));
        assert_eq!(spool.stats().damaged, 0);
    });
}

#[test]
fn a_draft_given_up_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(folder.path(), None);
    in_shard(async |io| {
        let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
        let free = io.blocks().free_bytes();
        let mut draft = spool.draft(Some(100_000));
        draft.write(&content(1, 100_000)).expect("memory");
        spool.spill(&mut draft).await.expect("spilled");
        draft.write(&content(1, 1000)).expect("memory");
        drop(draft);
        assert_eq!(io.blocks().free_bytes(), free);
        let mut draft = spool.draft(None);
        draft.write(b"x").expect("memory");
        // The session went away while its commit was under way.
        let commit = spool.commit(draft, id(9), b"");
        if tokio::time::timeout(Duration::ZERO, commit).await.is_ok() {
            spool.settle(id(9));
        }
        spool.drain().await;
        assert!(matches!(spool.content(id(9)).await, Err(SpoolError::NotFound)));
    });
    in_shard(async |io| {
        let (_spool, found, _) = open(&io, &options, 0, 1).expect("opened again");
        assert!(found.is_empty());
    });
}

#[test]
fn a_lower_core_count_adopts_the_other_logs() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(folder.path(), Some(5));
    in_shard(async |io| {
        for shard in 0..4 {
            let (spool, ..) = open(&io, &options, shard, 4).expect("opened");
            let base = 10 * (shard as u128 + 1);
            store(&spool, base, 300_000).await;
            store(&spool, base + 1, 50).await;
            store(&spool, base + 2, 5000).await;
            spool.settle(id(base + 1));
            spool.note_durable(id(base + 2), vec![b'n'; 10]).await.expect("noted");
        }
    });
    assert_eq!(files(folder.path()), ["core-0", "core-1", "core-2", "core-3"]);
    for (shard, bases) in [(0_usize, [10, 30]), (1, [20, 40])] {
        in_shard(async |io| {
            let (spool, found, report) = open(&io, &options, shard, 2).expect("opened");
            assert_eq!(report.adopted, 2);
            let mut ids: Vec<_> = found.iter().map(|message| message.id.as_u128()).collect();
            ids.sort_unstable();
            assert_eq!(ids, [bases[0], bases[0] + 2, bases[1], bases[1] + 2]);
            for message in &found {
                let number = message.id.as_u128();
                let bytes = if number % 10 == 0 { 300_000 } else { 5000 };
                assert!(read(&spool, number).await == content(number, bytes));
                assert_eq!(message.meta, format!("meta of {number}").as_bytes());
                assert_eq!(message.note.is_some(), number % 10 == 2);
            }
        });
    }
    assert_eq!(files(folder.path()), ["core-0", "core-1"]);
    in_shard(async |io| {
        let (_spool, found, report) = open(&io, &options, 0, 2).expect("opened again");
        assert_eq!((found.len(), report.adopted), (4, 0));
    });
}

#[test]
fn segments_are_recycled_and_survivors_copied_forward() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SpoolOptions { survivor_age: Duration::ZERO, ..options(folder.path(), Some(5)) };
    in_shard(async |io| {
        let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
        // One message of each segment stays for long.
        for number in 1..=600 {
            store(&spool, number, 12_000).await;
            if number % 100 != 0 {
                spool.settle(id(number));
            }
        }
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            if spool.stats().segments <= 3 {
                break;
            }
        }
        spool.drain().await;
        let stats = spool.stats();
        assert!(stats.segments <= 3 && stats.segments_freed >= 6, "{stats:?}");
        assert!(stats.messages_moved >= 3, "{stats:?}");
        for number in (100..=600).step_by(100) {
            assert!(read(&spool, number).await == content(number, 12_000));
        }
    });
    in_shard(async |io| {
        let (_spool, found, report) = open(&io, &options, 0, 1).expect("opened again");
        let ids: Vec<_> = found.iter().map(|message| message.id.as_u128()).collect();
        assert_eq!(ids, [100, 200, 300, 400, 500, 600]);
        assert!(report.damaged.is_empty() && report.damaged_messages.is_empty(), "{report:?}");
    });
}

#[test]
fn a_start_that_cannot_be_right_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let sealed = options(folder.path(), Some(1));
    in_shard(async |io| {
        let (spool, ..) = open(&io, &sealed, 0, 1).expect("opened");
        store(&spool, 1, 100).await;
        let second = open(&io, &sealed, 0, 1);
        let process = Some(std::process::id());
        assert!(
            matches!(second, Err(SpoolError::InUse { process: held_by, .. }) if held_by == process)
        );
    });
    in_shard(async |io| {
        let other = options(folder.path(), Some(2));
        assert!(matches!(open(&io, &other, 0, 1), Err(SpoolError::WrongKey(_))));
        let none = options(folder.path(), None);
        assert!(matches!(open(&io, &none, 0, 1), Err(SpoolError::NoKey(_))));
        for segment_bytes in [0, 4096, SEGMENT_BYTES_MIN + 1, SEGMENT_BYTES_MAX + 4096] {
            let odd = SpoolOptions { segment_bytes, ..options(folder.path(), Some(1)) };
            assert!(matches!(open(&io, &odd, 0, 1), Err(SpoolError::SegmentBytes(_))));
        }
        let (_spool, found, _) = open(&io, &sealed, 0, 1).expect("nothing was changed");
        assert_eq!(found.len(), 1);
    });
}

#[test]
fn memory_file_systems_are_refused_unless_allowed() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return };
    let options = SpoolOptions { allow_volatile: false, ..options(folder.path(), None) };
    in_shard(async |io| {
        assert!(matches!(open(&io, &options, 0, 1), Err(SpoolError::Volatile(_))));
        let allowed = SpoolOptions { allow_volatile: true, ..options };
        drop(open(&io, &allowed, 0, 1).expect("allowed"));
    });
}

#[test]
fn too_little_free_space_and_the_bound_of_segments_push_back_while_the_queue_drains() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SpoolOptions { segments_max: 2, hot_bytes: 0, ..options(folder.path(), None) };
    in_shard(async |io| {
        let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
        let mut stored = 0;
        let refused = loop {
            let mut draft = spool.draft(Some(12_000));
            draft.write(&content(stored + 1, 12_000)).expect("memory");
            match spool.commit(draft, id(stored + 1), b"").await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, SpoolError::Full), "{refused}");
        assert_eq!(refused.reply(), (452, "4.3.1"));
        assert_eq!(spool.health(), Health::Backpressure(Reason::Space));
        assert!(stored > 100, "two segments hold more than {stored}");
        // What is stored is delivered, noted and settled all the same.
        for number in 1..=stored {
            assert!(read(&spool, number).await == content(number, 12_000));
            if number <= 2 {
                spool.note_durable(id(number), b"tried".to_vec()).await.expect("noted");
            } else {
                spool.note(id(number), b"tried".to_vec());
            }
            spool.settle(id(number));
        }
        spool.drain().await;
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if spool.health() == Health::Ok {
                break;
            }
        }
        assert_eq!(spool.health(), Health::Ok);
        store(&spool, 10_000, 12_000).await;
    });
    let greedy = SpoolOptions { min_free_bytes: u64::MAX, ..options };
    in_shard(async |io| {
        let (spool, ..) = open(&io, &greedy, 0, 1).expect("opened");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(spool.health(), Health::Backpressure(Reason::Space));
    });
}

#[test]
fn damage_at_rest_is_reported_and_not_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SpoolOptions { hot_bytes: 0, ..options(folder.path(), Some(1)) };
    let log = folder.path().join("core-0");
    let spoil = |marker: u64| {
        let name = files(&log).into_iter().find(|name| name.starts_with("segment-"));
        let path = log.join(name.expect("a segment"));
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("there");
        std::os::unix::fs::FileExt::write_all_at(&file, b"rot", marker).expect("spoiled");
    };
    in_shard(async |io| {
        let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
        for number in 1..=3 {
            store(&spool, number, 3000).await;
        }
        // Behind the segment's own page: the first message.
        spoil(4096 + 200);
        assert!(matches!(spool.content(id(1)).await, Err(SpoolError::Damaged)));
        assert!(read(&spool, 2).await == content(2, 3000));
        assert_eq!(spool.stats().damaged, 1);
    });
    in_shard(async |io| {
        let (_spool, found, report) = open(&io, &options, 0, 1).expect("opened again");
        let ids: Vec<_> = found.iter().map(|message| message.id.as_u128()).collect();
        assert_eq!(ids, [2, 3]);
        assert_eq!(report.damaged.len(), 1, "{report:?}");
        assert!(report.damaged[0].offset == 4096 && report.damaged[0].bytes >= 4096);
        assert_eq!(files(&log.join("quarantine")), [report.damaged[0].file.clone()]);
    });
}

#[test]
fn damage_behind_the_first_piece_is_told_before_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SpoolOptions { segment_bytes: 8 << 20, ..options(folder.path(), Some(1)) };
    let log = folder.path().join("core-0");
    in_shard(async |io| {
        let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
        store(&spool, 1, 3_000_000).await;
        let name = files(&log).into_iter().find(|name| name.starts_with("segment-"));
        let file = std::fs::OpenOptions::new().write(true).open(log.join(name.expect("one")));
        let spoiled =
            std::os::unix::fs::FileExt::write_all_at(&file.expect("there"), b"rot", 2_900_000);
        spoiled.expect("spoiled");
        let content = spool.content(id(1)).await.expect("the first piece is good");
        assert!(matches!(read_out(content).await, Err(SpoolError::Damaged)));
        assert_eq!(spool.stats().damaged, 1);
        let kept = log.join("quarantine");
        while !kept.exists() || files(&kept).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn errors_know_their_reply() {
    for (error, reply) in [
        (SpoolError::Full, (452, "4.3.1")),
        (SpoolError::Memory, (452, "4.3.2")),
        (SpoolError::Io, (451, "4.3.0")),
        (SpoolError::TooLarge, (552, "5.3.4")),
        (SpoolError::Damaged, (451, "4.3.0")),
    ] {
        assert_eq!(error.reply(), reply);
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn an_envelope_beyond_one_record_is_refused_and_a_large_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(folder.path(), None);
    in_shard(async |io| {
        let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
        let mut draft = spool.draft(None);
        draft.write(b"small").expect("memory");
        let large = vec![b'm'; 200_000];
        spool.commit(draft, id(1), &large).await.expect("fits");
        let mut draft = spool.draft(None);
        draft.write(b"small").expect("memory");
        let refused = spool.commit(draft, id(2), &vec![b'm'; 263_000]).await;
        assert!(matches!(refused, Err(SpoolError::TooLarge)));
        let twice = spool.commit(spool.draft(None), id(1), b"").await;
        assert!(matches!(twice, Err(SpoolError::Duplicate)));
        let note = vec![0; NOTE_BYTES_MAX + 1];
        assert!(matches!(spool.note_durable(id(1), note).await, Err(SpoolError::TooLarge)));
        spool.note_durable(id(1), vec![0; NOTE_BYTES_MAX]).await.expect("fits");
        assert_eq!(read(&spool, 1).await, b"small");
    });
    in_shard(async |io| {
        let (_spool, found, _) = open(&io, &options, 0, 1).expect("opened again");
        assert_eq!(found[0].meta.len(), 200_000);
        assert_eq!(found[0].note.as_ref().map(Vec::len), Some(NOTE_BYTES_MAX));
    });
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).expect("positive"),
        u32::try_from(time.tv_nsec).expect("below a second"),
    )
}

/// One figure of [`cost_of_a_durable_append`]: CPU time of the whole process a message, in
/// microseconds, the messages a second, and the messages a group.
fn measure(choice: Choice, key: Option<u8>, bytes: usize) -> (f64, f64, f64) {
    const TASKS: u32 = 64;
    const ROUNDS: u32 = 1500;
    let folder = tempfile::tempdir().expect("a folder");
    let options = SpoolOptions { segment_bytes: 64 << 20, ..options(folder.path(), key) };
    let io_options = IoOptions { choice, ..IoOptions::default() };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let io = Io::start(&io_options).expect("a driver");
        let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
        let content: Rc<[u8]> = content(1, bytes).into();
        let rounds = |from: u32, count: u32| {
            let (spool, content) = (spool.clone(), Rc::clone(&content));
            let start = move |task| {
                let (spool, content) = (spool.clone(), Rc::clone(&content));
                tokio::task::spawn_local(async move {
                    for round in from..from + count {
                        let id = id(u128::from(round) * u128::from(TASKS) + u128::from(task) + 1);
                        let mut draft = spool.draft(Some(content.len() as u64));
                        draft.write(&content).expect("memory");
                        spool.commit(draft, id, &[7; 200]).await.expect("committed");
                        spool.settle(id);
                    }
                })
            };
            // All are started before the first is awaited.
            (0..TASKS).map(start).collect::<Vec<_>>()
        };
        // The first segments are made and zeroed before the clock runs; later ones are recycled.
        for task in rounds(0, ROUNDS) {
            task.await.expect("no panic");
        }
        spool.drain().await;
        let groups = spool.stats().groups;
        let (cpu, wall) = (cpu_time(), std::time::Instant::now());
        for task in rounds(ROUNDS, ROUNDS) {
            task.await.expect("no panic");
        }
        let messages = f64::from(TASKS * ROUNDS);
        let cpu = (cpu_time() - cpu).as_secs_f64();
        let groups = f64::from(u32::try_from(spool.stats().groups - groups).expect("few"));
        (cpu * 1e6 / messages, messages / wall.elapsed().as_secs_f64(), messages / groups)
    })
}

/// `cargo test -p postern --release --lib spool::tests::cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement: run it in release, alone"]
#[allow(clippy::print_stdout, reason = "its output is its purpose")]
fn cost_of_a_durable_append() {
    for choice in [Choice::Auto, Choice::Epoll] {
        for (what, key, bytes) in [
            ("one page, clear", None, 3300),
            ("one page, sealed", Some(1), 3300),
            ("4 KiB content, clear", None, 4096),
            ("4 KiB content, sealed", Some(1), 4096),
        ] {
            let (cpu_us, per_s, group) = measure(choice, key, bytes);
            println!("{choice:?} {what}: {cpu_us:.2} us CPU, {per_s:.0}/s, group of {group:.0}");
        }
    }
}

/// `cargo test -p postern --release --lib spool::tests::cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement: run it in release, alone"]
#[allow(clippy::print_stdout, reason = "its output is its purpose")]
fn cost_of_a_start_with_a_hundred_thousand_messages() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = SpoolOptions { segment_bytes: 64 << 20, ..options(folder.path(), Some(1)) };
    in_shard(async |io| {
        let (spool, ..) = open(&io, &options, 0, 1).expect("opened");
        let content = content(1, 4096);
        for round in 0..200_u128 {
            let commits: Vec<_> = (0..500_u128)
                .map(|task| {
                    let mut draft = spool.draft(Some(4096));
                    draft.write(&content).expect("memory");
                    let spool = spool.clone();
                    let id = id(round * 500 + task + 1);
                    tokio::task::spawn_local(
                        async move { spool.commit(draft, id, &[7; 200]).await },
                    )
                })
                .collect();
            for commit in commits {
                commit.await.expect("no panic").expect("committed");
            }
        }
    });
    in_shard(async |io| {
        let (_spool, found, report) = open(&io, &options, 0, 1).expect("opened again");
        assert_eq!(found.len(), 100_000);
        println!(
            "{:?} for {} bytes in {} segments",
            report.took, report.scanned_bytes, report.segments
        );
    });
}
