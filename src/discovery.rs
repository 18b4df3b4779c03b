//! Turns DNS names into addresses of backends, by their TTL, and reports what changes.
//!
//! One task for each name asks again when its answer expires, or when somebody asks for news. It reports; what follows for
//! the table is for its writer to say. What is remembered of a name, and the rules of that, are [`list`]'s.

pub mod dns;
pub mod list;
pub mod search;

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{Notify, mpsc},
    task::AbortHandle,
};

use self::list::{Answer, Failure, List};
use crate::{backend::Question, config, net};

/// Reports that wait to be taken; who has more waits.
const WAITING: usize = 64;

/// An answer that is on its way.
pub type Answering = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

/// Who is asked: a place where a simulation can put a resolver of its own.
pub trait Resolver: Send + Sync {
    /// Asks. The answer may come late, or never: who asks has a deadline.
    fn ask(&self, question: &Question, options: &config::Discovery) -> Answering;
}

/// That more, or something else, is known of a name.
#[derive(Debug, Clone)]
pub struct Report {
    /// Which name.
    pub question: Question,
    /// What is known.
    pub list: List,
}

/// The names that are asked for, until it is dropped.
pub struct Discovery {
    resolver: Arc<dyn Resolver>,
    // Copied at each question, never across an await.
    options: Arc<Mutex<config::Discovery>>,
    asked: HashMap<Question, Asked>,
    reporter: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
}

struct Asked {
    task: AbortHandle,
    again: Arc<Notify>,
}

impl Discovery {
    /// Asks for nothing yet.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolver>, options: &config::Discovery) -> Self {
        let (reporter, reports) = mpsc::channel(WAITING);
        Self {
            resolver,
            options: Arc::new(Mutex::new(options.clone())),
            asked: HashMap::new(),
            reporter,
            reports,
        }
    }

    /// Asks for exactly what `config` names from now on, and as it says. Runs within a local task set.
    pub fn keep(&mut self, config: &config::Config) {
        let options = {
            let mut options = self.options.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = *options != config.discovery;
            options.clone_from(&config.discovery);
            changed
        };
        self.asked.retain(|question, asked| {
            let keep = config.questions().any(|wanted| wanted == question);
            if !keep {
                asked.task.abort();
            }
            keep
        });
        if options {
            self.ask_again();
        }
        for question in config.questions() {
            if !self.asked.contains_key(question) {
                let asked = self.begin(question.clone());
                self.asked.insert(question.clone(), asked);
            }
        }
    }

    fn begin(&self, question: Question) -> Asked {
        let again = Arc::<Notify>::default();
        let task = Task {
            question,
            resolver: Arc::clone(&self.resolver),
            options: Arc::clone(&self.options),
            again: Arc::clone(&again),
            reporter: self.reporter.clone(),
        };
        Asked {
            task: tokio::task::spawn_local(task.run()).abort_handle(),
            again,
        }
    }

    /// Asks for all names at once, whatever is left of the time that their answers are good for.
    pub fn ask_again(&self) {
        for asked in self.asked.values() {
            asked.again.notify_one();
        }
    }

    /// The next report; never, where nothing is asked for. Cancel safe.
    pub async fn next(&mut self) -> Report {
        match self.reports.recv().await {
            Some(report) => report,
            None => std::future::pending().await, // not while `reporter` is here
        }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        for asked in self.asked.values() {
            asked.task.abort();
        }
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.asked.keys()).finish()
    }
}

/// Asks for one name for ever.
struct Task {
    question: Question,
    resolver: Arc<dyn Resolver>,
    options: Arc<Mutex<config::Discovery>>,
    again: Arc<Notify>,
    reporter: mpsc::Sender<Report>,
}

impl Task {
    async fn run(self) {
        let (mut list, mut ask_for) = (List::default(), self.question.clone());
        loop {
            let options = {
                let options = self.options.lock().unwrap_or_else(PoisonError::into_inner);
                options.clone()
            };
            let outcome = ask(&*self.resolver, &ask_for, &options).await;
            if let Ok(answer) = &outcome {
                ask_for.clone_from(&answer.asked);
            }
            let outcome = outcome.as_ref();
            if list.take(outcome) {
                let (question, list) = (self.question.clone(), list.clone());
                if self.reporter.send(Report { question, list }).await.is_err() {
                    return;
                }
            }
            let pause = list.pause(outcome, &options);
            let _asked_for = net::within(pause, self.again.notified()).await;
        }
    }
}

/// Asks once, within the time that the configuration gives.
///
/// # Errors
///
/// See [`Failure`].
pub async fn ask(
    resolver: &dyn Resolver,
    question: &Question,
    options: &config::Discovery,
) -> Result<Answer, Failure> {
    let answer = net::within(options.timeout, resolver.ask(question, options)).await;
    answer.unwrap_or(Err(Failure::Silent))
}
