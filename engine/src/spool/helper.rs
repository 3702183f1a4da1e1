//! The helper thread: the file operations that may block for long, one after the other.
//!
//! Preallocating and zeroing a segment takes tens of milliseconds, a directory sync waits for the
//! journal; neither may stand in a turn of the event loop.
//!
//! Invariants: one thread a log, so that its renames and syncs keep their order; it ends with the
//! log. Failures: a job whose thread is gone counts as failed.

use std::io;
use std::sync::mpsc;

use tokio::sync::oneshot;

use super::store::Directory;

type Job = Box<dyn FnOnce(&mut Directory) + Send>;

/// Handle to the thread; dropping it ends the thread after the jobs that are queued.
pub(super) struct Helper {
    jobs: mpsc::Sender<Job>,
}

impl Helper {
    pub(super) fn start(mut directory: Directory, shard: usize) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new().name(format!("spool-{shard}")).spawn(move || {
            for job in queue {
                job(&mut directory);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Runs `job` on the thread.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Directory) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |directory| {
            // The asker may be gone at shutdown; the work was done all the same.
            drop(answer.send(job(directory)));
        });
        let gone = || io::Error::other("the spool's helper thread is gone");
        self.jobs.send(job).map_err(|_closed| gone())?;
        answered.await.map_err(|_closed| gone())?
    }
}
