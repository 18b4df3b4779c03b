//! What the admin listener asks of the table's writer, which alone knows and changes who belongs to it.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use crate::{
    config::Config,
    net::Instant,
    router::membership::{Changed, Unchanged, View},
};

/// Commands that wait to be taken.
const WAITING: usize = 16;

/// Takes one answer.
pub type Answer<T> = oneshot::Sender<T>;

/// One thing to tell or to change.
#[derive(Debug)]
pub enum Command {
    /// Tell how all backends stand.
    Backends(Answer<Vec<View>>),
    /// Tell what is in force, and how all stands.
    Standing(Answer<Standing>),
    /// Read the configuration again.
    Reload(Answer<Reloaded>),
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

/// What the writer knows, at one moment.
#[derive(Debug)]
pub struct Standing {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// How all backends stand.
    pub views: Vec<View>,
    /// The last reload, if there was one that anybody wants to know of.
    pub last_reload: Option<Reloaded>,
}

/// How a reload went.
#[derive(Debug, Clone)]
pub struct Reloaded {
    /// When.
    pub at: Instant,
    /// Why the configuration was read.
    pub reason: &'static str,
    /// What came of it.
    pub outcome: Outcome,
}

/// What comes of a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This has changed.
    Changed(String),
    /// Nothing has.
    Unchanged,
    /// The configuration before stays in force, for these reasons.
    Refused(Vec<String>),
}

impl Outcome {
    /// The word for answers and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Changed(_) => "changed",
            Self::Unchanged => "unchanged",
            Self::Refused(_) => "refused",
        }
    }

    /// What changed, or why nothing did.
    #[must_use]
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::Changed(changes) => vec![changes.clone()],
            Self::Unchanged => Vec::new(),
            Self::Refused(faults) => faults.clone(),
        }
    }
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
