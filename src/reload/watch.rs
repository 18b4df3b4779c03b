//! Watches the files that the configuration was read from.
//!
//! The folders are watched, not the files: editors and ConfigMaps put new files in the old ones' place.
//! Whatever happens in a folder, a reload is asked for only when one of the files really is another.

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{mpsc, watch};

use super::Reason;
use crate::net;

/// After the first sign of a change: writers need a moment, and several files may change together.
const SETTLE: Duration = Duration::from_millis(200);

/// After a failure to watch: a folder may be gone for a moment while it is replaced.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What tells one state of a file from another: where it really is, its number, its size, and when it was
/// changed. Not when it was written, which copies may keep (`cp -p`, `rsync -t`).
type Stamp = Option<(PathBuf, u64, u64, (i64, i64))>;

/// Asks for a reload whenever one of `files` has changed. Ends when nobody listens.
pub async fn watch(mut files: watch::Receiver<Vec<PathBuf>>, reasons: mpsc::Sender<Reason>) {
    let (signs, mut seen) = mpsc::channel(1);
    let mut failing = false;
    loop {
        let watched = files.borrow_and_update().clone();
        let _watcher = match start(&watched, signs.clone()) {
            Ok(watcher) => watcher,
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "cannot watch the configuration's files, and will try again; until then SIGHUP reloads them");
                }
                failing = true;
                net::sleep(TRY_AGAIN).await;
                continue;
            }
        };
        failing = false;
        let before = stamps(&watched);
        // Also the first time: a file may have changed since it was read, when nobody watched it.
        if reasons.send(Reason::Watch).await.is_err() {
            return;
        }
        // After a change watching begins anew, for there may be other files, or links that lead elsewhere.
        while stamps(&watched) == before {
            tokio::select! {
                changed = files.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(()) = seen.recv() => net::sleep(SETTLE).await,
            }
        }
    }
}

fn start(files: &[PathBuf], signs: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // Reading is no change, and our own reading would keep us awake.
        if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
            let _full = signs.try_send(()); // then a sign is there already
        }
    })?;
    let folders: BTreeSet<&Path> = files.iter().map(|file| folder_of(file)).collect();
    for folder in folders {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
    }
    // Where a link of that name leads. It is no failure if that has just gone.
    for real in files.iter().filter_map(|file| file.canonicalize().ok()) {
        let _gone = watcher.watch(folder_of(&real), RecursiveMode::NonRecursive);
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
        let changed = (data.ctime(), data.ctime_nsec());
        Some((real, data.ino(), data.len(), changed))
    };
    files.iter().map(stamp).collect()
}
