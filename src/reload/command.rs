//! What the admin listener asks of the table's writer, which alone knows and changes who belongs to it.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::router::membership::{Changed, Unchanged, View};

/// Commands that wait to be taken.
const WAITING: usize = 16;

/// Takes one answer.
pub type Answer<T> = oneshot::Sender<T>;

/// One thing to tell or to change.
#[derive(Debug)]
pub enum Command {
    /// Tell how all backends stand.
    Backends(Answer<Vec<View>>),
    /// Give a backend no new work.
    Drain {
        /// Its name.
        backend: String,
        /// After which time what it holds is lost; zero is at once, `None` never.
        within: Option<Duration>,
        /// What it has led to.
        answer: Answer<Result<Changed, Unchanged>>,
    },
    /// Take that back.
    Undrain {
        /// The backend's name.
        backend: String,
        /// What it has led to.
        answer: Answer<Result<Changed, Unchanged>>,
    },
}

/// The end that asks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Commander(mpsc::Sender<Command>);

/// The writer has ended: so does the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this process is stopping")]
pub struct Stopping;

/// Makes the two ends of all commands.
#[must_use]
pub fn commands() -> (Commander, mpsc::Receiver<Command>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Commander(sender), receiver)
}

impl Commander {
    /// Gives the command that `command` makes of where its answer is to go, and waits for that answer.
    ///
    /// # Errors
    ///
    /// When nobody takes commands any more.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the command may or may not be carried out.
    pub async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Stopping> {
        let (answer, answered) = oneshot::channel();
        let sent = self.0.send(command(answer)).await;
        sent.map_err(|_| Stopping)?;
        answered.await.map_err(|_| Stopping)
    }
}
