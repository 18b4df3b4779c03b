//! Counters by a word of an enumeration, as `reason` in metrics: bounded by what the enumeration has.

use std::{
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// An enumeration whose members are words in logs, bodies and metrics.
pub trait Word: Copy + 'static {
    /// All of them, in the order of their numbers.
    const ALL: &'static [Self];

    /// Its place in [`Word::ALL`].
    fn number(self) -> usize;

    /// The word.
    fn as_str(self) -> &'static str;
}

/// Defines an enumeration and its words in one list, so that none is forgotten.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $member:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$what])* $member,)+
        }

        impl $crate::observe::tally::Word for $name {
            const ALL: &'static [Self] = &[$(Self::$member,)+];

            fn number(self) -> usize {
                self as usize
            }

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$member => $word,)+
                }
            }
        }
    };
}

pub(super) use words;

/// How often each word was counted. Cheap to clone; clones count together.
///
/// For what is rare: all threads write the same memory.
pub struct Tally<W>(Arc<[AtomicU64]>, PhantomData<W>);

impl<W: Word> Tally<W> {
    /// Counts `times` more.
    pub fn add(&self, word: W, times: u64) {
        if let Some(counter) = self.0.get(word.number()) {
            counter.fetch_add(times, Ordering::Relaxed);
        }
    }

    /// Every word, also those that were never counted: who watches for the first time one is counted must have
    /// seen that it was zero.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let count =
            |(word, counter): (&W, &AtomicU64)| (word.as_str(), counter.load(Ordering::Relaxed));
        W::ALL.iter().zip(&*self.0).map(count)
    }
}

impl<W: Word> Default for Tally<W> {
    fn default() -> Self {
        Self(
            W::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            PhantomData,
        )
    }
}

impl<W> Clone for Tally<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), PhantomData)
    }
}

impl<W: Word> fmt::Debug for Tally<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.read()).finish()
    }
}
