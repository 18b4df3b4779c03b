//! Watches the files that the configuration was read from.
//!
//! The folders are watched, not the files: editors and ConfigMaps put new files in the old ones' place.
//! Whatever happens in a folder, a reload is asked for only when one of the files really is another.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{mpsc, watch};

use super::Reason;
use crate::net;

/// After the first sign of a change: writers need a moment, and several files may change together.
const SETTLE: Duration = Duration::from_millis(200);

/// What tells one state of a file from another: where it really is, its size, and when it was written.
type Stamp = Option<(PathBuf, u64, Option<SystemTime>)>;

/// Asks for a reload whenever one of the files has changed, of which the newest list counts. Ends when
/// nobody listens, or when the operating system cannot watch.
pub async fn watch(mut files: watch::Receiver<Vec<PathBuf>>, reasons: mpsc::Sender<Reason>) {
    let mut before = stamps(&files.borrow());
    loop {
        let current = files.borrow_and_update().clone();
        let (signs, mut seen) = mpsc::channel(1);
        let _watcher = match start(&current, signs) {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(%error, "cannot watch the configuration's files; SIGHUP reloads them all the same");
                return;
            }
        };
        loop {
            // What happened before the watcher began is seen here.
            let now = stamps(&current);
            if now != before && reasons.send(Reason::Watch).await.is_err() {
                return;
            }
            before = now;
            tokio::select! {
                Some(()) = seen.recv() => net::sleep(SETTLE).await,
                listed = files.changed() => match listed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
        }
        before = stamps(&files.borrow()); // another list, which was just read
    }
}

fn start(files: &[PathBuf], signs: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // Reading is no change, and our own reading would keep us awake.
        if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
            let _full = signs.try_send(()); // then a sign is there already
        }
    })?;
    let mut folders: Vec<&Path> = files.iter().map(|file| folder_of(file)).collect();
    folders.sort_unstable();
    folders.dedup();
    for folder in folders {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let real = file.canonicalize().ok()?;
        let data = real.metadata().ok()?;
        Some((real, data.len(), data.modified().ok()))
    };
    files.iter().map(stamp).collect()
}
